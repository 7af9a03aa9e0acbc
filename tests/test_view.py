"""What `view` puts into its page, without a browser: numbers, words, escaping, refusals."""

import base64
import html
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_bert

from helpers import (
    Influence,
    downstream_influence,
    encode,
    layer_influence,
    layer_stack,
    save_page,
    view,
)
from helpers.interactive import align

RNG = np.random.default_rng(0)


def quiet(steps, desc):
    return steps


@pytest.fixture(scope="module")
def model():
    return tiny_bert(vocab_size=30522, max_position_embeddings=128)


@pytest.fixture(scope="module")
def hello(minilm):
    return encode(minilm[1], "Hello world, hello word.")


@pytest.fixture(scope="module")
def influence(model, hello):
    return layer_influence(model, hello, progress=quiet)


def state_of(page):
    return json.loads(re.search(r'id="state">(.*?)</script>', page, re.S)[1])


def decoded(text, shape):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape)


def test_the_numbers_in_the_page_are_pythons(model, hello, influence):
    stack = layer_stack(model, hello)
    jacobians = [stack.jacobian(number) for number in range(2)]
    paths, heads = [J.paths() for J in jacobians], [J.heads() for J in jacobians]
    through = downstream_influence(model, hello, samples=4, progress=quiet)
    state = state_of(view(influence, paths=paths, heads=heads, through=through).page)
    shape = influence.values.shape
    assert np.array_equal(decoded(state["data"]["values"], shape), influence.values)
    assert np.array_equal(decoded(state["through"]["values"], shape[1:]), through.values[-1])
    assert np.array_equal(decoded(state["through"]["stderr"], shape[1:]), through.stderr[-1])
    for number in range(2):
        found = state["why"]["layers"][str(number)]
        assert found["count"] == 2 and np.array_equal(
            decoded(found["heads"], (2, *shape[1:])), heads[number]
        )
        for name, part in paths[number].items():
            assert np.array_equal(decoded(found["paths"][name], shape[1:]), part)


def test_only_chosen_columns_and_rows_stand_at_their_places(model, hello):
    some = layer_influence(model, hello, sources=[2, 5], progress=quiet)
    state = view(some).state
    values = decoded(state["data"]["values"], (2, 8, 8))
    assert np.array_equal(values[:, :, [2, 5]], some.values)
    assert np.isnan(np.delete(values, [2, 5], axis=2)).all()
    assert state["selected"][2] == 2, "the first word that was measured is selected"
    some.values[0].numpy()  # the influence itself is as it was
    assert list(some.values.shape) == [2, 8, 2]


HARD = [
    "[CLS]",
    "</script><script>alert(1)</script>",
    "<!--",
    "'\"&",
    "注意力",
    "😀",
    "$js",
    "\\u003c",
    "[SEP]",
]


def test_whatever_the_tokens_hold_the_page_is_whole():
    shown = view(np.ones((2, 9, 9)), HARD, title="</title><b>")
    page = shown.page
    assert page.count("</script>") == 2 and page.count("<script") == 2 and "<b>" not in page
    state = state_of(page)
    assert state["data"]["tokens"] == HARD
    srcdoc = re.search(r'srcdoc="([^"]*)"', shown._repr_html_())[1]
    assert html.unescape(srcdoc) == page and "<" not in srcdoc


def test_a_page_of_twelve_layers_is_small_and_asks_for_nothing(tmp_path):
    paths = [
        {name: np.ones((13, 13)) for name in ("residual", "value", "key", "query", "interference")}
    ] * 12
    shown = view(
        RNG.random((12, 13, 13)), ["word"] * 13, paths=paths, heads=RNG.random((12, 12, 13, 13))
    )
    page = save_page(shown, tmp_path / "page.html").read_text("utf-8")
    assert len(page.encode()) < 300_000
    code = page.replace(re.search(r'id="state">.*?</script>', page, re.S)[0], "")
    assert set(re.findall(r"\w+://[^\s\"']*", code)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href|@import|import)\s*[=(]?\s*[\"']", page), "nothing is loaded"


def test_an_influence_shows_itself(influence):
    assert influence.view(layer=1).state == view(influence, layer=1).state


def test_an_influence_is_saved_at_once(influence, tmp_path):
    page = save_page(influence, tmp_path / "a.html").read_text("utf-8")
    assert state_of(page)["data"]["layers"] == ["layer 0", "layer 1"]


def test_first_selection(influence):
    values = np.zeros((2, 4, 4))
    values[1, 2, 1], values[1, 1, 1] = 3, 9
    tokens = ["[CLS]", "a", "b", "[SEP]"]
    assert view(values, tokens, layer=1).state["selected"] == [1, 2, 1], "not the own position"
    assert view(values, tokens, layer=1, source=3, target=0).state["selected"] == [1, 0, 3]
    assert view(np.ones((1, 1, 1)), ["a"]).state["selected"] == [0, 0, 0]
    assert view(influence, through=influence, layer="all").state["selected"][0] == "all"


def test_a_selection_by_numpys_numbers_can_be_written_down():
    shown = view(np.ones((2, 3, 3)), ["a", "b", "c"], layer=np.int64(1), source=np.int64(2))
    assert state_of(shown.page)["selected"] == [1, 0, 2]


def test_receives_begins_at_the_first_word_too():
    values = np.zeros((1, 4, 4))
    values[0, 1] = 0, 9, 5, 7
    values[0, 2, 1] = 8
    tokens = ["[CLS]", "a", "b", "[SEP]"]
    assert view(values, tokens, direction="receives").state["selected"] == [0, 1, 3]
    assert view(values, tokens, direction="receives", target=2).state["selected"] == [0, 2, 1]
    assert view(values, tokens).state["selected"] == [0, 2, 1]


def test_more_layers_stand_beside_fewer_at_the_same_depth():
    three, six = (np.arange(1, n + 1).reshape(n, 1, 1) * np.ones((n, 2, 2), "f") for n in (3, 6))
    tokens, places = ["a", "b"], [0, 1]

    def of(values):
        names = [f"layer.{n}" for n in range(len(values))]
        return Influence(torch.tensor(values), None, names, places, places, tokens)

    for first, second, expected in ((six, three, [1, 1, 2, 2, 3, 3]), (three, six, [2, 4, 6])):
        found = view(of(first), second=of(second), names=("large", "small")).state["second"]
        values = decoded(found["values"], first.shape)
        assert values[:, 0, 1].tolist() == expected
        assert f"its {len(second)} layers stand at the same depth" in found["note"]
        assert found["names"] == ["large", "small"]


def test_every_token_of_both_has_its_column(model, minilm, influence):
    other = layer_influence(model, encode(minilm[1], "Hello green world."), progress=quiet)
    found = view(influence, second=other).state["second"]
    first = [a for a, _ in found["columns"] if a is not None]
    second = [b for _, b in found["columns"] if b is not None]
    assert first == list(range(8)) and second == list(range(len(other.tokens)))
    assert found["tokens"] == other.tokens


def test_an_array_says_what_it_is():
    data = view(A, ["a"], label="attention", layers=["early"]).state["data"]
    assert data["label"] == "attention" and data["layers"] == ["early"] and data["how"] == {}


def test_attentions_are_shown_as_their_mean_over_heads():
    tokens = ["a", "b", "c"]
    each = [torch.rand(1, 4, 3, 3) for _ in range(2)]
    expected = torch.stack(each)[:, 0].mean(1)
    for given in (tuple(each), torch.stack(each), torch.stack(each)[:, 0].numpy()):
        data = view(given, tokens).state["data"]
        assert np.allclose(decoded(data["values"], (2, 3, 3)), expected)
        assert data["label"] == "attention (mean over heads)"
    assert view(each, tokens, label="rollout").state["data"]["label"] == "rollout (mean over heads)"
    assert view(list(expected), tokens).state["data"]["label"] == "", "no axis of heads"


def test_the_call_of_an_array_brings_it_back():
    influence, tokens, layers = torch.rand(2, 4, 2, 2), ["a", "b"], ["early", "late"]
    shown = view(influence, tokens, layers=layers, label="rollout", title="It's one")
    names = {"view": view, "influence": influence, "tokens": tokens, "layers": layers}
    assert eval(shown.state["data"]["call"] + ")", names).state == shown.state


def test_the_second_text_of_a_pair_is_known(minilm):
    def apart(*texts):
        tokens = encode(minilm[1], *texts).tokens
        return [
            tokens[i] for i in view(np.ones((1, *[len(tokens)] * 2)), tokens).state["data"]["apart"]
        ]

    assert apart("Where do they live?", "They live in Rome.") == ["they"]
    assert apart("Where do they live?") == apart("She went [MASK] home.") == []
    tokens = ["<s>", "Who", "?", "</s>", "</s>", "I", "</s>"]
    assert view(np.ones((1, 7, 7)), tokens).state["data"]["apart"] == [5]


def test_words_are_joined_from_their_pieces():
    def words(*tokens):
        return view(np.ones((1, len(tokens), len(tokens))), tokens).state["data"]["words"]

    assert words("[CLS]", "token", "##ization", "##s", ".", "[SEP]") == [
        ("[CLS]", [0]),
        ("tokenizations", [1, 2, 3]),
        (".", [4]),
        ("[SEP]", [5]),
    ]
    assert words("<s>", "To", "ken", "Ġof", "Ġword", "s", ".", "</s>") == [
        ("<s>", [0]),
        ("Token", [1, 2]),
        ("of", [3]),
        ("words", [4, 5]),
        (".", [6]),
        ("</s>", [7]),
    ]


def test_a_second_sentence_stands_at_the_places_of_its_equal_words(model, minilm, influence):
    other = encode(minilm[1], "Hello green world, hello moon.")
    second = layer_influence(model, other, progress=quiet)
    found = view(influence, second=second).state["second"]
    values = decoded(found["values"], (2, 8, 8))
    assert np.array_equal(values[:, 2, 4], second.values[:, 3, 5])  # world <- hello (the second)
    assert np.array_equal(values[:, 5, 1], second.values[:, 6, 1])  # word / moon <- hello
    assert "'word' / 'moon'" in found["note"]


def test_identical_and_unrelated_inputs_are_said_to_be_so(model, minilm, influence):
    assert "the same: every ratio is 1" in view(influence, second=influence).state["second"]["note"]
    unrelated = layer_influence(model, encode(minilm[1], "Cats, dogs."), progress=quiet)
    found = view(influence, second=unrelated).state["second"]
    assert "shares no word" in found["note"] and "values" not in found
    other_model = layer_influence(
        tiny_bert(vocab_size=30522, intermediate_size=8), minilm_hello(minilm), progress=quiet
    )
    assert (
        "the same sentence, with other numbers"
        in view(influence, second=other_model).state["second"]["note"]
    )


def minilm_hello(minilm):
    return encode(minilm[1], "Hello world, hello word.")


A, AB = np.ones((1, 1, 1)), ["a", "b"]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda i: view(A), "expected the tokens beside an array"),
        (lambda i: view(A, AB), r"of \[1, 2, 2\], got \[1, 1, 1\]"),
        (lambda i: view(-A, ["a"]), "not negative"),
        (lambda i: view(A * np.inf, ["a"]), "finite"),
        (lambda i: view(np.ones((2, 3, 4, 1, 1)), ["a"]), r"of \[2, 1, 1\], got \[2, 3, 4, 1, 1\]"),
        (lambda i: view((), ["a"]), "layers of one shape, got .*eager"),
        (lambda i: view((None, None), ["a"]), "layers of one shape, got .*eager"),
        (lambda i: view([A[0], np.ones((2, 2))], ["a"]), r"one shape, got \[\[1, 1\], \[2, 2\]\]"),
        (lambda i: view(np.ones((1, 513, 513)), ["a"] * 513), "513 tokens; .* labels 1 to 512"),
        (lambda i: view(i, layer=7), "expected a layer from 0 to 1, got 7"),
        (lambda i: view(i, layer=-1), "expected a layer from 0 to 1, got -1"),
        (lambda i: view(i, layer=True), "a layer, a whole number from 0 to 1, got True"),
        (lambda i: view(i, source=True), "a position of the sentence, .* 0 to 7, got True"),
        (lambda i: view(i, target=1.0), "a position of the sentence, .* 0 to 7, got 1.0"),
        (lambda i: view(i, layer="all"), "'all' needs `through`"),
        (lambda i: view(i, source=8), "0 to 7, got 8"),
        (lambda i: view(i, target=-1), "0 to 7, got -1"),
        (lambda i: view(i, direction="up"), "direction=.up"),
        (lambda i: view(i, heads=np.ones((3, 2, 8, 8))), "a member for each of 2 layers"),
        (lambda i: view(i, layers=["one"]), "a member for each of 2 layers"),
    ],
)
def test_refusals(influence, call, told):
    with pytest.raises(ValueError, match=told):
        call(influence)


def test_alignment_uses_every_token_at_most_once_in_order():
    for _ in range(200):
        first, second = (RNG.choice(list("abc"), RNG.integers(9)).tolist() for _ in range(2))
        pairs = align(first, second)
        assert list(pairs) == sorted(pairs) and list(pairs.values()) == sorted(set(pairs.values()))
    assert align(first, first) == {i: i for i in range(len(first))}


def test_an_installed_package_has_the_files_of_the_view():
    """Every file in helpers that is not Python is named as package data."""
    root = Path(__file__).parents[1]
    data = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"][
        "package-data"
    ]["helpers"]
    assert sorted(data) == sorted(
        p.name for p in (root / "helpers").iterdir() if p.suffix not in (".py", "")
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"heads": [np.ones((1, 2, 2, 2))]},
            r"heads of a layer to be \[1, 2, 2\], got \[1, 2, 2, 2\]",
        ),
        ({"heads": [np.ones((4, 1, 2))]}, r"heads of a layer to be \[4, 2, 2\], got \[4, 1, 2\]"),
        ({"paths": [{"key": np.ones((3, 3))}]}, r"the path 'key' to be \[2, 2\], got \[3, 3\]"),
    ],
)
def test_reasons_of_another_shape_are_refused(options, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        view(np.ones((1, 2, 2)), ["a", "b"], **options)


def test_all_layers_of_another_sentence_are_refused(minilm, sentence):
    one = layer_influence(minilm[0], sentence, layers=[0])
    other = layer_influence(minilm[0], encode(minilm[1], "Another sentence."), layers=[0])
    with pytest.raises(ValueError, match="expected `through` of the same sentence, got"):
        view(one, through=other)


def test_a_layer_without_attention_is_not_skipped():
    with pytest.raises(ValueError, match=r"layers of one shape, got \[\[1, 2, 2\], None\]"):
        view((np.ones((1, 2, 2)), None), ["a", "b"])
