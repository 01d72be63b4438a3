"""Two tokenizers that differ by several causes: each cause is one finding, with the smallest text that shows it."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from logitproof.gguf.vocabulary import special_tokens
from logitproof.quality.text import of_tokenizers
from logitproof.quality.tokenizers import Found, compare_tokenizers

UNKNOWN, BEGIN, USER, SPACE = 0, 1, 2, 3
NAME = "<|user|>"
WORDS = {chr(code): 100 + code for code in range(33, 127)} | {"\n": 90, "\t": 91}
SPACED = {f" {word}": number + 200 for word, number in WORDS.items()}


class Toy:
    """A tokenizer of characters with SentencePiece's habits: a space before the text, a special token, bytes or unknown."""

    def __init__(
        self, *, dummy: str = "first", after: bool = False, fallback: bool = True, form: str = "", begin: bool = True
    ) -> None:
        self.dummy, self.after, self.fallback, self.form, self.begin = dummy, after, fallback, form, begin

    def encode(self, text: str) -> list[int]:
        ids = [BEGIN] if self.begin else []
        for number, part in enumerate(text.split(NAME)):
            ids += [USER] if number else []
            ids += self._part(part, number)
        return ids

    def _part(self, text: str, number: int) -> list[int]:
        text = unicodedata.normalize(self.form, text) if self.form else text  # type: ignore[arg-type]
        if text and (number == 0 or self.after) and (self.dummy == "always" or not text.startswith(" ")):
            text = f" {text}"
        ids, at = [], 0
        while at < len(text):
            pair, letter = text[at : at + 2], text[at]
            if pair in SPACED:
                ids.append(SPACED[pair])
                at += 2
                continue
            known = SPACE if letter == " " else WORDS.get(letter)
            ids += [known] if known else [1000 + byte for byte in letter.encode()] if self.fallback else [UNKNOWN]
            at += 1
        return ids

    def decode(self, ids: list[int]) -> str:
        back = {number: word for word, number in {**WORDS, **SPACED, NAME: USER, "<unk>": UNKNOWN, " ": SPACE}.items()}
        return "".join(back.get(token, "") for token in ids)


def compared(reference: Toy, candidate: Toy) -> Found:
    sides = [("reference", reference.encode, reference.decode), ("candidate", candidate.encode, candidate.decode)]
    return compare_tokenizers(reference.encode, candidate.encode, sides, special=[[NAME], [NAME]], fuzzed=40)


def kinds(found: Found) -> set[str]:
    return {cause.kind for cause in found.causes}


def test_a_space_is_put_after_a_special_token() -> None:
    found = compared(Toy(), Toy(after=True))
    (cause,) = found.causes
    assert cause.text == "the candidate puts a space before text that follows a special token"
    assert cause.smallest.startswith(NAME) and len(cause.smallest) == len(NAME) + 1
    assert compared(Toy(after=True), Toy()).causes[0].text.startswith("the reference puts a space")


def test_two_causes_are_two_findings() -> None:
    found = compared(Toy(), Toy(dummy="always", fallback=False))
    texts = {cause.kind: cause.text for cause in found.causes}
    assert texts == {
        "unknown": "characters without a token are bytes for the reference, the unknown token for the candidate",
        "spaces": "the candidate puts a space before a text that begins with one",
    }
    shown = repr(of_tokenizers("two", found, []))
    assert all(text in shown for text in texts.values()) and "by 2 causes" in shown


@pytest.mark.parametrize(
    ("candidate", "kind", "words"),
    [
        (lambda: Toy(fallback=False), "unknown", "bytes for the reference"),
        (lambda: Toy(begin=False), "ends", "the reference puts a token of its own at the begin"),
        (lambda: Toy(form="NFC"), "normal form", "the candidate brings characters into the form NFC"),
        (lambda: Toy(dummy="always"), "spaces", "begins with one"),
    ],
)
def test_a_cause_is_named(candidate: Callable[[], Toy], kind: str, words: str) -> None:
    found = compared(Toy(), candidate())
    assert kinds(found) == {kind}
    assert words in found.causes[0].text
    assert found.causes[0].texts == len(found.differences)


def test_tokenizers_that_are_alike_have_no_cause() -> None:
    assert compared(Toy(), Toy()).causes == ()


def test_what_no_rule_knows_is_a_cut_at_another_place() -> None:
    def halves(text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def pairs(text: str) -> list[int]:
        return halves(text.replace("th", "\U000f0000"))

    found = compare_tokenizers(halves, pairs, fuzzed=0)
    assert kinds(found) == {"cut"}


def test_special_tokens_are_read_from_the_model(tmp_path: Path) -> None:
    added = [{"id": 1, "content": "<s>", "special": True}, {"id": 2, "content": "word", "special": False}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    assert special_tokens(tmp_path) == ["<s>"]
    assert special_tokens(tmp_path / "nothing") == []
    file = Path(__file__).parents[2] / "zoo/gguf/qwen3-F32.gguf"
    if file.is_file():
        assert set(special_tokens(Path(__file__).parents[2] / "zoo/qwen3")) <= set(special_tokens(file)) != set()
