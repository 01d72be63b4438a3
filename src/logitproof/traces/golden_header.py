"""What a golden says of itself: versions, hashes, measured errors, determinism, and its prompts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FORMAT = "logitproof.golden"
VERSION = 2
READ = (1, 2)
"""Versions that are read; the first has no checksums."""
CHECKSUMS = "sha256"
"""Key of the metadata: JSON of the sha256 of every tensor's bytes, and of the header's text under `header`."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GoldenPrompt(_Strict):
    """A prompt's row in the header; its tensors are named by its index."""

    id: str
    bucket: str = "default"
    text: str | None = None
    continuation_text: str = ""
    prompt_length: int = Field(ge=0)
    positions: int = Field(ge=1)


class Header(_Strict):
    """Everything that a golden says of itself. `error` is measured when it is written, against the exact logits."""

    version: int
    form: Literal["full", "small"]
    vocab_size: int = Field(ge=2, lt=2**31)
    dtype: Literal["float32", "float64"]
    top_k: int = Field(ge=1)
    engine: str
    options: dict[str, Any] = {}
    model: str = ""
    model_sha256: str = ""
    suite: str = ""
    suite_sha256: str = ""
    tokens_sha256: str
    mode: str = "prefill"
    versions: dict[str, str] = {}
    eos_token_ids: list[int] = []
    context_length: int | None = None
    error: dict[str, float | None]
    determinism: dict[str, Any] = {}
    margin_floor: float = 0.0
    uncertain: list[dict[str, Any]] = []
    prompts: list[GoldenPrompt] = Field(min_length=1)
