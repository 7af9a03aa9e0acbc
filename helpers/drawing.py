"""A drawing of the architecture, made from the model itself and one forward pass, so that it cannot be wrong."""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from textwrap import fill
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from .checks import check_inputs
from .hooks import removed_after, tensors
from .labels import say
from .layers import LayerStack, layer_stack
from .models import Inputs
from .plots import COLOURS, described
from .post_ln import INSTEAD, LINEAR, NORMS, layer_parts, score_bias
from .values import shortened, whole

MIXES, ALONE, LINE, MARKED = "#d9e8f5", "#dcefe3", "#555555", "#c04e00"  # what is marked is orange and thick
CENTRED = {"ha": "center", "va": "center", "linespacing": 1.35}
ARROW = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 0}


def architecture(
    model: nn.Module, inputs: Inputs, *, layer: int | None = None, mark: str | Iterable[str] = ()
) -> Figure:
    """Draw the model or, with `layer`, the inside of that layer; beside each arrow the shape of what passed there.

    Shapes, [batch, token, number], are those of one pass of `inputs` through the model's own modules; widths and heads
    are the weights'. Each layer drawn is checked to compute what is drawn. `mark` names what stands out in orange: in
    the model "tokens", "embeddings", "hidden state", "layers", "attention", "feed-forward", "output"; in a layer
    "hidden state", "attention", "query", "key", "value", "heads", "output projection", "residual", "add & LayerNorm",
    "feed-forward", "up", "activation", "down".

    Raises `ValueError` for a layer that is not built as BERT's (`LayerJacobian` says which are), a layer number that
    the model does not have, and an unknown mark.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> figure = architecture(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}, layer=1, mark="attention")
    >>> [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "down in"]
    ['[1, 3, 16]']
    """
    stack = layer_stack(model, inputs)
    layer = None if layer is None else whole(layer, "a layer", 0, len(stack.layers) - 1)
    try:
        weights = [stack.jacobian(n).a for n in range(len(stack.layers)) if layer in (None, n)]
    except ValueError as error:
        raise ValueError(str(error).replace(INSTEAD, "shape_table lists the shapes of any model")) from error
    sheet = _Sheet(7.4 if layer is None else 8.1, {mark} if isinstance(mark, str) else set(mark))
    if layer is None:
        _draw_model(sheet, model, check_inputs(model, inputs)[0], stack)
    else:
        _draw_layer(sheet, f"{type(model).__name__}, layer {layer}", stack, layer, weights[0])
    sheet.axes.set(xlim=(0, 8), ylim=(sheet.figure.get_figheight(), 0))
    if unknown := sheet.marks - sheet.known:
        raise ValueError(f"expected marks from {sorted(sheet.known)}, got {sorted(map(str, unknown))}")
    return described(sheet.figure)


class _Sheet:
    """Boxes and arrows on a sheet measured in inches, y downwards; it learns which marks there are as it draws."""

    def __init__(self, height: float, marks: set[str]) -> None:
        self.marks, self.known, self.shapes = marks, set[str](), dict[str, list[int]]()
        self.figure = Figure(figsize=(8, height))
        self.axes = self.figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])

    @torch.no_grad()
    def record(self, run: Callable[[], Any], modules: dict[str, nn.Module]) -> Any:
        """What `run` returns; keeps the shapes of what enters and what leaves each module meanwhile."""
        caller = threading.get_ident()

        def note(name: str, _module: nn.Module, *passed: Any) -> None:
            if threading.get_ident() != caller:  # another thread measures on the same model
                return
            for end, values in (("in", passed[:-1]), ("out", passed[-1])):
                self.shapes[f"{name} {end}"] = list(next(value for _, value in tensors(values)).shape)

        with removed_after() as handles:
            for name, module in modules.items():
                handles.append(module.register_forward_hook(partial(note, name), with_kwargs=True))
            return run()

    def style(self, names: Iterable[str], colour: str = LINE) -> dict[str, Any]:
        self.known |= set(names)
        return {"color": MARKED, "lw": 2} if self.marks & set(names) else {"color": colour, "lw": 0.9}

    def text(self, x: float, y: float, text: str, size: float = 8.5, **options: Any) -> None:
        say(partial(self.axes.text, x, y, **CENTRED | options), text, size)  # type: ignore[arg-type]

    def shape(self, x: float, y: float, name: str, names: Iterable[str] = ()) -> None:
        colour = self.style(names, "black")["color"]
        self.text(x, y, str(self.shapes[name]), 8, gid=name, ha="left", family="monospace", color=colour)

    def box(self, x, y, text, names, width=1.4, foot=0.0, height=0.42, colour="white") -> None:
        """`foot` is the width at the bottom where it is another. A marked box is filled with a light orange."""
        style, top, foot = self.style(names), width / 2, (foot or width) / 2
        corners = [x - top, x + top, x + foot, x - foot], [y, y, y + height, y + height]
        face = "#f7c873" if style["color"] == MARKED else colour
        self.axes.fill(*corners, fc=face, ec=style["color"], lw=style["lw"])
        self.text(x, y + height / 2, text)

    def arrow(self, *points: tuple[float, float], names: Iterable[str] = ()) -> None:
        *line, end = points
        self.axes.plot(*zip(*line, strict=True), **self.style(names))
        self.axes.annotate("", end, line[-1], arrowprops=ARROW | self.style(names))


def _draw_model(sheet: _Sheet, model: Any, inputs: dict[str, Any], stack: LayerStack) -> None:
    first, more, seq, parts = stack.layers[0], len(stack.layers) - 1, len(stack.tokens), layer_parts(stack.layers[0])
    sheet.record(lambda: stack.run(0, stack.states[0][None]), {"norm": parts["attention_norm"]})
    output = sheet.record(lambda: model(**inputs), {"first": first, "last": stack.layers[-1]})
    sheet.shapes["ids"] = list(inputs["input_ids"].shape)
    shown = [0, 1, 2, 3, 4, None, seq - 2, seq - 1] if seq > 8 else range(seq)
    columns = [(2.45 + 3.75 * (i + 0.5) / len(shown), place) for i, place in enumerate(shown)]
    tokens = [x for x, place in columns if place is not None]

    def box(y: float, height: float, names: list[str], text: str, right: str = "", colour: str = "white") -> None:
        sheet.box(3.35, y, "", names, 6.2, height=height, colour=colour)
        sheet.text(0.4, y + height / 2, text, ha="left")
        sheet.text(4.33, y + height / 2, right)

    def flow(y: float, shape: str, *names: str) -> None:
        for x in tokens:
            sheet.arrow((x, y), (x, y + 0.4), names=names)
        sheet.shape(6.75, y + 0.2, shape, names)

    width = f"{more + 1} layers of width {parts['query'].out_features}, {parts['heads']} heads each"
    sheet.text(4, 0.3, f"{type(model).__name__}: {width}", 11)
    sheet.text(6.75, 1.02, "shape:\n[batch, token,\n number]", 8, ha="left")
    box(0.75, 0.6, ["tokens"], "tokens\nand their ids")
    for x, place in columns:
        sheet.text(x, 1.0, "…" if place is None else shortened(stack.tokens[place], 8), 8, va="baseline")
        sheet.text(x, 1.2, "" if place is None else str(int(inputs["input_ids"][0, place])), 8, va="baseline")
    flow(1.35, "ids", "tokens")
    site = next(name for name, _ in model.named_modules() if name.endswith("embeddings"))
    tables = {name: p.shape for name, p in model.get_submodule(site).named_parameters() if "_embeddings." in name}
    rows = ", ".join(
        f"{rows:,} {name.split('_embeddings')[0].replace('_', ' ')}s" for name, (rows, _) in tables.items()
    )
    mapped = {width for _, width in tables.values()} != {sheet.shapes["first in"][-1]}
    added = f"a row from each table, added up{' and mapped' if mapped else ''}:\n"
    box(1.75, 0.7, ["embeddings"], site, added + fill(rows, 60))
    flow(2.45, "first in", "hidden state")
    box(2.85, 0.9, ["layers", "attention"], "layer 0: attention\nmixes tokens", colour=MIXES)
    flow(3.75, "norm out")
    box(4.15, 0.7, ["layers", "feed-forward"], "layer 0: feed-forward\neach token by itself", colour=ALONE)
    for x in tokens:
        sheet.axes.plot([[x] * len(tokens), tokens], [[2.92] * len(tokens), [3.68] * len(tokens)], color=LINE, lw=0.5)
        sheet.axes.plot([x, x], [4.22, 4.78], color=LINE, lw=0.5)
    flow(4.85, "first out", "hidden state")
    weights = "each with its own weights" if len(set(stack.layers)) == more + 1 else "they share weights"
    box(5.25, 0.7, ["layers"], f"{more} more layers,\nbuilt alike", weights if more else "")
    flow(5.95, "last out", "hidden state")
    found = [f"{path.lstrip('/')} {list(value.shape)}" for path, value in tensors(output)]
    box(6.35, 0.8, ["output"], "output", "\n".join(found))


def _draw_layer(sheet: _Sheet, title: str, stack: LayerStack, number: int, maps: torch.Tensor) -> None:
    parts, state, heads = layer_parts(stack.layers[number]), stack.states[number][None], len(maps)
    modules = {"layer": stack.layers[number]} | {part: parts[part] for part in LINEAR + NORMS}
    sheet.record(lambda: stack.run(number, state), modules)
    wide = min(5.6, 1.4 * parts["up"].out_features / parts["up"].in_features)  # 1.4 stands for the hidden width
    sheet.text(4, 0.25, f"{title} (depth {(number + 1) / len(stack.layers):.2f}): {stack.names[number]}", 11)

    def linear(part: str, name: str) -> str:
        return f"{name}\n{parts[part].in_features} → {parts[part].out_features}"

    for top, foot, colour, text in ((0.95, 3.75, MIXES, "attention"), (4.8, 6.85, ALONE, "feed-forward")):
        sheet.axes.fill([1, 7.7, 7.7, 1], [top, top, foot, foot], fc=colour, zorder=0)
        sheet.text(7.5, (top + foot) / 2, text, rotation=90)
    for x, part in ((2.1, "query"), (4.0, "key"), (5.9, "value")):
        sheet.arrow((4, 0.42), (4, 0.85), (x, 0.85), (x, 1.05), names=["hidden state"])
        sheet.box(x, 1.05, linear(part, part), ["attention", part])
        sheet.arrow((x, 1.47), (x, 1.85))
        sheet.shape(x + 0.1, 1.63, f"{part} out")
    sheet.shape(4.1, 0.68, "layer in", ["hidden state"])
    projection, gelu = linear("attention_output", "output projection"), type(parts["activation"]).__name__
    rows: list[Any] = [
        (1.85, "attention_output in", ["attention", "heads"], "", 5.6, 0, 0.95),
        (3.2, "attention_output out", ["attention", "output projection"], projection),
        (4.0, "attention_norm out", ["add & LayerNorm"], "add & LayerNorm"),
        (4.9, "up out", ["feed-forward", "up"], linear("up", "up"), 1.4, wide),
        (5.65, "down in", ["feed-forward", "activation"], gelu, wide, 0, 0.3),
        (6.3, "down out", ["feed-forward", "down"], linear("down", "down"), wide, 1.4),
        (7.1, "output_norm out", ["add & LayerNorm"], "add & LayerNorm"),
        (7.9,),
    ]
    for (y, shape, names, text, *sizes), (below, *after) in pairwise(rows):
        sheet.box(4, y, text, names, *sizes)
        bottom, names = y + (sizes[2] if len(sizes) > 2 else 0.42), [] if after else ["hidden state"]
        sheet.arrow((4, bottom), (4, below), names=names)
        sheet.shape(4.1, (bottom + below) / 2 - 0.04, shape, names)
    width, side = parts["query"].out_features // heads, min(0.42, 5.4 / heads - 0.04)
    bias = "" if score_bias(stack.layers[number], *stack.arguments[number]) is None else " + distance bias"
    scores = f"softmax(q·kᵀ / √{width}{bias})"
    sheet.text(4, 2.0, f"{heads} heads of {width}: weights {scores}, dark 0, bright 1 (row = target), times v")
    for head, weights in enumerate(maps.numpy(force=True)):  # [target, source]
        left = 4 + (side + 0.04) * (head - heads / 2)
        extent = (left, left + side, 2.2 + side, 2.2)
        sheet.axes.imshow(weights, COLOURS, vmin=0, vmax=1, extent=extent, aspect="auto", zorder=2)
    for start, end, shape in ((0.6, 4.21, "layer in"), (4.6, 7.31, "attention_norm out")):
        sheet.arrow((4, start), (0.6, start), (0.6, end), (3.3, end), names=["residual"])
        sheet.text(1.15, end - 0.12, "residual", ha="left")
        sheet.shape(1.75, end - 0.12, shape, ["residual"])
