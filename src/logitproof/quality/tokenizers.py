"""Two tokenizers on hard and random text: ids, round trips, and the smallest string that tells them apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from logitproof.quality.causes import Cause, Cut, Decode, Encode, Side, cause_of, together

SPECIAL = 6
"""Special tokens beside which text is tried."""
HARD: tuple[tuple[str, str], ...] = (
    ("words", "The quick brown fox jumps over the lazy dog."),
    ("contractions", "it's we'll they'VE I'M don't o'clock 'tis"),
    ("one space", " "),
    ("runs of spaces", "a  b   c    d     e"),
    ("leading spaces", "   indented"),
    ("trailing spaces", "ends here   "),
    ("tabs and newlines", "a\tb\n\nc\r\nd\n\n\n\ne \n f\t\t\n"),
    ("indented code", "def f(x):\n    if x:\n        return {'a': [1, 2]}  # done\n"),
    ("numbers", "0 7 42 123 1234 12345 1234567 3.14159 1,000,000 -5 1e-6 0x7f"),
    ("long number", "31415926535897932384626433832795"),
    ("punctuation", "?!... --- ((())) [[]] {{}} <<>> \"\"'' ;:;: @#$%^&*_+=~`|\\/"),
    ("urls", "https://example.org/a/b?c=d&e=f#g user@example.org C:\\dir\\file.txt"),
    ("German", "Straße, Größe, Übermut, weiß; Donaudampfschifffahrtsgesellschaft"),
    ("Cyrillic", "Съешь же ещё этих мягких французских булок, да выпей чаю"),
    ("Greek", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία"),
    ("Chinese", "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。"),
    ("Japanese", "いろはにほへと ちりぬるを アイウエオ 漢字かな交じり文"),
    ("Korean", "다람쥐 헌 쳇바퀴에 타고파"),
    ("Arabic", "نص حكيم له سر قاطع وذو شأن عظيم"),
    ("Hebrew with marks", "בְּרֵאשִׁית בָּרָא אֱלֹהִים"),
    ("Devanagari", "ऋषियों को सताने वाले दुष्ट राक्षसों"),
    ("Thai without spaces", "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า"),
    ("composed and decomposed", "é e\u0301 ñ n\u0303 Å A\u030a ﬁ fi"),
    ("stacked marks", "Z\u0351\u036b\u0343a\u0335l\u0334g\u0337o\u0338"),
    ("emoji", "😀 👍🏽 🇩🇪 ❤️"),
    ("emoji joined", "👩‍👩‍👧‍👦 🏳️‍🌈 👨🏿‍🚀"),
    ("invisible", "a\u200bb\u200dc\ufeffd\u00ade\u2060f"),
    ("odd spaces", "a\u00a0b\u2003c\u3000d\u2009e"),
    ("directions", "left \u202eright\u202c left \u2067rtl\u2069"),
    ("rare bytes", "\U0001f9ff\U00020000\U000e0041 \x7f \x01"),
    ("special tokens as text", "<|endoftext|> <|im_start|>user<|im_end|> <s></s> <bos> <|begin_of_text|> [INST]"),
    ("almost special", "<|im_start |> < |endoftext|> <|im_start|"),
    ("replacement", "\ufffd\ufffd"),
    ("repeats", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa hahahahahahahaha ----------------"),
    ("mixed case", "camelCase PascalCase SCREAMING_SNAKE kebab-case iPhone eBay"),
)
"""Name and text; each is a way in which a tokenizer was once wrong."""
ALPHABET = "abz ABZ 019 .,!?'\"-_()[]{}<>|/\\\n\t\r éßñüЖяΩ漢字かな한글अนעب😀👍🏽\u200d\u0301\u200b\u00a0\ufe0f"


@dataclass(frozen=True)
class Difference:
    """A text that two tokenizers cut differently, and the smallest part of it that they still cut differently."""

    name: str
    text: str
    smallest: str
    reference: tuple[int, ...]
    candidate: tuple[int, ...]


@dataclass(frozen=True)
class Trip:
    """A text that does not come back from its own ids."""

    name: str
    side: str
    text: str
    back: str


@dataclass(frozen=True)
class Found:
    """What was tried and what differed."""

    tried: int
    differences: tuple[Difference, ...]
    trips: tuple[Trip, ...]
    causes: tuple[Cause, ...] = ()
    """what the differences come from, one for each cause"""


def compare_tokenizers(
    reference: Encode,
    candidate: Encode,
    decoders: Sequence[tuple[str, Encode, Decode]] = (),
    *,
    corpus: Sequence[str] = (),
    special: Sequence[Sequence[str]] = ((), ()),
    fuzzed: int = 200,
    seed: int = 0,
) -> Found:
    """Encode every text with both; ids must be equal. `decoders` are sides whose own round trip is tried too.

    `special` are the special tokens of both sides by their texts: what stands beside one of them is tried as well.
    """
    lines = ((f"line {n}", text) for n, text in enumerate(corpus, 1))
    texts = [*HARD, *_beside(special), *lines, *_random(fuzzed, seed)]
    backs = {side: decode for side, _, decode in decoders}
    sides = (
        Side("reference", reference, backs.get("reference", _nothing), special[0]),
        Side("candidate", candidate, backs.get("candidate", _nothing), special[1]),
    )
    differences, trips, causes = [], [], []
    for name, text in texts:
        if reference(text) != candidate(text):
            smallest = shrink(text, lambda part: reference(part) != candidate(part))
            differences.append(Difference(name, text, smallest, tuple(reference(smallest)), tuple(candidate(smallest))))
            causes.append(cause_of(Cut(smallest, (differences[-1].reference, differences[-1].candidate), sides)))
        for side, encode, decode in decoders:
            back = decode(encode(text))
            if text not in back:
                trips.append(Trip(name, side, text, back))
    return Found(len(texts), tuple(differences), tuple(trips), together(causes))


def _nothing(_: list[int]) -> str:
    return ""


def _beside(special: Sequence[Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Texts with the special tokens that both sides have, words before and after them with spaces and without."""
    shared = [token for token in dict.fromkeys(special[0]) if token and token in special[1]]
    for token in shared[:SPECIAL]:
        for text in (f"{token}hello", f"{token} hello", f"Hi{token}", f"Hi {token} world", f"{token}{token}", f"{token}\n1"):
            yield f"beside {token}", text


def shrink(text: str, fails: Callable[[str], bool]) -> str:
    """The smallest part of `text` that still fails, by leaving out ever smaller pieces (delta debugging, Zeller 1999)."""
    size = max(len(text) // 2, 1)
    while True:
        for start in range(0, len(text), size):
            shorter = text[:start] + text[start + size :]
            if shorter and fails(shorter):
                text = shorter
                break
        else:
            if size == 1:
                return text
            size = max(size // 2, 1)


def _random(count: int, seed: int) -> Iterator[tuple[str, str]]:
    rng = random.Random(seed)  # noqa: S311 -- reproducible, not secret
    for number in range(count):
        yield f"random {number}", "".join(rng.choice(ALPHABET) for _ in range(rng.randint(1, 40)))
