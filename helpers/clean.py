"""What a forward pass must be for a measurement: the same each time, nowhere in half precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .hooks import hooked
from .inputs import check_precision

HALF = (torch.float16, torch.bfloat16)


@contextmanager
def clean_pass(model: nn.Module) -> Iterator[None]:
    """Around one forward pass: `ValueError`, with the cause, for one that is random or coarse."""

    def look(name: str, _args: tuple, output: Any) -> None:
        for leaf in tree_leaves(output):
            if getattr(leaf, "dtype", None) in HALF:
                raise ValueError(
                    f"expected a pass in float32 or float64, got {leaf.dtype} from {name!r}, whose "
                    "rounding would be measured; take the autocast or the .half() out of the "
                    "model's forward"
                )

    check_precision(model)
    before = _generators()
    with hooked(dict(model.named_modules()), after=look):
        yield
    if not all(map(torch.equal, before, _generators())):
        raise ValueError(
            "expected a pass that gives the same each time, got one that draws random numbers, "
            "which would be measured; switch off what draws them, such as a dropout that stays on "
            "in eval mode"
        )


def _generators() -> list[Tensor]:
    """The state of the generators that a pass may draw from."""
    cuda = torch.cuda
    return [torch.get_rng_state(), *(cuda.get_rng_state_all() if cuda.is_initialized() else [])]
