"""Read annotated sentences from a file: a format of ours, CoNLL-U, or IOB2."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import conllu

from .text import Annotation, MarkedSentence, annotated, mark_sentence

NAMES = {"PER": "person", "LOC": "place", "ORG": "organisation"}  # Universal NER's types in plain words


def read_sentences(path: str | Path, tokenizer, *, names: str | Path | None = None) -> list[MarkedSentence]:
    """Annotated sentences from a text file; the ending of its name tells the format.

    `.conllu` is CoNLL-U, with gold words and parts of speech; `.iob2` has a word and its name's tag (B-PER, I-PER, O)
    in a line, as Universal NER has. CoNLL-U takes its names from the IOB2 file `names` with the same `sent_id`s, by
    default the one beside it that has its name. Any other ending is the format that the first lines of sentences.txt
    explain. Raises `ValueError` for a file without a sentence and for an annotation that does not fit its text.
    """
    path = Path(path)
    if path.suffix not in (".conllu", ".iob2"):
        if read := list(_read_marked(path, tokenizer)):
            return read
        raise ValueError(
            f"expected sentences in {path.name!r}, one a line, got none; lines with # in front are skipped"
        )
    beside = path.with_suffix(".iob2") if names is None else Path(names)
    spans = _read_names(beside) if names is not None or beside.exists() else {}
    if path.suffix == ".iob2":
        return [annotated(text, _names(text, rows), None, "", tokenizer) for text, rows in spans.values()]
    found = []
    try:
        parsed = conllu.parse(path.read_text(encoding="utf-8"))
    except conllu.exceptions.ParseException as error:
        raise ValueError(f"expected CoNLL-U, ten columns with tabs between, in {path.name}: {error}") from error
    for sentence in parsed:
        text = sentence.metadata.get("text") or " ".join(_surface(sentence))
        places = _word_places(text, sentence)
        tags = [word["upos"] for word in sentence if isinstance(word["id"], int)]
        rows = spans.get(sentence.metadata.get("sent_id", ""), ("", []))[1]
        marked = _names(text, rows, places if len(rows) == len(places) else None)
        pos = [(*place, tag) for place, tag in zip(places, tags, strict=True)]
        found.append(annotated(text, marked, pos, "", tokenizer))
    return found


def _read_marked(path: Path, tokenizer) -> Iterator[MarkedSentence]:
    register = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            register = line[3:].strip()
        elif line.strip() and not line.startswith("#"):
            yield mark_sentence(line.strip(), tokenizer, register)


def _read_names(path: Path) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """IOB2, by sent_id: the text and (word, tag) of each word."""
    found = {}
    for number, block in enumerate(re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip())):
        lines = block.splitlines()
        about = dict(line[1:].split("=", 1) for line in lines if line.startswith("#") and "=" in line)
        about = {key.strip(): value.strip() for key, value in about.items()}
        rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
        for row in rows:
            if len(row) < 3 or not re.fullmatch(r"O|[BI]-\w+", row[2]):
                raise ValueError(
                    f"expected number, word and tag (O, B-PER, I-PER), tab between, got {row} in {path.name}"
                )
        words = [(row[1], row[2]) for row in rows]
        text = about.get("text") or " ".join(word for word, _ in words)
        found[about.get("sent_id", str(number))] = (text, words)
    return found


def _names(
    text: str, rows: Sequence[tuple[str, str]], places: Sequence[tuple[int, int]] | None = None
) -> list[Annotation]:
    names: list[Annotation] = []
    before = "O"
    for (start, end), (_, tag) in zip(places or _align(text, [word for word, _ in rows]), rows, strict=True):
        if tag.startswith("I-") and before != "O":
            names[-1] = (names[-1][0], end, names[-1][2])
        elif tag != "O":
            names.append((start, end, NAMES.get(tag[2:], tag[2:].lower())))
        before = tag
    return names


def _surface(sentence: conllu.TokenList) -> list[str]:
    """The words as they are written: "du", which CoNLL-U splits into "de" and "le", once."""
    ranges = [word for word in sentence if isinstance(word["id"], tuple) and word["id"][1] == "-"]
    inside = {number for word in ranges for number in range(word["id"][0], word["id"][2] + 1)}
    written = [
        word for word in sentence if word in ranges or (isinstance(word["id"], int) and word["id"] not in inside)
    ]
    return [word["form"] for word in written]


def _word_places(text: str, sentence: conllu.TokenList) -> list[tuple[int, int]]:
    """Where each syntactic word stands: in its own letters where they are there, else where it is written as one."""
    written = iter(_align(text, _surface(sentence)))
    places: list[tuple[int, int]] = []
    whole, last, cursor = (0, 0), 0, 0  # the stretch of the latest range, its last word, and how far it is used up
    for word in sentence:
        number = word["id"]
        if isinstance(number, tuple):
            if number[1] == "-":
                whole, last = next(written), number[2]
                cursor = whole[0]
        elif number <= last:
            start = text.find(word["form"], cursor, whole[1])
            places.append((start, start + len(word["form"])) if start >= 0 else whole)
            cursor = places[-1][1] if start >= 0 else cursor
        else:
            places.append(next(written))
    return places


def _align(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """First character and the one after the last of each word, in their order in the text."""
    places, end = [], 0
    for word in words:
        start = text.find(word, end)
        if start < 0:
            raise ValueError(f"expected the words of a sentence in its text, {word!r} is not in {text[end:]!r}")
        end = start + len(word)
        places.append((start, end))
    return places
