"""Noise injection: disturb positions at one site and watch every position at every later site."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from .clean import clean_pass
from .hooks import SiteError, edit, names, record, resolve
from .inputs import prepare
from .result import PROGRESS, Influence, Progress, how_it_came
from .sampling import Sampling, draw, mean_and_stderr
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
    N(0, S); with one direction [hidden], ε is it times N(0, 1): make it √hidden long to compare it with
    noise in all directions.

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
    generator = torch.Generator().manual_seed(seed)
    noise = draw(generator, how.count(0), len(places), covariance, rows.entry, shared)
    mean, stderr = rows.measure({rows.run: noise}, places, how, interaction, PROGRESS)
    sources = places if len(places) == 1 else ["+".join(map(str, places))]
    told = {"inject": inject, "shared": shared, "interaction": interaction, **how.told(0)}
    return rows.influence(mean[..., None], stderr[..., None], sources, told)


class Rows:
    """A model's own forward pass on rows of one sentence: the first clean, the others disturbed.

    Disturbed is what the sites `inject` put out or, `entering`, what goes into them. A run of a
    site is an event, and `.seen` are the numbers of those observed.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        inject: Sequence[str],
        observe: Observed,
        entering: bool = False,
    ) -> None:
        self.model, self.sentence, self.entering, self.once = model, inputs, entering, False
        self.inputs, self.tokens = prepare(model, inputs)
        self.function = observe if callable(observe) else None
        wanted = [] if callable(observe) else _resolved(model, observe)
        self.injected = _resolved(model, [_module(site) for site in inject])
        if len(inject) == 1 < len(self.injected):
            found = self.injected[:4]
            raise ValueError(
                f"expected one site to inject at, got {len(self.injected)} for {inject[0]!r}: "
                f"{found}"
            )
        self.watched = list(dict.fromkeys([*self.injected, *wanted]))
        entries: list[Tensor] = []

        def note(hidden: Tensor) -> Tensor:
            entries.append(hidden)
            return hidden

        with clean_pass(model):
            self.clean, ran = self._pass(1, note)
        self.once = not self.function and len(ran) == len(set(ran))
        self.labels = numbered(ran)
        runs = [k for k, site in enumerate(ran) if site in self.injected]
        called = [self.labels[k] for k in runs]
        if len(inject) == 1 < len(runs) and not entering and inject[0] not in called:
            raise SiteError(
                f"{inject[0]!r} fired {len(runs)} times, not once; choose from {called}"
            )
        self.run = called.index(inject[0]) if inject[0] in called else 0
        self.start, self.entry = -1 if entering else runs[self.run], entries[self.run]
        if self.entry.ndim != 3 or self.entry.shape[1] < len(self.tokens):
            raise ValueError(
                f"expected a hidden state [rows, seq={len(self.tokens)}, hidden] at {inject[0]!r} "
                f"to inject at, got {list(self.entry.shape)}"
            )
        self.seen = [k for site in wanted for k, own in enumerate(ran) if own == site]
        if self.function:
            self.labels.append(getattr(observe, "__name__", "output").strip("<>"))
            self.seen = [len(ran)]
        counts = {self._by_target(k, self.clean[k]).shape[1] for k in self.seen}
        if len(counts) > 1:
            raise ValueError(
                "expected sites with positions, or all without, got "
                f"{[self.labels[k] for k in self.seen]}; observe them apart"
            )

    def measure(
        self,
        noise: Mapping[int, Tensor],
        places: list[int],
        how: Sampling,
        interaction: bool = False,
        progress: Progress = lambda steps, desc: steps,
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard error of ‖Δ‖²/σ² [observed, target]; over σ⁴ with `interaction`.

        `noise` [sample, place, hidden] is for the run of an injected site with that number.
        """
        samples, copies = how.count(0), 3 if interaction else 1
        size = max(1, (TOKENS_PER_PASS // len(self.tokens) - 1) // copies)
        energies = []
        for part in progress(torch.arange(samples).split(size), desc="noise"):
            pushes = {run: how.sigma * drawn[part] for run, drawn in noise.items()}
            if interaction:  # both, the first alone, the second alone
                pushes = {run: torch.cat([x, x, x]) for run, x in pushes.items()}
                for push in pushes.values():
                    push[len(part) : 2 * len(part), 1] = 0
                    push[2 * len(part) :, 0] = 0
            runs = count()

            def disturb(hidden: Tensor, pushes=pushes, runs=runs) -> Tensor:
                if (push := pushes.get(next(runs))) is None:
                    return hidden
                moved = hidden[:1].repeat(len(hidden), 1, 1)
                moved[1:, places] += push
                return moved

            states, _ = self._pass(1 + copies * len(part), disturb)
            found = [self._squares(k, states[k], interaction) for k in self.seen]
            energies.append(torch.stack(found, 1))
        return mean_and_stderr(torch.cat(energies) / how.sigma ** (4 if interaction else 2))

    def columns(
        self,
        draws: Mapping[int, Callable[[], Tensor]],
        sources: list[int],
        how: Sampling,
        progress: Progress,
    ) -> tuple[Tensor, Tensor]:
        """`measure` one position after the other: mean and error [observed, target, source]."""
        found = []
        for place in progress(sources, desc="noise"):
            noise = {run: drawn() for run, drawn in draws.items()}
            found.append(self.measure(noise, [place], how))
        means, errors = zip(*found, strict=True)
        return torch.stack(means, -1), torch.stack(errors, -1)

    def _pass(
        self, rows: int, disturb: Callable[[Tensor], Tensor]
    ) -> tuple[list[Tensor], list[str]]:
        """The state after each run of a watched site, and which that was; ends with the last."""
        batch = {name: _expanded(value, rows) for name, value in self.inputs.items()}
        edits = dict.fromkeys(self.injected, disturb)
        with edit(self.model, edits, entering=self.entering):
            with record(self.model, self.watched, stop=self.once) as trace:
                output = self.model(**batch)
        firings = {site: iter(states) for site, states in trace.firings.items()}
        states = [next(firings[site]) for site in trace.order]
        return [*states, self.function(output)] if self.function else states, trace.order

    def _squares(self, k: int, hidden: Tensor, interaction: bool) -> Tensor:
        """‖Δ‖² [sample, target] of the disturbed rows against the clean one beside them."""
        clean = self.clean[k]
        off = (hidden[:1] - clean).abs().max() / clean.abs().max()
        if off > 1e-3:
            raise ValueError(
                "expected a forward pass that repeats itself, got another state for the same row "
                f"at {self.labels[k]!r}, off by {off:.0e}: random (dropout in training mode), or "
                "rounded by what else is in the batch (quantised)"
            )
        change = self._by_target(k, hidden[1:] - hidden[:1]).double()
        if interaction:
            both, first, second = change.chunk(3)
            change = both - first - second
        return change.square().sum(-1)

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

    def influence(
        self, mean: Tensor, stderr: Tensor, sources: list, how: dict[str, Any]
    ) -> Influence:
        """Labelled, on the CPU; `mean` and `stderr` [observed, target, source]."""
        sites = [self.labels[k] for k in self.seen]
        targets: list = list(range(len(self.tokens)))
        if mean.shape[1] != len(targets):
            targets = [sites[0]]
        how = how_it_came(self.model, self.sentence, self.tokens, **how)
        return Influence(mean.cpu(), stderr.cpu(), sites, targets, sources, self.tokens, how)


def numbered(ran: list[str]) -> list[str]:
    """The names of what ran; of what ran more than once with a number, as "...layers.0[3]"."""
    times, number = Counter(ran), count()
    return [f"{site}[{next(number)}]" if times[site] > 1 else site for site in ran]


def _resolved(model: nn.Module, patterns: str | Iterable[str]) -> list[str]:
    return list(dict.fromkeys(site for name in names(patterns) for site in resolve(model, name)))


def _module(site: str) -> str:
    """The name of the module whose run is meant, "...layers.0" of "...layers.0[3]"."""
    return site.partition("[")[0] if isinstance(site, str) else site


def _expanded(value: Any, rows: int) -> Any:
    return value.expand(rows, *value.shape[1:]) if isinstance(value, Tensor) else value
