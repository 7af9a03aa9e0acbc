"""What every experiment takes and gives: how to sample, and which position influences which."""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .values import same, shortened, whole

# a bar for what takes longer than two seconds; TQDM_DISABLE=1: none, which tqdm's notebook form does not look at itself
PROGRESS = partial(tqdm, leave=False, delay=2, disable=os.environ.get("TQDM_DISABLE") == "1")
Progress = Callable[..., Iterable]  # called as tqdm is: progress(steps, desc="...")
TAKES = {
    "exact": set(),
    "jvp": {"samples", "seed", "dtype"},
    "vjp": {"samples", "seed", "dtype"},
    "noise": {"samples", "seed", "sigma"},
}


@dataclass(frozen=True)
class Sampling:
    """How many random disturbances, from which seed, of which size, rounded to which dtype."""

    method: str
    samples: int = 100
    seed: int = 0
    sigma: float = 0.01
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        sigma = self.sigma
        is_number = isinstance(sigma, Real) and not isinstance(sigma, bool)
        if not (is_number and math.isfinite(sigma) and sigma > 0):
            raise ValueError(
                "expected a positive, finite sigma in units of the hidden state, "
                f"got {sigma!r}; 0.01 is a good start"
            )
        whole(self.samples, "a number of samples", 1)
        whole(self.seed, "a seed", 0)

    @classmethod
    def of(cls, method: str, methods: tuple[str, ...], options: dict[str, Any]) -> "Sampling":
        """Checked: one of these methods, with options that it takes."""
        if method not in methods:
            raise ValueError(f"expected method {' or '.join(map(repr, methods))}, got {method!r}")
        if unknown := sorted(options.keys() - TAKES[method]):
            takes = " and ".join(sorted(TAKES[method])) or "none of samples, seed, sigma and dtype"
            given = " and ".join(unknown)
            raise ValueError(f"expected {takes} for method {method!r}, got {given}; leave it out")
        return cls(method, **options)


@dataclass(frozen=True, repr=False, eq=False)
class Influence:
    """‖∂h_target / ∂h_source‖²_F, dimensionless: `.values` and `.stderr` are [site, target, source].

    `.sites` names what was observed (or, upstream, disturbed); `.targets` and `.sources` are the
    positions of the last two axes. `.stderr` is None where `.values` are exact.
    """

    values: Tensor
    stderr: Tensor | None
    sites: list[str]
    targets: list[int]
    sources: list[int]
    tokens: list[str]
    how: str

    def __repr__(self) -> str:
        sites, targets, sources = self.values.shape
        size = f"{sites} sites x {targets} targets x {sources} sources"
        return f"Influence({self.how}, {size}: {shortened(' '.join(self.tokens))})"

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def view(self, **options):
        """This influence to touch in a browser, without a kernel; as `helpers.view`."""
        from .interactive import view

        return view(self, **options)

    def to_frame(self) -> pd.DataFrame:
        """Long form, a row per site, target and source."""
        axes: list = [self.sites, self.targets, self.sources]
        index = pd.MultiIndex.from_product(axes, names=["site", "target", "source"])
        columns = {"value": self.values, "stderr": self.stderr}
        flat = {n: t.flatten().cpu().numpy() for n, t in columns.items() if t is not None}
        return pd.DataFrame(flat, index=index).reset_index()
