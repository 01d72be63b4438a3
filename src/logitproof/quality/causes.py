"""Why two tokenizers differ: one finding for each cause, not one for each text that shows it.

To add a cause, write a function that says in words what a difference shows, or nothing, and enter it in `RULES`, the surest
first. What none of them knows is a cut at another place.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Encode = Callable[[str], list[int]]
Decode = Callable[[list[int]], str]
RARE = ("☃", "ß", "文", "ю", "~", "\x01", "ऋ", "한")
"""Characters that a small vocabulary has no token of."""


@dataclass(frozen=True)
class Cause:
    """What two tokenizers do differently, the smallest text that shows it with the ids of both, and how many texts do."""

    kind: str
    text: str
    smallest: str
    reference: tuple[int, ...]
    candidate: tuple[int, ...]
    texts: int = 1


@dataclass(frozen=True)
class Side:
    """A tokenizer as it is asked: text to ids and back, its special tokens by their texts, and its token for the unknown."""

    name: str
    encode: Encode
    decode: Decode
    special: Sequence[str] = ()

    def piece(self, token: int) -> str:
        """The text of one token; nothing where it has none of its own."""
        try:
            return self.decode([token])
        except Exception:  # half a character, or an engine that gives back whole texts alone
            return ""

    def is_space(self, token: int) -> bool:
        """Whether the token is what this side gives for spaces alone."""
        return not self.piece(token).strip() and token in self.encode(" ") + self.encode("  ") + self.encode("a  b")

    def unknown(self) -> frozenset[int]:
        """Ids that stand for several rare characters and for no usual one: its token for the unknown."""
        rows = [set(self.encode(character)) for character in RARE]
        usual = {token for text in ("a", " a b", " ", "  ", "a  b") for token in self.encode(text)}
        shared = {token for row in rows for token in row if sum(token in other_row for other_row in rows) >= 3}
        # A byte that leads many characters is shared too, but never stands alone for a whole one.
        alone = {token for row in rows for token in row if len(row - usual) == 1}
        return frozenset((shared & alone) - usual)


@dataclass(frozen=True)
class Cut:
    """A smallest text that two sides cut differently, and the ids that are left where the same ends are taken off."""

    text: str
    ids: tuple[tuple[int, ...], tuple[int, ...]]
    sides: tuple[Side, Side]

    @property
    def apart(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids of both sides between what they have in common at the beginning and at the end."""
        first, second = self.ids
        begin = 0
        while begin < min(len(first), len(second)) and first[begin] == second[begin]:
            begin += 1
        end = 0
        while end < min(len(first), len(second)) - begin and first[-1 - end] == second[-1 - end]:
            end += 1
        return first[begin : len(first) - end], second[begin : len(second) - end]


def cause_of(cut: Cut) -> Cause:
    """The first rule that says something of a difference."""
    for kind, rule in RULES.items():
        if text := rule(cut):
            return Cause(kind, text, cut.text, *cut.ids)
    return Cause("cut", "the text is cut at other places: merges, scores, or the split before them", cut.text, *cut.ids)


def together(causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """One finding a cause, with the shortest text that shows it; what most texts show first."""
    groups: dict[tuple[str, str], list[Cause]] = {}
    for cause in causes:
        groups.setdefault((cause.kind, cause.text), []).append(cause)
    shortest = [(min(group, key=lambda cause: len(cause.smallest)), len(group)) for group in groups.values()]
    merged = [Cause(best.kind, best.text, best.smallest, best.reference, best.candidate, count) for best, count in shortest]
    return tuple(sorted(merged, key=lambda cause: -cause.texts))


def _unknown(cut: Cut) -> str:
    apart = cut.apart
    has = [bool(side.unknown() & set(ids)) for side, ids in zip(cut.sides, apart, strict=True)]
    if has[0] == has[1]:
        return ""
    lost = 0 if has[0] else 1
    whole, part = cut.sides[1 - lost].name, cut.sides[lost].name
    characters = len(cut.text.strip().encode())
    how = "bytes" if len(apart[1 - lost]) >= max(characters, 1) else "tokens of its own"
    return f"characters without a token are {how} for the {whole}, the unknown token for the {part}"


def _special(cut: Cut) -> str:
    names = sorted({name for side in cut.sides for name in side.special if name and name in cut.text}, key=len)
    if not names:
        return ""
    read = [_reads(side, names[-1]) for side in cut.sides]
    if read[0] != read[1]:
        reader, speller = (cut.sides[0].name, cut.sides[1].name) if read[0] else (cut.sides[1].name, cut.sides[0].name)
        return f"a special token in a text is one token for the {reader}, letters for the {speller}"
    if side := _spaced(cut, cut.text.replace(names[-1], f"{names[-1]} ", 1)) or _longer(cut):
        return f"the {side} puts a space before text that follows a special token"
    return "text beside a special token is cut otherwise"


def _reads(side: Side, name: str) -> bool:
    """Whether a special token's text adds a single token to what every text has."""
    return len(side.encode(f"a{name}")) - len(side.encode("a")) <= 1


def _ends(cut: Cut) -> str:
    (first, second), (a, b) = cut.apart, (side.encode("a") for side in cut.sides)
    if first and second:
        return ""
    extra, side = (first, cut.sides[0]) if first else (second, cut.sides[1])
    own = a if first else b
    if len(a) == len(b) or len(extra) != 1 or extra[0] not in (own[0], own[-1]):
        return ""
    place = "begin" if extra[0] == own[0] else "end"
    return f"the {side.name} puts a token of its own at the {place} of every text"


def _spaces(cut: Cut) -> str:
    begins = cut.text[:1].isspace()
    if side := _spaced(cut, f" {cut.text}"):
        return f"the {side} puts a space before {'a text that begins with one' if begins else 'every text'}"
    if any(character.isspace() for character in cut.text) and (side := _longer(cut)):
        return f"the {side} keeps spaces that the other takes away"
    return ""


def _spaced(cut: Cut, text: str) -> str:
    """The side that gives what the other does of the same with a space more."""
    for place, side in enumerate(cut.sides):
        if cut.sides[1 - place].encode(text) == list(cut.ids[place]):
            return side.name
    return ""


def _longer(cut: Cut) -> str:
    """The side that has more tokens, where all that it has more are spaces; empty where neither has."""
    for mine, less, side in ((cut.ids[0], cut.ids[1], cut.sides[0]), (cut.ids[1], cut.ids[0], cut.sides[1])):
        more = list(mine)
        for token in less:
            if token in more:
                more.remove(token)
        if len(mine) > len(less) and len(more) == len(mine) - len(less) and all(side.is_space(token) for token in more):
            return side.name
    return ""


def _composed(cut: Cut) -> str:
    for form in ("NFC", "NFKC", "NFD"):
        normal = unicodedata.normalize(form, cut.text)  # type: ignore[arg-type]
        if normal != cut.text:
            same = [side.encode(normal) == list(ids) for side, ids in zip(cut.sides, cut.ids, strict=True)]
            if same[0] != same[1]:
                return f"the {cut.sides[0 if same[0] else 1].name} brings characters into the form {form} first"
    return ""


def _lower(cut: Cut) -> str:
    same = [side.encode(cut.text.lower()) == list(ids) for side, ids in zip(cut.sides, cut.ids, strict=True)]
    if cut.text.lower() == cut.text or same[0] == same[1]:
        return ""
    return f"the {cut.sides[0 if same[0] else 1].name} takes capitals for small letters"


def _digits(cut: Cut) -> str:
    return "digits are grouped otherwise" if cut.text.strip().isdigit() and len(cut.text.strip()) > 1 else ""


RULES: dict[str, Callable[[Cut], str]] = {
    "unknown": _unknown,
    "special": _special,
    "ends": _ends,
    "spaces": _spaces,
    "normal form": _composed,
    "case": _lower,
    "digits": _digits,
}
"""Kind of a cause: what says it of a difference."""
