"""ggml's matrix products, each alone in a graph of its own, with what they do to the activations."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from logitproof.arithmetic import ACTIVATIONS, GGML_LANES
from logitproof.engines import Refusal
from logitproof.engines._libllama import open_library
from logitproof.engines._noise import Noise, Spec
from logitproof.engines._torch_kernels import kernel_of
from logitproof.kernels import Kernel

MEMORY = 256 << 20
FILES = {"Q4_K_M": ("Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q6_K"), "Q4_K_S": ("Q4_K",), "Q5_K_S": ("Q5_K",)}
"""Types of weights in a mixed file."""


class _Params(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class GgmlKernels:
    """The bundled libggml: weights are quantized by its own code, and multiplied by its own kernels."""

    def __init__(self) -> None:
        self._library = open_library(None, None)
        self.versions = self._library.versions()
        at, size = ctypes.c_void_p, ctypes.c_int64
        function = self._library.function
        self._init, self._free = function("ggml_init", at, _Params), function("ggml_free", None, at)
        self._tensor = function("ggml_new_tensor_2d", at, at, ctypes.c_int, size, size)
        self._multiply = function("ggml_mul_mat", at, at, at, at)
        self._graph, self._expand = function("ggml_new_graph", at, at), function("ggml_build_forward_expand", None, at, at)
        self._data, self._bytes = function("ggml_get_data", at, at), function("ggml_nbytes", ctypes.c_size_t, at)
        self._quantize = function("ggml_quantize_chunk", ctypes.c_size_t, ctypes.c_int, at, at, size, size, size, at)
        cpu = ctypes.CDLL(next(str(path) for path in self._library.files() if path.name.startswith("libggml-cpu")))
        self._compute = cpu.ggml_graph_compute_with_ctx
        self._compute.restype, self._compute.argtypes = ctypes.c_int, (at, at, ctypes.c_int)

    def measure(self, matrices: Iterable[tuple[str, np.ndarray, np.ndarray]], quantization: str) -> Iterator[Kernel]:
        """Every matrix whose rows this type can hold; the error is of the product with the dequantized weights."""
        kinds = FILES.get(quantization, (quantization,))
        for kind in kinds:
            if kind not in ACTIVATIONS:
                known = ", ".join([*ACTIVATIONS, *FILES])
                raise Refusal(f"no kernel is known for {quantization!r}", field="--quant", remedy=f"name one of {known}")
        rows = list(matrices)
        for kind in kinds:
            block = 256 if ACTIVATIONS[kind] == "q8_k" else 32
            for name, weight, given in rows:
                if weight.shape[1] % block == 0:
                    yield self._measured(name, weight, given, kind)

    def _measured(self, name: str, weight: np.ndarray, given: np.ndarray, kind: str) -> Kernel:
        number = GGMLQuantizationType[kind]
        stored = self._stored(weight, number)
        product = self._product(stored, weight.shape, given, number)
        same = torch.from_numpy(_dequantized(stored, weight.shape, number)).double()
        source = torch.from_numpy(given).double()
        module = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
        module.weight = torch.nn.Parameter(same, requires_grad=False)
        form = ACTIVATIONS[kind]
        spec = Spec(base=torch.float32, lanes=GGML_LANES, formats={"weight": form} if form else {})
        with torch.inference_mode():
            exact = module(source)
            with Noise(spec, module, 0):
                noisy = module(source)
        return kernel_of("ggml", "matmul", name, kind, weight.shape, source, exact, torch.from_numpy(product), noisy)

    def _stored(self, weight: np.ndarray, number: int) -> np.ndarray:
        if number == GGMLQuantizationType.F32:
            return weight.view(np.uint8).reshape(-1)
        if number == GGMLQuantizationType.F16:
            return weight.astype(np.float16).view(np.uint8).reshape(-1)
        out = np.empty(weight.nbytes, np.uint8)
        rows, columns = weight.shape
        pointers = (weight.ctypes.data, out.ctypes.data)
        return out[: self._quantize(number, *pointers, 0, rows, columns, None)]

    def _product(self, stored: np.ndarray, shape: Sequence[int], given: np.ndarray, number: int) -> np.ndarray:
        """[T, N] float32."""
        context = self._init(_Params(MEMORY + stored.nbytes + 8 * given.nbytes, None, False))
        if not context:
            raise MemoryError("ggml has no memory for one matrix product")
        try:
            left = self._tensor(context, number, shape[1], shape[0])
            right = self._tensor(context, GGMLQuantizationType.F32, shape[1], len(given))
            if self._bytes(left) != stored.nbytes:
                raise RuntimeError(f"ggml wants {self._bytes(left)} bytes for a tensor of {stored.nbytes}")
            ctypes.memmove(self._data(left), stored.ctypes.data, stored.nbytes)
            ctypes.memmove(self._data(right), given.ctypes.data, given.nbytes)
            result = self._multiply(context, left, right)
            graph = self._graph(context)
            self._expand(graph, result)
            if self._compute(context, graph, 1) != 0:
                raise RuntimeError("ggml did not compute the product")
            found = np.empty((len(given), shape[0]), np.float32)
            ctypes.memmove(found.ctypes.data, self._data(result), found.nbytes)
        finally:
            self._free(context)
        return found


def _dequantized(stored: np.ndarray, shape: Sequence[int], number: GGMLQuantizationType) -> np.ndarray:
    rows = stored.reshape(shape[0], -1)
    if number == GGMLQuantizationType.F32:
        return rows.view(np.float32)
    if number == GGMLQuantizationType.F16:
        return rows.view(np.float16).astype(np.float32)
    return np.asarray(dequantize(rows, number), np.float32)
