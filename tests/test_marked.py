"""Annotated text in three formats gives the same words, names and parts of speech."""

import numpy as np
import pytest
import transformers
from transformers import CamembertTokenizer, CanineTokenizer, XLMRobertaTokenizer

from helpers.statistics import mark_sentence, read_sentences, shuffled

CONLLU = """\
# sent_id = a-1
# text = Don't ask Ada Lovelace, "she" left.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\t_\t_\t3\taux\t_\t_
2\tn't\tnot\tPART\t_\t_\t3\tadvmod\t_\t_
3\task\task\tVERB\t_\t_\t0\troot\t_\t_
4\tAda\tAda\tPROPN\t_\t_\t3\tobj\t_\t_
5\tLovelace\tLovelace\tPROPN\t_\t_\t4\tflat\t_\tSpaceAfter=No
6\t,\t,\tPUNCT\t_\t_\t3\tpunct\t_\t_
7\t"\t"\tPUNCT\t_\t_\t8\tpunct\t_\tSpaceAfter=No
8\tshe\tshe\tPRON\t_\t_\t9\tnsubj\t_\tSpaceAfter=No
9\t"\t"\tPUNCT\t_\t_\t8\tpunct\t_\t_
9.1\tquietly\tquietly\tADV\t_\t_\t_\t_\t10:advmod\t_
10\tleft\tleave\tVERB\t_\t_\t3\tparataxis\t_\tSpaceAfter=No
11\t.\t.\tPUNCT\t_\t_\t3\tpunct\t_\t_

# sent_id = a-2
# text = Prix du pain à Paris
1\tPrix\tprix\tNOUN\t_\t_\t0\troot\t_\t_
2-3\tdu\t_\t_\t_\t_\t_\t_\t_\t_
2\tde\tde\tADP\t_\t_\t4\tcase\t_\t_
3\tle\tle\tDET\t_\t_\t4\tdet\t_\t_
4\tpain\tpain\tNOUN\t_\t_\t1\tnmod\t_\t_
5\tà\tà\tADP\t_\t_\t6\tcase\t_\t_
6\tParis\tParis\tPROPN\t_\t_\t1\tnmod\t_\t_

"""
IOB2 = """\
# sent_id = a-2
# text = Prix du pain à Paris
1\tPrix\tO\t-\t-
2\tde\tO\t-\t-
3\tle\tO\t-\t-
4\tpain\tO\t-\t-
5\tà\tO\t-\t-
6\tParis\tB-LOC\t-\t-

# sent_id = a-1
# text = Do n't ask Ada Lovelace, "she" left.
1\tDo\tO\t-\t-
2\tn't\tO\t-\t-
3\task\tO\t-\t-
4\tAda\tB-PER\t-\t-
5\tLovelace\tI-PER\t-\t-
6\t,\tO\t-\t-
7\t"\tO\t-\t-
8\tshe\tI-PER\t-\t-
9\t"\tO\t-\t-
10\tleft\tO\t-\t-
11\t.\tO\t-\t-
"""


@pytest.fixture
def files(tmp_path):
    conllu, iob2 = tmp_path / "own.conllu", tmp_path / "own.iob2"
    conllu.write_text(CONLLU, encoding="utf-8")
    iob2.write_text(IOB2, encoding="utf-8")
    return conllu, iob2


def test_conllu_with_the_names_beside_it(files, minilm):
    first, second = read_sentences(files[0], minilm[1])
    assert first.words == [
        "Don",
        "'",
        "t",
        "ask",
        "Ada",
        "Lovelace",
        ",",
        '"',
        "she",
        '"',
        "left",
        ".",
    ]
    tags = [
        "AUX",
        "PART",
        "PART",
        "VERB",
        "PROPN",
        "PROPN",
        "PUNCT",
        "PUNCT",
        "PRON",
        "PUNCT",
        "VERB",
        "PUNCT",
    ]
    assert first.pos == tags
    assert (first.spans, first.types) == (
        [[4, 5], [8]],
        ["person", "person"],
    )  # an I- after O begins a name
    assert second.words == ["Prix", "du", "pain", "à", "Paris"]
    assert second.pos == [
        "NOUN",
        "ADP",
        "NOUN",
        "ADP",
        "PROPN",
    ]  # "du" is two words; the first one counts
    assert (second.spans, second.types) == ([[4]], ["place"])


def test_names_from_elsewhere_or_none(files, minilm, tmp_path):
    elsewhere = files[1].rename(tmp_path / "names.iob2")
    assert [s.spans for s in read_sentences(files[0], minilm[1])] == [[], []]
    assert read_sentences(files[0], minilm[1], names=elsewhere)[0].spans == [[4, 5], [8]]


def test_iob2_alone(files, minilm, monkeypatch):
    files[1].write_text(IOB2.replace("Prix du", "Prix de le"), encoding="utf-8")
    second, first = read_sentences(files[1], minilm[1])
    assert (
        first.words[:3] == ["Do", "n", "'"]
        and first.types == ["person", "person"]
        and first.pos is None
    )
    assert [first.words[word] for word in first.spans[0]] == [
        "Ada",
        "Lovelace",
    ] and second.types == ["place"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            1,
            "B-LOC",
            "LOC",
            r"number 3 with tags of names .*, got \['6', 'Paris', 'LOC', '-', '-'\] in own.iob2",
        ),
        (
            1,
            "4\tpain\tO\t-\t-",
            "4 pain O",
            r"own.conllu, line 19, sent_id a-2: .*, got \['4', 'pain', 'O'\] in own.iob2",
        ),
        (
            0,
            "6\tParis\tParis",
            "6\tLyon\tLyon",
            r"words of a sentence in its text, 'Lyon' is not in ' Paris'",
        ),
        (
            0,
            "3\task\task",
            "3 ask ask",
            r"own.conllu, line 3, sent_id a-1: expected CoNLL-U, .*, got \['3 ask ask'",
        ),
    ],
)
def test_annotation_that_does_not_fit(files, minilm, file, old, new, message):
    text = files[file].read_text(encoding="utf-8")
    assert old in text
    files[file].write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_sentences(files[0], minilm[1])


def kinds_of(marked):
    names = ["[CLS]", *marked.words, "[SEP]"]
    return {kind: [names[i] for i in np.flatnonzero(mask)] for kind, mask in marked.kinds().items()}


def test_kinds(files, minilm):
    expected = {
        "content word": ["ask", "Ada", "Lovelace", "left"],
        "function word": ["Don", "t", "she"],
        "comma": [","],
        "full stop inside": [],
        "full stop at the end": ["."],
        "quotation mark": ['"', '"'],
        "other mark": ["'"],
        "[CLS]": ["[CLS]"],
        "[SEP]": ["[SEP]"],
    }
    for marked in (
        read_sentences(files[0], minilm[1])[0],  # by part of speech
        mark_sentence(
            'Don\'t ask [Ada Lovelace|person], "[she|person]" left.', minilm[1]
        ),  # by the list, see below
    ):
        found = kinds_of(marked)
        assert found.pop("all words") == marked.words
        if not marked.pos:
            assert found["content word"].pop(0) == "Don"  # no word of the list
            found["function word"].insert(0, "Don")
        assert found == expected
        kinds = marked.kinds()
        assert (
            sum(kinds[kind].astype(int) for kind in expected) == 1
        ).all()  # each word is of one kind


def test_a_full_stop_before_a_closing_quotation_mark_is_at_the_end(minilm):
    found = kinds_of(mark_sentence('He said: "The U.S. won."', minilm[1]))
    assert found["full stop inside"] == [".", "."] and found["full stop at the end"] == ["."]
    assert kinds_of(mark_sentence("?!", minilm[1]))["content word"] == []


def test_phrases_are_runs_of_content_words_without_names(minilm):
    marked = mark_sentence(
        "The old grey cat saw [Ada Lovelace|person] near deep blue water, red house.", minilm[1]
    )
    assert [[marked.words[word] for word in run] for run in marked.phrases()] == [
        ["old", "grey", "cat", "saw"],
        ["near", "deep", "blue", "water"],
        ["red", "house"],
    ]
    assert mark_sentence("It was.", minilm[1]).phrases() == []


def test_words_with_the_special_tokens(minilm):
    marked = mark_sentence("[Noether|person] won.", minilm[1])
    seq = len(marked.sentence.tokens)
    values = np.random.default_rng(0).random((2, seq, seq))
    wide = marked.matrix(values, mean=True, special=True)
    assert wide.shape == (2, 5, 5) and np.allclose(
        wide[:, 1:-1, 1:-1], marked.matrix(values, mean=True)
    )
    assert np.allclose(wide[:, 0, -1], values[:, 0, -1]) and np.allclose(
        wide[:, -1, 0], values[:, -1, 0]
    )


def test_shuffled_words_keep_their_kind_and_names_their_place(files, minilm):
    marked = read_sentences(files[0], minilm[1])[0]
    moved = shuffled(marked, minilm[1], seed=3)
    assert sorted(moved.words) == sorted(marked.words) and moved.words != marked.words
    assert sorted(zip(moved.words, moved.pos, strict=True)) == sorted(
        zip(marked.words, marked.pos, strict=True)
    )
    assert moved.spans == marked.spans and moved.types == marked.types
    assert (
        shuffled(marked, minilm[1], seed=3).words
        == moved.words
        != shuffled(marked, minilm[1], seed=4).words
    )


@pytest.mark.skipif(
    transformers.__version__ < "5", reason="these classes take a vocabulary from transformers 5 on"
)
@pytest.mark.parametrize("kind", [XLMRobertaTokenizer, CamembertTokenizer])
def test_words_and_marks_do_not_depend_on_the_tokenizer(kind):
    """SentencePiece cuts at spaces only: "cat," would be one word, a Chinese sentence another."""
    words = [("▁" + word, -1.0) for word in ("The", "dog", "met", "Olga", "ran")]
    letters = [(letter, -2.0) for letter in "▁,.他们住上海。，「」"]
    special = [(name, 0.0) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = kind(vocab=special + words + letters)
    english = mark_sentence("The dog met [Olga|person], ran.", tokenizer)
    assert english.words == ["The", "dog", "met", "Olga", ",", "ran", "."]
    assert english.spans == [[3]]
    found = kinds_of(english)
    assert (found["comma"], found["full stop at the end"]) == ([","], ["."])
    assert found["function word"] == ["The"]
    chinese = mark_sentence("他们住[上海|place]，「上海」。", tokenizer)
    assert chinese.words == list("他们住上海，「上海」。") and chinese.spans == [[3, 4]]
    found = kinds_of(chinese)
    assert (found["comma"], found["full stop at the end"]) == (["，"], ["。"])
    assert found["quotation mark"] == ["「", "」"]
    assert found["function word"] == found["content word"] == []  # the list is English


def test_a_tokenizer_that_adds_nothing_has_no_special_places(minilm):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm[1].name_or_path)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A", "$A $B", [])
    marked = mark_sentence("[Noether|person] won.", tokenizer)
    assert marked.words == ["Noether", "won", "."] and marked.added == ([], [])
    values = np.ones((len(marked.sentence.tokens),) * 2)
    kinds = marked.kinds()
    assert marked.matrix(values, special=True).shape == (3, 3)
    assert kinds["all words"].tolist() == [True] * 3
    assert not kinds["[CLS]"].any() and not kinds["[SEP]"].any()


def test_brackets_of_the_text_are_escaped(minilm):
    marked = mark_sentence(r"As shown \[12\], [Ada \[L.\]|person] wrote.", minilm[1])
    assert marked.sentence.text == "As shown [12], Ada [L.] wrote."
    assert [marked.words[word] for word in marked.spans[0]] == ["Ada", "[", "L", ".", "]"]
    for line in ("As shown [12].", r"As \[12\] shown [12]."):
        with pytest.raises(ValueError, match=r"a bracket of the text itself is written") as error:
            mark_sentence(line, minilm[1])
        assert f"got {line!r};" in str(error.value)


def test_a_tokenizer_of_characters_knows_words_too():
    marked = mark_sentence("[Ada|person] wrote, twice.", CanineTokenizer())
    assert marked.words == ["Ada", "wrote", ",", "twice", "."] and marked.spans == [[0]]
    assert "".join(marked.sentence.tokens[at] for at in marked.tokens[0]).replace("##", "") == "Ada"
