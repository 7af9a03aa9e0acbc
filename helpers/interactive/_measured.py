"""What the explorer measures, on a copy of the model, and what it keeps of that."""

import copy
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from ..exact.influence import layer_influence
from ..exact.jacobian import LayerJacobian
from ..exact.layers import LayerStack, layer_stack
from ..result import Influence
from ..words import encode
from ._numbers import check_length, reason

KEPT = 64  # sentences, of half a megabyte at most
KEPT_BYTES = 2**28  # of Jacobians, for the paths and heads of whatever layer is asked for next


@dataclass(frozen=True, repr=False)
class KeptStack(LayerStack):
    """Keeps its Jacobians, whose D_j serve norms, paths and heads: the first, and what fits."""

    kept: dict[int, LayerJacobian] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, sentence) -> "KeptStack":
        return cls(**vars(layer_stack(model, sentence)))

    def jacobian(self, layer: int) -> LayerJacobian:  # type: ignore[override]
        if layer in self.kept:
            return self.kept[layer]
        seq, hidden = self.states[layer].shape
        formed = 3 * seq * hidden**2 * self.states[layer].element_size()  # D_j, P_j, products
        found = super().jacobian(layer)
        if not self.kept or (len(self.kept) + 1) * formed <= KEPT_BYTES:
            self.kept[layer] = found
        return found


class Measurements:
    """One at a time, for a page may be saved while another sentence is measured.

    The model is a copy that shares the weights, so that its hooks and those of other cells do not
    meet. `progress(told, part, parts, steps, desc)` goes through the steps of an experiment.
    """

    def __init__(self, model: nn.Module, tokenizer, progress: Callable[..., Iterable]):
        weights = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.model: Any = copy.deepcopy(model, weights)
        self.tokenizer = tokenizer
        self.progress = progress
        self.lock = threading.RLock()
        self.stack = lru_cache(2)(self._stack)  # a sentence, and one to compare with
        self.known = lru_cache(KEPT)(self._nothing)
        self.whole = lru_cache(KEPT)(self._whole)
        self.reason = lru_cache(KEPT)(self._reason)

    def clear(self) -> None:
        self.model = None  # what a notebook's history still holds shall be small
        for cache in (self.stack, self.known, self.whole, self.reason):
            cache.cache_clear()

    def layers(self, text: str, wanted: Iterable[int], told: str, **options: Any) -> Influence:
        """What is known of the layers, these among them, and NaN in the others."""
        known: Any = self.known(text, **options)
        stack: Any = self.stack(text)
        missing = [layer for layer in wanted if known.values[layer].isnan().any()]
        groups = [[layer] for layer in missing]
        if missing and options["method"] == "noise":
            groups = [list(range(len(stack.layers)))]  # in one pass of the model
        for number, group in enumerate(groups):
            progress = partial(self.progress, told, number, len(groups))
            found = layer_influence(self.model, stack, layers=group, progress=progress, **options)
            known.how.update(found.how)
            known.values[group] = found.values.double()
            if found.stderr is not None:
                known.stderr[group] = found.stderr.double()
        return known

    def _stack(self, text: str) -> KeptStack:
        if not self.tokenizer.tokenize(text):
            raise ValueError("Type at least one word.")
        sentence = encode(self.tokenizer, text)
        check_length(sentence.tokens)
        return KeptStack.of(self.model, sentence)

    def _nothing(self, text: str, **options: Any) -> Influence:
        stack = self.stack(text)
        seq = len(stack.tokens)
        places = list(range(seq))
        unknown = torch.full((len(stack.names), seq, seq), torch.nan, dtype=torch.double)
        stderr = None if options["method"] == "exact" else unknown.clone()
        return Influence(unknown, stderr, stack.names, places, places, stack.tokens)

    def _whole(self, experiment: Callable, text: str, told: str, **options: Any) -> Influence:
        progress = partial(self.progress, told, 0, 1)
        return experiment(self.model, self.stack(text), progress=progress, **options)

    def _reason(self, text: str, layer: int) -> dict[str, Any]:
        try:
            jacobian = self.stack(text).jacobian(layer)
        except ValueError:  # no closed form: noise measures it, but knows no paths
            return reason(None, None, 0)
        return reason(jacobian.paths(), jacobian.heads(), len(jacobian.a[0]))
