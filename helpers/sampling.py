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
        if not isinstance(self.sigma, Real) or not 0 < self.sigma < math.inf:
            raise ValueError(
                "expected a positive, finite sigma in units of the hidden state, "
                f"got {self.sigma!r}; 0.01 is a good start"
            )
        self.sigma = float(self.sigma)
        if self.samples is not None:
            self.samples = whole(self.samples, "a number of samples", 1)
        self.seed = whole(self.seed, "a seed", 0)

    @classmethod
    def of(cls, method: str, methods: tuple[str, ...], **options: Any) -> "Sampling":
        """Checked: one of these methods, with options that it takes; None was not given."""
        if method not in methods:
            raise ValueError(f"expected method {' or '.join(map(repr, methods))}, got {method!r}")
        given = {name: value for name, value in options.items() if value is not None}
        for name in sorted(given.keys() - TAKES[method]):
            raise ValueError(f"expected no {name} for method {method!r}; leave it out")
        return cls(method, **given)

    def count(self, directions: int = 0) -> int:
        """The number of samples: of orthogonal directions at most all, of noise any number."""
        if self.method == "exact":
            return directions
        if self.method == "noise":
            return self.samples or 100
        samples = self.samples or min(100, directions)
        if samples > directions:
            raise ValueError(
                f"expected at most {directions} samples, one for each orthogonal direction, got "
                f"{samples}; method='exact' takes them all"
            )
        return samples

    def used(self, directions: int = 0) -> dict[str, Any]:
        """The method and the options that it takes, as used: for `Influence.how`."""
        options = vars(self) | {"samples": self.count(directions)}
        return {name: options[name] for name in ("method", *sorted(TAKES[self.method]))}


def factor(covariance: Any, hidden: int) -> Tensor:
    """L [hidden, rank], L Lᵀ the covariance: a matrix, one direction [hidden], or the identity."""
    if covariance is None:
        return torch.eye(hidden)
    matrix = torch.as_tensor(covariance)
    if matrix.shape not in ((hidden,), (hidden, hidden)):
        raise ValueError(
            f"expected a covariance [hidden={hidden}, hidden] or a direction [hidden], got "
            f"{list(matrix.shape)}"
        )
    if not matrix.isfinite().all() or not matrix.any():
        raise ValueError("expected a covariance or a direction that is finite and not 0")
    matrix = matrix.cpu().double()
    if matrix.ndim == 1:
        return matrix[:, None]
    variances, axes = torch.linalg.eigh(matrix)
    if not torch.allclose(matrix, matrix.mT) or variances[0] < -1e-4 * variances.abs().max():
        raise ValueError("expected a covariance, symmetric and without negative variances")
    return axes * variances.clamp(min=0).sqrt()


def draw(
    generator: torch.Generator,
    samples: int,
    places: int,
    root: Tensor,
    like: Tensor,
) -> Tensor:
    """Noise [sample, place, hidden] for a state [..., hidden]; `root` is L of `factor`."""
    normals = normal(generator, (samples, places, root.shape[1]), like)
    return normals @ root.mT.to(like)


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
    for place in progress(places, desc=desc):
        samples = torch.cat([measured(part, place) for part in drawn().split(size)])
        count, mean = len(samples), samples.mean(0)
        variance = (samples - mean).square().sum(0) / (count - 1)
        means.append(mean.cpu())
        errors.append((variance / count).sqrt().cpu())
    return torch.stack(means, -1), torch.stack(errors, -1)
