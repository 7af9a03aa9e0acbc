"""A results file: one row per model, text, statistic, kind and layer, so that models and texts stand side by side."""

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from .findings import interval

LIMITS = ["mean", "low", "high"]


def results(
    model: str, text: str, statistic: str, kinds: Mapping[str, Sequence], *, comparisons: int = 1
) -> pd.DataFrame:
    """Rows of a results file: for each kind and layer the mean over sentences with its interval, n and the versions.

    Each value of `kinds` has one entry per sentence: its value by layer, or (value, matched) as `reach` gives. `n` is
    the number of sentences that have a value; with fewer than two the limits are NaN. `depth` is the layer's relative
    depth, 1 for the last.
    """
    made = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    tables = []
    for kind, sentences in kinds.items():
        data = np.asarray(sentences, dtype=float)  # [sentence, layer] or [sentence, 2, layer]
        values, over = (data, None) if data.ndim == 2 else (data[:, 0], data[:, 1])
        if len(values) < 2:  # one sentence is not enough to resample: NaN
            values = np.concatenate([values, np.full_like(values, np.nan)])
            over = None if over is None else np.concatenate([over, np.full_like(over, np.nan)])
        known = ~np.isnan(values).all(1) if over is None else ~(np.isnan(values) | np.isnan(over)).all(1)
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
                    "versions": made,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def replace_results(path: str | Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Put `rows` into the results file in place of all that it has of the same model and text; returns the whole.

    The numbers keep four digits. A file that does not exist is made. With $FIGURES_DIR set, the new file is written
    there and `path` stays as it is.
    """
    path = Path(path)
    rows = rows.round({"depth": 3}).assign(**{name: rows[name].map("{:.4g}".format).astype(float) for name in LIMITS})
    if path.exists():
        old = pd.read_csv(path)
        mine = rows[["model", "text"]].drop_duplicates().apply(tuple, axis=1).tolist()
        rows = pd.concat([old[~old[["model", "text"]].apply(tuple, axis=1).isin(mine)], rows], ignore_index=True)
    rows = rows.sort_values(["model", "text"], kind="stable", ignore_index=True)
    rows.to_csv(Path(os.environ.get("FIGURES_DIR", path.parent)) / path.name, index=False)
    return rows
