"""Which precision an engine computes in, out of the `details` that it gave when it had loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Precision = Literal["float32", "float16", "bfloat16", "quantized"]
FROM_FINE_TO_COARSE: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "quantized")
WORDS: dict[str, Precision] = {
    "float64": "float32", "double": "float32", "f64": "float32", "fp64": "float32",
    "float32": "float32", "float": "float32", "f32": "float32", "fp32": "float32",
    "float16": "float16", "half": "float16", "f16": "float16", "fp16": "float16",
    "bfloat16": "bfloat16", "bf16": "bfloat16",
}  # fmt: skip
"""How engines and files spell types; what is wider than float32 is no coarser than it."""
BLOCKS = re.compile(r"(u?int|[iu]|i?q|tq|mxfp|nvfp)_?\d|n?(f|fp|float)_?[468](?!\d)")
"""How types of eight bits and fewer begin: int8, q8_0, iq4_xs, u8, fp8_e4m3, F8_E4M3, nf4."""


def precision_of(word: str) -> Precision | None:
    """The precision of a type as engines or files spell it; None for a word that names no type."""
    plain = word.lower().removeprefix("torch.")
    return WORDS.get(plain) or ("quantized" if BLOCKS.match(plain) else None)


def cache_types(details: Mapping[str, Any]) -> list[str]:
    """The types of the KV cache, as the engine spells them, each once."""
    return list(dict.fromkeys(str(kind) for pair in details.get("kv_types") or [] for kind in pair))


def stated(details: Mapping[str, Any]) -> list[Precision]:
    """Every precision that an engine says it computes in: its type, its KV cache, single operations. Empty where none."""
    words = [str(details.get("dtype", "")), *cache_types(details), *map(str, dict(details.get("arithmetic") or {}).values())]
    return [precision for word in words if (precision := precision_of(word)) is not None]


def coarsest(precisions: Iterable[Precision]) -> Precision:
    """The coarsest of them; float32 where there is none."""
    return max(precisions, key=FROM_FINE_TO_COARSE.index, default="float32")
