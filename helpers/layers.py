"""A model's layers as functions of one hidden state, so that any of them can be run alone."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .hooks import hidden_state, record, removed_after, resolve
from .models import Inputs, check_inputs


@dataclass(frozen=True)
class LayerStack:
    """The layers of a model at one sentence: the modules, the [seq, hidden] state that enters each, their arguments."""

    names: list[str]
    layers: list[nn.Module]
    states: list[Tensor]
    arguments: list[tuple[tuple, dict[str, Any]]]
    tokens: list[str]
    attention_mask: Tensor | None  # [seq] of 1 and 0; None when every token is attended to

    def run(self, layer: int, hidden: Tensor) -> Tensor:
        """Layer number `layer` alone on [rows, seq, hidden], with the mask and whatever else the model gave it."""
        args, kwargs = self.arguments[layer]
        args = tuple(_for_rows(value, len(hidden)) for value in args)
        kwargs = {name: _for_rows(value, len(hidden)) for name, value in kwargs.items()}
        output = hidden_state(self.layers[layer](hidden, *args, **kwargs))
        assert output is not None
        return output


@torch.no_grad()
def layer_stack(model: nn.Module, inputs: Inputs) -> LayerStack:
    """One clean forward pass of one sentence, kept layer by layer.

    The layers are the model's ModuleList with `config.num_hidden_layers` members (`encoder.layer` in BERT). Raises
    `ValueError` for inputs that are not one sentence and for a model without such a list.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> stack = layer_stack(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])})
    >>> stack.names, stack.states[0].shape
    (['encoder.layer.0', 'encoder.layer.1'], torch.Size([3, 8]))
    """
    inputs, tokens = check_inputs(model, inputs)
    config: Any = model.config
    depth = config.num_hidden_layers
    stacks = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth}
    if not stacks:
        raise ValueError(
            f"expected a ModuleList of {depth} layers, {type(model).__name__} has none (it may share one layer); "
            "noise_response works on any site"
        )
    name, layers = next(iter(stacks.items()))
    states: list[Tensor] = []
    arguments: list[tuple[tuple, dict[str, Any]]] = []

    def keep(_module, args, kwargs) -> None:
        kwargs = dict(kwargs)
        hidden, *rest = args if args else [kwargs.pop("hidden_states")]
        states.append(hidden[0].detach().clone())
        arguments.append((tuple(rest), kwargs))

    with removed_after() as handles:
        for layer in layers:
            handles.append(layer.register_forward_pre_hook(keep, with_kwargs=True))
        model(**inputs)
    mask = inputs.get("attention_mask")
    mask = None if mask is None or bool(mask.all()) else mask[0]
    return LayerStack([f"{name}.{i}" for i in range(depth)], list(layers), states, arguments, tokens, mask)


@torch.no_grad()
def entry_layer(model: nn.Module, inputs: Inputs, stack: LayerStack, inject: str) -> int:
    """The number of the layer that the hidden state of site `inject` enters."""
    resolve(model, inject)
    with record(model, inject) as trace:
        model(**check_inputs(model, inputs)[0])
    (site,) = trace
    for number, state in enumerate(stack.states):
        if trace[site].shape[1:] == state.shape and torch.equal(trace[site][0], state):
            return number
    raise ValueError(
        f"expected a site whose output enters a layer, got {inject!r}; "
        f"choose what feeds {stack.names[0]!r} or one of {stack.names[:-1]}"
    )


def _for_rows(value: Any, rows: int) -> Any:
    """A mask [1, seq] for a batch: some layers do not broadcast it. Whatever else the model gave stays."""
    is_mask = isinstance(value, Tensor) and value.ndim == 2 and len(value) == 1
    return value.expand(rows, -1) if is_mask else value
