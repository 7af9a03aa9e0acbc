import pytest
import torch
from conftest import snapshot, tiny_bert

from helpers import (
    LayerJacobian,
    downstream_influence,
    influence,
    layer_influence,
    layer_stack,
    noise_response,
    record,
    upstream_influence,
)

MASKED = {"input_ids": torch.tensor([[2, 7, 11, 5, 3]]), "attention_mask": torch.tensor([[1, 1, 1, 1, 0]])}
FUNCTIONS = [layer_influence, downstream_influence, upstream_influence]


@pytest.fixture
def exact_model():
    return tiny_bert(torch.float64, num_hidden_layers=3)


def through(stack, first, last):
    """Norms [target, source] of layers first..last composed, by autograd through the layers themselves."""

    def run(hidden):
        hidden = hidden[None]
        for number in range(first, last + 1):
            hidden = stack.run(number, hidden)
        return hidden[0]

    return torch.autograd.functional.jacobian(run, stack.states[first]).square().sum((1, 3))


def test_the_stack_is_the_models_own_pass(minilm, sentence):
    model, _ = minilm
    stack = layer_stack(model, sentence)
    with record(model, "encoder.layer.*") as trace:
        model(**sentence.inputs)
    for number, name in enumerate(stack.names):
        assert torch.equal(stack.run(number, stack.states[number][None]), trace[name])


@pytest.mark.parametrize("inputs", [{"input_ids": MASKED["input_ids"]}, MASKED], ids=["plain", "masked"])
def test_exact_is_what_autograd_says(exact_model, inputs):
    stack = layer_stack(exact_model, inputs)
    alone = layer_influence(exact_model, inputs)
    down = downstream_influence(exact_model, inputs, method="exact")
    middle = downstream_influence(exact_model, inputs, inject="encoder.layer.0", method="exact")
    up = upstream_influence(exact_model, inputs, observe="encoder.layer.1", method="exact")
    assert alone.stderr is None and down.stderr is None
    assert middle.layers == ["encoder.layer.1", "encoder.layer.2"] and up.layers == stack.names[:2]
    for layer in range(3):
        assert torch.allclose(alone.values[layer], through(stack, layer, layer), rtol=1e-10)
        assert torch.allclose(down.values[layer], through(stack, 0, layer), rtol=1e-10)
    assert torch.allclose(middle.values[1], through(stack, 1, 2), rtol=1e-10)
    assert torch.allclose(up.values[0], through(stack, 0, 1), rtol=1e-10)
    assert torch.allclose(up.values[1], through(stack, 1, 1), rtol=1e-10)


def coverage(runs, exact):
    """Share of (repetition, layer, target, source) whose 95 % interval holds the exact value; zero blocks left out."""
    inside = [(run.values - exact).abs() <= 1.96 * run.stderr for run in runs]
    return torch.stack(inside)[:, exact > 0].double().mean().item()


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (layer_influence, dict(method="noise", sigma=1e-5, samples=60)),
        (layer_influence, dict(method="jvp", samples=30)),
        (downstream_influence, dict(method="noise", sigma=1e-5, samples=60)),
        (downstream_influence, dict(method="jvp", samples=30)),
        (upstream_influence, dict(method="vjp", samples=30)),
    ],
)
def test_standard_errors_are_right(function, options):
    """200 repetitions: the 95 % interval covers the exact value 92 to 98 % of the time."""
    model = tiny_bert(torch.float64, hidden_size=64, num_attention_heads=4, intermediate_size=64, initializer_range=0.1)
    exact = function(model, MASKED, method="exact").values
    runs = [function(model, MASKED, **options, seed=1000 * seed) for seed in range(200)]
    assert 0.92 <= coverage(runs, exact) <= 0.98


def test_orthogonal_directions_become_exact_when_they_fill_the_space(exact_model):
    full = layer_influence(exact_model, MASKED, method="jvp", samples=8)
    assert torch.allclose(full.values, layer_influence(exact_model, MASKED).values, rtol=1e-10)
    assert (full.stderr == 0).all()
    assert torch.equal(layer_influence(exact_model, MASKED, method="jvp").values, full.values)  # 100 > hidden


def test_noise_over_the_stack_is_noise_through_the_model(exact_model):
    """The sweep from cached states against the plain way, a hook and the whole model, within their errors."""
    sweep = downstream_influence(exact_model, MASKED, method="noise", samples=4000, sigma=1e-5)
    plain = noise_response(exact_model, MASKED, position=1, observe="encoder.layer.*", samples=4000, sigma=1e-5, seed=9)
    error = (sweep.stderr[:, :, 1] ** 2 + plain.stderr**2).sqrt()
    assert ((sweep.values[:, :, 1] - plain.mean).abs() <= 4 * error).all()


@pytest.mark.parametrize("method", ["noise", "jvp", "exact"])
def test_the_pass_size_changes_no_number(exact_model, monkeypatch, method):
    options = {} if method == "exact" else {"samples": 7}
    whole = downstream_influence(exact_model, MASKED, method=method, **options).values
    monkeypatch.setattr(influence, "TOKENS_PER_PASS", 15)
    assert torch.allclose(downstream_influence(exact_model, MASKED, method=method, **options).values, whole, rtol=1e-9)


def test_low_precision_tangents(minilm, sentence):
    model, _ = minilm
    plain = downstream_influence(model, sentence, samples=8)
    low = downstream_influence(model, sentence, samples=8, dtype=torch.bfloat16)
    assert low.values.dtype == torch.float32
    assert ((low.values - plain.values).abs() / plain.values).median() < 0.01


def test_float32_on_the_real_model(minilm, sentence):
    """Every block norm of every layer within 5e-6 of the same in float64, at the same state."""
    model, _ = minilm
    stack = layer_stack(model, sentence)
    for layer, state in zip(stack.layers, stack.states, strict=True):
        single, double = LayerJacobian(layer, state).norms(), LayerJacobian(layer, state.double()).norms()
        assert ((single - double).abs() / double).max() < 5e-6


def test_tokens_and_frame(minilm, sentence):
    result = layer_influence(minilm[0], sentence, method="jvp", samples=2)
    frame = result.to_frame()
    assert result.tokens == sentence.tokens and len(frame) == 6 * 13 * 13
    row = frame.query("layer == 'encoder.layer.2' and target == 3 and source == 7").iloc[0]
    assert row["value"] == pytest.approx(result.values[2, 3, 7].item())
    assert row["stderr"] == pytest.approx(result.stderr[2, 3, 7].item())
    assert layer_influence(minilm[0], sentence.inputs).tokens == [str(i) for i in range(13)]


def test_a_model_without_a_stack_of_layers(ids):
    from transformers import AlbertConfig, AlbertModel

    model = AlbertModel(AlbertConfig(vocab_size=50, embedding_size=8, hidden_size=8, num_attention_heads=2)).eval()
    with pytest.raises(ValueError, match="AlbertModel has none .*noise_response works on any site"):
        layer_influence(model, ids)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_nothing_is_left_behind_when_any_module_fails(tiny, ids, function):
    def fail(*_):
        raise RuntimeError("injected")

    methods = ["exact", "vjp"] if function is upstream_influence else ["exact", "noise", "jvp"]
    for name in ("encoder.layer.0.attention.self.query", "encoder.layer.1.output.dense", "encoder"):
        for method in methods:
            with tiny.get_submodule(name).register_forward_hook(fail):
                before = snapshot(tiny)
                with pytest.raises(RuntimeError, match="injected"):
                    function(tiny, ids, method=method)
                assert snapshot(tiny) == before
            before = snapshot(tiny)
            function(tiny, ids, method=method)
            assert snapshot(tiny) == before
