"""How to sample: which options a method takes, and random disturbances of a given covariance."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .values import whole

TAKES = {
    "exact": set(),
    "jvp": {"samples", "seed"},
    "vjp": {"samples", "seed"},
    "noise": {"samples", "seed", "sigma"},
}


@dataclass
class Sampling:
    """How many random disturbances, from which seed, of which size.

    Without `samples`: 100, or all orthogonal directions where there are fewer.
    """

    method: str
    samples: int | None = None
    seed: int = 0
    sigma: float = 0.01

    def __post_init__(self) -> None:
        sigma = self.sigma
        is_number = isinstance(sigma, Real) and not isinstance(sigma, bool)
        if not (is_number and math.isfinite(sigma) and sigma > 0):
            raise ValueError(
                "expected a positive, finite sigma in units of the hidden state, "
                f"got {sigma!r}; 0.01 is a good start"
            )
        if self.samples is not None:
            self.samples = whole(self.samples, "a number of samples", 1)
        self.seed = whole(self.seed, "a seed", 0)

    @classmethod
    def of(cls, method: str, methods: tuple[str, ...], **options: Any) -> "Sampling":
        """Checked: one of these methods, with options that it takes; None was not given."""
        if method not in methods:
            raise ValueError(f"expected method {' or '.join(map(repr, methods))}, got {method!r}")
        given = {name: value for name, value in options.items() if value is not None}
        if unknown := sorted(given.keys() - TAKES[method]):
            takes = " and ".join(sorted(TAKES[method])) or "none of samples, seed and sigma"
            raise ValueError(
                f"expected {takes} for method {method!r}, got {' and '.join(unknown)}; leave it out"
            )
        return cls(method, **given)

    def count(self, directions: int = 0) -> int:
        """The number of samples: of orthogonal directions at most all, of noise any number."""
        if self.method == "exact":
            return directions
        if self.method == "noise":
            return self.samples or 100
        if (self.samples or 0) > directions:
            raise ValueError(
                f"expected at most {directions} samples, one for each orthogonal direction, got "
                f"{self.samples}; method='exact' takes them all"
            )
        return self.samples or min(100, directions)

    def told(self, directions: int = 0) -> dict[str, Any]:
        """The method and the options that it takes, as used: for `Influence.how`."""
        count, sigma = self.count(directions), float(self.sigma)
        options = vars(self) | {"samples": count, "sigma": sigma}
        return {name: options[name] for name in ("method", *sorted(TAKES[self.method]))}


def factor(covariance: Any, hidden: int) -> Tensor:
    """L [hidden, rank], L Lᵀ the covariance: a matrix, one direction [hidden], or the identity."""
    if covariance is None:
        return torch.eye(hidden)
    spread = torch.as_tensor(covariance)
    if spread.shape not in ((hidden,), (hidden, hidden)):
        raise ValueError(
            f"expected a covariance [hidden={hidden}, hidden] or a direction [hidden], got "
            f"{list(spread.shape)}"
        )
    if not spread.isfinite().all() or not spread.any():
        raise ValueError("expected a covariance or a direction that is finite and not 0")
    if spread.dtype not in (torch.float32, torch.float64):
        spread = spread.float()
    if spread.ndim == 1:
        return spread[:, None]
    variances, axes = torch.linalg.eigh(spread)
    if not torch.allclose(spread, spread.mT) or variances[0] < -1e-4 * variances.abs().max():
        raise ValueError("expected a covariance, symmetric and without negative variances")
    return axes * variances.clamp(min=0).sqrt()


def draw(
    generator: torch.Generator,
    samples: int,
    places: int,
    spread: Tensor,
    like: Tensor,
    shared: bool = False,
) -> Tensor:
    """Noise [sample, place, hidden] for a state [..., hidden]; `spread` is L of `factor`."""
    spread = spread.to(like)
    normals = normal(generator, (samples, 1 if shared else places, spread.shape[1]), like)
    return (normals @ spread.mT).expand(-1, places, -1)


def normal(generator: torch.Generator, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers drawn on the CPU: a seed means the same numbers on every device."""
    return torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)


def average(
    measured: Callable[[Tensor, Any], Tensor],
    drawn: Callable[[], Tensor],
    places: Sequence,
    size: int,
    progress: Callable[..., Iterable],
    desc: str,
) -> tuple[Tensor, Tensor]:
    """Mean and standard error over samples, [..., place], on the CPU.

    `drawn()` makes the disturbances [sample, ...] of a place; `measured(some, place)` is what they
    do, [sample, ...], for at most `size` of them at once. The error of a single one is NaN.
    """
    means, errors = [], []
    alone = len(places) == 1
    for place in places if alone else progress(places, desc=desc):
        parts: Iterable[Tensor] = drawn().split(size)
        if alone:
            parts = progress(parts, desc=desc)
        samples = torch.cat([measured(part, place) for part in parts])
        spread = samples.std(0) if len(samples) > 1 else torch.full_like(samples[0], math.nan)
        means.append(samples.mean(0).cpu())
        errors.append((spread / math.sqrt(len(samples))).cpu())
    return torch.stack(means, -1), torch.stack(errors, -1)
