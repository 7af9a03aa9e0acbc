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
SIZES = dict(
    vocab_size=50,
    max_position_embeddings=40,
    hidden_size=8,
    num_attention_heads=2,
    num_hidden_layers=2,
)
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
DISTIL = dict(
    vocab_size=50, max_position_embeddings=40, dim=8, n_heads=2, n_layers=2, hidden_dim=16
)
EXACT = {  # architectures that the adapter reads; sizes as far as they are not WIDE
    "Bert": {},
    "Roberta": {},
    "XLMRoberta": {},
    "Camembert": {},
    "Electra": {"embedding_size": 6},
    "Ernie": {},
    "RemBert": {"input_embedding_size": 8, "bos_token_id": 1, "eos_token_id": 2},
    "Data2VecText": {},
    "LayoutLM": {},
    "MPNet": {},
    "DistilBert": DISTIL,
    "Albert": {"embedding_size": 6},
    "Albert, two groups": {
        "embedding_size": 6,
        "num_hidden_layers": 4,
        "num_hidden_groups": 2,
        "inner_group_num": 2,
    },
}
GROUPED = dict(
    embedding_size=8, **{f"{part}_groups": 1 for part in ("q", "k", "v", "post_attention")}
)
REFUSED = {  # and what is said of them; "noise" measures those with True
    "RoFormer": (
        {"embedding_size": 8},
        "RoFormerLayer rotates queries and keys",
        True,
    ),
    "DebertaV2": (
        {"relative_attention": True, "pos_att_type": ["p2c"]},
        "DebertaV2Layer has, of BERT's, no .'att",
        True,
    ),
    "MobileBert": (
        {"embedding_size": 8, "intra_bottleneck_size": 8},
        "a LayerNorm at .* got .*NoNorm",
        True,
    ),
    "ConvBert": ({"embedding_size": 8}, r"query of ConvBertLayer to be 8 x 8, got \(4, 8\)", True),
    "SqueezeBert": (
        GROUPED | {"intermediate_groups": 1, "output_groups": 1},
        "run once and in order, they ran",
        False,
    ),
    "RobertaPreLayerNorm": (
        {},
        "RobertaPreLayerNormLayer has, of BERT's, no .'attention.output.LayerNorm'",
        True,
    ),
    "FNet": ({}, "FNetLayer has, of BERT's, no", True),
}


def build(name, config, sizes):
    torch.manual_seed(0)
    model = getattr(transformers, name)(
        getattr(transformers, config)(**sizes, initializer_range=0.5)
    )
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize(("name", "config", "sizes"), BERT, ids=[name for name, _, _ in BERT])
def test_everything_works_on_bert_and_its_like(name, config, sizes):
    model = build(name, config, sizes)
    before = snapshot(model)
    with (
        edit(model, {"encoder.layer.0": lambda h: h * 2}),
        record(model, "encoder.layer.*") as trace,
    ):
        model(**IDS)
    assert len(trace) == 2 and all(
        site.endswith(("encoder.layer.0", "encoder.layer.1")) for site in trace
    )
    assert len(shape_table(model, IDS, depth=9)) > 30 and len(module_tree(model)) > 40
    exact = layer_influence(model, IDS)
    sampled = layer_influence(model, IDS, method="noise", samples=2000, sigma=1e-3)
    assert (
        (sampled.values - exact.values).abs() <= 5 * sampled.stderr + 1e-4 * exact.values.max()
    ).all()
    first = downstream_influence(model, IDS, inject="encoder.layer.0", method="exact")
    assert torch.allclose(first.values[0], exact.values[1], rtol=1e-3, atol=1e-4)
    back = upstream_influence(model, IDS, method="exact")
    assert torch.allclose(back.values[1], exact.values[1], rtol=1e-3, atol=1e-4)
    assert snapshot(model) == before


@pytest.mark.parametrize(("name", "limit"), [("Bert", 40), ("Roberta", 38)])
def test_the_longest_input_is_as_long_as_the_model_can_take(name, limit):
    """RoBERTa's positions start after its padding index, 1: two of its rows are never used."""
    model = build(f"{name}Model", f"{name}Config", WIDE)
    assert layer_stack(model, {"input_ids": torch.full((1, limit), 5)}).states[0].shape == (
        limit,
        8,
    )
    with pytest.raises(ValueError, match=f"at most {limit} tokens, .* got {limit + 1}"):
        layer_stack(model, {"input_ids": torch.full((1, limit + 1), 5)})
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, limit + 1), 5))


def build_kind(kind, sizes):
    name = kind.partition(",")[0]
    return build(f"{name}Model", f"{name}Config", sizes if sizes is DISTIL else WIDE | sizes)


def by_autograd(stack, layer):
    """[target, source, out, in] through the layer as the model called it."""
    full = torch.autograd.functional.jacobian(
        lambda h: stack.run(layer, h[None])[0], stack.states[layer]
    )
    return full.permute(0, 2, 1, 3)


@pytest.mark.parametrize(("kind", "sizes"), EXACT.items(), ids=EXACT)
def test_exact_against_autograd_as_the_model_called_it(kind, sizes):
    """Norms, blocks, heads and products, with a mask, to 1e-10 in float64; and through all layers."""
    model = build_kind(kind, sizes).double()
    through, vectors = (
        torch.eye(32, dtype=torch.float64).view(4, 8, 4, 8),
        torch.randn(3, 4, 8, dtype=torch.float64),
    )
    through = through.permute(0, 2, 1, 3)
    before, stack = snapshot(model), layer_stack(model, IDS)
    depth = model.config.num_hidden_layers * sizes.get("inner_group_num", 1)
    assert len(set(stack.names)) == len(stack.layers) == depth
    exact = layer_influence(model, IDS)
    for layer in range(depth):
        truth, J = by_autograd(stack, layer), stack.jacobian(layer)
        scale = truth.abs().max()
        assert torch.allclose(
            exact.values[layer], truth.square().sum((2, 3)), rtol=1e-10, atol=1e-12 * scale**2
        )
        assert (J.block(1, 3) - truth[1, 3]).abs().max() < 1e-10 * scale
        assert (
            J.jvp(vectors) - torch.einsum("jiab,xib->xja", truth, vectors)
        ).abs().max() < 1e-10 * scale
        assert (
            J.vjp(vectors) - torch.einsum("jiab,xja->xib", truth, vectors)
        ).abs().max() < 1e-10 * scale
        heads = torch.stack([J.block(3, 3, head=h) for h in range(2)])
        assert (heads.sum(0) + J.block(3, 3, "residual") - truth[3, 3]).abs().max() < 1e-10 * scale
        assert torch.allclose(J.heads()[:, 3, 3], heads.square().sum((1, 2)), rtol=1e-10)
        through = torch.einsum("jmab,mibc->jiac", truth, through)
    mapped = kind in ("Electra", "RemBert") or kind.startswith(
        "Albert"
    )  # from the width of the embeddings
    site = stack.names[0] if mapped else "embeddings"
    up = upstream_influence(model, IDS, method="exact")
    assert torch.allclose(up.values[0], through.square().sum((2, 3)), rtol=1e-9)
    for inject, layers in ((None, stack.names), (site, stack.names[1:] if mapped else stack.names)):
        down = downstream_influence(model, IDS, inject=inject, method="exact")
        assert down.sites == layers
        assert torch.allclose(
            down.values[-1], up.values[len(stack.names) - len(down.sites)], rtol=1e-9
        )
    assert snapshot(model) == before


@pytest.mark.parametrize(("kind", "case"), REFUSED.items(), ids=REFUSED)
def test_what_the_adapter_cannot_read_is_refused_by_name(kind, case):
    sizes, message, noise = case
    model = build_kind(kind, sizes)
    before, inputs = (
        snapshot(model),
        {"input_ids": IDS["input_ids"]} if kind == "FNet" else IDS,
    )  # it takes no mask
    with pytest.raises(ValueError, match=f"expected .*{message}.*noise"):
        layer_influence(model, inputs)
    if noise:
        assert layer_influence(model, inputs, method="noise", samples=5).values.shape == (2, 4, 4)
    assert snapshot(model) == before


@pytest.mark.parametrize("kind", ["DistilBert", "MPNet", "Albert", "DebertaV2"])
def test_other_encoders_can_be_hooked_and_measured_by_noise(kind):
    model = build_kind(kind, EXACT[kind] if kind in EXACT else REFUSED[kind][0])
    layers = {"DistilBert": "transformer.layer.*", "Albert": "encoder"}.get(kind, "encoder.layer.*")
    before = snapshot(model)
    with record(model, ["embeddings", layers]) as trace:
        model(**IDS)
    with edit(model, {"embeddings": lambda h: h * 0}), record(model, layers) as changed:
        model(**IDS)
    last = list(changed)[-1]
    assert trace[last].shape == (1, 4, 8) and not torch.equal(trace[last], changed[last])
    assert len(shape_table(model, IDS, depth=9)) > 20 and len(module_tree(model)) > 20
    response = noise_response(
        model, IDS, inject="embeddings", position=1, observe=layers, samples=20
    )
    assert (response.values[:, [0, 1, 3]] > 0).all() and response.stderr.isfinite().all()
    assert snapshot(model) == before


def test_a_position_that_is_no_tokens_is_refused():
    """CANINE's encoder sees four characters as one position, XLNet's has the sentences on the second axis."""
    model = build("CanineModel", "CanineConfig", WIDE | {"bos_token_id": 1, "eos_token_id": 2})
    with pytest.raises(
        ValueError, match=r"\[1, seq=4, hidden\] at .* of CanineModel, got \[1, 1, 8\]"
    ):
        layer_influence(model, IDS)
