"""Which position influences which, for all layers and positions of one sentence.

Everything is a squared Frobenius norm ‖∂h_target / ∂h_source‖²_F, dimensionless, as [layer, target,
source].
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..noise import Observed
from ..result import PROGRESS, Influence, Progress, how_it_came
from ..sampling import Sampling
from ..words import Inputs
from . import by_noise
from .chosen import chosen
from .layers import LayerStack, layer_behind, layer_stack
from .sweep import Measured, Sweep, cotangents


def layer_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    method: str = "exact",
    layers: Sequence[int] | None = None,
    sources: Sequence[int] | None = None,
    covariance: Tensor | None = None,
    samples: int | None = None,
    seed: int | None = None,
    sigma: float | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence within each layer alone, from what enters it to what leaves it ("single-layer").

    `method` is "exact" (closed form, see `LayerJacobian`), "noise" (takes samples, seed, sigma; the
    model's own pass, in which every layer gets its clean input and noise) or "jvp" (samples, seed:
    random orthogonal directions). Sampled methods carry standard errors. `layers` and
    `sources` are the numbers of the layers and the positions wanted (default: all); of "exact" a
    few sources cost nearly what all do: the targets cost. `progress` goes through the steps and
    shows how far it is.

    With a `covariance` S the influence is tr(J S Jᵀ): along directions drawn from N(0, S). It is
    [hidden, hidden], or a direction [hidden] (‖J·direction‖²; times √hidden over its length it
    compares with all directions together), or one [hidden, hidden] for each of the layers wanted.

    Returns an `Influence` with values [layer, target, source]. Raises `ValueError` for an unknown
    method, a layer or a position that is not there, an option that the method does not take, and
    for a layer that "exact" and "jvp" cannot express.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2))
    >>> layer_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).values.shape
    torch.Size([2, 3, 3])
    """
    offered = ("exact", "jvp", "noise")
    sampling = Sampling.of(method, offered, samples=samples, seed=seed, sigma=sigma)
    stack = layer_stack(model, inputs)
    layers = chosen("layers", layers, len(stack.layers))
    sources = chosen("sources", sources, len(stack.tokens))
    covariances = dict(zip(layers, _for_each_layer(covariance, len(layers)), strict=True))
    sites = [stack.names[layer] for layer in layers]
    told = _told(stack, sampling, covariance)
    if method == "noise":
        measured: Measured = by_noise.within_layers(stack, covariances, sources, sampling, progress)
    elif method == "exact":
        norms = []
        for layer in progress(layers, desc="exact"):
            jacobian = stack.jacobian(layer)
            norms.append(jacobian.squared_norms(covariances[layer], sources=sources))
        measured = torch.stack(norms).cpu(), None
    else:
        sweep = Sweep(stack, sampling, progress)
        means: list[Tensor] = []
        errors: list[Any] = []
        for layer, each in covariances.items():
            mean, error = sweep.forward([layer], sources, each)
            means.append(mean)
            errors.append(error)
        measured = torch.cat(means), torch.cat(errors)
    return _influence(stack, measured, sites, told, sources=sources)


def downstream_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    inject: str | None = "embeddings",
    method: str = "jvp",
    sources: Sequence[int] | None = None,
    observe: Observed | None = None,
    covariance: Tensor | None = None,
    samples: int | None = None,
    seed: int | None = None,
    sigma: float | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence of what `inject` puts out on every later layer ("multi-layer observation").

    `method` is "jvp" (tangents through the linearised layers along random orthogonal directions;
    takes samples and seed), "exact" (all directions) or "noise" (samples, seed, sigma), for which
    `inject` is any site and `observe` any sites or a function, as for `noise_response`. `sources`
    are the positions whose columns are wanted (default: all); each costs the same. `covariance` as
    for `layer_influence`, one. `inject=None` is what enters the first layer, also where the output
    of "embeddings" does not, because the model maps it to another width first (ALBERT).

    Returns an `Influence` with values [observed site, target, source]. Raises `ValueError` as
    `layer_influence` does, and for a site whose output does not enter a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2))
    >>> inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> downstream_influence(tiny.eval(), inputs, inject="encoder.layer.0", method="exact").sites
    ['encoder.layer.1']
    """
    offered = ("jvp", "exact", "noise")
    sampling = Sampling.of(method, offered, samples=samples, seed=seed, sigma=sigma)
    if method == "noise":
        return by_noise.downstream(
            model, inputs, inject, observe, sources, covariance, sampling, progress
        )
    if observe is not None:
        raise ValueError(f"expected method 'noise' with observe, got {method!r}")
    stack = layer_stack(model, inputs)
    sources = chosen("sources", sources, len(stack.tokens))
    layers = range(layer_behind(stack, inject), len(stack.layers))
    measured = Sweep(stack, sampling, progress).forward(layers, sources, covariance)
    told = {"inject": inject} | _told(stack, sampling, covariance)
    return _influence(stack, measured, stack.names[layers.start :], told, sources=sources)


def upstream_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    observe: str | Callable[[Any], Tensor] | None = None,
    method: str = "vjp",
    targets: Sequence[int] | None = None,
    covariance: Tensor | None = None,
    samples: int | None = None,
    seed: int | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence of what enters each layer on the output of one, `observe` (by default the last).

    One backward sweep serves every injection layer, where noise has to be injected again at each.
    `observe` may also be what follows the last layer and has no positions, as one target: a site
    such as "pooler" or "classifier", or a function of what the model returns (the sentence vector:
    `lambda output: output.last_hidden_state.mean(1)`). `method` is "vjp" (random orthogonal
    directions; takes samples and seed) or "exact" (all of them). `targets` are the positions
    whose rows are wanted (default: all); each costs the same. `covariance`, one, is of what enters
    a layer.

    Returns an `Influence` with values [injection layer, target, source]; `.sites` names the layers
    whose input is the source. Raises `ValueError` as `layer_influence` does, and for an `observe`
    that is neither a layer nor what follows the last one.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2))
    >>> upstream_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).sites
    ['encoder.layer.0', 'encoder.layer.1']
    """
    sampling = Sampling.of(method, ("vjp", "exact"), samples=samples, seed=seed)
    stack = layer_stack(model, inputs)
    if observe is None:
        observe = stack.names[-1]
    last = None if callable(observe) else stack.number(observe)
    start = size = None
    if last is not None:
        name = stack.names[last]
        places = chosen("targets", targets, len(stack.tokens))
        labels: list = places
    else:
        if targets is not None:
            raise ValueError(f"expected no targets, for {observe!r} is one, got {targets}")
        name = getattr(observe, "__name__", str(observe)).strip("<>")
        places, labels = [0], [name]
        start, size = cotangents(stack, observe)
        last = len(stack.layers) - 1
    sweep = Sweep(stack, sampling, progress)
    measured = sweep.backward(last, places, covariance, start, size)
    told = _told(stack, sampling, covariance, size) | {"observe": name}
    return _influence(stack, measured, stack.names[: last + 1], told, targets=labels)


def _influence(
    stack: LayerStack,
    measured: Measured,
    sites: list[str],
    told: dict[str, Any],
    targets: list | None = None,
    sources: list | None = None,
) -> Influence:
    """What was measured, with its axes (by default all positions) and how it came about."""
    values, stderr = measured
    places = list(range(len(stack.tokens)))
    came = how_it_came(stack.model, stack.sentence, stack.tokens, **told)
    return Influence(
        values, stderr, sites, targets or places, sources or places, stack.tokens, came
    )


def _told(
    stack: LayerStack, sampling: Sampling, covariance: Tensor | None, size: int | None = None
) -> dict[str, Any]:
    hidden = stack.states[0].shape[1]
    told = sampling.used(size or hidden)
    if covariance is None:  # as many directions: influence / hidden is of a push of 1
        told["hidden"] = hidden
    return told


def _for_each_layer(covariance: Tensor | None, layers: int) -> list[Tensor | None]:
    if covariance is None or torch.as_tensor(covariance).ndim < 3:
        return [covariance] * layers
    if len(covariance) != layers:
        raise ValueError(
            f"expected a covariance for each of {layers} layers, got {len(covariance)}"
        )
    return list(covariance)
