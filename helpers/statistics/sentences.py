"""A sentence seen as words, with its names and parts of speech, and what kinds of words it has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex

from ..text import UNSPACED, Place, words_of
from ..values import all_pairs
from ..words import Sentence, encode

SPAN = re.compile(r"\[([^|\]]+)\|([\w-]+)\]")
ESCAPED = {r"\[": "\ue000", r"\]": "\ue001"}  # brackets of the text, while names are looked for
PLAIN = str.maketrans("\ue000\ue001", "[]")
COMMA = set(",，、،﹐､")
STOP = set(".。．｡।۔")
QUOTATION = {*'"“”„«»‹›「」『』＂', "``", "''"}
# Universal Dependencies calls these parts of speech closed (and numerals, which have content)
CLOSED = {"ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"}
FUNCTION = set(
    """
    a an the this that these those of to in on at by for from with into over under about between
    through during before after until since than as and or nor but if so yet because although
    though when where who whom whose which what whether while is are was were be been being am
    do does did has have had having will would can could may might must shall should not no n't
    i you he she it we they me him her us them my your his its our their mine yours hers ours
    theirs myself yourself himself herself itself ourselves themselves there up out off s t d ll
    re ve m
    """.split()  # noqa: SIM905
)
Annotation = tuple[int, int, str]  # first character, the one after the last, what it is


@dataclass(frozen=True)
class MarkedSentence:
    """An encoded sentence seen as words, without special tokens, its names and parts of speech."""

    sentence: Sentence
    words: list[str]
    tokens: list[list[int]]  # token positions of each word
    spans: list[list[int]]  # word numbers of each name
    types: list[str]  # of each name, such as "person"
    register: str
    pos: list[str] | None = None  # universal part of speech of each word, if the text tells it

    @property
    def punctuation(self) -> np.ndarray:
        """[word] of bool: no letter and no digit in it."""
        return np.array([not any(map(str.isalnum, word)) for word in self.words], dtype=bool)

    @property
    def added(self) -> tuple[list[int], list[int]]:
        """Token positions of what the tokenizer put before the words and after them."""
        first, last = self.tokens[0][0], self.tokens[-1][-1]
        return list(range(first)), list(range(last + 1, len(self.sentence.tokens)))

    @property
    def named(self) -> np.ndarray:
        """[word] of bool: it is a part of a name."""
        inside = [word for span in self.spans for word in span]
        return np.isin(np.arange(len(self.words)), inside)

    def matrix(self, values, *, mean: bool = False, special: bool = False) -> np.ndarray:
        """[..., token, token] to [..., word, word]: influence summed over the pieces of each word.

        With `mean`, its mean. The sum is all that one word receives from another; it grows with the
        number of pieces, the mean does not. With `special` what the tokenizer added stands before
        and after the words, one place each, as in `kinds(special=True)`; it may add nothing.
        """
        values = all_pairs(values)
        if (seq := len(self.sentence.tokens)) != values.shape[-1]:
            raise ValueError(
                f"expected influence between the sentence's {seq} tokens, got {list(values.shape)}"
            )
        before, after = self.added if special else ([], [])
        places = [place for place in [before, *self.tokens, after] if place]
        member = np.zeros((len(places), seq))
        for word, positions in enumerate(places):
            member[word, positions] = 1 / len(positions) if mean else 1
        return member @ values @ member.T

    def kinds(self, *, special: bool = True) -> dict[str, np.ndarray]:
        """Masks of bool, from "all words" to "[SEP]", that fit `matrix(..., special=special)`.

        Function words are the closed classes of Universal Dependencies or, without `pos`, words of
        an English list; in another script there are no content and function words then. What the
        tokenizer puts first and last is called "[CLS]" and "[SEP]", whatever the model calls it,
        and is not there for a tokenizer that adds nothing.
        """
        mark = self.punctuation
        comma, stop, quotation = (_among(self.words, signs) for signs in (COMMA, STOP, QUOTATION))
        last = max(np.flatnonzero(~mark), default=-1)  # no letter or digit comes after it
        final = np.arange(len(mark)) > last
        function = ~mark & _among([word.lower() for word in self.words], FUNCTION)
        if self.pos:
            function = ~mark & _among(self.pos, CLOSED)
        masks = {
            "all words": np.ones(len(mark), dtype=bool),
            "content word": ~mark & ~function,
            "function word": function,
            "comma": comma,
            "full stop inside": stop & ~final,
            "full stop at the end": stop & final,
            "quotation mark": quotation,
            "other mark": mark & ~comma & ~stop & ~quotation,
        }
        letters = [letter for letter in "".join(self.words) if letter.isalpha()]
        if letters and not self.pos and not any(map(str.isascii, letters)):
            del masks["content word"], masks["function word"]
        if special:
            before, after = (int(bool(tokens)) for tokens in self.added)
            masks = {kind: np.pad(mask, (before, after)) for kind, mask in masks.items()}
            place = np.arange(before + len(mark) + after)
            ends = {"[CLS]": place < before, "[SEP]": place >= before + len(mark)}
            masks |= {kind: mask for kind, mask in ends.items() if mask.any()}
        return masks

    def phrases(self, *, nouns: bool = False) -> list[list[int]]:
        """Word numbers of each run of two or more content words outside names: their control.

        With `nouns` of common nouns alone, as in "bus stop"; none where `pos` does not tell.
        """
        free = self.kinds(special=False).get("content word", np.zeros(len(self.words), dtype=bool))
        if nouns:
            free &= _among(self.pos or [""] * len(free), {"NOUN"})
        line = "".join("x" if word else " " for word in free & ~self.named)
        return [list(range(*run.span())) for run in re.finditer("xx+", line)]


def mark_sentence(line: str, tokenizer, register: str = "") -> MarkedSentence:
    """Encode a sentence whose names are written as [words|type].

    A bracket of the text itself is written \\[ or \\]. Raises `ValueError` for one that is neither.

    >>> from helpers import load_bert
    >>> marked = mark_sentence("[Ada Lovelace|person] wrote.", load_bert()[1])
    >>> marked.words, marked.spans
    (['Ada', 'Lovelace', 'wrote', '.'], [[0, 1]])
    """
    if not isinstance(line, str):
        raise ValueError(f"expected a sentence as a str, got {type(line).__name__}")
    hidden = line
    for written, sign in ESCAPED.items():
        hidden = hidden.replace(written, sign)
    parts = SPAN.split(hidden)  # plain, words, type, plain, words, type, ..., plain
    text, names = parts[0], []
    for words, kind, plain in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        names.append((len(text), len(text) + len(words), kind))
        text += words + plain
    if "[" in text or "]" in text:
        raise ValueError(
            f"expected every entity marked as [words|type], got {line!r}; a bracket of the text "
            r"itself is written \[ or \]"
        )
    return annotated(text.translate(PLAIN), names, None, register, tokenizer)


def shuffled(marked: MarkedSentence, tokenizer, seed: int = 0) -> MarkedSentence:
    """The words of a sentence in random order.

    What is left of a statistic then is not about how they belong together. Kinds and parts of
    speech move with the words; the names stay where they were, and now hold any words.
    """
    order = np.random.default_rng(seed).permutation(len(marked.words))
    text, places = "", []
    for word in order:
        start = len(text)
        text += marked.words[word] + " "
        places.append((start, len(text) - 1))
    names, pos = [], None
    for span, kind in zip(marked.spans, marked.types, strict=True):
        if span:
            names.append((places[span[0]][0], places[span[-1]][1], kind))
    if marked.pos:
        pos = [(*place, marked.pos[word]) for place, word in zip(places, order, strict=True)]
    return annotated(text.strip(), names, pos, marked.register, tokenizer, places)


def annotated(
    text: str,
    names: Sequence[Annotation],
    pos: Sequence[Annotation] | None,
    register: str,
    tokenizer,
    known: Sequence[Place] = (),
) -> MarkedSentence:
    """The sentence with what is known of its characters: their names and parts of speech.

    `known` are places of words, which tell where words end in a script without spaces.
    """
    places = words_of(text)
    for start, end in known:
        if regex.search(f"[{UNSPACED}]", text[start:end]):
            places = [place for place in places if not start <= place[0] < end] + [(start, end)]
    sentence = encode(tokenizer, text, words=sorted(set(places)))
    tokens: dict[int, list[int]] = {}
    for position, number in enumerate(sentence.words):
        if number is not None:
            tokens.setdefault(number, []).append(position)
    stretches = [[sentence.places[token] for token in word] for word in tokens.values()]
    first = np.array([min(stretch)[0] for stretch in stretches])
    last = np.array([max(end for _, end in stretch) for stretch in stretches])

    def between(start: int, end: int) -> list[int]:
        return np.flatnonzero((first < end) & (start < last)).tolist()

    parts = None
    if pos is not None:
        parts = ["X"] * len(tokens)
        for start, end, kind in reversed(pos):  # of several in one word the first one counts
            for word in between(start, end):
                parts[word] = kind
    words = [text[start:end] for start, end in zip(first, last, strict=True)]
    spans = [between(start, end) for start, end, _ in names]
    types = [kind for _, _, kind in names]
    return MarkedSentence(sentence, words, list(tokens.values()), spans, types, register, parts)


def _among(words: list[str], these: set[str]) -> np.ndarray:
    return np.array([word in these for word in words], dtype=bool)
