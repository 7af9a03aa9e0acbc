"""The exact derivative of one BERT layer at one hidden state, in closed form.

Everything after the attention works position by position, so the block from `source` i to `target`
j is

    J[j,i] = D_j (δ_ij I + W_O C[j,i]),    D_j = LN2'(z2_j) (I + W_2 diag φ'(W_1 y_j + b_1) W_1)
    LN1'(z1_j),

and C[j,i] stacks, head by head, with A the attention weights and o_j = Σ_i A[j,i] v_i,

    value    A[j,i] W_V
    key      A[j,i] (v_i - o_j) q_jᵀ W_K / √d
    query    Σ_m A[j,m] v_m (k_m - k̄_j)ᵀ W_Q / √d,   k̄_j = Σ_m A[j,m] k_m,   only where i = j.

The letters are those of `linearised`, where the layer is run.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..values import whole
from .linearised import LinearisedLayer
from .post_ln import norm_jvp, norm_vjp

PATHS = ("residual", "value", "key", "query")
CHUNK_BYTES = 2**27  # what the matrices of one chunk of targets may take


class Chunk(NamedTuple):
    """Some targets j, their D_j and P_j = D_j W_O, and the form of `_form_of`."""

    own: Tensor
    d: Tensor
    p: Tensor
    z: Tensor
    q: Tensor

    @property
    def start(self) -> int:
        return int(self.own[0])


class LayerJacobian(LinearisedLayer):
    """The derivative of `layer` at `hidden` [seq, hidden], one sentence, in `hidden`'s dtype and on its device.

    `layer` is a post-LN layer of an architecture in `post_ln.NAMES` (BERT and its like, MPNet,
    DistilBERT, ALBERT), in eval mode; `attention_mask` is [seq] of 1 (attend) and 0, `score_bias`
    [head, target, source] is what the model adds to the scores besides. What is differentiated here
    is checked against what the layer puts out: `output` [seq, hidden], or the layer is run.
    `LayerStack.jacobian` gives all of these as the model had them. Raises `ValueError` for what
    this derivation does not cover; the method "noise" measures those.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=16))
    >>> J = LayerJacobian(tiny.eval().encoder.layer[0], torch.ones(3, 8))
    >>> torch.allclose(J.squared_norms()[2, 0], J.block(target=2, source=0).square().sum())
    True
    """

    @torch.no_grad()
    def block(
        self, target: int, source: int, path: str | None = None, head: int | None = None
    ) -> Tensor:
        """∂out_target/∂in_source [hidden, hidden], or a part of it: one of `PATHS`, one head, or both.

        The block is the sum of its paths, and the sum of its heads plus the residual path, which
        passes by them.
        """
        last = self.a.shape[-1] - 1
        target, source = whole(target, "a target", 0, last), whole(source, "a source", 0, last)
        head = None if head is None else whole(head, "a head", 0, self.number_of_heads - 1)
        if path not in (None, *PATHS):
            raise ValueError(f"expected a path of {PATHS}, got {path!r}")
        chosen = PATHS if path is None else (path,)
        d = self._position_wise(torch.tensor([target]))[0]
        c = self._mixing(torch.tensor([target]), torch.tensor([source]), chosen)[0]
        if head is not None:
            c[torch.arange(self.number_of_heads) != head] = 0
        part = d @ self.w_o @ c.flatten(0, 1)
        return part + d if target == source and "residual" in chosen and head is None else part

    @torch.no_grad()
    def squared_norms(self, covariance: Tensor | None = None) -> Tensor:
        """‖J[j,i]‖²_F of every block, [target, source], without forming one off the diagonal.

        ‖J[j,i]‖² = tr(G_j C Cᵀ) with G_j = (D_j W_O)ᵀ(D_j W_O), and C Cᵀ is made of W_V W_Vᵀ, the
        vectors W_V W_Kᵀ q_j and the scalars qᵀ W_K W_Kᵀ q. About 14·seq·hidden³ + 2·seq²·hidden²
        operations.

        With a `covariance` S [hidden, hidden], tr(J S Jᵀ): the mean of ‖J·ε‖² for ε ~ N(0, S), that
        is, along the directions in which hidden states really vary. S takes its place between the
        two factors of each product above.
        """
        self._check_covariance(covariance)
        rows = []
        for chunk in self._chunks(covariance):
            rows.append(self._with_diagonal(chunk, _form(chunk.z, chunk.q), covariance))
        return torch.cat(rows)

    @torch.no_grad()
    def paths(self) -> dict[str, Tensor]:
        """‖part‖²_F of every block, [target, source], for each of `PATHS`, and what their mixed terms add to squared_norms().

        "interference" is squared_norms() minus the sum of the four; it is negative where paths cancel.
        """
        parts: dict[str, list[Tensor]] = {name: [] for name in (*PATHS, "interference")}
        for chunk in self._chunks():
            z, q, own = chunk.z, chunk.q, chunk.own
            value = _form(z[..., :1], q[:, :, :1, :, :1])
            key = _form(z[..., 1:], q[:, :, 1:, :, 1:])
            residual, query = torch.zeros_like(value), torch.zeros_like(value)
            residual.diagonal(chunk.start).copy_(chunk.d.square().sum((1, 2)))
            query_part = chunk.p @ self._mixing(own, own, ["query"]).flatten(1, 2)
            query.diagonal(chunk.start).copy_(query_part.square().sum((1, 2)))
            total = self._with_diagonal(chunk, _form(z, q))
            rows = [residual, value, key, query]
            for name, part in zip(parts, [*rows, total - sum(rows)], strict=True):
                parts[name].append(part)
        return {name: torch.cat(rows) for name, rows in parts.items()}

    @torch.no_grad()
    def heads(self) -> Tensor:
        """‖part‖²_F of each head's part, [head, target, source]: its value, key and, on the diagonal, query path.

        The parts of a block over its heads, and the residual path on the diagonal, add up to the
        block; their squared norms do not, because parts reinforce or cancel each other. A head sees
        its own d x d piece of G_j alone.
        """
        found = []
        for chunk in self._chunks():
            of_head = chunk.q.diagonal(dim1=1, dim2=3)  # [target, 1 + d, 1 + d, head]
            squares = torch.einsum("jihm,jmnh,jihn->hji", chunk.z, of_head, chunk.z)
            p = self._by_head(chunk.p.mT)  # [target, head, d, hidden]
            c = self._mixing(chunk.own, chunk.own, PATHS)  # [target, head, d, hidden]
            own = ((p @ p.mT @ c) * c).sum((2, 3))  # [target, head]
            squares.diagonal(chunk.start, 1, 2).copy_(own.T)
            found.append(squares)
        return torch.cat(found, 1)

    def _chunks(self, covariance: Tensor | None = None) -> Iterator[Chunk]:
        """As many targets at once as the memory allows."""
        (inner, hidden), seq = self.w_1.shape, self.a.shape[-1]
        size = max(1, CHUNK_BYTES // ((inner + 8 * hidden) * hidden * self.w_1.element_size()))
        w_v = self._by_head(self.w_v)
        vv = self._inner(w_v, w_v, covariance)  # W_V W_Vᵀ, [head, d, head, d]
        for own in torch.arange(seq).split(size):
            d = self._position_wise(own)
            p = (d.flatten(0, 1) @ self.w_o).view_as(d)
            yield Chunk(own, d, p, *self._form_of(own, p, vv, covariance))

    def _position_wise(self, targets: Tensor) -> Tensor:
        """D_j [target, hidden, hidden]: the feed-forward with its residual, between the two LayerNorms."""
        norm_1, norm_2 = (
            (x[targets, None], gain[targets, None]) for x, gain in (self.norm_1, self.norm_2)
        )
        inner, hidden = self.w_1.shape
        d = ((self.w_2 * self.slope[targets, None]).view(-1, inner) @ self.w_1).view(
            -1, hidden, hidden
        )
        d.diagonal(dim1=1, dim2=2).add_(1)
        d = norm_vjp(norm_1, d)  # a row of d times LN1' is LN1'ᵀ at that row
        return norm_jvp(norm_2, d.mT).mT  # LN2' times a column of d

    def _form_of(
        self, targets: Tensor, p: Tensor, vv: Tensor, covariance: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """z and Q with ‖P_j C[j,i]‖² = z Q zᵀ, but for the query path.

        Head h's part of C[j,i] is a W_V + u wᵀ with a = A[j,i], u = a (v_i - o_j) and w = W_Kᵀ q_j:
        z = (a, u), and Q is G_j = P_jᵀ P_j times inner products of W_V's rows and w.
        """
        heads = (self.number_of_heads, -1)
        a = self.a[:, targets].permute(1, 2, 0)[..., None]  # [target, source, head, 1]
        apart = self.v.transpose(0, 1) - self.o[:, targets].transpose(0, 1)[:, None]
        z = torch.cat([a, a * apart], -1)  # [target, source, head, 1 + d]

        w = torch.einsum("hjd,hdx->jhx", self.q[:, targets], self._by_head(self.w_k))
        wv = self._inner(w, self._by_head(self.w_v), covariance)  # [target, head, head, d]
        ww = _times(w, covariance) @ w.mT  # [target, head, head]
        g = (p.mT @ p).unflatten(2, heads).unflatten(1, heads)  # [target, head, d, head, d]
        mixed = torch.einsum("jhdge,jhge->jhdg", g, wv)
        q = torch.nn.functional.pad(g * ww[:, :, None, :, None], (1, 0, 0, 0, 1, 0))
        q[:, :, 0, :, 0] = torch.einsum("jhdge,hdge->jhg", g, vv)
        q[:, :, 1:, :, 0] = mixed
        q[:, :, 0, :, 1:] = mixed.permute(0, 3, 1, 2)
        return z, q  # Q: [target, head, 1 + d, head, 1 + d]

    def _with_diagonal(
        self, chunk: Chunk, squares: Tensor, covariance: Tensor | None = None
    ) -> Tensor:
        """`squares` [target, source] with the diagonal replaced: its blocks are formed and summed up."""
        mixing = self._mixing(chunk.own, chunk.own, PATHS).flatten(1, 2)
        block = torch.baddbmm(chunk.d, chunk.p, mixing)
        squares.diagonal(chunk.start).copy_((_times(block, covariance) * block).sum((1, 2)))
        return squares

    def _mixing(self, target: Tensor, source: Tensor, paths: Collection[str]) -> Tensor:
        """C[j,i] of each pair of positions, [pair, head, d, hidden], by the three paths through the heads."""
        q, o, v = (
            x[:, places].transpose(0, 1)
            for x, places in ((self.q, target), (self.o, target), (self.v, source))
        )
        a = self.a[:, target, source].T[..., None]  # A[j,i], [pair, head, 1]
        c = self.w_v.new_zeros(len(target), *self._by_head(self.w_v).shape)
        if "value" in paths:
            c += a[..., None] * self._by_head(self.w_v)
        if "key" in paths:
            c += (a * (v - o))[..., None] * torch.einsum(
                "phd,hdx->phx", q, self._by_head(self.w_k)
            )[:, :, None]
        if "query" in paths:
            row = self.a[:, target].transpose(0, 1)  # A[j,m] for every m, [pair, head, m]
            spread = (row[..., None] * self.v).mT @ self.k - o[..., None] * (
                row[..., None, :] @ self.k
            )
            own = (target == source)[:, None, None, None].to(c)
            c += own * torch.einsum("phde,hex->phdx", spread, self._by_head(self.w_q))
        return c

    def _inner(self, x: Tensor, w_v: Tensor, covariance: Tensor | None = None) -> Tensor:
        """x S W_Vᵀ with W_V split by head: [..., hidden] to [..., head, d]"""
        return torch.einsum("...x,gex->...ge", _times(x, covariance), w_v)

    def _by_head(self, rows: Tensor) -> Tensor:
        """[..., head * d, hidden] to [..., head, d, hidden]"""
        return rows.unflatten(-2, (self.number_of_heads, -1))

    def _check_covariance(self, covariance: Tensor | None) -> None:
        hidden = self.w_v.shape[1]
        if covariance is not None and covariance.shape != (hidden, hidden):
            raise ValueError(
                f"expected a covariance [hidden={hidden}, hidden], got {list(covariance.shape)}"
            )


def _form(z: Tensor, q: Tensor) -> Tensor:
    """z Q zᵀ over heads and their dimensions, [target, source]."""
    z = z.flatten(2)
    return ((z @ q.flatten(3).flatten(1, 2)) * z).sum(-1)


def _times(x: Tensor, covariance: Tensor | None) -> Tensor:
    return x if covariance is None else x @ covariance.to(x)
