"""Which words go together, for each head: pairs of words, and the same words paired otherwise."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..exact import layer_stack
from ..values import numbers
from ..words import encode
from .tables import interval


def advantage(grid) -> tuple[np.ndarray, np.ndarray]:
    """How much stronger each first word is tied to its own second word than to those of others.

    `grid` [..., pair, pair] has the influence for each first word (rows) with each second word.
    Returns two arrays [..., pair]: the log of the own influence over the geometric mean of the
    others, whose mean is 0 where nothing is special, and whether the own one is the strongest.

    >>> logs, strongest = advantage([[4.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.0, 1.0, 2.0]])
    >>> np.exp(logs).round(1).tolist(), strongest.tolist()
    ([4.0, 1.0, 1.4], [True, False, False])
    """
    least = np.finfo(float).tiny  # 0 has no logarithm
    logs = np.log(np.maximum(numbers(grid), least))
    same = np.eye(logs.shape[-1], dtype=bool)
    own = logs[..., same]
    others = logs[..., ~same].reshape(*own.shape, -1)  # [..., pair, other]
    return own - others.mean(-1), own > others.max(-1)


def list_influence(
    model, tokenizer, first: Sequence[str], second: Sequence[str], *, seed: int = 0
) -> np.ndarray:
    """Influence by each head of layer 0 of `second` words on `first` words, [head, first, second].

    All words stand in one sentence, in an order drawn from `seed`, without grammar. Raises
    `ValueError` for a word that is given twice.
    """
    words = [*first, *second]
    if len(set(words)) < len(words):
        raise ValueError(f"expected words that are all different, got {words}")
    shuffled = np.random.default_rng(seed).permutation(words)
    sentence = encode(tokenizer, " ".join(shuffled))
    places = [sentence.position(word) for word in words]
    J = layer_stack(model, sentence).jacobian(0)
    return J.heads(places[: len(first)], places[len(first) :]).numpy()


def associations(model, tokenizer, pairs: pd.DataFrame, *, orders: int = 5) -> pd.DataFrame:
    """How much stronger each head of layer 0 ties pairs than the same words paired otherwise.

    `pairs` has the columns relation, first and second. Each relation's words are put into one
    sentence, in `orders` orders. Returns a row for each relation and head: `ratio` with its 95 %
    interval over pairs, `low` and `high` (the exponential of the mean `advantage`), and the share
    of pairs that are the `strongest`. `held_out` is True but for the first relation, by which one
    may choose a head.
    """
    tables: list[pd.DataFrame] = []
    for relation, found in pairs.groupby("relation", sort=False):
        grids = []
        for seed in range(orders):
            first, second = list(found["first"]), list(found["second"])
            grids.append(list_influence(model, tokenizer, first, second, seed=seed))
        logs, strongest = advantage(grids)  # [order, head, pair]
        ratio, low, high = np.exp(interval(logs.mean(0).T))  # [head] each
        table = {
            "head": range(len(ratio)),
            "ratio": ratio,
            "low": low,
            "high": high,
            "strongest": strongest.mean((0, 2)),
            "relation": relation,
            "n": len(found),
            "held_out": bool(tables),
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)
