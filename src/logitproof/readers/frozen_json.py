"""The format `frozen_json`: a frozen reference of token ids with the facts of its making."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, Field

from logitproof.files.untrusted import Foreign, Number, refusal, validated
from logitproof.readers import Peek, Reader
from logitproof.readers._files import json_of, plain, write_text
from logitproof.traces.dump import Dump, DumpedPrompt

VERSIONS = ("versions", "packages", "package_versions")
IDS = ("token_ids", "ids", "tokens")


class _Prompt(Foreign):
    token_ids: Annotated[list[Number], Field(validation_alias=AliasChoices(*IDS))]
    id: str | Number | None = None
    prompt_length: Number | None = None
    window: tuple[Number, Number] | None = None
    text: Annotated[str | None, Field(validation_alias=AliasChoices("text", "prompt"))] = None


class _File(Foreign):
    prompts: list[_Prompt]
    versions: dict[str, str] = Field({}, validation_alias=AliasChoices(*VERSIONS))
    vocab_size: Number | None = None


@dataclass
class FrozenJson(Reader):
    """Frozen reference JSON: package versions, model revision, thread counts, margin floor, per-prompt windows and ids.

    Holds tokens and no logits. A `window` [start, end) of a prompt says where its continuation lies.
    """

    def recognizes(self, peek: Peek) -> bool:
        if not isinstance(peek.json, dict) or not isinstance(prompts := peek.json.get("prompts"), list) or not prompts:
            return False
        first = set(prompts[0]) if isinstance(prompts[0], dict) else set()
        return bool(first & set(IDS)) and "steps" not in first and bool(peek.keys & {*VERSIONS, "margin_floor", "revision"})

    def read(self, path: Path) -> Dump:
        file = validated(path, _File, json_of(path))
        prompts = []
        for number, prompt in enumerate(file.prompts):
            start, end = prompt.window or (prompt.prompt_length or len(prompt.token_ids), len(prompt.token_ids))
            if not 0 <= start <= end <= len(prompt.token_ids):
                text = f"[{start}, {end}) does not lie in {len(prompt.token_ids)} ids"
                raise refusal(path, f"prompts.{number}.window", text, "give [start, end) of the continuation")
            name = str(number if prompt.id is None else prompt.id)
            prompts.append(DumpedPrompt(name, prompt.token_ids[:end], start, np.empty(0, np.int64), text=prompt.text))
        return Dump(tuple(prompts), file.vocab_size, versions=file.versions, provenance=file.model_extra or {})

    def write(self, dump: Dump, path: Path) -> None:
        record: dict[str, Any] = {**plain(dump), "versions": dict(dump.versions), "vocab_size": dump.vocab_size}
        record["prompts"] = [
            {
                "id": prompt.id,
                "token_ids": prompt.token_ids,
                "window": [prompt.prompt_length, len(prompt.token_ids)],
                **({"text": prompt.text} if prompt.text is not None else {}),
            }
            for prompt in dump.prompts
        ]
        write_text(path, json.dumps(record))
