"""The parts of a post-LN layer, wherever an architecture keeps them, and the derivatives of the position-wise ones.

Post-LN (Vaswani et al. 2017, Devlin et al. 2019): attention, add and LayerNorm; feed-forward, add
and LayerNorm.
"""

import inspect
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from ..inputs import check_precision

INSTEAD = 'use method="noise", which measures any layer'


@dataclass(frozen=True)
class Names:
    """Where a layer keeps its parts: dotted names below it."""

    query: str
    key: str
    value: str
    attention_output: str
    attention_norm: str
    up: str  # the feed-forward's first map, from hidden to the inner width
    activation: str
    down: str
    output_norm: str
    heads: str  # how many


NAMES = {
    "BERT": Names(
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        attention_output="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        up="intermediate.dense",
        activation="intermediate.intermediate_act_fn",
        down="output.dense",
        output_norm="output.LayerNorm",
        heads="attention.self.num_attention_heads",
    ),
    "MPNet": Names(
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        attention_norm="attention.LayerNorm",
        up="intermediate.dense",
        activation="intermediate.intermediate_act_fn",
        down="output.dense",
        output_norm="output.LayerNorm",
        heads="attention.attn.num_attention_heads",
    ),
    "DistilBERT": Names(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        up="ffn.lin1",
        activation="ffn.activation",
        down="ffn.lin2",
        output_norm="output_layer_norm",
        heads="attention.n_heads",
    ),
    "ALBERT": Names(
        query="attention.query",
        key="attention.key",
        value="attention.value",
        attention_output="attention.dense",
        attention_norm="attention.LayerNorm",
        up="ffn",
        activation="activation",
        down="ffn_output",
        output_norm="full_layer_layer_norm",
        heads="attention.num_attention_heads",
    ),
}
LINEAR = ("query", "key", "value", "attention_output", "up", "down")
NORMS = ("attention_norm", "output_norm")


def layer_parts(layer: nn.Module) -> dict[str, Any]:
    """The parts of a layer by the names of `Names`. Raises `ValueError` for a layer that the derivation does not cover.

    >>> from transformers import DistilBertConfig, DistilBertModel
    >>> tiny = DistilBertModel(DistilBertConfig(dim=8, n_heads=2, n_layers=1, hidden_dim=16))
    >>> layer_parts(tiny.eval().transformer.layer[0])["up"]
    Linear(in_features=8, out_features=16, bias=True)
    """
    kind = type(layer).__name__
    names = next((names for names in NAMES.values() if _has(layer, names)), None)
    if names is None:
        missing = [name for name in vars(NAMES["BERT"]).values() if not _has(layer, name)]
        raise ValueError(
            f"expected a post-LN layer with the submodules of {', '.join(NAMES)}, {kind} has, of BERT's, no {missing}; "
            f"{INSTEAD}"
        )
    parts: dict[str, Any] = {part: attrgetter(name)(layer) for part, name in vars(names).items()}
    for part in (*LINEAR, *NORMS):
        wanted = nn.LayerNorm if part in NORMS else nn.Linear
        if not isinstance(parts[part], wanted):
            raise ValueError(
                f"expected a {wanted.__name__} at {getattr(names, part)!r} of {kind}, got "
                f"{type(parts[part]).__name__}; {INSTEAD}"
            )
    hidden = parts["output_norm"].weight.shape[0]
    for part in LINEAR[:4]:
        if (shape := tuple(parts[part].weight.shape)) != (hidden, hidden):
            raise ValueError(
                f"expected {part} of {kind} to be {hidden} x {hidden}, got {shape}; {INSTEAD}"
            )
    _check(layer)
    return parts


def is_covered(layer: nn.Module) -> bool:
    """Whether a module has the submodules of one of the architectures in `NAMES`."""
    return any(_has(layer, names) for names in NAMES.values())


def score_bias(layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """What the layer's call adds to its attention scores besides the mask, [head, target, source]; MPNet does so."""
    given = (
        inspect.signature(layer.forward).bind(None, *args, **kwargs).arguments.get("position_bias")
    )
    return None if given is None else given[0]


def layer_norm(norm: nn.LayerNorm, z: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """LN(z), and what its derivative needs: x̂ and γ/s, [seq, hidden] each."""
    centred = z - z.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    gain = norm.weight.detach().to(z.dtype) / s
    return gain * centred + norm.bias.detach().to(z.dtype), (centred / s, gain)


def norm_jvp(norm: tuple[Tensor, Tensor], t: Tensor) -> Tensor:
    """LN'·t = γ/s ∘ (t - mean(t) - x̂ mean(x̂ ∘ t)), along the last axis."""
    x, gain = norm
    t = t - t.mean(-1, keepdim=True)
    return t.sub_(x * (t * x).mean(-1, keepdim=True)).mul_(gain)


def norm_vjp(norm: tuple[Tensor, Tensor], c: Tensor) -> Tensor:
    """LN'ᵀ·c, the same factors in the other order."""
    x, gain = norm
    c = c * gain
    return c - c.mean(-1, keepdim=True) - x * (c * x).mean(-1, keepdim=True)


def with_slope(activation, x: Tensor) -> tuple[Tensor, Tensor]:
    """φ(x) and φ'(x) of an elementwise activation, by reverse mode: each output depends on its own input alone."""
    with torch.inference_mode(False), torch.enable_grad():
        x = (
            x.clone().requires_grad_()
        )  # a copy may have a gradient where a tensor of inference mode may not
        y = activation(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


def check_output(layer: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """Whatever else a layer might do (causal masks, rotary positions, an edit) shows in its output [seq, hidden]."""
    precision = max(torch.finfo(theirs.dtype).eps, torch.finfo(ours.dtype).eps)
    close = (
        theirs.shape == ours.shape and (theirs - ours).abs() <= 1e3 * precision * ours.abs().max()
    )
    if not torch.as_tensor(close).all():  # a NaN is not close to anything
        raise ValueError(
            f"expected a post-LN layer's computation, {type(layer).__name__} gives another output (rotary positions, "
            f"causal attention, another order of its parts, an edit in place, or no number at all); {INSTEAD}"
        )


def _has(layer: nn.Module, names: Names | str) -> bool:
    try:
        attrgetter(*([names] if isinstance(names, str) else vars(names).values()))(layer)
    except AttributeError:
        return False
    return True


def _check(layer: Any) -> None:
    kind = type(layer).__name__
    if layer.training:
        raise ValueError(
            "expected a layer in eval mode, got training mode, whose dropout is random; call model.eval()"
        )
    check_precision(layer)
    if getattr(layer, "is_decoder", False) or getattr(layer, "add_cross_attention", False):
        raise ValueError(
            f"expected self-attention in both directions, {kind} is a decoder's (causal, or with cross-attention); "
            f"{INSTEAD}"
        )
    attention = getattr(layer.attention, "self", None)
    if getattr(attention, "position_embedding_type", None) not in (None, "absolute"):
        raise ValueError(
            f"expected absolute positions, {kind} adds relative ones to its scores; {INSTEAD}"
        )
