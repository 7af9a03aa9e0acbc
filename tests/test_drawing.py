import itertools

import pytest
import torch
from conftest import snapshot, tiny_bert
from matplotlib.backends.backend_agg import FigureCanvasAgg
from test_other_models import EXACT, IDS, REFUSED, build, build_kind

from helpers import architecture, record


def shapes(figure):
    """What stands beside the arrows, by the arrow's name."""
    return {text.get_gid(): text.get_text() for text in figure.axes[0].texts if text.get_gid()}


def said(figure):
    return "\n".join(text.get_text() for text in figure.axes[0].texts)


def looks(figure):
    """Colour and width of every box and arrow."""
    axes = figure.axes[0]
    boxes = [patch.get_facecolor() for patch in axes.patches]
    return boxes, [(line.get_color(), line.get_linewidth()) for line in axes.lines]


def test_the_shapes_are_those_that_hooks_record(tiny, ids):
    sites = {
        "layer in": "encoder.layer.0",
        "query out": "encoder.layer.1.attention.self.query",
        "attention_output out": "encoder.layer.1.attention.output.dense",
        "attention_norm out": "encoder.layer.1.attention.output.LayerNorm",
        "up out": "encoder.layer.1.intermediate.dense",
        "down in": "encoder.layer.1.intermediate",
        "down out": "encoder.layer.1.output.dense",
        "output_norm out": "encoder.layer.1",
    }
    with record(tiny, sites.values()) as trace:
        output = tiny(**ids)
    drawn = shapes(architecture(tiny, ids, layer=1))
    assert {name: drawn[name] for name in sites} == {
        name: str(list(trace[site].shape)) for name, site in sites.items()
    }
    assert set(drawn) == {*sites, "attention_output in"}
    whole = architecture(tiny, ids)
    assert shapes(whole) == {"ids": "[1, 5]"} | dict.fromkeys(
        ["layer in", "attention_norm out", "layer out", "last out"], "[1, 5, 8]"
    )
    assert f"pooler_output {list(output.pooler_output.shape)}" in said(
        whole
    ) and "50 words, 40 positions" in said(whole)


def test_another_model_gives_another_drawing(ids):
    other = tiny_bert(
        hidden_size=12, num_attention_heads=3, num_hidden_layers=4, intermediate_size=20
    )
    assert "4 layers of width 12, 3 heads each" in said(architecture(other, ids))
    figure = architecture(other, ids, layer=3)
    assert (
        shapes(figure)["up out"] == "[1, 5, 20]"
        and "12 → 20" in said(figure)
        and len(figure.axes[0].images) == 3
    )
    assert torch.tensor(figure.axes[0].images[0].get_array()).sum(1).tolist() == pytest.approx(
        [1] * 5
    )
    other.config.hidden_size = 99  # what is drawn is read from the modules
    assert shapes(architecture(other, ids, layer=3)) == shapes(figure)


@pytest.mark.parametrize("layer", [None, 0])
def test_each_mark_changes_the_drawing_and_an_unknown_one_is_refused(tiny, ids, layer):
    with pytest.raises(
        ValueError, match="expected marks from .*'attention'.*, got .'atention'"
    ) as error:
        architecture(tiny, ids, layer=layer, mark=["attention", "atention"])
    known = str(error.value).partition("[")[2].partition("]")[0].replace("'", "").split(", ")
    assert len(known) == (7 if layer is None else 5)
    assert all(f'"{name}"' in architecture.__doc__ for name in known)
    plain = looks(architecture(tiny, ids, layer=layer))
    for name in known:
        assert looks(architecture(tiny, ids, layer=layer, mark=name)) != plain, name


@pytest.mark.parametrize("kind", EXACT)
def test_every_covered_architecture_is_drawn_and_left_as_it_was(kind):
    model = build_kind(kind, EXACT[kind])
    before = snapshot(model)
    figures = [architecture(model, IDS), architecture(model, IDS, layer=1)]
    assert snapshot(model) == before
    assert (
        shapes(figures[0])["last out"] == "[1, 4, 8]"
        and shapes(figures[1])["down in"] == "[1, 4, 16]"
    )
    assert ("distance bias" in said(figures[1])) == (kind == "MPNet")
    assert ("share weights" in said(figures[0])) == kind.startswith("Albert")
    assert ("and mapped" in said(figures[0])) == (kind.startswith("Albert") or kind == "Electra")


@pytest.mark.parametrize("kind", REFUSED)
def test_what_computes_something_else_is_refused(kind):
    model, inputs = (
        build_kind(kind, REFUSED[kind][0]),
        {"input_ids": IDS["input_ids"]} if kind == "FNet" else IDS,
    )
    for layer in (None, 1):
        with pytest.raises(ValueError, match="expected") as error:
            architecture(model, inputs, layer=layer)
        assert 'method="noise"' not in str(error.value)


def test_bad_layers_and_models_with_a_head(tiny, ids):
    for layer in (2, -1, "0", True):
        with pytest.raises(ValueError, match="expected a layer.* from 0 to 1, got"):
            architecture(tiny, ids, layer=layer)
    sizes = dict(
        hidden_size=8,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=16,
        vocab_size=50,
    )
    assert "logits [1, 4, 50]" in said(
        architecture(build("BertForMaskedLM", "BertConfig", sizes), IDS)
    )


@pytest.mark.parametrize("layer", [None, 5])
def test_no_text_is_cut_off_or_covered(minilm, sentence, layer):
    figure = architecture(minilm[0], sentence, layer=layer)
    FigureCanvasAgg(figure).draw()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert all(figure.get_window_extent().contains(*corner) for corner in box.corners()), text
        assert text.get_fontsize() >= 8
    for (a, first), (b, second) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not first.overlaps(second), (a, b)
    assert figure.get_figwidth() * 100 == 800
