from pathlib import Path

import torch
from conftest import snapshot

from helpers import load_bert, module_tree, shape_table

GOLDEN = Path(__file__).parent / "golden"


def golden(name):
    return [tuple(line.split("\t")) for line in (GOLDEN / name).read_text().splitlines()]


def test_module_tree_of_bert_base():
    """All rows of the table in order; releases that build one activation per layer list it in the other eleven too."""
    model, _ = load_bert("bert-base-uncased", pretrained=False)
    rows, expected = module_tree(model).rows, golden("named_modules.tsv")
    extra = [row for row in rows if row not in expected]
    activations = {id(layer.intermediate.intermediate_act_fn) for layer in model.encoder.layer}
    assert [row for row in rows if row in expected] == expected and len(expected) == 216
    assert [name for name, _ in extra] == [
        f"encoder.layer.{i}.intermediate.intermediate_act_fn" for i in range(1, len(activations))
    ]


def test_shape_table_of_bert_base():
    """All 60 rows in order; where a layer returns a bare tensor, its row has no `/0`."""
    model, _ = load_bert("bert-base-uncased", pretrained=False)
    inputs = {"input_ids": torch.arange(13)[None]}
    bare = isinstance(model.encoder.layer[0](torch.zeros(1, 13, 768)), torch.Tensor)
    expected = [
        (name, tuple(map(int, shape.split(",")))) for name, shape in golden("shape_table.tsv")
    ]
    if bare:
        layers = {f"encoder.layer.{i}/0": f"encoder.layer.{i}" for i in range(12)}
        expected = [(layers.get(name, name), shape) for name, shape in expected]
    rows = [(name, tuple(shape)) for name, shape in shape_table(model, inputs, depth=3).rows]
    assert rows == expected and len(rows) == 60


def test_shapes_follow_from_the_configuration(tiny, ids):
    """An invariant that no table knows: widths are those of the configuration and seq is kept everywhere."""
    for name, shape in shape_table(tiny, ids, depth=9).rows:
        pooled = name.startswith("pooler") or name == "/pooler_output"
        if (
            "self.dropout" in name
        ):  # the attention weights [1, head, seq, seq], where attention is not fused
            assert shape == (1, 2, 5, 5)
            continue
        assert shape[:-1] == ((1,) if pooled else (1, 5)), name
        assert shape[-1] == (16 if "intermediate" in name else 8), name


def test_text_and_frame(tiny, ids):
    table = shape_table(tiny, ids, depth=0)
    assert str(table).splitlines()[0] == "embeddings                torch.Size([1, 5, 8])"
    assert (
        list(table.to_frame().columns) == ["output", "shape"]
        and len(table.to_frame()) == len(table) == 5
    )
    assert str(module_tree(tiny)).splitlines()[0].split() == [
        "embeddings",
        "transformers.models.bert.modeling_bert.BertEmbeddings",
    ]


def test_nothing_is_left_behind(tiny, ids):
    before = snapshot(tiny)
    shape_table(tiny, ids)
    assert snapshot(tiny) == before


def test_a_table_is_whole_in_a_notebook(tiny, ids):
    table = shape_table(tiny, ids)
    tree = module_tree(load_bert("bert-base-uncased", pretrained=False)[0])
    html = tree._repr_html_()
    assert html.count("<tr") == len(tree) + 1 > 200  # every row and the head
    assert (
        all(f"<td>{name}</td>" in html for name, _ in tree.rows)
        and ">module<" in html
        and ">class<" in html
    )
    assert table == shape_table(tiny, ids) != shape_table(tiny, ids, depth=0)


def test_a_module_without_parts_is_an_empty_table():
    assert (
        str(module_tree(torch.nn.Identity())) == "" and len(module_tree(torch.nn.Identity())) == 0
    )
