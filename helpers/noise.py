"""Noise injection: disturb one position at one site and watch every position at every later site."""

import math
from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from .hooks import edit, names, record, resolve
from .inputs import check_precision, prepare
from .result import PROGRESS, Influence, Sampling
from .values import whole
from .words import Inputs

TOKENS_PER_PASS = 2048  # rows × seq of one forward pass: bounds the memory, and larger passes are no faster on a CPU


@torch.no_grad()
def noise_response(
    model: nn.Module,
    inputs: Inputs,
    *,
    inject: str = "embeddings",
    position: int,
    observe: str | Iterable[str],
    sigma: float = 0.01,
    samples: int = 100,
    seed: int = 0,
) -> Influence:
    """Add σε, ε ~ N(0, I), to the hidden state of one position at one site and measure ‖Δh‖²/σ² everywhere.

    One injection serves all observed sites. As σ → 0 the expectation of ‖f(x + σε) - f(x)‖²/σ² is
    ‖∂f/∂x‖²_F, the squared Frobenius norm of the Jacobian (Hutchinson's trace estimator, 1989,
    applied to JᵀJ); `sigma` is in units of the hidden state. Sites that run before the injection
    get exactly 0. Each pass holds the clean row beside the noisy ones, so that both are rounded
    alike; the noise comes from a generator of its own, seeded with `seed`.

    Returns an `Influence` with `.values` and `.stderr` [observed site, seq, 1]; the standard error
    is over samples and NaN for a single one. Raises `ValueError` for a position outside the
    sentence, σ that is not positive and finite, samples < 1, a model in half precision, or a site
    whose hidden state is not [1, seq, hidden]; `SiteError` for an unknown or silent site.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = BertModel(BertConfig(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16))
    >>> inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> noise_response(tiny.eval(), inputs, position=1, observe="encoder.layer.*", samples=20).values.shape
    torch.Size([2, 3, 1])
    """
    inputs, tokens = prepare(model, inputs)
    Sampling("noise", samples, seed, sigma)
    seq = len(tokens)
    hint = f"; the sentence has {seq} tokens, and sentence.position(word) says where a word stands"
    position = whole(position, "a position", 0, seq - 1, hint)
    check_precision(model)
    site, *more = resolve(model, inject)
    if more:
        raise ValueError(
            f"expected one site to inject at, got {1 + len(more)} for {inject!r}: {[site, *more][:4]}"
        )
    sites = list(
        dict.fromkeys(name for pattern in names(observe) for name in resolve(model, pattern))
    )

    @cache
    def noise(width: int) -> Tensor:  # drawn when the site first runs, which shows its width
        return normal(
            torch.Generator().manual_seed(seed), (samples, width), next(model.parameters())
        )

    def disturb(part: slice, hidden: Tensor) -> Tensor:
        _check_hidden(site, hidden, seq)
        noisy = hidden.clone()
        noisy[1:, position] += sigma * noise(hidden.shape[-1])[part]
        return noisy

    energies = []
    rows = max(1, TOKENS_PER_PASS // seq - 1)
    for start in PROGRESS(range(0, samples, rows), desc="noise"):
        part = slice(start, min(start + rows, samples))
        batch = {key: _rows(value, 1 + part.stop - start) for key, value in inputs.items()}
        with edit(model, {site: partial(disturb, part)}), record(model, [site, *sites]) as trace:
            model(**batch)
        for name in (site, *sites):
            _check_hidden(name, trace[name], seq)  # the trace complains about a site that ran twice
        changes = [trace[name][1:] - trace[name][:1] for name in sites]
        energies.append(
            torch.stack([change.double().square().sum(-1) for change in changes], 1) / sigma**2
        )
    mean, stderr = mean_and_stderr(torch.cat(energies)[..., None])
    how = f"noise at {inject}, sigma={sigma:g}, samples={samples}"
    return Influence(mean, stderr, sites, list(range(seq)), [position], tokens, how)


def normal(generator: torch.Generator, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal numbers drawn on the CPU, so that a seed means the same numbers on every device."""
    return torch.randn(shape, generator=generator, dtype=like.dtype).to(like.device)


def mean_and_stderr(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard error over the first axis; the error of a single sample is unknown, NaN."""
    spread = samples.std(0) if len(samples) > 1 else torch.full_like(samples[0], math.nan)
    return samples.mean(0), spread / math.sqrt(len(samples))


def _rows(value: Any, rows: int) -> Any:
    return value.expand(rows, *value.shape[1:]) if isinstance(value, Tensor) else value


def _check_hidden(site: str, hidden: Tensor, seq: int) -> None:
    if hidden.ndim != 3 or hidden.shape[1] != seq:
        raise ValueError(
            f"expected a hidden state [rows, seq={seq}, hidden] at {site!r}, got {list(hidden.shape)}"
        )
