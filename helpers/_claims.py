"""Statements about one sentence and one model, each with ✓ or ✗; and answers to exercises.

What holds for every input is an `assert`. What was seen on one sentence and one model is a claim:
on other input it may be false, which is a result and no error. An exercise is checked the same way:
nothing stops, the verdict is shown.
"""

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether something holds (None: there is no answer yet), and the line that says so."""

    holds: bool | None
    line: str

    def __repr__(self) -> str:
        return self.line


class Claims(list[Verdict]):
    """Verdicts that a notebook shows a line each."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(str(claim))}</li>" for claim in self)
        return f'<ul style="list-style: none; padding-left: 0">{lines}</ul>'


def claims(statements: Mapping[str, Any]) -> Claims:
    """Say of each statement whether it holds; never raises.

    Each value is a condition, or `(condition, measured)` to show a number beside the statement, or
    a function of no arguments that returns either. A function serves where the condition may have
    no meaning on other input, such as the sixth layer of a model with four: what it raises is shown
    beside a ✗, as "cannot be judged".

    Returns a list of verdicts, with `.holds` and `.line`.

    >>> print(claims({"two is less than three": 2 < 3, "the sum is zero": (1 + 1 == 0, 2)}))
    ✓ two is less than three
    ✗ the sum is zero (2) – not for this input
    """
    found = Claims()
    for statement, value in statements.items():
        holds, measured = _judge(value)
        beside = f" ({measured})" if measured else ""
        line = f"✓ {statement}{beside}" if holds else f"✗ {statement}{beside} – not for this input"
        found.append(Verdict(holds, line))
    return found


def check(answer: Any, right: Callable[[Any], Any], hint: str = "") -> Verdict:
    """Judge the answer to an exercise without telling the right one; never raises.

    `answer` is `...` until the reader writes one. `right` is a function of the answer that returns
    a condition; when it raises, the answer is wrong, and the error is shown with the `hint`.

    >>> check(..., lambda answer: answer**2 == 49)
    … still to do: put your answer in place of the three dots
    >>> check(6, lambda answer: answer**2 == 49, "its square is 49")
    ✗ not yet; its square is 49
    >>> check(-7, lambda answer: answer**2 == 49)
    ✓ right
    """
    if answer is ...:
        return Verdict(None, "… still to do: put your answer in place of the three dots")
    holds, error = _judge(lambda: right(answer))
    if holds:
        return Verdict(True, "✓ right")
    return Verdict(False, "; ".join(filter(None, ["✗ not yet", hint, error])))


def _judge(value: Any) -> tuple[bool, str]:
    """Whether a condition holds, and what was measured, as text."""
    try:
        found = value() if callable(value) else value
        condition, measured = found if isinstance(found, tuple) else (found, "")
        return bool(condition), f"{measured:.3g}" if isinstance(measured, float) else str(measured)
    except Exception as error:  # whatever a statement meets on input it was not made for
        return False, f"cannot be judged: {type(error).__name__}: {error}"
