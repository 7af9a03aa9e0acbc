"""A drawing of the architecture, made from a model and its pass, so that it cannot be wrong."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import CARETDOWN, CARETLEFT
from torch import Tensor, nn

from .exact.layers import LayerStack, layer_stack
from .exact.post_ln import INSTEAD, LINEAR, layer_parts, score_bias
from .figures import COLOURS, described
from .hooks import tensors
from .inputs import prepare
from .labels import styled
from .values import shortened, whole
from .words import Inputs

IN_MODEL = {"tokens", "embeddings", "hidden state", "layers", "attention", "feed-forward", "output"}
IN_LAYER = {"hidden state", "attention", "residual", "add & LayerNorm", "feed-forward"}
STATES = {"layer in", "layer out", "last out", "output_norm out"}  # what leaves is a hidden state
FIELDS = {"attention": "#d9e8f5", "feed-forward": "#dcefe3"}  # colours of their boxes
FILLED = "#f7c873"  # of a marked box
THIN: Any = {"color": "#555555", "linewidth": 0.5}
PLAIN = THIN | {"linewidth": 0.9}
MARKED = {"color": "#c04e00", "linewidth": 2}
# in inches, with rows one high: a box; where boxes stand and how wide they are; on the right the
# residual lines and the shapes
BOX = 0.58
MIDDLE, NARROW, WIDE = 4.2, 1.1, 4.4
THREE = (MIDDLE - 1.5, MIDDLE, MIDDLE + 1.5)
RESIDUAL, SHAPES = 6.6, 6.75


class Row(NamedTuple):
    """Boxes side by side, and the arrows from them to the next row."""

    label: str  # on the left: what marks the boxes, and after a colon more about them
    texts: Sequence[str]  # of each box
    width: float  # of a box
    leaves: str = ""  # the name of what the arrows are
    shape: Sequence[int] = ()
    columns: Sequence[float] = (MIDDLE,)  # of the arrows


@styled
def architecture(
    model: nn.Module, inputs: Inputs, *, layer: int | None = None, mark: str | Iterable[str] = ()
) -> Figure:
    """Draw the model or, with `layer`, the inside of that layer.

    Beside each arrow stands the shape [batch, token, number] of what passes there with `inputs`.
    Widths and heads are the weights', and each layer drawn is checked to compute what is drawn from
    them, number by number. `mark` names what stands out in orange: in the model "tokens",
    "embeddings", "hidden state", "layers", "attention", "feed-forward", "output"; in a layer
    "hidden state", "attention", "residual", "add & LayerNorm", "feed-forward".

    Raises `ValueError` for a layer that is not built as BERT's (`LayerJacobian` says which are), a
    layer number that the model does not have, and an unknown mark.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=16))
    >>> inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> figure = architecture(tiny.eval(), inputs, layer=1, mark="attention")
    >>> [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "down in"]
    ['[1, 3, 16]']
    """
    stack = layer_stack(model, inputs)
    if layer is not None:
        layer = whole(layer, "a layer", 0, len(stack.layers) - 1)
    marks = {mark} if isinstance(mark, str) else set(mark)
    known = IN_MODEL if layer is None else IN_LAYER
    if unknown := marks - known:
        raise ValueError(f"expected marks from {sorted(known)}, got {sorted(map(str, unknown))}")
    drawn = range(len(stack.layers)) if layer is None else [layer]
    try:
        weights = [stack.jacobian(number).a for number in drawn]
    except ValueError as error:
        message = str(error).replace(INSTEAD, "shape_table lists the shapes of any model")
        raise ValueError(message) from error
    figure = Figure(figsize=(8, 7 if layer is None else 9))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 8), ylim=(figure.get_figheight(), 0))
    axes.set_axis_off()
    if layer is None:
        _draw_model(axes, stack, len(weights[0]), marks)
    else:
        _draw_layer(axes, stack, layer, weights[0], marks)
    return described(figure)


def _draw_model(axes: Axes, stack: LayerStack, heads: int, marks: set[str]) -> None:
    model, depth, state = stack.model, len(stack.layers), [1, *stack.states[0].shape]
    inputs, tokens = prepare(model, stack.sentence)
    ids = inputs["input_ids"]
    with torch.no_grad():
        found = tensors(model(**inputs))
    outputs = [f"{path.lstrip('/')} {list(value.shape)}" for path, value in found]
    shared = len(set(stack.layers)) < depth
    weights = "they share weights" if shared else "each with its own weights"
    words = zip(tokens[:8], ids[0].tolist(), strict=False)
    cards = [f"{shortened(word, 7)}\n{number}" for word, number in words]
    places = np.arange(len(cards))
    columns = MIDDLE + 0.55 * (places - places.mean())
    first = f"tokens: {len(cards)} of {len(tokens)},\nwith their ids"
    mixing = "attention: mixes\ntokens, in layer 0"
    rows = [
        Row("", [], 0),
        Row(first, cards, 0.5, "ids", ids.shape, columns),
        Row("embeddings", [_tables(model, state[-1])], WIDE, "layer in", state, columns),
        Row(mixing, [""], WIDE, "attention_norm out", state, columns),
        Row("feed-forward: each\ntoken by itself", [""], WIDE, "layer out", state, columns),
        Row(f"layers: {depth - 1} more,\nbuilt alike", [weights], WIDE, "last out", state, columns),
        Row("output", ["\n".join(outputs)], WIDE),
    ]
    if "layers" in marks:
        marks = marks | {"attention", "feed-forward"}
    title = f"{type(model).__name__}: {depth} layers of width {state[-1]}, {heads} heads each"
    _draw_rows(axes, title, rows, marks)
    axes.text(SHAPES, 0.75, "shape:\n[batch, token,\n number]", size=8, va="center")
    for column in columns:
        axes.plot([[column] * len(columns), columns], [3, 3 + BOX], **THIN)
        axes.plot([column, column], [4, 4 + BOX], **THIN)


def _tables(model: nn.Module, width: int) -> str:
    """The tables that the embeddings add up, each as long as it is."""
    tables, mapped = [], ""
    for name, table in model.named_parameters():
        kind, found, _ = name.partition("_embeddings.")
        if found:
            kind = kind.rpartition(".")[2].replace("_", " ")
            tables.append(f"{len(table):,} {kind}s")
            mapped = " and mapped" if table.shape[1] != width else mapped
    return f"a row from each table, added up{mapped}:\n{', '.join(tables)}"


def _draw_layer(
    axes: Axes, stack: LayerStack, number: int, weights: Tensor, marks: set[str]
) -> None:
    layer, state = stack.layers[number], [1, *stack.states[number].shape]
    parts = layer_parts(layer)
    maps = {part: f"{parts[part].in_features} → {parts[part].out_features}" for part in LINEAR}
    three = [f"{part}\n{maps[part]}" for part in ("query", "key", "value")]
    inside = [*state[:-1], parts["up"].out_features]
    broad = min(WIDE, NARROW * inside[-1] / state[-1])
    heads, width = len(weights), state[-1] // len(weights)
    biased = score_bias(layer, *stack.arguments[number]) is not None
    bias = "\n + distance bias" if biased else ""
    attention = (
        f"attention: {heads} heads of {width}\nsoftmax(q·kᵀ / √{width}{bias}) · v\n"
        "light 0, dark 1 (row = target)"
    )
    output, projected = "attention: output\nprojection", maps["attention_output"]
    activation, norm = type(parts["activation"]).__name__, "add &\nLayerNorm"
    rows = [
        Row("", [], 0, "layer in", state, THREE),
        Row("attention: query,\nkey and value", three, NARROW, "query out", state, THREE),
        Row(attention, [""], WIDE, "attention_output in", state),
        Row(output, [projected], NARROW, "attention_output out", state),
        Row("add & LayerNorm", [norm], NARROW, "attention_norm out", state),
        Row("feed-forward: up", [maps["up"]], broad, "up out", inside),
        Row("feed-forward: activation", [activation], broad, "down in", inside),
        Row("feed-forward: down", [maps["down"]], NARROW, "down out", state),
        Row("add & LayerNorm", [norm], NARROW, "output_norm out", state),
    ]
    depth = (number + 1) / len(stack.layers)
    name = f"{type(stack.model).__name__}, layer {number} (depth {depth:.2f})"
    _draw_rows(axes, f"{name}: {stack.names[number]}", rows, marks)
    side = min(0.46, (WIDE - 0.2) / heads)  # of a head's square and the gap beside it
    middle = 2 + BOX / 2
    for head, shown in enumerate(weights.numpy(force=True)):  # [target, source]
        left = MIDDLE + side * (head - heads / 2)
        extent = (left, left + 0.9 * side, middle + 0.45 * side, middle - 0.45 * side)
        axes.imshow(shown, COLOURS, vmin=0, vmax=1, extent=extent, aspect="auto", zorder=2)
    line = MARKED if "residual" in marks else PLAIN
    for left, top, bottom in ((THREE[0], BOX, 4.29), (MIDDLE, 4.66, 8.29)):
        x, y = [left, RESIDUAL, RESIDUAL, MIDDLE + NARROW / 2], [top, top, bottom, bottom]
        axes.plot(x, y, marker=CARETLEFT, markevery=[3], **line)
        axes.text(5.3, bottom - 0.06, "residual", size=8.5)


def _draw_rows(axes: Axes, title: str, rows: list[Row], marks: set[str]) -> None:
    """The rows from top to bottom, the first one for the title."""
    axes.text(4, 0.25, title, size=11, ha="center", va="center")
    faces = FIELDS | dict.fromkeys(marks, FILLED)
    for y, row in enumerate(rows):
        axes.text(0.2, y + BOX / 2, row.label, size=8.5, va="center")
        middles = row.columns if len(row.texts) > 1 else [MIDDLE] * len(row.texts)
        face = faces.get(row.label.partition(":")[0], "white")
        boxes = axes.bar(middles, BOX, row.width, y, color=face, edgecolor=PLAIN["color"])
        axes.bar_label(boxes, row.texts, label_type="center", size=8.5)
        if row.leaves:
            kind = "hidden state" if row.leaves in STATES else ""
            line = MARKED if kind in marks else PLAIN
            arrows = [row.columns, row.columns], [y + BOX, y + 1]
            axes.plot(*arrows, marker=CARETDOWN, markevery=[1], **line)
            shape = axes.text(SHAPES, y + 0.8, str(list(row.shape)), size=8, va="center")
            shape.set(gid=row.leaves, family="monospace", color=line["color"])
