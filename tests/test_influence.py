import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from conftest import equal, snapshot, tiny_bert

from helpers import (
    LayerJacobian,
    downstream_influence,
    layer_influence,
    layer_stack,
    noise,
    noise_response,
    record,
    sampling,
    upstream_influence,
)
from helpers.exact import sweep

MASKED = {
    "input_ids": torch.tensor([[2, 7, 11, 5, 3]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 0]]),
}
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


@pytest.mark.parametrize(
    "inputs", [{"input_ids": MASKED["input_ids"]}, MASKED], ids=["plain", "masked"]
)
def test_exact_is_what_autograd_says(exact_model, inputs):
    stack = layer_stack(exact_model, inputs)
    alone = layer_influence(exact_model, inputs)
    down = downstream_influence(exact_model, inputs, method="exact")
    middle = downstream_influence(exact_model, inputs, inject="encoder.layer.0", method="exact")
    up = upstream_influence(exact_model, inputs, observe="encoder.layer.1", method="exact")
    assert alone.stderr is None and down.stderr is None
    assert middle.sites == ["encoder.layer.1", "encoder.layer.2"] and up.sites == stack.names[:2]
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
    model = tiny_bert(
        torch.float64,
        hidden_size=64,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.1,
    )
    exact = function(model, MASKED, method="exact").values
    runs = [function(model, MASKED, **options, seed=1000 * seed) for seed in range(200)]
    assert 0.92 <= coverage(runs, exact) <= 0.98


def test_orthogonal_directions_become_exact_when_they_fill_the_space(exact_model):
    full = layer_influence(exact_model, MASKED, method="jvp", samples=8)
    assert torch.allclose(full.values, layer_influence(exact_model, MASKED).values, rtol=1e-10)
    assert (full.stderr == 0).all()
    assert torch.equal(
        layer_influence(exact_model, MASKED, method="jvp").values, full.values
    )  # 100 > hidden


def test_noise_over_the_stack_is_noise_through_the_model(exact_model):
    """The sweep from cached states against the plain way, a hook and the whole model, within their errors."""
    sweep = downstream_influence(exact_model, MASKED, method="noise", samples=4000, sigma=1e-5)
    plain = noise_response(
        exact_model, MASKED, position=1, observe="encoder.layer.*", samples=4000, sigma=1e-5, seed=9
    )
    error = (sweep.stderr[:, :, 1] ** 2 + plain.stderr[..., 0] ** 2).sqrt()
    assert ((sweep.values[:, :, 1] - plain.values[..., 0]).abs() <= 4 * error).all()


@pytest.mark.parametrize("method", ["noise", "jvp", "exact"])
def test_the_pass_size_changes_no_number(exact_model, monkeypatch, method):
    options = {} if method == "exact" else {"samples": 7}
    whole = downstream_influence(exact_model, MASKED, method=method, **options).values
    for module in (sweep, noise):
        monkeypatch.setattr(module, "TOKENS_PER_PASS", 15)
    assert torch.allclose(
        downstream_influence(exact_model, MASKED, method=method, **options).values, whole, rtol=1e-9
    )


def test_float32_on_the_real_model(minilm, sentence):
    """Every block norm of every layer within 5e-6 of the same in float64, at the same state."""
    model, _ = minilm
    stack = layer_stack(model, sentence)
    for layer, state in zip(stack.layers, stack.states, strict=True):
        single, double = (
            LayerJacobian(layer, state).squared_norms(),
            LayerJacobian(layer, state.double()).squared_norms(),
        )
        assert ((single - double).abs() / double).max() < 5e-6


def test_tokens_and_frame(minilm, sentence):
    result = layer_influence(minilm[0], sentence, method="jvp", samples=2)
    frame = result.to_frame()
    assert result.tokens == sentence.tokens and len(frame) == 6 * 13 * 13
    row = frame.query("site == 'encoder.layer.2' and target == 3 and source == 7").iloc[0]
    assert row["value"] == pytest.approx(result.values[2, 3, 7].item())
    assert row["stderr"] == pytest.approx(result.stderr[2, 3, 7].item())
    assert layer_influence(minilm[0], sentence.inputs).tokens == [str(i) for i in range(13)]


def test_a_model_without_a_stack_of_layers(tiny, ids):
    tiny.config.num_hidden_layers = 3
    for layer in tiny.encoder.layer:
        del layer.output
    with pytest.raises(
        ValueError,
        match="num_hidden_layers=3 layers, BertModel has none; noise_response works on any",
    ):
        layer_influence(tiny, ids)


def test_chosen_columns_and_rows_are_those_of_the_whole_map(exact_model):
    """Exactly so when exact; the sampled methods draw other directions, so within their errors."""
    for function, axis, method in (
        (downstream_influence, "sources", "jvp"),
        (downstream_influence, "sources", "noise"),
        (layer_influence, "sources", "noise"),
        (upstream_influence, "targets", "vjp"),
    ):
        whole, part = (
            function(exact_model, MASKED, method="exact", **c) for c in ({}, {axis: [3, 1]})
        )
        cut = whole.values[:, :, [3, 1]] if axis == "sources" else whole.values[:, [3, 1]]
        assert torch.allclose(part.values, cut, rtol=1e-12) and part.stderr is None
        assert getattr(part, axis) == [3, 1] and getattr(whole, axis) == list(range(5))
        sampled = function(exact_model, MASKED, method=method, samples=5, **{axis: [3, 1]})
        assert sampled.values.shape == sampled.stderr.shape == cut.shape
        assert ((sampled.values - cut).abs() <= 8 * sampled.stderr + 1e-9).double().mean() > 0.9
        frame = part.to_frame()
        row = frame[
            (frame[axis[:-1]] == 3) & (frame.drop(columns=["site", axis[:-1]]).iloc[:, 0] == 2)
        ].iloc[-1]
        assert row["value"] == (
            part.values[-1, 2, 0] if axis == "sources" else part.values[-1, 0, 2]
        )


def test_a_column_costs_one_place_not_all(exact_model):
    steps = []
    for sources in (None, [2]):
        downstream_influence(
            exact_model, MASKED, sources=sources, progress=lambda s, desc: steps.append(len(s)) or s
        )
    assert steps == [5, 1]


def test_every_layer_gets_its_own_noise(exact_model, monkeypatch):
    drawn = []
    normal = sampling.normal
    monkeypatch.setattr(sampling, "normal", lambda *args: drawn.append(normal(*args)) or drawn[-1])
    layer_influence(exact_model, MASKED, method="noise", samples=3)
    assert len(drawn) == 3 * 5 and len({round(x.flatten()[0].item(), 12) for x in drawn}) == 15


def test_influence_along_a_covariance(exact_model):
    """tr(J S Jᵀ) is what the blocks say; the identity changes nothing; a list has one for each layer."""
    torch.manual_seed(3)
    half = torch.randn(8, 8, dtype=torch.float64)
    S, plain = half @ half.T, layer_influence(exact_model, MASKED)
    found = layer_influence(exact_model, MASKED, covariance=torch.stack([S, 2 * S, torch.eye(8)]))
    stack = layer_stack(exact_model, MASKED)
    for layer, scale in ((0, 1), (1, 2)):
        J = torch.autograd.functional.jacobian(
            lambda h, n=layer: stack.run(n, h[None])[0], stack.states[layer]
        )
        truth = scale * torch.einsum("jaib,bc,jaic->ji", J, S, J)
        assert torch.allclose(found.values[layer], truth, rtol=1e-10)
    assert torch.allclose(found.values[2], plain.values[2], rtol=1e-12)
    with pytest.raises(ValueError, match="expected a covariance for each of 3 layers, got 2"):
        layer_influence(exact_model, MASKED, covariance=torch.stack([S, S]))
    with pytest.raises(
        ValueError,
        match=r"a covariance \[hidden=8, hidden\] or a direction \[hidden\], got \[7, 7\]",
    ):
        layer_influence(exact_model, MASKED, covariance=torch.eye(7))


def test_it_is_compared_and_shown_in_one_line(minilm, sentence):
    one, same = (layer_influence(minilm[0], sentence, layers=[1]) for _ in range(2))
    other = layer_influence(minilm[0], sentence, layers=[2])
    assert equal(one, same) and not equal(one, other)
    assert repr(one).startswith(
        "Influence(method=exact, 1 sites x 13 targets x 13 sources: [CLS] beijing is"
    )
    assert len(repr(one)) < 150 > len(repr(layer_stack(minilm[0], sentence)))


def test_two_threads_on_one_model_do_not_mix(exact_model):
    """Each takes its own thread's states: the results are those of one after the other."""
    texts = [{"input_ids": torch.tensor([[2, 7, 11 + n, 5, 3]])} for n in range(6)]
    alone = [layer_influence(exact_model, text).values for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            together = list(pool.map(lambda text: layer_influence(exact_model, text).values, texts))
            assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))

    def response(text):
        return noise_response(
            exact_model, text, position=1, observe="encoder.layer.*", samples=5
        ).values

    alone = [response(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            assert all(
                torch.equal(a, b) for a, b in zip(alone, pool.map(response, texts), strict=True)
            )


def test_another_threads_pass_in_the_middle_is_not_taken(exact_model, ids):
    """Deterministic: a second thread runs the model while the first is inside its own pass."""
    clean = layer_stack(exact_model, ids)

    def meanwhile(*_):
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=lambda: exact_model(torch.tensor([[2, 8, 9, 5, 3]])))
            other.start()
            other.join()

    with exact_model.embeddings.register_forward_hook(meanwhile):
        disturbed = layer_stack(exact_model, ids)
    assert all(torch.equal(a, b) for a, b in zip(clean.states, disturbed.states, strict=True))


def test_under_inference_mode(exact_model):
    for function in FUNCTIONS:
        plain = function(exact_model, MASKED, method="exact").values
        with torch.inference_mode():
            assert torch.equal(function(exact_model, MASKED, method="exact").values, plain)
            function(
                exact_model,
                MASKED,
                samples=2,
                method="vjp" if function is upstream_influence else "jvp",
            )


def test_exact_runs_every_layer_once(exact_model):
    """The check of the closed form uses what was recorded."""
    runs = []
    with exact_model.encoder.layer[1].register_forward_hook(lambda *_: runs.append(1)):
        layer_influence(exact_model, MASKED)
        downstream_influence(exact_model, MASKED, method="exact")
    assert len(runs) == 2


def test_a_short_name_below_a_head(ids):
    from transformers import BertForMaskedLM

    model = BertForMaskedLM(tiny_bert().config).eval()
    short, full = (
        upstream_influence(model, ids, observe=name)
        for name in ("encoder.layer.0", "bert.encoder.layer.0")
    )
    assert equal(short, full) and short.sites == ["bert.encoder.layer.0"]
    assert downstream_influence(model, ids, inject="encoder.layer.0").sites == [
        "bert.encoder.layer.1"
    ]


def test_a_mask_of_one_row_is_expanded_for_a_batch(exact_model, ids):
    """Some layers take [rows, seq] and do not broadcast [1, seq]."""
    stack = layer_stack(exact_model, ids)

    def layer(hidden, mask, flag, *, other):
        assert mask.shape == other.shape == (4, 5) and flag is None
        return hidden

    mask = torch.ones(1, 5)
    taking = replace(stack, layers=[layer], arguments=[((mask, None), {"other": mask})])
    assert taking.run(0, torch.ones(4, 5, 8)).shape == (4, 5, 8)


def test_a_layer_that_runs_twice_is_refused(tiny, ids):
    first, second = tiny.encoder.layer
    second.forward = lambda hidden, *args, **kwargs: first(hidden, *args, **kwargs)
    with pytest.raises(ValueError, match=r"to run once and in order, they ran \[2, 1\] times"):
        layer_influence(tiny, ids)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(ids, dtype):
    model = tiny_bert(dtype)
    for function in FUNCTIONS:
        with pytest.raises(
            ValueError, match=rf"float32 or float64, got {dtype}, .*call model.float"
        ):
            function(model, ids)
    with pytest.raises(ValueError, match=rf"float32 or float64, got {dtype}"):
        LayerJacobian(model.encoder.layer[0], torch.ones(5, 8))


def test_a_compiled_model_is_refused(tiny, ids):
    whole = torch.compile(tiny, backend="eager")
    with pytest.raises(ValueError, match="OptimizedModule, which holds one; pass model._orig_mod"):
        layer_influence(whole, ids)
    tiny.encoder.layer[0].compile(backend="eager")
    with pytest.raises(ValueError, match="expected a model as it was before torch.compile"):
        layer_influence(tiny, ids)


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


def test_along_one_direction_nothing_is_left_to_chance(exact_model, ids):
    """All directions of one are one sample, of which there is no variance."""
    found = layer_influence(exact_model, ids, method="jvp", covariance=torch.ones(8))
    assert found.stderr.eq(0).all()
