"""Each statistic finds what was planted, and is 1 within its interval where nothing was."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.statistics import (
    by_distance,
    by_kind,
    in_names,
    interval,
    locality,
    mark_sentence,
    mean_distance,
    outflow,
    reach,
    read_sentences,
    replace_results,
    results,
    span_influence,
)

SENTENCES = Path(__file__).parents[1] / "notebooks" / "sentences.txt"
LENGTHS = range(8, 28)


def span_ratio(*arguments):
    within, matched = span_influence(*arguments)
    return within / matched


def gaps(n):
    return np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def random_maps(seed):
    """A null: independent, heavy-tailed influences, 60 sentences of different lengths, 2 layers."""
    rng = np.random.default_rng(seed)
    return [rng.lognormal(sigma=1.0, size=(2, n, n)) for n in rng.choice(LENGTHS, 60)]


def covers_one(values):
    _, low, high = interval(np.array(values))
    return (low <= 1) & (high >= 1)


def test_planted_locality():
    for n in LENGTHS:
        planted = np.where(
            gaps(n) == 2, 3.0, 1.0
        )  # thrice the influence at distance 2, whatever the length
        ratio = locality(planted, [1, 2, 3])
        assert ratio[1] / ratio[0] == pytest.approx(3) and ratio[0] == pytest.approx(ratio[2])
        # the shares of all distances are one
        every = np.arange(1, n)
        pairs = 2 * (n - every) / (n * (n - 1))
        assert (locality(planted, every) * pairs).sum() == pytest.approx(1)


def test_planted_distance():
    near = np.where(gaps(9) <= 1, 1.0, 0.0)
    assert mean_distance(near) == pytest.approx(1 / (10 / 3))  # a uniform map has (n + 1) / 3
    assert mean_distance(np.ones((4, 9, 9))) == pytest.approx(np.ones(4))


def test_the_diagonal_never_counts():
    for statistic in (
        mean_distance,
        outflow,
        lambda m: locality(m, [1, 2]),
        lambda m: span_ratio(m, [[1, 2, 3]]),
    ):
        quiet, loud = np.ones((9, 9)), np.ones((9, 9)) + 100 * np.eye(9)
        assert np.allclose(statistic(quiet), statistic(loud))


def test_planted_outflow():
    planted = np.ones((3, 6, 6))
    planted[1, :, 4] = 5.0  # source 4 sends five times as much, in layer 1
    sent = outflow(planted)
    assert sent[1, 4] / sent[1, 0] == pytest.approx(5) and np.allclose(sent.mean(-1), 1)
    assert np.allclose(sent[[0, 2]], 1)


def test_planted_span():
    rng = np.random.default_rng(0)
    fading = np.exp(-gaps(12) / 2.0) * rng.lognormal(
        sigma=0.01, size=(12, 12)
    )  # strong locality is not a span
    assert span_ratio(fading, [[4, 5, 6]]) == pytest.approx(1, abs=0.03)
    planted = fading.copy()
    planted[4:7, 4:7] *= 2.5
    assert span_ratio(planted, [[4, 5, 6]]) == pytest.approx(2.5, abs=0.06)
    assert np.isnan(span_ratio(planted, [[4]])) and np.isnan(span_ratio(planted, []))


def test_span_compares_with_eligible_words_only():
    matrix = np.ones((8, 8))
    matrix[:, 6:] = matrix[6:, :] = 0.1  # two words that nobody hears
    eligible = np.arange(8) < 6
    assert span_ratio(matrix, [[1, 2]]) > 1.1
    assert span_ratio(matrix, [[1, 2]], eligible) == pytest.approx(1)


def test_span_filters_both_sides():
    matrix = np.ones((9, 9))
    matrix[:, 2] = matrix[2, :] = 0.1  # a quiet word inside the span, as "of" is in a name
    eligible = np.arange(9) != 2
    assert span_ratio(matrix, [[1, 2, 3]]) < 0.9
    assert span_ratio(matrix, [[1, 2, 3]], eligible) == pytest.approx(1)
    assert np.isnan(span_ratio(matrix, [[1, 2]], eligible))  # one word is left


def test_names_against_phrases():
    fading = np.exp(-gaps(14) / 2.0)
    planted = fading.copy()
    for span, times in (([3, 4], 3.0), ([8, 9, 10], 2.0)):
        planted[np.ix_(span, span)] *= times
    within, matched = span_influence(planted, [[3, 4]], against=[[8, 9, 10]])
    assert within / matched == pytest.approx(1.5)  # three times against twice, at distance 1
    assert np.isnan(span_influence(planted, [[3, 4]], against=[])[0])


def reach_ratio(*arguments, **options):
    sent, matched = reach(*arguments, **options)
    return sent / matched


def test_planted_reach():
    planted = np.ones((2, 12, 12))
    planted[1, :, 5] = 4.0  # word 5 sends four times as much, in layer 1
    word = np.arange(12) == 5
    ratio = reach_ratio(planted, word)
    assert ratio == pytest.approx([1, 4])  # what it is compared with is all others, without it
    assert reach_ratio(planted, ~word)[1] == pytest.approx(1 / 4)
    assert np.isnan(reach_ratio(planted, np.ones(12, dtype=bool))).all()  # there is no other
    loud = planted.copy()
    loud[1, :, 8] = 4.0  # another of the kind does not make the first one quieter
    assert reach_ratio(loud, word | (np.arange(12) == 8))[1] == pytest.approx(4)
    planted[1, 6:, 5] = 1.0  # now only what comes before it hears it
    assert reach_ratio(planted, word)[1] > 1.5
    assert reach_ratio(planted, word, later=True)[1] == pytest.approx(1)


def test_reach_is_matched_for_distance():
    fading = np.exp(
        -gaps(15) / 1.5
    )  # neighbours hear most, so a word at the end reaches little on the whole
    for place in (0, 7, 14):
        assert reach_ratio(fading, np.arange(15) == place) == pytest.approx(1)
    assert reach_ratio(fading, np.arange(15) == 13, later=True) == pytest.approx(1)
    assert np.isnan(reach_ratio(fading, np.arange(15) == 14, later=True))  # nothing comes after it
    assert np.isnan(reach_ratio(fading, np.zeros(15, dtype=bool)))


def test_reach_of_a_special_token_is_that_on_words():
    words = np.pad(np.ones(8, dtype=bool), 1)
    matrix = np.ones((10, 10))
    matrix[1:-1, 0] = 6.0  # the first token reaches every word
    matrix[0, :] = matrix[-1, :] = 50.0  # what it hears does not matter
    assert reach_ratio(matrix, np.arange(10) == 0, words=words) == pytest.approx(6)
    assert reach_ratio(matrix, np.arange(10) == 9, words=words) == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_null_is_one(seed):
    maps = random_maps(seed)
    assert covers_one([locality(m, [1, 2, 3, 4, 5]) for m in maps]).mean() >= 0.7
    assert covers_one([mean_distance(m) for m in maps]).all()
    within, matched = zip(*(span_influence(m, [[2, 3, 4], [6, 7]]) for m in maps), strict=True)
    _, low, high = interval(within, over=matched, confidence=0.99)
    assert ((low <= 1) & (high >= 1)).all()
    rng = np.random.default_rng(seed)
    for later in (False, True):  # three words anywhere
        pairs = [reach(m, rng.permutation(m.shape[-1]) < 3, later=later) for m in maps]
        sent, matched = zip(*pairs, strict=True)
        _, low, high = interval(sent, over=matched, confidence=0.999)
        assert ((low <= 1) & (high >= 1)).all()
    pairs = [span_influence(m, [[2, 3]], against=[[5, 6, 7]]) for m in maps]
    within, matched = zip(*pairs, strict=True)
    _, low, high = interval(within, over=matched, confidence=0.99)
    assert ((low <= 1) & (high >= 1)).all()


def test_the_span_statistic_is_not_biased():
    """Many nulls: the mean of the estimates is 1 within 2 %, where the mean of ratios would be 8 % above."""
    estimates, ratios = [], []
    for seed in range(100):
        pairs = [span_influence(m, [[2, 3, 4], [6, 7]]) for m in random_maps(seed)]
        within, matched = map(np.array, zip(*pairs, strict=True))
        estimates.append(within.mean(0) / matched.mean(0))
        ratios.append((within / matched).mean(0))
    assert np.mean(estimates) == pytest.approx(1, abs=0.02) and np.mean(ratios) > 1.05


def test_reach_is_not_biased():
    estimates = []
    for seed in range(50):
        rng, pairs = np.random.default_rng(seed), []
        for m in random_maps(seed):
            pairs.append(
                [reach(m, rng.permutation(m.shape[-1]) < 3, later=later) for later in (False, True)]
            )
        sent, matched = np.nanmean(pairs, 0).swapaxes(0, 1)  # [later, layer] each
        estimates.append(sent / matched)
    assert np.mean(estimates, 0) == pytest.approx(np.ones((2, 2)), abs=0.02)


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [
        low <= 0 <= high
        for _, low, high in (interval(rng.normal(size=40), seed=i) for i in range(200))
    ]
    assert 0.89 <= np.mean(hits) <= 0.98


def test_a_family_of_intervals_covers_together():
    rng = np.random.default_rng(1)
    alone, together = [], []
    for seed in range(40):
        values = rng.normal(size=(120, 12))
        for found, comparisons in ((alone, 1), (together, 12)):
            _, low, high = interval(values, comparisons=comparisons, seed=seed)
            found.append(((low <= 0) & (high >= 0)).all())
    assert np.mean(alone) < 0.75 < 0.85 <= np.mean(together)


def test_interval_leaves_nans_out_and_wants_two_sentences():
    values = np.array([[1.0, np.nan], [3.0, 4.0], [2.0, 4.0]] * 5)
    mean, low, high = interval(values)
    assert mean.tolist() == [2, 4] and low[1] == high[1] == 4
    doubled = interval(2 * values, over=values)
    assert all(np.allclose(part, 2) for part in doubled)
    with pytest.raises(ValueError, match="at least 2 sentences to resample, got 1"):
        interval(np.array([1.0]))


def test_results_and_their_file(tmp_path):
    rng = np.random.default_rng(0)
    one, few = rng.normal(1, 0.1, size=(10, 3)), np.full((10, 3), np.nan)
    few[0] = 2.0
    rows = results(
        "tiny", "ours", "made up", {"one": one, "pair": np.stack([2 * one, one], 1), "few": few}
    )
    assert rows.groupby("kind")["n"].first().to_dict() == {"one": 10, "pair": 10, "few": 1}
    mean, low, high = interval(one)
    assert np.allclose(
        rows[rows.kind == "one"][["mean", "low", "high"]], np.stack([mean, low, high], 1)
    )
    assert np.allclose(rows[rows.kind == "pair"][["mean", "low", "high"]], 2)
    assert rows[rows.kind == "few"][["low", "high"]].isna().all().all() and rows.depth.tolist()[
        :3
    ] == [1 / 3, 2 / 3, 1]
    assert (
        results("tiny", "ours", "made up", {"one": one[:1]})["mean"].notna().all()
    )  # one sentence: a mean, no limits

    file = tmp_path / "findings.csv"
    replace_results(file, rows)
    other = replace_results(file, rows.assign(model="other"))
    again = replace_results(file, rows.assign(mean=7.0).head(2))
    assert (
        len(other) == 18 and len(again) == 11 and (again[again.model == "tiny"]["mean"] == 7).all()
    )
    assert again[again.model == "other"].equals(
        other[other.model == "other"].reset_index(drop=True).set_axis(range(9))
    )
    assert (
        pd.read_csv(file).equals(again)
        and not again.duplicated(["model", "text", "statistic", "kind", "layer"]).any()
    )


def test_the_statistics_of_a_text(minilm):
    """What is planted in maps of tokens is found at the kind, the distance and the names it was planted in."""
    lines = [
        "The cat met [Ada Lovelace|person], who lived near deep blue water.",
        "It was [Anna Maria Jones|person].",
    ]
    chosen = [mark_sentence(line, minilm[1]) for line in lines]
    maps = [
        np.ones((3, len(words.sentence.tokens), len(words.sentence.tokens))) for words in chosen
    ]
    for statistic in (
        by_kind(maps, chosen),
        by_kind(maps, chosen, later=True),
        in_names(maps, chosen),
    ):
        for pairs in statistic.values():
            sent, matched = np.array(pairs).swapaxes(0, 1)
            assert np.allclose((sent / matched)[~np.isnan(sent)], 1)
    assert np.allclose(
        by_distance(maps, chosen, [1, 2])["distance 1"][1], 1
    )  # each of its words is one piece

    comma = chosen[0].tokens[chosen[0].words.index(",")][0]
    maps[0][2, :, comma] = 3.0
    sent, matched = by_kind(maps, chosen)["comma"][0]
    assert np.allclose(sent / matched, [1, 1, 3])
    assert np.isnan(by_kind(maps, chosen)["comma"][1]).all()  # the other sentence has none
    maps[0][2, :, comma] = 1.0
    for words, values in zip(chosen, maps, strict=True):
        pieces = [position for word in words.spans[0] for position in words.tokens[word]]
        values[np.ix_([1], pieces, pieces)] = 4.0
    found = {
        kind: [pair[0] / pair[1] for pair in pairs]
        for kind, pairs in in_names(maps, chosen).items()
    }
    assert np.allclose(found["names"], [[1, 4, 1]] * 2) and np.allclose(
        found["names: person"], found["names"]
    )
    assert (
        np.allclose(found["names over phrases"][0], [1, 4, 1])
        and np.isnan(found["names over phrases"][1]).all()
    )
    assert np.allclose(found["phrases"][0], 1)


def test_noun_compounds_are_the_stricter_control(tmp_path, minilm):
    """Names that are planted as strong as compounds are above phrases, and not above compounds."""
    words = {"Ada": "PROPN", "Jones": "PROPN", "saw": "VERB", "the": "DET", "bus": "NOUN"}
    words |= {"stop": "NOUN", "and": "CCONJ", "ran": "VERB", "fast": "ADV"}
    rows = [f"{n}\t{w}\t_\t{pos}" + "\t_" * 6 for n, (w, pos) in enumerate(words.items(), 1)]
    file = tmp_path / "text.conllu"
    head = ["# sent_id = 1", f"# text = {' '.join(words)}"]
    file.write_text("\n".join([*head, *rows]) + "\n\n")
    tags = ["B-PER", "I-PER", *["O"] * 7]
    rows = [f"{n}\t{w}\t{tag}" for n, (w, tag) in enumerate(zip(words, tags, strict=True), 1)]
    file.with_suffix(".iob2").write_text("\n".join(["# sent_id = 1", *rows]) + "\n\n")
    (marked,) = read_sentences(file, minilm[1])
    assert marked.spans == [[0, 1]] and marked.phrases() == [[4, 5], [7, 8]]
    assert marked.phrases(nouns=True) == [[4, 5]]
    seq = len(marked.sentence.tokens)
    values = np.ones((1, seq, seq))
    for span in ([0, 1], [4, 5]):
        pieces = [position for word in span for position in marked.tokens[word]]
        values[np.ix_([0], pieces, pieces)] = 3.0
    found = in_names([values], [marked])
    ratio = {kind: sent[0] / matched[0] for kind, [(sent, matched)] in found.items()}
    assert ratio["names over phrases"] == pytest.approx(1.5)  # 3 over the mean of 3 and 1
    assert ratio["names over noun compounds"] == pytest.approx(1)
    assert ratio["noun compounds"] == pytest.approx(3)
    plain = mark_sentence("[Ada Jones|person] saw the bus stop.", minilm[1])
    assert plain.phrases(nouns=True) == []  # nobody told which words are nouns


def test_what_a_text_does_not_tell_is_unknown(minilm):
    """Not the numbers of something else: which words are function words in a list that is English."""
    chosen = [
        mark_sentence(line, minilm[1]) for line in ("他住[上海|place]。", "她爱[北京|place]。")
    ]
    maps = [np.ones((3, len(words.tokens) + 2, len(words.tokens) + 2)) for words in chosen]
    rows = results("tiny", "Chinese", "reach", by_kind(maps, chosen))
    rows = pd.concat([rows, results("tiny", "Chinese", "names", in_names(maps, chosen))])
    unknown = ["content word", "function word", "names, content words", "names over phrases"]
    counts = rows.groupby("kind")["n"].first()
    assert (counts[[*unknown, "phrases", "comma"]] == 0).all()
    assert (counts[["full stop at the end", "[CLS]", "names", "names: place"]] == 2).all()
    assert rows[rows.kind.isin(unknown)]["mean"].isna().all()


def test_the_sentence_file_is_what_it_says(minilm):
    sentences = read_sentences(SENTENCES, minilm[1])
    assert len(sentences) >= 120 and sum(len(s.spans) for s in sentences) >= 150
    assert {s.register for s in sentences} == {
        "news",
        "dialogue",
        "instruction",
        "science",
        "fiction",
    }
    assert {kind for s in sentences for kind in s.types} == {
        "person",
        "place",
        "organisation",
        "work",
        "date",
    }
    assert all(8 <= len(s.sentence.tokens) <= 30 for s in sentences)
    assert all(1 <= len(span) <= 5 for s in sentences for span in s.spans)
    assert all(s.punctuation[:-1].any() for s in sentences if s.sentence.tokens.count(",") > 0)
    assert len({tuple(s.words) for s in sentences}) == len(sentences)


def test_words_and_spans(minilm):
    marked = mark_sentence("Emmy-[Noether, unbelievably|person], [won|work].", minilm[1])
    assert marked.words == ["Emmy", "-", "Noether", ",", "unbelievably", ",", "won", "."]
    assert marked.spans == [[2, 3, 4], [6]] and marked.types == ["person", "work"]
    assert marked.punctuation.tolist() == [False, True, False, True, False, True, False, True]
    seq = len(marked.sentence.tokens)
    values = np.arange(seq**2, dtype=float).reshape(seq, seq)
    block = values[np.ix_(marked.tokens[2], marked.tokens[4])]
    assert len(marked.tokens[2]) > 1 and marked.matrix(values)[2, 4] == block.sum()
    assert marked.matrix(values, mean=True)[2, 4] == pytest.approx(block.mean())


def test_a_bracket_without_a_type(minilm, tmp_path):
    file = tmp_path / "sentences.txt"
    file.write_text("## news\nThe [Royal Society] met.\n")
    with pytest.raises(
        ValueError, match=r"marked as \[words\|type\], got 'The \[Royal Society\] met.'"
    ):
        read_sentences(file, minilm[1])
    with pytest.raises(
        ValueError, match=r"marked as \[words\|type\], got 'The \[Royal Society\] met.'"
    ):
        mark_sentence("The [Royal Society] met.", minilm[1])


def test_distances_that_a_sentence_does_not_have_are_unknown():
    """NaN, which `interval` leaves out; a 0 would count as no influence."""
    shares = locality(np.ones((2, 4, 4)), [1, 3, 4, 9])
    assert (
        np.allclose(shares[:, :2], 1) and np.isnan(shares[:, 2:]).all() and shares.shape == (2, 4)
    )
    with np.errstate(all="raise"):
        alone = np.ones((1, 1))
        assert (
            np.isnan(locality(alone, [1])).all()
            and np.isnan(mean_distance(alone))
            and np.isnan(outflow(alone)).all()
        )


def test_within_and_matched_are_in_units_of_the_mean_pair():
    """Not only their ratio: sums over many pairs would weigh long spans more in `interval(within, over=matched)`."""
    planted = np.ones((10, 10))
    planted[np.ix_([1, 2, 3], [1, 2, 3])] = 3.0
    off = planted[gaps(10) > 0].mean()
    for spans in ([[1, 2]], [[1, 2, 3]], [[1, 2, 3], [6, 7]]):
        pairs = sum(len(span) * (len(span) - 1) for span in spans)
        inside = sum(planted[i, j] for span in spans for i in span for j in span if i != j) / pairs
        within, matched = span_influence(planted, spans)
        assert within == pytest.approx(inside / off) and matched == pytest.approx(1 / off, rel=0.35)


def test_lists_and_tensors_are_as_good_as_arrays():
    matrix = np.random.default_rng(0).random((6, 6))
    tensor = torch.tensor(matrix, requires_grad=True)
    for statistic in (
        mean_distance,
        outflow,
        lambda m: locality(m, (1, 2)),
        lambda m: span_influence(m, [(1, 2)]),
    ):
        expected = statistic(matrix)
        for same in (matrix.tolist(), tensor):
            assert np.allclose(statistic(same), expected)
        assert np.allclose(statistic(tensor.bfloat16()), expected, rtol=0.02)
    assert np.allclose(interval(tensor), interval(matrix))
    allowed = [1, 1, 1, 0, 1, 1]
    assert np.allclose(
        span_influence(matrix, [[1, 2]], allowed),
        span_influence(matrix, [[1, 2]], np.array(allowed) > 0),
    )
