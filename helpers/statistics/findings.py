"""Statistics over sentences: locality, reach by kind of word, influence within names; each with a bootstrap interval.

All of them take one sentence's [..., target, source] influence between *words* and are 1 where
nothing is special.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.stats import DegenerateDataWarning, bootstrap

from ..values import all_pairs, numbers, whole


def locality(matrix: np.ndarray, distances: Sequence[int]) -> np.ndarray:
    """Share of the influence between different words that spans each distance, over what a uniform map would have.

    `matrix` [..., target, source]; returns [..., distance], NaN for distances that the sentence
    does not have.

    >>> locality(np.ones((5, 5)), [1, 2]).tolist()
    [1.0, 1.0]
    """
    matrix = all_pairs(matrix)
    distances = [whole(distance, "a distance in words", 1) for distance in distances]
    gap = _gap(matrix)
    unknown = np.full(matrix.shape[:-2], np.nan)
    shares = [
        _mean(matrix, gap == d) / _mean(matrix, gap > 0) if d < len(gap) else unknown
        for d in distances
    ]
    return np.stack(shares, -1)


def mean_distance(matrix: np.ndarray) -> np.ndarray:
    """Mean distance in words that influence between different words spans, over that of a uniform map.

    >>> mean_distance(np.ones((7, 7))).item()
    1.0
    """
    matrix = all_pairs(matrix)
    gap = _gap(matrix)
    others = matrix * (gap > 0)
    with np.errstate(invalid="ignore"):  # a single word has no pair: NaN
        return (others * gap).sum((-2, -1)) / others.sum((-2, -1)) / _mean(gap, gap > 0)


def outflow(matrix: np.ndarray) -> np.ndarray:
    """Influence of each word on all others, relative to the sentence's mean; [..., source].

    >>> outflow(np.array([[9.0, 3.0], [1.0, 9.0]])).tolist()
    [0.5, 1.5]
    """
    matrix = all_pairs(matrix)
    sent = (matrix * (_gap(matrix) > 0)).sum(-2)
    with np.errstate(invalid="ignore"):
        return sent / sent.mean(-1, keepdims=True)


def reach(
    matrix: np.ndarray, sources: np.ndarray, *, words: np.ndarray | None = None, later: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Influence of some words, and that of the other words over the same distances in their sentence.

    `sources` [word] of bool says which; they are not among those that they are compared with.
    `words` [word] of bool says what counts as a word and as a receiver (default: all), for a matrix
    with special tokens; `later` counts only receivers that come after the source. Returns (sent,
    matched), [...] each, relative to the sentence's mean pair; NaN where there is no pair to
    compare. For a ratio take `interval(sent, over=matched)`, see `span_influence`.

    >>> sent, matched = reach(np.ones((6, 6)), np.arange(6) == 2)
    >>> float(sent / matched)
    1.0
    """
    matrix = all_pairs(matrix)
    sources = np.asarray(sources, dtype=bool)
    words = np.ones(matrix.shape[-1], dtype=bool) if words is None else words
    receivers = words[:, None] & ((_order(matrix) > 0) if later else (_gap(matrix) > 0))
    return _compare(matrix, receivers & sources, receivers & words & ~sources)


def span_influence(
    matrix: np.ndarray,
    spans: Sequence[Sequence[int]],
    eligible: np.ndarray | None = None,
    *,
    against: Sequence[Sequence[int]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Influence between the words of a span, and between pairs as far apart in the same sentence outside spans.

    `matrix` [..., target, source]; `eligible` [word] of bool says which words count, inside and
    outside (default: all); with `against` the pairs to compare with are those within these other
    spans. Returns (within, matched), [...] each, relative to the sentence's mean pair; NaN where no
    span has two such words or nothing can be compared with. Take the ratio of their means over
    sentences, `interval(within, over=matched)`: the mean of the ratios would be above 1 for chance
    alone, since a small denominator counts more than a large one.

    >>> within, matched = span_influence(np.ones((6, 6)), [[1, 2]])
    >>> float(within / matched)
    1.0
    """
    matrix = all_pairs(matrix)
    eligible = (
        np.ones(matrix.shape[-1], dtype=bool)
        if eligible is None
        else np.asarray(eligible, dtype=bool)
    )
    if eligible.shape != matrix.shape[-1:]:
        raise ValueError(f"expected eligible [word={matrix.shape[-1]}], got {list(eligible.shape)}")
    pairs = eligible[:, None] & eligible & (_gap(matrix) > 0)
    inside = _within(matrix, spans)
    outside = ~inside if against is None else _within(matrix, against) & ~inside
    return _compare(matrix, inside & pairs, outside & pairs)


def interval(
    values, over=None, *, confidence: float = 0.95, comparisons: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over the first axis, the sentences, with its percentile bootstrap interval (Efron 1979); NaNs are left out.

    With `over`, of the same shape, the mean of `values` over the mean of `over`, resampled
    together. `comparisons` is how many intervals are read together: each is widened so that all of
    them cover at `confidence` (Bonferroni). Returns (mean, low, high), each of the shape of one
    sentence's value; low and high are NaN where fewer than two sentences have a value. Raises
    `ValueError` for fewer than two sentences, for shapes that differ and for a confidence that is
    not between 0 and 1.

    >>> mean, low, high = interval(np.arange(10.0))
    >>> bool(low < mean < high), float(mean)
    (True, 4.5)
    """
    data = tuple(numbers(part) for part in ((values,) if over is None else (values, over)))
    if data[0].ndim == 0 or len(data[0]) < 2:
        got = len(data[0]) if data[0].ndim else "one number"
        raise ValueError(f"expected values of at least 2 sentences to resample, got {got}")
    if data[0].shape != data[-1].shape:
        raise ValueError(
            f"expected over of the same shape as values, {list(data[0].shape)}, got {list(data[1].shape)}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")

    sentences = np.arange(len(data[0]))

    def statistic(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        """[resample, sentence] of sentence numbers to [..., resample]."""
        means = [_mean_over(drawn, part) for part in data]
        return np.moveaxis(means[0] if over is None else means[0] / means[1], 0, -1)

    with (
        np.errstate(invalid="ignore"),
        warnings.catch_warnings(),
    ):  # the mean of nothing is NaN, as we want it
        warnings.simplefilter("ignore", DegenerateDataWarning)
        limits = bootstrap(
            (sentences,),
            statistic,
            confidence_level=1 - (1 - confidence) / comparisons,
            n_resamples=2000
            if comparisons == 1
            else 10_000,  # a wider interval rests on rarer resamples
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return statistic(sentences[None])[..., 0], limits.low, limits.high


def _order(matrix: np.ndarray) -> np.ndarray:
    """[target, source]: how many words the target comes after the source."""
    positions = np.arange(matrix.shape[-1])
    return positions[:, None] - positions


def _gap(matrix: np.ndarray) -> np.ndarray:
    return np.abs(_order(matrix))


def _within(matrix: np.ndarray, spans: Sequence[Sequence[int]]) -> np.ndarray:
    inside = np.zeros(matrix.shape[-2:], dtype=bool)
    for span in spans:
        words = [whole(word, "a word of a span", 0, len(inside) - 1) for word in span]
        inside[np.ix_(words, words)] = True
    return inside


def _compare(
    matrix: np.ndarray, these: np.ndarray, those: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of these pairs, and of those at the same distances, both relative to the sentence's mean pair.

    A pair for which there is none at its distance does not count.
    """
    gap = _gap(matrix)
    found, matched, count = np.zeros(matrix.shape[:-2]), np.zeros(matrix.shape[:-2]), 0
    for distance in np.unique(gap[these]):
        here, there = these & (gap == distance), those & (gap == distance)
        if there.any():
            found = found + matrix[..., here].sum(-1)
            matched = matched + here.sum() * _mean(matrix, there)
            count += here.sum()
    scale = _mean(matrix, gap > 0) * (count or np.nan)
    return found / scale, matched / scale


def _mean_over(drawn: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the sentences drawn, [resample, sentence] of their numbers, as [resample, ...]; NaNs are left out."""
    count, places = len(values), len(values) * np.arange(len(drawn))[:, None]
    times = np.bincount((drawn + places).ravel(), minlength=len(drawn) * count).reshape(-1, count)
    known = ~np.isnan(values)
    return np.tensordot(times, np.where(known, values, 0), 1) / np.tensordot(times, known, 1)


def _mean(matrix: np.ndarray, where: np.ndarray) -> np.ndarray:
    return matrix[..., where].mean(-1) if where.any() else np.full(matrix.shape[:-2], np.nan)
