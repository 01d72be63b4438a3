"""Opening files that nobody vouches for: sizes are checked before anything is allocated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.files.untrusted import read_json, read_text, refusal
from logitproof.readers import JSON_LIMIT
from logitproof.traces.dump import Dump, DumpedPrompt


def text_of(path: Path) -> str:
    """The text of a file of sane size."""
    return read_text(path, limit=JSON_LIMIT)


def json_of(path: Path) -> Any:
    """The JSON value of a file."""
    return read_json(path, limit=JSON_LIMIT)


def ids_in(path: Path, place: str, text: str) -> list[int]:
    """Token ids from `1,2,3` or `[1, 2, 3]`."""
    parts = text.strip().strip("[]").replace(",", " ").split()
    try:
        return [int(part) for part in parts]
    except ValueError as error:
        raise refusal(path, place, f"is no list of token ids: {error}", "write whole numbers with commas between") from None


def only_prompt(dump: Dump, path: Path) -> DumpedPrompt:
    """The one prompt of a dump, for formats that hold one."""
    if len(dump.prompts) != 1:
        text = f"this format holds one prompt, the dump has {len(dump.prompts)}"
        raise refusal(path, "prompts", text, "choose another format with --to, such as ndjson or llamacpp_kl_base")
    return dump.prompts[0]


def logits_of(prompt: DumpedPrompt, path: Path) -> np.ndarray:
    """The logits as one array, for formats that hold whole rows."""
    if prompt.logits is None:
        remedy = "choose a format of top-k values or of tokens with --to"
        raise refusal(path, f"prompt {prompt.id}", "the dump has no logits over the whole vocabulary", remedy)
    return np.asarray(prompt.logits[:])


def write_text(path: Path, text: str) -> None:
    """Write at once and whole."""
    from logitproof.files.atomic import write_atomically

    write_atomically(path, text)


def plain(dump: Dump) -> dict[str, Any]:
    """The provenance as JSON."""
    return json.loads(json.dumps(dict(dump.provenance), default=str))
