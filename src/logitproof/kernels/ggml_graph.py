"""ggml by itself, without llama.cpp around it: a graph of a few operations, computed by one thread of its CPU backend."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from logitproof.engines._libllama import open_library
from logitproof.errors import Refusal

MEMORY = 256 << 20
GROWTH = 8
"""Bytes that a graph may need for a byte that flows into it."""
SIZES = {"i": ctypes.c_int, "l": ctypes.c_int64, "z": ctypes.c_size_t, "f": ctypes.c_float, "t": ctypes.c_void_p}
OPERATIONS = {
    "mul_mat": "tt", "mul_mat_id": "ttt", "mul": "tt", "add": "tt", "div": "tt", "scale": "tf", "clamp": "tff",
    "rms_norm": "tf", "rope_ext": "tttiiiffffff", "rope_multi": "tttitiiffffff", "soft_max": "t", "soft_max_ext": "ttff",
    "flash_attn_ext": "ttttfff", "silu": "t", "swiglu_split": "tt", "argsort_top_k": "ti", "get_rows": "tt", "sum_rows": "t",
    "softplus": "t", "sigmoid": "t", "ssm_conv": "tt", "gated_delta_net": "ttttttl", "cont": "t",
    "reshape_2d": "tll", "reshape_3d": "tlll", "view_2d": "tllzz",
}  # fmt: skip
"""What each operation takes after the context, in letters of `SIZES`."""
TYPES = {
    np.dtype(np.float32): GGMLQuantizationType.F32,
    np.dtype(np.float16): GGMLQuantizationType.F16,
    np.dtype(np.int32): GGMLQuantizationType.I32,
}


class _Params(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@dataclass(frozen=True)
class Stored:
    """Weights [..., N, K] in a type of ggml, as its own code quantizes them."""

    kind: str
    shape: tuple[int, ...]
    data: np.ndarray

    def dequantized(self) -> np.ndarray:
        """The same shape in float32."""
        number = GGMLQuantizationType[self.kind]
        rows = self.data.reshape(math.prod(self.shape[:-1]), -1)
        if self.kind == "F32":
            values = rows.view(np.float32)
        elif self.kind == "F16":
            values = rows.view(np.float16).astype(np.float32)
        else:
            values = np.asarray(dequantize(rows, number), np.float32)
        return values.reshape(self.shape)


class Ggml:
    """One build: the bundled one, that of a folder, or the CPU backend that a file is, with the build around it."""

    def __init__(self, build: Path | None = None) -> None:
        folder, backend = (build.parent, str(build)) if build is not None and build.is_file() else (build, None)
        self._library = open_library(str(folder) if folder else None, backend)
        self.versions, self.features = self._library.versions(), self._library.features()
        cpu = ctypes.CDLL(next(str(path) for path in self._library.files() if path.name.startswith("libggml-cpu")))
        self.compute = cpu.ggml_graph_compute_with_ctx
        self.compute.restype, self.compute.argtypes = ctypes.c_int, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)

    def call(self, name: str, returns: str, takes: str, *arguments: object) -> int:
        """A function of ggml by its name without the prefix; types are letters of `SIZES`."""
        kinds = [SIZES[letter] for letter in takes]
        function = self._library.function(f"ggml_{name}", SIZES[returns], *kinds)
        return function(*arguments)  # type: ignore[no-any-return]

    def stored(self, weight: np.ndarray, kind: str) -> Stored:
        """`weight` in float32 as this type of ggml has it."""
        if kind in ("F32", "F16"):
            narrow = weight.astype(np.float32 if kind == "F32" else np.float16)
            return Stored(kind, weight.shape, np.ascontiguousarray(narrow).view(np.uint8).reshape(-1))
        out, given = np.empty(weight.nbytes, np.uint8), np.ascontiguousarray(weight, np.float32)
        sizes = (0, math.prod(weight.shape[:-1]), weight.shape[-1], None)
        size = self.call(
            "quantize_chunk", "z", "ittlllt", GGMLQuantizationType[kind], given.ctypes.data, out.ctypes.data, *sizes
        )
        return Stored(kind, weight.shape, out[:size].copy())

    @contextmanager
    def graph(self, *inputs: np.ndarray) -> Iterator[Graph]:
        """An empty graph with room for these arrays and what becomes of them."""
        params = _Params(MEMORY + GROWTH * sum(values.nbytes for values in inputs), None, False)
        context = self._library.function("ggml_init", ctypes.c_void_p, _Params)(params)
        if not context:
            raise MemoryError("ggml has no memory for one operation")
        try:
            yield Graph(self, context)
        finally:
            self._library.function("ggml_free", None, ctypes.c_void_p)(context)


class Graph:
    """Operations on tensors, which are addresses. Shapes are NumPy's: the last dimension lies together."""

    def __init__(self, ggml: Ggml, context: int) -> None:
        self._ggml, self._context = ggml, context

    def put(self, array: np.ndarray | Stored) -> int:
        """A tensor of float32, float16 or int32, or of weights."""
        if isinstance(array, Stored):
            return self._tensor(GGMLQuantizationType[array.kind], array.shape, array.data)
        return self._tensor(TYPES[array.dtype], array.shape, np.ascontiguousarray(array))

    def apply(self, name: str, *arguments: float | int | None) -> int:
        """One operation of `OPERATIONS`."""
        takes = OPERATIONS[name]
        made = self._ggml.call(name, "t", "t" + takes, self._context, *arguments)
        if not made:
            raise Refusal(f"ggml made nothing of {name}", field="--quant")
        return made

    def computed(self, result: int, shape: Sequence[int]) -> np.ndarray:
        """The first elements of `result` in float32, after everything it needs."""
        graph = self._ggml.call("new_graph", "t", "t", self._context)
        self._ggml.call("build_forward_expand", "t", "tt", graph, result)
        if self._ggml.compute(self._context, graph, 1) != 0:
            raise RuntimeError("ggml did not compute the graph")
        elements = np.empty(tuple(shape), np.float32)
        if self._ggml.call("nbytes", "z", "t", result) < elements.nbytes:
            raise RuntimeError(f"ggml's result is smaller than {elements.shape}")
        ctypes.memmove(elements.ctypes.data, self._ggml.call("get_data", "t", "t", result), elements.nbytes)
        return elements

    def _tensor(self, kind: int, shape: Sequence[int], data: np.ndarray) -> int:
        sizes = [*reversed(shape), 1, 1, 1, 1][:4]
        made = self._ggml.call("new_tensor_4d", "t", "tillll", self._context, kind, *sizes)
        size = self._ggml.call("nbytes", "z", "t", made)
        if size != data.nbytes:
            raise RuntimeError(f"ggml wants {size} bytes for a tensor of {data.nbytes}")
        ctypes.memmove(self._ggml.call("get_data", "t", "t", made), data.ctypes.data, size)
        return made
