"""One BERT layer as the linear map that it is for small changes: `jvp` forward, `vjp` backward.

For head h with head size d: q, k, v are the rows of the projections, A[j,i] = softmax_i(q_j·k_i/√d
+ mask), and o_j = Σ_i A[j,i] v_i. Then y = LN1(W_O o + b_O + x) and out = LN2(W_2 φ(W_1 y + b_1) +
b_2 + y), position by position (Devlin et al. 2019, post-LN). The derivative of the softmax is dA =
A ∘ (dS - Σ A dS), S the scores.
"""

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from ..hooks import hidden_state
from .post_ln import (
    NormAt,
    check_output,
    head_mask,
    layer_norm,
    layer_parts,
    norm_jvp,
    norm_vjp,
    with_slope,
    without_heads,
)


class LinearisedLayer:
    """A layer at `hidden` [seq, hidden], one sentence, with what its derivative needs.

    `LayerJacobian` says what is expected.
    """

    @torch.no_grad()
    def __init__(
        self,
        layer: nn.Module,
        hidden: Tensor,
        attention_mask: Tensor | None = None,
        *,
        score_bias: Tensor | None = None,
        output: Tensor | None = None,
        without: Sequence[int] = (),
    ):
        if hidden.ndim != 2:
            raise ValueError(
                f"expected hidden [seq, hidden] of one sentence, got {list(hidden.shape)}; "
                "pass hidden[0]"
            )
        if hidden.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"expected hidden in float32 or float64, got {hidden.dtype}; call hidden.float()"
            )
        parts = layer_parts(layer)

        def weights(part: str) -> tuple[Tensor, Tensor]:
            linear = parts[part]
            weight = linear.weight.detach().to(hidden.dtype)
            bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
            return weight, bias.to(hidden.dtype)

        self.number_of_heads = parts["heads"]
        self.w_q, b_q = weights("query")
        self.w_k, b_k = weights("key")
        self.w_v, b_v = weights("value")
        self.w_o, b_o = weights("attention_output")
        self.w_1, b_1 = weights("up")
        self.w_2, b_2 = weights("down")
        self.w_o = self.w_o * head_mask(parts, without).to(hidden.dtype)
        if hidden.shape[1] != self.w_q.shape[1]:
            raise ValueError(
                f"expected hidden [seq, hidden={self.w_q.shape[1]}], got {list(hidden.shape)}"
            )

        scale = (self.w_q.shape[0] // self.number_of_heads) ** -0.5  # 1/√d
        self.q = self._split(hidden @ self.w_q.T + b_q) * scale  # [head, seq, d]
        self.k = self._split(hidden @ self.w_k.T + b_k)
        self.v = self._split(hidden @ self.w_v.T + b_v)
        self.w_q = self.w_q * scale  # so that q = x W_Qᵀ everywhere below
        scores = self.q @ self.k.mT  # [head, target, source]
        if score_bias is not None:
            scores = scores + score_bias.to(scores)
        if attention_mask is not None:
            if attention_mask.shape != hidden.shape[:1] or not attention_mask.any():
                raise ValueError(
                    f"expected attention_mask [seq={len(hidden)}] with a 1 where a position is "
                    f"attended to, got {list(attention_mask.shape)} with "
                    f"{int(attention_mask.count_nonzero())} of them"
                )
            scores = scores.masked_fill(attention_mask == 0, -math.inf)
        self.a = scores.softmax(-1)  # [head, target, source]
        self.o = self.a @ self.v  # [head, seq, d]

        z_1 = self._join(self.o) @ self.w_o.T + b_o + hidden  # [seq, hidden]
        y, self.norm_1 = layer_norm(parts["attention_norm"], z_1)
        inner, self.slope = with_slope(parts["activation"], y @ self.w_1.T + b_1)  # [seq, inner]
        out, self.norm_2 = layer_norm(parts["output_norm"], inner @ self.w_2.T + b_2 + y)
        self.formed: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}  # by `LayerJacobian`

        if output is None:
            with without_heads(layer, without):
                output = _run(layer, hidden, attention_mask)
        check_output(layer, out, output)

    def to(self, dtype: torch.dtype) -> Self:
        """The same linearisation rounded to `dtype`, for cheaper `jvp` and `vjp`."""
        cast = copy.copy(self)
        cast.formed = {}
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(cast, name, value.to(dtype))
            elif isinstance(value, NormAt):
                setattr(cast, name, NormAt(value.x_hat.to(dtype), value.gain.to(dtype)))
        return cast

    @torch.no_grad()
    def jvp(self, tangents: Tensor) -> Tensor:
        """J·t: how the output moves when the input moves along `tangents` [..., seq, hidden].

        Axes below: r counts the tangents, h heads, j targets, i sources, d a head's dimensions.
        """
        t = self._batch(tangents)  # [r, seq, hidden]
        q = self._split(t @ self.w_q.T)  # [r, h, seq, d]
        k = self._split(t @ self.w_k.T)
        v = self._split(t @ self.w_v.T)
        s = torch.einsum("rhjd,hid->hrji", q, self.k)
        s += torch.einsum("hjd,rhid->hrji", self.q, k)
        s = self._softmax_derivative(s)
        o = torch.einsum("hrji,hid->rhjd", s, self.v)
        o += torch.einsum("hji,rhid->rhjd", self.a, v)
        y = norm_jvp(self.norm_1, _add_product(t, self._join(o), self.w_o.T))
        inner = (y @ self.w_1.T).mul_(self.slope)  # [r, seq, inner]
        z = _add_product(y, inner, self.w_2.T)
        return norm_jvp(self.norm_2, z).view(tangents.shape)

    @torch.no_grad()
    def vjp(self, cotangents: Tensor) -> Tensor:
        """Jᵀ·c: the input movement that the output reading `cotangents` [..., seq, hidden] sees."""
        c = norm_vjp(self.norm_2, self._batch(cotangents))  # [r, seq, hidden]
        inner = (c @ self.w_2).mul_(self.slope)  # [r, seq, inner]
        g = norm_vjp(self.norm_1, _add_product(c, inner, self.w_1))
        o = self._split(g @ self.w_o)  # [r, h, seq, d]
        s = self._softmax_derivative(torch.einsum("rhjd,hid->hrji", o, self.v))
        q = self._join(torch.einsum("hrji,hid->rhjd", s, self.k))  # [r, seq, hidden]
        k = self._join(torch.einsum("hrji,hjd->rhid", s, self.q))
        v = self._join(torch.einsum("hji,rhjd->rhid", self.a, o))
        return (g + q @ self.w_q + k @ self.w_k + v @ self.w_v).view(cotangents.shape)

    def _softmax_derivative(self, s: Tensor) -> Tensor:
        """A ∘ (s - Σ A s) of [head, r, target, source], which is its own transpose; in place."""
        a = self.a[:, None]
        s = s.mul_(a)
        return s.sub_(a * s.sum(-1, keepdim=True))

    def _split(self, x: Tensor) -> Tensor:
        """[..., seq, hidden] to [..., head, seq, d]"""
        return x.unflatten(-1, (self.number_of_heads, -1)).transpose(-3, -2)

    def _join(self, x: Tensor) -> Tensor:
        """[..., head, seq, d] to [..., seq, hidden]"""
        return x.transpose(-3, -2).flatten(-2)

    def _batch(self, vectors: Tensor) -> Tensor:
        shape = self.norm_1.gain.shape
        if vectors.shape[-2:] != shape:
            raise ValueError(
                f"expected [..., seq={shape[0]}, hidden={shape[1]}], got {list(vectors.shape)}"
            )
        return vectors.reshape(-1, *shape)


@torch.no_grad()
def attention_scores(layer: nn.Module, targets: Tensor, sources: Tensor) -> Tensor:
    """q·k/√d of hidden states [target, hidden] and [source, hidden], [head, target, source].

    No mask, bias or softmax: how much each target asks for each source, whatever stands beside
    them. For words alone, without a sentence or a position, take what layer 0 would get of them:
    `e = model.embeddings` and `e.LayerNorm(e.word_embeddings(ids))`.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=16))
    >>> attention_scores(tiny.encoder.layer[0].eval(), torch.ones(1, 8), torch.ones(3, 8)).shape
    torch.Size([2, 1, 3])
    """
    parts = layer_parts(layer)
    by_head = (parts["heads"], -1)
    q = parts["query"](targets).unflatten(-1, by_head).transpose(0, 1)  # [head, target, d]
    k = parts["key"](sources).unflatten(-1, by_head).transpose(0, 1)  # [head, source, d]
    return q @ k.mT / math.sqrt(q.shape[-1])


def _add_product(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """x + y W, [r, seq, hidden], in one pass."""
    return torch.addmm(x.flatten(0, 1), y.flatten(0, 1), w).view_as(x)


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
