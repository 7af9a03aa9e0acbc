"""Bad input gets an error that says what was expected and got; odd text gets a right result or such an error."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from conftest import snapshot, tiny_bert
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers import (
    LayerJacobian,
    Measurements,
    Settings,
    curves,
    downstream_influence,
    edit,
    encode,
    explore,
    heatmap,
    interval,
    layer_grid,
    layer_influence,
    layer_stack,
    load_bert,
    mark_sentence,
    noise_response,
    record,
    shape_table,
    show_source,
    upstream_influence,
)

MODEL = tiny_bert(vocab_size=30522, max_position_embeddings=64)
TRAINING = tiny_bert().train()
IDS = {"input_ids": torch.tensor([[2, 7, 11, 5]])}
TWO = {"input_ids": torch.tensor([[2, 7], [11, 5]])}
LONG = {"input_ids": torch.ones(1, 65).long()}
LAYERS, LAST = "encoder.layer.*", "encoder.layer.1"


@pytest.fixture(scope="module")
def tokenizer(minilm):
    tokenizer = minilm[1]
    return tokenizer


def noisy(**options):
    arguments = {"inputs": IDS, "position": 0, "observe": LAYERS} | options
    return lambda _: noise_response(MODEL, arguments.pop("inputs"), **arguments)


def run(use, site):
    def call(_):
        with use(MODEL, site):
            MODEL(**IDS)

    return call


def jacobian(hidden=None, mask=None):
    return LayerJacobian(MODEL.encoder.layer[0], torch.ones(4, 8) if hidden is None else hidden, mask)


BAD = [
    # text
    (lambda t: encode(t, ""), "expected a sentence, got '', which has no token"),
    (lambda t: encode(t, " \n\t "), "which has no token; give at least one word"),
    (lambda t: encode(t, "\x00\x07"), "which has no token"),
    (lambda t: encode(t, None), "expected one sentence as a str, got NoneType"),
    (lambda t: encode(t, b"bytes"), "expected one sentence as a str, got bytes"),
    (lambda t: encode(t, ["a", "b"]), "expected one sentence as a str, got list; encode sentences one at a time"),
    (lambda t: encode(t, "a", pair=" \n\t"), "expected a sentence"),
    (lambda t: encode(t, "a", pair=""), "expected a sentence, got ''"),
    (lambda t: encode(t, "a", pair=7), "expected one sentence as a str, got int"),
    (lambda t: encode(t, "word " * 10_000), "expected at most 512 tokens, the model's positions, got 10002"),
    # inputs of a measurement
    (lambda t: layer_influence(MODEL, {}), r"expected inputs with 'input_ids', got the keys \[\]; use encode"),
    (lambda t: layer_influence(MODEL, TWO), r"expected one sentence, input_ids \[1, seq\], got \[2, 2\]"),
    (lambda t: layer_influence(MODEL, {"input_ids": torch.ones(4).long()}), r"one sentence, .* got \[4\]"),
    (lambda t: layer_influence(MODEL, {"input_ids": torch.ones(1, 0).long()}), r"one sentence, .* got \[1, 0\]"),
    (lambda t: layer_influence(MODEL, LONG), "expected at most 64 tokens, .* got 65; shorten the text"),
    (lambda t: shape_table(MODEL, TWO), r"expected one sentence, .* got \[2, 2\]"),
    (lambda t: layer_stack(MODEL, LONG), "expected at most 64 tokens"),
    (lambda t: layer_stack(MODEL, {"input_ids": IDS["input_ids"].to("meta")}), "the model's device cpu, got meta"),
    (lambda t: layer_influence(TRAINING, IDS), r"expected a model in eval mode, .* call model.eval\(\)"),
    # methods and their options
    (lambda t: layer_influence(MODEL, IDS, method="magic"), "expected method 'exact' or 'jvp' or 'noise', got 'magic'"),
    (lambda t: layer_influence(MODEL, IDS, sigma=1), r"'exact' takes the options \['progress'\], got \['sigma'\]"),
    (lambda t: layer_influence(MODEL, IDS, layers=[2]), r"expected layers from 0 to 1, got \[2\]"),
    (lambda t: layer_influence(MODEL, IDS, layers=[]), r"expected layers from 0 to 1, got \[\]"),
    (lambda t: layer_influence(MODEL, IDS, method="noise", sigma=-1), "positive, finite sigma .* got -1"),
    (lambda t: downstream_influence(MODEL, IDS, samples=0), "expected at least 1 sample, got 0"),
    (lambda t: upstream_influence(MODEL, IDS, sigma=1), r"options \['dtype', 'progress', 'samples', 'seed'\], got"),
    (lambda t: downstream_influence(MODEL, IDS, inject=LAST), r"enters a layer, got .*1'.*\['encoder.layer.0'\]"),
    (lambda t: downstream_influence(MODEL, IDS, inject="nowhere"), "unknown site 'nowhere'; near names"),
    (lambda t: upstream_influence(MODEL, IDS, observe="pooler"), "expected one of the layers .* got 'pooler'"),
    (lambda t: upstream_influence(MODEL, IDS, method="noise"), "expected method 'vjp' or 'exact', got 'noise'"),
    # noise at a position
    (noisy(position=4), r"expected a position from 0 to 3 \(4 tokens\), got 4"),
    (noisy(position=-1), "expected a position from 0 to 3"),
    (noisy(sigma=0), "expected a positive, finite sigma in units of the hidden state, got 0"),
    (noisy(sigma=math.nan), "positive, finite sigma .* got nan"),
    (noisy(sigma=math.inf), "positive, finite sigma .* got inf"),
    (noisy(samples=0), "expected at least 1 sample, got 0"),
    (noisy(inject=LAYERS), "expected one site to inject at, got 2"),
    (noisy(inject="encoder.layer.9"), "unknown site 'encoder.layer.9'; near names: .'encoder.layer"),
    (noisy(inject="pooler"), r"expected a hidden state \[rows, seq=4, hidden\] at 'pooler', got \[101, 8\]"),
    (noisy(observe="pooler"), r"expected a hidden state \[rows, seq=4, hidden\] at 'pooler', got \[101, 8\]"),
    (noisy(inputs=LONG), "at most 64 tokens, .* got 65"),
    (noisy(inputs={}), r"expected inputs with 'input_ids', got the keys \[\]"),
    (noisy(inputs=TWO), r"one sentence, .* got \[2, 2\]"),
    (noisy(inputs={"input_ids": torch.ones(4).long()}), r"one sentence, .* got \[4\]"),
    (noisy(inputs={"input_ids": torch.ones(1, 0).long()}), r"one sentence, .* got \[1, 0\]"),
    (noisy(inputs={"input_ids": IDS["input_ids"].to("meta")}), "the model's device cpu, got meta"),
    (lambda t: noise_response(TRAINING, IDS, position=0, observe=LAYERS), r"got training mode.*call model.eval\(\)"),
    (noisy(sigma=-0.1), "positive, finite sigma .* got -0.1"),
    (noisy(observe="encoder.layer.7"), "unknown site 'encoder.layer.7'; near names"),
    (noisy(observe="encoder.layer"), "'encoder.layer' did not fire: a ModuleList is a container"),
    # sites
    (run(record, "encoder.layr.0"), "unknown site 'encoder.layr.0'; near names"),
    (run(record, ""), "unknown site ''"),
    (run(edit, {"encoder.layer": lambda h: h}), "'encoder.layer' did not fire"),
    (run(edit, {"embeddings": lambda h: h[:, 1:]}), r"to return a tensor \[1, 4, 8\], got \[1, 3, 8\]"),
    (run(edit, {"encoder.layer.0": lambda h: torch.ones(2)}), r"return a tensor \[1, 4, 8\], got \[2\]"),
    (run(edit, {"embeddings": lambda h: None}), "to return a tensor .* got NoneType"),
    # the derivative
    (lambda t: jacobian(torch.ones(1, 4, 8)), r"expected hidden \[seq, hidden\] of one sentence, got \[1, 4, 8\]"),
    (lambda t: jacobian(mask=torch.ones(3)), r"expected attention_mask \[seq=4\], got \[3\]"),
    (lambda t: jacobian(torch.ones(1, 4, 8)), r"got \[1, 4, 8\]; pass hidden\[0\]"),
    (lambda t: jacobian().block(4, 0), "target and source from 0 to 3, got 4 and 0"),
    (lambda t: jacobian().block(0, -1), "target and source from 0 to 3, got 0 and -1"),
    (lambda t: jacobian().block(0, 4), "expected target and source from 0 to 3, got 0 and 4"),
    (lambda t: jacobian().block(0, 0, "detour"), "expected a path of .* got 'detour'"),
    (lambda t: jacobian().jvp(torch.ones(4, 9)), r"expected \[..., seq=4, hidden=8\], got \[4, 9\]"),
    (lambda t: jacobian().vjp(torch.ones(5, 8)), r"expected \[..., seq=4, hidden=8\], got \[5, 8\]"),
    # statistics, pictures, the rest
    (lambda t: mark_sentence("A [half mark.", t), r"every entity marked as \[words\|type\], got 'A \[half mark.'"),
    (lambda t: interval([1.0]), "at least 2 sentences to resample, got 1"),
    (lambda t: heatmap(np.ones((2, 2)), ["a"]), r"expected values \[1, 1\], .* got \[2, 2\]"),
    (lambda t: heatmap(np.zeros((1, 1)), ["a"], log=True), "expected finite, positive values to draw, got none"),
    (lambda t: layer_grid(np.ones((2, 1, 1)), ["a"], ["one"]), "expected 2 panel names, one per layer, got 1"),
    (lambda t: list(explore(Measurements(MODEL, t), Settings("a " * 65))), "at most 64 tokens, which a picture"),
    (lambda t: show_source(3), "expected a class, function or module with Python source, got 3"),
]


FUNCTIONS = {layer_influence: "noise", downstream_influence: "jvp", upstream_influence: "vjp"}  # with a sampled method
for function, sampled in FUNCTIONS.items():
    BAD += [
        (partial(lambda f, t: f(MODEL, IDS, method="magic"), function), "expected method .*'exact'.*, got 'magic'"),
        (
            partial(lambda f, t: f(MODEL, IDS, method="exact", samples=3), function),
            r"method 'exact' takes the options .*, got \['samples'\]",
        ),
        (partial(lambda f, m, t: f(MODEL, IDS, method=m, samples=0), function, sampled), "at least 1 sample"),
        (partial(lambda f, t: f(MODEL, TWO, method="exact"), function), r"one sentence, .* got \[2, 2\]"),
    ]
BAD.append((lambda t: downstream_influence(MODEL, IDS, method="noise", sigma=0.0), "positive, finite sigma"))


@pytest.mark.parametrize(("call", "message"), BAD, ids=[f"{n} {message[:40]}" for n, (_, message) in enumerate(BAD)])
def test_bad_input_is_named_and_leaves_nothing(tokenizer, call, message):
    before = snapshot(MODEL)
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        call(tokenizer)
    assert snapshot(MODEL) == before and TRAINING.training
    assert len(BAD) >= 40


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(OSError, match="three ways on|Three ways on"):
        load_bert(tmp_path)


def test_curves_take_any_number_of_lines():
    assert curves([1, 2], {}, xlabel="x", ylabel="y").axes[0].get_xlabel() == "x"


@given(st.text(max_size=60))
@example("...!?")
@example("\u200b\u200d")
@example("😀😀")
@example("مرحبا بالعالم")
@example("שלום")
@example("[CLS] [SEP] [MASK] [PAD]")
@example("<b>&amp;</b> $x$ \\frac")
@example("a\x00b\ud7ff\ufffd")
@example("ﷺ" * 5)
@settings(max_examples=150, deadline=None)
def test_any_text_is_measured_or_refused(minilm, text):
    _, tokenizer = minilm
    try:
        sentence = encode(tokenizer, text)
    except ValueError as error:
        assert "has no token" in str(error)
        return
    assert sentence.tokens[0] == "[CLS]" and sentence.tokens[-1] == "[SEP]"
    assert sentence.inputs["input_ids"].shape == (1, len(sentence.tokens))
    if len(sentence.tokens) <= 64:
        values = layer_influence(MODEL, sentence).values
        assert values.shape == (2, len(sentence.tokens), len(sentence.tokens)) and values.isfinite().all()


@pytest.mark.parametrize("method", ["exact", "jvp", "noise"])
def test_one_thread_or_two_give_the_same_numbers(minilm, sentence, method):
    options = {} if method == "exact" else {"samples": 5}
    found = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(layer_influence(minilm[0], sentence, method=method, **options).values)
    finally:
        torch.set_num_threads(threads)
    tolerance = 1e-6 if method != "noise" else 1e-4  # noise divides rounding by σ = 0.01
    assert (found[0] - found[1]).norm() <= tolerance * found[0].norm()
