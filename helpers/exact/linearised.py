"""One BERT layer as the linear map that it is for small changes: `jvp` forward, `vjp` backward.

For head h with head size d: q, k, v are the rows of the projections, A[j,i] = softmax_i(q_j·k_i/√d
+ mask), and o_j = Σ_i A[j,i] v_i. Then y = LN1(W_O o + b_O + x) and out = LN2(W_2 φ(W_1 y + b_1) +
b_2 + y), position by position (Devlin et al. 2019, post-LN). The derivative of the softmax is dA =
A ∘ (dS - Σ A dS), S the scores.
"""

import copy
import math
from typing import Self

import torch
from torch import Tensor, nn

from ..hooks import hidden_state
from .post_ln import check_output, layer_norm, layer_parts, norm_jvp, norm_vjp, with_slope


class LinearisedLayer:
    """A layer at `hidden` [seq, hidden], one sentence, with what its derivative needs; see `LayerJacobian`."""

    @torch.no_grad()
    def __init__(
        self,
        layer: nn.Module,
        hidden: Tensor,
        attention_mask: Tensor | None = None,
        *,
        score_bias: Tensor | None = None,
        output: Tensor | None = None,
    ):
        if hidden.ndim != 2:
            raise ValueError(
                f"expected hidden [seq, hidden] of one sentence, got {list(hidden.shape)}; pass hidden[0]"
            )
        if hidden.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"expected hidden in float32 or float64, got {hidden.dtype}; call hidden.float()"
            )
        parts = layer_parts(layer)

        def weights(part: str) -> tuple[Tensor, Tensor]:
            linear = parts[part]
            bias = (
                linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias
            )
            return linear.weight.detach().to(hidden.dtype), bias.detach().to(hidden.dtype)

        self.number_of_heads = parts["heads"]
        (self.w_q, b_q), (self.w_k, b_k), (self.w_v, b_v) = map(weights, ("query", "key", "value"))
        (self.w_o, b_o), (self.w_1, b_1), (self.w_2, b_2) = map(
            weights, ("attention_output", "up", "down")
        )
        if hidden.shape[1] != self.w_q.shape[1]:
            raise ValueError(
                f"expected hidden [seq, hidden={self.w_q.shape[1]}], got {list(hidden.shape)}"
            )

        scale = (self.w_q.shape[0] // self.number_of_heads) ** -0.5
        self.q = (
            self._split(hidden @ self.w_q.T + b_q) * scale
        )  # [head, seq, d], with the 1/√d taken in
        self.k = self._split(hidden @ self.w_k.T + b_k)
        self.v = self._split(hidden @ self.w_v.T + b_v)
        self.w_q = self.w_q * scale  # so that q = x W_Qᵀ everywhere below
        scores = self.q @ self.k.mT
        if score_bias is not None:
            scores = scores + score_bias.to(scores)
        if attention_mask is not None:
            if attention_mask.shape != hidden.shape[:1] or not attention_mask.any():
                raise ValueError(
                    f"expected attention_mask [seq={len(hidden)}] with a 1 where a position is attended to, got "
                    f"{list(attention_mask.shape)} with {int(attention_mask.count_nonzero())} of them"
                )
            scores = scores.masked_fill(attention_mask == 0, -math.inf)
        self.a = scores.softmax(-1)  # [head, target, source]
        self.o = self.a @ self.v
        y, self.norm_1 = layer_norm(
            parts["attention_norm"], self._join(self.o) @ self.w_o.T + b_o + hidden
        )
        inner, self.slope = with_slope(parts["activation"], y @ self.w_1.T + b_1)
        out, self.norm_2 = layer_norm(parts["output_norm"], inner @ self.w_2.T + b_2 + y)
        check_output(layer, out, _run(layer, hidden, attention_mask) if output is None else output)

    def to(self, dtype: torch.dtype) -> Self:
        """The same linearisation with its tensors rounded to `dtype`, for cheaper `jvp` and `vjp`."""
        cast = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(cast, name, value.to(dtype))
            elif isinstance(value, tuple):
                setattr(cast, name, tuple(part.to(dtype) for part in value))
        return cast

    @torch.no_grad()
    def jvp(self, tangents: Tensor) -> Tensor:
        """J·t: how the output moves when the input moves along `tangents`; [..., seq, hidden] to the same."""
        t = self._batch(tangents)
        q, k, v = (self._split(t @ w.T) for w in (self.w_q, self.w_k, self.w_v))
        s = torch.einsum("rhjd,hid->hrji", q, self.k) + torch.einsum("hjd,rhid->hrji", self.q, k)
        s = s.mul_(self.a[:, None])
        s -= self.a[:, None] * s.sum(-1, keepdim=True)
        o = torch.einsum("hrji,hid->rhjd", s, self.v) + torch.einsum("hji,rhid->rhjd", self.a, v)
        y = norm_jvp(
            self.norm_1,
            torch.addmm(t.flatten(0, 1), self._join(o).flatten(0, 1), self.w_o.T).view_as(t),
        )
        inner = (y @ self.w_1.T).mul_(self.slope)
        z = torch.addmm(y.flatten(0, 1), inner.flatten(0, 1), self.w_2.T).view_as(t)
        return norm_jvp(self.norm_2, z).view(tangents.shape)

    @torch.no_grad()
    def vjp(self, cotangents: Tensor) -> Tensor:
        """Jᵀ·c: which input movement the output reading `cotangents` sees; [..., seq, hidden] to the same."""
        c = norm_vjp(self.norm_2, self._batch(cotangents))
        inner = (c @ self.w_2).mul_(self.slope)
        g = norm_vjp(
            self.norm_1, torch.addmm(c.flatten(0, 1), inner.flatten(0, 1), self.w_1).view_as(c)
        )
        o = self._split(g @ self.w_o)
        s = torch.einsum("rhjd,hid->hrji", o, self.v).mul_(self.a[:, None])
        s -= self.a[:, None] * s.sum(-1, keepdim=True)
        q = torch.einsum("hrji,hid->rhjd", s, self.k)
        k = torch.einsum("hrji,hjd->rhid", s, self.q)
        v = torch.einsum("hji,rhjd->rhid", self.a, o)
        inputs = (self._join(part) @ w for part, w in ((q, self.w_q), (k, self.w_k), (v, self.w_v)))
        return sum(inputs, g).view(cotangents.shape)

    def _split(self, x: Tensor) -> Tensor:
        """[..., seq, hidden] to [..., head, seq, d]"""
        return x.unflatten(-1, (self.number_of_heads, -1)).transpose(-3, -2)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(-3, -2).flatten(-2)

    def _batch(self, vectors: Tensor) -> Tensor:
        shape = self.norm_1[0].shape
        if vectors.shape[-2:] != shape:
            raise ValueError(
                f"expected [..., seq={shape[0]}, hidden={shape[1]}], got {list(vectors.shape)}"
            )
        return vectors.reshape(-1, *shape)


def _run(layer: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """What the layer puts out when it is called with nothing but a mask."""
    dtype = next(layer.parameters()).dtype
    mask = None
    if attention_mask is not None:
        mask = hidden.new_zeros(1, 1, 1, len(hidden), dtype=dtype).masked_fill(
            attention_mask == 0, torch.finfo(dtype).min
        )
    found = hidden_state(layer(hidden[None].to(dtype), mask))
    assert found is not None
    return found[0]
