"""Statistics over sentences: locality, outflow, influence within entity spans; each with a bootstrap interval.

All of them take one sentence's [target, source] influence between *words* and are 1 where nothing is special.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from .models import Sentence, encode

SPAN = re.compile(r"\[([^|\]]+)\|(\w+)\]")


@dataclass(frozen=True)
class MarkedSentence:
    """Plain text, its entity spans as (first character, end, type), and the register it comes from."""

    text: str
    spans: list[tuple[int, int, str]]
    register: str


@dataclass(frozen=True)
class Words:
    """An encoded sentence seen as words: `.tokens` lists each word's token positions, special tokens left out."""

    sentence: Sentence
    words: list[str]
    tokens: list[list[int]]
    spans: list[list[int]]  # word numbers of each marked span

    @property
    def punctuation(self) -> np.ndarray:
        """[word] of bool: no letter and no digit in it."""
        return np.array([not any(map(str.isalnum, word)) for word in self.words])

    def matrix(self, values, *, mean: bool = False) -> np.ndarray:
        """[..., token, token] to [..., word, word]: influence summed over the pieces of each word, or its mean.

        The sum is all that one word receives from another; it grows with the number of pieces, the mean does not.
        """
        values = np.asarray(values, dtype=float)
        member = np.zeros((len(self.tokens), values.shape[-1]))
        for word, positions in enumerate(self.tokens):
            member[word, positions] = 1 / len(positions) if mean else 1
        return member @ values @ member.T


def read_sentences(path: str | Path) -> list[MarkedSentence]:
    """Sentences with marked entities from a text file; its first lines explain the format.

    Raises `ValueError` for a bracket that is not part of a mark.
    """
    found, register = [], ""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            register = line[3:].strip()
        elif line.strip() and not line.startswith("#"):
            found.append(_marked(line.strip(), register))
    return found


def split_words(tokenizer, marked: MarkedSentence) -> Words:
    """Encode a sentence and group its tokens into words and its words into the marked spans."""
    sentence = encode(tokenizer, marked.text)
    encoding = tokenizer(marked.text, return_offsets_mapping=True)
    tokens: dict[int, list[int]] = {}
    for position, word in enumerate(encoding.word_ids()):
        if word is not None:
            tokens.setdefault(word, []).append(position)
    groups = list(tokens.values())
    places = [(encoding["offset_mapping"][g[0]][0], encoding["offset_mapping"][g[-1]][1]) for g in groups]
    words = [marked.text[start:end] for start, end in places]
    spans = [[w for w, (a, b) in enumerate(places) if start <= a and b <= end] for start, end, _ in marked.spans]
    return Words(sentence, words, groups, spans)


def locality(matrix: np.ndarray, distances: Sequence[int]) -> np.ndarray:
    """Share of the influence between different words that spans each distance, over what a uniform map would have.

    `matrix` [..., target, source]; returns [..., distance], NaN for distances that the sentence does not have.

    >>> locality(np.ones((5, 5)), [1, 2]).tolist()
    [1.0, 1.0]
    """
    gap = _gap(matrix)
    unknown = np.full(matrix.shape[:-2], np.nan)
    shares = [_mean(matrix, gap == d) / _mean(matrix, gap > 0) if d < len(gap) else unknown for d in distances]
    return np.stack(shares, -1)


def mean_distance(matrix: np.ndarray) -> np.ndarray:
    """Mean distance in words that influence between different words spans, over that of a uniform map.

    >>> mean_distance(np.ones((7, 7))).item()
    1.0
    """
    gap = _gap(matrix)
    others = matrix * (gap > 0)
    return (others * gap).sum((-2, -1)) / others.sum((-2, -1)) / gap[gap > 0].mean()


def outflow(matrix: np.ndarray) -> np.ndarray:
    """Influence of each word on all others, relative to the sentence's mean; [..., source].

    >>> outflow(np.array([[9.0, 3.0], [1.0, 9.0]])).tolist()
    [0.5, 1.5]
    """
    sent = (matrix * (_gap(matrix) > 0)).sum(-2)
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
    gap = _gap(matrix)
    eligible = np.ones(len(gap), dtype=bool) if eligible is None else eligible
    inside = np.zeros_like(gap, dtype=bool)
    for span in spans:
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
    low, high), each of the shape of one sentence's value. Raises `ValueError` for fewer than two sentences.

    >>> mean, low, high = interval(np.arange(10.0))
    >>> bool(low < mean < high), float(mean)
    (True, 4.5)
    """
    data = tuple(np.asarray(part, dtype=float) for part in ((values,) if over is None else (values, over)))
    if len(data[0]) < 2:
        raise ValueError(f"expected values of at least 2 sentences to resample, got {len(data[0])}")

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


def _marked(line: str, register: str) -> MarkedSentence:
    text, spans, end = "", [], 0
    for mark in SPAN.finditer(line):
        text += line[end : mark.start()]
        spans.append((len(text), len(text) + len(mark[1]), mark[2]))
        text += mark[1]
        end = mark.end()
    text += line[end:]
    if "[" in text or "]" in text:
        raise ValueError(f"expected every entity marked as [words|type], got {line!r}")
    return MarkedSentence(text, spans, register)


def _gap(matrix: np.ndarray) -> np.ndarray:
    positions = np.arange(matrix.shape[-1])
    return np.abs(positions[:, None] - positions)


def _mean(matrix: np.ndarray, where: np.ndarray) -> np.ndarray:
    return matrix[..., where].mean(-1)
