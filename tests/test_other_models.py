"""Encoders besides BertModel, from random tiny configurations: what works, and what is refused by name."""

import pytest
import torch
import transformers
from conftest import snapshot

from helpers import (
    downstream_influence,
    edit,
    layer_influence,
    layer_stack,
    module_tree,
    noise_response,
    record,
    shape_table,
    upstream_influence,
)

IDS = {"input_ids": torch.tensor([[5, 7, 11, 6]]), "attention_mask": torch.tensor([[1, 1, 0, 1]])}
SIZES = dict(vocab_size=50, max_position_embeddings=40, hidden_size=8, num_attention_heads=2, num_hidden_layers=2)
WIDE = SIZES | {"intermediate_size": 16}
BERT = (
    ("BertModel", "BertConfig", WIDE),
    ("BertForMaskedLM", "BertConfig", WIDE),
    ("BertForSequenceClassification", "BertConfig", WIDE),
    ("BertForTokenClassification", "BertConfig", WIDE),
    ("BertForQuestionAnswering", "BertConfig", WIDE),
    ("RobertaModel", "RobertaConfig", WIDE),
    ("RobertaForMaskedLM", "RobertaConfig", WIDE),
    ("ElectraModel", "ElectraConfig", WIDE | {"embedding_size": 6}),
    ("ElectraForPreTraining", "ElectraConfig", WIDE | {"embedding_size": 8}),
)
OTHERS = (  # class, configuration, sizes, where its embeddings and its layers are
    (
        "DistilBertModel",
        "DistilBertConfig",
        dict(vocab_size=50, max_position_embeddings=40, dim=8, n_heads=2, n_layers=2, hidden_dim=16),
        ("embeddings", "transformer.layer.*"),
    ),
    (
        "AlbertModel",
        "AlbertConfig",
        WIDE | {"embedding_size": 8},
        ("embeddings", "encoder"),
    ),
    (
        "DebertaV2Model",
        "DebertaV2Config",
        WIDE | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        ("embeddings", "encoder.layer.*"),
    ),
    ("MPNetModel", "MPNetConfig", WIDE, ("embeddings", "encoder.layer.*")),
)


def build(name, config, sizes):
    torch.manual_seed(0)
    model = getattr(transformers, name)(getattr(transformers, config)(**sizes, initializer_range=0.5))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("name", "config", "sizes"), BERT, ids=[name for name, _, _ in BERT])
def test_everything_works_on_bert_and_its_like(name, config, sizes):
    model = build(name, config, sizes)
    before = snapshot(model)
    with edit(model, {"encoder.layer.0": lambda h: h * 2}), record(model, "encoder.layer.*") as trace:
        model(**IDS)
    assert len(trace) == 2 and all(site.endswith(("encoder.layer.0", "encoder.layer.1")) for site in trace)
    assert len(shape_table(model, IDS, depth=9)) > 30 and len(module_tree(model)) > 40
    exact = layer_influence(model, IDS)
    sampled = layer_influence(model, IDS, method="noise", samples=2000, sigma=1e-3)
    assert ((sampled.values - exact.values).abs() <= 5 * sampled.stderr + 1e-4 * exact.values.max()).all()
    first = downstream_influence(model, IDS, inject="encoder.layer.0", method="exact")
    assert torch.allclose(first.values[0], exact.values[1], rtol=1e-3, atol=1e-4)
    back = upstream_influence(model, IDS, method="exact")
    assert torch.allclose(back.values[1], exact.values[1], rtol=1e-3, atol=1e-4)
    assert snapshot(model) == before


@pytest.mark.parametrize(("name", "limit"), [("Bert", 40), ("Roberta", 38)])
def test_the_longest_input_is_as_long_as_the_model_can_take(name, limit):
    """RoBERTa's positions start after its padding index, 1: two of its rows are never used."""
    model = build(f"{name}Model", f"{name}Config", WIDE)
    assert layer_stack(model, {"input_ids": torch.full((1, limit), 5)}).states[0].shape == (limit, 8)
    with pytest.raises(ValueError, match=f"at most {limit} tokens, .* got {limit + 1}"):
        layer_stack(model, {"input_ids": torch.full((1, limit + 1), 5)})
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))


@pytest.mark.parametrize(("name", "config", "sizes", "sites"), OTHERS, ids=[row[0] for row in OTHERS])
def test_other_encoders_can_be_hooked_and_measured_by_noise(name, config, sizes, sites):
    model = build(name, config, sizes)
    before, (embeddings, layers) = snapshot(model), sites
    with record(model, [embeddings, layers]) as trace:
        model(**IDS)
    with edit(model, {embeddings: lambda h: h * 0}), record(model, layers) as changed:
        model(**IDS)
    last = list(changed)[-1]
    assert trace[last].shape == (1, 4, 8) and not torch.equal(trace[last], changed[last])
    assert len(shape_table(model, IDS, depth=9)) > 20 and len(module_tree(model)) > 20
    response = noise_response(model, IDS, inject=embeddings, position=1, observe=layers, samples=20)
    assert (response.mean[:, [0, 1, 3]] > 0).all() and response.stderr.isfinite().all()
    with pytest.raises(ValueError, match=r"expected .*noise") as refusal:
        layer_influence(model, IDS)
    assert any(part in str(refusal.value) for part in (name, name.removesuffix("Model"), "Transformer", "MPNet"))
    if layers != "encoder":  # a stack of layers, each of its own
        assert layer_influence(model, IDS, method="noise", samples=5).values.shape == (2, 4, 4)
    assert snapshot(model) == before
