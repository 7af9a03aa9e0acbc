"""Follow disturbances of one position at a time through linearised layers, or backwards."""

import math
from collections.abc import Callable, Sequence
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


def sweep(
    stack: LayerStack,
    layers: Sequence[int],
    places: Sequence,
    how: Sampling,
    progress: Progress,
    *,
    backward: bool = False,
    covariance: Tensor | None = None,
    start: Callable[[Tensor, int], Tensor] | None = None,
    size: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Mean and error of ‖·‖² [layer, target, source] for a disturbance of each place.

    It enters the first of `layers` and goes through all of them, or `backward`. `start` makes
    [sample, seq, hidden] of directions [sample, size] for a place; by default they are the state
    there. The `covariance` is that of the sources.
    """
    state = stack.states[layers[0]]
    seq, hidden = state.shape
    spread = factor(covariance, hidden).to(state)
    rank = size or spread.shape[1]
    samples = how.count(rank)
    jacobians = [stack.jacobian(layer) for layer in layers]
    if how.dtype is not None:
        jacobians = [J.to(how.dtype) for J in jacobians]

    def at_place(directions: Tensor, place: int) -> Tensor:
        vectors = state.new_zeros(len(directions), seq, hidden)
        vectors[:, place] = directions if backward else directions @ spread.mT
        return vectors

    def measured(directions: Tensor, place: Any) -> Tensor:
        vectors = (start or at_place)(directions, place).to(jacobians[0].w_o.dtype)
        squares = []
        for jacobian in jacobians:
            vectors = jacobian.vjp(vectors) if backward else jacobian.jvp(vectors)
            moved = vectors.to(state.dtype)
            squares.append((moved @ spread if backward else moved).square().sum(-1))
        return torch.stack(squares, 1)  # [sample, layer, seq]

    generator = torch.Generator().manual_seed(how.seed + layers[0])
    drawn = partial(_directions, generator, samples, rank, state)
    at_once = max(1, TOKENS_PER_PASS // seq)
    desc = f"{how.method}, {stack.names[layers[0]]}"
    mean, stderr = average(measured, drawn, places, at_once, progress, desc)
    if backward:
        mean, stderr = mean.mT, stderr.mT
    if how.method == "exact":
        return mean, None
    # drawn without replacement: the error vanishes when all are used
    spent = samples / rank
    return mean, stderr * math.sqrt(1 - spent) if spent < 1 else torch.zeros_like(mean)


def _directions(generator: torch.Generator, samples: int, rank: int, like: Tensor) -> Tensor:
    """[sample, rank] with E‖J·direction‖² = ‖J‖²_F: orthogonal; each basis vector once when all."""
    if samples == rank:
        return rank**0.5 * torch.eye(rank).to(like)
    return rank**0.5 * torch.linalg.qr(normal(generator, (rank, samples), like)).Q.mT


def cotangents(
    stack: LayerStack, observe: str | Callable[[Any], Tensor]
) -> tuple[Callable[[Tensor, int], Tensor], int]:
    """`start` and `size` of a sweep backwards from `observe`, which follows the last layer."""
    entering: list[Tensor] = []  # each layer
    last: list[Tensor] = []  # what the last layer puts out

    def cut(kept: list[Tensor], hidden: Tensor) -> Tensor:
        kept.append(hidden.detach().requires_grad_())
        return kept[-1]

    layers = stack.modules
    site = layers[-1] if callable(observe) else observe
    prepared, _ = prepare(stack.model, stack.sentence)
    enter = edit(stack.model, dict.fromkeys(layers, partial(cut, entering)), entering=True)
    leave = edit(stack.model, {layers[-1]: partial(cut, last)})
    with torch.enable_grad(), enter, leave, record(stack.model, site, detach=False) as trace:
        output = stack.model(**prepared)
        answer = observe(output) if callable(observe) else trace[site]
    is_answer = isinstance(answer, Tensor) and answer.requires_grad
    if not is_answer or (answer.ndim > 2 and not callable(observe)):
        raise ValueError(
            f"expected one of the layers {stack.names}, or what follows the last and has no "
            f"positions, as a tensor, got {observe!r}"
        )
    weighted = answer.flatten() @ torch.linspace(1, 2, answer.numel()).to(answer)
    slopes = torch.autograd.grad(weighted, entering, retain_graph=True, allow_unused=True)
    if any(slope is not None and slope.any() for slope in slopes):
        raise ValueError(
            "expected a function of the last hidden state and what follows it, got one that reads "
            "earlier ones too; downstream_influence(method='noise', observe=...) measures it"
        )

    def start(directions: Tensor, _place: int) -> Tensor:
        rows = directions.view(-1, *answer.shape)
        return torch.cat(
            [torch.autograd.grad(answer, last[-1], row, retain_graph=True)[0] for row in rows]
        )

    return start, answer.numel()
