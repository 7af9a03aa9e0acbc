"""Some targets of a layer, and what is made of them once and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Chunk:
    """Some targets j with their matrices, and the sources wanted."""

    targets: Tensor
    sources: Tensor
    d: Tensor  # D_j, [target, hidden, hidden]
    p: Tensor  # P_j = D_j W_O, [target, hidden, head * d]
    kept: dict[Callable, Tensor]  # what was made of them

    @property
    def same(self) -> Tensor:
        """Where the target is the source, [target, source]."""
        return self.targets[:, None] == self.sources


def kept(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """What a chunk's matrices make by themselves, without a covariance's root, is made once."""

    @wraps(make)
    def made(jacobian: Any, chunk: Chunk, root: Tensor | None = None) -> Tensor:
        if root is not None:
            return make(jacobian, chunk, root)
        if make not in chunk.kept:
            chunk.kept[make] = make(jacobian, chunk)
        return chunk.kept[make]

    return made
