"""Read annotated sentences from a file: a format of ours, CoNLL-U, or IOB2."""

import re
from collections.abc import Iterator
from pathlib import Path

import conllu
from conllu.exceptions import ParseException

from .sentences import Annotation, MarkedSentence, annotated, mark_sentence

NAMES = {"PER": "person", "LOC": "place", "ORG": "organisation"}  # Universal NER's types
TAGGED = ("id", "form", "tag", "annotator", "checked")  # the columns of IOB2


def read_sentences(
    path: str | Path, tokenizer, *, names: str | Path | None = None
) -> list[MarkedSentence]:
    """Annotated sentences from a text file; the ending of its name tells the format.

    `.conllu` is CoNLL-U, with gold words and parts of speech; `.iob2` has a word and its name's tag
    (B-PER, I-PER, O) in a line, as Universal NER has. CoNLL-U takes its names from the IOB2 file
    `names` with the same `sent_id`s, by default the one beside it that has its name. Any other
    ending is the format that the first lines of sentences.txt explain. Raises `ValueError` for a
    file without a sentence and for an annotation that does not fit its text.
    """
    path = Path(path)
    if path.suffix == ".iob2":
        found = _read_names(path).values()
        return [annotated(_text(s), _names(s), None, "", tokenizer) for s in found]
    if path.suffix == ".conllu":
        beside = path.with_suffix(".iob2") if names is None else Path(names)
        tags = _read_names(beside) if names is not None or beside.exists() else {}
        parsed = _parse(
            path, conllu.parser.DEFAULT_FIELDS, "CoNLL-U, ten columns with tabs between"
        )
        return [_with_names(s, tags.get(s.metadata.get("sent_id", "")), tokenizer) for s in parsed]
    if read := list(_read_marked(path, tokenizer)):
        return read
    raise ValueError(
        f"expected sentences in {path.name!r}, one a line, got none; lines with # in front are skipped"
    )


def _parse(path: Path, fields, expected: str) -> list[conllu.TokenList]:
    try:
        return conllu.parse(path.read_text("utf-8"), fields=fields)
    except ParseException as error:
        raise ValueError(f"expected {expected}, in {path.name}: {error}") from error


def _read_marked(path: Path, tokenizer) -> Iterator[MarkedSentence]:
    register = ""
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("## "):
            register = line[3:].strip()
        elif line.strip() and not line.startswith("#"):
            yield mark_sentence(line.strip(), tokenizer, register)


def _read_names(path: Path) -> dict[str, conllu.TokenList]:
    """IOB2, by sent_id."""
    expected = "number, word and tag (O, B-PER, I-PER), tab between"
    found = _parse(path, TAGGED, expected)
    for word in (word for sentence in found for word in sentence):
        if not re.fullmatch(r"O|[BI]-\w+", word.get("tag", "")):
            raise ValueError(f"expected {expected}, got {[*word.values()]} in {path.name}")
    return {s.metadata.get("sent_id", str(number)): s for number, s in enumerate(found)}


def _with_names(
    sentence: conllu.TokenList, tagged: conllu.TokenList | None, tokenizer
) -> MarkedSentence:
    text, places = _text(sentence), _places(sentence)
    words = sentence.filter(id=lambda number: isinstance(number, int))
    pos = [(*place, word["upos"]) for place, word in zip(places, words, strict=True)]
    names: list[Annotation] = []
    if tagged is not None:
        names = _names(tagged, text, places if len(tagged) == len(places) else None)
    return annotated(text, names, pos, "", tokenizer)


def _names(tagged: conllu.TokenList, text: str | None = None, places=None) -> list[Annotation]:
    """Where the names stand: runs of B-, I-, I-, ..."""
    text = text or _text(tagged)
    places = places or _align(text, [word["form"] for word in tagged])
    names: list[Annotation] = []
    before = "O"
    for (start, end), word in zip(places, tagged, strict=True):
        begins, _, kind = word["tag"].partition("-")
        if begins == "I" and before != "O":
            names[-1] = (names[-1][0], end, names[-1][2])
        elif begins != "O":
            names.append((start, end, NAMES.get(kind, kind.lower())))
        before = begins
    return names


def _text(sentence: conllu.TokenList) -> str:
    return sentence.metadata.get("text") or " ".join(form for _, form in _written(sentence))


def _written(sentence: conllu.TokenList) -> list[tuple[range, str]]:
    """Each word as it is written, with the numbers of its words: "du" is "de" and "le"."""
    written, last = [], 0
    for word in sentence:
        match word["id"]:
            case (first, "-", last):
                written.append((range(first, last + 1), word["form"]))
            case int(number) if number > last:
                written.append((range(number, number + 1), word["form"]))
    return written


def _places(sentence: conllu.TokenList) -> list[tuple[int, int]]:
    """Where each word stands: its own letters where they are there, else what it is written in."""
    text, written = _text(sentence), _written(sentence)
    form_of = {word["id"]: word["form"] for word in sentence}
    places, used = [], 0
    spans = _align(text, [form for _, form in written])
    for (numbers, _), (start, end) in zip(written, spans, strict=True):
        for number in numbers:
            own = text.find(form_of[number], max(start, used), end)
            if own < 0:
                places.append((start, end))
                continue
            used = own + len(form_of[number])
            places.append((own, used))
    return places


def _align(text: str, words: list[str]) -> list[tuple[int, int]]:
    """First character and the one after the last of each word, in their order in the text."""
    places, end = [], 0
    for word in words:
        start = text.find(word, end)
        if start < 0:
            raise ValueError(
                f"expected the words of a sentence in its text, {word!r} is not in {text[end:]!r}"
            )
        end = start + len(word)
        places.append((start, end))
    return places
