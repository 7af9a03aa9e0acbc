"""The exact derivative of one BERT layer at one hidden state, in closed form.

Everything after the attention works position by position, so the block from `source` i to `target`
j is

    J[j,i] = D_j (δ_ij I + W_O C[j,i]),
    D_j = LN2'(z2_j) (I + W_2 diag φ'(W_1 y_j + b_1) W_1) LN1'(z1_j),

and C[j,i] stacks, head by head, with A the attention weights and o_j = Σ_i A[j,i] v_i,

    value    A[j,i] W_V
    key      A[j,i] (v_i - o_j) q_jᵀ W_K / √d
    query    Σ_m A[j,m] v_m (k_m - k̄_j)ᵀ W_Q / √d,   k̄_j = Σ_m A[j,m] k_m,   only where i = j.

The field calls the first a head's OV circuit and the other two its QK circuit (Elhage et al. 2021);
a [CLS] or [SEP] that most positions attend to is an attention sink (Xiao et al. 2024). The letters
are those of `linearised`, where the layer is run.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling import factor
from ..values import whole
from .linearised import LinearisedLayer
from .post_ln import chosen, norm_jvp, norm_vjp

PATHS = ("residual", "value", "key", "query")
CHUNK_BYTES = 2**27  # what the matrices of one chunk of targets may take
KEPT_CHUNKS = 8  # whose D_j and P_j are kept for the next question
ALL = slice(None)
Positions = Sequence[int] | None  # those wanted; None means all


@dataclass(frozen=True)
class Chunk:
    """Some targets j with their D_j and P_j = D_j W_O, and the sources wanted."""

    targets: Tensor
    sources: Tensor
    d: Tensor  # [target, hidden, hidden]
    p: Tensor  # [target, hidden, head * d]

    @property
    def diagonal(self) -> tuple[Tensor, ...]:
        """Rows and columns of those targets that are sources as well."""
        return (self.targets[:, None] == self.sources).nonzero(as_tuple=True)


class LayerJacobian(LinearisedLayer):
    """The derivative of `layer` at `hidden` [seq, hidden], one sentence, in its dtype and place.

    `layer` is a post-LN layer of an architecture in `post_ln.NAMES` (BERT and its like, MPNet,
    DistilBERT, ALBERT), in eval mode; `attention_mask` is [seq] of 1 (attend) and 0, `score_bias`
    [head, target, source] is what the model adds to the scores besides, and the heads in `without`
    are knocked out, as `without_heads` does it. What is differentiated here is checked against what
    the layer puts out: `output` [seq, hidden], or the layer is run. `LayerStack.jacobian` gives all
    of these as the model had them. Raises `ValueError` for what this derivation does not cover; the
    method "noise" measures those.

    `squared_norms`, `paths` and `heads` take the `targets` and `sources` wanted (default: all); a
    target costs the same however many others there are. Their D_j is formed once and kept.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, intermediate_size=16))
    >>> J = LayerJacobian(tiny.eval().encoder.layer[0], torch.ones(3, 8))
    >>> torch.allclose(J.squared_norms()[2, 0], J.block(target=2, source=0).square().sum())
    True
    """

    @torch.no_grad()
    def block(
        self, target: int, source: int, path: str | None = None, head: int | None = None
    ) -> Tensor:
        """∂out_target/∂in_source [hidden, hidden], or its part by a path of `PATHS`, a head, both.

        The block is the sum of its paths, and the sum of its heads plus the residual path, which
        passes by them.
        """
        if path not in (None, *PATHS):
            raise ValueError(f"expected a path of {PATHS}, got {path!r}")
        paths = PATHS if path is None else (path,)
        chunk = next(self._chunks([target], [source]))
        c = self._mixing(chunk.targets, chunk.sources, paths)[0]  # [head, d, hidden]
        if head is not None:
            head = whole(head, "a head", 0, self.number_of_heads - 1)
            c[torch.arange(self.number_of_heads) != head] = 0
        part = chunk.p[0] @ c.flatten(0, 1)
        passes_by = target == source and "residual" in paths and head is None
        return part + chunk.d[0] if passes_by else part

    @torch.no_grad()
    def squared_norms(
        self,
        covariance: Tensor | None = None,
        *,
        targets: Positions = None,
        sources: Positions = None,
    ) -> Tensor:
        """‖J[j,i]‖²_F of every block, [target, source], without forming one off the diagonal.

        ‖J[j,i]‖² = tr(G_j C Cᵀ) with G_j = P_jᵀ P_j, P_j = D_j W_O, and C Cᵀ is made of W_V W_Vᵀ,
        the vectors W_V W_Kᵀ q_j and the scalars qᵀ W_K W_Kᵀ q. About 14·seq·hidden³ +
        2·seq²·hidden² operations.

        With a `covariance` S [hidden, hidden], or a direction [hidden], tr(J S Jᵀ): the mean of
        ‖J·ε‖² for ε ~ N(0, S), that is, along the directions in which hidden states really vary. S
        takes its place between the two factors of each product above.
        """
        if covariance is not None:
            spread = factor(covariance, self.w_o.shape[0])
            covariance = spread @ spread.mT
        found = []
        for chunk in self._chunks(targets, sources):
            value, mixed, key = self._products(chunk, self._gram(chunk), ALL, covariance)
            squares = value + mixed + key
            squares[chunk.diagonal] = self._diagonal(chunk, PATHS, covariance)
            found.append(squares)
        return torch.cat(found)

    @torch.no_grad()
    def paths(self, targets: Positions = None, sources: Positions = None) -> dict[str, Tensor]:
        """‖part‖²_F of every block, [target, source], for each of `PATHS`, and "interference".

        That is what their mixed terms add: squared_norms() minus the sum of the four; it is
        negative where paths cancel.
        """
        found = []
        for chunk in self._chunks(targets, sources):
            value, mixed, key = self._products(chunk, self._gram(chunk), ALL)
            total = value + mixed + key
            total[chunk.diagonal] = self._diagonal(chunk, PATHS)
            rows, _ = chunk.diagonal
            residual, query = torch.zeros_like(total), torch.zeros_like(total)
            residual[chunk.diagonal] = chunk.d[rows].square().sum((1, 2))
            query[chunk.diagonal] = self._diagonal(chunk, ["query"])
            parts = {"residual": residual, "value": value, "key": key, "query": query}
            parts["interference"] = total - sum(parts.values())
            found.append(parts)
        return {name: torch.cat([parts[name] for parts in found]) for name in found[0]}

    @torch.no_grad()
    def heads(self, targets: Positions = None, sources: Positions = None) -> Tensor:
        """‖part‖²_F of each head's part, [head, target, source]: value, key and, if i = j, query.

        The parts of a block over its heads, and the residual path on the diagonal, add up to the
        block; their squared norms do not, because parts reinforce or cancel each other. The algebra
        is that of `squared_norms` with one head in place of all: a head sees its own d x d piece of
        G_j.
        """
        found = []
        for chunk in self._chunks(targets, sources):
            rows, _ = chunk.diagonal
            c = self._mixing(chunk.targets[rows], chunk.targets[rows])  # [row, head, d, hidden]
            of_heads = []
            for head in range(self.number_of_heads):
                one = slice(head, head + 1)
                gram = self._gram(chunk, one)  # [target, 1, d, 1, d]
                value, mixed, key = self._products(chunk, gram, one)
                squares = value + mixed + key
                of_head = c[:, head]
                g = gram[rows, 0, :, 0]  # [row, d, d]
                squares[chunk.diagonal] = ((g @ of_head) * of_head).sum((1, 2))
                of_heads.append(squares)
            found.append(torch.stack(of_heads))
        return torch.cat(found, 1)

    def _chunks(self, targets: Positions = None, sources: Positions = None) -> Iterator[Chunk]:
        """As many targets at once as the memory allows; what is formed for them is kept."""
        seq = self.a.shape[-1]
        inner, hidden = self.w_1.shape
        bytes_of_one = (inner + 8 * hidden) * hidden * self.w_1.element_size()
        size = max(1, CHUNK_BYTES // bytes_of_one)
        columns = torch.tensor(chosen("sources", sources, seq))
        for rows in torch.tensor(chosen("targets", targets, seq)).split(size):
            key = tuple(rows.tolist())
            if key not in self.formed:
                if len(self.formed) == KEPT_CHUNKS:
                    self.formed.clear()
                d = self._position_wise(rows)
                self.formed[key] = d, d @ self.w_o
            yield Chunk(rows, columns, *self.formed[key])

    def _position_wise(self, targets: Tensor) -> Tensor:
        """D_j [target, hidden, hidden]: feed-forward and its residual, between two LayerNorms."""
        d = (self.w_2 * self.slope[targets, None]) @ self.w_1  # [target, hidden, inner] by W_1
        d.diagonal(dim1=1, dim2=2).add_(1)
        d = norm_vjp(self.norm_1.at(targets), d)  # a row of d times LN1' is LN1'ᵀ at that row
        return norm_jvp(self.norm_2.at(targets), d.mT).mT  # LN2' times a column of d

    def _gram(self, chunk: Chunk, heads: slice = ALL) -> Tensor:
        """G_j = P_jᵀ P_j of these heads, [target, head, d, head, d]."""
        by_head = (self.number_of_heads, -1)
        p = chunk.p.unflatten(2, by_head)[:, :, heads]  # [target, hidden, head, d]
        count = p.shape[2:]
        p = p.flatten(2)  # [target, hidden, head * d]
        return (p.mT @ p).unflatten(2, count).unflatten(1, count)

    def _products(
        self, chunk: Chunk, gram: Tensor, heads: slice, covariance: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """‖value part‖², 2⟨value part, key part⟩ and ‖key part‖², [target, source], of these heads.

        Head h's part of C[j,i] is a W_V + u wᵀ with a = A[j,i], u = a (v_i - o_j) and w = W_Kᵀ q_j.
        Axes below: target j, source i, heads h and g, their dimensions d and e, hidden x.
        """
        w_k = self._by_head(self.w_k)[heads]  # [h, d, x]
        w_v = self._by_head(self.w_v)[heads]
        a = self.a[heads][:, chunk.targets]  # [h, j, every source]
        a = a[:, :, chunk.sources].permute(1, 2, 0)  # [j, i, h]
        v = self.v[heads][:, chunk.sources].transpose(0, 1)  # [i, h, d]
        o = self.o[heads][:, chunk.targets].transpose(0, 1)  # [j, h, d]
        u = a[..., None] * (v - o[:, None])  # [j, i, h, d]
        u = u.flatten(2)  # [j, i, h * d]
        w = torch.einsum("hjd,hdx->jhx", self.q[heads][:, chunk.targets], w_k)

        w_s = _times(w, covariance)
        ww = w_s @ w.mT  # [j, h, g]
        wv = torch.einsum("jhx,gex->jhge", w_s, w_v)
        vv = torch.einsum("hdx,gex->hdge", _times(w_v, covariance), w_v)
        of_value = torch.einsum("jhdge,hdge->jhg", gram, vv)
        of_both = torch.einsum("jhdge,jhge->jhdg", gram, wv)
        of_both = of_both.flatten(1, 2)  # [j, h * d, g]
        of_key = torch.einsum("jhdge,jhg->jhdge", gram, ww)
        of_key = of_key.flatten(3).flatten(1, 2)  # [j, h * d, g * e]

        value = ((a @ of_value) * a).sum(-1)
        mixed = ((u @ of_both) * a).sum(-1)
        key = ((u @ of_key) * u).sum(-1)
        return value, 2 * mixed, key

    def _diagonal(
        self, chunk: Chunk, paths: Collection[str], covariance: Tensor | None = None
    ) -> Tensor:
        """‖·‖² [row] of the blocks where i = j by these paths; they are formed."""
        rows, _ = chunk.diagonal
        c = self._mixing(chunk.targets[rows], chunk.targets[rows], paths)
        block = chunk.p[rows] @ c.flatten(1, 2)  # [row, hidden, hidden]
        if "residual" in paths:
            block += chunk.d[rows]
        return (_times(block, covariance) * block).sum((1, 2))

    def _mixing(self, targets: Tensor, sources: Tensor, paths: Collection[str] = PATHS) -> Tensor:
        """C[j,i] of each pair (j, i), [pair, head, d, hidden], by the three paths through heads."""
        w_v = self._by_head(self.w_v)
        a = self.a[:, targets, sources]  # [head, pair]
        o = self.o[:, targets]  # [head, pair, d]
        c = w_v.new_zeros(len(targets), *w_v.shape)
        if "value" in paths:
            c += a.T[:, :, None, None] * w_v
        if "key" in paths:
            u = a[..., None] * (self.v[:, sources] - o)  # [head, pair, d]
            w = self.q[:, targets] @ self._by_head(self.w_k)  # [head, pair, hidden]
            uw = u[..., None] * w[:, :, None]  # [head, pair, d, hidden]
            c += uw.transpose(0, 1)
        if "query" in paths:
            a = self.a[:, targets]  # of every position m, [head, pair, m]
            vk = (a[..., None] * self.v[:, None]).mT @ self.k[:, None]  # [head, pair, d, d]
            spread = vk - o[..., None] * (a @ self.k)[:, :, None]
            spread *= (targets == sources)[:, None, None].to(spread)
            query = spread @ self._by_head(self.w_q)[:, None]  # [head, pair, d, hidden]
            c += query.transpose(0, 1)
        return c

    def _by_head(self, rows: Tensor) -> Tensor:
        """[head * d, hidden] to [head, d, hidden]"""
        return rows.unflatten(0, (self.number_of_heads, -1))


def _times(x: Tensor, covariance: Tensor | None) -> Tensor:
    return x if covariance is None else x @ covariance.to(x)
