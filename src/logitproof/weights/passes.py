"""Models whose rows depend on how long the pass is that they come from: their rotary positions turn by its length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitproof.errors import ModelError
from logitproof.weights.config import read_config

KINDS = ("longrope", "dynamic")
"""Types of rotary scaling that transformers computes again for every pass (`modeling_rope_utils.dynamic_rope_update`)."""


@dataclass(frozen=True)
class Crossing:
    """Beyond `length` positions a row depends on the length of its pass, because rotary scaling of this `kind` does.

    Prefill, decode and generation of such a sequence are then different functions of its tokens.
    """

    kind: str
    length: int

    def __str__(self) -> str:
        return f"{self.kind}: beyond {self.length} positions rotation depends on the length of the pass"


def crossing_of(config: Mapping[str, Any]) -> Crossing | None:
    """The shortest crossing that a config.json names, of whichever layers; None where rows are the same in every pass."""
    config = config.get("text_config") or config
    crossings = [crossing for rope in _ropes(config) if (crossing := _crossing(rope, config)) is not None]
    return min(crossings, key=lambda crossing: crossing.length, default=None)


def crossing_in(folder: Path | None) -> Crossing | None:
    """The same of a model's folder; None where there is no folder, or no config.json that can be read."""
    if folder is None or not folder.is_dir():
        return None
    try:
        return crossing_of(read_config(folder))
    except ModelError:
        return None


def _ropes(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Rotary parameters, of all layers or by the kind of layer; older configs call them `rope_scaling`."""
    held = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(held, dict):
        return
    parts = [part for part in held.values() if isinstance(part, dict)]
    yield from parts or [held]


def _crossing(rope: Mapping[str, Any], config: Mapping[str, Any]) -> Crossing | None:
    # Older configs of Phi 3 call LongRoPE `su`.
    named = str(rope.get("rope_type") or rope.get("type"))
    kind = "longrope" if named == "su" else named
    if kind not in KINDS:
        return None
    known = config.get("max_position_embeddings")
    original = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    length = known if kind == "dynamic" else original or known
    return Crossing(kind, length) if isinstance(length, int) and not isinstance(length, bool) and length > 0 else None
