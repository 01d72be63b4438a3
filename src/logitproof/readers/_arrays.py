"""Logits and tokens among named arrays, as everybody saves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from logitproof.files.safetensors import widened
from logitproof.files.untrusted import refusal
from logitproof.readers._sidecar import read_sidecar
from logitproof.traces.dump import READ_AS, Dump, DumpedPrompt

LOGITS = ("logits", "scores", "output", "lm_logits")
TOKENS = ("token_ids", "tokens", "input_ids", "ids", "prompt_token_ids", "prompt_tokens")
REMEDY = "save `logits` [T, V] in floating point, and `token_ids` [T]"


def dump_of(arrays: Mapping[str, np.ndarray], path: Path) -> Dump:
    """The one prompt of a file of named arrays: its logits, and its tokens from the file or from a sidecar."""
    name = next((name for name in LOGITS if name in arrays), None)
    if name is None:
        raise refusal(path, "logits", f"is not in the file, which holds {', '.join(sorted(arrays)[:8]) or 'nothing'}", REMEDY)
    rows, reading = rows_of(arrays[name], path, name)
    side = read_sidecar(path)
    tokens = next((arrays[key] for key in TOKENS if key in arrays), None)
    ids = side.token_ids if tokens is None else ids_of(tokens, path)
    if ids and len(rows) > len(ids):
        raise refusal(path, name, f"{len(rows)} rows for {len(ids)} token ids", "give one id a row")
    about = {READ_AS: reading} if reading else {}
    prompt = DumpedPrompt(side.id or path.stem, ids, len(ids), np.arange(len(rows)), rows, text=side.text)
    return Dump((prompt,), int(rows.shape[1]), versions=side.versions, provenance=about)


def rows_of(array: np.ndarray, path: Path, place: str) -> tuple[np.ndarray, list[str]]:
    """The rows [T, V] in floating point, and what was made of the array: a batch of one, bits of bfloat16."""
    reading = []
    if array.ndim == 3 and array.shape[0] == 1:
        reading.append(f"{place} of shape {list(array.shape)} is a batch of one")
        array = array[0]
    if array.dtype == np.uint16 and array.ndim in (1, 2) and array.size:
        reading.append(f"{place} in uint16 are the bits of bfloat16")
        array = widened(np.ascontiguousarray(array).reshape(-1).view(np.uint8), "BF16").reshape(array.shape)
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or 0 in array.shape:
        raise refusal(
            path, place, f"holds {array.dtype} of shape {list(array.shape)}", "save floating-point logits of shape [T, V]"
        )
    rows = array.reshape(-1, array.shape[-1])
    return (rows.astype(np.float32) if rows.dtype.itemsize == 2 else rows), reading


def ids_of(array: np.ndarray, path: Path) -> list[int]:
    """Token ids of one sequence, [T] or [1, T]."""
    if array.dtype.kind not in "iu" or array.ndim > 2 or (array.ndim == 2 and array.shape[0] != 1):
        raise refusal(path, "token ids", f"are {array.dtype} of shape {list(array.shape)}", "save whole numbers of shape [T]")
    return [int(token) for token in array.reshape(-1)]
