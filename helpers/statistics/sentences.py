"""A sentence seen as words, with its names and parts of speech, and what kinds of words it has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..values import all_pairs
from ..words import Sentence, encode

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
    pos: list[str] | None = (
        None  # universal part of speech of each word; None when the text does not tell
    )

    @property
    def punctuation(self) -> np.ndarray:
        """[word] of bool: no letter and no digit in it."""
        return np.array([not any(map(str.isalnum, word)) for word in self.words], dtype=bool)

    def matrix(self, values, *, mean: bool = False, special: bool = False) -> np.ndarray:
        """[..., token, token] to [..., word, word]: influence summed over the pieces of each word, or its mean.

        The sum is all that one word receives from another; it grows with the number of pieces, the
        mean does not. With `special` the first and the last token stand before and after the words,
        [..., word + 2, word + 2].
        """
        values = all_pairs(values)
        if (seq := len(self.sentence.tokens)) != values.shape[-1]:
            raise ValueError(
                f"expected influence between the sentence's {seq} tokens, got {list(values.shape)}"
            )
        places = [[0], *self.tokens, [values.shape[-1] - 1]] if special else self.tokens
        member = np.zeros((len(places), values.shape[-1]))
        for word, positions in enumerate(places):
            member[word, positions] = 1 / len(positions) if mean else 1
        return member @ values @ member.T

    def kinds(self) -> dict[str, np.ndarray]:
        """Masks [word + 2] of bool that fit `matrix(..., special=True)`, from "all words" to "[CLS]" and "[SEP]".

        Function words are the closed classes of Universal Dependencies, or, without `pos`, words of
        a list (English). The first and last token are called "[CLS]" and "[SEP]", whatever the
        model calls them.
        """
        words, mark = self.words, self.punctuation
        last = max(np.flatnonzero(~mark), default=-1)  # no letter or digit comes after it
        final = np.arange(len(words)) > last
        comma, stop = (
            np.array([word == sign for word in words], dtype=bool) for sign in (",", ".")
        )
        quotation = np.array([word in QUOTATION for word in words], dtype=bool)
        closed = (
            [p in CLOSED for p in self.pos]
            if self.pos
            else [word.lower() in FUNCTION for word in words]
        )
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


def mark_sentence(line: str, tokenizer, register: str = "") -> MarkedSentence:
    """Encode a sentence whose names are written as [words|type].

    Raises `ValueError` for a bracket that is not part of such a mark, and for a tokenizer that does
    not know words.

    >>> from helpers import load_bert
    >>> marked = mark_sentence("[Ada Lovelace|person] wrote.", load_bert()[1])
    >>> marked.words, marked.spans
    (['Ada', 'Lovelace', 'wrote', '.'], [[0, 1]])
    """
    if not isinstance(line, str):
        raise ValueError(f"expected a sentence as a str, got {type(line).__name__}")
    parts = SPAN.split(line)  # plain, words, type, plain, words, type, ..., plain
    text, names = parts[0], []
    for words, kind, plain in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        names.append((len(text), len(text) + len(words), kind))
        text += words + plain
    if "[" in text or "]" in text:
        raise ValueError(f"expected every entity marked as [words|type], got {line!r}")
    return annotated(text, names, None, register, tokenizer)


def shuffled(marked: MarkedSentence, tokenizer, seed: int = 0) -> MarkedSentence:
    """The words of a sentence in random order: what is left of a statistic is not about how they belong together.

    Kinds and parts of speech move with the words; the names stay where they were, and now hold any
    words.
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
    return annotated(" ".join(words), names, pos, marked.register, tokenizer)


def annotated(
    text: str,
    names: Sequence[Annotation],
    pos: Sequence[Annotation] | None,
    register: str,
    tokenizer,
) -> MarkedSentence:
    """The sentence with what is known of its characters: which are a name, and of which part of speech they are."""
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
        for start, end, kind in reversed(
            pos
        ):  # where one word of the tokenizer holds several, the first one counts
            for word in between(start, end):
                parts[word] = kind
    words = [text[first:stop].strip() for first, stop in places]
    spans, types = [between(start, end) for start, end, _ in names], [kind for *_, kind in names]
    return MarkedSentence(
        encode(tokenizer, text), words, list(tokens.values()), spans, types, register, parts
    )
