"""Questions beyond one position of one sentence, as a researcher writes them; against autograd in float64.

Five of them are short scripts on every kind of model below: two positions, a prediction, a step from
one word to another, noise on a key at every position, and saved to come back to.
"""

import json

import pytest
import torch
import transformers
from conftest import equal
from test_other_models import DISTIL, WIDE, build

from helpers import (
    downstream_influence,
    edit,
    encode,
    layer_influence,
    layer_stack,
    load_bert,
    load_influence,
    measure,
    noise_response,
    record,
    upstream_influence,
)

IDS = {"input_ids": torch.tensor([[5, 7, 11, 6]])}
KINDS = {
    "BERT": ("BertModel", "BertConfig", WIDE, "encoder.layer.1"),
    "DistilBERT": ("DistilBertModel", "DistilBertConfig", DISTIL, "transformer.layer.1"),
    "ALBERT": ("AlbertModel", "AlbertConfig", WIDE | {"embedding_size": 8}, "encoder"),
    "with a head": (
        "BertForSequenceClassification",
        "BertConfig",
        WIDE | {"num_labels": 3},
        "encoder.layer.1",
    ),
}
PARTS = {  # query, key or value of layer 0; ALBERT has one module for all layers: its first run
    "BERT": "encoder.layer.0.attention.self.{}",
    "DistilBERT": "transformer.layer.0.attention.{:.1}_lin",
    "ALBERT": "encoder.albert_layer_groups.0.albert_layers.0.attention.{}[0]",
    "with a head": "encoder.layer.0.attention.self.{}",
}


def built(kind, **sizes):
    name, config, own, last = KINDS[kind]
    return build(name, config, own | sizes).double(), last


@pytest.fixture(params=KINDS)
def kind(request):
    return built(request.param)


def vector(output):
    """The sentence vector: the mean over tokens, of length 1."""
    hidden = output[0]
    hidden = hidden.mean(1) if hidden.ndim == 3 else hidden
    return hidden / hidden.norm(dim=-1, keepdim=True)


def number(output):
    """One number for each row, [rows]."""
    return output[0].flatten(1)[:, 0]


def derivative(model, function, site="embeddings", inputs=IDS):
    """[answer, position, hidden]: of a function of the output, by what a site puts out, by autograd."""
    with record(model, site) as trace:
        model(**inputs)

    def answer(state):
        with edit(model, {site: lambda _: state}):
            return function(model(**inputs)).flatten()

    (state,) = trace.values()
    return torch.autograd.functional.jacobian(answer, state)[:, 0]


def within(found, truth, errors=5):
    """As near as the standard error says, which is small."""
    assert ((found.values - truth).abs() <= errors * found.stderr + 1e-9).all()
    assert (found.stderr <= 0.2 * truth.max()).all() and truth.max() > 0


def test_two_positions_shared_or_not(kind):
    model, last = kind
    options = dict(position=[1, 2], observe=last, samples=3000, sigma=1e-5)
    apart = noise_response(model, IDS, **options)
    alike = noise_response(model, IDS, shared=True, **options)

    J = by_state(model, last)
    within(apart, J[:, :, [1, 2]].square().sum((1, 2, 3))[None, :, None])
    within(alike, J[:, :, [1, 2]].sum(2).square().sum((1, 2))[None, :, None])
    assert apart.sources == ["1+2"] and apart.how["shared"] is False and alike.how["shared"]


def by_state(model, last, site="embeddings"):
    """[target, out, position, hidden]: `last` by what a site puts out in its first run, by autograd."""
    with record(model, site) as trace:
        model(**IDS)
    (states,) = trace.firings.values()

    def answer(state):
        first = iter([state])
        with (
            edit(model, {site: lambda hidden: next(first, hidden)}),
            record(model, last, detach=False) as after,
        ):
            model(**IDS)
        return after[last][0]

    return torch.autograd.functional.jacobian(answer, states[0])[:, :, 0]


@pytest.mark.parametrize("name", KINDS)
def test_the_interaction_of_two_positions(name):
    """Against the mixed second derivative; the same from σ = 10⁻⁴ to 10⁻²."""
    model, _ = built(name, attn_implementation="eager")
    ask = {"position": (1, 2), "interaction": True, "observe": vector, "samples": 4000}
    found = [noise_response(model, IDS, **ask, sigma=sigma) for sigma in (1e-4, 1e-3, 1e-2)]
    with record(model, "embeddings") as trace:
        model(**IDS)
    (state,) = trace.values()

    def gradient(moved, k):
        with edit(model, {"embeddings": lambda _: moved}):
            answer = vector(model(**IDS))[0, k]
        return torch.autograd.grad(answer, moved, create_graph=True)[0][0, 1]

    mixed = [
        torch.autograd.functional.jacobian(lambda moved, k=k: gradient(moved, k), state)[:, 0, 2]
        for k in range(vector(model(**IDS)).shape[1])
    ]
    for each in found:
        within(each, torch.stack(mixed).square().sum())


def test_what_moves_a_prediction_or_the_sentence_vector(kind):
    """By noise and, from the exact side, backwards; a site and a function of the output alike."""
    model, _ = kind
    truth = derivative(model, vector).square().sum((0, 2))
    pushed = downstream_influence(
        model, IDS, observe=vector, method="noise", samples=2000, sigma=1e-5
    )
    within(pushed, truth[None, None])
    one = noise_response(model, IDS, position=2, observe=number, samples=2000, sigma=1e-5)
    within(one, derivative(model, number).square().sum((0, 2))[2])
    back = upstream_influence(model, IDS, observe=vector, method="exact")
    assert (
        torch.allclose(back.values[0, 0], truth, rtol=1e-8) or "albert" in str(type(model)).lower()
    )
    assert back.targets == ["vector"] and back.values.shape[1:] == (1, 4)
    if hasattr(model, "classifier"):
        logits = derivative(model, lambda output: output.logits).square().sum((0, 2))
        back = upstream_influence(model, IDS, observe="classifier", method="exact")
        assert torch.allclose(back.values[0, 0], logits, rtol=1e-8)
        one = noise_response(model, IDS, position=2, observe="classifier", samples=2000, sigma=1e-5)
        within(one, logits[2].view(1, 1, 1))
        assert one.targets == ["classifier"]


def test_along_the_step_from_one_word_to_another_in_every_method(kind):
    model, last = kind
    other = IDS["input_ids"].clone()
    other[0, 2] = 40
    here, there = (layer_stack(model, {"input_ids": ids}) for ids in (IDS["input_ids"], other))
    direction = there.states[0][2] - here.states[0][2]
    exact = layer_influence(model, IDS, covariance=direction)
    for method, samples in (("noise", 2000), ("jvp", 1)):
        options = {"sigma": 1e-5} if method == "noise" else {}
        found = layer_influence(
            model, IDS, method=method, samples=samples, covariance=direction, **options
        )
        near = 5 * found.stderr + 1e-9
        assert ((found.values - exact.values).abs() <= near).all()
    one = layer_influence(model, IDS, layers=[1], covariance=direction.outer(direction)[None])
    assert torch.allclose(one.values[0], exact.values[1], rtol=1e-9)
    along = torch.einsum("jtph,h->jtp", by_state(model, last), direction).square().sum(1)
    down = downstream_influence(model, IDS, inject=None, method="exact", covariance=direction)
    up = upstream_influence(model, IDS, method="exact", covariance=direction)
    assert torch.allclose(down.values[-1], up.values[0], rtol=1e-9)
    if "albert" not in str(type(model)).lower():  # there the embeddings are mapped first
        assert torch.allclose(down.values[-1], along, rtol=1e-9)
        noise = noise_response(
            model, IDS, position=2, observe=last, covariance=direction, samples=4000, sigma=1e-5
        )
        within(noise, along[None, :, [2]])


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("part", ["query", "key", "value"])
def test_key_noise_at_every_position(name, part):
    (model, last), site = built(name), PARTS[name].format(part)
    found = downstream_influence(model, IDS, inject=site, method="noise", samples=3000, sigma=1e-5)
    assert len(found.sites) == 2
    J = by_state(model, last, site.partition("[")[0])
    truth = J.square().sum((1, 3))
    assert ((found.values[-1] - truth).abs() <= 5 * found.stderr[-1] + 1e-12).all()
    assert (found.stderr[-1] <= 0.2 * truth.max()).all() and truth.max() > 0
    others = ~torch.eye(4, dtype=torch.bool)
    assert (found.values[0][others] == 0).all() == (part == "query")


def test_save_and_come_back(tmp_path, kind):
    model, last = kind
    path, ask = tmp_path / "one.safetensors", {"samples": 3000, "sigma": 1e-5}
    found = noise_response(model, IDS, position=[1, 2], observe=last, **ask)
    back = load_influence(found.save(path))
    assert torch.equal(back.values, found.values) and equal(back, found)
    truth = by_state(model, last)[:, :, [1, 2]].square().sum((1, 2, 3))
    within(back, truth[None, :, None])


def test_what_a_file_tells(tmp_path, tiny):
    for found in (
        layer_influence(tiny, IDS),
        downstream_influence(tiny, IDS, samples=3, seed=4),
        noise_response(tiny, IDS, position=[0, 1], observe="pooler", samples=1),
    ):
        back = load_influence(found.save(tmp_path / "one.safetensors"))
        assert torch.equal(back.values, found.values) and equal(back, found)
    assert back.how["sigma"] == 0.01 and back.how["torch"] == torch.__version__
    assert back.how["text"] == "0 1 2 3" and back.how["transformers"] == transformers.__version__
    json.dumps(back.how)
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    save_file({"values": torch.ones(1)}, other)
    with pytest.raises(ValueError, match="expected a file written by Influence.save"):
        load_influence(other)


def test_many_sentences_go_on_where_they_were_interrupted(tmp_path):
    model, tokenizer = load_bert(pretrained=False)
    sentences = [encode(tokenizer, text) for text in ("One.", "Two words.", "Now three words.")]
    calls = []

    def experiment(sentence):
        calls.append(sentence)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return layer_influence(model, sentence, layers=[0], method="jvp", samples=2)

    with pytest.raises(KeyboardInterrupt):
        measure(experiment, sentences, tmp_path / "maps")
    paths = measure(experiment, sentences, tmp_path / "maps")
    assert len(calls) == 5  # the first again, to compare how it came about
    assert [path.name for path in paths][-1] == "00002.safetensors"
    assert [load_influence(path).tokens for path in paths] == [s.tokens for s in sentences]
    with pytest.raises(ValueError, match=r"choose another folder"):
        measure(experiment, sentences[::-1], tmp_path / "maps")


def test_words():
    model, tokenizer = load_bert(pretrained=False)
    sentence = encode(tokenizer, "Tokenization of words.")
    found = layer_influence(model, sentence, method="jvp", layers=[0, 1], samples=2)
    words = found.words()
    assert sentence.tokens[1:3] == ["token", "##ization"] and words.tokens[1] == "tokenization"
    assert torch.allclose(words.values[:, 1, 2], found.values[:, 1:3, 3].sum(1))
    assert torch.allclose(words.stderr[:, 1, 1], found.stderr[:, 1:3, 1:3].sum((1, 2)))
    part = layer_influence(model, sentence, layers=[0], sources=[1, 3]).words()
    assert part.sources == [2] and part.tokens[2] == "of"  # of two pieces one was not measured
    frame = part.to_frame()
    assert list(frame["source_token"].unique()) == ["of"] and "tokenization" in set(
        frame["target_token"]
    )


def test_gradients_flow_and_the_pass_stops(tiny):
    ran = []
    with tiny.encoder.layer[1].register_forward_hook(lambda *_: ran.append(1)):
        with record(tiny, "encoder.layer.0", stop=True) as trace:
            tiny(**IDS)
            ran.append("never")
    assert not ran and trace["encoder.layer.0"].shape == (1, 4, 8)
    with edit(tiny, {"embeddings": torch.Tensor.requires_grad_}):
        with record(tiny, ["embeddings", "encoder.layer.1"], detach=False) as trace:
            tiny(**IDS)
    (gradient,) = torch.autograd.grad(trace["encoder.layer.1"][0, 2, 3], trace["embeddings"])
    assert gradient.shape == (1, 4, 8) and gradient.abs().min() > 0


DECODERS = {
    "GPT2": dict(vocab_size=50, n_embd=8, n_layer=2, n_head=2, n_positions=40),
    "Llama": WIDE | {"num_key_value_heads": 2},
}


@pytest.mark.parametrize("name", DECODERS)
def test_noise_measures_decoders(name):
    model = build(f"{name}Model", f"{name}Config", DECODERS[name]).double()
    found = layer_influence(model, IDS, method="noise", samples=2000, sigma=1e-5)
    later = torch.ones(4, 4).triu(1).bool()
    assert (found.values[:, later] == 0).all() and (found.values[:, ~later] > 0).all()
    whole = downstream_influence(model, IDS, inject=None, method="noise", samples=50)
    assert whole.values.shape == (2, 4, 4) and (whole.values[:, later] == 0).all()


def test_others_are_measured_or_refused_by_name():
    flaubert = build(
        "FlaubertModel", "FlaubertConfig", dict(vocab_size=50, emb_dim=8, n_layers=2, n_heads=2)
    )
    with pytest.raises(ValueError, match=r"leaves one of 'attentions.0'.* measure any sites"):
        layer_influence(flaubert, IDS, method="noise")
    site, later = "layer_norm_emb", "layer_norm2.*"
    found = downstream_influence(flaubert, IDS, inject=site, observe=later, method="noise")
    assert found.values.shape == (2, 4, 4) and (found.values > 0).all()
    t5 = build("T5Model", "T5Config", dict(vocab_size=50, d_model=8, d_kv=4, d_ff=16, num_layers=2))
    with pytest.raises(ValueError, match=r"wants decoder_input_ids; pass model.get_encoder\(\)"):
        layer_influence(t5, IDS, method="noise")
    found = layer_influence(t5.get_encoder(), IDS, method="noise", samples=5)
    assert found.values.shape == (2, 4, 4)
    tapas = build("TapasModel", "TapasConfig", WIDE)
    inputs = IDS | {"token_type_ids": torch.zeros(1, 4, 7).long()}
    assert layer_influence(tapas, inputs).values.shape == (2, 4, 4)


def test_padding_inside_the_model_is_refused():
    """Longformer fills its states up to a multiple of its window, so they have more positions."""
    sizes = WIDE | {"attention_window": [4, 4], "pad_token_id": 1}
    model = build("LongformerModel", "LongformerConfig", sizes).double()
    ids = {"input_ids": torch.tensor([[5, 7, 11, 6, 9]])}
    with pytest.raises(ValueError, match=r"\[rows, seq=5, hidden\] at .*, got \[1, 8, 8\]"):
        noise_response(model, ids, position=1, observe="encoder.layer.*", samples=5)


def test_rows_that_depend_on_each_other_are_refused(tiny):
    def mixed(_module, _args, output):
        return output + output.mean(0, keepdim=True) * len(output)

    with tiny.encoder.layer[0].output.register_forward_hook(mixed):
        with pytest.raises(ValueError, match="expected a forward pass that repeats itself"):
            noise_response(tiny, IDS, position=1, observe="encoder.layer.*")


def test_a_marked_sentence_is_taken_and_what_has_no_position_is_drawn_not_viewed():
    from helpers import heatmap, view
    from helpers.statistics import mark_sentence

    model, tokenizer = load_bert(pretrained=False)
    marked = mark_sentence("[Ada Lovelace|person] wrote.", tokenizer)
    found = noise_response(model, marked, position=1, observe="pooler", samples=2)
    assert found.tokens == marked.sentence.tokens and found.targets == ["pooler"]
    assert len(heatmap(found).axes) == 2
    with pytest.raises(
        ValueError, match="expected positions as targets and sources, got .'pooler'"
    ):
        view(found)
