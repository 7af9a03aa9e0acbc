"""The exact derivative of one BERT layer at one hidden state, in closed form.

Everything after the attention works position by position, so the block from `source` i to `target` j is

    J[j,i] = D_j (δ_ij I + W_O C[j,i]),    D_j = LN2'(z2_j) (I + W_2 diag φ'(W_1 y_j + b_1) W_1) LN1'(z1_j),

and C[j,i] stacks, head by head, with A the attention weights and o_j = Σ_i A[j,i] v_i,

    value    A[j,i] W_V
    key      A[j,i] (v_i - o_j) q_jᵀ W_K / √d
    query    Σ_m A[j,m] v_m (k_m - k̄_j)ᵀ W_Q / √d,   k̄_j = Σ_m A[j,m] k_m,   only where i = j.

The layer is that of Devlin et al. 2019 (post-LN); the softmax rule is dA = A ∘ (dS - Σ A dS).
"""

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from .post_ln import check_layer, check_output, layer_norm, norm_jvp, norm_vjp, with_slope

PATHS = ("residual", "value", "key", "query")
CHUNK_BYTES = 2**27  # what the matrices of one chunk of targets may take


class LayerJacobian:
    """The derivative of `layer` at `hidden` [seq, hidden], one sentence, in `hidden`'s dtype and on its device.

    `layer` has BertLayer's submodules (BERT, RoBERTa, ELECTRA, ...), is in eval mode and is run once to check that
    what is differentiated here is what the layer computes; `attention_mask` is [seq] of 1 (attend) and 0. Raises
    `ValueError` for what this derivation does not cover; the method "noise" measures those.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=16))
    >>> J = LayerJacobian(tiny.eval().encoder.layer[0], torch.ones(3, 8))
    >>> torch.allclose(J.norms()[2, 0], J.block(target=2, source=0).square().sum())
    True
    """

    @torch.no_grad()
    def __init__(self, layer: nn.Module, hidden: Tensor, attention_mask: Tensor | None = None):
        if hidden.ndim != 2:
            raise ValueError(f"expected hidden [seq, hidden] of one sentence, got {list(hidden.shape)}; pass hidden[0]")
        check_layer(layer)
        parts: Any = layer  # submodules by name, which the type checker cannot know
        attention, output = parts.attention, parts.output

        def weights(linear: nn.Linear) -> tuple[Tensor, Tensor]:
            return linear.weight.detach().to(hidden.dtype), linear.bias.detach().to(hidden.dtype)

        self.heads = attention.self.num_attention_heads
        (self.w_q, b_q), (self.w_k, b_k), (self.w_v, b_v) = map(
            weights, (attention.self.query, attention.self.key, attention.self.value)
        )
        self.w_o, b_o = weights(attention.output.dense)
        self.w_1, b_1 = weights(parts.intermediate.dense)
        self.w_2, b_2 = weights(output.dense)

        scale = (self.w_q.shape[0] // self.heads) ** -0.5
        self.q = self._split(hidden @ self.w_q.T + b_q) * scale  # [head, seq, d], with the 1/√d taken in
        self.k = self._split(hidden @ self.w_k.T + b_k)
        self.v = self._split(hidden @ self.w_v.T + b_v)
        self.w_q = self.w_q * scale  # so that q = x W_Qᵀ everywhere below
        scores = self.q @ self.k.mT
        if attention_mask is not None:
            if attention_mask.shape != hidden.shape[:1]:
                raise ValueError(f"expected attention_mask [seq={len(hidden)}], got {list(attention_mask.shape)}")
            scores = scores.masked_fill(attention_mask == 0, -math.inf)
        self.a = scores.softmax(-1)  # [head, target, source]
        self.o = self.a @ self.v
        y, self.norm_1 = layer_norm(attention.output.LayerNorm, self._join(self.o) @ self.w_o.T + b_o + hidden)
        inner, self.slope = with_slope(parts.intermediate.intermediate_act_fn, y @ self.w_1.T + b_1)
        out, self.norm_2 = layer_norm(output.LayerNorm, inner @ self.w_2.T + b_2 + y)
        check_output(layer, hidden, attention_mask, out)

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
        y = norm_jvp(self.norm_1, torch.addmm(t.flatten(0, 1), self._join(o).flatten(0, 1), self.w_o.T).view_as(t))
        inner = (y @ self.w_1.T).mul_(self.slope)
        z = torch.addmm(y.flatten(0, 1), inner.flatten(0, 1), self.w_2.T).view_as(t)
        return norm_jvp(self.norm_2, z).view(tangents.shape)

    @torch.no_grad()
    def vjp(self, cotangents: Tensor) -> Tensor:
        """Jᵀ·c: which input movement the output reading `cotangents` sees; [..., seq, hidden] to the same."""
        c = norm_vjp(self.norm_2, self._batch(cotangents))
        inner = (c @ self.w_2).mul_(self.slope)
        g = norm_vjp(self.norm_1, torch.addmm(c.flatten(0, 1), inner.flatten(0, 1), self.w_1).view_as(c))
        o = self._split(g @ self.w_o)
        s = torch.einsum("rhjd,hid->hrji", o, self.v).mul_(self.a[:, None])
        s -= self.a[:, None] * s.sum(-1, keepdim=True)
        q = torch.einsum("hrji,hid->rhjd", s, self.k)
        k = torch.einsum("hrji,hjd->rhid", s, self.q)
        v = torch.einsum("hji,rhjd->rhid", self.a, o)
        inputs = (self._join(part) @ w for part, w in ((q, self.w_q), (k, self.w_k), (v, self.w_v)))
        return sum(inputs, g).view(cotangents.shape)

    @torch.no_grad()
    def block(self, target: int, source: int, path: str | None = None) -> Tensor:
        """∂out_target/∂in_source [hidden, hidden], or one of the parts that it is the sum of (see `PATHS`)."""
        seq = self.a.shape[-1]
        if not (0 <= target < seq and 0 <= source < seq):
            raise ValueError(f"expected target and source from 0 to {seq - 1}, got {target} and {source}")
        if path not in (None, *PATHS):
            raise ValueError(f"expected a path of {PATHS}, got {path!r}")
        d = self._position_wise(slice(target, target + 1))[0]
        chosen = PATHS if path is None else (path,)
        c = self._mixing(
            torch.tensor([target]), torch.tensor([source]), [name for name in chosen if name != "residual"]
        )
        part = d @ self.w_o @ c[0]
        return part + d if target == source and "residual" in chosen else part

    @torch.no_grad()
    def norms(self) -> Tensor:
        """‖J[j,i]‖²_F of every block, [target, source], without forming one off the diagonal.

        ‖J[j,i]‖² = tr(G_j C Cᵀ) with G_j = (D_j W_O)ᵀ(D_j W_O), and C Cᵀ is made of W_V W_Vᵀ, the vectors W_V W_Kᵀ q_j
        and the scalars qᵀ W_K W_Kᵀ q. About 14·seq·hidden³ + 2·seq²·hidden² operations.
        """
        rows = (self._diagonal(*chunk, torch.stack(self._squares(*chunk)).sum(0)) for chunk in self._chunks())
        return torch.cat(list(rows))

    @torch.no_grad()
    def paths(self) -> dict[str, Tensor]:
        """‖part‖²_F of every block, [target, source], for each of `PATHS`, and what their mixed terms add to norms().

        "interference" is norms() minus the sum of the four; it is negative where paths cancel.
        """
        parts: dict[str, list[Tensor]] = {name: [] for name in (*PATHS, "interference")}
        for chunk in self._chunks():
            targets, d, p, _ = chunk
            value, mixed, key = self._squares(*chunk)
            own = torch.arange(targets.start, targets.stop)
            rows = {name: torch.zeros_like(value) for name in ("residual", "query")}
            rows["residual"][own - targets.start, own] = d.square().sum((1, 2))
            rows["query"][own - targets.start, own] = (p @ self._mixing(own, own, ["query"])).square().sum((1, 2))
            rows |= {"value": value, "key": key}
            total = self._diagonal(*chunk, value + mixed + key)
            for name in PATHS:
                parts[name].append(rows[name])
            parts["interference"].append(total - sum(rows.values()))
        return {name: torch.cat(rows) for name, rows in parts.items()}

    def _chunks(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Targets, D_j, P_j = D_j W_O and G_j = P_jᵀP_j, as many targets at once as the memory allows."""
        (inner, hidden), seq = self.w_1.shape, self.a.shape[-1]
        size = max(1, CHUNK_BYTES // ((inner + 8 * hidden) * hidden * self.w_1.element_size()))
        for start in range(0, seq, size):
            targets = slice(start, min(start + size, seq))
            d = self._position_wise(targets)
            p = (d.flatten(0, 1) @ self.w_o).view_as(d)
            yield targets, d, p, p.mT @ p

    def _position_wise(self, targets: slice) -> Tensor:
        """D_j [target, hidden, hidden]; each LayerNorm is diag(γ/s) times a projection of rank hidden - 2."""
        (x_1, g_1), (x_2, g_2) = ((x[targets], g[targets]) for x, g in (self.norm_1, self.norm_2))
        hidden = x_1.shape[-1]
        d = ((self.w_2 * self.slope[targets, None]).flatten(0, 1) @ self.w_1).view(-1, hidden, hidden)
        d.diagonal(dim1=1, dim2=2).add_(1)
        d *= g_1[:, None]
        left, right = (torch.stack([torch.ones_like(x), x], -1) / hidden**0.5 for x in (x_2, x_1))
        rows, columns = left.mT @ d, d @ right  # (I - LLᵀ) d (I - RRᵀ) as one update of rank 4
        d = torch.baddbmm(
            d,
            torch.cat([left, columns - left @ (left.mT @ columns)], -1),
            torch.cat([rows, right.mT], 1),
            alpha=-1,
        )
        return d.mul_(g_2[..., None])

    def _squares(self, targets: slice, _d: Tensor, _p: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """‖value part‖², 2⟨value part, key part⟩ and ‖key part‖² of all blocks of these targets, [target, source]."""
        heads, q = self.heads, self.q[:, targets].transpose(0, 1)  # [target, head, d]
        a = self.a[:, targets].permute(1, 2, 0)  # [target, source, head]
        u = a[..., None] * (self.v.transpose(0, 1) - self.o[:, targets].transpose(0, 1)[:, None])  # A (v_i - o_j)
        w = torch.einsum("jhd,hdx->jhx", q, self.w_k.unflatten(0, (self.heads, -1)))  # W_Kᵀ q_j, head by head
        blocks = g.unflatten(2, (heads, -1)).unflatten(1, (heads, -1))  # [target, head, d, head, d]
        value = (blocks * (self.w_v @ self.w_v.T).unflatten(1, (heads, -1)).unflatten(0, (heads, -1))).sum((2, 4))
        value = ((a @ value) * a).sum(-1)
        mixed = (blocks * (w @ self.w_v.T).unflatten(2, (heads, -1))[:, :, None]).sum(-1)  # [target, head, d, head]
        mixed = 2 * ((a @ mixed.flatten(1, 2).mT) * u.flatten(2)).sum(-1)
        key = (blocks * (w @ w.mT)[:, :, None, :, None]).view_as(g)
        key = ((u.flatten(2) @ key) * u.flatten(2)).sum(-1)
        return value, mixed, key

    def _diagonal(self, targets: slice, d: Tensor, p: Tensor, _g: Tensor, squares: Tensor) -> Tensor:
        """`squares` [target, source] with the blocks on the diagonal replaced: those are formed and summed up."""
        own = torch.arange(targets.start, targets.stop)
        block = torch.baddbmm(d, p, self._mixing(own, own, PATHS[1:]))
        squares[own - targets.start, own] = block.square().sum((1, 2))
        return squares

    def _mixing(self, target: Tensor, source: Tensor, paths: Sequence[str]) -> Tensor:
        """C[j,i] of each pair of positions, [pair, hidden, hidden]: per head, a small matrix times W_V, W_K or W_Q."""
        a = self.a[:, target].transpose(0, 1)  # [pair, head, source]
        q, o = (x[:, target].transpose(0, 1) for x in (self.q, self.o))
        v = self.v[:, source].transpose(0, 1)
        sent = self.a[:, target, source].T[..., None, None]  # A[j,i], [pair, head, 1, 1]
        factors: dict[str, tuple[Tensor, Tensor]] = {}
        if "value" in paths:
            factors["value"] = sent * torch.eye(q.shape[-1]).to(q), self.w_v
        if "key" in paths:
            factors["key"] = sent * (v - o)[..., None] * q[..., None, :], self.w_k
        if "query" in paths:
            spread = (a[..., None] * self.v).mT @ self.k - o[..., None] * (a[..., None, :] @ self.k)
            factors["query"] = spread * (target == source)[:, None, None, None].to(q), self.w_q
        if not factors:
            return self.w_o.new_zeros(len(target), *self.w_o.shape)
        left = torch.cat([small for small, _ in factors.values()], -1)
        right = torch.cat([weight.unflatten(0, (self.heads, -1)) for _, weight in factors.values()], 1)
        return torch.einsum("phab,hbx->phax", left, right).flatten(1, 2)

    def _split(self, x: Tensor) -> Tensor:
        """[..., seq, hidden] to [..., head, seq, d]"""
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _join(self, x: Tensor) -> Tensor:
        return x.transpose(-3, -2).flatten(-2)

    def _batch(self, vectors: Tensor) -> Tensor:
        shape = self.norm_1[0].shape
        if vectors.shape[-2:] != shape:
            raise ValueError(f"expected [..., seq={shape[0]}, hidden={shape[1]}], got {list(vectors.shape)}")
        return vectors.reshape(-1, *shape)
