"""Opening files that nobody vouches for: sizes are checked before anything is allocated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from logitproof.files.untrusted import AGAIN, refusal
from logitproof.readers import JSON_LIMIT
from logitproof.traces.dump import Dump, DumpedPrompt

M = TypeVar("M", bound=BaseModel)


def text_of(path: Path) -> str:
    """The text of a file of sane size."""
    try:
        if (size := path.stat().st_size) > JSON_LIMIT:
            raise refusal(path, "size", f"{size} bytes of text, {JSON_LIMIT} are read at most", "use a binary format")
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise refusal(path, f"byte {error.start}", "is not UTF-8 text", AGAIN) from None
    except OSError as error:
        raise refusal(path, "", f"cannot be read: {error.strerror}", "correct the path") from None


def json_of(path: Path) -> Any:
    """The JSON value of a file."""
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise refusal(path, f"line {error.lineno}", f"is not JSON, or is cut off: {error.msg}", AGAIN) from None
    except (ValueError, RecursionError) as error:
        raise refusal(path, "", f"is not JSON that can be read: {error}", AGAIN) from None


def validated(path: Path, kind: type[M], value: Any, place: str = "") -> M:
    """The value as the model says; raises ContractError that names the field."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join([place, *map(str, first["loc"])] if place else map(str, first["loc"]))
        shown = repr(first["input"])
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        raise refusal(path, at, f"{first['msg']}, got {shown}", "see docs/formats.md for what stands there") from None


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
