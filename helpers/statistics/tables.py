"""Statistics over many sentences, and the results file: models and texts side by side.

Notebook 08 calls them in this order: `by_kind`, `by_distance` and `in_names` ask measures.py of
each sentence, `results` makes a table with an `interval` for each kind and layer, and
`replace_results` puts it into findings.csv.
"""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from ..values import numbers
from .marked import MarkedSentence
from .measures import locality, mean_distance, reach, span_influence


def by_kind(
    maps: Sequence, chosen: Sequence[MarkedSentence], *, later: bool = False
) -> dict[str, list]:
    """`reach` of each kind of word in each sentence, from its [layer, token, token] influence.

    Influence is the mean over pieces. A kind that a sentence does not have is NaN, also in a text
    that does not tell it, as content words in a script that has no list of function words.
    """
    rows = []
    for values, words in zip(maps, chosen, strict=True):
        matrix = words.matrix(values, mean=True, special=True)
        kinds = words.kinds()
        every = kinds.pop("all words")  # there is no other word to compare them with
        row = {}
        for kind, sources in kinds.items():
            row[kind] = reach(matrix, sources, words=every, later=later)
        rows.append(row)
    return _columns(rows)


def by_distance(
    maps: Sequence, chosen: Sequence[MarkedSentence], distances: Sequence[int]
) -> dict[str, list]:
    """`locality` at each distance and `mean_distance` of each sentence, [layer] each.

    Influence is summed over pieces.
    """
    rows = []
    for values, words in zip(maps, chosen, strict=True):
        matrix = words.matrix(values)
        row = {f"distance {gap}": locality(matrix, [gap])[..., 0] for gap in distances}
        row["mean distance"] = mean_distance(matrix)
        rows.append(row)
    return _columns(rows)


def in_names(maps: Sequence, chosen: Sequence[MarkedSentence]) -> dict[str, list]:
    """`span_influence` of names and of their control, phrases, in each sentence.

    "names" and each type of name are compared with all pairs of words outside names (punctuation
    aside), "phrases" (see `MarkedSentence.phrases`) with all pairs outside phrases that have no
    word of a name, "names, content words" and "names over phrases" only have content words on both
    sides. Where parts of speech are known, "noun compounds" are a stricter control.
    """
    types = sorted({kind for words in chosen for kind in words.types})
    has_nouns = any(words.pos for words in chosen)
    rows = []
    for values, words in zip(maps, chosen, strict=True):
        matrix, names = words.matrix(values, mean=True), words.spans
        written = ~words.punctuation
        content = words.kinds(special=False)["content word"]
        free = written & ~words.named
        phrases, compounds = words.phrases(), words.phrases(nouns=True)
        row = {
            "names": span_influence(matrix, names, written),
            "phrases": span_influence(matrix, phrases, free),
            "names, content words": span_influence(matrix, names, content),
            "names over phrases": span_influence(matrix, names, content, against=phrases),
        }
        if has_nouns:
            row["noun compounds"] = span_influence(matrix, compounds, free)
            over = span_influence(matrix, names, content, against=compounds)
            row["names over noun compounds"] = over
        for kind in types:
            of_kind = [name for name, its in zip(names, words.types, strict=True) if its == kind]
            row[f"names: {kind}"] = span_influence(matrix, of_kind, written)
        rows.append(row)
    return _columns(rows)


def _columns(rows: list[dict]) -> dict[str, list]:
    """Of each kind what every sentence has, from what each sentence has of every kind."""
    found: dict = pd.DataFrame(rows).to_dict("list")
    return found


def interval(
    values, over=None, *, confidence: float = 0.95, comparisons: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over sentences, the first axis, with its percentile bootstrap interval (Efron 1979).

    NaNs are left out. With `over`, of the same shape, the mean of `values` over the mean of `over`,
    resampled together. `comparisons` is how many intervals are read together: each is widened so
    that all of them cover at `confidence` (Bonferroni). Returns (mean, low, high), each of the
    shape of one sentence's value; low and high are NaN where so few sentences have a value that a
    resample may have none. Raises `ValueError` for fewer than two sentences, for shapes that differ
    and for a confidence that is not between 0 and 1.

    >>> mean, low, high = interval(np.arange(10.0))
    >>> bool(low < mean < high), float(mean)
    (True, 4.5)
    """
    values = numbers(values)
    over = np.ones_like(values) if over is None else numbers(over)
    if values.shape != over.shape:
        expected = f"expected over of the same shape as values, {list(values.shape)}"
        raise ValueError(f"{expected}, got {list(over.shape)}")
    if not values.ndim:
        raise ValueError("expected values of at least 2 sentences to resample, got one number")
    count = len(values)
    if count < 2:
        raise ValueError(f"expected values of at least 2 sentences to resample, got {count}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    resamples = 2000 if comparisons == 1 else 10_000  # a wider interval rests on rarer ones
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    times = np.apply_along_axis(np.bincount, 1, drawn, minlength=count)  # [resample, sentence]
    times = np.concatenate([np.ones((1, count)), times])  # first all sentences, each once
    means = _mean_over(times, values) / _mean_over(times, over)
    tail = (1 - confidence) / comparisons / 2
    low, high = np.quantile(means[1:], [tail, 1 - tail], axis=0)
    return means[0], low, high


def _mean_over(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of sentences drawn `times` [resample, sentence], as [resample, ...], without NaNs."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # the mean of nothing is NaN, as we want it
        total = np.tensordot(times, np.where(known, values, 0), 1)
        return total / np.tensordot(times, known, 1)


def results(
    model: str,
    text: str,
    statistic: str,
    kinds: Mapping[str, Sequence],
    *,
    comparisons: int = 1,
    method: str = "exact",
) -> pd.DataFrame:
    """Rows of a results file: of each kind and layer the mean over sentences, with its interval.

    Each value of `kinds` has one entry per sentence: its value by layer, or (value, matched) as
    `reach` gives. `n` is the number of sentences that have a value, 0 for a kind that the text does
    not have or does not tell; with fewer than two the limits are NaN. `depth` is the layer's
    relative depth, 1 for the last; `method` says how the maps were measured.
    """
    made = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    tables = []
    for kind, sentences in kinds.items():
        data = np.asarray(sentences, dtype=float)  # [sentence, layer] or [sentence, 2, layer]
        if data.ndim == 2:
            data = np.stack([data, np.ones_like(data)], 1)
        if len(data) < 2:  # one sentence is not enough to resample: NaN
            data = np.concatenate([data, np.full_like(data, np.nan)])
        mean, low, high = interval(data[:, 0], data[:, 1], comparisons=comparisons)
        known = ~np.isnan(data.sum(1)).all(1)
        depth = len(mean)
        table = {
            "model": model,
            "text": text,
            "statistic": statistic,
            "kind": kind,
            "layer": range(depth),
            "depth": np.arange(1, depth + 1) / depth,
            "mean": mean,
            "low": low,
            "high": high,
            "n": known.sum(),
            "method": method,
            "versions": made,
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def replace_results(path: str | Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Put `rows` into the results file in place of all that it has of the same model and text.

    Returns the whole. The numbers keep four digits. A file that does not exist is made. With
    $FIGURES_DIR set, the new file is written there and `path` stays as it is.
    """
    path = Path(path)
    rows = rows.round({"depth": 3})
    for name in ("mean", "low", "high"):
        rows[name] = rows[name].map("{:.4g}".format).astype(float)
    run = ["model", "text"]
    if path.exists():
        old = pd.read_csv(path)
        again = old.set_index(run).index.isin(rows.set_index(run).index)
        rows = pd.concat([old[~again], rows], ignore_index=True)
    rows = rows.sort_values(run, kind="stable", ignore_index=True)
    folder = Path(os.environ.get("FIGURES_DIR") or path.parent)
    rows.to_csv(folder / path.name, index=False)
    return rows
