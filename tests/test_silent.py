"""What once gave a wrong number or a wrong word without a message: right now, or refused with the cause."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_bert
from torch import nn

from helpers import (
    Influence,
    downstream_influence,
    edit,
    encode,
    layer_influence,
    layer_stack,
    measure,
    noise_response,
    upstream_influence,
)
from helpers.text import joined

IDS = {"input_ids": torch.tensor([[2, 7, 11, 5]])}
LAYERS = "encoder.layer.*"


@pytest.mark.parametrize(
    ("text", "word", "letters"),
    [
        ("나는 학교 근처 한국 식당에 갔다.", "한국", "한국"),  # no syllable is its first consonant
        ("가방 강변 기분", "기분", "기분"),
        ("Wait… what happened.", ".", "."),
        ("Coca-Cola™ doesn't", "t", "t"),
        ("很好，是吗, yes", ",", ","),
        ("½ cup and 1 egg", "1", "1"),
        ("A Café, a café.", "cafe", "Café"),
        ("ΟΔΟΣ και οδος", "οδος", "ΟΔΟΣ"),
    ],
)
def test_a_word_is_not_found_in_what_only_looks_like_it(minilm, text, word, letters):
    sentence = encode(minilm[1], text)
    at = sentence.positions(word)
    start = min(sentence.places[place][0] for place in at)
    assert text[start : max(sentence.places[place][1] for place in at)] == letters
    assert start == text.index(letters)


def test_what_is_not_in_the_text_is_not_found(minilm):
    with pytest.raises(ValueError, match="got '하구'"):
        encode(minilm[1], "나는 학교 근처에 갔다.").position("하구")


def test_a_letter_is_no_mark_of_a_tokenizer():
    maltese = ["the", "man", "saw", "Ġorġ", "in", "the", "Ġgantija"]
    assert [word for word, _ in joined(maltese)] == [
        "the",
        "man",
        "saw",
        "Ġorġ",
        "in",
        "the",
        "Ġgantija",
    ]
    assert [word for word, _ in joined(["The", "Ġman", "Ġs", "aw"], raw=True)] == [
        "The",
        "man",
        "saw",
    ]


def first_row_only(hidden):
    hidden = hidden.clone()
    hidden[0, 3] = 0
    return hidden


def test_a_hook_that_changes_one_row_is_refused():
    """It is written for one sentence, and would change the clean row alone, beside the noisy ones."""
    model = tiny_bert()
    message = "the same state for two equal rows"
    with edit(model, {"encoder.layer.0": first_row_only}):
        with pytest.raises(ValueError, match=message):
            noise_response(model, IDS, position=2, observe="encoder.layer.1")
        with pytest.raises(ValueError, match=message):
            downstream_influence(model, IDS, method="noise", samples=3)
    every_row = {"encoder.layer.0": lambda hidden: hidden.index_fill(1, torch.tensor([3]), 0.0)}
    with edit(model, every_row):
        noise_response(model, IDS, position=2, observe="encoder.layer.1", samples=3)


def test_a_weight_that_is_no_number_is_refused():
    model = tiny_bert()
    model.encoder.layer[1].output.dense.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="a weight that is NaN"):
        noise_response(model, IDS, position=2, observe=LAYERS)


@pytest.mark.parametrize("sigma", [1e-30, 1e-9])
def test_noise_below_rounding_is_refused(sigma):
    with pytest.raises(ValueError, match="expected noise that changes the state, got none"):
        noise_response(tiny_bert(), IDS, position=2, observe=LAYERS, sigma=sigma)


def several_layers(output):
    return output.hidden_states[1].mean(1) + output.last_hidden_state.mean(1)


def test_a_function_of_earlier_layers_goes_backwards_with_an_error():
    model = tiny_bert(torch.float64, output_hidden_states=True)
    with pytest.raises(ValueError, match="one that reads earlier ones too; downstream_influence"):
        upstream_influence(model, IDS, observe=several_layers, method="exact")
    with pytest.raises(ValueError, match="one that reads earlier ones too"):
        upstream_influence(model, IDS, observe=lambda out: out.hidden_states[1].mean(1))
    options = {"method": "noise", "sigma": 1e-5, "samples": 4000}
    found = downstream_influence(model, IDS, observe=several_layers, **options)
    start = model.embeddings(**IDS)

    def answer(state):
        with edit(model, {"embeddings": lambda _: state}):
            return several_layers(model(**IDS))[0]

    J = torch.autograd.functional.jacobian(answer, start)[:, 0]  # [number, source, hidden]
    assert torch.allclose(found.values[0, 0], J.square().sum((0, 2)), rtol=0.15)


@pytest.mark.parametrize(
    "activation",
    [
        nn.Softmax(-1),
        nn.Sequential(nn.GELU(), nn.LayerNorm(16)),
        nn.Sequential(nn.GELU(), nn.Linear(16, 16)),
    ],
)
def test_an_activation_in_which_numbers_meet_is_refused(activation):
    model = tiny_bert()
    model.encoder.layer[0].intermediate.intermediate_act_fn = activation
    with pytest.raises(ValueError, match="an activation of each number by itself"):
        layer_influence(model, IDS)


def test_an_activation_that_works_in_place():
    model = tiny_bert()
    values = []
    for activation in (nn.ReLU(), nn.ReLU(inplace=True)):
        model.encoder.layer[0].intermediate.intermediate_act_fn = activation
        values.append(layer_influence(model, IDS).values)
    assert torch.equal(*values)


@pytest.mark.parametrize("method", ["exact", "jvp", "noise"])
@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (torch.ones(8, 8).triu(), "symmetric and without negative variances"),
        (-torch.eye(8), "symmetric and without negative variances"),
        (torch.full((8,), torch.nan), "finite and not 0"),
        (torch.zeros(8), "finite and not 0"),
        ([1.0, 2.0], r"or a direction \[hidden\], got \[2\]"),
    ],
)
def test_a_covariance_is_one_in_every_method(method, covariance, message):
    with pytest.raises(ValueError, match=message):
        layer_influence(tiny_bert(), IDS, method=method, covariance=covariance)


def test_a_direction_may_be_a_list_or_an_array():
    model, direction = tiny_bert(), torch.arange(8.0)
    expected = layer_influence(model, IDS, covariance=direction).values
    for given in (direction.tolist(), direction.numpy(), direction.int()):
        assert torch.equal(layer_influence(model, IDS, covariance=given).values, expected)


@pytest.mark.parametrize(
    ("observe", "got"),
    [
        (lambda out: out, "got .*BaseModelOutput"),
        (lambda out: None, "got .*NoneType"),
        (
            lambda out: out.last_hidden_state[0],
            r"got torch.float32 \[4, 8\]; keep the axis of rows",
        ),
        (lambda out: out.last_hidden_state.mean(), r"got torch.float32 \[\]"),
        (lambda out: out.last_hidden_state.argmax(-1), r"got torch.int64 \[2, 4\]"),
    ],
)
def test_a_function_gives_floats_for_each_row(observe, got):
    with pytest.raises(ValueError, match=f"expected what is observed to be floats .*{got}"):
        noise_response(tiny_bert(), IDS, position=1, observe=observe)


def test_rotary_positions_are_refused_however_small():
    from transformers import RoFormerConfig, RoFormerModel

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = RoFormerModel(RoFormerConfig(**sizes, intermediate_size=32, vocab_size=50)).eval()
    with pytest.raises(ValueError, match="rotates queries and keys"):
        layer_influence(model, IDS)


def test_a_folder_of_another_experiment_is_not_continued(minilm, tmp_path):
    model, tokenizer = minilm
    sentences = [encode(tokenizer, text) for text in ("One word.", "Another one.")]

    def pooled(sentence):
        return layer_influence(model, sentence, layers=[0]).words()

    paths = measure(pooled, sentences[:1], tmp_path)
    assert measure(pooled, sentences, tmp_path)[0] == paths[0]  # what is there is continued
    louder = [encode(tokenizer, "ONE WORD."), sentences[1]]
    with pytest.raises(
        ValueError, match="to have text 'ONE WORD.', got 'One word.'; choose another"
    ):
        measure(pooled, louder, tmp_path)
    with pytest.raises(ValueError, match="to have method 'noise', got 'exact'"):
        measure(lambda s: layer_influence(model, s, method="noise", samples=2), sentences, tmp_path)
    with pytest.raises(ValueError, match=r"to have values \[6, 5, 5\], got \[1, 5, 5\]"):
        measure(lambda s: layer_influence(model, s).words(), sentences, tmp_path)


def test_another_file_is_no_influence(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="expected a file written by Influence.save"):
        from helpers import load_influence

        load_influence(path)


def test_words_of_which_no_one_is_whole_are_refused():
    found = Influence(torch.ones(1, 1, 1), None, ["layer"], [0], [0], ["a", "##b"])
    with pytest.raises(ValueError, match="expected all pieces of a word"):
        found.words()


def test_numbers_of_numpy_are_saved(tmp_path):
    import numpy as np

    found = noise_response(
        tiny_bert(),
        IDS,
        position=np.int64(1),
        observe=LAYERS,
        samples=np.int64(2),
        sigma=np.float32(0.01),
        seed=np.int64(3),
    )
    assert isinstance(found.save(tmp_path / "a.safetensors"), Path)


def test_one_target_has_no_targets():
    with pytest.raises(ValueError, match="expected no targets, for 'pooler' is one, got"):
        upstream_influence(tiny_bert(), IDS, observe="pooler", targets=[3])


def test_a_stack_is_of_its_own_model():
    stack = layer_stack(tiny_bert(), IDS)
    with pytest.raises(ValueError, match="a stack of the same model, got that of another one"):
        layer_influence(tiny_bert(), stack)
    kept = downstream_influence(stack.model, stack, method="exact", inject="encoder.layer.0")
    fresh = downstream_influence(stack.model, IDS, method="exact", inject="encoder.layer.0")
    assert torch.equal(kept.values, fresh.values)
