"""A sentence as text, words and tokens. A word is a stretch of the text, whatever its tokens."""

import re
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .text import MARKS, Place, find_word, folded, words_of
from .values import shortened, whole


@dataclass(frozen=True, eq=False, repr=False)
class Sentence:
    """One encoded sentence or a pair: `.inputs`, a dict of [1, seq] tensors, and seq `.tokens`.

    `.tokens` has the letters of each token, with ## in front of what goes on with a word; `.text`
    and `.pair` are what was typed. For each token `.words` has the number of its word, counted
    through both texts, `.texts` that of its text, 0 or 1, and `.places` its stretch of it; words
    and texts are None for what the tokenizer added, such as [CLS]. `.folds`: whether the tokenizer
    overlooks case, and accents.
    """

    inputs: dict[str, Tensor]
    tokens: list[str]
    text: str
    pair: str | None
    words: list[int | None]
    texts: list[int | None]
    places: list[Place]
    folds: tuple[bool, bool]

    def __repr__(self) -> str:
        return f"Sentence({len(self.tokens)} tokens: {shortened(' '.join(self.tokens))})"

    def position(self, word: str, occurrence: int = 0, text: int | None = None) -> int:
        """The first token of a word, or of several; see `positions`.

        >>> from helpers import load_bert
        >>> tokenizer = load_bert("minilm", pretrained=False)[1]
        >>> sentence = encode(tokenizer, "Embeddings, a bed, a Bed.")
        >>> sentence.position("bed"), sentence.position("bed", occurrence=1)
        (7, 10)
        """
        return self.positions(word, occurrence, text)[0]

    def positions(self, word: str, occurrence: int = 0, text: int | None = None) -> list[int]:
        """The tokens of a word, or of several such as "New York", where it stands in the text.

        `occurrence` counts from 0, in a pair through both texts or, with `text` 0 or 1, in that
        one. Case and accents matter as far as they do to the tokenizer; a word that is not there
        so is looked for in any case. Raises `ValueError`, with the tokens, for what is not there.
        """
        asked = [0] if self.pair is None else [0, 1]
        if text is not None:
            asked = [whole(text, "the number of a text", 0, asked[-1])]
        case, accents = self.folds
        found = self._found(word, asked, case, accents) or self._found(word, asked, True, accents)
        if not found:
            raise ValueError(
                f"expected a word of the sentence, got {word!r}; its tokens are {self.tokens}"
            )
        return found[whole(occurrence, f"an occurrence of {word!r}", 0, len(found) - 1)]

    def _found(self, word: str, asked: list[int], case: bool, accents: bool) -> list[list[int]]:
        """The tokens of each occurrence; what the tokenizer added is found by its name."""
        found = []
        for number in asked:
            text = (self.text, self.pair or "")[number]
            for start, end in find_word(str(word), text, case, accents):
                over = [first < min(end, last) and last > start for first, last in self.places]
                found.append([i for i, n in enumerate(self.texts) if n == number and over[i]])
        added = [[i] for i, n in enumerate(self.texts) if n is None and self.tokens[i] == word]
        return list(filter(None, found)) or added

    def to(self, device: torch.device | str) -> "Sentence":
        """The same with its inputs on a device."""
        return replace(self, inputs={name: value.to(device) for name, value in self.inputs.items()})


Inputs = Sentence | Mapping[str, Tensor]  # what a measurement takes


def encode(
    tokenizer,
    text: str | list[str] | tuple,
    pair: str | list[str] | None = None,
    *,
    words: list[Place] | None = None,
) -> Sentence:
    """Encode one sentence, or a pair of them, without truncation or padding.

    A text is a str or a list of its words, already split; `text` may be the pair `(text, pair)`.
    Words of a str are runs of letters and digits, and each mark; in a script without spaces they
    are single letters. `words` are the places of other ones (first character, the one after the
    last). Words that one token holds together are one.

    Returns a `Sentence`; `.inputs` goes to the model as `model(**sentence.inputs)`.
    Raises `ValueError` when a text is empty or has more tokens than the model has positions.

    >>> from helpers import load_bert
    >>> model, tokenizer = load_bert("minilm", pretrained=False)
    >>> encode(tokenizer, "Hello world!").tokens
    ['[CLS]', 'hello', 'world', '!', '[SEP]']
    >>> encode(tokenizer, ["Don't", "embed!"]).words
    [None, 0, 0, 0, 1, 1, 1, None]
    """
    if not callable(getattr(tokenizer, "tokenize", None)):
        raise ValueError(
            f"expected a tokenizer, got {type(tokenizer).__name__}; model, tokenizer = load_bert() "
            "gives both, then encode(tokenizer, text)"
        )
    if isinstance(text, tuple) and len(text) == 2 and pair is None:
        text, pair = text
    texts, known = [], []
    for part in [text] if pair is None else [text, pair]:
        typed, its_words = _typed(part)
        if not tokenizer.tokenize(typed):
            raise ValueError(
                f"expected a sentence, got {typed[:40]!r}, which has no token; give at least one "
                "word"
            )
        texts.append(typed)
        known.append(its_words)
    is_fast = tokenizer.is_fast
    encoded = tokenizer(*texts, return_tensors="pt", return_offsets_mapping=is_fast, verbose=False)
    inputs = {name: value for name, value in encoded.items() if name != "offset_mapping"}
    seq, limit = inputs["input_ids"].shape[1], tokenizer.model_max_length
    if seq > limit:
        raise ValueError(
            f"expected at most {limit} tokens, the model's positions, got {seq} with the special "
            "tokens; shorten the text or split it into sentences"
        )
    tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    if is_fast:
        which, places = encoded.sequence_ids(0), encoded["offset_mapping"][0].tolist()
    else:
        which, places = _aligned(tokenizer, texts, tokens)
    numbers: list[int | None] = [None] * seq
    count = 0
    for number, typed in enumerate(texts):
        own = [i for i in range(seq) if which[i] == number]
        pieces = [(tokens[i], *places[i]) for i in own]
        read = _read(typed, words or known[number], pieces, tokenizer.all_special_tokens)
        for i, (label, place, word) in zip(own, read, strict=True):
            tokens[i], places[i], numbers[i] = label, place, count + word
        count += 1 + word
    folds_case = tokenizer.tokenize("A") == tokenizer.tokenize("a")
    folds_accents = tokenizer.tokenize("é") == tokenizer.tokenize("e")
    folds = (folds_case, folds_accents)
    second = None if pair is None else texts[1]
    return Sentence(inputs, tokens, texts[0], second, numbers, which, places, folds)


def _typed(part: Any) -> tuple[str, list[Place]]:
    """A text and the places of its words, which may be split already."""
    if isinstance(part, str):
        return part, words_of(part)
    words: list[Any] = part if isinstance(part, list) else [None]
    for word in words:
        # a list of sentences is a mistake that looks like a list of words
        if not isinstance(word, str) or len(word.split()) != 1:
            raise ValueError(
                "expected one sentence as a str, or a list of its words, got "
                f"{shortened(repr(part))}; encode sentences one at a time"
            )
    text = " ".join(words)
    return text, [found.span() for found in re.finditer(r"\S+", text)]


def _aligned(tokenizer, texts: list[str], tokens: list[str]) -> tuple[list, list[Place]]:
    """Which text each token is of, and its place: a tokenizer in Python does not tell."""
    added = set(tokenizer.all_special_tokens) - {tokenizer.unk_token, tokenizer.mask_token}
    own = [i for i, token in enumerate(tokens) if token not in added]
    which: list[int | None] = [None] * len(tokens)
    places = [(0, 0)] * len(tokens)
    for number, text in enumerate(texts):
        pieces = tokenizer.tokenize(text)
        for i, place in zip(own, _placed(pieces, text), strict=False):
            which[i], places[i] = number, place
        own = own[len(pieces) :]
    return which, places


def _placed(pieces: list[str], text: str) -> list[Place]:
    """Where pieces stand, one after the other; unknown ones share what is left between."""
    places: list[Place] = []
    letters, last, unknown = folded(text), 0, 0
    for piece in pieces:
        wanted = folded(MARKS.sub("", piece))
        start = letters.find(wanted, last)
        skipped = letters[last:start].strip()
        if start < 0 or (skipped and not unknown):
            unknown += 1
            continue
        places += [(last, start)] * unknown
        last, unknown = start + len(wanted), 0
        places.append((start, last))
    return places + [(last, len(text))] * unknown


def _read(
    text: str, words: list[Place], pieces: list[tuple[str, int, int]], named: list[str]
) -> Iterator[tuple[str, Place, int]]:
    """Of each piece: its letters, its place without spaces, and the number of its word.

    The letters are the text's where the tokenizer has bytes instead, with ## in front when it goes
    on with a word; tokens `named` keep their name. A piece without letters of its own, such as the
    second byte of a letter, is ##, a space alone is ␣. Words that one piece holds together are one.
    """
    starts = [start for start, _ in words]
    own_starts = {start for start, _ in words_of(text)}
    word, reached, covered = -1, 0, 0
    for token, start, end in pieces:
        stretch = text[start:end]
        start = end - len(stretch.lstrip())
        is_text = token == stretch  # "##" may stand in the text itself
        letters = token if is_text else MARKS.sub("", token)
        is_marked = token.startswith("##") and not is_text
        goes_on = is_marked or start < covered or start not in own_starts
        if token in named:
            letters, goes_on = token, False
        elif not letters.strip() or not stretch.strip():
            letters, goes_on, end = "␣", False, start
        elif letters not in (stretch, stretch.lower(), folded(stretch)):  # bytes, or normalised
            letters = text[max(start, covered) : end]
        if (first := bisect(starts, start)) > reached:
            word += 1
        reached = max(reached, first, bisect(starts, end - 1))
        covered = max(covered, end)
        yield ("##" if goes_on else "") + letters, (start, end), max(word, 0)
