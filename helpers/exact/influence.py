"""Which position influences which, for all layers and positions of one sentence.

Everything is a squared Frobenius norm ‖∂h_target / ∂h_source‖²_F, dimensionless, as [layer, target,
source].
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..hooks import resolve
from ..result import PROGRESS, Influence, Progress, Sampling
from ..words import Inputs
from .layers import LayerStack, layer_stack, stack_behind
from .post_ln import chosen
from .sweep import sweep


def layer_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    method: str = "exact",
    layers: Sequence[int] | None = None,
    sources: Sequence[int] | None = None,
    covariance: Tensor | None = None,
    progress: Progress = PROGRESS,
    **sampling: Any,
) -> Influence:
    """Influence within each layer alone: from what enters layer l to what leaves it ("single-layer observation").

    `method` is "exact" (closed form, see `LayerJacobian`), "noise" (takes samples, seed, sigma) or
    "jvp" (samples, seed, dtype). Sampled methods carry standard errors. `layers` and `sources` are
    the numbers of the layers and the positions wanted (default: all). `progress` goes through the
    steps and shows how far it is.

    With a `covariance` S, [hidden, hidden] for all layers or [layer, hidden, hidden], the influence
    is tr(J S Jᵀ): along directions drawn from N(0, S), not along all alike. It is for "exact" only.

    Returns an `Influence` with values [layer, target, source]. Raises `ValueError` for an unknown
    method, a layer or a position that is not there, an option that the method does not take, and
    for a layer that "exact" and "jvp" cannot express.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> layer_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).values.shape
    torch.Size([2, 3, 3])
    """
    how = Sampling.of(method, ("exact", "jvp", "noise"), sampling)
    if covariance is not None and method != "exact":
        raise ValueError(f"expected method 'exact' with a covariance, got {method!r}")
    stack = layer_stack(model, inputs)
    depth, targets = len(stack.layers), list(range(len(stack.tokens)))
    numbers = chosen("layers", layers, depth)
    columns = chosen("sources", sources, len(targets))
    names = [stack.names[number] for number in numbers]
    if method == "exact":
        each = _for_each_layer(covariance, depth)
        norms = [stack.jacobian(n).squared_norms(each[n]) for n in progress(numbers, desc="exact")]
        values, stderr = torch.stack(norms)[:, :, columns], None
    else:
        parts = [sweep(stack, [number], columns, how, progress) for number in numbers]
        values, stderr = (torch.cat(part) for part in zip(*parts, strict=True))
    return Influence(values, stderr, names, targets, columns, stack.tokens, method)


def downstream_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    inject: str | None = "embeddings",
    method: str = "jvp",
    sources: Sequence[int] | None = None,
    progress: Progress = PROGRESS,
    **sampling: Any,
) -> Influence:
    """Influence of what `inject` puts out on the output of every later layer ("multi-layer observation").

    `method` is "jvp" (tangents through the linearised layers along random orthogonal directions;
    takes samples, seed and dtype, e.g. torch.bfloat16 for the tangents), "exact" (all directions)
    or "noise" (samples, seed, sigma). `sources` are the positions whose columns are wanted
    (default: all); each costs the same. Layers before the injection are not run again; `progress`
    as for `layer_influence`. `inject=None` is what enters the first layer, also where the output of
    "embeddings" does not, because the model maps it to another width first (ALBERT).

    Returns an `Influence` with values [observed layer, target, source]. Raises `ValueError` as
    `layer_influence` does, and for a site whose output does not enter a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> downstream_influence(tiny.eval(), inputs, inject="encoder.layer.0", method="exact").sites
    ['encoder.layer.1']
    """
    how = Sampling.of(method, ("jvp", "exact", "noise"), sampling)
    stack, first = stack_behind(model, inputs, inject)
    positions = list(range(len(stack.tokens)))
    columns = chosen("sources", sources, len(positions))
    numbers = range(first, len(stack.layers))
    values, stderr = sweep(stack, numbers, columns, how, progress)
    return Influence(values, stderr, stack.names[first:], positions, columns, stack.tokens, method)


def upstream_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    observe: str | None = None,
    method: str = "vjp",
    targets: Sequence[int] | None = None,
    progress: Progress = PROGRESS,
    **sampling: Any,
) -> Influence:
    """Influence of what enters each layer on the output of one, `observe` (the last layer when not given).

    One backward sweep serves every injection layer, where noise has to be injected again at each.
    `method` is "vjp" (random orthogonal directions; takes samples, seed, dtype) or "exact" (all of
    them). `targets` are the positions whose rows are wanted (default: all); each costs the same.

    Returns an `Influence` with values [injection layer, target, source]; `.layers` names the layers
    whose input is the source. Raises `ValueError` as `layer_influence` does, and for an `observe`
    that is not a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> upstream_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).sites
    ['encoder.layer.0', 'encoder.layer.1']
    """
    how = Sampling.of(method, ("vjp", "exact"), sampling)
    stack = layer_stack(model, inputs)
    last = _observed(model, stack, observe)
    positions = list(range(len(stack.tokens)))
    rows = chosen("targets", targets, len(positions))
    values, stderr = sweep(stack, range(last, -1, -1), rows, how, progress, backward=True)
    values, stderr = values.flip(0), None if stderr is None else stderr.flip(0)
    return Influence(values, stderr, stack.names[: last + 1], rows, positions, stack.tokens, method)


def _observed(model: nn.Module, stack: LayerStack, observe: str | None) -> int:
    """The number of the layer called `observe`, which may be short for a name below the model's prefix."""
    if observe is None:
        return len(stack.names) - 1
    names = [observe] if observe in stack.names else list(resolve(model, observe))
    if len(names) != 1 or names[0] not in stack.names:
        raise ValueError(f"expected one of the layers {stack.names}, got {observe!r}")
    return stack.names.index(names[0])


def _for_each_layer(covariance: Tensor | None, depth: int) -> Sequence[Tensor | None]:
    if covariance is None or covariance.ndim == 2:
        return [covariance] * depth
    if len(covariance) != depth:
        raise ValueError(f"expected a covariance for each of {depth} layers, got {len(covariance)}")
    return list(covariance)
