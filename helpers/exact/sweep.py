"""Follow disturbances of one position at a time through linearised layers, or backwards."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..hooks import edit, record
from ..inputs import prepare
from ..noise import TOKENS_PER_PASS
from ..result import Progress
from ..sampling import Sampling, average, factor, normal
from .layers import LayerStack

Measured = tuple[Tensor, Tensor | None]  # mean and standard error, None where it is exact


@dataclass(frozen=True)
class Sweep:
    """Disturbances of one position at a time, sampled, and followed through a stack's layers."""

    stack: LayerStack
    sampling: Sampling
    progress: Progress

    def forward(
        self, layers: Sequence[int], sources: Sequence[int], covariance: Tensor | None
    ) -> Measured:
        """‖·‖² [layer, target, source] of a disturbance of each source that goes through layers."""
        state = self.stack.states[layers[0]]
        root = factor(covariance, state.shape[1]).to(state)
        steps = [self.stack.jacobian(layer).jvp for layer in layers]

        def measured(directions: Tensor, source: int) -> Tensor:
            tangents = _at(source, directions @ root.mT, len(state))
            squares = []
            for step in steps:
                tangents = step(tangents)
                squares.append(tangents.square().sum(-1))
            return torch.stack(squares, 1)  # [sample, layer, target]

        return self._over_directions(measured, sources, root.shape[1], layers[0])

    def backward(
        self,
        last: int,
        targets: Sequence[int],
        covariance: Tensor | None,
        start: Callable[[Tensor], Tensor] | None = None,
        size: int | None = None,
    ) -> Measured:
        """‖·‖² [layer, target, source] of a target as it reads what enters the layers up to `last`.

        The target is a position after layer `last`; or what `start` leads back to there, from
        directions [sample, size] to [sample, seq, hidden].
        """
        state = self.stack.states[last]
        root = factor(covariance, state.shape[1]).to(state)
        steps = [self.stack.jacobian(layer).vjp for layer in range(last, -1, -1)]

        def measured(directions: Tensor, target: int) -> Tensor:
            cotangents = start(directions) if start else _at(target, directions, len(state))
            squares = []
            for step in steps:
                cotangents = step(cotangents)
                squares.append((cotangents @ root).square().sum(-1))
            return torch.stack(squares[::-1], 1)  # [sample, layer, source]

        size = size or state.shape[1]
        mean, stderr = self._over_directions(measured, targets, size, last)
        return mean.mT, None if stderr is None else stderr.mT

    def _over_directions(
        self,
        measured: Callable[[Tensor, Any], Tensor],
        places: Sequence[int],
        size: int,
        layer: int,
    ) -> Measured:
        """Mean and error of what is measured, over orthogonal directions [sample, size]."""
        state, method = self.stack.states[layer], self.sampling.method
        samples = self.sampling.count(size)
        generator = torch.Generator().manual_seed(self.sampling.seed + layer)

        def drawn() -> Tensor:
            """E‖J·direction‖² = ‖J‖²_F; when all are drawn, each basis vector once."""
            directions = torch.eye(size).to(state)
            if samples < size:
                normals = normal(generator, (size, samples), state)
                directions = torch.linalg.qr(normals).Q.mT
            return size**0.5 * directions

        at_once = max(1, TOKENS_PER_PASS // len(state))
        desc = f"{method}, {self.stack.names[layer]}"
        mean, stderr = average(measured, drawn, places, at_once, self.progress, desc)
        if method == "exact":
            return mean, None
        if samples == size:
            return mean, torch.zeros_like(mean)
        return mean, stderr * math.sqrt(1 - samples / size)  # drawn without replacement


def _at(place: int, directions: Tensor, seq: int) -> Tensor:
    """[sample, seq, hidden]: the directions [sample, hidden] at one position, 0 elsewhere."""
    vectors = directions.new_zeros(len(directions), seq, directions.shape[1])
    vectors[:, place] = directions
    return vectors


def cotangents(
    stack: LayerStack, observe: str | Callable[[Any], Tensor]
) -> tuple[Callable[[Tensor], Tensor], int]:
    """`start` and `size` of a sweep backwards from `observe`, which follows the last layer."""
    entering: list[Tensor] = []  # each layer
    leaving: list[Tensor] = []  # the last module; its last run is the last layer

    def cut(kept: list[Tensor], hidden: Tensor) -> Tensor:
        kept.append(hidden.detach().requires_grad_())
        return kept[-1]

    layers = stack.modules
    site = layers[-1] if callable(observe) else observe
    prepared, _ = prepare(stack.model, stack.sentence)
    enter = edit(stack.model, dict.fromkeys(layers, partial(cut, entering)), entering=True)
    leave = edit(stack.model, {layers[-1]: partial(cut, leaving)})
    with torch.enable_grad(), enter, leave, record(stack.model, site, detach=False) as trace:
        output = stack.model(**prepared)
        answer = observe(output) if callable(observe) else trace[site]
    is_answer = isinstance(answer, Tensor) and answer.requires_grad
    if not is_answer or (answer.ndim > 2 and not callable(observe)):
        raise ValueError(
            f"expected one of the layers {stack.names}, or what follows the last and has no "
            f"positions, as a tensor, got {observe!r}"
        )
    gradient = partial(torch.autograd.grad, answer, retain_graph=True)
    earlier = gradient(entering, torch.ones_like(answer), allow_unused=True)
    if any(slope is not None for slope in earlier):
        raise ValueError(
            "expected a function of the last hidden state and what follows it, got one that reads "
            "earlier ones too; downstream_influence(method='noise', observe=...) measures it"
        )

    def start(directions: Tensor) -> Tensor:
        rows = directions.view(-1, *answer.shape)
        return torch.cat([gradient(leaving[-1], row)[0] for row in rows])

    return start, answer.numel()
