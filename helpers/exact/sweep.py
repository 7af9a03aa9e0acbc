"""Disturb one position at a time before some layers and follow the disturbance through them."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from ..noise import TOKENS_PER_PASS, mean_and_stderr, normal
from ..result import Progress, Sampling
from .jacobian import LayerJacobian
from .layers import LayerStack


def sweep(
    stack: LayerStack,
    numbers: Sequence[int],
    places: Sequence[int],
    how: Sampling,
    progress: Progress,
    backward: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Disturb each of these places before the first of these layers, follow it through them: mean and error of ‖·‖².

    [layer, target, source] each. A pass holds as many samples as TOKENS_PER_PASS allows.
    """
    state, method, samples, dtype = stack.states[numbers[0]], how.method, how.samples, how.dtype
    seq, hidden = state.shape
    if method == "noise":
        follow = partial(_by_noise, stack, numbers, how.sigma)
    else:  # there are no more orthogonal directions than dimensions, and all of them are exact
        samples = hidden if method == "exact" else min(samples, hidden)
        jacobians = [stack.jacobian(number) for number in numbers]
        follow = partial(
            _by_jacobian, jacobians if dtype is None else [J.to(dtype) for J in jacobians], backward
        )
    generator = torch.Generator().manual_seed(how.seed + numbers[0])
    means, stderrs = [], []
    for place in progress(places, desc=f"{method}, {stack.names[numbers[0]]}"):
        energies = []
        for directions in _directions(method, generator, samples, state).split(
            max(1, TOKENS_PER_PASS // seq)
        ):
            disturbance = state.new_zeros(len(directions), seq, hidden)
            disturbance[:, place] = directions
            energy = [moved.to(state.dtype).square().sum(-1) for moved in follow(disturbance)]
            energies.append(torch.stack(energy, 1))  # [sample, layer, seq]
        mean, stderr = mean_and_stderr(torch.cat(energies))
        means.append(mean)
        stderrs.append(stderr)
    mean, stderr = torch.stack(means, 1), torch.stack(stderrs, 1)  # [layer, place, seq]
    if not backward:
        mean, stderr = mean.mT, stderr.mT
    if method != "noise":  # drawn without replacement: the error vanishes when all are used
        stderr *= math.sqrt(1 - samples / hidden)
    return mean, None if method == "exact" else stderr


@torch.no_grad()
def _by_noise(
    stack: LayerStack, numbers: Sequence[int], sigma: float, noise: Tensor
) -> Iterator[Tensor]:
    state = stack.states[numbers[0]]
    batch = torch.cat(
        [state[None], state + sigma * noise]
    )  # the clean row runs beside the noisy ones
    for number in numbers:
        batch = stack.run(number, batch)
        yield (batch[1:] - batch[:1]) / sigma


def _by_jacobian(
    jacobians: Sequence[LayerJacobian], backward: bool, vectors: Tensor
) -> Iterator[Tensor]:
    vectors = vectors.to(jacobians[0].w_o.dtype)
    for jacobian in jacobians:
        vectors = jacobian.vjp(vectors) if backward else jacobian.jvp(vectors)
        yield vectors


def _directions(method: str, generator: torch.Generator, samples: int, like: Tensor) -> Tensor:
    """[sample, hidden] with E‖J·direction‖² = ‖J‖²_F."""
    hidden = like.shape[-1]
    if method == "noise":
        return normal(generator, (samples, hidden), like)
    if (
        method == "exact"
    ):  # each basis vector once; the mean over samples becomes the sum that the norm is
        return hidden**0.5 * torch.eye(hidden).to(like)
    return hidden**0.5 * torch.linalg.qr(normal(generator, (hidden, samples), like)).Q.mT
