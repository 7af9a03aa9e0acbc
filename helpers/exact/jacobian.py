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
from functools import cached_property

import torch
from torch import Tensor

from ..sampling import factor
from ..values import whole
from .chosen import chosen
from .chunk import Chunk, kept
from .linearised import LinearisedLayer

PATHS = ("residual", "value", "key", "query")
CHUNK_BYTES = 2**27  # what the matrices of one chunk of targets may take
KEPT_CHUNKS = 8  # whose matrices are kept for the next question
ALL, VALUE, KEY = slice(None), slice(0, 1), slice(1, None)  # of a head's numbers: a first, then u
Positions = Sequence[int] | None  # those wanted; None means all


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
    target costs the same however many others there are. What they share is formed once and kept.

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
        mixing = self._mixing(chunk.targets, chunk.sources)
        for name, part in mixing.items():
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
        root = None
        if covariance is not None:
            root = factor(covariance, self.w_o.shape[0])
            root = root.to(self.w_o)
        found = [self._norms(chunk, root) for chunk in self._chunks(targets, sources)]
        return torch.cat(found)

    @torch.no_grad()
    def paths(self, targets: Positions = None, sources: Positions = None) -> dict[str, Tensor]:
        """‖part‖²_F of every block, [target, source], for each of `PATHS`, and "interference".

        That is what their mixed terms add: squared_norms() minus the sum of the four; it is
        negative where paths cancel.
        """
        found = []
        for chunk in self._chunks(targets, sources):
            numbers = self._numbers(chunk)  # [target, source, head, 1 + d]
            products = self._products(chunk)  # [target, head, 1 + d, head, 1 + d]
            query = self._mixing(chunk.targets, chunk.targets)["query"]
            query = chunk.p @ query.flatten(1, 2)  # [target, hidden, hidden]
            parts = [
                chunk.same * _squares(chunk.d),
                _square_form(numbers, products, VALUE),
                _square_form(numbers, products, KEY),
                chunk.same * _squares(query),
            ]
            interference = self._norms(chunk) - sum(parts)
            found.append(torch.stack([*parts, interference]))
        names = (*PATHS, "interference")
        return dict(zip(names, torch.cat(found, 1), strict=True))

    @torch.no_grad()
    def heads(self, targets: Positions = None, sources: Positions = None) -> Tensor:
        """‖part‖²_F of each head's part, [head, target, source]: value, key and, if i = j, query.

        The parts of a block over its heads, and the residual path on the diagonal, add up to the
        block; their squared norms do not, because parts reinforce or cancel each other.
        """
        found = []
        for chunk in self._chunks(targets, sources):
            c = self._of_itself(chunk.targets)
            p = chunk.p.unflatten(2, c.shape[1:3])  # [target, hidden, head, d]
            p = p.transpose(1, 2)
            gram = p.mT @ p  # [target, head, d, d]
            gram_c = gram @ c  # [target, head, d, hidden]
            own = (gram_c * c).sum((2, 3)).T  # tr(Cᵀ G C), [head, target]
            numbers = self._numbers(chunk)
            products = self._products(chunk).diagonal(dim1=1, dim2=3)  # [target, c, e, head]
            between = torch.einsum("jihc,jceh,jihe->hji", numbers, products, numbers)
            found.append(torch.where(chunk.same, own[..., None], between))
        return torch.cat(found, 1)

    @cached_property
    def formed(self) -> dict[tuple[int, ...], tuple[Tensor, Tensor, dict]]:
        """The matrices of a `Chunk` by its targets, as far as they are kept."""
        return {}

    def _chunks(self, targets: Positions, sources: Positions) -> Iterator[Chunk]:
        """As many targets at once as the memory allows."""
        seq = self.a.shape[-1]
        inner, hidden = self.w_1.shape
        bytes_of_one = (inner + 8 * hidden) * hidden * self.w_1.element_size()
        size = max(1, CHUNK_BYTES // bytes_of_one)
        rows = torch.tensor(chosen("targets", targets, seq))
        columns = torch.tensor(chosen("sources", sources, seq))
        for some in rows.split(size):
            key = tuple(some.tolist())
            if key not in self.formed:
                if len(self.formed) == KEPT_CHUNKS:
                    self.formed.clear()
                self.formed[key] = self._form(some)
            d, p, made = self.formed[key]
            yield Chunk(some, columns, d, p, made)

    def _form(self, targets: Tensor) -> tuple[Tensor, Tensor, dict]:
        """D_j and P_j = D_j W_O, and room for what is made of them."""
        w_2 = self.w_2 * self.slope[targets, None]  # W_2 diag φ', [target, hidden, inner]
        d = w_2 @ self.w_1
        d.diagonal(dim1=1, dim2=2).add_(1)
        d = self.norm_1.at(targets).vjp(d)  # a row of d times LN1' is LN1'ᵀ at that row
        d = self.norm_2.at(targets).jvp(d.mT).mT  # LN2' times a column of d
        p = d @ self.w_o
        return d, p, {}

    def _mixing(self, targets: Tensor, sources: Tensor) -> dict[str, Tensor]:
        """C[j,i] of each pair (j, i) by the paths through heads, [pair, head, d, hidden].

        Axes below: pair p, head h, its dimensions d and e, every position m, hidden x.
        """
        a = self.a[:, targets, sources]  # [h, p]
        apart = self.v[:, sources] - self.o[:, targets]  # [h, p, d]
        u = a[..., None] * apart
        a_m = self.a[:, targets]  # [h, p, m]
        k_bar = a_m @ self.k  # [h, p, e]
        apart = self.k[:, None] - k_bar[:, :, None]  # [h, p, m, e]
        av = a_m[..., None] * self.v[:, None]  # [h, p, m, d]
        vk = av.mT @ apart  # Σ_m, [h, p, d, e]
        vk *= (targets == sources)[:, None, None]
        w_v = self._by_head(self.w_v)  # [h, d, x]
        w_q = self._by_head(self.w_q)
        w = self._w(targets)  # [h, p, x]
        return {
            "value": torch.einsum("hp,hdx->phdx", a, w_v),
            "key": torch.einsum("hpd,hpx->phdx", u, w),
            "query": torch.einsum("hpde,hex->phdx", vk, w_q),
        }

    def _of_itself(self, targets: Tensor) -> Tensor:
        """C[j,j], [target, head, d, hidden]."""
        parts = self._mixing(targets, targets)
        return parts["value"] + parts["key"] + parts["query"]

    def _norms(self, chunk: Chunk, root: Tensor | None = None) -> Tensor:
        """‖J[j,i]‖², or with L the `root` of a covariance ‖J[j,i] L‖², [target, source]."""
        between = _square_form(self._numbers(chunk), self._products(chunk, root))
        return torch.where(chunk.same, self._own(chunk, root), between)

    @kept
    def _own(self, chunk: Chunk, root: Tensor | None = None) -> Tensor:
        """‖J[j,j]‖² of J[j,j] = D_j (I + W_O C[j,j]), [target, 1]."""
        c = self._of_itself(chunk.targets)
        c = c.flatten(1, 2)  # [target, head * d, hidden]
        block = torch.baddbmm(chunk.d, chunk.p, c)  # D_j + P_j C[j,j]
        return _squares(_along(block, root))

    def _numbers(self, chunk: Chunk) -> Tensor:
        """(a, u) of each pair and head, [target, source, head, 1 + d]."""
        a = self.a[:, chunk.targets][:, :, chunk.sources, None]  # [head, target, source, 1]
        v = self.v[:, None, chunk.sources]  # [head, 1, source, d]
        o = self.o[:, chunk.targets, None]  # [head, target, 1, d]
        u = a * (v - o)
        numbers = torch.cat([a, u], -1)  # [head, target, source, 1 + d]
        return numbers.permute(1, 2, 0, 3)

    @kept
    def _products(self, chunk: Chunk, root: Tensor | None = None) -> Tensor:
        """Inner products of the matrices that (a, u) weight, [target, head, 1 + d, head, 1 + d].

        Axes below: target j, heads h and g, their dimensions d and e, hidden x.
        """
        w_v = _along(self._by_head(self.w_v), root)  # [h, d, x]
        w = _along(self._w(chunk.targets), root)  # [h, j, x]
        heads, d, _ = w_v.shape
        gram = chunk.p.mT @ chunk.p  # G_j
        gram = gram.view(-1, heads, d, heads, d)  # [j, h, d, g, e]
        ww = torch.einsum("hjx,gjx->jhg", w, w)
        wv = torch.einsum("hjx,gex->jhge", w, w_v)
        vv = torch.einsum("hdx,gex->hdge", w_v, w_v)
        value = torch.einsum("jhdge,hdge->jhg", gram, vv)
        mixed = torch.einsum("jhdge,jhge->jhdg", gram, wv)
        key = gram * ww[:, :, None, :, None]

        products = gram.new_empty(len(gram), heads, 1 + d, heads, 1 + d)
        products[:, :, 0, :, 0] = value
        products[:, :, KEY, :, 0] = mixed
        products[:, :, 0, :, KEY] = mixed.permute(0, 3, 1, 2)  # as [j, g, h, d]
        products[:, :, KEY, :, KEY] = key
        return products

    def _w(self, targets: Tensor) -> Tensor:
        """w_j = W_Kᵀ q_j, [head, target, hidden]."""
        return self.q[:, targets] @ self._by_head(self.w_k)

    def _by_head(self, rows: Tensor) -> Tensor:
        """[head * d, hidden] to [head, d, hidden]"""
        return rows.unflatten(0, (self.number_of_heads, -1))


def _along(x: Tensor, root: Tensor | None) -> Tensor:
    return x if root is None else x @ root


def _squares(blocks: Tensor) -> Tensor:
    """‖·‖² of one block for each target, [target, 1]."""
    return blocks.square().sum((1, 2))[:, None]


def _square_form(numbers: Tensor, products: Tensor, part: slice = ALL) -> Tensor:
    """‖Σ number · matrix‖² by the inner products of the matrices, [target, source]."""
    numbers = numbers[..., part].flatten(2)  # [target, source, n]
    products = products[:, :, part, :, part]
    products = products.flatten(3).flatten(1, 2)  # [target, n, n]
    mixed = numbers @ products
    return (mixed * numbers).sum(-1)
