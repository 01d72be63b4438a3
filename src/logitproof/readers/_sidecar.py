"""The file beside an array that says what it is an array of: NAME.json, or `VOCAB=` and `NPOS=` text in NAME.txt."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AliasChoices, Field

from logitproof.files.untrusted import Foreign, Number, refusal, validated
from logitproof.readers._files import ids_in, json_of, text_of, write_text
from logitproof.traces.dump import Dump, DumpedPrompt, Rows

TEXTS = (".txt", ".meta", ".log", ".stdout")


class Sidecar(Foreign):
    """What stands in a sidecar; `token_ids` absent means that nobody knows what the rows are of."""

    vocab: Annotated[Number | None, Field(validation_alias=AliasChoices("vocab", "vocab_size", "n_vocab", "VOCAB"))] = None
    positions: Annotated[Number | None, Field(validation_alias=AliasChoices("n_pos", "npos", "NPOS"))] = None
    token_ids: list[Number] = Field([], validation_alias=AliasChoices("token_ids", "tokens", "ids", "TOKENS"))
    prompt_length: Number | None = None
    first_position: Number = 0
    id: str | None = None
    text: str | None = None
    versions: dict[str, str] = Field({})
    provenance: dict[str, Any] = Field({})
    continuation_text: str = ""
    bucket: str = "default"


def find_sidecar(path: Path) -> Path | None:
    """NAME.EXT.json, NAME.json, or a text file by the same rule."""
    names = [candidate for end in (".json", *TEXTS) for candidate in (path.with_name(path.name + end), path.with_suffix(end))]
    return next((name for name in names if name != path and name.is_file()), None)


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar of `path`, an empty one if there is none."""
    beside = find_sidecar(path)
    if beside is None:
        return Sidecar()
    if beside.suffix == ".json":
        return validated(beside, Sidecar, json_of(beside))
    text = text_of(beside)
    numbers = {key: int(value) for key, value in re.findall(r"^\s*(VOCAB|NPOS)\s*=\s*(\d{1,12})\s*$", text, re.M)}
    tokens = re.search(r"^\s*TOKENS\s*=\s*([\d,\s\[\]]+?)\s*$", text, re.M)
    ids = ids_in(beside, "TOKENS", tokens.group(1)) if tokens else []
    return Sidecar.model_validate({**numbers, "TOKENS": ids})


def prompt_of(path: Path, side: Sidecar, logits: Rows) -> DumpedPrompt:
    """The rows as a prompt."""
    positions = np.arange(len(logits)) + side.first_position
    length = len(side.token_ids) if side.prompt_length is None else side.prompt_length
    if side.token_ids and len(positions) and positions[-1] >= len(side.token_ids):
        text = f"{len(logits)} rows from position {side.first_position} on, but {len(side.token_ids)} token ids"
        raise refusal(find_sidecar(path) or path, "token_ids", text, "give one id a row, or first_position")
    made = DumpedPrompt(side.id or path.stem, side.token_ids, length, positions, logits, text=side.text)
    return replace(made, continuation_text=side.continuation_text, bucket=side.bucket)


def write_sidecar(dump: Dump, prompt: DumpedPrompt, path: Path, rows: Rows) -> None:
    """NAME.EXT.json beside the array."""
    if len(prompt.positions) and (np.diff(prompt.positions) != 1).any():
        raise refusal(path, f"prompt {prompt.id}", "its positions have gaps", "choose another format with --to, such as ndjson")
    record = {
        "vocab": int(rows.shape[1]),
        "n_pos": len(rows),
        "token_ids": prompt.token_ids,
        "prompt_length": prompt.prompt_length,
        "first_position": int(prompt.positions[0]) if len(prompt.positions) else 0,
        "id": prompt.id,
        "text": prompt.text,
        "continuation_text": prompt.continuation_text,
        "bucket": prompt.bucket,
        "versions": dict(dump.versions),
        "provenance": dict(dump.provenance),
    }
    write_text(path.with_name(path.name + ".json"), json.dumps(record))
