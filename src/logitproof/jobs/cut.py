"""Texts to token ids and back, by the engine's own tokenizer or by the one that its specification names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from logitproof.errors import ContractError
from logitproof.jobs.spec import Spec
from logitproof.jobs.worker import Worker

if TYPE_CHECKING:
    from logitproof.jobs.named_tokenizer import NamedTokenizer


def ids_of(text: str, spec: Spec, worker: Worker) -> list[int]:
    """Token ids of a text; raises what the engine raises, or ContractError of a tokenizer that is named and is none."""
    named = _named(spec)
    return worker.tokenize(text) if named is None else named.encode(text)


def text_of(token_ids: Sequence[int], spec: Spec, worker: Worker) -> str:
    """The text of ids; an engine without a tokenizer, and without one that is named, gives none."""
    named = _named(spec)
    if named is not None:
        return named.decode(token_ids)
    return worker.detokenize(token_ids) if worker.hello().tokenize else ""


def refuse_foreign_ids(token_ids: Sequence[int], spec: Spec, name: str, vocabulary: int) -> None:
    """Refuse ids that an engine with so many tokens does not have. Raises ContractError, whoever made them."""
    if not token_ids or (largest := max(token_ids)) < vocabulary:
        return
    whose = f"the tokenizer {spec.tokenizer}" if spec.tokenizer else "the reference's tokenizer"
    raise ContractError(
        f"token id {largest} is outside its vocabulary of {vocabulary}",
        where=name,
        remedy=f"the weights and {whose} are not of one model",
    )


def _named(spec: Spec) -> NamedTokenizer | None:
    if spec.tokenizer is None:
        return None
    from logitproof.jobs.named_tokenizer import named_tokenizer

    return named_tokenizer(Path(spec.directory or ".") / spec.tokenizer)
