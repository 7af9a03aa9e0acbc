"""Statements about one sentence and one model, each with ✓ or ✗.

What holds for every input is an `assert`. What was seen on one sentence and one model is a claim: on other input it may
be false, which is a result and no error.
"""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Claim:
    """One statement, whether it holds, and what was measured ("" when nothing was given)."""

    statement: str
    holds: bool
    measured: str

    def __str__(self) -> str:
        beside = f" ({self.measured})" if self.measured else ""
        return f"{'✓' if self.holds else '✗'} {self.statement}{beside}{'' if self.holds else ' – not for this input'}"


class Claims(list[Claim]):
    """A list of claims that a notebook shows a line each."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(str(claim))}</li>" for claim in self)
        return f'<ul style="list-style: none; padding-left: 0">{lines}</ul>'


def claims(statements: Mapping[str, Any]) -> Claims:
    """Say of each statement whether it holds; never raises.

    Each value is a condition, or `(condition, measured)` to show a number beside the statement, or a function of no
    arguments that returns either. A function serves where the condition may have no meaning on other input, such as the
    sixth layer of a model with four: what it raises is shown beside a ✗.

    Returns a list of `Claim`, with `.statement`, `.holds` and `.measured`.

    >>> print(claims({"two is less than three": 2 < 3, "the sum is zero": (1 + 1 == 0, 2)}))
    ✓ two is less than three
    ✗ the sum is zero (2) – not for this input
    """
    return Claims(Claim(str(statement), *_judge(value)) for statement, value in statements.items())


def _judge(value: Any) -> tuple[bool, str]:
    try:
        found = value() if isinstance(value, Callable) else value  # type: ignore[arg-type]
        condition, measured = found if isinstance(found, tuple) else (found, "")
        return bool(condition), f"{measured:.3g}" if isinstance(measured, float) else str(measured)
    except Exception as error:  # whatever a statement meets on input it was not made for
        return False, f"{type(error).__name__}: {error}"
