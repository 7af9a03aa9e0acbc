"""Files that people have: each is read right, whatever its name, or refused with what it is."""

import pytest

from helpers.statistics import read_sentences, shuffled


def row(*cells):
    return "\t".join(cells) + "\n"


def universal(*words):
    """Rows of CoNLL-U from (word, part of speech) or (word, part of speech, misc)."""
    rows = [(*word, "_")[:3] for word in words]
    return "".join(
        row(str(number), form, form, upos, "_", "_", "_", "_", "_", misc)
        for number, (form, upos, misc) in enumerate(rows, 1)
    )


@pytest.fixture
def read(tmp_path, minilm):
    """(text, names) of each sentence of a file with this content."""

    def sentences(content, name="own.txt", **options):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return read_sentences(tmp_path / name, minilm[1], **options)

    return sentences


def named(marked):
    return [
        (" ".join(marked.words[word] for word in span), kind)
        for span, kind in zip(marked.spans, marked.types, strict=True)
    ]


CONLL_2003 = (
    "-DOCSTART- -X- -X- O\n\nAda NNP B-NP B-PER\nflew VBD B-VP O\nto TO B-PP O\n"
    "New NNP B-NP B-LOC\nHaven NNP I-NP I-LOC\n. . O O\n\nFog NNP B-NP O\n"
)
ADA = [("Ada", "person"), ("New Haven", "place")]


@pytest.mark.parametrize(
    "name", ["a.txt", "a.conll", "a.CONLL", "a.bio", "a", "a.conllu", "a.iob2"]
)
def test_columns_are_columns_whatever_the_file_is_called(read, name):
    first, second = read(CONLL_2003, name)
    assert first.sentence.text == "Ada flew to New Haven ." and named(first) == ADA
    assert first.pos is None and (second.words, second.spans) == (["Fog"], [])


def test_what_editors_do_to_a_file(read):
    windows = "\ufeff" + CONLL_2003.replace("\n", "\r\n")
    tabs = CONLL_2003.replace(" ", "\t").replace("\n\n", "\n \n\n")
    for content in (windows, tabs, CONLL_2003.replace(" NNP", "   NNP"), CONLL_2003.rstrip()):
        assert [named(marked) for marked in read(content)] == [ADA, []]


@pytest.mark.parametrize(
    ("tags", "names"),
    [
        ("I-LOC I-LOC B-LOC O I-ORG I-LOC", ["a b", "c", "e", "f"]),  # IOB1: B- only to separate
        ("B-LOC I-LOC B-LOC O B-ORG B-LOC", ["a b", "c", "e", "f"]),  # IOB2
        ("B-LOC E-LOC S-LOC O S-ORG S-LOC", ["a b", "c", "e", "f"]),  # BIOES
        ("B-LOC L-LOC U-LOC O U-ORG U-LOC", ["a b", "c", "e", "f"]),  # BILOU
        ("B-LOC M-LOC E-LOC O S-ORG W-LOC", ["a b c", "e", "f"]),  # BMES
        ("B_LOC I_LOC B_LOC O B_ORG O", ["a b", "c", "e"]),
        ("B I B O O B", ["a b", "c", "f"]),
        ("I-LOC E-LOC E-LOC O I-LOC O", ["a b", "c", "e"]),  # a name ends at E, also without a B
    ],
)
def test_every_scheme_of_tags(read, tags, names):
    pairs = zip("abcdef", tags.split(), strict=True)
    (marked,) = read("".join(f"{word} {tag}\n" for word, tag in pairs))
    assert [name for name, _ in named(marked)] == names


def test_types_of_names(read):
    tags = ["B-PER", "B-LOC", "B-ORG", "B-creative-work", "B-PER.NOM", "B_cell_line", "B"]
    (marked,) = read("".join(f"w {tag}\n" for tag in tags))
    expected = ["person", "place", "organisation", "creative-work", "per.nom", "cell_line", "name"]
    assert marked.types == expected


def test_numbers_of_words_from_0_and_from_1(read):
    for first in (0, 1):
        words = ["Ada", "Berg", "slept"], ["B-PER", "I-PER", "O"]
        rows = [row(str(n), *pair) for n, pair in enumerate(zip(*words, strict=True), first)]
        start = row(str(first), "-DOCSTART-", "O") + "\n"
        for marked in read(start + "".join(rows) + "\n" + "".join(rows), "val.conllu"):
            assert marked.words == words[0] and named(marked) == [("Ada Berg", "person")]


def test_a_word_with_a_hash_is_no_comment(read):
    first, second = read("# id 7 from=here\n#oslo B-LOC\nrocks O\n\n# O\n#win O\n")
    assert first.sentence.text == "#oslo rocks" and named(first) == [("# oslo", "place")]
    assert second.sentence.text == "# #win"
    (odd,) = read(row("a\u2028b", "O") + row("c\x85", "B-LOC"))
    assert (odd.words, odd.spans) == (["a", "b", "c"], [[2]])
    (noted,) = read("#\thttp://a.example [2010]\n" + row("1", "Ada", "B-PER", "O"))
    assert noted.words == ["Ada"] and noted.types == ["person"]


def test_the_column_of_names_is_found(read):
    (placeholders,) = read("ada _ _ B-PER\nslept _ _ O\n")
    assert named(placeholders) == [("ada", "person")]
    (annotator,) = read(row("1", "Ada", "B-PER", "-", "ann") + row("2", "slept", "O", "-", "-"))
    assert named(annotator) == [("Ada", "person")]
    (no_name,) = read("Fog NNP B-NP O\nfell VBD B-VP O\n")
    assert no_name.spans == []


CHINESE = [
    ("王小明", "PROPN"),
    ("住在", "VERB"),
    ("上海", "PROPN"),
    ("，", "PUNCT"),
    ("。", "PUNCT"),
]


def test_chinese_words_are_those_of_the_file(read, minilm, recwarn):
    tags = ["B-PER", "O", "B-LOC", "O", "O"]
    pairs = list(zip([word for word, _ in CHINESE], tags, strict=True))
    (columns,) = read("".join(f"{word} {tag}\n" for word, tag in pairs))
    close = [(*word, "SpaceAfter=No") for word in CHINESE]
    for marked in (columns, *read(universal(*close)), *read(universal(*CHINESE))):
        assert marked.sentence.text == "王小明住在上海，。"
        assert marked.words == [word for word, _ in CHINESE]
        assert marked.kinds(special=False)["comma"].tolist() == [False, False, False, True, False]
    assert columns.spans == [[0], [2]]
    mixed = shuffled(columns, minilm[1], seed=1)
    assert sorted(mixed.words) == sorted(columns.words) and mixed.words != columns.words
    letters = [("王", "B-PER"), ("明", "E-PER"), ("在", "O"), ("iPod", "S-MISC"), ("x", "O")]
    (letter,) = read("".join(f"{word} {tag}\n" for word, tag in letters))
    assert letter.sentence.text == "王明在 iPod x" and letter.spans == [[0, 1], [3]]
    assert not recwarn


def test_chinese_without_words_has_letters_and_says_so(read):
    with pytest.warns(UserWarning, match="words are single letters in a script without spaces"):
        (marked,) = read("王小明住在[上海|place]。\n")
    assert marked.words == list("王小明住在上海。") and marked.spans == [[5, 6]]


def test_a_text_that_is_not_english_is_told(read, recwarn):
    german = "Der B-X\nMann O\nging O\nlangsam O\nnach O\nHause O\n. O\n\n" * 30
    with pytest.warns(UserWarning, match="0 of 210 words are on the English list of function"):
        read(german)
    read("The O\nman O\nwalked O\nto O\nthe O\nhouse O\n. O\n\n" * 30)
    tagged = [(word, "X") for word in "Der Mann ging langsam nach Hause .".split()]  # noqa: SIM905
    read((universal(*tagged) + "\n") * 30)
    assert not recwarn


REFUSED = {
    "names within names": "1\tBayern\tB-ORG\tB-LOC\n2\tspielt\tO\tO\n",
    "chunks": "Ada NNP B-NP\nslept VBD B-VP\n. . O\n",
    "commas": "Word,Tag\nAda,B-PER\nslept,O\n.,O\n",
    "inline": "Ada|NNP|I-PER slept|VBD|O .|.|O\nBob|NNP|I-PER ran|VBD|O\n",
    "OntoNotes": "x 0 0 Ada NNP (TOP* - (PERSON) -\nx 0 1 slept VBD *) - * -\n",
    "standoff": "T1\tPerson 0 3\tAda\nT2\tPerson 4 7\tBob\n",
    "spaces in CoNLL-U": universal(("Ada", "PROPN"), ("slept", "VERB")).replace("\t", " "),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_format_that_is_none_of_the_three(read, kind):
    with pytest.raises(
        ValueError, match=r"expected sentences, CoNLL-U .*, or columns of which one"
    ):
        read(REFUSED[kind])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Ada\tPERSON\nslept\tO\nwell\tO\n", r"number 2 with tags .*, got \['Ada', 'PERSON'\]"),
        ("Ada B-PER|B-ORG\nslept O\nwell O\n", r"line 1: .*got \['Ada', 'B-PER\|B-ORG'\]"),
        ("Ada NNP\nslept VBD\n. .\n", "line 3: expected a sentence, or columns with tags .*'. .'"),
        ('{"tokens": ["Ada"]}\n', "line 1: expected every entity marked"),
        ("Ada slept.\n".encode("utf-16"), "expected own.txt as text in UTF-8: .* byte 0xff"),
        ("Café zu.\n".encode("latin-1"), "expected own.txt as text in UTF-8: .* byte 0xe9"),
        ("", "expected sentences in 'own.txt'"),
        ("# text = nothing\n\n \n", "expected sentences in 'own.txt'"),
        ("-DOCSTART- -X- -X- O\n\n", "expected sentences in 'own.txt'"),
        (row("0", "a", "O") + row("1", "b", "O") + row("0", "c", "O"), "in order, got 0, 1, 0;"),
        (
            universal(("a", "X")) + universal(("b", "X")),
            "in order, got 1, 1; is an empty line missing",
        ),
        (universal(("Ada", "NNP")), r"universal parts of speech or _, got \{'NNP'\}"),
        (row("_", "Ada", *"________"), "numbered in order, got None; is an empty line"),
        (row("1-2", "Ada", *"________"), "expected words, got _ in place of each"),
        (universal(("_", "X"), ("_", "X")), "expected words, got _ in place of each"),
        (universal(("a", "X"), ("b", "X"), ("c\tc", "X")), r"ten columns .*, got \['3', 'c', 'c'"),
        ("# text = Ada slept\n" + universal(("Ada", "X")), "all of the text .*, ' slept' is not"),
        ("# text = Ana\n" + universal(("Anna", "X")), "line 2: .*'Anna' is not in 'Ana'"),
        ("# text = abcab\n" + universal(("cab", "X"), ("ab", "X")), "'cab' is not in 'abcab'"),
    ],
)
def test_a_file_that_cannot_be_read(read, content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


def test_one_sentence_can_be_left_out(read):
    good = "# sent_id = good\n" + universal(("Ada", "PROPN"))
    long = "# sent_id = long\n" + universal(*[("word", "NOUN")] * 600)
    content = good + "\n" + long + "\n" + good
    with pytest.raises(ValueError, match=r"^own.txt, line 5, sent_id long: .* at most 512 tokens"):
        read(content)
    with pytest.warns(
        UserWarning, match="left out 1 of 3 sentences; own.txt, line 5, sent_id long"
    ):
        assert [marked.words for marked in read(content, skip=True)] == [["Ada"], ["Ada"]]
    with pytest.warns(UserWarning, match="left out 2 of 3 sentences; own.txt, line 2: expected"):
        lines = read("Ada slept.\nAs shown [1].\n-- ?\n", skip=True)
    assert len(lines) == 1
    with pytest.warns(UserWarning, match=r"left out 1 of 2 .*got \['New', 'York', 'B-LOC'\]"):
        (columns,) = read("Ada B-PER\nslept O\n\nNew York B-LOC\n", skip=True)
    assert columns.words == ["Ada", "slept"]
    with pytest.raises(ValueError, match="left out 1 of 1 sentences; own.txt, line 1"):
        read("As shown [1].\n", skip=True)


def test_the_text_is_made_of_the_words_where_the_file_has_none(read):
    words = [("Do", "AUX", "SpaceAfter=No|X=Y"), ("n't", "PART"), ("go", "VERB", "SpaceAfter=No")]
    (marked,) = read(universal(*words, ("!", "PUNCT")))
    assert marked.sentence.text == "Don't go!"
    assert marked.pos == ["AUX", "PART", "PART", "VERB", "PUNCT"]
    rows = universal(("va", "VERB"), ("a", "ADP"), ("el", "DET"), (".", "PUNCT")).splitlines()
    rows.insert(1, row("2-3", "al", *"_______", "SpaceAfter=No").strip())
    (marked,) = read("\n".join(rows))
    assert marked.sentence.text == "va al." and marked.pos == ["VERB", "ADP", "PUNCT"]


def test_parts_of_speech_that_are_not_told(read):
    (none,) = read(universal(("Ada", "_"), ("slept", "_")))
    (some,) = read(universal(("Ada", "PROPN"), ("slept", "_")))
    assert none.pos is None and some.pos == ["PROPN", "X"]


SENTENCES = [("Ada", "PROPN"), ("slept", "VERB")], [("Fog", "NOUN"), ("fell", "VERB")]
TAGS = (
    row("1", "Ada", "B-PER") + row("2", "slept", "O"),
    row("1", "Fog", "O") + row("2", "fell", "O"),
)


def with_ids(parts, ids):
    lines = [f"# sent_id = {name}\n" if name else "" for name in ids]
    return "\n".join(line + part for line, part in zip(lines, parts, strict=True))


@pytest.mark.parametrize(
    ("ids", "others", "swapped"),
    [
        ("ab", "ba", True),  # by sent_id
        ("ab", "ab", False),
        ("aa", "aa", False),  # in their order
        ("ab", "cd", False),
        ("ab", ["", ""], False),
        (["", ""], "ab", False),
        (["", ""], ["", ""], False),
        ("aa", "ab", False),
        ("ab", "ac", False),
    ],
)
def test_names_by_sent_id_or_in_their_order(read, tmp_path, ids, others, swapped):
    tags = TAGS[::-1] if swapped else TAGS
    (tmp_path / "own.iob2").write_text(with_ids(tags, others))
    first, second = read(with_ids([universal(*words) for words in SENTENCES], ids), "own.conllu")
    assert named(first) == [("Ada", "person")] and second.spans == []


@pytest.mark.parametrize(
    ("ids", "others", "tags", "message"),
    [
        ("ab", "a", TAGS[:1], "names of the same sentences, .*, got 1 in names.txt for 2"),
        ("ab", "abc", [*TAGS, TAGS[0]], "got 3 in names.txt for 2"),
        ("aa", "aa", TAGS[::-1], "line 2, sent_id a: .*'Fog' is not in 'Ada slept'"),
        ("ab", "ba", TAGS, "line 2, sent_id a: .*'Fog' is not in 'Ada slept'"),
        (
            "ab",
            "ab",
            [TAGS[0], "1\tFog\tLOC\n"],
            r"sent_id b: .*\['1', 'Fog', 'LOC'\] in names.txt",
        ),
    ],
)
def test_names_are_never_lost(read, tmp_path, ids, others, tags, message):
    (tmp_path / "names.txt").write_text(with_ids(tags, others))
    content = with_ids([universal(*words) for words in SENTENCES], ids)
    with pytest.raises(ValueError, match=message):
        read(content, "own.conllu", names=tmp_path / "names.txt")


def test_names_are_for_conllu_and_in_columns(read, tmp_path):
    (tmp_path / "names.iob2").write_text(TAGS[0])
    (tmp_path / "other.conllu").write_text(universal(("Ada", "PROPN")))
    for content, names in (("Ada slept.\n", "names.iob2"), (TAGS[0], "names.iob2")):
        with pytest.raises(ValueError, match="names= of a CoNLL-U file in a file of columns"):
            read(content, names=tmp_path / names)
    with pytest.raises(ValueError, match="names= of a CoNLL-U file in a file of columns"):
        read(universal(("Ada", "PROPN")), names=tmp_path / "other.conllu")
