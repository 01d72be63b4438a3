"""A step of the tokenizer has other rules: where it splits, what it merges."""

from __future__ import annotations

from typing import Any

from logitproof.mutations import Record
from logitproof.mutations.tokenizer._text import WrongRules, pattern_replaced, patterns


class Gpt2Splits(WrongRules, id="tokenizer.gpt2_splits"):
    """Text is split as GPT-2 does it: the default regular expression stands for the model's own."""

    record = Record(
        shows="numbers, contractions and line breaks give other ids",
        remedy="choose the pre-tokenizer by the model",
        seen_in=("llama.cpp #6809",),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        """GPT-2's expression in place of the model's own."""
        for step in patterns(rules):
            step["pattern"]["Regex"] = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
        return rules


class AsciiLetters(WrongRules, id="tokenizer.ascii_letters"):
    """Only ASCII letters are letters: the regular expression engine has no Unicode classes."""

    record = Record(
        shows="words with other letters than A to Z give other ids",
        remedy="use an engine with Unicode classes",
        seen_in=("llama.cpp #21675",),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        r"""`A-Za-z` for `\p{L}`, `0-9` for `\p{N}`."""
        rules = pattern_replaced(rules, r"[^\s\p{L}\p{N}]", r"[^\sA-Za-z0-9]")
        rules = pattern_replaced(rules, r"[^\r\n\p{L}\p{N}]", r"[^\r\nA-Za-z0-9]")
        return pattern_replaced(pattern_replaced(rules, r"\p{L}", "[A-Za-z]"), r"\p{N}", "[0-9]")


class LookaheadMissing(WrongRules, id="tokenizer.lookahead_missing"):
    """The last blank of a run is not left to the word after it: the rule with a lookahead was dropped."""

    record = Record(
        shows="runs of blanks before a word give other ids",
        remedy="use an engine with lookahead, or write the rule by hand",
        seen_in=("huggingface-tokenizer-in-cxx #10",),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        return pattern_replaced(rules, r"\s+(?!\S)|", "")


class ContractionsSplit(WrongRules, id="tokenizer.contractions_split"):
    """Contractions are not kept together: the rule for 's, 't, 'll is missing."""

    record = Record(
        shows="contractions give other ids where the vocabulary has them",
        remedy="copy every alternative of the expression",
        seen_in=("tiktoken-go/tokenizer #24",),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        for step in patterns(rules):
            pattern = step["pattern"]["Regex"]
            first, _, rest = pattern.partition("|[^")
            step["pattern"]["Regex"] = f"[^{rest}" if first.startswith(("(?i:", "'")) else pattern
        return rules


class DigitsOneByOne(WrongRules, id="tokenizer.digits_one_by_one"):
    """Digits are split one by one, not into groups of three."""

    record = Record(
        shows="numbers of two or more digits give other ids",
        remedy="choose the pre-tokenizer by the model",
        seen_in=("llama.cpp #6809",),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        r"""`\p{N}` in place of `\p{N}{1,3}`."""
        return pattern_replaced(rules, r"\p{N}{1,3}", r"\p{N}")


class MergesIgnored(WrongRules, id="tokenizer.merges_ignored"):
    """No merge is made: bytes stay bytes."""

    record = Record(
        shows="three to four times as many ids; text decodes rightly",
        remedy="apply the merges in the order of their ranks",
        seen_in=("llama.cpp #9696",),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        return rules | {"model": rules["model"] | {"merges": [], "ignore_merges": False}}


class MergesReversed(WrongRules, id="tokenizer.merges_reversed"):
    """Merges are applied in the wrong order: the last one is made first."""

    record = Record(
        shows="words with more than one way to be merged give other ids; text decodes rightly",
        remedy="the merge that stands first in the file is made first",
        seen_in=("fastllm #715",),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        return rules | {"model": rules["model"] | {"merges": rules["model"]["merges"][::-1], "ignore_merges": False}}


class SpecialTokensAsText(WrongRules, id="tokenizer.special_tokens_as_text"):
    """The text of a special token is split into ordinary tokens."""

    record = Record(
        shows="chat prompts wrong, plain text exact",
        remedy="parse special tokens in templates, and only there",
        seen_in=("LLamaSharp #1112", "iree #23805"),
    )

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        return rules | {"added_tokens": []}
