"""Which position influences which, for all layers and positions of one sentence.

Everything is a squared Frobenius norm ‖∂h_target / ∂h_source‖²_F, dimensionless, as [layer, target, source].
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import torch
from torch import Tensor, nn

from .jacobian import LayerJacobian
from .layers import LayerStack, entry_layer, layer_stack
from .models import Inputs
from .noise import PROGRESS, TOKENS_PER_PASS, check_noise, mean_and_stderr, normal

OPTIONS = {
    "exact": set(),
    "jvp": {"samples", "seed", "dtype"},
    "vjp": {"samples", "seed", "dtype"},
    "noise": {"samples", "seed", "sigma"},
}


@dataclass(frozen=True)
class Influence:
    """`.values` and `.stderr` (None when exact) are [layer, target, source]; `.layers` names the observed sites."""

    values: Tensor
    stderr: Tensor | None
    tokens: list[str]
    layers: list[str]
    method: str

    def to_frame(self) -> pd.DataFrame:
        """Long form, a row per layer, target and source."""
        positions = range(len(self.tokens))
        index = pd.MultiIndex.from_product([self.layers, positions, positions], names=["layer", "target", "source"])
        columns = {"value": self.values} if self.stderr is None else {"value": self.values, "stderr": self.stderr}
        flat = {name: tensor.flatten().cpu().numpy() for name, tensor in columns.items()}
        return pd.DataFrame(flat, index=index).reset_index()


def layer_influence(model: nn.Module, inputs: Inputs, *, method: str = "exact", **options) -> Influence:
    """Influence within each layer alone: from what enters layer l to what leaves it ("single-layer observation").

    `method` is "exact" (closed form, see `LayerJacobian`), "noise" (options sigma=0.01, samples=100, seed=0) or "jvp"
    (options samples=100, seed=0, dtype=None). Sampled methods carry standard errors. With every method, `layers` is
    the numbers of the layers wanted (default: all) and `progress` what goes through the steps and shows how far it is,
    called as tqdm is: `progress(steps, desc="...")`; what it raises ends the measurement.

    Returns an `Influence` with values [layer, target, source]. Raises `ValueError` for an unknown method, option or
    layer and for a layer that "exact" and "jvp" cannot express.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> layer_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).values.shape
    torch.Size([2, 3, 3])
    """
    numbers = options.pop("layers", None)
    _check_options(method, ("exact", "jvp", "noise"), options)
    stack = layer_stack(model, inputs)
    depth = len(stack.layers)
    numbers = list(range(depth) if numbers is None else numbers)
    if not numbers or not set(numbers) <= set(range(depth)):
        raise ValueError(f"expected layers from 0 to {depth - 1}, got {numbers}")
    names = [stack.names[number] for number in numbers]
    if method == "exact":
        steps = options.get("progress", PROGRESS)(numbers, desc="exact")
        values = [_jacobian(stack, number).norms() for number in steps]
        return Influence(torch.stack(values), None, stack.tokens, names, method)
    means, stderrs = zip(*(_sweep(stack, [number], method, **options) for number in numbers), strict=True)
    return Influence(torch.cat(means), torch.cat(stderrs), stack.tokens, names, method)


def downstream_influence(
    model: nn.Module, inputs: Inputs, *, inject: str = "embeddings", method: str = "jvp", **options
) -> Influence:
    """Influence of what `inject` puts out on the output of every later layer ("multi-layer observation").

    `method` is "jvp" (tangents through the linearised layers along random orthogonal directions; options samples=100,
    seed=0, dtype=None, e.g. torch.bfloat16 for the tangents), "exact" (all directions) or "noise" (options sigma=0.01,
    samples=100, seed=0); all take `progress` as `layer_influence` does. Layers before the injection are not run again.

    Returns an `Influence` with values [observed layer, target, source]. Raises `ValueError` as `layer_influence`
    does, and for a site whose output does not enter a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> downstream_influence(tiny.eval(), inputs, inject="encoder.layer.0", method="exact").layers
    ['encoder.layer.1']
    """
    _check_options(method, ("jvp", "exact", "noise"), options)
    stack = layer_stack(model, inputs)
    first = entry_layer(model, inputs, stack, inject)
    mean, stderr = _sweep(stack, range(first, len(stack.layers)), method, **options)
    return Influence(mean, None if method == "exact" else stderr, stack.tokens, stack.names[first:], method)


def upstream_influence(
    model: nn.Module, inputs: Inputs, *, observe: str | None = None, method: str = "vjp", **options
) -> Influence:
    """Influence of what enters each layer on the output of one, `observe` (the last layer when not given).

    One backward sweep serves every injection layer, where noise has to be injected again at each. `method` is "vjp"
    (random orthogonal directions; options samples=100, seed=0, dtype=None) or "exact" (all of them).

    Returns an `Influence` with values [injection layer, target, source]; `.layers` names the layers whose input is
    the source. Raises `ValueError` as `layer_influence` does, and for an `observe` that is not a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> upstream_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).layers
    ['encoder.layer.0', 'encoder.layer.1']
    """
    _check_options(method, ("vjp", "exact"), options)
    stack = layer_stack(model, inputs)
    observe = stack.names[-1] if observe is None else observe
    if observe not in stack.names:
        raise ValueError(f"expected one of the layers {stack.names}, got {observe!r}")
    last = stack.names.index(observe)
    mean, stderr = _sweep(stack, range(last, -1, -1), method, backward=True, **options)
    error = None if method == "exact" else stderr.flip(0)
    return Influence(mean.flip(0), error, stack.tokens, stack.names[: last + 1], method)


def _check_options(method: str, methods: Sequence[str], options: Mapping) -> None:
    if method not in methods:
        raise ValueError(f"expected method {' or '.join(map(repr, methods))}, got {method!r}")
    allowed = OPTIONS[method] | {"progress"}
    if unknown := set(options) - allowed:
        raise ValueError(f"method {method!r} takes the options {sorted(allowed)}, got {sorted(unknown)}")
    check_noise(options.get("sigma", 0.01), options.get("samples", 100))


def _jacobian(stack: LayerStack, number: int) -> LayerJacobian:
    return LayerJacobian(stack.layers[number], stack.states[number], stack.attention_mask)


def _sweep(
    stack: LayerStack,
    numbers: Sequence[int],
    method: str,
    *,
    samples: int = 100,
    seed: int = 0,
    sigma: float = 0.01,
    dtype: torch.dtype | None = None,
    backward: bool = False,
    progress: Callable[..., Iterable] = PROGRESS,
) -> tuple[Tensor, Tensor]:
    """Disturb each position before the first of these layers, follow it through them: mean and error of ‖·‖².

    [layer, target, source] each. Rows are (position, sample) pairs, as many in a pass as TOKENS_PER_PASS allows.
    """
    state = stack.states[numbers[0]]
    seq, hidden = state.shape
    if method == "noise":
        follow = partial(_by_noise, stack, numbers, sigma)
    else:  # there are no more orthogonal directions than dimensions, and all of them are exact
        samples = hidden if method == "exact" else min(samples, hidden)
        jacobians = [_jacobian(stack, number) for number in numbers]
        follow = partial(_by_jacobian, jacobians if dtype is None else [J.to(dtype) for J in jacobians], backward)
    generator = torch.Generator().manual_seed(seed + numbers[0])
    rows = max(1, TOKENS_PER_PASS // seq)
    moments = []
    groups = torch.arange(seq).split(max(1, rows // samples))
    for positions in progress(groups, desc=f"{method}, {stack.names[numbers[0]]}"):
        directions = torch.stack([_directions(method, generator, samples, state) for _ in positions])
        energies = []
        for part in directions.split(rows, dim=1):
            disturbance = state.new_zeros(*part.shape[:2], seq, hidden)
            disturbance[torch.arange(len(positions)), :, positions] = part
            energy = torch.stack([h.to(state.dtype).square().sum(-1) for h in follow(disturbance.flatten(0, 1))], 1)
            energies.append(energy.unflatten(0, part.shape[:2]))  # [position, sample, layer, seq]
        moments.append(mean_and_stderr(torch.cat(energies, 1).transpose(0, 1)))
    mean, stderr = (torch.cat(parts).transpose(0, 1) for parts in zip(*moments, strict=True))
    if method != "noise":  # directions are drawn without replacement, so the error vanishes when all are used
        stderr *= math.sqrt(1 - samples / hidden)
    return (mean, stderr) if backward else (mean.mT, stderr.mT)


@torch.no_grad()
def _by_noise(stack: LayerStack, numbers: Sequence[int], sigma: float, noise: Tensor) -> Iterator[Tensor]:
    state = stack.states[numbers[0]]
    batch = torch.cat([state[None], state + sigma * noise])  # the clean row runs beside the noisy ones
    for number in numbers:
        batch = stack.run(number, batch)
        yield (batch[1:] - batch[:1]) / sigma


def _by_jacobian(jacobians: Sequence[LayerJacobian], backward: bool, vectors: Tensor) -> Iterator[Tensor]:
    vectors = vectors.to(jacobians[0].w_o.dtype)
    for jacobian in jacobians:
        vectors = jacobian.vjp(vectors) if backward else jacobian.jvp(vectors)
        yield vectors


def _directions(method: str, generator: torch.Generator, samples: int, like: Tensor) -> Tensor:
    """[sample, hidden] with E‖J·direction‖² = ‖J‖²_F."""
    hidden = like.shape[-1]
    if method == "noise":
        return normal(generator, (samples, hidden), like)
    if method == "exact":  # each basis vector once; the mean over samples becomes the sum that the norm is
        return hidden**0.5 * torch.eye(hidden).to(like)
    return hidden**0.5 * torch.linalg.qr(normal(generator, (hidden, samples), like)).Q.mT
