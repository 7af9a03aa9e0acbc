"""The two dumps of a model: its module tree, and the shape of all that a forward pass puts out."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from .hooks import hooked, tensors
from .inputs import check_model, prepare
from .values import whole
from .words import Inputs


@dataclass(frozen=True, repr=False)
class Table:
    """Rows of (name, value) that print as aligned text; a notebook shows them all as a table.

    `.to_frame()` gives a DataFrame.
    """

    rows: list[tuple[str, Any]]
    columns: tuple[str, str]

    def __repr__(self) -> str:
        width = max((len(name) for name, _ in self.rows), default=0)
        return "\n".join(f"{name:<{width}} {value}" for name, value in self.rows)

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False, border=0, max_rows=None)

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows, columns=list(self.columns))


def module_tree(model: nn.Module) -> Table:
    """Every module below `model` in registration order: rows (dotted name, class with its module).

    A module object that is used in several places is listed once, under its first name
    (torch.nn.Module.named_modules).

    >>> print(module_tree(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.GELU())))
    0 torch.nn.modules.linear.Linear
    1 torch.nn.modules.activation.GELU
    """
    check_model(model)
    rows = []
    for name, module in model.named_modules():
        kind = type(module)
        rows.append((name, f"{kind.__module__}.{kind.__qualname__}"))
    return Table(rows[1:], ("module", "class"))  # the first is the model itself


@torch.no_grad()
def shape_table(model: nn.Module, inputs: Inputs, depth: int = 3) -> Table:
    """The shape of every tensor put out by modules with at most `depth` dots in their name.

    In the order in which they ran.

    Rows are (`name` or `name/sub`, torch.Size): `sub` is the index in a tuple or the key in a
    ModelOutput; the model's own output has the empty name. Raises `ValueError` for inputs that are
    not one sentence.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1))
    >>> print(shape_table(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}, depth=0))
    embeddings                torch.Size([1, 3, 8])
    encoder/last_hidden_state torch.Size([1, 3, 8])
    pooler                    torch.Size([1, 8])
    /last_hidden_state        torch.Size([1, 3, 8])
    /pooler_output            torch.Size([1, 8])
    """
    inputs, _ = prepare(model, inputs)
    depth = whole(depth, "a depth", 0)
    rows: list[tuple[str, torch.Size]] = []

    def note(name: str, _args: tuple, output: Any) -> None:
        rows.extend((name + sub, tensor.shape) for sub, tensor in tensors(output))

    modules = {name: m for name, m in model.named_modules() if name.count(".") <= depth}
    with hooked(modules, after=note):
        model(**inputs)
    return Table(rows, ("output", "shape"))
