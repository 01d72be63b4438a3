"""Types of weights that a tensor can be quantized to, its values after that, and what they weigh.

Values are quantized by the package gguf where it can, else by the library of llama.cpp, which owns the other formats.
"""

from __future__ import annotations

import ctypes
import functools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

from logitproof.errors import ContractError, EnvironmentFailed, Refusal
from logitproof.files.causes import cause_of
from logitproof.gguf.write import ALWAYS_F32

if TYPE_CHECKING:
    from logitproof.engines._libllama import Library

SMALLER = {
    "Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL",
    "TQ1_0": "Q4_0", "TQ2_0": "Q4_0", "IQ3_S": "IQ4_NL",
}  # fmt: skip
"""What llama.cpp takes where rows are no whole blocks of a type (`tensor_type_fallback`)."""
NEEDS_IMPORTANCE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
"""Types that are not made without an importance matrix."""
OF_GGML = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ3_S", "IQ4_NL", "IQ4_XS")
"""Types that llama.cpp's library is asked for; of one that it cannot make it ends the process."""
KEPT = ("altup", "laurel", "per_layer_model_proj")
"""Parts of names of matrices that llama.cpp never quantizes (`tensor_allows_quantization`)."""
LAST = "F16"
BLOCK = re.compile(r"blk\.(\d+)\.(.+)\.weight")
PIECE = 1 << 22
"""Values that are quantized at a time."""


@dataclass(frozen=True)
class Tensor:
    """A tensor that can be quantized; `layer` is None outside the layers, `kind` its name without number and ending."""

    name: str
    shape: tuple[int, ...]
    layer: int | None
    kind: str


def check_types(names: tuple[str, ...]) -> tuple[str, ...]:
    """The types by their names in capitals; ContractError of one that is unknown, stands twice or cannot be made here."""
    kinds = tuple(name.upper() for name in names)
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ContractError(f"{kind} stands twice", where="--type", remedy="name each type once")
        if kind in NEEDS_IMPORTANCE:
            raise ContractError(
                f"{kind} needs an importance matrix", where="--type", remedy="name another, such as Q3_K or IQ4_XS"
            )
        if kind not in gguf.GGMLQuantizationType.__members__ or (
            kind in ("F32", "F64") or (kind.startswith("I") and kind[1:].isdigit())
        ):
            raise ContractError(
                f"no quantization is called {kind!r}", where="--type", remedy="name one such as Q4_K, Q5_0 or Q8_0"
            )
        values = np.linspace(-1, 1, gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0], dtype=np.float32)[None]
        try:
            quantized(values, kind)
        except (ValueError, NotImplementedError, KeyError) as error:
            text = f"{kind} cannot be made here: {cause_of(error)}"
            raise ContractError(text, where="--type", remedy="name another type") from None
    return kinds


def is_quantizable(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a file holds this tensor in blocks at all: llama.cpp keeps norms, biases, routers and convolutions in float32."""
    is_kept = name.endswith(ALWAYS_F32) or any(part in name for part in KEPT)
    return len(shape) > 1 and name.endswith(".weight") and not is_kept


def type_for(kind: str, shape: tuple[int, ...]) -> str:
    """`kind`, or what llama.cpp takes for a tensor whose rows are no whole blocks of it."""
    for short in (kind, SMALLER.get(kind, LAST)):
        if shape[-1] % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[short]][0] == 0:
            return short
    return LAST


def type_of(tensor: Tensor, kind: str) -> str:
    """What a tensor is where a file is asked for this type."""
    return type_for(kind, tensor.shape)


def tensor_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor of this name in a GGUF file."""
    block = BLOCK.fullmatch(name)
    return Tensor(name, shape, int(block[1]) if block else None, block[2] if block else name.removesuffix(".weight"))


def bytes_in(kind: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of this shape in a type."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    return math.prod(shape) // int(block) * int(size)


def makers(kinds: Iterable[str]) -> dict[str, str]:
    """What makes these types beside the package gguf: the files of llama.cpp's library by their hashes, where it is asked."""
    return _library_versions() if set(kinds) & set(OF_GGML) else {}


def quantized(values: np.ndarray, kind: str) -> np.ndarray:
    """float32 [rows, columns] as a file of this type gives them back."""
    number = gguf.GGMLQuantizationType[kind]
    out = np.empty(values.shape, np.float32)
    step = max(1, PIECE // values.shape[-1])
    for start in range(0, len(values), step):
        part = np.ascontiguousarray(values[start : start + step], np.float32)
        try:
            stored = gguf.quants.quantize(part, number)
        except NotImplementedError:
            if kind not in OF_GGML:
                raise NotImplementedError(f"it is none of {', '.join(OF_GGML)} and of those of the package gguf") from None
            stored = _by_ggml(part, number)
        out[start : start + step] = gguf.quants.dequantize(stored, number).reshape(part.shape)
    return out


def _by_ggml(values: np.ndarray, number: Any) -> np.ndarray:
    block, size = gguf.GGML_QUANT_SIZES[number]
    rows, columns = values.shape
    out = np.empty((rows, columns // block * size), np.uint8)
    written = _chunk()(int(number), values.ctypes.data, out.ctypes.data, 0, rows, columns, None)
    if written != out.nbytes:
        raise ValueError(f"ggml wrote {written} bytes of {number.name}, and {out.nbytes} were expected")
    return out


def _chunk() -> Any:
    """`ggml_quantize_chunk` of the library."""
    size, address, whole = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int64
    return _library().function("ggml_quantize_chunk", size, ctypes.c_int, address, address, whole, whole, whole, address)


@functools.cache
def _library_versions() -> dict[str, str]:
    return _library().versions()


@functools.cache
def _library() -> Library:
    """The library that llama-cpp-python brings."""
    try:
        from logitproof.engines._libllama import open_library

        return open_library(None, None)
    except (ImportError, OSError, RuntimeError, Refusal) as error:
        text = f"this type is made by llama.cpp: {cause_of(error)}"
        raise EnvironmentFailed(text, remedy="pip install 'logitproof[llamacpp]', or name Q4_0, Q5_0 or Q8_0") from error
