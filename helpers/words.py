"""Words are stretches of a text: where they begin, which letters a piece has, where a word stands."""

import re
import unicodedata
from bisect import bisect
from collections.abc import Collection, Sequence

Place = tuple[int, int]  # first character, the one after the last
MARKS = re.compile(r"^(##|[Ġ▁]+)|(@@|</w>)$")  # how tokenizers mark what begins or goes on
UNSPACED = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
JOINER = "\u200d"


def unspaced(letter: str) -> bool:
    """Whether the letter is of a script that is written without spaces between words."""
    return unicodedata.name(letter, "").startswith(UNSPACED)


def glued(before: str, after: str) -> bool:
    """Whether two neighbouring characters are of one word: letters, digits, and what is put on them.

    A mark is a word of its own, and so is each letter of a script without spaces.

    >>> glued("o", "k"), glued("k", "."), glued(".", "."), glued("北", "京")
    (True, False, False, False)
    """
    if before.isspace() or after.isspace():
        return False
    if _attached(after) or before == JOINER:
        return True
    letters = all(letter.isalnum() or _attached(letter) for letter in (before, after))
    return letters and not (unspaced(before) or unspaced(after))


def word_starts(text: str) -> list[int]:
    """The first character of each word.

    >>> word_starts("Don't go!")
    [0, 3, 4, 6, 8]
    """
    return [at for at, letter in enumerate(text) if not letter.isspace() and _bound(text, at)]


def find_word(word: str, text: str, case: bool, accents: bool) -> list[Place]:
    """Where `word`, one word or several, stands in the text; `case` and `accents`: without regard to them.

    >>> find_word("bed", "The embeddings describe a Bed.", case=True, accents=True)
    [(26, 29)]
    """
    wanted, _ = _folded(word.strip(), case, accents)
    letters, origins = _folded(text, case, accents)
    origins.append(len(text))
    found = []
    at = letters.find(wanted) if wanted else -1
    while at >= 0:
        start, end = origins[at], origins[at + len(wanted)]
        whole = origins[at - 1] != start and origins[at + len(wanted) - 1] != end
        if whole and _bound(text, start) and _bound(text, end):
            found.append((start, end))
        at = letters.find(wanted, at + 1)
    return found


def align(text: str, pieces: Sequence[str]) -> list[Place]:
    """The stretch of each piece of a tokenizer that does not tell; unknown ones share what is left between.

    >>> align("đi hoc", ["đi", "ho@@", "c"])
    [(0, 2), (3, 5), (5, 6)]
    """
    letters, origins = _folded(text, case=True, accents=True)
    origins.append(len(text))
    found: list[Place | None] = []
    last = 0
    for piece in pieces:
        wanted, _ = _folded(MARKS.sub("", piece) or piece, case=True, accents=True)
        at = letters.find(wanted, last)
        skipped = letters[last:at].strip() and None not in found[-1:]
        if at < 0 or not wanted or skipped:
            found.append(None)
            continue
        last = at + len(wanted)
        found.append((origins[at], origins[last]))
    places = []
    end = 0
    for number, place in enumerate(found):
        if place is None:
            later = (known[0] for known in found[number:] if known is not None)
            places.append((end, next(later, len(text))))
        else:
            places.append(place)
            end = place[1]
    return places


def read_pieces(
    text: str,
    starts: Sequence[int],
    pieces: Sequence[str],
    places: Sequence[Place],
    named: Collection[str],
) -> list[tuple[Place, int, str]]:
    """Of each piece: its stretch of the text, the number of its word, and what it shows.

    It shows its letters, those of the text where the tokenizer has bytes instead, with ## in front
    when it goes on with a word; tokens `named` show their name. A piece without letters of its own,
    such as the second byte of a letter, shows ##, a space alone shows ␣. Words that one piece holds
    together are one.
    """
    trimmed = []
    for piece, (start, end) in zip(pieces, places, strict=True):
        letters = text[start:end]
        start = end - len(letters.lstrip())
        trimmed.append((start, start + len(letters.strip()) if MARKS.sub("", piece) else start))
    inside = {at for start, end in trimmed for at in range(start + 1, end)}
    kept = [start for start in starts if start not in inside]
    words = [bisect(kept, start) for start, _ in trimmed]
    ranks = {word: rank for rank, word in enumerate(sorted(set(words)))}
    found, covered = [], 0
    for piece, place, word in zip(pieces, trimmed, words, strict=True):
        start, end = place
        shown = MARKS.sub("", piece)
        if piece in named:
            shown = piece
        elif start == end:
            shown = "␣"
        elif _folded(shown, True, True)[0] != _folded(text[start:end], True, True)[0]:
            shown = text[max(start, covered) : end]
        goes_on = start < end and (start < covered or not _bound(text, start))
        if piece.startswith("##") or (goes_on and piece not in named):
            shown = "##" + shown
        found.append((place, ranks[word], shown))
        covered = max(covered, end)
    return found


def _attached(letter: str) -> bool:
    """Accents and vowel signs, joiners, skin tones: what belongs to the letter before it."""
    return unicodedata.category(letter) in ("Mn", "Mc", "Me", "Cf") or "🏻" <= letter <= "🏿"


def _bound(text: str, at: int) -> bool:
    return at in (0, len(text)) or not glued(text[at - 1], text[at])


def _folded(text: str, case: bool, accents: bool) -> tuple[str, list[int]]:
    """The letters that are compared, and the character of the text that each comes from."""
    letters, origins = "", []
    for at, letter in enumerate(text):
        for part in unicodedata.normalize("NFKD", letter.casefold() if case else letter):
            kind = unicodedata.category(part)
            part = " " if part.isspace() else part
            repeated = part == " " and letters[-1:] in ("", " ")
            if not (repeated or kind == "Cf" or (accents and kind == "Mn")):
                letters += part
                origins.append(at)
    return letters, origins
