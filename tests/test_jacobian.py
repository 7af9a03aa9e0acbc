import math

import pytest
import torch
from conftest import tiny_bert
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraModel,
    RobertaConfig,
    RobertaModel,
)
from transformers.activations import ACT2FN

from helpers import LayerJacobian, layer_influence, layer_stack
from helpers.exact import attention_scores, jacobian, without_heads
from helpers.exact.jacobian import PATHS
from helpers.hooks import edit, hidden_state, replace_hidden_state


def layer_and_state(seed, heads, width, seq, masked, activation, scale):
    """A random float64 layer, a hidden state, a mask of which the first position is always attended to."""
    torch.manual_seed(seed)
    hidden = heads * (
        6 // heads + width
    )  # a LayerNorm over two or three units is constant but for rounding
    config = BertConfig(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_hidden_layers=1,
        intermediate_size=hidden + 3,
        hidden_act=activation,
        vocab_size=5,
    )
    config._attn_implementation = "eager"  # jacrev below has no batching rule for the fused one
    layer = BertModel(config).double().eval().encoder.layer[0]
    for parameter in layer.parameters():
        parameter.data = parameter.data * 20 * scale + 0.1 * torch.randn_like(parameter)
    mask = torch.randint(0, 2, (seq,)) if masked else None
    if masked:
        mask[0] = 1
    return layer, torch.randn(seq, hidden, dtype=torch.float64), mask


def autograd(layer, hidden, mask, bias=None):
    """The truth: jacrev through the library's own layer, [target, source, out, in]."""
    additive = None if bias is None else bias[None]
    if mask is not None:
        additive = hidden.new_zeros(1, 1, 1, len(mask)).masked_fill(
            mask == 0, torch.finfo(hidden.dtype).min
        )
    full = torch.func.jacrev(lambda h: hidden_state(layer(h[None], additive))[0])(hidden)
    return full.permute(0, 2, 1, 3).detach()


def relative(got, truth, scale=None):
    """Largest deviation over the size of the largest block (or of `scale`)."""
    return ((got - truth).abs().max() / (truth if scale is None else scale).abs().max()).item()


layers = st.builds(
    layer_and_state,
    seed=st.integers(0, 2**20),
    heads=st.integers(1, 4),
    width=st.integers(0, 4),
    seq=st.integers(1, 12),
    masked=st.booleans(),
    activation=st.sampled_from(["gelu", "relu", "silu", "tanh", "gelu_new", "mish"]),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 3.0]),
)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(layers)
def test_everything_against_autograd(case):
    layer, hidden, mask = case
    truth = autograd(layer, hidden, mask)
    seq, width = hidden.shape
    J = LayerJacobian(layer, hidden, mask)
    pairs = [(j, i) for j in range(seq) for i in range(seq)]
    blocks = torch.stack([J.block(j, i) for j, i in pairs]).view(seq, seq, width, width)
    assert relative(blocks, truth) < 1e-10
    # each block against its own size, down to what float64 leaves of the largest
    squares = truth.square().sum((2, 3))
    assert torch.allclose(J.squared_norms(), squares, rtol=1e-10, atol=1e-22 * squares.max())

    vectors = torch.randn(2, 3, seq, width, dtype=torch.float64)
    forward, backward = J.jvp(vectors), J.vjp(vectors)
    assert relative(forward, torch.einsum("jiab,xyib->xyja", truth, vectors)) < 1e-10
    assert relative(backward, torch.einsum("jiab,xyja->xyib", truth, vectors)) < 1e-10
    other = torch.randn_like(vectors)
    assert torch.allclose(
        (forward * other).sum(), (vectors * J.vjp(other)).sum(), rtol=1e-11, atol=1e-12
    )

    parts = {
        path: torch.stack([J.block(j, i, path) for j, i in pairs]).view_as(truth) for path in PATHS
    }
    assert relative(sum(parts.values()), truth) < 1e-10
    paths = J.paths()
    for path in PATHS:
        assert relative(paths[path], parts[path].square().sum((2, 3)), squares) < 1e-10, path
    assert relative(sum(paths.values()), squares) < 1e-10

    heads = range(J.number_of_heads)
    by_head = torch.stack(
        [torch.stack([J.block(j, i, head=h) for j, i in pairs]).view_as(truth) for h in heads]
    )
    assert relative(by_head.sum(0) + parts["residual"], truth) < 1e-10
    assert relative(J.heads(), by_head.square().sum((3, 4)), squares) < 1e-10
    value = torch.stack([J.block(0, seq - 1, "value", head=h) for h in heads])
    assert relative(value.sum(0), parts["value"][0, seq - 1], truth) < 1e-10

    half = torch.randn(width, width, dtype=torch.float64)
    covariance = half @ half.T
    along = torch.einsum("jiab,bc,jiac->ji", truth, covariance, truth)
    assert relative(J.squared_norms(covariance=covariance), along, along) < 1e-10


@pytest.mark.parametrize("activation", sorted(ACT2FN))
def test_every_activation_of_the_library(activation):
    try:
        layer, hidden, mask = layer_and_state(3, 2, 0, 4, True, activation, 1.0)
    except ImportError as error:
        pytest.skip(str(error))
    assert (
        relative(
            LayerJacobian(layer, hidden, mask).squared_norms(),
            autograd(layer, hidden, mask).square().sum((2, 3)),
        )
        < 1e-6
    )


@pytest.mark.parametrize(
    ("model", "config"),
    [(BertModel, BertConfig), (RobertaModel, RobertaConfig), (ElectraModel, ElectraConfig)],
)
def test_layers_of_the_family(model, config):
    torch.manual_seed(1)
    config = config(
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=1,
        intermediate_size=16,
        vocab_size=9,
    )
    layer, hidden = (
        model(config).double().eval().encoder.layer[0],
        torch.randn(4, 8, dtype=torch.float64),
    )
    truth = autograd(layer, hidden, None).square().sum((2, 3))
    assert relative(LayerJacobian(layer, hidden).squared_norms(), truth) < 1e-10


def test_chunks_of_targets_change_no_number(monkeypatch):
    layer, hidden, mask = layer_and_state(5, 2, 1, 9, True, "gelu", 1.0)
    whole = LayerJacobian(layer, hidden, mask)
    norms, paths, heads = whole.squared_norms(), whole.paths(), whole.heads()
    monkeypatch.setattr(jacobian, "CHUNK_BYTES", 1)
    assert torch.allclose(whole.squared_norms(), norms, rtol=1e-12) and torch.allclose(
        whole.heads(), heads, rtol=1e-9
    )
    assert all(
        torch.allclose(part, paths[name], rtol=1e-9, atol=1e-9)
        for name, part in whole.paths().items()
    )


@settings(deadline=None, max_examples=20, derandomize=True)
@given(layers, st.integers(0, 2**20))
def test_chosen_targets_and_sources_are_rows_and_columns_of_the_map(case, seed):
    """In any order, with and without pairs (j, j), and whatever was asked before."""
    layer, hidden, mask = case
    truth = autograd(layer, hidden, mask)
    seq = len(hidden)
    draw = torch.Generator().manual_seed(seed)
    targets, sources = (
        torch.randperm(seq, generator=draw)[: 1 + seed % seq].tolist() for _ in range(2)
    )
    J = LayerJacobian(layer, hidden, mask)
    heads, paths = J.heads(targets, sources), J.paths(targets, sources)
    squares = truth.square().sum((2, 3))
    size = squares.max()
    some = squares[targets][:, sources]
    for _ in range(2):  # the second time from what was kept of other targets
        assert relative(J.squared_norms(targets=targets, sources=sources), some, size) < 1e-10
        assert relative(J.squared_norms(targets=targets), squares[targets], size) < 1e-10
        assert relative(J.squared_norms(sources=sources), squares[:, sources], size) < 1e-10
        J.squared_norms()
    assert relative(sum(paths.values()), some, size) < 1e-10
    for row, target in enumerate(targets):
        for column, source in enumerate(sources):
            for path in PATHS:
                part = J.block(target, source, path).square().sum()
                assert relative(paths[path][row, column], part, size) < 1e-10
            for head in range(J.number_of_heads):
                part = J.block(target, source, head=head).square().sum()
                assert relative(heads[head, row, column], part, size) < 1e-10


def test_a_target_alone_is_formed_alone(monkeypatch):
    layer, hidden, _ = layer_and_state(5, 2, 1, 9, False, "gelu", 1.0)
    J, formed, form = LayerJacobian(layer, hidden), [], LayerJacobian._form
    monkeypatch.setattr(
        LayerJacobian, "_form", lambda J, j: formed.extend(j.tolist()) or form(J, j)
    )
    J.heads(targets=[4], sources=[1]), J.paths([4]), J.squared_norms(targets=[4])
    assert formed == [4]
    J.squared_norms(), J.paths(), J.heads()
    assert formed == [4, *range(9)]
    monkeypatch.setattr(jacobian, "KEPT_CHUNKS", 2)
    J.heads([2]), J.heads([3]), J.heads([2])
    assert list(J.formed) == [(2,), (3,)] or list(J.formed) == [(3,), (2,)]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([9], "expected each of targets from 0 to 8, got 9"),
        ([], "expected one or more targets, each once, got \\[\\]"),
        ([1, 1], "each once, got \\[1, 1\\]"),
        (4, "expected targets as a list of numbers from 0 to 8, got 4; write \\[4\\]"),
    ],
)
def test_targets_that_are_not_there(numbers, message):
    layer, hidden, _ = layer_and_state(5, 2, 1, 9, False, "gelu", 1.0)
    with pytest.raises(ValueError, match=message):
        LayerJacobian(layer, hidden).heads(targets=numbers)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(layers)
def test_a_head_knocked_out(case):
    """Against autograd through the library's own layer, with the columns of W_O at zero."""
    layer, hidden, mask = case
    last = layer.attention.self.num_attention_heads - 1
    J = LayerJacobian(layer, hidden, mask, without=[last])
    tangents = torch.randn(2, *hidden.shape, dtype=torch.float64)
    before = J.squared_norms(), J.heads(), J.jvp(tangents)
    weight = layer.attention.output.dense.weight.data
    weight.unflatten(1, (last + 1, -1))[:, last] = 0
    truth = autograd(layer, hidden, mask)
    assert relative(before[0], truth.square().sum((2, 3))) < 1e-10
    assert before[1][last].abs().max() == 0
    assert relative(before[2], torch.einsum("jiab,xib->xja", truth, tangents)) < 1e-10


def test_a_head_knocked_out_of_the_model(tiny, ids):
    """The same by columns of W_O at zero, by an edit, and in the stack's derivative; nothing is left behind."""
    layer = tiny.encoder.layer[0]
    whole = tiny(**ids).last_hidden_state
    stack = layer_stack(tiny, ids)
    with without_heads(layer, [1]):
        gone = tiny(**ids).last_hidden_state
        there = layer_stack(tiny, ids).jacobian(0, without=[1]).squared_norms()
        with pytest.raises(ValueError, match="gives another output"):
            layer_stack(tiny, ids).jacobian(0)
    assert torch.equal(tiny(**ids).last_hidden_state, whole)
    assert torch.equal(stack.jacobian(0, without=[1]).squared_norms(), there)
    moved = stack.jacobian(0, stack.states[0] + 1, without=[1]).squared_norms()
    keep = torch.ones(2, 4)
    keep[1] = 0
    with edit(tiny, {"encoder.layer.0.attention.self": lambda h: h * keep.flatten()}):
        assert torch.equal(tiny(**ids).last_hidden_state, gone)
    layer.attention.output.dense.weight[:, 4:] = 0
    assert torch.allclose(tiny(**ids).last_hidden_state, gone, atol=1e-6) and not torch.equal(
        gone, whole
    )
    zeroed = layer_stack(tiny, ids)
    assert torch.allclose(zeroed.jacobian(0).squared_norms(), there, rtol=1e-5)
    assert torch.allclose(zeroed.jacobian(0, stack.states[0] + 1).squared_norms(), moved, rtol=1e-5)
    for wrong in ([2], [-1], [0, 0], [], 1):
        with pytest.raises(ValueError, match="expected .*heads"), without_heads(layer, wrong):
            pass
        with pytest.raises(ValueError, match="expected .*heads"):
            stack.jacobian(0, without=wrong)


def test_scores_of_words_alone_are_those_of_the_attention():
    """softmax of a sentence's own scores is what the library attends with."""
    model = tiny_bert(attn_implementation="eager")
    ids = torch.tensor([[2, 7, 11, 5, 3]])
    attention = model(ids, output_attentions=True).attentions[0][0]
    state = model.embeddings(ids)[0]
    scores = attention_scores(model.encoder.layer[0], state, state)
    assert torch.allclose(scores.softmax(-1), attention, atol=1e-6)
    alone = attention_scores(model.encoder.layer[0], state[3:4], state[1:3])
    assert torch.allclose(alone, scores[:, 3:4, 1:3], atol=1e-6)


def test_float64_states_on_float32_weights(tiny, ids):
    stack = layer_stack(tiny, ids)
    single = LayerJacobian(tiny.encoder.layer[0], stack.states[0]).squared_norms()
    double = LayerJacobian(tiny.encoder.layer[0], stack.states[0].double()).squared_norms()
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    assert torch.allclose(single.double(), double, rtol=1e-4)


def add_one(_module, _args, output):
    return replace_hidden_state(output, hidden_state(output) + 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layer: layer.train(), "expected a layer in eval mode, got training mode"),
        (
            lambda layer: delattr(layer.attention.output, "LayerNorm"),
            "no .'attention.output.LayerNorm'.; use method",
        ),
        (
            lambda layer: layer.register_forward_hook(add_one),
            'BertLayer gives another output .* use method="noise"',
        ),
        (
            lambda layer: layer.output.dense.bias.data.fill_(math.nan),
            "gives another output .*no number at all",
        ),
        (lambda layer: layer.output.LayerNorm.bias.data.add_(1e-3), None),
    ],
)
def test_what_the_formula_does_not_cover_is_refused(change, message):
    layer, hidden, _ = layer_and_state(0, 2, 0, 4, False, "gelu", 1.0)
    change(layer)
    if message is None:  # a change of the weights is not one of the form
        LayerJacobian(layer, hidden)
        return
    with pytest.raises(ValueError, match=message):
        LayerJacobian(layer, hidden)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_small_change_of_the_output_is_seen(dtype, masked):
    """Well above rounding, far below what a reader would see; with and without a mask."""
    layer, hidden, _ = layer_and_state(0, 2, 0, 4, False, "gelu", 1.0)
    layer, hidden = layer.to(dtype), hidden.to(dtype)
    mask = torch.tensor([1, 1, 0, 1]) if masked else None
    LayerJacobian(layer, hidden, mask)
    small = 1e4 * torch.finfo(dtype).eps
    layer.register_forward_hook(
        lambda _m, _a, out: replace_hidden_state(
            out, hidden_state(out) + small * hidden_state(out).abs().max()
        )
    )
    with pytest.raises(ValueError, match="gives another output"):
        LayerJacobian(layer, hidden, mask)


def test_the_output_that_is_given_is_the_one_that_is_checked():
    layer, hidden, _ = layer_and_state(0, 2, 0, 4, False, "gelu", 1.0)
    with torch.no_grad():
        output = hidden_state(layer(hidden[None]))[0]
    assert torch.equal(
        LayerJacobian(layer, hidden, output=output).squared_norms(),
        LayerJacobian(layer, hidden).squared_norms(),
    )
    for wrong in (output + 1e-3, output[:3], output * math.nan):
        with pytest.raises(ValueError, match="gives another output"):
            LayerJacobian(layer, hidden, output=wrong)


def test_a_score_bias_is_part_of_the_scores():
    """Against autograd through attention written out, with a bias per head as MPNet has it."""
    layer, hidden, _ = layer_and_state(4, 2, 0, 5, False, "gelu", 1.0)
    bias = torch.randn(2, 5, 5, dtype=torch.float64)
    truth = autograd(layer, hidden, None, bias)
    with torch.no_grad():
        output = hidden_state(layer(hidden[None], bias[None]))[0]
    J = LayerJacobian(layer, hidden, score_bias=bias, output=output)
    assert relative(J.squared_norms(), truth.square().sum((2, 3))) < 1e-10
    with pytest.raises(ValueError, match="gives another output"):
        LayerJacobian(layer, hidden, output=output)


def test_a_decoder_is_refused():
    model = tiny_bert(is_decoder=True)
    with pytest.raises(ValueError, match="BertLayer gives another output .*causal"):
        layer_influence(model, {"input_ids": torch.tensor([[2, 7, 11]])})
