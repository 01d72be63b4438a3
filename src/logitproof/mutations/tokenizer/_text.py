"""Tokenizes a text again, with a tokenizer that is wrong in one step; the model is left alone."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from tokenizers import Tokenizer

from logitproof.mutations import Mutation


class WrongTokenizer(Mutation):
    """A bug between text and ids: subclasses change the ids in `tokens`."""

    first_tap: ClassVar[str] = "token ids"
    needs: ClassVar[str] = "tokenizer"

    def applies(self, config: Any) -> bool:
        """Every model has a tokenizer; whether it can have the bug, only its file tells."""
        return True

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Nothing of the model changes."""
        return contextlib.nullcontext()


class WrongText(WrongTokenizer):
    """A bug that makes another text of it first: subclasses say which in `read`."""

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """The ids of the other text."""
        return encoded(tokenizer, self.read(text_of(token_ids, tokenizer)))

    def read(self, text: str) -> str:
        """What the bug makes of the text."""
        raise NotImplementedError


class WrongRules(WrongTokenizer):
    """A bug in a step of the tokenizer: subclasses change its rules in `changed`, and have no parameters."""

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        """The ids by the other rules."""
        changed = self.changed(json.loads(tokenizer.backend_tokenizer.to_str()))
        whole = _rebuilt(json.dumps(changed))
        return list(whole.encode(text_of(token_ids, tokenizer)).ids)

    def changed(self, rules: dict[str, Any]) -> dict[str, Any]:
        """The content of tokenizer.json, wrong; the argument may be changed in place."""
        raise NotImplementedError


def text_of(token_ids: Sequence[int], tokenizer: Any) -> str:
    """The text of ids, without the special tokens that the tokenizer puts before every text."""
    own = list(token_ids)[len(beginning(tokenizer)) :]
    return str(tokenizer.decode(own, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def beginning(tokenizer: Any) -> list[int]:
    """The ids that the tokenizer puts before every text."""
    return list(tokenizer.encode(""))


def encoded(tokenizer: Any, text: str) -> list[int]:
    """The ids of `text` by the right rules."""
    return list(tokenizer.encode(text))


def patterns(rules: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of the pre-tokenizer that split by a regular expression."""
    step = rules.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers", [step])
    return [part for part in steps if "Regex" in (part.get("pattern") or {})]


def pattern_replaced(rules: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """`rules` with a part of every regular expression replaced."""
    for step in patterns(rules):
        step["pattern"]["Regex"] = step["pattern"]["Regex"].replace(old, new)
    return rules


@functools.lru_cache(maxsize=64)
def _rebuilt(rules: str) -> Tokenizer:
    return Tokenizer.from_str(rules)
