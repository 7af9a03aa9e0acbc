"""Numbers of one sentence: locality, reach by kind of word, influence within names.

A new statistic goes here. All of them take the [..., target, source] influence between the *words*
of one sentence and are 1 where nothing is special. tables.py asks them of many sentences.
"""

from collections.abc import Sequence

import numpy as np

from ..values import all_pairs, whole


def locality(matrix: np.ndarray, distances: Sequence[int]) -> np.ndarray:
    """Share of the influence between different words at each distance, over that of a uniform map.

    `matrix` [..., target, source]; returns [..., distance], NaN for distances that the sentence
    does not have.

    >>> locality(np.ones((5, 5)), [1, 2]).tolist()
    [1.0, 1.0]
    """
    matrix = all_pairs(matrix)
    distances = [whole(distance, "a distance in words", 1) for distance in distances]
    gap = np.abs(_order(matrix))
    shares = [_mean(matrix, gap == distance) for distance in distances]
    return np.stack(shares, -1) / _mean(matrix, gap > 0)[..., None]


def mean_distance(matrix: np.ndarray) -> np.ndarray:
    """Mean distance in words that influence between different words spans, over a uniform map's.

    >>> mean_distance(np.ones((7, 7))).item()
    1.0
    """
    matrix = all_pairs(matrix)
    gap = np.abs(_order(matrix))
    apart = gap > 0
    spanned = _mean(matrix * gap, apart) / _mean(matrix, apart)
    return spanned / _mean(gap, apart)


def outflow(matrix: np.ndarray) -> np.ndarray:
    """Influence of each word on all others, relative to the sentence's mean; [..., source].

    >>> outflow(np.array([[9.0, 3.0], [1.0, 9.0]])).tolist()
    [0.5, 1.5]
    """
    matrix = all_pairs(matrix)
    others = _order(matrix) != 0
    sent = (matrix * others).sum(-2)
    mean = _mean(matrix, others) * (len(others) - 1)
    return sent / mean[..., None]


def reach(
    matrix: np.ndarray, sources: np.ndarray, *, words: np.ndarray | None = None, later: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Influence of some words, and of the other words over the same distances in their sentence.

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
    order = _order(matrix)
    pairs = order > 0 if later else order != 0
    others = ~sources
    if words is not None:
        pairs &= words[:, None]
        others &= words
    return _compare(matrix, pairs & sources, pairs & others)


def span_influence(
    matrix: np.ndarray,
    spans: Sequence[Sequence[int]],
    eligible: np.ndarray | None = None,
    *,
    against: Sequence[Sequence[int]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Influence between the words of a span, and between pairs as far apart outside spans.

    `matrix` [..., target, source]; `eligible` [word] of bool says which words count, inside and
    outside (default: all); with `against` the pairs to compare with are those within these other
    spans of the sentence. Returns (within, matched), [...] each, relative to the sentence's mean
    pair; NaN where no span has two such words or nothing can be compared with. Take the ratio of
    their means over sentences, `interval(within, over=matched)`: the mean of the ratios would be
    above 1 for chance alone, since a small denominator counts more than a large one.

    >>> within, matched = span_influence(np.ones((6, 6)), [[1, 2]])
    >>> float(within / matched)
    1.0
    """
    matrix = all_pairs(matrix)
    pairs = _order(matrix) != 0
    if eligible is not None:
        eligible = np.asarray(eligible, dtype=bool)
        if eligible.shape != (len(pairs),):
            raise ValueError(f"expected eligible [word={len(pairs)}], got {list(eligible.shape)}")
        pairs &= eligible[:, None] & eligible
    inside = _within(matrix, spans)
    outside = pairs & ~inside
    if against is not None:
        outside &= _within(matrix, against)
    return _compare(matrix, inside & pairs, outside)


def _order(matrix: np.ndarray) -> np.ndarray:
    """[target, source]: how many words the target comes after the source."""
    positions = np.arange(matrix.shape[-1])
    return positions[:, None] - positions


def _within(matrix: np.ndarray, spans: Sequence[Sequence[int]]) -> np.ndarray:
    """[target, source] of bool: both are in the same span."""
    inside = np.zeros(matrix.shape[-2:], dtype=bool)
    for span in spans:
        words = [whole(word, "a word of a span", 0, len(inside) - 1) for word in span]
        inside[np.ix_(words, words)] = True
    return inside


def _compare(
    matrix: np.ndarray, these: np.ndarray, those: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of these pairs, and of those at the same distances, relative to the mean pair.

    A pair for which there is none at its distance does not count.
    """
    gap = np.abs(_order(matrix))
    far = [_mean(matrix, those & (gap == distance)) for distance in range(len(gap))]
    matched = np.stack(far, -1)[..., gap]  # in place of each pair, those at its distance
    counted = these & np.isin(gap, gap[those])
    scale = _mean(matrix, gap > 0)
    return _mean(matrix, counted) / scale, _mean(matched, counted) / scale


def _mean(matrix: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean of some pairs, [...]; NaN where there is none."""
    if not where.any():
        return np.full(matrix.shape[:-2], np.nan)
    return matrix[..., where].mean(-1)
