"""Which position influences which, for all layers and positions of one sentence.

Everything is a squared Frobenius norm ‖∂h_target / ∂h_source‖²_F, dimensionless, as [layer, target, source].
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from .hooks import resolve
from .layers import LayerStack, layer_stack, stack_behind
from .models import Inputs
from .noise import PROGRESS, check_noise
from .sweep import How, Progress, sweep
from .values import same, shortened, whole

DEFAULTS = {"samples": 100, "seed": 0, "sigma": 0.01, "dtype": None}
OPTIONS = {  # which method takes which of them
    "exact": set(),
    "jvp": {"samples", "seed", "dtype"},
    "vjp": {"samples", "seed", "dtype"},
    "noise": {"samples", "seed", "sigma"},
}


@dataclass(frozen=True, repr=False, eq=False)
class Influence:
    """`.values` and `.stderr` (None when exact) are [layer, target, source]; `.layers` names the observed sites.

    `.targets` and `.sources` are the positions that the last two axes stand for: all of them unless some were chosen.
    """

    values: Tensor
    stderr: Tensor | None
    tokens: list[str]
    layers: list[str]
    method: str
    targets: list[int]
    sources: list[int]

    def __repr__(self) -> str:
        layers, targets, sources = self.values.shape
        size = f"{layers} layers x {targets} targets x {sources} sources"
        return f"Influence({self.method}, {size}: {shortened(' '.join(self.tokens))})"

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def view(self, **options):
        """This influence to touch in a browser, without a kernel; the options are those of `helpers.view`."""
        from .view import view

        return view(self, **options)

    def to_frame(self) -> pd.DataFrame:
        """Long form, a row per layer, target and source."""
        axes: list = [self.layers, self.targets, self.sources]
        index = pd.MultiIndex.from_product(axes, names=["layer", "target", "source"])
        columns = {"value": self.values} if self.stderr is None else {"value": self.values, "stderr": self.stderr}
        flat = {name: tensor.flatten().cpu().numpy() for name, tensor in columns.items()}
        return pd.DataFrame(flat, index=index).reset_index()


def layer_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    method: str = "exact",
    layers: Sequence[int] | None = None,
    sources: Sequence[int] | None = None,
    samples: int = 100,
    seed: int = 0,
    sigma: float = 0.01,
    dtype: torch.dtype | None = None,
    covariance: Tensor | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence within each layer alone: from what enters layer l to what leaves it ("single-layer observation").

    `method` is "exact" (closed form, see `LayerJacobian`), "noise" (takes samples, seed, sigma) or "jvp" (samples,
    seed, dtype). Sampled methods carry standard errors. `layers` and `sources` are the numbers of the layers and the
    positions wanted (default: all). `progress` goes through the steps and shows how far it is.

    With a `covariance` S, [hidden, hidden] for all layers or [layer, hidden, hidden], the influence is tr(J S Jᵀ):
    along directions drawn from N(0, S), not along all alike. It is for "exact" only.

    Returns an `Influence` with values [layer, target, source]. Raises `ValueError` for an unknown method, a layer or a
    position that is not there, an option that the method does not take, and for a layer that "exact" and "jvp" cannot
    express.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> layer_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).values.shape
    torch.Size([2, 3, 3])
    """
    _check_options(method, ("exact", "jvp", "noise"), samples=samples, seed=seed, sigma=sigma, dtype=dtype)
    if covariance is not None and method != "exact":
        raise ValueError(f"expected method 'exact' with a covariance, got {method!r}")
    stack = layer_stack(model, inputs)
    depth, targets = len(stack.layers), list(range(len(stack.tokens)))
    numbers = _chosen("layers", layers, depth)
    columns = _chosen("sources", sources, len(targets))
    names = [stack.names[number] for number in numbers]
    if method == "exact":
        each = _for_each_layer(covariance, depth)
        values = torch.stack([stack.jacobian(n).norms(each[n]) for n in progress(numbers, desc="exact")])
        return Influence(values[:, :, columns], None, stack.tokens, names, method, targets, columns)
    how = How(method, samples, seed, sigma, dtype, progress)
    means, stderrs = zip(*(sweep(stack, [number], columns, how) for number in numbers), strict=True)
    return Influence(torch.cat(means), torch.cat(stderrs), stack.tokens, names, method, targets, columns)


def downstream_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    inject: str | None = "embeddings",
    method: str = "jvp",
    sources: Sequence[int] | None = None,
    samples: int = 100,
    seed: int = 0,
    sigma: float = 0.01,
    dtype: torch.dtype | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence of what `inject` puts out on the output of every later layer ("multi-layer observation").

    `method` is "jvp" (tangents through the linearised layers along random orthogonal directions; takes samples, seed
    and dtype, e.g. torch.bfloat16 for the tangents), "exact" (all directions) or "noise" (samples, seed, sigma).
    `sources` are the positions whose columns are wanted (default: all); each costs the same. Layers before the
    injection are not run again; `progress` as for `layer_influence`. `inject=None` is what enters the first layer, also
    where the output of "embeddings" does not, because the model maps it to another width first (ALBERT).

    Returns an `Influence` with values [observed layer, target, source]. Raises `ValueError` as `layer_influence`
    does, and for a site whose output does not enter a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> downstream_influence(tiny.eval(), inputs, inject="encoder.layer.0", method="exact").layers
    ['encoder.layer.1']
    """
    _check_options(method, ("jvp", "exact", "noise"), samples=samples, seed=seed, sigma=sigma, dtype=dtype)
    stack, first = stack_behind(model, inputs, inject)
    positions = list(range(len(stack.tokens)))
    columns = _chosen("sources", sources, len(positions))
    numbers = range(first, len(stack.layers))
    mean, stderr = sweep(stack, numbers, columns, How(method, samples, seed, sigma, dtype, progress))
    error = None if method == "exact" else stderr
    return Influence(mean, error, stack.tokens, stack.names[first:], method, positions, columns)


def upstream_influence(
    model: nn.Module,
    inputs: Inputs,
    *,
    observe: str | None = None,
    method: str = "vjp",
    targets: Sequence[int] | None = None,
    samples: int = 100,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    progress: Progress = PROGRESS,
) -> Influence:
    """Influence of what enters each layer on the output of one, `observe` (the last layer when not given).

    One backward sweep serves every injection layer, where noise has to be injected again at each. `method` is "vjp"
    (random orthogonal directions; takes samples, seed, dtype) or "exact" (all of them). `targets` are the positions
    whose rows are wanted (default: all); each costs the same.

    Returns an `Influence` with values [injection layer, target, source]; `.layers` names the layers whose input is
    the source. Raises `ValueError` as `layer_influence` does, and for an `observe` that is not a layer.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> upstream_influence(tiny.eval(), {"input_ids": torch.tensor([[1, 2, 3]])}).layers
    ['encoder.layer.0', 'encoder.layer.1']
    """
    _check_options(method, ("vjp", "exact"), samples=samples, seed=seed, dtype=dtype)
    stack = layer_stack(model, inputs)
    last = _observed(model, stack, observe)
    positions = list(range(len(stack.tokens)))
    rows = _chosen("targets", targets, len(positions))
    numbers = range(last, -1, -1)
    how = How(method, samples, seed, 0.0, dtype, progress)
    mean, stderr = sweep(stack, numbers, rows, how, backward=True)
    error = None if method == "exact" else stderr.flip(0)
    return Influence(mean.flip(0), error, stack.tokens, stack.names[: last + 1], method, rows, positions)


def _check_options(method: str, methods: Sequence[str], **options) -> None:
    if method not in methods:
        raise ValueError(f"expected method {' or '.join(map(repr, methods))}, got {method!r}")
    given = {name for name, value in options.items() if value != DEFAULTS[name]}
    if unknown := given - OPTIONS[method]:
        takes = " and ".join(sorted(OPTIONS[method])) or "none of samples, seed, sigma and dtype"
        raise ValueError(f"expected {takes} for method {method!r}, got {' and '.join(sorted(unknown))}; leave it out")
    check_noise(options.get("sigma", 0.01), options["samples"])


def _chosen(name: str, numbers: Sequence[int] | None, count: int) -> list[int]:
    """The numbers wanted, all of `count` by default."""
    if numbers is None:
        return list(range(count))
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise ValueError(
            f"expected {name} as a list of numbers from 0 to {count - 1}, got {numbers!r}; write [{numbers}]"
        )
    chosen = [whole(number, f"each of {name}", 0, count - 1) for number in numbers]
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValueError(f"expected one or more {name}, each once, got {chosen}")
    return chosen


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
