"""Which position influences which, for all layers and positions of one sentence.

Everything is a squared Frobenius norm ‖∂h_target / ∂h_source‖²_F, dimensionless, as [layer, target,
source].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..noise import Observed, Rows
from ..result import PROGRESS, Influence, Progress, how_it_came
from ..sampling import Sampling, draw, factor
from ..words import Inputs
from .layers import LayerStack, layer_stack, stack_behind
from .post_ln import chosen
from .sweep import cotangents, sweep


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
    dtype: torch.dtype | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence within each layer alone, from what enters it to what leaves it ("single-layer").

    `method` is "exact" (closed form, see `LayerJacobian`), "noise" (takes samples, seed, sigma; the
    model's own pass, in which every layer gets its clean input and noise) or "jvp" (samples, seed,
    dtype: random orthogonal directions). Sampled methods carry standard errors. `layers` and
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
    how = Sampling.of(
        method, ("exact", "jvp", "noise"), samples=samples, seed=seed, sigma=sigma, dtype=dtype
    )
    stack = layer_stack(model, inputs)
    layers = chosen("layers", layers, len(stack.layers))
    sources = chosen("sources", sources, len(stack.tokens))
    spreads = dict(zip(layers, _for_each_layer(covariance, len(layers)), strict=True))
    sites = [stack.names[layer] for layer in layers]
    told = _told(stack, how, covariance)
    if method == "noise":
        found = _layers_by_noise(stack, spreads, sources, how, progress, told)
        return replace(found, sites=sites)
    stderr: Tensor | None = None
    if method == "exact":
        norms = []
        for layer in progress(layers, desc="exact"):
            spread = spreads[layer]
            norms.append(stack.jacobian(layer).squared_norms(spread, sources=sources))
        values = torch.stack(norms).cpu()
    else:
        parts = [
            sweep(stack, [layer], sources, how, progress, covariance=spread)
            for layer, spread in spreads.items()
        ]
        values, stderr = (torch.cat(part) for part in zip(*parts, strict=True))
    came = how_it_came(model, stack.sentence, stack.tokens, **told)
    return Influence(values, stderr, sites, stack.positions, sources, stack.tokens, came)


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
    dtype: torch.dtype | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence of what `inject` puts out on every later layer ("multi-layer observation").

    `method` is "jvp" (tangents through the linearised layers along random orthogonal directions;
    takes samples, seed and dtype, e.g. torch.bfloat16 for the tangents), "exact" (all directions)
    or "noise" (samples, seed, sigma), for which `inject` is any site and `observe` any sites or a
    function, as for `noise_response`. `sources` are the positions whose columns are wanted
    (default: all); each costs the same. `covariance` as for `layer_influence`, one. `inject=None`
    is what enters the first layer, also where the output of "embeddings" does not, because the
    model maps it to another width first (ALBERT).

    Returns an `Influence` with values [observed site, target, source]. Raises `ValueError` as
    `layer_influence` does, and for a site whose output does not enter a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2))
    >>> inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> downstream_influence(tiny.eval(), inputs, inject="encoder.layer.0", method="exact").sites
    ['encoder.layer.1']
    """
    how = Sampling.of(
        method, ("jvp", "exact", "noise"), samples=samples, seed=seed, sigma=sigma, dtype=dtype
    )
    if method == "noise":
        layers = []
        if inject is None or observe is None:
            layers = layer_stack(model, inputs).modules
        entering = inject is None
        rows = Rows(model, inputs, [inject or layers[0]], observe or layers, entering)
        first = rows.start if entering else rows.start + 1
        rows.seen = [k for k in rows.seen if k >= first]
        if not rows.seen:
            raise ValueError(f"expected a site that runs before what is observed, got {inject!r}")
        before = 0 if observe else len(layers) - len(rows.seen)
        generator = torch.Generator().manual_seed(how.seed + before)
        spread = factor(covariance, rows.entry.shape[-1])
        drawn = partial(draw, generator, how.count(), 1, spread, rows.entry)
        columns = {place: [place] for place in chosen("sources", sources, len(rows.tokens))}
        told = {"inject": inject} | how.told()
        return rows.influence({rows.run: drawn}, columns, how, told, progress)
    if observe is not None:
        raise ValueError(f"expected method 'noise' with observe, got {method!r}")
    stack, first = stack_behind(model, inputs, inject)
    sources = chosen("sources", sources, len(stack.tokens))
    behind = range(first, len(stack.layers))
    values, stderr = sweep(stack, behind, sources, how, progress, covariance=covariance)
    told = {"inject": inject} | _told(stack, how, covariance)
    came = how_it_came(model, stack.sentence, stack.tokens, **told)
    sites = stack.names[first:]
    return Influence(values, stderr, sites, stack.positions, sources, stack.tokens, came)


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
    dtype: torch.dtype | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence of what enters each layer on the output of one, `observe` (by default the last).

    One backward sweep serves every injection layer, where noise has to be injected again at each.
    `observe` may also be what follows the last layer and has no positions, as one target: a site
    such as "pooler" or "classifier", or a function of what the model returns (the sentence vector:
    `lambda output: output.last_hidden_state.mean(1)`). `method` is "vjp" (random orthogonal
    directions; takes samples, seed, dtype) or "exact" (all of them). `targets` are the positions
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
    how = Sampling.of(method, ("vjp", "exact"), samples=samples, seed=seed, dtype=dtype)
    stack = layer_stack(model, inputs)
    if observe is None:
        observe = stack.names[-1]
    start: Callable | None = None
    size = stack.states[0].shape[1]
    last = None if callable(observe) else stack.number(observe)
    if last is None:
        if targets is not None:
            raise ValueError(f"expected no targets, for {observe!r} is one, got {targets}")
        last = len(stack.layers) - 1
        start, size = cotangents(stack, observe)
        name, rows = getattr(observe, "__name__", str(observe)).strip("<>"), [0]
    else:
        name, rows = stack.names[last], chosen("targets", targets, len(stack.tokens))
    values, stderr = sweep(
        stack,
        range(last, -1, -1),
        rows,
        how,
        progress,
        backward=True,
        covariance=covariance,
        start=start,
        size=size,
    )
    values, stderr = values.flip(0), None if stderr is None else stderr.flip(0)
    told = {"observe": name} | _told(stack, how, covariance, size)
    came = how_it_came(model, stack.sentence, stack.tokens, **told)
    labels = [name] if start else rows
    sites = stack.names[: last + 1]
    return Influence(values, stderr, sites, labels, stack.positions, stack.tokens, came)


def _told(
    stack: LayerStack, how: Sampling, covariance: Tensor | None, directions: int | None = None
) -> dict[str, Any]:
    hidden = stack.states[0].shape[1]
    told = how.told(directions or hidden)
    if covariance is None:  # as many directions: influence / hidden is of a push of 1
        told["hidden"] = hidden
    return told


def _layers_by_noise(
    stack: LayerStack,
    spreads: Mapping[int, Tensor | None],
    sources: list[int],
    how: Sampling,
    progress: Progress,
    told: dict[str, Any],
) -> Influence:
    """Every layer gets its clean input, and noise of its own on it, in one pass of the model."""
    modules = stack.modules[: max(spreads) + 1]  # a run's number is that of its layer
    rows = Rows(stack.model, stack.sentence, modules, modules, entering=True)
    rows.seen = list(spreads)
    draws = {}
    for layer, covariance in spreads.items():
        generator = torch.Generator().manual_seed(how.seed + layer)
        state = stack.states[layer]
        spread = factor(covariance, state.shape[-1])
        draws[layer] = partial(draw, generator, how.count(), 1, spread, state)
    columns = {place: [place] for place in sources}
    return rows.influence(draws, columns, how, told, progress)


def _for_each_layer(covariance: Tensor | None, layers: int) -> list[Tensor | None]:
    if covariance is None or torch.as_tensor(covariance).ndim < 3:
        return [covariance] * layers
    if len(covariance) != layers:
        raise ValueError(
            f"expected a covariance for each of {layers} layers, got {len(covariance)}"
        )
    return list(covariance)
