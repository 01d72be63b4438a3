"""Tokens that stand for no text: where a sequence begins and ends, and the ids of added ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from logitproof.mutations import Record
from logitproof.mutations.tokenizer._text import WrongTokenizer, beginning


class BosMissing(WrongTokenizer, id="tokenizer.bos_missing"):
    """The begin-of-text token, which belongs before every text, is missing."""

    record = Record(
        shows="all positions wrong, the first ones most",
        remedy="read add_bos_token from the tokenizer",
        seen_in=("InfiniLM #388", "llama.cpp #8650"),
    )

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        return list(token_ids)[len(beginning(tokenizer)) :]


class BosDoubled(WrongTokenizer, id="tokenizer.bos_doubled"):
    """The begin-of-text token stands there twice: the template writes it and the tokenizer adds another."""

    record = Record(
        shows="all positions off by one, worse perplexity",
        remedy="add special tokens once: by the template or by the tokenizer",
        seen_in=("llama-cpp-python #1501", "llama-cpp-python #1537"),
    )

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        return [*beginning(tokenizer), *token_ids]


class BosInvented(WrongTokenizer, id="tokenizer.bos_invented"):
    """A begin-of-text token is added although the tokenizer adds none."""

    record = Record(
        shows="all positions off by one",
        remedy="read add_bos_token from the tokenizer",
        seen_in=("llama.cpp #3966",),
    )

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        return list(token_ids) if beginning(tokenizer) else [int(tokenizer.eos_token_id), *token_ids]


class EosAppended(WrongTokenizer, id="tokenizer.eos_appended"):
    """The end-of-text token is put after every prompt, which closes it before the model may continue."""

    record = Record(
        shows="all positions exact but the one that matters; the continuation begins a new text",
        remedy="add the end-of-text token in training only",
        seen_in=("torchtune #1480",),
    )

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        return [*token_ids, int(tokenizer.eos_token_id)]


class AddedIdsShifted(WrongTokenizer, id="tokenizer.added_ids_shifted"):
    """Ids of added tokens are off by one."""

    record = Record(
        shows="chat prompts wrong, plain text exact",
        remedy="take the ids of added tokens from the tokenizer's file",
        seen_in=("transformers #48446",),
    )

    def tokens(self, token_ids: Sequence[int], tokenizer: Any) -> list[int]:
        size = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)
        return [token + 1 if token >= size else token for token in token_ids]
