"""A results file: a row for each model, text, statistic, kind and layer, to stand side by side."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from .findings import interval, locality, mean_distance, reach, span_influence
from .sentences import MarkedSentence


def by_kind(
    maps: Sequence, chosen: Sequence[MarkedSentence], *, later: bool = False
) -> dict[str, list]:
    """`reach` of each kind of word in each sentence, from its [layer, token, token] influence.

    Influence is the mean over pieces. A kind that a sentence does not have is NaN, also in a text
    that does not tell it, as content words in a script that has no list of function words.
    """
    all_kinds = dict.fromkeys(["content word", "function word"])
    for words in chosen:
        all_kinds |= dict.fromkeys(words.kinds())
    del all_kinds["all words"]  # there is no other word to compare them with
    found: dict[str, list] = {kind: [] for kind in all_kinds}
    for values, words in zip(maps, chosen, strict=True):
        matrix, kinds = words.matrix(values, mean=True, special=True), words.kinds()
        every = kinds["all words"]
        for kind, pairs in found.items():
            sources = kinds.get(kind, ~every & every)
            pairs.append(reach(matrix, sources, words=every, later=later))
    return found


def by_distance(
    maps: Sequence, chosen: Sequence[MarkedSentence], distances: Sequence[int]
) -> dict[str, list]:
    """`locality` at each distance and `mean_distance` of each sentence, [layer] each.

    Influence is summed over pieces.
    """
    matrices = [words.matrix(values) for values, words in zip(maps, chosen, strict=True)]
    shares = [locality(matrix, distances) for matrix in matrices]  # [layer, distance] each
    found = {}
    for number, distance in enumerate(distances):
        found[f"distance {distance}"] = [share[..., number] for share in shares]
    return found | {"mean distance": [mean_distance(matrix) for matrix in matrices]}


def in_names(maps: Sequence, chosen: Sequence[MarkedSentence]) -> dict[str, list]:
    """`span_influence` of names and of their control, phrases, in each sentence.

    "names" and each type of name are compared with all pairs of words outside names (punctuation
    aside), "phrases" (see `MarkedSentence.phrases`) with all pairs outside phrases that have no
    word of a name, "names, content words" and "names over phrases" only have content words on both
    sides. Where parts of speech are known, "noun compounds" are a stricter control.
    """
    rows = []
    types = sorted({kind for words in chosen for kind in words.types})
    tagged = any(words.pos for words in chosen)
    for values, words in zip(maps, chosen, strict=True):
        matrix, spans = words.matrix(values, mean=True), words.spans
        written = ~words.punctuation
        content = words.kinds(special=False).get("content word", written & ~written)
        free = written & ~words.named
        phrases, nouns = words.phrases(), words.phrases(nouns=True)
        row = {
            "names": span_influence(matrix, spans, written),
            "phrases": span_influence(matrix, phrases, free),
            "names, content words": span_influence(matrix, spans, content),
            "names over phrases": span_influence(matrix, spans, content, against=phrases),
        }
        if tagged:
            row["noun compounds"] = span_influence(matrix, nouns, free)
            over = span_influence(matrix, spans, content, against=nouns)
            row["names over noun compounds"] = over
        for kind in types:
            of_kind = [span for span, its in zip(spans, words.types, strict=True) if its == kind]
            row[f"names: {kind}"] = span_influence(matrix, of_kind, written)
        rows.append(row)
    found: dict = pd.DataFrame(rows).to_dict("list")
    return found


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
        if len(data) < 2:  # one sentence is not enough to resample: NaN
            data = np.concatenate([data, np.full_like(data, np.nan)])
        values, over = (data, None) if data.ndim == 2 else (data[:, 0], data[:, 1])
        mean, low, high = interval(values, over, comparisons=comparisons)
        known = ~np.isnan(values if over is None else values + over).all(1)
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
    rows.to_csv(Path(os.environ.get("FIGURES_DIR") or path.parent) / path.name, index=False)
    return rows
