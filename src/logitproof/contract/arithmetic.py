"""How an engine computes: the types that it rounds to, as far as a logit can tell.

An engine's class declares it; of engines elsewhere a contract says it (`arithmetic:` of a candidate).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from logitproof import catalog
from logitproof.contract.typed import STRICT, Positive

Base = Literal["float64", "float32", "bfloat16", "float16"]
Format = Literal["f16", "bf16", "q8_0", "q8_k"]
ACTIVATIONS: Mapping[str, Format | None] = {
    "F32": None, "F16": "f16", "BF16": "bf16",
    "Q8_0": "q8_0", "Q4_0": "q8_0", "Q4_1": "q8_0", "Q5_0": "q8_0", "Q5_1": "q8_0", "IQ4_NL": "q8_0",
    "MXFP4": "q8_0", "NVFP4": "q8_0",
    "Q2_K": "q8_k", "Q3_K": "q8_k", "Q4_K": "q8_k", "Q5_K": "q8_k", "Q6_K": "q8_k", "IQ4_XS": "q8_k",
    "IQ1_S": "q8_k", "IQ1_M": "q8_k", "IQ2_XXS": "q8_k", "IQ2_XS": "q8_k", "IQ2_S": "q8_k", "IQ3_XXS": "q8_k",
    "IQ3_S": "q8_k", "TQ1_0": "q8_k", "TQ2_0": "q8_k",
}  # fmt: skip
"""The format in which ggml's CPU kernels take the activations that they multiply with weights of a type (the
`vec_dot_type` of ggml-cpu.c; Q8_1 rounds as Q8_0 does)."""
GGML_LANES = 8
"""As `engines/llamacpp.py` declares it: the matrix kernels of a prompt keep one register for each sum, of eight numbers with
AVX2 and sixteen with AVX-512; ggml's single dot products keep four."""
AT_ONCE = 64
"""Queries of a batch from which ggml's flash attention computes in float32."""
_NAMES = {"f32": "float32", "fp32": "float32", "bf16": "bfloat16", "f16": "float16", "fp16": "float16"}
"""Other words of engines for a type."""
BITS: Mapping[str, int] = {
    "float64": 53, "float32": 24, "float16": 11, "bfloat16": 8, "f16": 11, "bf16": 8, "q8_0": 8, "q8_k": 8,
}  # fmt: skip
"""Significant bits of a type; of a block of eight-bit codes, those of its largest values."""
_CACHES = {"float32": None, "bfloat16": "bf16", "float16": "f16"}


class Arithmetic(BaseModel):
    """The type of weights and activations, and what is narrower than that.

    Weights, activations, accumulation and cache are four things: `base` is the type of the first two, unless `weights` or
    `activations` say another. So `{base: float32, weights: bfloat16}` are weights rounded to bfloat16, computed in float32.
    Sums of products grow in float32, or in what `accumulation` says.
    With `blocks`, a matrix of a GGUF file is multiplied with activations in the format that belongs to its type.
    `cache` is the format of keys and values, `rope` how the angles of rotary positions are found, `lanes` the number of
    partial sums in which a matrix product grows: one where a kernel goes along the columns of the result, more where it goes
    along the sum. `flash` is ggml's flash attention with a cache in f16: a batch of fewer than 64 queries sums values key by
    key in float16. `delta` is how a gated delta rule goes along a sequence. `gelu` is what GELU is rounded to on both sides.
    """

    model_config = STRICT

    base: Base = "float32"
    weights: Base | None = Field(None, description="the type that weights were rounded to; `base` where nothing is said")
    activations: Base | None = Field(None, description="the type of what is computed; `base` where nothing is said")
    accumulation: Base | None = Field(None, description="the type in which sums of products grow; else float32")
    blocks: bool = False
    cache: Format | None = None
    lanes: Positive = 1
    rope: Literal["table", "iterated", "exact"] = Field(
        "table", description="frequencies of float32, one multiplied out of the other, or float64"
    )
    flash: bool = False
    delta: Literal["chunks", "steps"] = "chunks"
    gelu: Literal["exact", "float16"] = Field("exact", description="float16 where GELU is looked up in a table, as ggml's is")
    batch: Literal["whole", "single"] = Field("whole", description="whether all tokens are computed at once or one by one")

    @property
    def bits(self) -> int:
        """Significant bits of the narrowest type that values pass through."""
        narrower = (self.accumulation, self.cache)
        kinds = [self.stored, self.computed, *(("q8_0",) if self.blocks else ()), *(kind for kind in narrower if kind)]
        return min(BITS[kind] for kind in kinds)

    @property
    def stored(self) -> Base:
        """The type that weights were rounded to."""
        return self.weights or self.base

    @property
    def computed(self) -> Base:
        """The type of activations."""
        return self.activations or self.base

    @property
    def summed(self) -> float:
        """How many times larger the rounding of a partial sum is than float32's."""
        return 2.0 ** (BITS["float32"] - BITS[self.accumulation]) if self.accumulation else 1.0

    def identity(self) -> str:
        """What the calculation of a band depends on, as JSON; fields that say nothing are not in it."""
        silent = {name for name in ("weights", "activations", "accumulation") if getattr(self, name) is None}
        silent |= {"gelu"} if self.gelu == "exact" else set()
        return self.model_dump_json(exclude=silent)

    def in_mode(self, mode: str) -> Arithmetic:
        """The arithmetic of a mode: tokens are scored at once, or one by one through the cache."""
        return self.model_copy(update={"batch": "whole" if mode == "prefill" else "single"}) if self.flash else self

    def sums_values_in_float16(self, positions: int) -> bool:
        """Whether attention over so many positions does, as ggml's kernel for the CPU was measured to."""
        return self.flash and self.cache == "f16" and (self.batch == "single" or positions < AT_ONCE)

    def __str__(self) -> str:
        cache = f"{'flash, ' if self.flash else ''}cache {self.cache}" if self.cache else ""
        weights = f"weights in {self.stored}" if self.stored != self.computed else ""
        sums = f"sums in {self.accumulation}" if self.accumulation else ""
        parts = [self.computed, weights, "activations in blocks" if self.blocks else "", sums, cache]
        return ", ".join(part for part in parts if part)


def arithmetic_of(engine: str, options: Mapping[str, Any]) -> Arithmetic | None:
    """How an engine computes with these options, by what its class declares; None where that is not known.

    `arithmetic` of an engine's class is read without importing it: the fields of `Arithmetic`, where a text after a dollar
    sign names an option. Several options in a list must say the same, but for those that say nothing.
    """
    entry = catalog.find("engines", engine)
    defaults = {option.name: option.default for option in entry.options}
    if not entry.arithmetic:
        return None
    words = {name: _word(value, options, defaults) for name, value in entry.arithmetic.items()}
    words = {name: _NAMES.get(value, value) if isinstance(value, str) else value for name, value in words.items()}
    if "cache" in words:
        words["cache"] = _CACHES.get(words["cache"], words["cache"])
    try:
        return Arithmetic.model_validate(words)
    except ValidationError:
        return None  # a type that no noise is known for: a cache of four bits, "auto"


def _word(value: Any, options: Mapping[str, Any], defaults: Mapping[str, str | None]) -> Any:
    if isinstance(value, list):
        parts = {word for word in (_word(part, options, defaults) for part in value) if word is not None}
        return parts.pop() if len(parts) == 1 else "several"
    if not (isinstance(value, str) and value.startswith("$")):
        return value
    written = defaults.get(value[1:])
    return options.get(value[1:], ast.literal_eval(written) if written is not None else None)
