"""Noise injection: disturb positions at one site and watch every position at every later site."""

from collections import Counter
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
    how = Sampling("noise", samples, seed, sigma)
    rows = Rows(model, inputs, [inject], observe)
    last = len(rows.tokens) - 1
    hint = f"; the sentence has {last + 1} tokens, and sentence.position(word) says where a word is"
    given = position if isinstance(position, list | tuple | range) else [position]
    places = [whole(place, "a position", 0, last, hint) for place in given]
    if len(set(places)) != len(places) or not places or (interaction and len(places) != 2):
        expected = "two positions" if interaction else "one or more positions, each once"
        raise ValueError(f"expected {expected}, got {places}")
    generator = torch.Generator().manual_seed(how.seed)
    spread = factor(covariance, rows.entry.shape[-1])
    drawn = partial(draw, generator, how.count(), len(places), spread, rows.entry, shared)
    label = places[0] if len(places) == 1 else "+".join(map(str, places))
    told = {"inject": inject, "shared": shared, "interaction": interaction} | how.told()
    return rows.influence({rows.run: drawn}, {label: places}, how, told, PROGRESS, interaction)


class Rows:
    """A model's own forward pass on rows of one sentence: the first clean, the others disturbed.

    Disturbed is what the sites `inject` put out or, `entering`, what goes into them. A run of a
    site is an event; `.seen` are the numbers of those observed, `.start` that of the injection.
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
        wanted = [] if callable(observe) else list(resolve(model, observe))
        self.injected = list(resolve(model, map(module_name, inject)))
        if len(inject) == 1 < len(self.injected):
            raise ValueError(
                f"expected one site to inject at, got {len(self.injected)} for {inject[0]!r}: "
                f"{self.injected[:4]}"
            )
        self.watched = [*self.injected, *wanted]
        self.once = False
        with clean_pass(model):
            ran, states = self._pass(2, {})
        self.clean = [self._twice(state) for state in states]
        self.once = not self.function and len(ran) == len(set(ran))
        self.labels = _numbered(ran)
        runs = [k for k, site in enumerate(ran) if site in self.injected]
        called = [self.labels[k] for k in runs]
        if len(inject) == 1 < len(runs) and not entering and inject[0] not in called:
            raise SiteError(
                f"{inject[0]!r} fired {len(runs)} times, not once; choose from {called}"
            )
        self.run = called.index(inject[0]) if inject[0] in called else 0
        self.start = runs[self.run]
        self.entry = self.clean[self.start]  # what enters a layer has the same shape
        if self.entry.ndim != 3 or self.entry.shape[1] < len(self.tokens):
            raise ValueError(
                f"expected a hidden state [rows, seq={len(self.tokens)}, hidden] at {inject[0]!r} "
                f"to inject at, got {list(self.entry.shape)}"
            )
        self.seen = [k for site in wanted for k, own in enumerate(ran) if own == site]
        if self.function:
            self.labels.append(getattr(observe, "__name__", "output").strip("<>"))
            self.seen = [len(ran)]
        if len({self._by_target(k, self.clean[k]).shape[1] for k in self.seen}) > 1:
            raise ValueError(
                "expected sites with positions, or all without, got "
                f"{[self.labels[k] for k in self.seen]}; observe them apart"
            )

    def influence(
        self,
        draws: Mapping[int, Callable[[], Tensor]],
        sources: Mapping[Any, list[int]],
        how: Sampling,
        told: dict[str, Any],
        progress: Progress,
        interaction: bool = False,
    ) -> Influence:
        """‖Δ‖²/σ², over σ⁴ with `interaction`, of noise at each of `sources`: label -> positions.

        `draws` make noise [sample, place, hidden] for the run of an injected site with that number.
        """
        copies, power = (3, 4) if interaction else (1, 2)

        def drawn() -> Tensor:
            return how.sigma * torch.stack([draw() for draw in draws.values()], 1)

        def measured(noise: Tensor, places: list[int]) -> Tensor:
            if interaction:
                noise = _apart(noise)
            pushes = dict(zip(draws, noise.unbind(1), strict=True))
            squares = []
            for change in self._changes(pushes, places):
                if interaction:
                    both, first, second = change.chunk(3)
                    change = both - first - second
                squares.append(change.square().sum(-1))
            return torch.stack(squares, 1) / how.sigma**power  # [sample, observed, target]

        size = max(1, (TOKENS_PER_PASS // len(self.tokens) - 1) // copies)
        mean, stderr = average(measured, drawn, list(sources.values()), size, progress, "noise")
        sites = [self.labels[k] for k in self.seen]
        has_positions = mean.shape[1] == len(self.tokens)
        targets: list = list(range(len(self.tokens))) if has_positions else sites[:1]
        came = how_it_came(self.model, self.sentence, self.tokens, **told)
        return Influence(mean, stderr, sites, targets, list(sources), self.tokens, came)

    def _changes(self, pushes: Mapping[int, Tensor], places: list[int]) -> Iterator[Tensor]:
        """Δ [sample, target, hidden] at each observed event, for pushes [sample, place, hidden].

        The disturbed rows are compared with the clean one beside them.
        """
        rows = 1 + len(next(iter(pushes.values())))
        runs = count()

        def disturb(hidden: Tensor) -> Tensor:
            push = pushes.get(next(runs))
            if push is None:
                return hidden
            moved = hidden[:1].repeat(rows, 1, 1)
            moved[1:, places] += push
            if torch.equal(moved[1:, places], hidden[:1, places].expand_as(push)):
                raise ValueError(
                    "expected noise that changes the state, got none after rounding; make sigma, "
                    "or the direction, larger"
                )
            return moved

        _, states = self._pass(rows, dict.fromkeys(self.injected, disturb))
        for k in self.seen:
            clean, again = self.clean[k], states[k][:1]
            if not _alike(again, clean):
                raise ValueError(
                    "expected a forward pass that repeats itself, got another state for the same "
                    f"row at {self.labels[k]!r}: random (dropout in training mode), or rounded by "
                    "what else is in the batch (quantised)"
                )
            yield self._by_target(k, states[k][1:] - again).double()

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

    def _twice(self, state: Any) -> Tensor:
        """The state of one of two equal rows."""
        if (
            not isinstance(state, Tensor)
            or state.shape[:1] != (2,)
            or not state.is_floating_point()
        ):
            got = f"{state.dtype} {list(state.shape)}" if isinstance(state, Tensor) else type(state)
            raise ValueError(
                "expected what is observed to be floats [rows, ...], here of 2 rows, got "
                f"{got}; keep the axis of rows, as in `lambda output: output.logits[:, 0]`"
            )
        if not _alike(state[:1], state[1:]):
            raise ValueError(
                "expected the same state for two equal rows, got another one for the second, or no "
                "number: a hook or an edit that changes one row, hidden[0], or a weight that is NaN"
            )
        return state[:1]

    def _by_target(self, k: int, hidden: Tensor) -> Tensor:
        """[rows, target, hidden]: the tokens' positions or, for what has none, one target."""
        seq, config = len(self.tokens), self.model.config
        if hidden.ndim == 3 and hidden.shape[1] == seq:
            return hidden
        if (self.function and k == self.seen[0]) or hidden.ndim == 2:
            return hidden.reshape(len(hidden), 1, -1)
        padded = hasattr(config, "attention_window") or hasattr(config, "block_size")
        if padded and hidden.ndim == 3 and hidden.shape[1] > seq:  # inside the model, at the end
            return hidden[:, :seq]
        raise ValueError(
            f"expected a hidden state [rows, seq={seq}, hidden] at {self.labels[k]!r} of "
            f"{type(self.model).__name__}, got {list(hidden.shape)}"
        )


def _alike(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= 1e-3 * second.abs().max())  # never if one is NaN


def _apart(noise: Tensor) -> Tensor:
    """Noise [sample, run, 2, hidden]: at both places, then at the first alone, the second alone."""
    first, second = noise.clone(), noise.clone()
    first[:, :, 1] = 0
    second[:, :, 0] = 0
    return torch.cat([noise, first, second])


def _numbered(ran: list[str]) -> list[str]:
    """The names of what ran; of what ran more than once with a number, as "...layers.0[3]"."""
    times, number = Counter(ran), count()
    return [f"{site}[{next(number)}]" if times[site] > 1 else site for site in ran]
