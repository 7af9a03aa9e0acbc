"""One sentence seen as words, with its names, parts of speech and kinds of words.

Statistics of it are in measures.py; the files that sentences come from are read by corpora.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import regex

from ..text import UNSPACED, Place, words_of
from ..values import all_pairs
from ..words import Sentence, encode

NAME = re.compile(r"\[([^|\]]+)\|([\w-]+)\]")
OPEN, CLOSE = "\ue000", "\ue001"  # brackets of the text, while names are looked for
QUOTATION = [*'"“”„«»‹›「」『』＂', "``", "''"]
MARKS = dict.fromkeys(",，、،﹐､", "comma") | dict.fromkeys(QUOTATION, "quotation mark")
MARKS |= dict.fromkeys(".。．｡।۔", "full stop inside")
KINDS = ["content word", "function word", "comma", "full stop inside", "full stop at the end"]
KINDS += ["quotation mark", "other mark", "[CLS]", "[SEP]"]
# Universal Dependencies calls these parts of speech closed (and numerals, which have content)
CLOSED = ["ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"]
FUNCTION = """
    a an the this that these those of to in on at by for from with into over under about between
    through during before after until since than as and or nor but if so yet because although
    though when where who whom whose which what whether while is are was were be been being am
    do does did has have had having will would can could may might must shall should not no n't
    i you he she it we they me him her us them my your his its our their mine yours hers ours
    theirs myself yourself himself herself itself ourselves themselves there up out off s t d ll
    re ve m
    """.split()  # noqa: SIM905
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
        written = [any(map(str.isalnum, word)) for word in self.words]
        return ~np.array(written, dtype=bool)

    @property
    def added(self) -> tuple[list[int], list[int]]:
        """Token positions of what the tokenizer put before the words and after them."""
        places = list(range(len(self.sentence.tokens)))
        first, last = self.tokens[0][0], self.tokens[-1][-1]
        return places[:first], places[last + 1 :]

    @property
    def named(self) -> np.ndarray:
        """[word] of bool: it is a part of a name."""
        inside = np.zeros(len(self.words), dtype=bool)
        for span in self.spans:
            inside[span] = True
        return inside

    def matrix(self, values, *, mean: bool = False, special: bool = False) -> np.ndarray:
        """[..., token, token] to [..., word, word]: influence summed over the pieces of each word.

        With `mean`, its mean. The sum is all that one word receives from another; it grows with the
        number of pieces, the mean does not. With `special` what the tokenizer added stands before
        and after the words, one place each, as in `kinds(special=True)`; it may add nothing.
        """
        values = all_pairs(values)
        seq = len(self.sentence.tokens)
        if values.shape[-1] != seq:
            expected = f"expected influence between the sentence's {seq} tokens"
            raise ValueError(f"{expected}, got {list(values.shape)}")
        before, after = self.added if special else ([], [])
        places = [place for place in [before, *self.tokens, after] if place]
        member = np.zeros((len(places), seq))
        for word, positions in enumerate(places):
            member[word, positions] = 1 / len(positions) if mean else 1
        return member @ values @ member.T

    def kinds(self, *, special: bool = True) -> dict[str, np.ndarray]:
        """Masks of bool, from "all words" to "[SEP]", that fit `matrix(..., special=special)`.

        Function words are the closed classes of Universal Dependencies or, without `pos`, words of
        an English list; in another script no word is known as content or function word then. What
        the tokenizer puts first and last is called "[CLS]" and "[SEP]", whatever the model calls
        it; a tokenizer may add nothing.
        """
        written = ~self.punctuation
        if self.pos:
            function = np.isin(self.pos, CLOSED)
        else:
            function = np.isin([word.lower() for word in self.words], FUNCTION)
        letters = [letter for letter in "".join(self.words) if letter.isalpha()]
        is_told = self.pos or not letters or any(map(str.isascii, letters))
        found = np.array([MARKS.get(word, "other mark") for word in self.words], dtype=object)
        found[written] = "content word" if is_told else "a word"
        found[written & function] = "function word"
        end = max(np.flatnonzero(written), default=-1)  # no letter or digit comes after it
        final = np.arange(len(found)) > end
        found[final & (found == "full stop inside")] = "full stop at the end"
        if special:
            before, after = self.added
            first = ["[CLS]"] if before else []
            last = ["[SEP]"] if after else []
            found = np.array(first + found.tolist() + last)
        masks = {"all words": ~np.isin(found, ["[CLS]", "[SEP]"])}
        return masks | {kind: found == kind for kind in KINDS}

    def phrases(self, *, nouns: bool = False) -> list[list[int]]:
        """Word numbers of each run of two or more content words outside names: their control.

        With `nouns` of common nouns alone, as in "bus stop"; none where `pos` does not tell.
        """
        free = self.kinds(special=False)["content word"] & ~self.named
        if nouns:
            free &= np.array(self.pos) == "NOUN"
        places = np.flatnonzero(free)
        runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
        return [run.tolist() for run in runs if len(run) > 1]


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
    text = line.replace(r"\[", OPEN).replace(r"\]", CLOSE)
    names, end = [], 0
    while name := NAME.search(text, end):
        start, end = name.start(), name.start() + len(name[1])
        names.append((start, end, name[2]))
        text = text[:start] + name[1] + text[name.end() :]
    if "[" in text or "]" in text:
        raise ValueError(
            f"expected every entity marked as [words|type], got {line!r}; a bracket of the text "
            r"itself is written \[ or \]"
        )
    text = text.replace(OPEN, "[").replace(CLOSE, "]")
    return annotated(text, names, register, tokenizer)


def shuffled(marked: MarkedSentence, tokenizer, seed: int = 0) -> MarkedSentence:
    """The words of a sentence in random order.

    What is left of a statistic then is not about how they belong together. Kinds and parts of
    speech move with the words; the names stay where they were, and now hold any words.
    """
    order = np.random.default_rng(seed).permutation(len(marked.words))
    words = [marked.words[number] for number in order]
    text = " ".join(words)
    places = places_of(words, text)
    names = []
    for span, kind in zip(marked.spans, marked.types, strict=True):
        if span:
            first, last = places[span[0]], places[span[-1]]
            names.append((first[0], last[1], kind))
    pos = marked.pos or ["_"] * len(words)
    known = [(*place, pos[number]) for place, number in zip(places, order, strict=True)]
    return annotated(text, names, marked.register, tokenizer, known)


def places_of(words: list[str], text: str) -> list[Place]:
    """Where each of the words stands in a text; together they are the whole text."""
    places, rest = [], text
    for word in words:
        start = len(text) - len(rest.lstrip())
        if not text.startswith(word, start):
            missing = f"{word!r} is not in {rest!r}"
            raise ValueError(f"expected the words of a sentence in its text, {missing}")
        places.append((start, start + len(word)))
        rest = text[start + len(word) :]
    if rest.strip():
        raise ValueError(f"expected all of the text in the words of a sentence, {rest!r} is not")
    return places


def annotated(
    text: str,
    names: Sequence[Annotation],
    register: str,
    tokenizer,
    known: Sequence[Annotation] = (),
) -> MarkedSentence:
    """The sentence with what is known of its characters: names, and words.

    Of each word of `known` its part of speech, "_" where nobody tells. They also tell where words
    end in a script without spaces.
    """
    places = set(words_of(text))
    for start, end, _ in known:
        if regex.search(f"[{UNSPACED}]", text[start:end]):
            places -= {place for place in places if start <= place[0] < end}
            places.add((start, end))
    sentence = encode(tokenizer, text, words=sorted(places))
    numbers = np.array(sentence.words, dtype=float)  # NaN for what the tokenizer added
    pieces = pd.DataFrame(sentence.places, columns=["first", "last"]).groupby(numbers)
    tokens = [list(map(int, positions)) for positions in pieces.indices.values()]
    first = pieces["first"].min().to_numpy()
    last = pieces["last"].max().to_numpy()

    def between(start: int, end: int) -> list[int]:
        return np.flatnonzero((first < end) & (start < last)).tolist()

    told = [word for word in known if word[2] != "_"]
    pos = ["X"] * len(tokens)
    for start, end, tag in reversed(told):  # of several in one word the first one counts
        for word in between(start, end):
            pos[word] = tag
    words = [text[start:end] for start, end in zip(first, last, strict=True)]
    spans = [between(start, end) for start, end, _ in names]
    types = [kind for _, _, kind in names]
    return MarkedSentence(sentence, words, tokens, spans, types, register, pos if told else None)
