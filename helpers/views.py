"""What the explorer shows, as a pure function of its controls: two or three pictures and a line in words."""

import difflib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from .findings import outflow
from .influence import OPTIONS, downstream_influence, layer_influence
from .layers import layer_stack
from .models import Sentence, encode
from .noise import PROGRESS
from .plots import heatmap

MAX_TOKENS = 64  # what a picture can label
KEPT = 500  # results, and pictures
SINGLE, DOWNSTREAM = "each layer alone", "from the embeddings"
SAMPLING = ("sigma", "samples")  # the controls that only some methods take


@dataclass(frozen=True)
class Settings:
    """The explorer's controls; `sigma` is in units of the hidden state and matters for "noise" only."""

    text: str = "Beijing is the capital of China, said the man."
    second: str = ""  # a second sentence to compare with; none when empty
    position: int = 1  # the token that is disturbed
    layer: int = 1
    observe: str = SINGLE
    method: str = "exact"
    sigma: float = 0.01
    samples: int = 20
    own: bool = False  # draw each token's influence on itself
    log: bool = True


@dataclass(frozen=True)
class Shown:
    """One part of the view: a picture, and in words what it shows or what to see in it."""

    part: str  # "map", "trace" or "pair"
    values: np.ndarray
    rows: list[str]
    columns: list[str]
    words: str
    options: dict

    @property
    def figure(self) -> Figure:
        return heatmap(self.values, self.rows, self.columns, **self.options)


class Measurements:
    """What the pictures of one model are drawn from; the newest are kept. `progress` as in `layer_influence`."""

    def __init__(self, model: nn.Module, tokenizer, progress: Callable[..., Iterable] = PROGRESS):
        self.model, self.tokenizer, self.progress = model, tokenizer, progress
        config: Any = model.config
        self.depth: int = config.num_hidden_layers
        self._measured = lru_cache(KEPT)(self._measure)

    def sentence(self, text: str) -> Sentence:
        sentence = encode(self.tokenizer, text)
        if (seq := len(sentence.tokens)) > MAX_TOKENS:
            raise ValueError(
                f"expected at most {MAX_TOKENS} tokens, which a picture can label, got {seq}; shorten the sentence, "
                "or use layer_influence, which takes as many as the model has positions"
            )
        return sentence

    def influence(self, settings: Settings, layer: int) -> np.ndarray:
        """Influence [target, source] within `layer`, or from the embeddings to its output."""
        what = settings.text, settings.observe, settings.method
        options = {name: getattr(settings, name) for name in SAMPLING if name in OPTIONS[settings.method]}
        if settings.observe == SINGLE:
            return self._measured(*what, layers=(layer,), **options)[0]
        return self._measured(*what, **options)[layer]

    def _measure(self, text: str, observe: str, method: str, **options) -> np.ndarray:
        experiment = layer_influence if observe == SINGLE else downstream_influence
        found = experiment(self.model, self.sentence(text), method=method, progress=self.progress, **options)
        return found.values.cpu().numpy()

    @torch.no_grad()
    def apart(self, first: str, second: str) -> tuple[np.ndarray, list[str]]:
        """Distance of two sentences' hidden states [embeddings and layers, aligned token], and the tokens' labels.

        ‖h - h'‖ / ‖h‖ where a token of one sentence stands for one of the other; NaN where it has no partner.
        """
        sentences = [self.sentence(text) for text in (first, second)]
        states = []
        for sentence in sentences:
            stack = layer_stack(self.model, sentence)
            last = stack.run(self.depth - 1, stack.states[-1][None])[0]
            states.append(torch.stack([*stack.states, last]))
        pairs = align(*(sentence.tokens for sentence in sentences))
        distances = torch.full((self.depth + 1, len(pairs)), torch.nan)
        labels = []
        for column, (a, b) in enumerate(pairs):
            names = [s.tokens[i] if i is not None else "–" for s, i in zip(sentences, (a, b), strict=True)]
            labels.append(names[0] if names[0] == names[1] else " / ".join(names))
            if a is not None and b is not None:
                one, other = states[0][:, a], states[1][:, b]
                distances[:, column] = (one - other).norm(dim=-1) / one.norm(dim=-1)
        return distances.numpy(), labels


def explore(measurements: Measurements, settings: Settings) -> Iterator[Shown]:
    """The pictures for these settings, the quickest first: the layer's map, the token's trace, the pair of sentences.

    Raises `ValueError` for a sentence that cannot be measured.

    >>> from helpers import load_bert
    >>> [shown.part for shown in explore(Measurements(*load_bert()), Settings("Hello world!", position=1))]
    ['map', 'trace']
    """
    short = partial(textwrap.shorten, width=56, placeholder="…")
    tokens, depth = measurements.sentence(settings.text).tokens, measurements.depth
    if settings.second:
        measurements.sentence(settings.second)  # complains before anything is drawn
    position, layer = min(settings.position, len(tokens) - 1), min(settings.layer, depth - 1)
    method, layers = settings.method, [f"layer {number}" for number in range(depth)]
    if method != "exact":
        sigma = f"σ = {settings.sigma:g}, " if method == "noise" else ""
        method += f" ({sigma}{settings.samples} samples)"
    where = f"layer {layer} alone" if settings.observe == SINGLE else f"embeddings to layer {layer}"
    hidden = np.eye(len(tokens), dtype=bool) & (not settings.own)

    matrix = measurements.influence(settings, layer)
    title = f"{short(settings.text)}\n{method}, {where}"
    values = np.where(hidden, np.nan, matrix)
    words = f"Influence of every token (columns) on every token (rows) of this sentence: {title}"
    yield Shown("map", values, tokens, tokens, words, {"title": title, "log": settings.log})

    columns = [measurements.influence(settings, number)[:, position] for number in range(depth)]
    title = f"{short(settings.text)}\n{method}, {settings.observe}, source '{tokens[position]}' ({position})"
    values = np.where(hidden[position], np.nan, columns)
    words = in_words(matrix, tokens, position, f"{method}, {where}")
    options = {"title": title, "log": settings.log, "xlabel": "target", "ylabel": "layer"}
    yield Shown("trace", values, layers, tokens, words, options)

    if settings.second:
        distances, labels = measurements.apart(settings.text, settings.second)
        order = np.argsort(-np.nan_to_num(distances[-1], nan=-1))[:3]
        most = ", ".join(f"'{labels[column]}' {distances[-1, column]:.2f}" for column in order)
        options = {
            "title": f"{short(settings.text)}\n{short(settings.second)}",
            "label": "‖h - h'‖ / ‖h‖",
            "xlabel": "token of the first / of the second sentence",
            "ylabel": "hidden state after",
        }
        words = f"After the last layer the two sentences are furthest apart at {most}."
        yield Shown("pair", distances, ["embeddings", *layers], labels, words, options)


def in_words(matrix: np.ndarray, tokens: Sequence[str], position: int, what: str) -> str:
    """Which three positions a token reaches most, and, for a word among words, its `outflow`."""
    order = [int(target) for target in matrix[:, position].argsort()[::-1] if target != position][:3]
    reached = ", ".join(f"'{tokens[target]}' ({target}) {matrix[target, position]:.3g}" for target in order)
    told = f"'{tokens[position]}' ({position}), {what}, reaches most: {reached}."
    inner = matrix[1:-1, 1:-1]  # between words: without [CLS] and [SEP]
    if len(inner) > 1 and 0 < position <= len(inner):
        told += f" Its outflow is {outflow(inner)[position - 1]:.2f} × the sentence's mean."
    return told


def align(first: Sequence[str], second: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Pairs of positions, None where a token has no partner; equal tokens first, replaced ones in their order.

    >>> align(["a", "b", "c"], ["a", "x", "y", "c"])
    [(0, 0), (1, 1), (None, 2), (2, 3)]
    """
    pairs: list[tuple[int | None, int | None]] = []
    for _, a, a_end, b, b_end in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        for step in range(max(a_end - a, b_end - b)):
            pairs.append((a + step if a + step < a_end else None, b + step if b + step < b_end else None))
    return pairs
