"""Read annotated sentences from a file. What is in it tells its format, not the ending of its name.

Three formats: sentences with marked names, one a line; CoNLL-U; columns of words and tags of names.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import conllu
import numpy as np
import regex
from conllu.exceptions import ParseException

from ..text import UNSPACED, Place
from .marked import FUNCTION, Annotation, MarkedSentence, annotated, mark_sentence, places_of

NAMES = {"PER": "person", "LOC": "place", "ORG": "organisation", "": "name"}
TAG = re.compile(r"O|[BI]|[BIESLUMW][-_][^\s|,;]+")  # of IOB1, IOB2, BIOES, BILOU and BMES
TAGGED_LINE = re.compile(rf"\t|[\s,;|/]({TAG.pattern}|[-_*])\s*$")  # no sentence ends so
CHUNKS = "NP VP PP ADJP ADVP SBAR PRT CONJP INTJ LST UCP NC VC PC"  # of CoNLL-2000 and -2003
UNIVERSAL = "ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB X _"
COMMENT = re.compile(r"#\s*([^\s=]+)\s*=\s*(.*\S)")
DOCUMENT = re.compile(r"(\d+\s+)?-DOCSTART-")
IGNORED = re.compile(rf"\s*$|#|{DOCUMENT.pattern}")
UNSPACED_LETTER = regex.compile(f"[{UNSPACED}]")
NO_SPACE = rf"[{UNSPACED}\u3001-\u303f\uff01-\uff65]"  # between such letters and marks
GAP = regex.compile(f"(?<={NO_SPACE}) (?={NO_SPACE})")


def read_sentences(
    path: str | Path, tokenizer, *, names: str | Path | None = None, skip: bool = False
) -> list[MarkedSentence]:
    """Annotated sentences from a text file in one of three formats, told by its content.

    - CoNLL-U, ten columns with tabs: words and universal parts of speech. Its names come from the
      file of columns `names`, by default the .iob2 file beside it that has its name: by `sent_id`
      if each is there once in both files, else in their order.
    - Columns with tabs or spaces, a word in a line with the tag of its name (B-PER, I-PER, O; also
      IOB1, BIOES, BILOU, BMES), a blank line after a sentence: CoNLL-2003, WNUT, WikiNEuRal, IOB2.
    - A sentence in a line, its names marked, as the first lines of sentences.txt explain.

    In a script without spaces words are those of the file or, in the third format, single letters,
    with a warning; another one tells that a text does not look English and has no parts of speech.
    Raises `ValueError` for a file without a sentence, for a format that is none of these, and for
    a sentence that cannot be read, with its line and sent_id; with `skip` such a sentence is left
    out, and a warning counts them.
    """
    path = Path(path)
    form, blocks = _opened(path)
    beside = path.with_suffix(".iob2")
    if names is None and form is _universal and beside.exists() and beside != path:
        names = beside
    if names is not None:
        _give_names(form, blocks, *_opened(Path(names)))
    read, faults = [], []
    for block in blocks:
        try:
            read.append(form(block, tokenizer))
        except ValueError as error:
            faults.append(f"{path.name}, {block.place}: {error}")
            if not skip:
                raise ValueError(faults[0]) from error
    if faults:
        message = f"left out {len(faults)} of {len(blocks)} sentences; {faults[0]}"
        if not read:
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    if form is _marked and any(UNSPACED_LETTER.search(marked.sentence.text) for marked in read):
        warnings.warn("words are single letters in a script without spaces", stacklevel=2)
    words = [word.lower() for marked in read if not marked.pos for word in marked.words]
    listed = sum(word in FUNCTION for word in words)
    if len(words) >= 200 and 5 * listed < len(words):
        message = f"{listed} of {len(words)} words are on the English list of function words, which"
        warnings.warn(f"{message} tells kinds where there are no parts of speech", stacklevel=2)
    return read


@dataclass
class _Block:
    """The rows of one sentence in a file, each a list of cells."""

    line: int = 0  # number of the first one
    rows: list[list[str]] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    tagged: Callable[[], tuple[list[str], list[str]]] | None = None  # from another file

    @property
    def place(self) -> str:
        name = self.about.get("sent_id")
        return f"line {self.line}, sent_id {name}" if name else f"line {self.line}"


def _opened(path: Path) -> tuple[Callable[[_Block, Any], MarkedSentence], list[_Block]]:
    """The sentences of a file, and what reads one of them."""
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected {path.name} as text in UTF-8: {error}") from error
    content = [line for line in lines if not IGNORED.match(line)]
    if not content:
        expected = f"expected sentences in {path.name!r}, one a line, got none"
        raise ValueError(f"{expected}, nor CoNLL-U or columns; lines with # in front are skipped")
    if _most(line.count("\t") == 9 for line in content):
        return _universal, _blocks(lines)
    if _most(TAGGED_LINE.search(line) for line in content):
        columns = _Columns([_cells(line) for line in content], path.name)
        return columns, _blocks(lines, columns.is_row)
    register, blocks = "", []
    for number, line in enumerate(lines, 1):
        if line.startswith("## "):
            register = line[3:].strip()
        elif line.strip() and not line.startswith("#"):
            blocks.append(_Block(number, [[line.strip()]], {"register": register}))
    return _marked, blocks


def _blocks(lines: list[str], is_row=lambda cells: False) -> list[_Block]:
    """Rows between empty lines; a line with # in front is a comment unless it is a row."""
    blocks = [_Block()]
    for number, line in enumerate(lines, 1):
        if not line.strip() or DOCUMENT.match(line):
            blocks.append(_Block())
        elif not line.startswith("#") or is_row(_cells(line)):
            blocks[-1].line = blocks[-1].line or number
            blocks[-1].rows.append(_cells(line))
        elif comment := COMMENT.match(line):
            blocks[-1].about[comment[1]] = comment[2]
    return [block for block in blocks if block.rows]


def _cells(line: str) -> list[str]:
    if "\t" in line:
        return [cell.strip() for cell in line.split("\t")]
    return [cell.strip() for cell in re.split(" +", line.strip(" "))]


def _most(found: Iterable) -> bool:
    return bool(np.mean([bool(each) for each in found]) > 0.5)


def _give_names(form, blocks: list[_Block], columns, others: list[_Block]) -> None:
    """Words and tags of each sentence, from another file."""
    if form is not _universal or not isinstance(columns, _Columns):
        raise ValueError("expected names= of a CoNLL-U file in a file of columns with tags")
    if len(blocks) != len(others):
        expected = "expected names of the same sentences, by sent_id or in order"
        raise ValueError(f"{expected}, got {len(others)} in {columns.file} for {len(blocks)}")
    ids = [block.about.get("sent_id") for block in blocks]
    by_id = {block.about.get("sent_id"): block for block in others}
    if len(by_id) == len(others) and by_id.keys() == set(ids):
        others = [by_id[name] for name in ids]
    for block, other in zip(blocks, others, strict=True):
        block.tagged = partial(columns.tagged, other)


def _marked(block: _Block, tokenizer) -> MarkedSentence:
    """A line, with names as [words|type]."""
    line = block.rows[0][0]
    if not re.search(r"[^\W_]", line):
        raise ValueError(f"expected a sentence, or columns with tags of names, got {line!r}")
    return mark_sentence(line, tokenizer, block.about["register"])


class _Columns:
    """A word and the tag of its name in a line, maybe after its number and among other columns."""

    def __init__(self, rows: list[list[str]], file: str):
        self.file = file
        self.width = Counter(map(len, rows)).most_common(1)[0][0]
        even = [row for row in rows if len(row) == self.width]
        columns = list(zip(*even, strict=True))
        is_numbered = self.width > 2 and _most(map(str.isdigit, columns[0]))
        self.word = 1 if is_numbered else 0
        named, empty = [], []  # the columns of tags that have names, and those that have none
        for number in range(self.word + 1, self.width):
            tags = columns[number]
            types = {tag[2:] for tag in tags if tag != "O"}
            if _most(map(TAG.fullmatch, tags)):
                if not types:
                    empty.append(number)
                elif types.difference(CHUNKS.split()):
                    named.append(number)
        if len(named) > 1 or not named + empty:
            raise ValueError(
                "expected sentences, CoNLL-U (ten columns with tabs between), or columns of which "
                f"one has tags of names (O, B-PER, I-PER), got {len(named)} in {file}: {rows[0]}"
            )
        self.tag = (named + empty)[0]

    def is_row(self, cells: list[str]) -> bool:
        return len(cells) == self.width and bool(TAG.fullmatch(cells[self.tag]))

    def tagged(self, block: _Block) -> tuple[list[str], list[str]]:
        """Words and tags."""
        odd = [row for row in block.rows if not self.is_row(row)]
        if odd:
            expected = f"{self.width} columns, number {self.tag + 1} with tags of names (O, B-PER)"
            raise ValueError(f"expected {expected}, got {odd[0]} in {self.file}")
        if self.word:
            _check_numbers([row[0] for row in block.rows])
        words = [row[self.word] for row in block.rows]
        tags = [row[self.tag] for row in block.rows]
        return words, tags

    def __call__(self, block: _Block, tokenizer) -> MarkedSentence:
        words, tags = self.tagged(block)
        text = block.about.get("text") or GAP.sub("", " ".join(words))
        places = places_of(words, text)
        known = [(*place, "_") for place in places]
        return annotated(text, _names(tags, places), "", tokenizer, known)


def _universal(block: _Block, tokenizer) -> MarkedSentence:
    """CoNLL-U, maybe with words and tags from another file."""
    tokens = _tokens(block)
    words = [token for token in tokens if not isinstance(token["id"], tuple)]
    _check_numbers([str(word["id"]) for word in words])
    if unknown := {word["upos"] for word in words}.difference(UNIVERSAL.split()):
        raise ValueError(f"expected universal parts of speech or _, got {unknown}")
    if all(word["form"] == "_" for word in words):
        raise ValueError("expected words, got _ in place of each; some corpora keep them apart")
    text, places = _placed(tokens, block.about.get("text", ""))
    known = [(*place, word["upos"]) for place, word in zip(places, words, strict=True)]
    names: list[Annotation] = []
    if block.tagged:
        forms, tags = block.tagged()
        same = forms == [word["form"] for word in words]
        names = _names(tags, places if same else places_of(forms, text))
    return annotated(text, names, "", tokenizer, known)


def _tokens(block: _Block) -> conllu.TokenList:
    expected = "expected CoNLL-U, ten columns with tabs between"
    for row in block.rows:
        if len(row) != 10:
            raise ValueError(f"{expected}, got {row}")
    try:
        (tokens,) = conllu.parse("\n".join(map("\t".join, block.rows)))
    except ParseException as error:
        raise ValueError(f"{expected}: {error}") from error
    return tokens


def _placed(tokens: conllu.TokenList, text: str) -> tuple[str, list[Place]]:
    """The text and where its words are: their letters or, as in "du", what they are written in."""
    written: list[tuple[conllu.Token, list[str]]] = []  # and the words in it
    last = -1
    for token in tokens:
        match token["id"]:
            case (_, "-", last):
                written.append((token, []))
            case int(number) if number <= last:
                written[-1][1].append(token["form"])
            case int():
                written.append((token, [token["form"]]))
    if not text:
        for token, _ in written:
            apart = (token.get("misc") or {}).get("SpaceAfter") != "No"
            text += token["form"] + " " * apart
        text = GAP.sub("", text.strip())
    stretches = places_of([token["form"] for token, _ in written], text)
    places = []
    for (_, words), (start, end) in zip(written, stretches, strict=True):
        free = start
        for word in words:
            own = text.find(word, free, end)
            if own < 0:
                places.append((start, end))
            else:
                free = own + len(word)
                places.append((own, free))
    return text, places


def _check_numbers(numbers: list[str]) -> None:
    first = int(numbers[:1] != ["0"])  # WikiNEuRal counts from 0
    if numbers != [str(first + place) for place in range(len(numbers))]:
        got = ", ".join(numbers)
        raise ValueError(f"expected words numbered in order, got {got}; is an empty line missing?")


def _names(tags: list[str], places: list[Place]) -> list[Annotation]:
    """Where the names stand, in any scheme: I, E, L and M go on with a name of their type."""
    names: list[Annotation] = []
    open_type = None  # of a name that has not ended
    for tag, (start, end) in zip(tags, places, strict=True):
        letter, kind = tag[0], tag[2:]
        kind = NAMES.get(kind, kind.lower())
        if letter in "IELM" and kind == open_type:
            start = names.pop()[0]
        if letter != "O":
            names.append((start, end, kind))
        open_type = kind if letter in "BIM" else None
    return names
