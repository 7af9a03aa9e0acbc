"""Annotated sentences as words: names and parts of speech from a text file of ours, from CoNLL-U or from IOB2."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import conllu
import numpy as np

from .findings import square
from .models import Sentence, encode

SPAN = re.compile(r"\[([^|\]]+)\|(\w+)\]")
QUOTATION = {'"', "“", "”", "„", "«", "»", "``", "''"}
# Universal Dependencies calls these parts of speech closed (and numerals, which have content)
CLOSED = {"ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"}
FUNCTION = set(
    """a an the this that these those of to in on at by for from with into over under about between through during
    before after until since than as and or nor but if so yet because although though when where who whom whose which
    what whether while is are was were be been being am do does did has have had having will would can could may might
    must shall should not no n't i you he she it we they me him her us them my your his its our their mine yours hers
    ours theirs myself yourself himself herself itself ourselves themselves there up out off s t d ll re ve m""".split()  # noqa: SIM905
)
NAMES = {"PER": "person", "LOC": "place", "ORG": "organisation"}  # Universal NER's types in plain words
Annotation = tuple[int, int, str]  # first character, the one after the last, what it is


@dataclass(frozen=True)
class MarkedSentence:
    """An encoded sentence seen as words, special tokens left out, with its names and parts of speech."""

    sentence: Sentence
    words: list[str]
    tokens: list[list[int]]  # token positions of each word
    spans: list[list[int]]  # word numbers of each name
    types: list[str]  # of each name, such as "person"
    register: str
    pos: list[str] | None = None  # universal part of speech of each word; None when the text does not tell

    @property
    def punctuation(self) -> np.ndarray:
        """[word] of bool: no letter and no digit in it."""
        return np.array([not any(map(str.isalnum, word)) for word in self.words], dtype=bool)

    def matrix(self, values, *, mean: bool = False, special: bool = False) -> np.ndarray:
        """[..., token, token] to [..., word, word]: influence summed over the pieces of each word, or its mean.

        The sum is all that one word receives from another; it grows with the number of pieces, the mean does not.
        With `special` the first and the last token stand before and after the words, [..., word + 2, word + 2].
        """
        values = square(values)
        if (seq := len(self.sentence.tokens)) != values.shape[-1]:
            raise ValueError(f"expected influence between the sentence's {seq} tokens, got {list(values.shape)}")
        places = [[0], *self.tokens, [values.shape[-1] - 1]] if special else self.tokens
        member = np.zeros((len(places), values.shape[-1]))
        for word, positions in enumerate(places):
            member[word, positions] = 1 / len(positions) if mean else 1
        return member @ values @ member.T

    def kinds(self) -> dict[str, np.ndarray]:
        """Masks [word + 2] of bool that fit `matrix(..., special=True)`, from "all words" to "[CLS]" and "[SEP]".

        Function words are the closed classes of Universal Dependencies, or, without `pos`, words of a list (English).
        The first and last token are called "[CLS]" and "[SEP]", whatever the model calls them.
        """
        words, mark = self.words, self.punctuation
        last = max(np.flatnonzero(~mark), default=-1)  # no letter or digit comes after it
        final = np.arange(len(words)) > last
        comma, stop = (np.array([word == sign for word in words], dtype=bool) for sign in (",", "."))
        quotation = np.array([word in QUOTATION for word in words], dtype=bool)
        closed = [p in CLOSED for p in self.pos] if self.pos else [word.lower() in FUNCTION for word in words]
        function = np.array(closed, dtype=bool) & ~mark
        masks = {
            "all words": np.ones(len(words), dtype=bool),
            "content word": ~mark & ~function,
            "function word": function,
            "comma": comma,
            "full stop inside": stop & ~final,
            "full stop at the end": stop & final,
            "quotation mark": quotation,
            "other mark": mark & ~comma & ~stop & ~quotation,
        }
        padded = {kind: np.pad(mask, 1) for kind, mask in masks.items()}
        place = np.arange(len(words) + 2)
        return padded | {"[CLS]": place == 0, "[SEP]": place == len(words) + 1}

    def phrases(self) -> list[list[int]]:
        """Word numbers of each run of two or more content words that has no word of a name: the control of names."""
        free = self.kinds()["content word"][1:-1].copy()
        free[[word for span in self.spans for word in span]] = False
        runs = np.split(np.arange(len(free)), np.flatnonzero(np.diff(free.astype(int))) + 1)
        return [run.tolist() for run in runs if len(run) > 1 and free[run[0]]]


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
        return [_marked(text, _names(text, rows), None, "", tokenizer) for text, rows in spans.values()]
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
        found.append(_marked(text, marked, pos, "", tokenizer))
    return found


def mark_sentence(line: str, tokenizer, register: str = "") -> MarkedSentence:
    """Encode a sentence whose names are written as [words|type].

    Raises `ValueError` for a bracket that is not part of such a mark, and for a tokenizer that does not know words.

    >>> from helpers import load_bert
    >>> marked = mark_sentence("[Ada Lovelace|person] wrote.", load_bert()[1])
    >>> marked.words, marked.spans
    (['Ada', 'Lovelace', 'wrote', '.'], [[0, 1]])
    """
    if not isinstance(line, str):
        raise ValueError(f"expected a sentence as a str, got {type(line).__name__}")
    parts = SPAN.split(line)  # plain, entity, type, plain, entity, type, ..., plain
    types = parts[2::3]
    del parts[2::3]
    text, ends = "".join(parts), np.cumsum([len(part) for part in parts])
    if "[" in text or "]" in text:
        raise ValueError(f"expected every entity marked as [words|type], got {line!r}")
    names = [(int(start), int(end), kind) for start, end, kind in zip(ends[:-1:2], ends[1::2], types, strict=True)]
    return _marked(text, names, None, register, tokenizer)


def shuffled(marked: MarkedSentence, tokenizer, seed: int = 0) -> MarkedSentence:
    """The words of a sentence in random order: what is left of a statistic is not about how they belong together.

    Kinds and parts of speech move with the words; the names stay where they were, and now hold any words.
    """
    order = np.random.default_rng(seed).permutation(len(marked.words))
    words = [marked.words[word] for word in order]
    starts = np.cumsum([0, *(len(word) + 1 for word in words)]).tolist()
    places = [(start, start + len(word)) for start, word in zip(starts, words, strict=False)]
    pos = None
    if marked.pos:
        pos = [(*place, marked.pos[word]) for place, word in zip(places, order, strict=True)]
    names = [
        (places[span[0]][0], places[span[-1]][1], kind)
        for span, kind in zip(marked.spans, marked.types, strict=True)
        if span
    ]
    return _marked(" ".join(words), names, pos, marked.register, tokenizer)


def _marked(
    text: str, names: Sequence[Annotation], pos: Sequence[Annotation] | None, register: str, tokenizer
) -> MarkedSentence:
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"expected a tokenizer that knows the word of each token (word_ids), got {type(tokenizer).__name__}; those "
            "of characters (CANINE) or bytes (ByT5) do not, and serve encode(tokenizer, text) only"
        )
    encoding = tokenizer(text)
    tokens: dict[int, list[int]] = {}
    for position, word in enumerate(encoding.word_ids()):
        if word is not None:
            tokens.setdefault(word, []).append(position)
    places = [tuple(encoding.word_to_chars(word)) for word in tokens]

    def between(start: int, end: int) -> list[int]:
        return [word for word, (first, stop) in enumerate(places) if first < end and start < stop]

    parts = None
    if pos is not None:
        parts = ["X"] * len(places)
        for start, end, kind in reversed(pos):  # where one word of the tokenizer holds several, the first one counts
            for word in between(start, end):
                parts[word] = kind
    words = [text[first:stop].strip() for first, stop in places]
    spans, types = [between(start, end) for start, end, _ in names], [kind for *_, kind in names]
    return MarkedSentence(encode(tokenizer, text), words, list(tokens.values()), spans, types, register, parts)


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
