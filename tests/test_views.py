"""The explorer's pictures as a function of its settings, at the extremes of every control."""

import numpy as np
import pytest
from conftest import tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import Measurements, Settings, downstream_influence, encode, explore, layer_influence, outflow, record
from helpers.views import DOWNSTREAM, SINGLE, align, in_words


@pytest.fixture(scope="module")
def tokenizer(minilm):
    return minilm[1]


@pytest.fixture(scope="module")
def measurements(tokenizer):
    """A tiny model with MiniLM's vocabulary: every control at its extremes in seconds."""
    return Measurements(tiny_bert(vocab_size=30522, max_position_embeddings=128), tokenizer)


def parts(measurements, chosen):
    return {shown.part: shown for shown in explore(measurements, chosen)}


@pytest.mark.parametrize("method", ["exact", "jvp", "noise"])
@pytest.mark.parametrize("observe", [SINGLE, DOWNSTREAM])
@pytest.mark.parametrize("own", [True, False])
def test_every_choice_is_drawn(measurements, method, observe, own):
    chosen = Settings(text="One two.", second="One two three.", method=method, observe=observe, own=own, log=own)
    found = parts(measurements, chosen)
    assert list(found) == ["map", "trace", "pair"]
    for shown in found.values():
        title = shown.figure.axes[0].get_title()
        assert title.startswith("One two.") and shown.words
    assert np.isnan(found["map"].values).sum() == (0 if own else 5)
    assert method in found["map"].options["title"] and method in found["trace"].options["title"]


@pytest.mark.parametrize(
    "extreme",
    [
        {"position": 0},
        {"position": 10**6},
        {"layer": 0},
        {"layer": 10**6},
        {"text": "a"},
        {"text": "word " * 62},
        {"method": "noise", "sigma": 1e-5, "samples": 2},
        {"method": "noise", "sigma": 100.0},
        {"text": "$5 or $6 and $"},
        {"text": "_ # $x^2$ \\frac ,", "second": "سلام 你好 😀"},
    ],
    ids=str,
)
def test_extremes(measurements, extreme):
    for shown in explore(measurements, Settings(**extreme)):
        shown.figure.canvas.draw()
        assert np.isfinite(shown.values).any()


def test_the_values_are_those_of_the_measurements(measurements, tokenizer):
    chosen = Settings("Hello world!", position=2, layer=1, own=True)
    sentence = encode(tokenizer, chosen.text)
    alone = layer_influence(measurements.model, sentence).values.numpy()
    found = parts(measurements, chosen)
    assert np.array_equal(found["map"].values, alone[1]) and np.array_equal(found["trace"].values, alone[:, :, 2])
    through = downstream_influence(measurements.model, sentence, method="exact").values.numpy()
    found = parts(measurements, Settings("Hello world!", position=2, layer=1, own=True, observe=DOWNSTREAM))
    assert np.array_equal(found["map"].values, through[1]) and np.array_equal(found["trace"].values, through[:, :, 2])


def test_the_words_say_the_three_largest_and_the_outflow():
    matrix = np.random.default_rng(0).random((6, 6))
    text = in_words(matrix, list("[abcd]"), 2, "layer 0")
    order = [t for t in matrix[:, 2].argsort()[::-1] if t != 2][:3]
    assert [text.index(f"({t}) {matrix[t, 2]:.3g}") for t in order] == sorted(text.index(f"({t}) ") for t in order)
    assert f"outflow is {outflow(matrix[1:-1, 1:-1])[1]:.2f} ×" in text
    assert "outflow" not in in_words(matrix, list("[abcd]"), 5, "layer 0") + in_words(
        matrix[:3, :3], list("[a]"), 1, ""
    )


def test_a_pair_is_as_far_apart_as_the_recorded_states(measurements, tokenizer):
    texts = ("One two three.", "One four three.")
    distances, labels = measurements.apart(*texts)
    states = []
    for text in texts:
        with record(measurements.model, ["embeddings", "encoder.layer.*"]) as trace:
            measurements.model(**encode(tokenizer, text).inputs)
        states.append(np.stack([trace[site][0].numpy() for site in trace]))
    expected = np.linalg.norm(states[0] - states[1], axis=-1) / np.linalg.norm(states[0], axis=-1)
    assert np.allclose(distances, expected, atol=1e-5) and labels[2] == "two / four"


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
@settings(max_examples=200, deadline=None)
def test_alignment_uses_every_token_once_in_order(first, second):
    pairs = align(first, second)
    assert [a for a, _ in pairs if a is not None] == list(range(len(first)))
    assert [b for _, b in pairs if b is not None] == list(range(len(second)))


def test_results_are_kept_whatever_is_drawn_from_them(measurements, monkeypatch):
    parts(measurements, Settings("Kept for good.", position=1))
    monkeypatch.setattr("helpers.views.layer_influence", None)
    parts(measurements, Settings("Kept for good.", position=3, layer=1, own=True, log=False))
