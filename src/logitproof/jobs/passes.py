"""Which prompts of a contract may be longer than the length beyond which a model's rows depend on their pass."""

from __future__ import annotations

from collections.abc import Mapping

from logitproof.contract.opened import OpenContract
from logitproof.contract.suite import Prompt
from logitproof.jobs.cell import Pair
from logitproof.jobs.job import Job
from logitproof.jobs.sides import config_of
from logitproof.weights.passes import Crossing, crossing_in

SPECIAL = 8
"""Tokens that a tokenizer may add around a text at most."""


def crossing_in_model(opened: OpenContract, model: str) -> Crossing | None:
    """Where the rows of a model of the contract begin to depend on the length of the pass."""
    return crossing_in(config_of(opened, model))


def may_cross(crossing: Crossing | None, prompt: Prompt, max_new_tokens: int) -> bool:
    """Whether a prompt with its continuation can reach beyond it: a text has no more tokens than bytes."""
    if crossing is None:
        return False
    given = len(prompt.token_ids) if prompt.token_ids is not None else len((prompt.text or "").encode()) + SPECIAL
    return given + max_new_tokens > crossing.length


def crosses(pair: Pair, jobs: Mapping[str, Job]) -> bool:
    """The same of a pair that is planned."""
    source = jobs[pair.source]
    return may_cross(crossing_in(source.config or source.model), pair.prompt, source.max_new_tokens)
