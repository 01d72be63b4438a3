"""A capture on disk: the logits of one engine over a suite."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from logitproof.errors import ContractError
from logitproof.files.untrusted import read_object, validated
from logitproof.traces.store import Store
from logitproof.traces.trace import Trace

FORMAT = 1


@dataclass(frozen=True)
class CapturedPrompt:
    """A prompt of a capture: how many of the trace's tokens are the prompt, the trace's key, and its texts."""

    id: str
    bucket: str
    prompt_length: int
    key: str
    text: str | None = None
    """what the suite says; of a prompt that was given as token ids, nothing"""
    continuation_text: str = ""


@dataclass(frozen=True)
class Capture:
    """What a capture folder holds."""

    format: int
    engine: str
    options: dict[str, Any]
    model: str
    model_sha256: str
    suite: str
    mode: str
    versions: dict[str, str]
    prompts: tuple[CapturedPrompt, ...]
    positions: int
    dtype: str = ""
    """the type that the engine says it computed in, or nothing"""


class _File(BaseModel):
    capture: Capture


def open_capture(folder: Path) -> tuple[Capture, list[Trace]]:
    """A capture and its traces; raises ContractError if it is none or a trace is gone."""
    path = folder / "capture.json"
    if not path.exists():
        raise ContractError("is no capture: it has no capture.json", where=str(folder), remedy="`logitproof capture` makes one")
    capture = validated(path, _File, {"capture": read_object(path)}, remedy="capture it again").capture
    if capture.format != FORMAT:
        text = f"is {capture.format}, this version reads {FORMAT}"
        raise ContractError(text, where=f"{path}: format", remedy="capture it again")
    store = Store(folder / "store")
    traces = [store.read(prompt.key) for prompt in capture.prompts]
    for prompt, trace in zip(capture.prompts, traces, strict=True):
        if trace is None:
            raise ContractError(
                f"the trace of prompt {prompt.id!r} is missing or cut off", where=str(folder), remedy="capture it again"
            )
    return capture, [trace for trace in traces if trace is not None]
