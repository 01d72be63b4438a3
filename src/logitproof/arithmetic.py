"""How an engine computes: the types that it rounds to, as far as a logit can tell.

Engines of this package are known; of others a contract says it (`arithmetic:` of a candidate).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Base = Literal["float64", "float32", "bfloat16", "float16"]
Format = Literal["f16", "bf16", "q8_0", "q8_k"]
ACTIVATIONS: Mapping[str, Format | None] = {
    "F32": None, "F16": "f16", "BF16": "bf16",
    "Q8_0": "q8_0", "Q4_0": "q8_0", "Q4_1": "q8_0", "Q5_0": "q8_0", "Q5_1": "q8_0", "IQ4_NL": "q8_0",
    "Q2_K": "q8_k", "Q3_K": "q8_k", "Q4_K": "q8_k", "Q5_K": "q8_k", "Q6_K": "q8_k", "IQ4_XS": "q8_k",
}  # fmt: skip
"""The format in which ggml's CPU kernels take the activations that they multiply with weights of a type (the
`vec_dot_type` of ggml-cpu.c; Q8_1 rounds as Q8_0 does)."""
BLAS_LANES, GGML_LANES = 2, 32
"""A BLAS keeps few partial sums of one product; ggml's dot products grow in four registers of eight or sixteen."""
_CACHES: Mapping[str, Format | None] = {"f32": None, "f16": "f16", "bf16": "bf16", "q8_0": "q8_0"}


class Arithmetic(BaseModel):
    """The type of weights and activations, and what is narrower than that.

    With `blocks`, a matrix of a GGUF file is multiplied with activations in the format that belongs to its type.
    `cache` is the format of keys and values, `rope` how the angles of rotary positions are found, `lanes` the number of
    partial sums in which a matrix product grows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: Base = "float32"
    blocks: bool = False
    cache: Format | None = None
    lanes: Annotated[int, Field(ge=1)] = BLAS_LANES
    rope: Literal["table", "iterated", "exact"] = Field(
        "table", description="frequencies of float32, one multiplied out of the other, or float64"
    )

    def __str__(self) -> str:
        parts = [self.base, "activations in blocks" if self.blocks else "", f"cache {self.cache}" if self.cache else ""]
        return ", ".join(part for part in parts if part)


def arithmetic_of(engine: str, options: Mapping[str, Any]) -> Arithmetic | None:
    """How an engine of this package computes with these options; None of one that is not known."""
    if engine == "transformers":
        return Arithmetic(base=options.get("dtype", "float32"))
    if engine == "plain":
        return Arithmetic(base=options.get("dtype", "float32"), rope="exact")
    if engine == "llamacpp":
        cache = options.get("kv_type", "f32")
        same = options.get("kv_type_v") in (None, cache)
        if same and cache in _CACHES:
            return Arithmetic(blocks=True, cache=_CACHES[cache], lanes=GGML_LANES, rope="iterated")
    return None
