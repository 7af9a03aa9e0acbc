"""The exact derivative of one BERT layer at one hidden state, in closed form.

Everything after the attention works position by position, so the block from `source` i to `target`
j is

    J[j,i] = D_j (δ_ij I + W_O C[j,i]),
    D_j = LN2'(z2_j) (I + W_2 diag φ'(W_1 y_j + b_1) W_1) LN1'(z1_j),

and C[j,i] stacks, head by head, with A the attention weights and o_j = Σ_i A[j,i] v_i,

    value    A[j,i] W_V
    key      A[j,i] (v_i - o_j) q_jᵀ W_K / √d
    query    Σ_m A[j,m] v_m (k_m - k̄_j)ᵀ W_Q / √d,   k̄_j = Σ_m A[j,m] k_m,   only where i = j.

Off the diagonal no block is formed. There head h's part of a block is, with P_j = D_j W_O,

    P_h (a W_V + u wᵀ),   a = A[j,i],   u = a (v_i - o_j),   w = W_Kᵀ q_j / √d:

a sum, weighted by the 1 + d numbers (a, u), of the matrices P_h W_V and (a column of P_h) wᵀ, which
are those of the target alone. So ‖J[j,i]‖² is a square form in these numbers. Its coefficients, the
inner products of the matrices, are made of G_j = P_jᵀ P_j, W_V W_Vᵀ, W_V w and w·w; each path and
each head has its own part of them.

The field calls the first a head's OV circuit and the other two its QK circuit (Elhage et al. 2021);
a [CLS] or [SEP] that most positions attend to is an attention sink (Xiao et al. 2024). The letters
are those of `linearised`, where the layer is run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..sampling import factor
from ..values import whole
from .chosen import chosen
from .linearised import LinearisedLayer

PATHS = ("residual", "value", "key", "query")
CHUNK_BYTES = 2**27  # what the matrices of one chunk of targets may take
KEPT_CHUNKS = 8  # whose matrices are kept for the next question
VALUE, KEY = slice(0, 1), slice(1, None)  # where a and u stand in the numbers of a head
Positions = Sequence[int] | None  # those wanted; None means all


@dataclass(frozen=True)
class Chunk:
    """Some targets j with their matrices, and the sources wanted."""

    targets: Tensor
    sources: Tensor
    d: Tensor  # D_j, [target, hidden, hidden]
    p: Tensor  # P_j = D_j W_O, [target, hidden, head * d]
    gram: Tensor  # G_j = P_jᵀ P_j, [target, head, d, head, d]

    @property
    def same(self) -> Tensor:
        """Where the target is the source, [target, source]."""
        return self.targets[:, None] == self.sources


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
        wanted = PATHS if path is None else (path,)
        chunk = next(self._chunks([target], [source]))
        c = torch.zeros_like(self._by_head(self.w_v))  # [head, d, hidden]
        for name, part in self._mixing(chunk.targets, chunk.sources).items():
            if name in wanted:
                c += part[0]
        if head is not None:
            head = whole(head, "a head", 0, len(c) - 1)
            c[torch.arange(len(c)) != head] = 0
        block = chunk.p[0] @ c.flatten(0, 1)
        if "residual" in wanted and head is None and target == source:
            block += chunk.d[0]
        return block

    @torch.no_grad()
    def squared_norms(
        self,
        covariance: Tensor | None = None,
        *,
        targets: Positions = None,
        sources: Positions = None,
    ) -> Tensor:
        """‖J[j,i]‖²_F of every block, [target, source]; about 14·seq·hidden³ operations.

        With a `covariance` S [hidden, hidden], or a direction [hidden], tr(J S Jᵀ): the mean of
        ‖J·ε‖² for ε ~ N(0, S), that is, along the directions in which hidden states really vary. It
        is ‖J L‖² with S = L Lᵀ, so that W_V L and W_K L stand in the place of W_V and W_K.
        """
        spread = None
        if covariance is not None:
            spread = factor(covariance, self.w_o.shape[0]).to(self.w_o)
        found = []
        for chunk in self._chunks(targets, sources):
            own = self._own_block(chunk, self._mixing(chunk.targets, chunk.targets))
            own = _squares(_along(own, spread))
            between = _square_form(self._numbers(chunk), self._products(chunk, spread))
            found.append(torch.where(chunk.same, own, between))
        return torch.cat(found)

    @torch.no_grad()
    def paths(self, targets: Positions = None, sources: Positions = None) -> dict[str, Tensor]:
        """‖part‖²_F of every block, [target, source], for each of `PATHS`, and "interference".

        That is what their mixed terms add: squared_norms() minus the sum of the four; it is
        negative where paths cancel.
        """
        found = []
        for chunk in self._chunks(targets, sources):
            mixing = self._mixing(chunk.targets, chunk.targets)
            own = _squares(self._own_block(chunk, mixing))
            query = _squares(chunk.p @ mixing["query"].flatten(1, 2))
            numbers = self._numbers(chunk)  # [target, source, head, 1 + d]
            products = self._products(chunk)  # [target, head, 1 + d, head, 1 + d]
            parts = {
                "residual": chunk.same * _squares(chunk.d),
                "value": _square_form(numbers[..., VALUE], products[:, :, VALUE, :, VALUE]),
                "key": _square_form(numbers[..., KEY], products[:, :, KEY, :, KEY]),
                "query": chunk.same * query,
            }
            norms = torch.where(chunk.same, own, _square_form(numbers, products))
            parts["interference"] = norms - sum(parts.values())
            found.append(parts)
        return {name: torch.cat([parts[name] for parts in found]) for name in found[0]}

    @torch.no_grad()
    def heads(self, targets: Positions = None, sources: Positions = None) -> Tensor:
        """‖part‖²_F of each head's part, [head, target, source]: value, key and, if i = j, query.

        The parts of a block over its heads, and the residual path on the diagonal, add up to the
        block; their squared norms do not, because parts reinforce or cancel each other.
        """
        found = []
        for chunk in self._chunks(targets, sources):
            c = sum(
                self._mixing(chunk.targets, chunk.targets).values()
            )  # [target, head, d, hidden]
            own = ((_of_one_head(chunk.gram) @ c) * c).sum((2, 3))  # [target, head]
            numbers = self._numbers(chunk)
            products = _of_one_head(self._products(chunk))
            between = torch.einsum("jihc,jhce,jihe->hji", numbers, products, numbers)
            found.append(torch.where(chunk.same, own.T[..., None], between))
        return torch.cat(found, 1)

    @cached_property
    def formed(self) -> dict[tuple[int, ...], tuple[Tensor, ...]]:
        """The matrices of a `Chunk` by its targets, as far as they are kept."""
        return {}

    def _chunks(self, targets: Positions, sources: Positions) -> Iterator[Chunk]:
        """As many targets at once as the memory allows."""
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
                self.formed[key] = self._form(rows)
            yield Chunk(rows, columns, *self.formed[key])

    def _form(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """D_j, P_j = D_j W_O and G_j = P_jᵀ P_j."""
        d = (self.w_2 * self.slope[targets, None]) @ self.w_1  # [target, hidden, inner] by W_1
        d.diagonal(dim1=1, dim2=2).add_(1)
        d = self.norm_1.at(targets).vjp(d)  # a row of d times LN1' is LN1'ᵀ at that row
        d = self.norm_2.at(targets).jvp(d.mT).mT  # LN2' times a column of d
        p = d @ self.w_o  # [target, hidden, head * d]
        by_head = (self.number_of_heads, -1)
        gram = (p.mT @ p).unflatten(2, by_head).unflatten(1, by_head)
        return d, p, gram

    def _mixing(self, targets: Tensor, sources: Tensor) -> dict[str, Tensor]:
        """C[j,i] of each pair (j, i) by the paths through heads, [pair, head, d, hidden].

        Axes below: pair p, head h, its dimensions d and e, every position m, hidden x.
        """
        w_v, w_q = self._by_head(self.w_v), self._by_head(self.w_q)
        a = self.a[:, targets, sources]  # [h, p]
        u = a[..., None] * (self.v[:, sources] - self.o[:, targets])  # [h, p, d]
        a_m = self.a[:, targets]  # [h, p, m]
        k_bar = (a_m @ self.k)[:, :, None]  # [h, p, 1, d]
        av = a_m[..., None] * self.v[:, None]  # [h, p, m, d]
        vk = av.mT @ (self.k[:, None] - k_bar)  # [h, p, d, e]
        vk *= (targets == sources)[:, None, None]
        return {
            "value": torch.einsum("hp,hdx->phdx", a, w_v),
            "key": torch.einsum("hpd,hpx->phdx", u, self._w(targets)),
            "query": torch.einsum("hpde,hex->phdx", vk, w_q),
        }

    def _own_block(self, chunk: Chunk, mixing: dict[str, Tensor]) -> Tensor:
        """J[j,j] = D_j (I + W_O C[j,j]), [target, hidden, hidden]."""
        c = mixing["value"] + mixing["key"] + mixing["query"]  # [target, head, d, hidden]
        return torch.baddbmm(chunk.d, chunk.p, c.flatten(1, 2))

    def _numbers(self, chunk: Chunk) -> Tensor:
        """(a, u) of each pair and head, [target, source, head, 1 + d]."""
        a = self.a[:, chunk.targets][:, :, chunk.sources]  # [head, target, source]
        a = a.permute(1, 2, 0)[..., None]  # [target, source, head, 1]
        v = self.v[:, chunk.sources].transpose(0, 1)  # [source, head, d]
        o = self.o[:, chunk.targets].transpose(0, 1)  # [target, head, d]
        return torch.cat([a, a * (v - o[:, None])], -1)

    def _products(self, chunk: Chunk, spread: Tensor | None = None) -> Tensor:
        """Inner products of the matrices that (a, u) weight, [target, head, 1 + d, head, 1 + d].

        Axes below: target j, heads h and g, their dimensions d and e, hidden x.
        """
        gram = chunk.gram  # [j, h, d, g, e]
        w = _along(self._w(chunk.targets), spread)  # [h, j, x]
        w_v = _along(self._by_head(self.w_v), spread)  # [h, d, x]
        ww = torch.einsum("hjx,gjx->jhg", w, w)
        wv = torch.einsum("hjx,gex->jhge", w, w_v)
        vv = torch.einsum("hdx,gex->hdge", w_v, w_v)
        mixed = torch.einsum("jhdge,jhge->jhdg", gram, wv)

        targets, heads, d = gram.shape[:3]
        products = gram.new_empty(targets, heads, 1 + d, heads, 1 + d)
        products[:, :, 0, :, 0] = torch.einsum("jhdge,hdge->jhg", gram, vv)
        products[:, :, KEY, :, 0] = mixed
        products[:, :, 0, :, KEY] = mixed.permute(0, 3, 1, 2)  # [j, g, h, d]
        products[:, :, KEY, :, KEY] = gram * ww[:, :, None, :, None]
        return products

    def _w(self, targets: Tensor) -> Tensor:
        """w_j = W_Kᵀ q_j, [head, target, hidden]."""
        return self.q[:, targets] @ self._by_head(self.w_k)

    def _by_head(self, rows: Tensor) -> Tensor:
        """[head * d, hidden] to [head, d, hidden]"""
        return rows.unflatten(0, (self.number_of_heads, -1))


def _along(x: Tensor, spread: Tensor | None) -> Tensor:
    return x if spread is None else x @ spread


def _squares(blocks: Tensor) -> Tensor:
    """‖·‖² of one block for each target, [target, 1]."""
    return blocks.square().sum((1, 2))[:, None]


def _square_form(numbers: Tensor, products: Tensor) -> Tensor:
    """‖Σ number · matrix‖² by the inner products of the matrices, [target, source]."""
    numbers = numbers.flatten(2)  # [target, source, head * (1 + d)]
    products = products.flatten(3).flatten(1, 2)  # [target, head * (1 + d), head * (1 + d)]
    return ((numbers @ products) * numbers).sum(-1)


def _of_one_head(products: Tensor) -> Tensor:
    """[target, head, d, head, e] to [target, head, d, e]: each head with itself."""
    return products.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
