"""A drawing of the architecture, made from a model and its pass, so that it cannot be wrong."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path
from torch import Tensor, nn

from .exact.layers import LayerStack, layer_stack
from .exact.post_ln import INSTEAD, LINEAR, NORMS, layer_parts, score_bias
from .figures import COLOURS, described
from .hooks import hooked, tensors
from .inputs import prepare
from .labels import styled
from .values import shortened, whole
from .words import Inputs

FIELDS = {"attention": "#d9e8f5", "feed-forward": "#dcefe3"}  # colours of their boxes
LINE = "#555555"
MARKED = "#c04e00"  # what is marked is orange and thick,
FILLED = "#f7c873"  # a box filled with it
# in inches: the first row, a box and the arrow below it; the boxes' middle, a box for the hidden
# state and the widest one; residual lines and shapes on the right
TOP, BOX, ARROW = 0.85, 0.56, 0.4
MIDDLE, NARROW, WIDE = 4.2, 1.1, 4.4
RESIDUAL, SHAPES = 6.6, 6.75


@styled
def architecture(
    model: nn.Module, inputs: Inputs, *, layer: int | None = None, mark: str | Iterable[str] = ()
) -> Figure:
    """Draw the model or, with `layer`, the inside of that layer.

    Beside each arrow stands the shape [batch, token, number] of what passed there when `inputs`
    went through the model's own modules; widths and heads are the weights'. Each layer drawn is
    checked to compute what is drawn. `mark` names what stands out in orange: in the model "tokens",
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
    drawn = range(len(stack.layers)) if layer is None else [layer]
    try:
        weights = [stack.jacobian(number).a for number in drawn]
    except ValueError as error:
        message = str(error).replace(INSTEAD, "shape_table lists the shapes of any model")
        raise ValueError(message) from error
    marks = {mark} if isinstance(mark, str) else set(mark)
    sheet = _Sheet(6 if layer is None else 8, marks, _shapes(stack, drawn[0]))
    if layer is None:
        _draw_model(sheet, model, prepare(model, inputs)[0], stack)
    else:
        depth = (layer + 1) / len(stack.layers)
        title = f"{type(model).__name__}, layer {layer} (depth {depth:.2f}): {stack.names[layer]}"
        sheet.text(4, 0.25, title, 11)
        _draw_layer(sheet, stack, layer, weights[0])
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
        _, hidden = next(tensors(output))
        shapes[f"{name} in"] = list(args[0].shape)
        shapes[f"{name} out"] = list(hidden.shape)

    layer = stack.layers[number]
    parts = layer_parts(layer)
    modules = {part: parts[part] for part in LINEAR + NORMS}
    with hooked({"layer": layer} | modules, after=note):
        stack.run(number, stack.states[number][None])
    return shapes


class _Sheet:
    """Rows of boxes from top to bottom, y downwards, and the arrows between them."""

    def __init__(self, rows: int, marks: set[str], shapes: dict[str, list[int]]) -> None:
        height = TOP + rows * (BOX + ARROW) + 0.1
        self.top = TOP  # of the row that is drawn
        self.marks, self.shapes = marks, shapes
        self.known: set[str] = set()
        self.figure = Figure(figsize=(8, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, 8), ylim=(height, 0))
        self.axes.set_axis_off()

    def line(self, *names: str) -> tuple[str, float]:
        """Colour and width of what can be marked by these names."""
        self.known.update(names)
        return (LINE, 0.9) if self.marks.isdisjoint(names) else (MARKED, 2)

    def text(self, x: float, y: float, text: str, size: float = 8.5, **options: Any) -> None:
        options = {"ha": "center", "va": "center"} | options
        self.axes.text(x, y, text, fontsize=size, **options)

    def box(
        self, label: str, text: str, *names: str, width: float = WIDE, x: float = MIDDLE
    ) -> None:
        """A box with its text; the label stands on the left."""
        line, thickness = self.line(*names)
        face = FILLED if line == MARKED else FIELDS.get(names[-1], "white")
        corner, middle = (x - width / 2, self.top), self.top + BOX / 2
        box = Rectangle(corner, width, BOX, facecolor=face, edgecolor=line, linewidth=thickness)
        self.axes.add_patch(box)
        self.text(x, middle, text)
        self.text(0.25, middle, label, ha="left")

    def arrow(self, points: Sequence[tuple[float, float]], *names: str) -> None:
        colour, thickness = self.line(*names)
        style: Any = {"arrowstyle": "-|>", "mutation_scale": 10}
        arrow = FancyArrowPatch(path=Path(points), color=colour, linewidth=thickness, **style)
        self.axes.add_patch(arrow)

    def gives(self, shape: str, *names: str, columns: Sequence[float] = (MIDDLE,)) -> None:
        """Arrows from this row to the next one, and the shape of what passes."""
        start = self.top + BOX
        self.top = start + ARROW
        for x in columns:
            self.arrow([(x, start), (x, self.top)], *names)
        colour, _ = self.line(*names)
        options = {"ha": "left", "family": "monospace", "color": colour, "gid": shape}
        self.text(SHAPES, start + ARROW / 2, str(self.shapes[shape]), 8, **options)


def _draw_model(sheet: _Sheet, model: Any, inputs: dict[str, Any], stack: LayerStack) -> None:
    depth, parts = len(stack.layers), layer_parts(stack.layers[0])
    width, heads = parts["query"].out_features, parts["heads"]
    sheet.shapes["ids"] = list(inputs["input_ids"].shape)
    sheet.shapes["last out"] = list(stack.outputs[-1][None].shape)
    title = f"{type(model).__name__}: {depth} layers of width {width}, {heads} heads each"
    sheet.text(4, 0.3, title, 11)
    sheet.text(SHAPES, TOP + 0.2, "shape:\n[batch, token,\n number]", 8, ha="left")
    shared = len(set(stack.layers)) < depth
    weights = "they share weights" if shared else "each with its own weights"
    with torch.no_grad():
        found = model(**inputs)
    output = [f"{path.lstrip('/')} {list(value.shape)}" for path, value in tensors(found)]

    sheet.box("tokens\nand their ids", "", "tokens")
    columns = _write_tokens(sheet, stack.tokens, inputs["input_ids"][0].tolist())
    sheet.gives("ids", "tokens", columns=columns)
    sheet.box("embeddings", _tables(model, width), "embeddings")
    sheet.gives("layer in", "hidden state", columns=columns)
    sheet.box("layer 0: attention\nmixes tokens", "", "layers", "attention")
    for x in columns:
        for other in columns:
            sheet.axes.plot([x, other], [sheet.top, sheet.top + BOX], color=LINE, linewidth=0.5)
    sheet.gives("attention_norm out", columns=columns)
    sheet.box("layer 0: feed-forward\neach token by itself", "", "layers", "feed-forward")
    sheet.axes.vlines(columns, sheet.top, sheet.top + BOX, LINE, linewidth=0.5)
    sheet.gives("layer out", "hidden state", columns=columns)
    sheet.box(f"{depth - 1} more layers,\nbuilt alike", weights, "layers")
    sheet.gives("last out", "hidden state", columns=columns)
    sheet.box("output", "\n".join(output), "output")


def _write_tokens(sheet: _Sheet, tokens: Sequence[str], ids: Sequence[int]) -> list[float]:
    """The first tokens with their ids, side by side; the columns that they stand in."""
    columns = []
    for number, token in enumerate(tokens[:8]):
        columns.append(2.3 + 0.52 * number)
        sheet.text(columns[-1], sheet.top + BOX / 2, f"{shortened(token, 7)}\n{ids[number]}", 8)
    if len(tokens) > 8:
        sheet.text(6.3, sheet.top + BOX / 2, "…", 8)
    return columns


def _tables(model: nn.Module, width: int) -> str:
    """The tables that the embeddings add up, each as long as it is."""
    tables, widths = [], set()
    for name, table in model.named_parameters():
        kind, found, _ = name.partition("_embeddings.")
        if found:
            kind = kind.rpartition(".")[2].replace("_", " ")
            tables.append(f"{len(table):,} {kind}s")
            widths.add(table.shape[1])
    mapped = "" if widths == {width} else " and mapped"
    return f"a row from each table, added up{mapped}:\n{', '.join(tables)}"


def _draw_layer(sheet: _Sheet, stack: LayerStack, number: int, weights: Tensor) -> None:
    layer = stack.layers[number]
    parts = layer_parts(layer)

    def sizes(part: str) -> str:
        return f"{parts[part].in_features} → {parts[part].out_features}"

    def add_and_norm(start: tuple[float, float]) -> None:
        sheet.box("", "add &\nLayerNorm", "add & LayerNorm", width=NARROW)
        end, edge = sheet.top + BOX / 2, MIDDLE + NARROW / 2
        way = [start, (RESIDUAL, start[1]), (RESIDUAL, end), (edge, end)]
        sheet.arrow(way, "residual")
        sheet.text(5.6, end - 0.12, "residual")

    columns = [MIDDLE - 1.5, MIDDLE, MIDDLE + 1.5]
    first = (columns[0], TOP - ARROW)
    sheet.top = TOP - ARROW - BOX
    sheet.gives("layer in", "hidden state", columns=columns)
    for x, part in zip(columns, ("query", "key", "value"), strict=True):
        sheet.box("", f"{part}\n{sizes(part)}", "attention", width=NARROW, x=x)
    sheet.gives("query out", columns=columns)
    heads, width = len(weights), parts["query"].out_features // len(weights)
    biased = score_bias(layer, *stack.arguments[number]) is not None
    bias = "\n + distance bias" if biased else ""
    scores = f"softmax(q·kᵀ / √{width}{bias}) · v"
    told = f"attention: {heads} heads of {width}\n{scores}\nlight 0, dark 1 (row = target)"
    sheet.box(told, "", "attention")
    side = min(0.42, (WIDE - 0.2) / heads - 0.04)
    for head, shown in enumerate(weights.numpy(force=True)):  # [target, source]
        left = MIDDLE + (side + 0.04) * (head - heads / 2)
        middle = sheet.top + BOX / 2
        extent = (left, left + side, middle + side / 2, middle - side / 2)
        sheet.axes.imshow(shown, COLOURS, vmin=0, vmax=1, extent=extent, aspect="auto", zorder=2)
    sheet.gives("attention_output in")
    sheet.box("output projection", sizes("attention_output"), "attention", width=NARROW)
    sheet.gives("attention_output out")
    add_and_norm(first)
    second = (MIDDLE, sheet.top + BOX + 0.08)
    sheet.gives("attention_norm out")
    inner = min(WIDE, NARROW * parts["up"].out_features / parts["up"].in_features)
    sheet.box("feed-forward: up", sizes("up"), "feed-forward", width=inner)
    sheet.gives("up out")
    sheet.box("", type(parts["activation"]).__name__, "feed-forward", width=inner)
    sheet.gives("down in")
    sheet.box("feed-forward: down", sizes("down"), "feed-forward", width=NARROW)
    sheet.gives("down out")
    add_and_norm(second)
    sheet.gives("output_norm out", "hidden state")
