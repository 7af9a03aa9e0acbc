"""A head that was made to link a list of pairs is found, no other is, and without it there is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import BertConfig, BertModel

from helpers import encode, layer_stack, load_bert
from helpers.statistics import advantage, associations, list_influence

RELATIONS = pd.read_csv(Path(__file__).parents[1] / "notebooks" / "relations.csv")
PAIRS = RELATIONS[:10].assign(relation="planted")
TWISTED = PAIRS.assign(relation="twisted", second=np.roll(PAIRS.second, 1))
HEAD = 2


@pytest.fixture(scope="module")
def tokenizer():
    return load_bert()[1]


def random_model():
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=64, num_attention_heads=4, num_hidden_layers=1, intermediate_size=64
    )
    return BertModel(config).eval().requires_grad_(False)


def planted_model(tokenizer):
    """Query of each first word and key of its second word are the same direction of head `HEAD`."""
    model = random_model()
    model.embeddings.position_embeddings.weight.zero_()
    ids = torch.tensor(
        [tokenizer.convert_tokens_to_ids(PAIRS[side].str.lower()) for side in ("first", "second")]
    )
    states = model.embeddings(ids)  # [2, pair, hidden]
    codes = 6 * torch.eye(16)[: len(PAIRS)]  # [pair, d]
    attention = model.encoder.layer[0].attention.self
    rows = slice(16 * HEAD, 16 * (HEAD + 1))
    for side, part in enumerate((attention.query, attention.key)):
        part.weight[rows] = torch.linalg.lstsq(states[side], codes).solution.T
    return model


def test_the_planted_head_and_its_pairs_are_found(tokenizer):
    both = pd.concat([PAIRS, TWISTED])
    found = associations(planted_model(tokenizer), tokenizer, both, orders=2)
    planted = found[found.relation == "planted"].set_index("head")
    assert planted.ratio.idxmax() == HEAD and planted.low[HEAD] > 100
    assert planted.strongest[HEAD] == 1 and planted.strongest.drop(HEAD).max() < 0.5
    assert (planted.drop(HEAD).low < 1.2).all() and (planted.drop(HEAD).high > 0.8).all()
    twisted = found[found.relation == "twisted"].set_index("head")
    assert twisted.strongest[HEAD] == 0 and twisted.ratio[HEAD] < 1
    assert not planted.held_out.any() and twisted.held_out.all() and (found.n == len(PAIRS)).all()


def test_random_weights_link_nothing(tokenizer):
    found = associations(random_model(), tokenizer, PAIRS, orders=3)
    assert found.strongest.max() < 0.4 and found.ratio.between(0.8, 1.25).all()


def test_the_grid_is_that_of_single_blocks(tokenizer):
    model, first, second = planted_model(tokenizer), PAIRS["first"][:3], PAIRS["second"][:3]
    grid = list_influence(model, tokenizer, first, second, seed=1)  # [head, first, second]
    words = np.random.default_rng(1).permutation([*first, *second])
    sentence = encode(tokenizer, " ".join(words))
    J = layer_stack(model, sentence).jacobian(0)
    target, source = sentence.position(first[2]), sentence.position(second[0])
    expected = J.block(target, source, head=HEAD).square().sum()
    assert grid.shape == (4, 3, 3) and np.isclose(grid[HEAD, 2, 0], expected, rtol=1e-4)


def test_advantage_ignores_how_loud_a_word_is():
    rng = np.random.default_rng(0)
    grid = rng.lognormal(size=(8, 1)) * rng.lognormal(size=(1, 8))
    assert np.isclose(advantage(grid)[0].mean(), 0)
    grid[range(8), range(8)] *= 5
    assert np.isclose(advantage(grid)[0].mean(), np.log(5))


def test_a_word_given_twice_says_so(tokenizer):
    with pytest.raises(ValueError, match="all different"):
        list_influence(random_model(), tokenizer, ["Paris", "Lyon"], ["France", "France"])
