import math

import numpy as np
import pytest
import torch

from helpers import check, claims


def test_each_statement_is_judged_and_said():
    found = claims(
        {
            "yes": np.bool_(True),
            "no": (torch.tensor(False), 0.12345),
            "later": lambda: (True, "as said"),
        }
    )
    assert [claim.holds for claim in found] == [True, False, True]
    assert (
        str(found) == "✓ yes\n✗ no (0.123) – not for this input\n✓ later (as said)" == repr(found)
    )


@pytest.mark.parametrize(
    "value", [lambda: [][0], torch.ones(2), (1, 2, 3), math.nan > 0, lambda: 1 / 0, None]
)
def test_it_never_raises_and_never_holds_by_accident(value):
    (claim,) = claims({"odd": value})
    assert not claim.holds and "not for this input" in str(claim)


def test_a_reason_is_shown_and_html_is_escaped():
    assert "(cannot be judged: ZeroDivisionError" in str(claims({"odd": lambda: 1 / 0}))
    assert "&lt;b&gt; $x$" in claims({"<b> $x$": True})._repr_html_()


def test_an_answer_is_judged_and_never_given_away():
    square = lambda answer: answer**2 == 49  # noqa: E731
    assert [check(answer, square).holds for answer in (..., 7, -7, 6)] == [None, True, True, False]
    assert "still to do" in str(check(..., square))
    assert str(check(6, square, "try its square")) == "✗ not yet; try its square"
    assert "TypeError" in str(check("seven", square)) and check("seven", square).holds is False
    assert check(torch.ones(2), lambda answer: answer).holds is False  # no single yes or no
