"""Noise injection: disturb positions at one site and watch every position at every later site."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from .clean import clean_pass
from .hooks import SiteError, edit, module_name, record, resolve
from .inputs import prepare
from .result import PROGRESS, Influence, Progress, how_it_came
from .sampling import Sampling, average, draw, factor
from .values import whole
from .words import Inputs

# rows × seq of one forward pass: bounds the memory, and larger passes are no faster on a CPU
TOKENS_PER_PASS = 2048
Observed = str | Iterable[str] | Callable[[Any], Tensor]


@torch.no_grad()
def noise_response(
    model: nn.Module,
    inputs: Inputs,
    *,
    inject: str = "embeddings",
    position: int | Sequence[int],
    observe: Observed,
    shared: bool = False,
    interaction: bool = False,
    covariance: Tensor | None = None,
    sigma: float = 0.01,
    samples: int = 100,
    seed: int = 0,
) -> Influence:
    """Add σε, ε ~ N(0, I), to the hidden state at one site and measure ‖Δh‖²/σ² everywhere.

    `position` is one position or several, each with its own noise or, `shared`, all with the same.
    One injection serves all observed sites; these are names or globs, or a function of what the
    model returns, e.g. `lambda output: output.last_hidden_state.mean(1)`. What has no positions, as
    a classifier's [rows, label], is one target. With a `covariance` S [hidden, hidden], ε ~
    N(0, S); with one direction [hidden], ε is it times N(0, 1): make it √hidden long to compare it
    with noise in all directions.

    With `interaction`, what two positions together do beyond what each does alone,
    ‖f(a,b) - f(a) - f(b) + f‖²/σ⁴, which goes to the squared norm of the mixed second derivative
    ∂²f/∂x_a ∂x_b; 0 would say that effects simply add. Such differences lose twice the digits: in
    float32 take σ from 0.01 to 0.1, and see that the value does not depend on it.

    As σ → 0 the expectation of ‖f(x + σε) - f(x)‖²/σ² is ‖∂f/∂x‖²_F, the squared Frobenius norm of
    the Jacobian (Hutchinson's trace estimator, 1989, applied to JᵀJ); `sigma` is in units of the
    hidden state. Sites that run before the injection get exactly 0. Each pass holds the clean row
    beside the noisy ones, so that both are rounded alike; the noise comes from a generator of its
    own, seeded with `seed`.

    Returns an `Influence` with `.values` and `.stderr` [observed site, target, 1]; the standard
    error is over samples and NaN for a single one. Raises `ValueError` for a position outside the
    sentence, σ that is not positive and finite, samples < 1, a model in half precision, a pass that
    does not repeat itself, or a site whose hidden state is not that of the tokens; `SiteError` for
    an unknown or silent site.

    >>> from transformers import BertConfig, BertModel
    >>> sizes = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=2)
    >>> tiny, inputs = BertModel(BertConfig(**sizes)), {"input_ids": torch.tensor([[1, 2, 3]])}
    >>> noise_response(tiny.eval(), inputs, position=1, observe="encoder.layer.*").values.shape
    torch.Size([2, 3, 1])
    """
    sampling = Sampling("noise", samples, seed, sigma)
    rows = Rows(model, inputs, [inject], observe)
    seq = len(rows.tokens)
    hint = f"; the sentence has {seq} tokens, and sentence.position(word) says where a word is"
    given = position if isinstance(position, list | tuple | range) else [position]
    places = [whole(place, "a position", 0, seq - 1, hint) for place in given]
    if not places or len(set(places)) < len(places):
        raise ValueError(f"expected one or more positions, each once, got {places}")
    if interaction and len(places) != 2:
        raise ValueError(f"expected two positions, got {places}")
    generator = torch.Generator().manual_seed(sampling.seed)
    root = factor(covariance, rows.entry.shape[-1])
    apart = 1 if shared else len(places)
    drawn = partial(draw, generator, sampling.count(), apart, root, rows.entry)
    label = places[0] if len(places) == 1 else "+".join(map(str, places))
    how = {"inject": inject, "shared": shared, "interaction": interaction} | sampling.used()
    return rows.influence(
        {rows.run: drawn}, {label: places}, sampling, how, PROGRESS, interaction=interaction
    )


class Rows:
    """A model's own forward pass on rows of one sentence: the first clean, the others disturbed.

    Disturbed is what the sites `inject` put out or, `entering`, what goes into them. Each run of a
    site that is injected or observed is numbered: `.seen` are the numbers of those observed,
    `.start` is that of the injection, and `.run` counts the runs of injected sites alone.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        inject: Sequence[str],
        observe: Observed,
        entering: bool = False,
    ) -> None:
        self.model, self.sentence, self.entering = model, inputs, entering
        self.inputs, self.tokens = prepare(model, inputs)
        self.function = observe if callable(observe) else None
        observed = [] if callable(observe) else list(resolve(model, observe))
        self.injected = list(resolve(model, map(module_name, inject)))
        self.watched = [*self.injected, *observed]
        self.once = False
        with clean_pass(model):
            ran, states = self._pass(2, {})
        self.once = not self.function and len(ran) == len(set(ran))
        self.clean = list(map(_one_of_two, states))
        self.labels = _numbered(ran)
        runs = [k for k, site in enumerate(ran) if site in self.injected]
        called = [self.labels[k] for k in runs]
        self.run = 0
        if len(called) > 1 and not entering:
            if inject[0] not in called:
                raise SiteError(
                    f"expected one site to inject at, got {len(called)} for {inject[0]!r}; choose "
                    f"from {called}"
                )
            self.run = called.index(inject[0])
        self.start = runs[self.run]
        self.entry = self.clean[self.start]  # what enters a layer has the same shape
        if self.entry.shape[:-1] != (1, len(self.tokens)):
            raise self._no_positions(inject[0], self.entry)
        self.seen = [k for site in observed for k, own in enumerate(ran) if own == site]
        if self.function:
            self.labels.append(getattr(observe, "__name__", "output").strip("<>"))
            self.seen = [len(ran)]
        sizes = {self._by_target(k, self.clean[k]).shape[1] for k in self.seen}
        if len(sizes) > 1:
            raise ValueError(f"expected sites with positions, or all without, got {observed}")

    def influence(
        self,
        draws: Mapping[int, Callable[[], Tensor]],
        sources: Mapping[Any, list[int]],
        sampling: Sampling,
        how: dict[str, Any],
        progress: Progress,
        *,
        interaction: bool = False,
    ) -> Influence:
        """‖Δ‖²/σ², over σ⁴ with `interaction`, of noise at each of `sources`: label -> positions.

        `draws` make noise [sample, place, hidden] for the run of an injected site with that number.
        """

        def drawn() -> Tensor:
            return sampling.sigma * torch.stack([draw() for draw in draws.values()], 1)

        def measured(noise: Tensor, places: list[int]) -> Tensor:
            changes = self._changes(draws, noise, places)
            if interaction:
                first = self._changes(draws, noise[:, :, :1], places[:1])
                second = self._changes(draws, noise[:, :, -1:], places[1:])
                changes = (both - a - b for both, a, b in zip(changes, first, second, strict=True))
            squares = [change.square().sum(-1) for change in changes]
            return torch.stack(squares, 1) / sampling.sigma ** (4 if interaction else 2)

        seq = len(self.tokens)
        rows = max(1, TOKENS_PER_PASS // seq - 1)
        mean, stderr = average(measured, drawn, list(sources.values()), rows, progress, "noise")
        sites = [self.labels[k] for k in self.seen]
        has_positions = mean.shape[1] == seq
        targets: list = list(range(seq)) if has_positions else sites[:1]
        how = how_it_came(self.model, self.sentence, self.tokens, **how)
        return Influence(mean, stderr, sites, targets, list(sources), self.tokens, how)

    def _changes(self, pushed: Iterable[int], noise: Tensor, places: list[int]) -> Iterator[Tensor]:
        """Δ [sample, target, hidden] at each of `.seen`, for noise [sample, run, place, hidden].

        The disturbed rows are compared with the clean one beside them.
        """
        rows = 1 + len(noise)
        pushes = dict(zip(pushed, noise.unbind(1), strict=True))
        runs = count()

        def disturb(hidden: Tensor) -> Tensor:
            push = pushes.get(next(runs))
            if push is None:
                return hidden
            moved = hidden[:1].repeat(rows, 1, 1)
            moved[1:, places] += push
            if (moved[1:, places] == hidden[:1, places]).all():
                raise ValueError(
                    "expected noise that changes the state, got none after rounding; make sigma, "
                    "or the direction, larger"
                )
            return moved

        _, states = self._pass(rows, dict.fromkeys(self.injected, disturb))
        for k in self.seen:
            clean = states[k][:1]
            if not _alike(clean, self.clean[k]):
                raise ValueError(
                    "expected a forward pass that repeats itself, got another state for the same "
                    f"row at {self.labels[k]!r}: random (dropout in training mode), or rounded by "
                    "what else is in the batch (quantised)"
                )
            yield self._by_target(k, states[k][1:] - clean).double()

    def _pass(self, rows: int, edits: Mapping) -> tuple[list[str], list[Tensor]]:
        """Which watched site ran, one name a run, and its state; the pass ends with the last."""
        batch: dict[str, Any] = {}
        for name, value in self.inputs.items():
            is_tensor = isinstance(value, Tensor)
            batch[name] = value.expand(rows, *value.shape[1:]) if is_tensor else value
        with edit(self.model, edits, entering=self.entering):
            with record(self.model, self.watched, stop=self.once) as trace:
                output = self.model(**batch)
        states = [hidden for _, hidden in trace.runs]
        if self.function:
            states.append(self.function(output))
        return [site for site, _ in trace.runs], states

    def _by_target(self, k: int, hidden: Tensor) -> Tensor:
        """[rows, target, hidden]: the tokens' positions or, for what has none, one target."""
        if hidden.ndim == 3 and hidden.shape[1] == len(self.tokens):
            return hidden
        if self.function or hidden.ndim == 2:
            return hidden.reshape(len(hidden), 1, -1)
        raise self._no_positions(self.labels[k], hidden)

    def _no_positions(self, site: str, hidden: Tensor) -> ValueError:
        return ValueError(
            f"expected a hidden state [rows, seq={len(self.tokens)}, hidden] at {site!r} of "
            f"{type(self.model).__name__}, got {list(hidden.shape)}"
        )


def _one_of_two(state: Any) -> Tensor:
    """The state of one of two equal rows."""
    is_tensor = isinstance(state, Tensor)
    if not is_tensor or state.shape[:1] != (2,) or not state.is_floating_point():
        got = f"{state.dtype} {list(state.shape)}" if is_tensor else type(state).__name__
        raise ValueError(
            f"expected what is observed to be floats [rows, ...], here of 2 rows, got {got}; keep "
            "the axis of rows, as in `lambda output: output.logits[:, 0]`"
        )
    if not _alike(state[:1], state[1:]):
        raise ValueError(
            "expected the same state for two equal rows, got another one for the second, or no "
            "number: a hook or an edit that changes one row, hidden[0], or a weight that is NaN"
        )
    return state[:1]


def _alike(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= 1e-3 * second.abs().max())  # never if one is NaN


def _numbered(ran: list[str]) -> list[str]:
    """The names of what ran; of what ran more than once with a number, as "...layers.0[3]"."""
    number = count()
    return [f"{site}[{next(number)}]" if ran.count(site) > 1 else site for site in ran]
