"""The experiments by noise: the model's own pass in the place of its derivative."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..noise import Observed, Rows
from ..result import Influence, Progress
from ..sampling import Sampling, draw, factor
from ..words import Inputs
from .chosen import chosen
from .layers import LayerStack, layer_stack


def within_layers(
    stack: LayerStack,
    covariances: Mapping[int, Tensor | None],
    sources: Sequence[int],
    sampling: Sampling,
    progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Mean and error of ‖Δ‖²/σ² [layer, target, source] for the layers with these covariances.

    Every layer gets its clean input, and noise of its own on it, in one pass of the model.
    """
    modules = stack.modules[: max(covariances) + 1]  # a run's number is that of its layer
    rows = Rows(stack.model, stack.sentence, modules, modules, entering=True)
    rows.seen = list(covariances)
    draws = {}
    for layer, covariance in covariances.items():
        draws[layer] = _noise(sampling.seed + layer, sampling, covariance, stack.states[layer])
    found = rows.influence(draws, {place: [place] for place in sources}, sampling, {}, progress)
    assert found.stderr is not None
    return found.values, found.stderr


def downstream(
    model: nn.Module,
    inputs: Inputs,
    inject: str | None,
    observe: Observed | None,
    sources: Sequence[int] | None,
    covariance: Tensor | None,
    sampling: Sampling,
    progress: Progress,
) -> Influence:
    """From any site, or what enters the first layer, to the sites that run later."""
    layers = []
    if inject is None or observe is None:
        layers = layer_stack(model, inputs).modules
    entering = inject is None
    rows = Rows(model, inputs, [inject or layers[0]], observe or layers, entering)
    first = rows.start if entering else rows.start + 1
    rows.seen = [run for run in rows.seen if run >= first]
    if not rows.seen:
        raise ValueError(f"expected a site that runs before what is observed, got {inject!r}")
    drawn = _noise(sampling.seed, sampling, covariance, rows.entry)
    columns = {place: [place] for place in chosen("sources", sources, len(rows.tokens))}
    told = {"inject": inject} | sampling.used()
    return rows.influence({rows.run: drawn}, columns, sampling, told, progress)


def _noise(
    seed: int, sampling: Sampling, covariance: Tensor | None, state: Tensor
) -> Callable[[], Tensor]:
    """What draws the noise of one position of a state, [sample, 1, hidden]."""
    generator = torch.Generator().manual_seed(seed)
    root = factor(covariance, state.shape[-1])
    return partial(draw, generator, sampling.count(), 1, root, state)
