"""A capture on disk: the logits of one engine over a suite."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError
from logitproof.traces.store import Store
from logitproof.traces.trace import Trace

FORMAT = 1


@dataclass(frozen=True)
class CapturedPrompt:
    """A prompt of a capture: how many of the trace's tokens are the prompt, and the trace's key."""

    id: str
    bucket: str
    prompt_length: int
    key: str


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


def open_capture(folder: Path) -> tuple[Capture, list[Trace]]:
    """A capture and its traces; raises ContractError if it is none or a trace is gone."""
    path = folder / "capture.json"
    try:
        record = json.loads(path.read_text("utf-8"))
        prompts = tuple(CapturedPrompt(**prompt) for prompt in record.pop("prompts"))
        capture = Capture(**record, prompts=prompts)
    except FileNotFoundError:
        raise ContractError(
            "is no capture: it has no capture.json", where=str(folder), remedy="`logitproof capture` makes one"
        ) from None
    except (ValueError, TypeError, KeyError) as error:
        raise ContractError(f"is damaged: {error}", where=str(path), remedy="capture it again") from None
    store = Store(folder / "store")
    traces = [store.read(prompt.key) for prompt in capture.prompts]
    for prompt, trace in zip(capture.prompts, traces, strict=True):
        if trace is None:
            raise ContractError(
                f"the trace of prompt {prompt.id!r} is missing or cut off", where=str(folder), remedy="capture it again"
            )
    return capture, [trace for trace in traces if trace is not None]
