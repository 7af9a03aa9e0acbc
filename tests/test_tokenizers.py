"""The same six texts through tokenizers of every kind: words, positions, kinds and labels, by hand.

What a word, a comma or a name is must not depend on how a tokenizer cuts; the labels do, and show
the letters of the text. All tokenizers are made here, small enough to see what each one does.
"""

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CanineTokenizer, PhobertTokenizer, PreTrainedTokenizerFast

from helpers import encode
from helpers.statistics import mark_sentence

TEXTS = {
    "English": ("""Don't say "hi", Anna's.""",),
    "French": ("L'été à Orléans.",),
    "German": ("Die Straße nach Köln.",),
    "Chinese": ("我住北京。",),
    "Arabic": ("ذهب الولد.",),
    "a pair": ("Hi 😀!", "Me too."),
}
WORDS = {
    "English": ["Don", "'", "t", "say", '"', "hi", '"', ",", "Anna", "'", "s", "."],
    "French": ["L", "'", "été", "à", "Orléans", "."],
    "German": ["Die", "Straße", "nach", "Köln", "."],
    "Chinese": ["我", "住", "北", "京", "。"],
    "Arabic": ["ذهب", "الولد", "."],
    "a pair": ["Hi", "😀", "!", "Me", "too", "."],
}
KINDS = {  # the words of each kind of mark
    "English": {"comma": [","], "full stop at the end": ["."], "quotation mark": ['"', '"']},
    "French": {"full stop at the end": ["."]},
    "German": {"full stop at the end": ["."]},
    "Chinese": {"full stop at the end": ["。"]},
    "Arabic": {"full stop at the end": ["."]},
}
ASKED = {  # a word, or two, and how somebody types it who does not care about case and accents
    "English": ("Anna", "anna"),
    "French": ("été", "ete"),
    "German": ("Köln", "koln"),
    "Chinese": ("北京", "北京"),
    "Arabic": ("الولد", "الولد"),
    "a pair": ("too", "TOO"),
}
PIECES = """don ' t say " hi , anna s . l ete a or ##leans die stra ##ße nach kol ##n 我 住 北 京 。
ذهب ال ##ولد ! me too""".split()  # noqa: SIM905


def wordpiece():
    vocabulary = {piece: n for n, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *PIECES])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def slow_wordpiece(folder):
    kind = getattr(transformers, "BertTokenizerLegacy", transformers.BertTokenizer)
    path = folder / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES]), "utf-8")
    return kind(str(path))


def byte_level(adds=True):
    """Bytes; only " say", "An", "na" and the two bytes of é are joined."""
    merges = [("s", "a"), ("sa", "y"), ("Ġ", "say"), ("A", "n"), ("n", "a"), ("Ã", "©")]
    pieces = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges)]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    names = {}
    if adds:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
        names = {"cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def unigram():
    """SentencePiece, as XLM-R has it: ▁ begins a word, and only a space parts two."""
    words = ["▁Don", "▁say", "hi", "▁Anna", "▁Die", "▁Stra", "▁nach", "▁Köln", "▁Hi", "too"]
    letters = sorted(set("".join("".join(texts) for texts in TEXTS.values())) - {"😀", " "})
    scored = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    scored += [(word, -1.0) for word in words] + [(letter, -3.0) for letter in letters]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), False, False)
    names = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def marked_at_the_end(folder):
    """Pieces that go on end in @@, as fastBPE writes them; the tokenizer splits at spaces only."""
    (folder / "bpe.codes").write_text("n a</w> 3\nA n 2\nt o 1\n", "utf-8")
    letters = sorted(set("".join("".join(texts) for texts in TEXTS.values())) - {"😀", " "})
    pieces = [piece for letter in letters for piece in (letter, letter + "@@")]
    (folder / "vocab.txt").write_text(
        "".join(f"{piece} 1\n" for piece in [*pieces, "An@@", "na", "to@@"]), "utf-8"
    )
    return PhobertTokenizer(str(folder / "vocab.txt"), str(folder / "bpe.codes"))


MAKE = {
    "WordPiece": lambda folder: wordpiece(),
    "WordPiece in Python": slow_wordpiece,
    "byte-level": lambda folder: byte_level(),
    "byte-level, adds nothing": lambda folder: byte_level(adds=False),
    "unigram": lambda folder: unigram(),
    "@@": marked_at_the_end,
    "characters": lambda folder: CanineTokenizer(),
}
LABELS = {
    "WordPiece": {
        "English": """[CLS] don ' t say " hi " , anna ' s . [SEP]""",
        "French": "[CLS] l ' ete a or ##leans . [SEP]",
        "German": "[CLS] die stra ##ße nach kol ##n . [SEP]",
        "Chinese": "[CLS] 我 住 北 京 。 [SEP]",
        "Arabic": "[CLS] ذهب ال ##ولد . [SEP]",
        "a pair": "[CLS] hi [UNK] ! [SEP] me too . [SEP]",
    },
    "byte-level": {  # ## alone: a byte that has no letter of its own
        "English": """<s> D ##o ##n ' t say ␣ " h ##i " , ␣ An ##na ' s . </s>""",
        "French": "<s> L ' é ##t ##é ␣ à ## ␣ O ##r ##l ##é ##a ##n ##s . </s>",
        "German": "<s> D ##i ##e ␣ S ##t ##r ##a ##ß ## ##e ␣ na ##c ##h ␣ K ##ö ## ##l ##n . </s>",
        "Chinese": "<s> 我 ## ## 住 ## ## 北 ## ## 京 ## ## 。 ## ## </s>",
        "Arabic": "<s> ذ ## ##ه ## ##ب ## ␣ ا ## ##ل ## ##و ## ##ل ## ##د ## . </s>",
        "a pair": "<s> H ##i ␣ 😀 ## ## ## ! </s> </s> M ##e ␣ t ##o ##o . </s>",
    },
    "unigram": {
        "English": """<s> Don ' t say ␣ " hi " , Anna ' s . </s>""",
        "French": "<s> ␣ L ' é ##t ##é ␣ à ␣ O ##r ##l ##é ##a ##n ##s . </s>",
        "German": "<s> Die Stra ##ß ##e nach Köln . </s>",
        "Chinese": "<s> ␣ 我 住 北 京 。 </s>",
        "Arabic": "<s> ␣ ذ ##ه ##ب ␣ ا ##ل ##و ##ل ##د . </s>",
        "a pair": "<s> Hi ␣ <unk> ! </s> </s> ␣ M ##e ␣ too . </s>",
    },
    "@@": {
        "English": """<s> D ##o ##n ' t s ##a ##y " h ##i " , An ##n ##a ' s . </s>""",
        "French": "<s> L ' é ##t ##é à O ##r ##l ##é ##a ##n ##s . </s>",
        "German": "<s> D ##i ##e S ##t ##r ##a ##ß ##e n ##a ##c ##h K ##ö ##l ##n . </s>",
        "Chinese": "<s> 我 住 北 京 。 </s>",
        "Arabic": "<s> ذ ##ه ##ب ا ##ل ##و ##ل ##د . </s>",
        "a pair": "<s> H ##i <unk> ! </s> </s> M ##e to ##o . </s>",
    },
    "characters": {  # U+E000 and U+E001 are the special characters of CANINE
        "English": """\ue000 D ##o ##n ' t ␣ s ##a ##y ␣ " h ##i " , ␣ A ##n ##n ##a ' s . \ue001""",
        "French": "\ue000 L ' é ##t ##é ␣ à ␣ O ##r ##l ##é ##a ##n ##s . \ue001",
        "German": "\ue000 D ##i ##e ␣ S ##t ##r ##a ##ß ##e ␣ n ##a ##c ##h ␣ K ##ö ##l ##n . \ue001",
        "Chinese": "\ue000 我 住 北 京 。 \ue001",
        "Arabic": "\ue000 ذ ##ه ##ب ␣ ا ##ل ##و ##ل ##د . \ue001",
        "a pair": "\ue000 H ##i ␣ 😀 ! \ue001 M ##e ␣ t ##o ##o . \ue001",
    },
}
LABELS["WordPiece in Python"] = LABELS["WordPiece"]
LABELS["byte-level, adds nothing"] = {
    name: " ".join(label for label in labels.split() if label not in ("<s>", "</s>"))
    for name, labels in LABELS["byte-level"].items()
}


@pytest.fixture(scope="module", params=MAKE)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind, tmp_path_factory):
    return MAKE[kind](tmp_path_factory.mktemp("tokenizer"))


def stretches(sentence):
    """Each word as the text has it, from the places of its tokens."""
    tokens: dict[int, list[int]] = {}
    for position, word in enumerate(sentence.words):
        if word is not None:
            tokens.setdefault(word, []).append(position)
    found = []
    for places in tokens.values():
        text = (sentence.text, sentence.pair)[sentence.texts[places[0]]]
        start = min(sentence.places[at][0] for at in places)
        found.append(text[start : max(sentence.places[at][1] for at in places)])
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_words_do_not_depend_on_the_tokenizer(tokenizer, name):
    assert stretches(encode(tokenizer, *TEXTS[name])) == WORDS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_labels_are_the_letters_of_the_text(kind, tokenizer, name):
    assert encode(tokenizer, *TEXTS[name]).tokens == LABELS[kind][name].split(" ")


@pytest.mark.parametrize("name", TEXTS)
def test_a_word_is_found_as_far_as_the_tokenizer_folds(kind, tokenizer, name):
    sentence = encode(tokenizer, *TEXTS[name])
    word, plain = ASKED[name]
    at = sentence.positions(word)
    labels = [label.removeprefix("##") for label in LABELS[kind][name].split(" ")]
    shown = "".join(labels[place] for place in at)
    if kind.startswith("WordPiece"):  # folds case and accents, and so shows it
        assert shown in (word, word.lower(), plain) and sentence.positions(plain) == at
        return
    assert shown == word
    if name in ("French", "German"):
        with pytest.raises(ValueError, match=f"a word of the sentence, got '{plain}'"):
            sentence.position(plain)
    else:
        assert sentence.positions(plain) == at


@pytest.mark.parametrize("name", KINDS)
def test_marks_are_of_the_same_kind(tokenizer, name):
    marked = mark_sentence(*TEXTS[name], tokenizer)
    assert marked.words == WORDS[name]
    kinds = marked.kinds(special=False)
    found = {mark: np.array(marked.words)[mask].tolist() for mark, mask in kinds.items()}
    for mark in ("comma", "full stop inside", "full stop at the end", "quotation mark"):
        assert found[mark] == KINDS[name].get(mark, []), mark


def test_a_piece_that_holds_two_words_makes_them_one():
    scored = [("<unk>", 0.0), ("▁Anna", -1.0), ("▁sat.", -1.0), *[(x, -9.0) for x in "▁Anst."]]
    pieces = Tokenizer(models.Unigram(scored, unk_id=0))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, unk_token="<unk>")
    assert stretches(encode(tokenizer, "Anna sat.")) == ["Anna", "sat."]
