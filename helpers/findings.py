"""Statistics over sentences: locality, outflow, influence within entity spans; each with a bootstrap interval.

All of them take one sentence's [target, source] influence between *words* and are 1 where nothing is special.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap

from .models import Sentence, encode, whole

SPAN = re.compile(r"\[([^|\]]+)\|(\w+)\]")


@dataclass(frozen=True)
class MarkedSentence:
    """An encoded sentence seen as words, special tokens left out, with its marked entities."""

    sentence: Sentence
    words: list[str]
    tokens: list[list[int]]  # token positions of each word
    spans: list[list[int]]  # word numbers of each entity
    types: list[str]  # of each entity, such as "person"
    register: str

    @property
    def punctuation(self) -> np.ndarray:
        """[word] of bool: no letter and no digit in it."""
        return np.array([not any(map(str.isalnum, word)) for word in self.words])

    def matrix(self, values, *, mean: bool = False) -> np.ndarray:
        """[..., token, token] to [..., word, word]: influence summed over the pieces of each word, or its mean.

        The sum is all that one word receives from another; it grows with the number of pieces, the mean does not.
        """
        values = square(values)
        if (seq := len(self.sentence.tokens)) != values.shape[-1]:
            raise ValueError(f"expected influence between the sentence's {seq} tokens, got {list(values.shape)}")
        member = np.zeros((len(self.tokens), values.shape[-1]))
        for word, positions in enumerate(self.tokens):
            member[word, positions] = 1 / len(positions) if mean else 1
        return member @ values @ member.T


def read_sentences(path: str | Path, tokenizer) -> list[MarkedSentence]:
    """Sentences with marked entities from a text file; its first lines explain the format.

    Raises `ValueError` for a file without a sentence, and as `mark_sentence` does.
    """
    found, register = [], ""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            register = line[3:].strip()
        elif line.strip() and not line.startswith("#"):
            found.append(mark_sentence(line.strip(), tokenizer, register))
    if not found:
        raise ValueError(
            f"expected sentences in {str(path)!r}, one a line, got none; lines with # in front are skipped"
        )
    return found


def mark_sentence(line: str, tokenizer, register: str = "") -> MarkedSentence:
    """Encode a sentence whose entities are written as [words|type].

    Raises `ValueError` for a bracket that is not part of such a mark, and for a tokenizer that does not know words.

    >>> from helpers import load_bert
    >>> marked = mark_sentence("[Ada Lovelace|person] wrote.", load_bert()[1])
    >>> marked.words, marked.spans
    (['Ada', 'Lovelace', 'wrote', '.'], [[0, 1]])
    """
    if not isinstance(line, str):
        raise ValueError(f"expected a sentence as a str, got {type(line).__name__}")
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"expected a tokenizer that knows the word of each token (word_ids), got {type(tokenizer).__name__}; those "
            "of characters (CANINE) or bytes (ByT5) do not, and serve encode(tokenizer, text) only"
        )
    parts = SPAN.split(line)  # plain, entity, type, plain, entity, type, ..., plain
    types = parts[2::3]
    del parts[2::3]
    text, ends = "".join(parts), np.cumsum([len(part) for part in parts])
    if "[" in text or "]" in text:
        raise ValueError(f"expected every entity marked as [words|type], got {line!r}")
    encoding = tokenizer(text)
    tokens: dict[int, list[int]] = {}
    for position, word in enumerate(encoding.word_ids()):
        if word is not None:
            tokens.setdefault(word, []).append(position)
    words = [text[slice(*encoding.word_to_chars(word))] for word in tokens]
    entities = zip(ends[:-1:2], ends[1::2], strict=True)
    spans = [sorted({encoding.char_to_word(int(c)) for c in range(*entity)} - {None}) for entity in entities]
    return MarkedSentence(encode(tokenizer, text), words, list(tokens.values()), spans, types, register)


def locality(matrix: np.ndarray, distances: Sequence[int]) -> np.ndarray:
    """Share of the influence between different words that spans each distance, over what a uniform map would have.

    `matrix` [..., target, source]; returns [..., distance], NaN for distances that the sentence does not have.

    >>> locality(np.ones((5, 5)), [1, 2]).tolist()
    [1.0, 1.0]
    """
    matrix = square(matrix)
    distances = [whole(distance, "a distance in words", 1) for distance in distances]
    gap = _gap(matrix)
    unknown = np.full(matrix.shape[:-2], np.nan)
    shares = [_mean(matrix, gap == d) / _mean(matrix, gap > 0) if d < len(gap) else unknown for d in distances]
    return np.stack(shares, -1)


def mean_distance(matrix: np.ndarray) -> np.ndarray:
    """Mean distance in words that influence between different words spans, over that of a uniform map.

    >>> mean_distance(np.ones((7, 7))).item()
    1.0
    """
    matrix = square(matrix)
    gap = _gap(matrix)
    others = matrix * (gap > 0)
    with np.errstate(invalid="ignore"):  # a single word has no pair: NaN
        return (others * gap).sum((-2, -1)) / others.sum((-2, -1)) / _mean(gap, gap > 0)


def outflow(matrix: np.ndarray) -> np.ndarray:
    """Influence of each word on all others, relative to the sentence's mean; [..., source].

    >>> outflow(np.array([[9.0, 3.0], [1.0, 9.0]])).tolist()
    [0.5, 1.5]
    """
    matrix = square(matrix)
    sent = (matrix * (_gap(matrix) > 0)).sum(-2)
    with np.errstate(invalid="ignore"):
        return sent / sent.mean(-1, keepdims=True)


def span_influence(
    matrix: np.ndarray, spans: Sequence[Sequence[int]], eligible: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Influence between the words of a span, and between pairs as far apart in the same sentence outside spans.

    `matrix` [..., target, source]; `eligible` [word] of bool says which words may be compared with (default: all).
    Returns (within, matched), [...] each, relative to the sentence's mean pair; NaN where no span has two words or
    nothing can be compared with. Take the ratio of their means over sentences, `interval(within, over=matched)`: the
    mean of the ratios would be above 1 for chance alone, since a small denominator counts more than a large one.

    >>> within, matched = span_influence(np.ones((6, 6)), [[1, 2]])
    >>> float(within / matched)
    1.0
    """
    matrix = square(matrix)
    gap = _gap(matrix)
    eligible = np.ones(len(gap), dtype=bool) if eligible is None else np.asarray(eligible, dtype=bool)
    if eligible.shape != (len(gap),):
        raise ValueError(f"expected eligible [word={len(gap)}], got {list(eligible.shape)}")
    inside = np.zeros_like(gap, dtype=bool)
    for span in spans:
        span = [whole(word, "a word of a span", 0, len(gap) - 1) for word in span]
        inside[np.ix_(span, span)] = True
    outside = ~inside & eligible[:, None] & eligible
    inside &= gap > 0
    within, matched, count = np.zeros(matrix.shape[:-2]), np.zeros(matrix.shape[:-2]), 0
    for distance in np.unique(gap[inside]):
        here, there = inside & (gap == distance), outside & (gap == distance)
        if there.any():
            within = within + matrix[..., here].sum(-1)
            matched = matched + here.sum() * _mean(matrix, there)
            count += here.sum()
    scale = _mean(matrix, gap > 0) * (count or np.nan)
    return within / scale, matched / scale


def interval(
    values, over=None, *, confidence: float = 0.95, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first axis, the sentences, with its percentile bootstrap interval (Efron 1979); NaNs are left out.

    With `over`, of the same shape, the mean of `values` over the mean of `over`, resampled together. Returns (mean,
    low, high), each of the shape of one sentence's value. Raises `ValueError` for fewer than two sentences, for shapes
    that differ and for a confidence that is not between 0 and 1.

    >>> mean, low, high = interval(np.arange(10.0))
    >>> bool(low < mean < high), float(mean)
    (True, 4.5)
    """
    data = tuple(numbers(part) for part in ((values,) if over is None else (values, over)))
    if data[0].ndim == 0 or len(data[0]) < 2:
        got = len(data[0]) if data[0].ndim else "one number"
        raise ValueError(f"expected values of at least 2 sentences to resample, got {got}")
    if data[0].shape != data[-1].shape:
        raise ValueError(f"expected over of the same shape as values, {list(data[0].shape)}, got {list(data[1].shape)}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")

    def statistic(*parts: np.ndarray, axis: int = 0) -> np.ndarray:
        means = [np.nanmean(part, axis=axis) for part in parts]
        return means[0] if over is None else means[0] / means[1]

    limits = bootstrap(
        data,
        statistic,
        paired=over is not None,
        axis=0,
        confidence_level=confidence,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return statistic(*data), limits.low, limits.high


def numbers(values: Any) -> np.ndarray:
    """A list, an array or a tensor, on any device, as an array of floats."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double()
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected numbers, got {type(values).__name__}: {error}") from error


def square(values: Any) -> np.ndarray:
    """Values [..., target, source] as an array of floats."""
    found = numbers(values)
    if found.ndim < 2 or found.shape[-1] != found.shape[-2] or not found.size:
        raise ValueError(f"expected values [..., target, source] of all pairs of words, got {list(found.shape)}")
    return found


def _gap(matrix: np.ndarray) -> np.ndarray:
    positions = np.arange(matrix.shape[-1])
    return np.abs(positions[:, None] - positions)


def _mean(matrix: np.ndarray, where: np.ndarray) -> np.ndarray:
    return matrix[..., where].mean(-1) if where.any() else np.full(matrix.shape[:-2], np.nan)
