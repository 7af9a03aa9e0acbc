"""Bad input gets an error that says what was expected and got; odd text gets a right result or such an error."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from conftest import snapshot, tiny_bert
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from helpers import (
    Influence,
    LayerJacobian,
    curves,
    downstream_influence,
    edit,
    encode,
    explorer,
    heatmap,
    layer_grid,
    layer_influence,
    layer_stack,
    load_bert,
    module_tree,
    noise_response,
    record,
    save_figure,
    shape_table,
    show_source,
    upstream_influence,
    view,
)
from helpers.statistics import (
    interval,
    locality,
    mark_sentence,
    mean_distance,
    outflow,
    read_sentences,
    span_influence,
)

MODEL = tiny_bert(vocab_size=30522, max_position_embeddings=64)
TRAINING = tiny_bert().train()
IDS = {"input_ids": torch.tensor([[2, 7, 11, 5]])}
TWO = {"input_ids": torch.tensor([[2, 7], [11, 5]])}
LONG = {"input_ids": torch.ones(1, 65).long()}
LAYERS, LAST = "encoder.layer.*", "encoder.layer.1"
HALF = tiny_bert(torch.bfloat16)


@pytest.fixture(scope="module")
def tokenizer(minilm):
    tokenizer = minilm[1]
    return tokenizer


def noisy(**options):
    arguments = {"inputs": IDS, "position": 0, "observe": LAYERS} | options
    return lambda _: noise_response(MODEL, arguments.pop("inputs"), **arguments)


def beside(**inputs):
    """A measurement of these inputs beside the ids."""
    return lambda _: shape_table(MODEL, IDS | inputs)


def ids(*numbers, **options):
    return {"input_ids": torch.tensor([numbers], **options)}


def run(use, site):
    def call(_):
        with use(MODEL, site):
            MODEL(**IDS)

    return call


def influence(depth):
    return SimpleNamespace(
        values=np.ones((depth, 1, 1)), tokens=["a"], sites=[f"layer {i}" for i in range(depth)]
    )


def drawn(lines, x=(1, 2), **options):
    return curves(x, lines, xlabel="x", ylabel="y", **options)


def jacobian(hidden=None, mask=None):
    return LayerJacobian(
        MODEL.encoder.layer[0], torch.ones(4, 8) if hidden is None else hidden, mask
    )


TOKENIZER = "BertTokenizer" if transformers.__version__ >= "5" else "BertTokenizerFast"
BAD = [
    # text
    (lambda t: encode(t, ""), "expected a sentence, got '', which has no token"),
    (lambda t: encode(t, " \n\t "), "which has no token; give at least one word"),
    (lambda t: encode(t, "\x00\x07"), "which has no token"),
    (lambda t: encode(t, None), "expected one sentence as a str, .*, got None"),
    (lambda t: encode(t, b"bytes"), "expected one sentence as a str, .*, got b'bytes'"),
    (
        lambda t: encode(t, ["A first one.", "A second."]),
        "list of its words, got .'A first one.*; encode sentences one at a time",
    ),
    (lambda t: encode(t, "a", pair=" \n\t"), "expected a sentence"),
    (lambda t: encode(t, "a", pair=""), "expected a sentence, got ''"),
    (lambda t: encode(t, "a", pair=7), "expected one sentence as a str, .*, got 7"),
    (
        lambda t: encode(t, "word " * 10_000),
        "expected at most 512 tokens, the model's positions, got 10002",
    ),
    # inputs of a measurement
    (
        lambda t: layer_influence(MODEL, {}),
        r"a dict of tensors with 'input_ids', got {}; use encode",
    ),
    (
        lambda t: layer_influence(MODEL, TWO),
        r"expected one sentence, input_ids \[1, seq\], got \[2, 2\]",
    ),
    (
        lambda t: layer_influence(MODEL, {"input_ids": torch.ones(4).long()}),
        r"one sentence, .* got \[4\]",
    ),
    (
        lambda t: layer_influence(MODEL, {"input_ids": torch.ones(1, 0).long()}),
        r"one sentence, .* got \[1, 0\]",
    ),
    (
        lambda t: layer_influence(MODEL, LONG),
        "expected at most 64 tokens, .* got 65; shorten the text",
    ),
    (lambda t: shape_table(MODEL, TWO), r"expected one sentence, .* got \[2, 2\]"),
    (lambda t: layer_stack(MODEL, LONG), "expected at most 64 tokens"),
    (
        lambda t: layer_influence(TRAINING, IDS),
        r"expected a model in eval mode, .* call model.eval\(\)",
    ),
    # what is not a model, a sentence, a tokenizer
    (
        lambda t: layer_influence(MODEL, "A text."),
        r"a Sentence, or a dict of tensors .*, got 'A text.'; use encode\(tokenizer",
    ),
    (
        lambda t: layer_influence(MODEL, IDS["input_ids"]),
        "a Sentence, or a dict of tensors .*, got tensor",
    ),
    (lambda t: layer_influence(MODEL, None), "a Sentence, or a dict of tensors .*, got None"),
    (
        lambda t: layer_influence((MODEL, t), IDS),
        r"got tuple; unpack it: model, tokenizer = load_bert\(\)",
    ),
    (
        lambda t: noise_response((MODEL, t), IDS, position=0, observe=LAYERS),
        "got tuple; unpack it",
    ),
    (
        lambda t: shape_table(t, IDS),
        f"got {TOKENIZER}; it comes first",
    ),
    (lambda t: module_tree(t), f"torch.nn.Module, got {TOKENIZER}; it comes first"),
    (lambda t: module_tree("encoder"), "expected a model, a torch.nn.Module, got str"),
    (
        lambda t: shape_table(torch.nn.Identity().eval(), IDS),
        "expected a model of transformers, got Identity",
    ),
    (
        lambda t: encode(MODEL, "A text."),
        "expected a tokenizer, got BertModel; model, tokenizer = load_bert",
    ),
    (lambda t: encode((MODEL, t), "A text."), "expected a tokenizer, got tuple"),
    (lambda t: load_bert(7), "expected the name of a model or a directory, got 7"),
    (lambda t: load_bert(""), "expected the name of a model or a directory, got ''"),
    (
        lambda t: load_bert(pretrained=False, seed="a"),
        "expected a seed, a whole number of at least 0, got 'a'",
    ),
    # what is in the inputs
    (
        lambda t: shape_table(MODEL, t("A text.")),
        r"dict of tensors with 'input_ids', got {'input_ids': \[.*return_tensors=\"pt\"",
    ),
    (
        lambda t: shape_table(MODEL, t(["A text."], return_tensors="np")),
        "dict of tensors with 'input_ids', got {'input_ids': array",
    ),
    (
        lambda t: shape_table(MODEL, {"input_ids": [[1, 2]]}),
        "dict of tensors with 'input_ids', got {'input_ids'",
    ),
    (beside(output_attentions=True), "a dict of tensors with 'input_ids', got .*output_attentions"),
    (
        lambda t: shape_table(MODEL, ids(2, 30522)),
        "input_ids from 0 to 30521, got 30522; is the tokenizer the model's",
    ),
    (lambda t: shape_table(MODEL, ids(2, -1)), "expected input_ids from 0 to 30521, got -1"),
    (beside(token_type_ids=torch.full((1, 4), 2)), "expected token_type_ids from 0 to 1, got 2"),
    (
        beside(token_type_ids=torch.zeros(1, 3).long()),
        r"expected token_type_ids \[1, 4\], as input_ids, got \[1, 3\]",
    ),
    (
        beside(position_ids=torch.zeros(1, 1).long()),
        r"expected position_ids \[1, 4\], as input_ids, got \[1, 1\]",
    ),
    (beside(position_ids=torch.full((1, 4), 64)), "expected position_ids from 0 to 63, got 64"),
    (
        beside(attention_mask=torch.zeros(1, 4)),
        r"with at least one 1, got \[1, 4\] of \[0.0\]",
    ),
    (
        beside(attention_mask=torch.ones(1, 4, 4)),
        r"expected an attention_mask \[1, seq=4\] .*, got \[1, 4, 4\] of",
    ),
    (
        beside(attention_mask=torch.ones(1, 1, 4, 4)),
        r"expected an attention_mask \[1, seq=4\] .*, got \[1, 1, 4, 4\] of",
    ),
    (
        beside(attention_mask=torch.ones(4)),
        r"expected an attention_mask \[1, seq=4\] .*, got \[4\] of",
    ),
    (
        beside(attention_mask=torch.ones(1, 5)),
        r"expected an attention_mask \[1, seq=4\] .*, got \[1, 5\] of",
    ),
    (
        beside(attention_mask=torch.tensor([[0, 0, -1e9, 0]])),
        r"of 1 .attended to. and 0, .* got \[1, 4\] of .-1000000000.0, 0.0",
    ),
    (lambda t: shape_table(MODEL, IDS, depth=-1), "expected a depth of at least 0, got -1"),
    (
        lambda t: shape_table(MODEL, IDS, depth="all"),
        "a depth, a whole number of at least 0, got 'all'",
    ),
    # methods and their options
    (
        lambda t: layer_influence(MODEL, IDS, method="magic"),
        "expected method 'exact' or 'jvp' or 'noise', got 'magic'",
    ),
    (
        lambda t: layer_influence(MODEL, IDS, sigma=1),
        "expected no sigma for method 'exact'; leave it out",
    ),
    (
        lambda t: layer_influence(MODEL, IDS, layers=[2]),
        "expected each of layers from 0 to 1, got 2",
    ),
    (
        lambda t: layer_influence(MODEL, IDS, layers=[]),
        r"expected one or more layers, each once, got \[\]",
    ),
    (
        lambda t: layer_influence(MODEL, IDS, method="noise", sigma=-1),
        "positive, finite sigma .* got -1",
    ),
    (
        lambda t: downstream_influence(MODEL, IDS, samples=0),
        "number of samples of at least 1, got 0",
    ),
    (
        lambda t: upstream_influence(MODEL, IDS, sigma=1),
        "unexpected keyword argument 'sigma'",
    ),
    (
        lambda t: downstream_influence(MODEL, IDS, inject=LAST),
        r"enters a layer, got .*1'.*\['encoder.layer.0'\]",
    ),
    (
        lambda t: downstream_influence(MODEL, IDS, inject="nowhere"),
        "unknown site 'nowhere'; near names",
    ),
    (
        lambda t: upstream_influence(MODEL, IDS, observe="embeddings"),
        "expected one of the layers .* or what follows the last .* got 'embeddings'",
    ),
    (
        lambda t: upstream_influence(MODEL, IDS, method="noise"),
        "expected method 'vjp' or 'exact', got 'noise'",
    ),
    # noise at a position
    (noisy(position=4), "expected a position from 0 to 3, got 4; the sentence has 4 tokens"),
    (noisy(position=-1), "expected a position from 0 to 3"),
    (
        noisy(position="china"),
        r"a position, a whole number from 0 to 3, got 'china'; .*sentence.position\(word\)",
    ),
    (noisy(position=True), "expected a position, a whole number from 0 to 3, got True"),
    (noisy(position=1.0), "expected a position, a whole number from 0 to 3, got 1.0"),
    (noisy(position=None), "expected a position, a whole number from 0 to 3, got None"),
    (noisy(sigma="0.1"), "positive, finite sigma .* got '0.1'"),
    (noisy(sigma=None), "positive, finite sigma .* got None"),
    (noisy(samples=2.5), "a number of samples, a whole number of at least 1, got 2.5"),
    (noisy(samples="many"), "a number of samples, a whole number of at least 1, got 'many'"),
    (noisy(seed=0.5), "expected a seed, a whole number of at least 0, got 0.5"),
    (noisy(seed=-1), "expected a seed of at least 0, got -1"),
    (noisy(observe=[]), r"expected the name of a site, or several, got \[\]"),
    (
        lambda t: noise_response(HALF, IDS, position=0, observe=LAYERS),
        r"got torch.bfloat16, .* call model.float\(\)",
    ),
    (noisy(sigma=0), "expected a positive, finite sigma in units of the hidden state, got 0"),
    (noisy(sigma=math.nan), "positive, finite sigma .* got nan"),
    (noisy(sigma=math.inf), "positive, finite sigma .* got inf"),
    (noisy(samples=0), "number of samples of at least 1, got 0"),
    (noisy(inject=LAYERS), "expected one site to inject at, got 2"),
    (
        noisy(inject="encoder.layer.9"),
        "unknown site 'encoder.layer.9'; near names: .'encoder.layer",
    ),
    (
        noisy(inject="pooler"),
        r"expected a hidden state \[rows, seq=4, hidden\] at 'pooler' .*, got \[1, 8\]",
    ),
    (
        noisy(observe=["pooler", LAYERS]),
        "expected sites with positions, or all without, got .'pooler', 'encoder.layer.0'",
    ),
    (noisy(position=[]), r"expected one or more positions, each once, got \[\]"),
    (noisy(position=[1, 1]), r"expected one or more positions, each once, got \[1, 1\]"),
    (noisy(position=1, interaction=True), r"expected two positions, got \[1\]"),
    (
        noisy(covariance=torch.eye(7)),
        r"covariance \[hidden=8, hidden\] or a direction \[hidden\], got",
    ),
    (noisy(covariance=-torch.eye(8)), "symmetric and without negative variances"),
    (
        lambda t: downstream_influence(MODEL, IDS, samples=9),
        "at most 8 samples, one for each orthogonal direction, got 9; method='exact' takes them all",
    ),
    (
        lambda t: downstream_influence(MODEL, IDS, observe="pooler"),
        "expected method 'noise' with observe, got 'jvp'",
    ),
    (
        lambda t: downstream_influence(MODEL, IDS, inject=LAST, method="noise"),
        "expected a site that runs before what is observed, got 'encoder.layer.1'",
    ),
    (noisy(inputs=LONG), "at most 64 tokens, .* got 65"),
    (noisy(inputs={}), "a dict of tensors with 'input_ids', got {}"),
    (noisy(inputs=TWO), r"one sentence, .* got \[2, 2\]"),
    (noisy(inputs={"input_ids": torch.ones(4).long()}), r"one sentence, .* got \[4\]"),
    (noisy(inputs={"input_ids": torch.ones(1, 0).long()}), r"one sentence, .* got \[1, 0\]"),
    (
        lambda t: noise_response(TRAINING, IDS, position=0, observe=LAYERS),
        r"got training mode.*call model.eval\(\)",
    ),
    (noisy(sigma=-0.1), "positive, finite sigma .* got -0.1"),
    (noisy(observe="encoder.layer.7"), "unknown site 'encoder.layer.7'; near names"),
    (noisy(observe="encoder.layer"), "'encoder.layer' did not fire: a ModuleList is a container"),
    # sites
    (run(record, "encoder.layr.0"), "unknown site 'encoder.layr.0'; near names"),
    (run(record, ""), "unknown site ''"),
    (run(edit, {"encoder.layer": lambda h: h}), "'encoder.layer' did not fire"),
    (
        run(edit, {"embeddings": lambda h: h[:, 1:]}),
        r"to return a tensor .*\[1, 4, 8\].*, got .*\[1, 3, 8\]",
    ),
    (
        run(edit, {"encoder.layer.0": lambda h: torch.ones(2)}),
        r"return a tensor .*\[1, 4, 8\].*, got .*\[2\]",
    ),
    (run(edit, {"embeddings": lambda h: None}), "to return a tensor .* got None"),
    (run(record, []), r"the name of a site, or several, got \[\]; see module_tree"),
    (run(record, 3), "'int' object is not iterable"),
    (run(edit, {"embeddings": 0}), "'int' object is not callable"),
    (lambda t: record((MODEL, t), "embeddings").__enter__(), "got tuple; unpack it"),
    (
        lambda t: edit(t, {"embeddings": abs}).__enter__(),
        f"got {TOKENIZER}; it comes first",
    ),
    # the derivative
    (
        lambda t: jacobian(torch.ones(1, 4, 8)),
        r"expected hidden \[seq, hidden=8\] of one sentence, got \[1, 4, 8\]",
    ),
    (
        lambda t: jacobian(mask=torch.ones(3)),
        r"expected attention_mask \[seq=4\] with a 1 .* got \[3\]",
    ),
    (lambda t: jacobian(torch.ones(1, 4, 8)), r"got \[1, 4, 8\]; pass hidden\[0\]"),
    (lambda t: jacobian().block(4, 0), "expected each of targets from 0 to 3, got 4"),
    (lambda t: jacobian().block(0, -1), "expected each of sources from 0 to 3, got -1"),
    (lambda t: jacobian().block(0, 4), "expected each of sources from 0 to 3, got 4"),
    (lambda t: jacobian().block(0, 0, "detour"), "expected a path of .* got 'detour'"),
    (
        lambda t: jacobian().jvp(torch.ones(4, 9)),
        r"expected \[..., seq=4, hidden=8\], got \[4, 9\]",
    ),
    (
        lambda t: jacobian().vjp(torch.ones(5, 8)),
        r"expected \[..., seq=4, hidden=8\], got \[5, 8\]",
    ),
    # statistics
    (lambda t: mark_sentence(7, t), "expected a sentence as a str, got int"),
    (lambda t: mark_sentence("A text.", MODEL), "expected a tokenizer, got BertModel"),
    (
        lambda t: mark_sentence("A text.", t).matrix(np.ones((3, 3))),
        r"the sentence's 5 tokens, got \[3, 3\]",
    ),
    (lambda t: locality(np.ones(3), [1]), r"expected values \[..., target, source\] .*, got \[3\]"),
    (lambda t: locality(np.ones((3, 3)), [0]), "expected a distance in words of at least 1, got 0"),
    (
        lambda t: locality(np.ones((3, 3)), [1.5]),
        "a distance in words, a whole number of at least 1, got 1.5",
    ),
    (
        lambda t: mean_distance(np.ones((3, 4))),
        r"expected values \[..., target, source\] .*, got \[3, 4\]",
    ),
    (lambda t: outflow([[1, 2], [3]]), "expected numbers, got list: .*inhomogeneous"),
    (lambda t: outflow("text"), "expected numbers, got str"),
    (
        lambda t: outflow(np.ones((0, 0))),
        r"expected values \[..., target, source\] .*, got \[0, 0\]",
    ),
    (
        lambda t: span_influence(np.ones((3, 3)), [[2, 3]]),
        "expected a word of a span from 0 to 2, got 3",
    ),
    (
        lambda t: span_influence(np.ones((3, 3)), [[1, 2]], [True]),
        r"expected eligible \[word=3\], got \[1\]",
    ),
    (lambda t: interval(3.0), "at least 2 sentences to resample, got one number"),
    (
        lambda t: interval([1, 2], over=[1, 2, 3]),
        r"over of the same shape as values, \[2\], got \[3\]",
    ),
    (lambda t: interval([1, 2], confidence=95), "expected a confidence between 0 and 1, got 95"),
    # pictures
    (lambda t: heatmap(np.ones(2), ["a", "b"]), r"expected values \[2, 2\], .* got \[2\]"),
    (lambda t: heatmap([["x"]], ["a"]), "expected numbers, got list"),
    (
        lambda t: heatmap(np.ones((2, 2)), "ab"),
        "expected rows, a list of labels such as sentence.tokens, got 'ab'",
    ),
    (
        lambda t: heatmap(np.ones((2, 2))),
        "expected rows, a list of labels such as sentence.tokens, got None",
    ),
    (
        lambda t: heatmap(np.ones((2, 2)), ["a", "b"], limits=(2, 1)),
        r"limits \(low, high\), got \(2, 1\)",
    ),
    (
        lambda t: heatmap(np.ones((1, 1)), ["a"], log=True, limits=(0, 1)),
        r"above 0, for log, got \(0, 1\)",
    ),
    (
        lambda t: heatmap(influence(3)),
        r"got \[3, 1, 1\]; a layer of an influence: influence.values\[0\], all of them: layer_grid",
    ),
    (
        lambda t: layer_grid(np.ones((2, 2)), ["a", "b"]),
        r"target, source\], got \[2, 2\]; one matrix: heatmap",
    ),
    (lambda t: layer_grid(np.ones((2, 1, 1))), "expected tokens, a list of labels .* got None"),
    (lambda t: drawn({"a": [1, 2, 3]}), r"expected 2 values of 'a', one for each x, got \[3\]"),
    (
        lambda t: drawn({"a": ([1, 2], [0, 1], [2])}),
        r"expected 2 values of 'a', one for each x, got \[1\]",
    ),
    (lambda t: drawn({"a": [1, 2]}, {"b": [1, 2]}), "expected x for each line, got none for 'a'"),
    (lambda t: drawn({"a": [1, 2]}, log="z"), "expected log '', 'x', 'y' or 'xy', got 'z'"),
    (lambda t: save_figure("figure", "name"), "expected a matplotlib Figure, got str"),
    (lambda t: save_figure(Figure(), ""), "a file in the folder of figures, got ''"),
    (lambda t: save_figure(Figure(), "../a"), "a file in the folder of figures, got '../a'"),
    (lambda t: save_figure(Figure(), "/tmp/a"), "a file in the folder of figures, got '/tmp/a'"),
    # and the rest
    (
        lambda t: mark_sentence("A [half mark.", t),
        r"every entity marked as \[words\|type\], got 'A \[half mark.'",
    ),
    (lambda t: interval([1.0]), "at least 2 sentences to resample, got 1"),
    (lambda t: heatmap(np.ones((2, 2)), ["a"]), r"expected values \[1, 1\], .* got \[2, 2\]"),
    (
        lambda t: heatmap(np.zeros((1, 1)), ["a"], log=True),
        "expected finite, positive values to draw, got none",
    ),
    (
        lambda t: layer_grid(np.ones((2, 1, 1)), ["a"], ["one"]),
        "expected 2 panel names, one per layer, got 1",
    ),
    (
        lambda t: explorer(MODEL, t, text="a " * 65),
        "67 tokens; the view labels 1 to 64. Shorten it, or use",
    ),
    (lambda t: explorer(MODEL, t, text=" "), "Type at least one word"),
    (
        lambda t: explorer(MODEL, t, texts="a"),
        r"expected settings from \['difference', 'direction', .*got \['texts'\]",
    ),
    (lambda t: explorer(MODEL, t, drawing="circle"), "expected one of .*got drawing='circle'"),
    (
        lambda t: explorer(MODEL, t, source=40),
        "expected a position of the sentence from 0 to 12, got 40",
    ),
    (lambda t: show_source(3), "expected a class, function or module with Python source, got 3"),
]


def cat(*arguments, **options):
    """A position in a sentence in which "cat" stands twice."""
    return lambda t: encode(t, "Anna saw a cat, a big cat.").position(*arguments, **options)


def cat_or_dog(*arguments, **options):
    return lambda t: encode(t, "A cat.", pair="A dog.").position(*arguments, **options)


def layer(method="exact", **options):
    return lambda _: layer_influence(MODEL, IDS, method=method, **options)


FOUND = Influence(torch.ones(1, 2, 2), None, ["layer"], [0, 1], [0, 1], ["a", "b"])
BAD += [
    # words and where they stand
    (cat("cat", occurrence=2), "expected an occurrence of 'cat' from 0 to 1, got 2"),
    (cat("cat", occurrence=-1), "expected an occurrence of 'cat' from 0 to 1, got -1"),
    (cat("cat", occurrence=0.0), "an occurrence of 'cat', a whole number from 0 to 1, got 0.0"),
    (cat("cat", text=1), "expected the number of a text from 0 to 0, got 1"),
    (cat(3), "expected a word of the sentence, got 3; its tokens are"),
    (cat(""), "expected a word of the sentence, got ''; its tokens are"),
    (cat("  "), "expected a word of the sentence, got '  '"),
    (cat(None), "expected a word of the sentence, got None"),
    (cat("ca"), "expected a word of the sentence, got 'ca'"),
    (cat("cat a big"), "expected a word of the sentence, got 'cat a big'"),
    (cat_or_dog("cat", text=2), "expected the number of a text from 0 to 1, got 2"),
    (cat_or_dog("dog", text=0), "expected a word of the sentence, got 'dog'"),
    (cat_or_dog("cat dog"), "expected a word of the sentence, got 'cat dog'"),
    (lambda t: encode(t, ("a", "b", "c")), "one sentence as a str, .*, got .'a', 'b', 'c'.;"),
    (lambda t: encode(t, ("a", "b"), pair="c"), "one sentence as a str, .*, got .'a', 'b'.;"),
    (lambda t: encode(t, ["a", 3]), r"one sentence as a str, .*, got \['a', 3\];"),
    (lambda t: encode(t, []), "expected a sentence, got '', which has no token"),
    (lambda t: encode(t, {"text": "a"}), "one sentence as a str, .*, got {'text': 'a'};"),
    (lambda t: encode(t, Path("a.txt")), "one sentence as a str, .*, got PosixPath.'a.txt'.;"),
    (lambda t: encode("A text.", t), "expected a tokenizer, got str; .* encode.tokenizer, text"),
    (lambda t: encode(t, "word " * 300, pair="word " * 300), "at most 512 tokens, .* got 603"),
    # several positions, directions, what is observed
    (noisy(position="12"), "a position, a whole number from 0 to 3, got '12'"),
    (noisy(position={1, 2}), "a position, a whole number from 0 to 3, got {1, 2}"),
    (noisy(position=[0, 0.5]), "a position, a whole number from 0 to 3, got 0.5"),
    (noisy(position=[0, 4]), "expected a position from 0 to 3, got 4"),
    (noisy(position=[0, 1, 2], interaction=True), r"expected two positions, got \[0, 1, 2\]"),
    (noisy(samples=True), "a number of samples, a whole number of at least 1, got True"),
    (noisy(covariance=torch.ones(8, 8).triu()), "expected a covariance, symmetric"),
    (layer(covariance=torch.eye(7)), r"covariance \[hidden=8, hidden\].*, got \[7, 7\]"),
    (layer(covariance=torch.ones(3, 8, 8)), "a covariance for each of 2 layers, got 3"),
    (layer("jvp", covariance=torch.ones(7)), r"a direction \[hidden\], got \[7\]"),
    (
        lambda t: downstream_influence(MODEL, IDS, covariance=torch.ones(2, 8, 8)),
        r"a direction \[hidden\], got \[2, 8, 8\]",
    ),
    (
        lambda t: upstream_influence(MODEL, IDS, covariance=torch.eye(7)),
        r"covariance \[hidden=8, hidden\] or a direction \[hidden\], got \[7, 7\]",
    ),
    (lambda t: upstream_influence(MODEL, IDS, targets=[9]), "each of targets from 0 to 3, got 9"),
    (lambda t: upstream_influence(MODEL, IDS, targets=[1, 1]), "one or more targets, each once"),
    # layers and positions chosen
    (layer(sources=[0, 0]), r"expected one or more sources, each once, got \[0, 0\]"),
    (layer(sources=[-1]), "expected each of sources from 0 to 3, got -1"),
    (layer(sources=1), r"sources as a list of numbers from 0 to 3, got 1; write \[1\]"),
    (layer(layers=1), r"layers as a list of numbers from 0 to 1, got 1; write \[1\]"),
    (layer(layers="all"), "layers as a list of numbers from 0 to 1, got 'all'"),
    (layer(layers=[1.0]), "each of layers, a whole number from 0 to 1, got 1.0"),
    (lambda t: jacobian().heads(targets=[9]), "expected each of targets from 0 to 3, got 9"),
    (lambda t: jacobian().paths(sources=[]), r"one or more sources, each once, got \[\]"),
    (lambda t: jacobian().squared_norms(torch.eye(7)), r"\[hidden=8, hidden\].*, got \[7, 7\]"),
    (
        lambda t: jacobian(torch.ones(4, 9)),
        r"expected hidden \[seq, hidden=8\] of one sentence, got \[4, 9\]; "
        r"pass hidden\[0\] of a batch",
    ),
    (lambda t: jacobian(torch.ones(4, 8).long()), "float32 or float64, got torch.int64; call"),
    (
        lambda t: LayerJacobian(torch.nn.Identity(), torch.ones(4, 8)),
        "expected a post-LN layer with the submodules of BERT, .* Identity has",
    ),
    (
        lambda t: LayerJacobian(MODEL, torch.ones(4, 8)),
        "expected a post-LN layer with the submodules of BERT, .* BertModel has",
    ),
    # a result
    (lambda t: view(3), r"tokens beside an array \[layer, target, source\], got none"),
    (lambda t: view(np.ones((1, 2, 3)), ["a", "b"]), r"\[1, 2, 2\], got \[1, 2, 3\]"),
    (lambda t: view(np.ones((1, 2, 2)), ["a"]), r"of \[1, 1, 1\], got \[1, 2, 2\]"),
    (lambda t: view(-np.ones((1, 1, 1)), ["a"]), "squared norms, finite and not negative; use"),
    (lambda t: layer_grid(FOUND, ["a"]), r"expected values \[1, 1\], .* got \[2, 2\]"),
    (lambda t: heatmap(np.full((1, 1), np.nan), ["a"]), "finite values to draw, got none"),
    (lambda t: heatmap(-np.ones((1, 1)), ["a"], log=True), "positive values to draw, got none"),
    (lambda t: drawn({"a": ["x", "y"]}), "expected numbers, got list: could not convert"),
    (run(record, "re:x"), "unknown site 're:x'; near names"),
    (lambda t: record(None, "x").__enter__(), "a torch.nn.Module, got NoneType; it comes first"),
]


FUNCTIONS = {
    layer_influence: "noise",
    downstream_influence: "jvp",
    upstream_influence: "vjp",
}  # with a sampled method
for function, sampled in FUNCTIONS.items():
    BAD += [
        (
            partial(lambda f, t: f(MODEL, IDS, method="magic"), function),
            "expected method .*'exact'.*, got 'magic'",
        ),
        (
            partial(lambda f, t: f(MODEL, IDS, method="exact", samples=3), function),
            "expected no samples for method 'exact'",
        ),
        (
            partial(lambda f, m, t: f(MODEL, IDS, method=m, samples=0), function, sampled),
            "number of samples of at least 1",
        ),
        (
            partial(lambda f, t: f(MODEL, TWO, method="exact"), function),
            r"one sentence, .* got \[2, 2\]",
        ),
    ]
BAD.append(
    (
        lambda t: downstream_influence(MODEL, IDS, method="noise", sigma=0.0),
        "positive, finite sigma",
    )
)


@pytest.mark.parametrize(
    ("call", "message"), BAD, ids=[f"{n} {message[:40]}" for n, (_, message) in enumerate(BAD)]
)
def test_bad_input_is_named_and_leaves_nothing(tokenizer, call, message):
    before = snapshot(MODEL)
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        call(tokenizer)
    assert snapshot(MODEL) == before and TRAINING.training


def test_the_bad_inputs_are_many():
    assert len(BAD) >= 220


class Drawing(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, 0.5, training=True)


def changed(part):
    model = tiny_bert()
    model.encoder.layer[0].output.dropout = part
    return model.eval()


def dropping():
    model = tiny_bert()
    model.encoder.layer[0].output.dropout.train()
    return model


def quantised():
    return torch.ao.quantization.quantize_dynamic(tiny_bert(), {torch.nn.Linear})


class Packed(torch.nn.Parameter):
    """A weight that says float32 and holds integers, as torchao's do."""


Packed.__module__ = "torchao.quantization.linear"


def packed():
    model = tiny_bert()
    dense = model.encoder.layer[0].output.dense
    dense.weight = Packed(dense.weight, requires_grad=False)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (dropping, "training mode in 'encoder.layer.0.output.dropout'"),
        (lambda: changed(Drawing()), "one that draws random numbers"),
        (quantised, "got quantised ones"),
        (packed, r"got quantised ones \(Packed\)"),
        (lambda: torch.nn.DataParallel(tiny_bert()), "which holds one; pass model.module"),
        (lambda: torch.nn.Sequential(torch.nn.Sequential(tiny_bert())), r"pass model\[0\]\[0\]"),
    ],
)
def test_what_a_pass_does_and_what_holds_a_model(make, message):
    with pytest.raises(ValueError, match=message):
        layer_influence(make().eval() if "holds" in message else make(), IDS, method="noise")


def test_autocast_is_refused():
    message = "outside torch.autocast"
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=message):
        layer_influence(MODEL, IDS, method="noise")


def test_as_many_heads_as_layers_are_not_the_layers():
    model = tiny_bert()
    heads = torch.nn.ModuleList(torch.nn.Linear(8, 2) for _ in range(2)).eval()
    model._modules = {"heads": heads, **model._modules}
    assert layer_stack(model, IDS).names == ["encoder.layer.0", "encoder.layer.1"]


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
        assert (
            values.shape == (2, len(sentence.tokens), len(sentence.tokens))
            and values.isfinite().all()
        )


def test_sentences_in_a_file(tmp_path, tokenizer):
    (tmp_path / "empty.txt").write_text("# how to write one\n\n## news\n")
    with pytest.raises(
        ValueError, match=r"expected sentences in '.*empty.txt', one a line, got none"
    ):
        read_sentences(tmp_path / "empty.txt", tokenizer)
