"""The format `capture`: a folder that `logitproof capture` wrote, read only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.readers import Peek, Reader
from logitproof.rows.top import is_top
from logitproof.traces.dump import Dump, DumpedPrompt


@dataclass
class Capture(Reader):
    """A folder of `logitproof capture`: capture.json and the store of its traces."""

    def recognizes(self, peek: Peek) -> bool:
        return (peek.path / "capture.json").is_file()

    def read(self, path: Path) -> Dump:
        from logitproof.traces.capture import open_capture

        capture, traces = open_capture(path)
        for prompt, trace in zip(capture.prompts, traces, strict=True):
            if is_top(trace.logits):
                text = f"prompt {prompt.id!a} is no trace of whole rows of logits"
                raise ContractError(
                    text, where=str(path), remedy="capture an engine that gives its logits, see docs/formats.md"
                )
        prompts = tuple(
            DumpedPrompt(
                prompt.id,
                trace.token_ids,
                prompt.prompt_length,
                np.arange(len(trace.logits)),
                trace.logits,
                text=prompt.text,
                continuation_text=prompt.continuation_text,
                bucket=prompt.bucket,
            )
            for prompt, trace in zip(capture.prompts, traces, strict=True)
        )
        names = ("engine", "model", "model_sha256", "suite", "mode", "options", "dtype")
        about = {name: getattr(capture, name) for name in names}
        return Dump(prompts, int(traces[0].logits.shape[1]) if traces else None, versions=capture.versions, provenance=about)
