"""One BERT layer as the linear map that it is for small changes: `jvp` forward, `vjp` backward.

For head h with head size d: q, k, v are the rows of the projections, A[j,i] = softmax_i(q_j·k_i/√d
+ mask), and o_j = Σ_i A[j,i] v_i. Then y = LN1(W_O o + b_O + x) and out = LN2(W_2 φ(W_1 y + b_1) +
b_2 + y), position by position (Devlin et al. 2019, post-LN). The derivative of the softmax is dA =
A ∘ (dS - Σ A dS), S the scores.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..hooks import hidden_state
from .knock_out import head_mask, without_heads
from .norms import layer_norm
from .post_ln import INSTEAD, layer_parts


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
        parts = layer_parts(layer)
        _check(hidden, attention_mask, width=parts["query"].in_features)

        def linear(part: str, x: Tensor) -> tuple[Tensor, Tensor]:
            """W and x Wᵀ + b of a part."""
            weight = parts[part].weight.detach().to(x)
            bias = parts[part].bias
            if bias is not None:
                bias = bias.detach().to(x)
            return weight, functional.linear(x, weight, bias)

        self.number_of_heads = parts["heads"]
        self.w_q, q = linear("query", hidden)
        self.w_k, k = linear("key", hidden)
        self.w_v, v = linear("value", hidden)
        scale = (q.shape[1] // self.number_of_heads) ** -0.5  # 1/√d
        self.w_q = self.w_q * scale  # so that q = x W_Qᵀ everywhere below
        self.q = self._split(q) * scale  # [head, seq, d]
        self.k = self._split(k)
        self.v = self._split(v)
        scores = self.q @ self.k.mT  # [head, target, source]
        if score_bias is not None:
            scores = scores + score_bias.to(scores)
        if attention_mask is not None:
            scores = scores.masked_fill(attention_mask == 0, -math.inf)
        self.a = scores.softmax(-1)  # [head, target, source]
        self.o = self.a @ self.v  # [head, seq, d]

        keep = head_mask(parts, without).to(hidden)  # [head * d]
        w_o, attended = linear("attention_output", self._join(self.o) * keep)
        self.w_o = w_o * keep
        y, self.norm_1 = layer_norm(parts["attention_norm"], attended + hidden)
        self.w_1, inner = linear("up", y)  # [seq, inner]
        inner, self.slope = with_slope(parts["activation"], inner)
        self.w_2, fed = linear("down", inner)
        out, self.norm_2 = layer_norm(parts["output_norm"], fed + y)
        if output is None:
            with without_heads(layer, without):
                output = _run(layer, hidden, attention_mask)
        _check_output(layer, out, output)

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
        z = t + self._join(o) @ self.w_o.T
        y = self.norm_1.jvp(z)
        inner = (y @ self.w_1.T).mul_(self.slope)  # [r, seq, inner]
        z = y + inner @ self.w_2.T
        return self.norm_2.jvp(z).view(tangents.shape)

    @torch.no_grad()
    def vjp(self, cotangents: Tensor) -> Tensor:
        """Jᵀ·c: the input movement that the output reading `cotangents` [..., seq, hidden] sees."""
        z = self.norm_2.vjp(self._batch(cotangents))  # [r, seq, hidden]
        inner = (z @ self.w_2).mul_(self.slope)  # [r, seq, inner]
        y = self.norm_1.vjp(z + inner @ self.w_1)
        o = self._split(y @ self.w_o)  # [r, h, seq, d]
        s = torch.einsum("rhjd,hid->hrji", o, self.v)
        s = self._softmax_derivative(s)
        q = self._join(torch.einsum("hrji,hid->rhjd", s, self.k))  # [r, seq, hidden]
        k = self._join(torch.einsum("hrji,hjd->rhid", s, self.q))
        v = self._join(torch.einsum("hji,rhjd->rhid", self.a, o))
        x = y + q @ self.w_q + k @ self.w_k + v @ self.w_v
        return x.view(cotangents.shape)

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


def with_slope(activation: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """φ(x) and φ'(x) of an elementwise activation, by reverse mode: an output has one input."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()  # of inference mode's own tensors there is no gradient
        y = activation(x * 1)  # one that works in place may not change x itself
        (slope,) = torch.autograd.grad(y.sum(), x)
    numbered = torch.arange(x.numel(), device=x.device).view_as(x)
    kept = numbered % 7 == 0
    alone = activation(x.detach() * kept)  # where the others are 0
    if not torch.allclose(alone[kept], y[kept], rtol=1e-3, atol=1e-5):
        raise ValueError(
            "expected an activation of each number by itself, got one in which numbers meet, "
            f"{type(activation).__name__}; {INSTEAD}"
        )
    return y.detach(), slope


def _check(hidden: Tensor, attention_mask: Tensor | None, width: int) -> None:
    if hidden.ndim != 2 or hidden.shape[1] != width:
        raise ValueError(
            f"expected hidden [seq, hidden={width}] of one sentence, got {list(hidden.shape)}; "
            "pass hidden[0] of a batch"
        )
    if hidden.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"expected hidden in float32 or float64, got {hidden.dtype}; call hidden.float()"
        )
    if attention_mask is None:
        return
    if attention_mask.shape != hidden.shape[:1] or not attention_mask.any():
        raise ValueError(
            f"expected attention_mask [seq={len(hidden)}] with a 1 where a position is "
            f"attended to, got {list(attention_mask.shape)} with "
            f"{int(attention_mask.count_nonzero())} of them"
        )


def _run(layer: nn.Module, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    """What the layer puts out when it is called with nothing but a mask."""
    dtype = next(layer.parameters()).dtype
    mask = None
    if attention_mask is not None:
        mask = hidden.new_zeros(1, 1, 1, len(hidden), dtype=dtype)
        mask = mask.masked_fill(attention_mask == 0, torch.finfo(dtype).min)
    found = hidden_state(layer(hidden[None].to(dtype), mask))
    assert found is not None
    return found[0]


def _check_output(layer: nn.Module, ours: Tensor, theirs: Tensor) -> None:
    """Whatever else a layer might do (causal masks, rotary positions, an edit) shows in its output.

    Both are [seq, hidden].
    """
    precision = max(torch.finfo(theirs.dtype).eps, torch.finfo(ours.dtype).eps)
    allowed = 1e3 * precision * ours.abs().max()
    alike = theirs.shape == ours.shape
    if not alike or not ((theirs - ours).abs() <= allowed).all():  # a NaN is close to nothing
        raise ValueError(
            f"expected a post-LN layer's computation, {type(layer).__name__} gives another output "
            f"(rotary positions, relative ones, a decoder's causal attention, another order of its "
            f"parts, an edit in place, or no number at all); {INSTEAD}"
        )
