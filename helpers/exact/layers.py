"""A model's layers as functions of one hidden state, so that any of them can be run alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..clean import clean_pass
from ..hooks import hidden_state, hooked, module_name, record, resolve
from ..inputs import prepare
from ..values import shortened
from ..words import Inputs
from .jacobian import LayerJacobian
from .knock_out import without_heads
from .post_ln import names_of, score_bias


@dataclass(frozen=True, repr=False)
class LayerStack:
    """The layers of a model at one sentence, in the order in which they ran."""

    model: nn.Module
    sentence: Inputs
    names: list[str]
    layers: list[nn.Module]
    states: list[Tensor]  # what enters each layer, [seq, hidden]
    outputs: list[Tensor]  # what leaves it
    arguments: list[tuple[tuple, dict[str, Any]]]  # what the model gave it besides
    tokens: list[str]
    attention_mask: Tensor | None  # [seq] of 1 and 0; None when every token is attended to

    def __repr__(self) -> str:
        text = shortened(" ".join(self.tokens))
        return f"LayerStack({len(self.layers)} layers, {len(self.tokens)} tokens: {text})"

    @property
    def modules(self) -> list[str]:
        """The name of each layer's module, which is that of several where layers share one."""
        return [module_name(name) for name in self.names]

    def number(self, site: str) -> int | None:
        """Of the layer with this name, short or in full; None for what is no layer."""
        name = module_name(site)
        found = list(resolve(self.model, name))
        if len(found) > 1:
            raise ValueError(f"expected one of the layers {self.names}, got {site!r}")
        full = found[0] + site[len(name) :]
        return self.names.index(full) if full in self.names else None

    def run(self, layer: int, hidden: Tensor) -> Tensor:
        """Layer number `layer` alone on [rows, seq, hidden], with what else the model gave it."""
        if any(hasattr(value, "get_seq_length") for value in tree_leaves(self.arguments[layer])):
            raise ValueError(
                f"expected a layer that keeps no cache, got {type(self.layers[layer]).__name__}, "
                "which would find it when it runs again; the method 'noise' measures it"
            )
        for_rows = partial(_for_rows, rows=len(hidden))
        args, kwargs = tree_map(for_rows, self.arguments[layer])
        output = hidden_state(self.layers[layer](hidden, *args, **kwargs))
        assert output is not None
        return output

    @torch.no_grad()
    def jacobian(
        self, layer: int, hidden: Tensor | None = None, *, without: Sequence[int] = ()
    ) -> LayerJacobian:
        """The derivative of layer number `layer`, as the model ran it.

        It is taken at the layer's own state or at `hidden` [seq, hidden], and with the heads in
        `without` knocked out. Raises `ValueError` for a layer that the closed form does not cover,
        as `LayerJacobian` does.
        """
        module, state = self.layers[layer], self.states[layer]
        output, model_dtype = self.outputs[layer], state.dtype
        if hidden is not None or without != ():
            state = state if hidden is None else hidden
            with without_heads(module, without):
                output = self.run(layer, state[None].to(model_dtype))[0]
        return LayerJacobian(
            module,
            state,
            self.attention_mask,
            score_bias=score_bias(module, *self.arguments[layer]),
            output=output,
            without=without,
        )


@torch.no_grad()
def layer_stack(model: nn.Module, inputs: "Inputs | LayerStack") -> LayerStack:
    """One clean forward pass of one sentence, kept layer by layer; a stack is itself.

    The layers are the model's ModuleList with `config.num_hidden_layers` members (`encoder.layer`
    in BERT); where one layer runs several times (ALBERT), each run counts as a layer and is named
    with its number, as "...layers.0[3]" is. Raises `ValueError` for inputs that are not one
    sentence and for a model whose layers cannot be followed: none were found, weights in half
    precision, a compiled model, or a state that is not [1, seq, hidden].

    >>> from transformers import BertConfig, BertModel
    >>> config = BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2)
    >>> tiny = BertModel(config)
    >>> stack = layer_stack(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])})
    >>> stack.names, stack.states[0].shape
    (['encoder.layer.0', 'encoder.layer.1'], torch.Size([3, 8]))
    """
    if isinstance(inputs, LayerStack):
        if inputs.model is not model:
            raise ValueError("expected a stack of the same model, got that of another one")
        return inputs
    prepared, tokens = prepare(model, inputs)
    layers, may_repeat = _layers(model)
    if any(map(_is_compiled, model.modules())):
        raise ValueError(
            "expected a model as it was before torch.compile, got a compiled one, which may run no "
            "hook"
        )
    names: list[str] = []
    states: list[Tensor] = []
    outputs: list[Tensor] = []
    arguments: list[tuple[tuple, dict[str, Any]]] = []

    def before(name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        kwargs = dict(kwargs)
        hidden, *rest = args or [kwargs.pop("hidden_states")]
        names.append(name)
        states.append(hidden.detach().clone())
        arguments.append((tuple(rest), kwargs))

    def after(_name: str, _args: tuple, output: Any) -> None:
        hidden = hidden_state(output)
        assert hidden is not None
        outputs.append(hidden.detach().clone())

    with clean_pass(model), hooked(layers, before, after):
        model(**prepared)
    if set(names) != set(layers) or not (may_repeat or names == list(layers)):
        raise ValueError(
            f"expected each of {list(layers)[:2]}... to run once and in order, they ran "
            f"{list(Counter(names).values())} times; a layer whose forward is called directly is "
            "hidden from hooks; noise_response works on any site that runs"
        )
    _check_states(type(model).__name__, names, states, outputs, len(tokens))
    ran = [layers[name] for name in names]
    if may_repeat:
        names = [f"{name}[{number}]" for number, name in enumerate(names)]
    mask = prepared.get("attention_mask")
    mask = None if mask is None or bool(mask.all()) else mask[0]
    states, outputs = [state[0] for state in states], [output[0] for output in outputs]
    return LayerStack(model, inputs, names, ran, states, outputs, arguments, tokens, mask)


@torch.no_grad()
def layer_behind(stack: LayerStack, inject: str | None) -> int:
    """The number of the layer that what site `inject` puts out enters; None enters the first."""
    if inject is None:
        return 0
    number = stack.number(inject)
    if number is None:
        prepared, _ = prepare(stack.model, stack.sentence)
        with record(stack.model, inject, stop=True) as trace:
            stack.model(**prepared)
        if torch.equal(trace.runs[0][1][0], stack.states[0]):
            return 0
    elif number + 1 < len(stack.layers):
        return number + 1
    raise ValueError(
        f"expected a site whose output enters a layer, got {inject!r}; "
        f"choose what feeds {stack.names[0]!r} or one of {stack.names[:-1]}; the method "
        "'noise' takes any site"
    )


def _check_states(
    model: str, names: list[str], states: list[Tensor], outputs: list[Tensor], seq: int
) -> None:
    for left, entered in zip(outputs, states[1:], strict=False):
        if not torch.equal(left, entered):
            raise ValueError(
                f"expected what leaves one of {names[0]!r}... to enter the next, so that they are "
                f"the layers of {model}, got another state; noise_response and "
                "downstream_influence(inject=, observe=, method='noise') measure any sites"
            )
    for name, state in zip(names, states, strict=True):
        if state.shape[:-1] != (1, seq):
            raise ValueError(
                f"expected a hidden state [1, seq={seq}, hidden] at {name!r} of {model}, got "
                f"{list(state.shape)}; its positions are not those of the tokens"
            )


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or bool(getattr(module, "_compiled_call_impl", None))


def _layers(model: nn.Module) -> tuple[dict[str, nn.Module], bool]:
    """The layers by name, and whether they may run more than once."""
    config: Any = model.config
    depth = getattr(config, "num_hidden_layers", None)
    found: dict[str, nn.Module] = {}
    lists: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if names_of(module):
            found[name] = module
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            lists[name] = module
    if lists and not hasattr(config, "num_hidden_groups"):  # as ALBERT has
        name = max(lists, key=lambda name: _attends(lists[name]))
        return {f"{name}.{number}": layer for number, layer in enumerate(lists[name])}, False
    if not found:
        raise ValueError(
            f"expected a ModuleList of num_hidden_layers={depth} layers, {type(model).__name__} "
            "has none; noise_response works on any site"
        )
    return found, True


def _attends(layers: nn.ModuleList) -> tuple[bool, bool]:
    """Whether the first is a layer for sure, and whether it looks like one.

    A model may have as many heads as layers, and before them.
    """
    kinds = [type(module).__name__ for module in layers[0].modules()]
    return bool(names_of(layers[0])), any("ttention" in kind for kind in kinds)


def _for_rows(value: Any, rows: int) -> Any:
    """A mask [1, seq] for a batch, as some layers do not broadcast it; whatever else as it is."""
    is_mask = isinstance(value, Tensor) and value.ndim == 2 and len(value) == 1
    return value.expand(rows, -1) if is_mask else value
