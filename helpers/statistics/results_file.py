"""A results file: one row per model, text, statistic, kind and layer, so that models and texts stand side by side."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from .findings import interval, locality, mean_distance, reach, span_influence
from .sentences import MarkedSentence

LIMITS = ["mean", "low", "high"]


def by_kind(
    maps: Sequence, chosen: Sequence[MarkedSentence], *, later: bool = False
) -> dict[str, list]:
    """`reach` of each kind of word in each sentence, from its [layer, token, token] influence (mean over pieces)."""
    found: dict[str, list] = {}
    all_kinds = dict.fromkeys(kind for words in chosen for kind in words.kinds())
    all_kinds.pop("all words", None)  # there is no other word to compare them with
    for values, words in zip(maps, chosen, strict=True):
        matrix, kinds = words.matrix(values, mean=True, special=True), words.kinds()
        every = kinds["all words"]
        for kind in all_kinds:
            sources = kinds.get(kind, np.zeros_like(every))
            found.setdefault(kind, []).append(reach(matrix, sources, words=every, later=later))
    return found


def by_distance(
    maps: Sequence, chosen: Sequence[MarkedSentence], distances: Sequence[int]
) -> dict[str, list]:
    """`locality` at each distance and `mean_distance` of each sentence, [layer] each; influence summed over pieces."""
    found: dict[str, list] = {f"distance {distance}": [] for distance in distances} | {
        "mean distance": []
    }
    for values, words in zip(maps, chosen, strict=True):
        matrix = words.matrix(values)
        for distance, share in zip(distances, locality(matrix, distances).T, strict=True):
            found[f"distance {distance}"].append(share)
        found["mean distance"].append(mean_distance(matrix))
    return found


def in_names(maps: Sequence, chosen: Sequence[MarkedSentence]) -> dict[str, list]:
    """`span_influence` of names and of their control, phrases, in each sentence.

    "names" and each type of name are compared with all pairs of words outside names (punctuation
    aside), "phrases" (see `MarkedSentence.phrases`) with all pairs outside phrases that have no
    word of a name, "names, content words" and "names over phrases" only have content words on both
    sides. Where parts of speech are known, "noun compounds" are a stricter control.
    """
    found: dict[str, list] = {}
    types = sorted({kind for words in chosen for kind in words.types})
    tagged = any(words.pos for words in chosen)
    for values, words in zip(maps, chosen, strict=True):
        matrix, kinds = words.matrix(values, mean=True), words.kinds(special=False)
        content = kinds.get("content word", ~words.punctuation)
        free = ~words.punctuation
        free[[word for span in words.spans for word in span]] = False
        pairs = {
            "names": span_influence(matrix, words.spans, ~words.punctuation),
            "phrases": span_influence(matrix, words.phrases(), free),
            "names, content words": span_influence(matrix, words.spans, content),
            "names over phrases": span_influence(
                matrix, words.spans, content, against=words.phrases()
            ),
        }
        if tagged:
            nouns = words.phrases(nouns=True)
            pairs["noun compounds"] = span_influence(matrix, nouns, free)
            over = span_influence(matrix, words.spans, content, against=nouns)
            pairs["names over noun compounds"] = over
        for kind in types:
            spans = [
                span for span, its in zip(words.spans, words.types, strict=True) if its == kind
            ]
            pairs[f"names: {kind}"] = span_influence(matrix, spans, ~words.punctuation)
        for kind, pair in pairs.items():
            found.setdefault(kind, []).append(pair)
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
    """Rows of a results file: for each kind and layer the mean over sentences with its interval, n and the versions.

    Each value of `kinds` has one entry per sentence: its value by layer, or (value, matched) as
    `reach` gives. `n` is the number of sentences that have a value; with fewer than two the limits
    are NaN. `depth` is the layer's relative depth, 1 for the last; `method` says how the maps were
    measured.
    """
    made = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    tables = []
    for kind, sentences in kinds.items():
        data = np.asarray(sentences, dtype=float)  # [sentence, layer] or [sentence, 2, layer]
        values, over = (data, None) if data.ndim == 2 else (data[:, 0], data[:, 1])
        if len(values) < 2:  # one sentence is not enough to resample: NaN
            values = np.concatenate([values, np.full_like(values, np.nan)])
            over = None if over is None else np.concatenate([over, np.full_like(over, np.nan)])
        known = (
            ~np.isnan(values).all(1)
            if over is None
            else ~(np.isnan(values) | np.isnan(over)).all(1)
        )
        mean, low, high = interval(values, over, comparisons=comparisons)
        enough = known.sum() > 1
        depth = len(mean)
        tables.append(
            pd.DataFrame(
                {
                    "model": model,
                    "text": text,
                    "statistic": statistic,
                    "kind": kind,
                    "layer": range(depth),
                    "depth": (np.arange(depth) + 1) / depth,
                    "mean": mean,
                    "low": low if enough else np.nan,
                    "high": high if enough else np.nan,
                    "n": int(known.sum()),
                    "method": method,
                    "versions": made,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def replace_results(path: str | Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Put `rows` into the results file in place of all that it has of the same model and text; returns the whole.

    The numbers keep four digits. A file that does not exist is made. With $FIGURES_DIR set, the new
    file is written there and `path` stays as it is.
    """
    path = Path(path)
    rows = rows.round({"depth": 3}).assign(
        **{name: rows[name].map("{:.4g}".format).astype(float) for name in LIMITS}
    )
    if path.exists():
        old = pd.read_csv(path)
        mine = rows[["model", "text"]].drop_duplicates().apply(tuple, axis=1).tolist()
        rows = pd.concat(
            [old[~old[["model", "text"]].apply(tuple, axis=1).isin(mine)], rows], ignore_index=True
        )
    rows = rows.sort_values(["model", "text"], kind="stable", ignore_index=True)
    rows.to_csv(Path(os.environ.get("FIGURES_DIR") or path.parent) / path.name, index=False)
    return rows
