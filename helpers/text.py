"""Words of a text: where they are, how one is found, and how pieces of them are joined."""

import unicodedata
from collections.abc import Sequence

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
LETTER = rf"[\p{{L}}\p{{N}}--[{UNSPACED}]][\p{{M}}\p{{Cf}}]*"  # with accents, vowel signs, joiners
WORD = regex.compile(rf"(?V1)[{UNSPACED}]\p{{M}}*|({LETTER})+|(?=\S)\X")  # \X: an emoji, a mark
MARKS = regex.compile(r"^(##|[Ġ▁]+)|(@@|</w>)$")  # how tokenizers mark what begins or goes on
Place = tuple[int, int]  # first character, the one after the last


def words_of(text: str) -> list[Place]:
    """Where the words of a text are.

    >>> [text[start:end] for text in ["Don't go!", "北京。"] for start, end in words_of(text)]
    ['Don', "'", 't', 'go', '!', '北', '京', '。']
    """
    return [match.span() for match in WORD.finditer(text)]


def find_word(word: str, text: str, case: bool, accents: bool) -> list[Place]:
    """Where one word or several stand in the text; `case`, `accents`: without regard to them.

    >>> find_word("bed", "The embeddings describe a Bed.", case=True, accents=True)
    [(26, 29)]
    """
    letters = folded(" ".join(word.split()), case, accents)
    if accents:
        letters = regex.sub(r"\p{M}", "", letters)
    if not letters:
        return []
    wanted = ""
    for letter in letters:
        wanted += r"\s+" if letter == " " else regex.escape(letter)
        wanted += r"\p{M}*"
    places = words_of(text)
    starts = {start for start, _ in places}
    ends = {end for _, end in places}
    found = []
    for match in regex.finditer(wanted, folded(text, case, accents), overlapped=True):
        if match.start() in starts and match.end() in ends:
            found.append(match.span())
    return found


def joined(tokens: Sequence[str], raw: bool = False) -> list[tuple[str, list[int]]]:
    """Words and the positions of their pieces; ## begins a piece that goes on with a word.

    `raw` tokens, a tokenizer's own, may mark a word's first piece instead, by Ġ or ▁. In a
    `Sentence` that is done, and Ġ a letter of Maltese.

    >>> joined(["[CLS]", "em", "##bed", "it"])
    [('[CLS]', [0]), ('embed', [1, 2]), ('it', [3])]
    """
    first_is_marked = raw and any(token.startswith(("Ġ", "▁")) for token in tokens)
    words: list[tuple[str, list[int]]] = []
    for position, token in enumerate(tokens):
        letters = MARKS.sub("", token) if raw else token.removeprefix("##")
        word, places = words[-1] if words else ("", [])
        goes_on = token.startswith("##")
        if first_is_marked and letters == token:
            goes_on = word[-1:].isalnum() and token[:1].isalnum()
        if goes_on and words:
            words[-1] = word + letters, [*places, position]
        else:
            words.append((letters or token, [position]))
    return words


def folded(text: str, case: bool = True, accents: bool = True) -> str:
    """The text without case and accents, each character in its place."""
    if accents:
        text = "".join(map(_without_accents, text))
    return "".join(map(_small, text)) if case else text


def _without_accents(letter: str) -> str:
    apart = unicodedata.normalize("NFD", letter)
    is_accented = all(map(unicodedata.combining, apart[1:]))  # 한 is no ㅎ with accents
    return apart[0] if is_accented else letter


def _small(letter: str) -> str:
    small = letter.casefold()  # also of the σ at the end of a word
    return small if len(small) == 1 else letter.lower()[0]
