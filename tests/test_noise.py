import nbformat
import pytest
import torch
from conftest import equal, snapshot, tiny_bert
from nbclient import NotebookClient

from helpers import noise, noise_response, record

LAYERS = "encoder.layer.*"


def jacobian_norms(model, inputs, position):
    """The truth: ‖∂(layer output)/∂(embedding at position)‖² by autograd, [layer, target]."""
    with record(model, "embeddings") as trace:
        model(**inputs)
    clean = trace["embeddings"]

    def after(vector):
        def put(_module, _args, output):
            return torch.cat(
                [output[:, :position], vector[None, None], output[:, position + 1 :]], 1
            )

        with model.embeddings.register_forward_hook(put):
            return torch.stack(model(**inputs, output_hidden_states=True).hidden_states[1:])[:, 0]

    jacobian = torch.autograd.functional.jacobian(after, clean[0, position])
    return jacobian.square().sum((-1, -2))


@pytest.mark.parametrize("mask", [None, [1, 1, 1, 0, 1]])
def test_small_noise_estimates_the_jacobian(ids, mask):
    model = tiny_bert(torch.float64)
    inputs = ids if mask is None else ids | {"attention_mask": torch.tensor([mask])}
    response = noise_response(model, inputs, position=2, observe=LAYERS, sigma=1e-6, samples=20_000)
    exact = jacobian_norms(model, inputs, 2)
    z = (response.values[..., 0] - exact) / response.stderr[..., 0]
    assert z.abs().max() < 4 and z.abs().max() > 0.01
    assert (
        response.stderr[..., 0] / exact
    ).max() < 0.02  # tight enough for a factor of 1.1 to fail


def test_pairs_keep_their_segments(minilm, sentence):
    """One sample by hand: two plain forward passes, with and without the same noise."""
    from helpers import edit, encode

    model, tokenizer = minilm
    pair = encode(tokenizer, "Who spoke?", "The man.")
    response = noise_response(model, pair, position=3, observe=LAYERS, sigma=0.1, samples=1, seed=5)
    direction = torch.randn(1, 384, generator=torch.Generator().manual_seed(5))

    def move(hidden):
        hidden = hidden.clone()
        hidden[:, 3] += 0.1 * direction
        return hidden

    with record(model, LAYERS) as clean:
        model(**pair.inputs)
    with edit(model, {"embeddings": move}), record(model, LAYERS) as moved:
        model(**pair.inputs)
    by_hand = torch.stack([(moved[s] - clean[s])[0].square().sum(-1) / 0.01 for s in clean])
    assert torch.allclose(response.values[..., 0], by_hand.double(), rtol=1e-3)


def test_one_injection_serves_all_sites_and_none_before_it(tiny, ids):
    response = noise_response(
        tiny, ids, inject="encoder.layer.0", position=1, observe=["embeddings", LAYERS]
    )
    assert response.sites == ["embeddings", "encoder.layer.0", "encoder.layer.1"]
    assert (response.values[..., 0][0] == 0).all()
    others = [0, 2, 3, 4]
    assert (response.values[..., 0][1, others] == 0).all() and response.values[..., 0][
        1, 1
    ] == pytest.approx(8, rel=0.3)
    assert (response.values[..., 0][2] > 0).all()


def test_standard_error_is_that_of_repetitions(tiny, ids):
    runs = [
        noise_response(tiny, ids, position=1, observe=LAYERS, samples=30, seed=s)
        for s in range(100)
    ]
    spread = torch.stack([run.values for run in runs]).std(0)
    claimed = torch.stack([run.stderr for run in runs]).mean(0)
    assert torch.allclose(spread, claimed, rtol=0.3)


def test_the_seed_decides_and_the_pass_size_does_not(ids, monkeypatch):
    model = tiny_bert(torch.float64)
    options = dict(position=1, observe=LAYERS, samples=17)
    first = noise_response(model, ids, **options, seed=3)
    assert not torch.equal(first.values, noise_response(model, ids, **options, seed=4).values)
    monkeypatch.setattr(noise, "TOKENS_PER_PASS", 20)
    split = noise_response(model, ids, **options, seed=3)
    assert torch.allclose(first.values, split.values, rtol=1e-9) and torch.allclose(
        first.stderr, split.stderr, rtol=1e-9
    )


def test_one_sample_has_no_standard_error(tiny, ids):
    assert noise_response(tiny, ids, position=0, observe=LAYERS, samples=1).stderr.isnan().all()


def test_nothing_is_left_behind(tiny, ids):
    before = snapshot(tiny)
    noise_response(tiny, ids, position=1, observe=LAYERS)
    assert snapshot(tiny) == before


def test_the_same_under_inference_mode(tiny, ids):
    options = dict(position=1, observe=LAYERS, samples=3)
    outside = noise_response(tiny, ids, **options)
    with torch.inference_mode():
        assert equal(noise_response(tiny, ids, **options), outside)
        inside = {"input_ids": ids["input_ids"].clone()}
    assert equal(noise_response(tiny, inside, **options), outside)


def test_responses_print_in_a_line(tiny, ids):
    first, same, other = (
        noise_response(tiny, ids, position=0, observe=LAYERS, samples=s) for s in (1, 1, 2)
    )
    assert first.stderr.isnan().all() and equal(first, same) and not equal(first, other)
    how = "method=noise, inject=embeddings, sigma=0.01, samples=1, seed=0"
    assert repr(first) == f"Influence({how}, 2 sites x 5 targets x 1 sources: 0 1 2 3 4)"


@pytest.mark.parametrize("disabled", [False, True])
def test_a_bar_in_a_notebook_is_the_notebooks_own(disabled, monkeypatch):
    """A text bar would leave a box for stderr behind; with TQDM_DISABLE=1 there is nothing at all."""
    monkeypatch.setenv("TQDM_DISABLE", "1") if disabled else monkeypatch.delenv(
        "TQDM_DISABLE", raising=False
    )
    cell = "from helpers.noise import PROGRESS\nsum(PROGRESS(range(3), desc='noise', delay=0))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    NotebookClient(notebook, kernel_name="python3").execute()
    kinds = [sorted(output.data) for output in notebook.cells[0].outputs]  # a stream has no data
    bar = ["application/vnd.jupyter.widget-view+json", "text/plain"]
    assert kinds == ([["text/plain"]] if disabled else [bar, ["text/plain"]])


def test_a_pass_ends_with_what_is_observed(tiny, ids):
    ran = []
    with tiny.encoder.layer[1].register_forward_hook(lambda *_: ran.append(1)):
        noise_response(tiny, ids, position=1, observe="encoder.layer.0", samples=5)
    assert len(ran) == 1, "the first pass finds out what runs"
