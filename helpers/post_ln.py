"""The position-wise parts of a post-LN layer with their derivatives, and what a layer must be to have this form."""

from typing import Any

import torch
from torch import Tensor, nn

from .hooks import hidden_state


def layer_norm(norm: nn.LayerNorm, z: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """LN(z), and what its derivative needs: x̂ and γ/s, [seq, hidden] each."""
    centred = z - z.mean(-1, keepdim=True)
    s = (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    gain = norm.weight.detach().to(z.dtype) / s
    return gain * centred + norm.bias.detach().to(z.dtype), (centred / s, gain)


def norm_jvp(norm: tuple[Tensor, Tensor], t: Tensor) -> Tensor:
    x, gain = norm
    t = t - t.mean(-1, keepdim=True)
    return t.sub_(x * (t * x).mean(-1, keepdim=True)).mul_(gain)


def norm_vjp(norm: tuple[Tensor, Tensor], c: Tensor) -> Tensor:
    x, gain = norm
    c = c * gain
    return c - c.mean(-1, keepdim=True) - x * (c * x).mean(-1, keepdim=True)


@torch.enable_grad()
def with_slope(activation, x: Tensor) -> tuple[Tensor, Tensor]:
    """φ(x) and φ'(x) of an elementwise activation, by reverse mode: each output depends on its own input alone."""
    x = x.detach().requires_grad_()
    y = activation(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return y.detach(), slope


def check_layer(layer: Any) -> None:
    instead = 'use method="noise", which measures any layer'
    needed = (
        *(f"attention.self.{name}" for name in ("query", "key", "value")),
        *(f"{part}.{name}" for part in ("attention.output", "output") for name in ("dense", "LayerNorm")),
        "intermediate.dense",
    )
    have = {name for name, _ in layer.named_modules()}
    if missing := [name for name in needed if name not in have]:
        raise ValueError(
            f"expected a post-LN layer with BertLayer's submodules, {type(layer).__name__} has no {missing}; {instead}"
        )
    if layer.training:
        raise ValueError("expected a layer in eval mode, got training mode, whose dropout is random; call model.eval()")
    if getattr(layer, "is_decoder", False) or getattr(layer, "add_cross_attention", False):
        raise ValueError(
            f"expected self-attention in both directions, {type(layer).__name__} is a decoder's (causal, or with "
            f"cross-attention); {instead}"
        )
    if getattr(layer.attention.self, "position_embedding_type", None) not in (None, "absolute"):
        raise ValueError(
            f"expected absolute positions, {type(layer).__name__} adds relative ones to its scores; {instead}"
        )


def check_output(layer: nn.Module, hidden: Tensor, attention_mask: Tensor | None, out: Tensor) -> None:
    """Whatever else a layer might do (causal masks, another order of norms, an edit) shows in its output."""
    dtype = next(layer.parameters()).dtype
    mask = None
    if attention_mask is not None:
        mask = hidden.new_zeros(1, 1, 1, len(hidden), dtype=dtype).masked_fill(
            attention_mask == 0, torch.finfo(dtype).min
        )
    theirs = hidden_state(layer(hidden[None].to(dtype), mask))
    tolerance = 1e3 * max(torch.finfo(dtype).eps, torch.finfo(hidden.dtype).eps) * out.abs().max()
    if theirs is None or theirs[0].shape != out.shape or (theirs[0] - out).abs().max() > tolerance:
        raise ValueError(
            f"expected BertLayer's computation, {type(layer).__name__} gives another output (causal attention, another "
            'order of its parts, or an edit in place); use method="noise", which measures any layer'
        )
