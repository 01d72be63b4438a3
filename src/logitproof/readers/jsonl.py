"""The format `jsonl`: a JSON object a line, each a prompt with its logits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AliasChoices, Field

from logitproof.files.untrusted import Foreign, Number, parse_json, refusal, validated
from logitproof.readers import Peek, Reader
from logitproof.readers._arrays import TOKENS, rows_of
from logitproof.readers._files import text_of
from logitproof.traces.dump import Dump, DumpedPrompt


class _Line(Foreign):
    token_ids: Annotated[list[Number], Field(validation_alias=AliasChoices(*TOKENS), default_factory=list)]
    logits: list[list[float]] | list[list[list[float]]]
    id: str | Number | None = None
    text: Annotated[str | None, Field(validation_alias=AliasChoices("prompt", "text"))] = None


@dataclass
class Jsonl(Reader):
    """JSON lines `{prompt, token_ids, logits}`: one prompt a line, logits [T, V] or [1, T, V]."""

    def recognizes(self, peek: Peek) -> bool:
        if isinstance(peek.json, dict):  # a single line is JSON as a whole
            return "logits" in peek.json and "argmax_token" not in peek.json
        return peek.json is None and b'"logits"' in peek.head and _opens(peek)

    def read(self, path: Path) -> Dump:
        prompts = [
            _prompt(validated(path, _Line, parse_json(line, path, f"line {number}"), f"line {number}"), number, path)
            for number, line in enumerate(text_of(path).split("\n"), start=1)
            if line.strip()
        ]
        if not prompts or prompts[0].logits is None:
            raise refusal(path, "line 1", "holds no prompt", "write {prompt, token_ids, logits} on each line")
        return Dump(tuple(prompts), int(prompts[0].logits.shape[1]))


def _opens(peek: Peek) -> bool:
    """Whether the first line begins an object with plain keys; it may be longer than what is looked at."""
    line = peek.head.split(b"\n", 1)[0].lstrip()
    return line[:1] == b"{" and b'"' in line[:64]


def _prompt(line: _Line, number: int, path: Path) -> DumpedPrompt:
    try:
        array = np.array(line.logits, np.float64)
    except ValueError as error:
        raise refusal(path, f"line {number}, logits", f"the rows differ in length: {error}", "write whole rows") from None
    rows, _ = rows_of(array, path, f"line {number}, logits")
    with np.errstate(over="ignore"):
        single = rows.astype(np.float32)
    kept = single if np.array_equal(single, rows, equal_nan=True) else rows
    name = str(number - 1) if line.id is None else json.dumps(line.id).strip('"')
    ids = list(line.token_ids)
    return DumpedPrompt(name, ids, len(ids), np.arange(len(kept)), kept, text=line.text)
