"""Single values: what is expected of them, with an error that says so."""

import operator
from typing import Any

import numpy as np
import torch


def whole(value: Any, what: str, low: int, high: int | None = None, hint: str = "") -> int:
    """`value` as an int from `low` to `high`; `ValueError` for anything else, such as True."""
    expected = f"of at least {low}" if high is None else f"from {low} to {high}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"expected {what}, a whole number {expected}, got {value!r}{hint}")
    if number < low or (high is not None and number > high):
        raise ValueError(f"expected {what} {expected}, got {number}{hint}")
    return number


def numbers(values: Any) -> np.ndarray:
    """A list, an array or a tensor, on any device, as an array of floats."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double()
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected numbers, got {type(values).__name__}: {error}") from error


def all_pairs(values: Any) -> np.ndarray:
    """Values [..., target, source] as an array of floats."""
    found = numbers(values)
    if found.ndim < 2 or found.shape[-1] != found.shape[-2] or not found.size:
        raise ValueError(
            f"expected values [..., target, source] of all pairs of words, got {list(found.shape)}"
        )
    return found


def shortened(text: str, width: int = 60) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
