"""The format `vllm_prompt_logprobs`: the best log-probabilities of every token of a prompt, as vLLM answers them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.files.untrusted import Foreign, Number, refusal, validated
from logitproof.readers import Peek, Reader
from logitproof.readers._files import json_of
from logitproof.traces.dump import Dump, DumpedPrompt, TopK

REMEDY = "write {prompt_token_ids, prompt_logprobs} of a request with `prompt_logprobs` set, as vLLM gives them"


class _Entry(Foreign):
    logprob: float
    rank: Number | None = None


class _Request(Foreign):
    prompt_token_ids: list[Number]
    prompt_logprobs: list[dict[str, _Entry] | None]
    prompt: str | None = None
    request_id: str | None = None


@dataclass
class VllmPromptLogprobs(Reader):
    """vLLM's `{prompt_token_ids, prompt_logprobs: [null, {id: {logprob, rank}}]}`, one request or a list of them.

    Entry t + 1 are the log-probabilities after token t. The prompt's own token is kept only where it is among the best.
    """

    def recognizes(self, peek: Peek) -> bool:
        return {"prompt_token_ids", "prompt_logprobs"} <= peek.keys

    def read(self, path: Path) -> Dump:
        content = json_of(path)
        requests = content if isinstance(content, list) else [content]
        return Dump(tuple(_prompt(request, number, path) for number, request in enumerate(requests)))


def _prompt(value: Any, number: int, path: Path) -> DumpedPrompt:
    place = f"request {number}"
    request = validated(path, _Request, value, place)
    ids, entries = list(request.prompt_token_ids), request.prompt_logprobs
    if len(entries) != len(ids) or (entries and entries[0]) or any(entry is None for entry in entries[1:]):
        text = f"{len(entries)} entries for {len(ids)} tokens, the first of which has nothing before it"
        raise refusal(path, f"{place}, prompt_logprobs", text, REMEDY)
    rows = [_best(entry, f"{place}, position {at}", path) for at, entry in enumerate(entries[1:]) if entry is not None]
    width = max((len(row) for row in rows), default=0)
    top_ids, values = np.full((len(rows), width), -1, np.int64), np.full((len(rows), width), np.nan)
    for at, row in enumerate(rows):
        top_ids[at, : len(row)] = [token for token, _ in row]
        values[at, : len(row)] = [logprob for _, logprob in row]
    name = request.request_id or str(number)
    top = TopK(top_ids, values, normalized=True)
    return DumpedPrompt(name, ids, len(ids), np.arange(len(rows)), top=top, text=request.prompt)


def _best(entry: dict[str, _Entry], place: str, path: Path) -> list[tuple[int, float]]:
    """(token, log-probability) of the best without a gap, largest first: a token of rank 900 says nothing of the rest."""
    try:
        ranked = sorted(((int(token), known) for token, known in entry.items()), key=lambda item: -item[1].logprob)
        if any(not 0 <= token < 2**31 for token, _ in ranked):
            raise ValueError
    except ValueError:
        raise refusal(path, place, "a token id is no whole number from 0 on, below 2^31", REMEDY) from None
    return [(token, known.logprob) for at, (token, known) in enumerate(ranked) if known.rank is None or known.rank <= at + 1]
