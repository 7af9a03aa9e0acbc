"""Layers, positions and heads by their numbers."""

from collections.abc import Iterable, Sequence

from ..values import whole


def chosen(name: str, wanted: Sequence[int] | None, count: int) -> list[int]:
    """The layers, positions or heads wanted, by number: all of `count` by default."""
    if wanted is None:
        return list(range(count))
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        raise ValueError(
            f"expected {name} as a list of numbers from 0 to {count - 1}, got {wanted!r}; "
            f"write [{wanted}]"
        )
    found = [whole(number, f"each of {name}", 0, count - 1) for number in wanted]
    if not found or len(set(found)) != len(found):
        raise ValueError(f"expected one or more {name}, each once, got {found}")
    return found
