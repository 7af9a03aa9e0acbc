"""A drawing of the architecture, made from a model and its pass, so that it cannot be wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import fill
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .exact.layers import LayerStack, layer_stack
from .exact.post_ln import INSTEAD, LINEAR, NORMS, layer_parts, score_bias
from .figures import COLOURS, described
from .hooks import hidden_state, hooked, tensors
from .inputs import prepare
from .labels import STYLE
from .values import shortened, whole
from .words import Inputs

MIXES = "#d9e8f5"
ALONE = "#dcefe3"
LINE = "#555555"
MARKED = "#c04e00"  # what is marked is orange and thick
CENTRED: Any = {"ha": "center", "va": "center", "linespacing": 1.35}
ARROW = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0}


@mpl.rc_context(STYLE)
def architecture(
    model: nn.Module, inputs: Inputs, *, layer: int | None = None, mark: str | Iterable[str] = ()
) -> Figure:
    """Draw the model or, with `layer`, the inside of that layer.

    Beside each arrow stands the shape [batch, token, number] of what passed there when `inputs`
    went through the model's own modules; widths and heads are the weights'. Each layer drawn is
    checked to compute what is drawn. `mark` names what stands out in orange: in the model "tokens",
    "embeddings", "hidden state", "layers", "attention", "feed-forward", "output"; in a layer
    "hidden state", "attention", "query", "key", "value", "heads", "output projection", "residual",
    "add & LayerNorm", "feed-forward", "up", "activation", "down".

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
    drawn = range(len(stack.layers)) if layer is None else [layer]
    try:
        weights = [stack.jacobian(number).a for number in drawn]
    except ValueError as error:
        message = str(error).replace(INSTEAD, "shape_table lists the shapes of any model")
        raise ValueError(message) from error
    marks = {mark} if isinstance(mark, str) else set(mark)
    sheet = _Sheet(7.4 if layer is None else 8.1, marks, _shapes(stack, drawn[0]))
    if layer is None:
        _draw_model(sheet, model, prepare(model, inputs)[0], stack)
    else:
        _draw_layer(sheet, f"{type(model).__name__}, layer {layer}", stack, layer, weights[0])
    if unknown := marks - sheet.known:
        raise ValueError(
            f"expected marks from {sorted(sheet.known)}, got {sorted(map(str, unknown))}"
        )
    return described(sheet.figure)


@torch.no_grad()
def _shapes(stack: LayerStack, number: int) -> dict[str, list[int]]:
    """What enters ("up in") and leaves ("up out") each part of a layer that runs: the shapes."""
    shapes = {}

    def note(name: str, args: tuple[Tensor, ...], output: Any) -> None:
        found = hidden_state(output)
        assert found is not None
        shapes[f"{name} in"], shapes[f"{name} out"] = list(args[0].shape), list(found.shape)

    layer = stack.layers[number]
    parts = layer_parts(layer)
    modules = {part: parts[part] for part in LINEAR + NORMS}
    with hooked({"layer": layer} | modules, after=note):
        stack.run(number, stack.states[number][None])
    return shapes


@dataclass
class Box:
    """A box, and the arrow below it with the shape of what it hands on."""

    names: Sequence[str]  # of the box's marks
    text: str
    top: float
    height: float = 0.42
    width: float = 1.4
    foot: float | None = None  # the width at the bottom, where it is another
    x: float = 4
    colour: str = "white"
    beside: str | None = None  # a second text, on the right of a wide box
    gives: str = ""
    flow: Sequence[str] = ()  # of the arrow's marks

    @property
    def bottom(self) -> float:
        return self.top + self.height


class _Sheet:
    """Boxes and arrows on a sheet in inches, y downwards; it learns which marks there are."""

    def __init__(self, height: float, marks: set[str], shapes: dict[str, list[int]]) -> None:
        self.marks, self.shapes = marks, shapes
        self.known: set[str] = set()
        self.figure = Figure(figsize=(8, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
        self.axes.set(xlim=(0, 8), ylim=(height, 0), autoscale_on=False)

    def style(self, names: Iterable[str], colour: str = LINE) -> dict[str, Any]:
        self.known |= set(names)
        if self.marks & set(names):
            return {"color": MARKED, "lw": 2}
        return {"color": colour, "lw": 0.9}

    def text(self, x: float, y: float, text: str, size: float = 8.5, **options: Any) -> None:
        self.axes.text(x, y, text, fontsize=size, **CENTRED | options)

    def shape(self, x: float, y: float, name: str, names: Iterable[str] = ()) -> None:
        options = {
            "ha": "left",
            "family": "monospace",
            "color": self.style(names, "black")["color"],
        }
        self.text(x, y, str(self.shapes[name]), 8, gid=name, **options)

    def box(self, box: Box) -> None:
        """A marked box is filled with a light orange."""
        style = self.style(box.names)
        top, foot = box.width / 2, (box.foot or box.width) / 2
        across = [box.x - top, box.x + top, box.x + foot, box.x - foot]
        down = [box.top, box.top, box.bottom, box.bottom]
        face = "#f7c873" if style["color"] == MARKED else box.colour
        self.axes.fill(across, down, fc=face, ec=style["color"], lw=style["lw"])
        middle = (box.top + box.bottom) / 2
        if box.beside is None:
            self.text(box.x, middle, box.text)
        else:
            self.text(box.x - 2.95, middle, box.text, ha="left")
            self.text(box.x + 0.98, middle, box.beside)

    def stack(self, boxes: Sequence[Box], columns: Sequence[float], shapes: float) -> None:
        """Boxes below each other, arrows at these columns, and at `shapes` what passes."""
        for box, below in zip(boxes, [*boxes[1:], None], strict=True):
            self.box(box)
            if not box.gives:
                continue
            end = box.bottom + 0.38 if below is None else below.top
            for x in columns:
                self.arrow((x, box.bottom), (x, end), names=box.flow)
            self.shape(shapes, (box.bottom + end) / 2, box.gives, box.flow)

    def arrow(self, *points: tuple[float, float], names: Iterable[str] = ()) -> None:
        style = self.style(names)
        *line, end = points
        self.axes.plot(*zip(*line, strict=True), **style)
        self.axes.annotate("", end, line[-1], arrowprops=ARROW | style)


def _draw_model(sheet: _Sheet, model: Any, inputs: dict[str, Any], stack: LayerStack) -> None:
    depth, seq, parts = len(stack.layers), len(stack.tokens), layer_parts(stack.layers[0])
    sheet.shapes["ids"] = list(inputs["input_ids"].shape)
    sheet.shapes["last out"] = list(stack.outputs[-1][None].shape)
    width, heads = parts["query"].out_features, parts["heads"]
    title = f"{type(model).__name__}: {depth} layers of width {width}, {heads} heads each"
    sheet.text(4, 0.3, title, 11)
    sheet.text(6.75, 1.02, "shape:\n[batch, token,\n number]", 8, ha="left")

    site = next(name for name, _ in model.named_modules() if name.endswith("embeddings"))
    rows, mapped = [], ""
    for name, table in model.get_submodule(site).named_parameters():
        kind, found, _ = name.partition("_embeddings.")
        if found:
            rows.append(f"{len(table):,} {kind.replace('_', ' ')}s")
            mapped = " and mapped" if table.shape[1] != width else mapped
    added = f"a row from each table, added up{mapped}:\n{fill(', '.join(rows), 60)}"
    shared = len(set(stack.layers)) < depth
    weights = "they share weights" if shared else "each with its own weights"
    with torch.no_grad():
        output = model(**inputs)
    output = [f"{path.lstrip('/')} {list(value.shape)}" for path, value in tensors(output)]

    wide = partial(Box, x=3.35, width=6.2, beside="")
    tokens, layers, hidden = ["tokens"], ["layers"], ["hidden state"]
    mixes = "layer 0: attention\nmixes tokens"
    alone = "layer 0: feed-forward\neach token by itself"
    more = f"{depth - 1} more layers,\nbuilt alike"
    weights = weights if depth > 1 else ""
    boxes = [
        wide(tokens, "tokens\nand their ids", 0.75, 0.6, gives="ids", flow=tokens),
        wide(["embeddings"], site, 1.75, 0.7, beside=added, gives="layer in", flow=hidden),
        wide(
            [*layers, "attention"],
            mixes,
            2.85,
            0.9,
            colour=MIXES,
            gives="attention_norm out",
        ),
        wide(
            [*layers, "feed-forward"],
            alone,
            4.15,
            0.7,
            colour=ALONE,
            gives="layer out",
            flow=hidden,
        ),
        wide(layers, more, 5.25, 0.7, beside=weights, gives="last out", flow=hidden),
        wide(["output"], "output", 6.35, 0.8, beside="\n".join(output)),
    ]

    shown = [0, 1, 2, 3, 4, None, seq - 2, seq - 1] if seq > 8 else range(seq)
    columns = []
    for number, place in enumerate(shown):
        x = 2.45 + 3.75 * (number + 0.5) / len(shown)
        if place is None:
            sheet.text(x, 1.0, "…", 8, va="baseline")
            continue
        columns.append(x)
        sheet.text(x, 1.0, shortened(stack.tokens[place], 8), 8, va="baseline")
        sheet.text(x, 1.2, str(int(inputs["input_ids"][0, place])), 8, va="baseline")
    sheet.stack(boxes, columns, shapes=6.75)
    for x in columns:
        for other in columns:
            sheet.axes.plot([x, other], [2.92, 3.68], color=LINE, lw=0.5)
        sheet.axes.plot([x, x], [4.22, 4.78], color=LINE, lw=0.5)


def _draw_layer(sheet: _Sheet, title: str, stack: LayerStack, number: int, maps: Tensor) -> None:
    layer, heads = stack.layers[number], len(maps)
    parts = layer_parts(layer)
    depth = (number + 1) / len(stack.layers)
    sheet.text(4, 0.25, f"{title} (depth {depth:.2f}): {stack.names[number]}", 11)

    def linear(part: str, name: str) -> str:
        return f"{name}\n{parts[part].in_features} → {parts[part].out_features}"

    rooms = [(0.95, 3.75, MIXES, "attention"), (4.8, 6.85, ALONE, "feed-forward")]
    for top, foot, colour, text in rooms:
        sheet.axes.fill([1, 7.7, 7.7, 1], [top, top, foot, foot], fc=colour, zorder=0)
        sheet.text(7.5, (top + foot) / 2, text, rotation=90)
    for x, part in ((2.1, "query"), (4.0, "key"), (5.9, "value")):
        sheet.arrow((4, 0.42), (4, 0.85), (x, 0.85), (x, 1.05), names=["hidden state"])
        sheet.box(Box(["attention", part], linear(part, part), 1.05, x=x))
        sheet.arrow((x, 1.47), (x, 1.85))
        sheet.shape(x + 0.1, 1.63, f"{part} out")
    sheet.shape(4.1, 0.68, "layer in", ["hidden state"])

    wide = min(5.6, 1.4 * parts["up"].out_features / parts["up"].in_features)  # 1.4: hidden
    projection = linear("attention_output", "output projection")
    activation, norm = type(parts["activation"]).__name__, "add & LayerNorm"
    up, down = linear("up", "up"), linear("down", "down")
    boxes = [
        Box(["attention", "heads"], "", 1.85, 0.95, 5.6, gives="attention_output in"),
        Box(["attention", "output projection"], projection, 3.2, gives="attention_output out"),
        Box([norm], norm, 4.0, gives="attention_norm out"),
        Box(["feed-forward", "up"], up, 4.9, foot=wide, gives="up out"),
        Box(["feed-forward", "activation"], activation, 5.65, 0.3, wide, gives="down in"),
        Box(["feed-forward", "down"], down, 6.3, 0.42, wide, 1.4, gives="down out"),
        Box([norm], norm, 7.1, gives="output_norm out", flow=["hidden state"]),
    ]
    sheet.stack(boxes, [4], shapes=4.1)

    width, side = parts["query"].out_features // heads, min(0.42, 5.4 / heads - 0.04)
    biased = score_bias(layer, *stack.arguments[number]) is not None
    scores = f"softmax(q·kᵀ / √{width}{' + distance bias' if biased else ''})"
    told = f"weights {scores}, light 0, dark 1 (row = target), times v"
    sheet.text(4, 2.0, f"{heads} heads of {width}: {told}")
    for head, weights in enumerate(maps.numpy(force=True)):  # [target, source]
        left = 4 + (side + 0.04) * (head - heads / 2)
        extent = (left, left + side, 2.2 + side, 2.2)
        sheet.axes.imshow(weights, COLOURS, vmin=0, vmax=1, extent=extent, aspect="auto", zorder=2)
    for start, end, shape in ((0.6, 4.21, "layer in"), (4.6, 7.31, "attention_norm out")):
        sheet.arrow((4, start), (0.6, start), (0.6, end), (3.3, end), names=["residual"])
        sheet.text(1.15, end - 0.12, "residual", ha="left")
        sheet.shape(1.75, end - 0.12, shape, ["residual"])
