"""A quantized checkpoint as the plain tensors that it means: `plain_tensors(folder)`.

The format is what `quantization_config` states and what the tensors are, never what a file or a folder is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.safetensors import FLOATS
from logitproof.weights.config import read_model_json
from logitproof.weights.quantized import awq, bitsandbytes, compressed, fp8, gptq, mxfp4, nvfp4
from logitproof.weights.quantized.held import AGAIN, Held, Matrix, Settings
from logitproof.weights.quantized.numbers import Array

FORMATS = (awq, bitsandbytes, compressed, fp8, gptq, mxfp4, nvfp4)
READERS: dict[str, Callable[[Held, Settings], list[Matrix]]] = {
    method: module.matrices for module in FORMATS for method in module.METHODS
}
KINDS = ("INT2", "INT3", "INT4", "INT5", "INT6", "INT7", "INT8", "INT1", "F8_E4M3", "F8_E5M2", "MXFP4", "NVFP4", "NF4", "FP4")
"""How matrices of these formats are stored."""
ACTIVATIONS = (".input_scale", ".input_global_scale", ".input_zero_point", ".output_scale", ".output_zero_point",
               ".activation_scale", ".act_scale", ".k_scale", ".v_scale", ".q_scale", ".prob_scale")  # fmt: skip
"""Endings of scales of activations and of the KV cache: a reference computes both as they are."""
MARKS = (".qweight", ".qzeros", ".g_idx", ".weight_packed", ".weight_scale", ".weight_zero_point", ".weight_g_idx",
         ".weight_global_scale", "_blocks", ".absmax", "_scale_inv", ".SCB", ".weight_scale_2", ".pre_quant_scale")  # fmt: skip
"""Endings that only tensors of quantized checkpoints have."""
COUNTED = ("I64", "U64", "BOOL")
"""Types of buffers of plain checkpoints."""
PLACES = (
    ("config.json", "quantization_config"),
    ("config.json", "compression_config"),
    ("config.json", "text_config.quantization_config"),
    ("quantize_config.json", ""),
    ("hf_quant_config.json", "quantization"),
)
"""Where a quantization is stated, the first that is there: of today, and of older GPTQ and ModelOpt."""
PLAIN_AGAIN = "give the unquantized model, or a GGUF file of it, which is dequantized"


class PlainTensors:
    """The tensors of a quantized folder by the names of a plain one, each computed when it is asked for."""

    def __init__(self, held: Held, settings: Settings, matrices: list[Matrix]) -> None:
        self.path = held.folder
        self.settings, self._held = settings, held
        self._last: tuple[str, Array] = ("", np.empty(0))
        self._matrices = {matrix.name: matrix for matrix in matrices}
        sources = {source for matrix in matrices for source in matrix.sources}
        rest = [name for name in held.names if name not in sources]
        left_out = [name for name in rest if name.endswith(ACTIVATIONS)]
        self.names = list(self._matrices) + [name for name in rest if name not in self._matrices and name not in left_out]
        self.details: dict[str, Any] = {
            "method": str(settings.values.get("quant_method")),
            "matrices": dict(Counter(matrix.kind for matrix in matrices)),
            "scales_of_activations": len(left_out),
        }

    def kind(self, name: str) -> str:
        """The type in which `raw` gives it: F32 of what is computed."""
        return "F32" if name in self._matrices else self._held.kind(name)

    def stored(self, name: str) -> str:
        """The type in which it lies in the file."""
        return self._matrices[name].kind if name in self._matrices else self._held.kind(name)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._matrices[name].shape if name in self._matrices else self._held.shape(name)

    def raw(self, name: str) -> Array:
        """The bytes, uint8 [bytes]."""
        if name in self._matrices:
            return np.ascontiguousarray(self._computed(name)).reshape(-1).view(np.uint8)
        return self._held.tensors(name).raw(name)

    def array(self, name: str) -> Array:
        """float32, in its shape."""
        if name in self._matrices:
            return self._computed(name)
        return self._held.floats(name)

    def part(self, name: str, number: int) -> Array:
        """What stands at this number of the first dimension: float32 of what is computed, else as it lies."""
        matrix = self._matrices.get(name)
        if matrix is None:
            kind, shape = self.kind(name), self.shape(name)
            return np.asarray(self.raw(name).view(FLOATS[kind]).reshape(shape)[number])
        if matrix.part is not None:
            return self._checked(matrix, matrix.part, number)
        if self._last[0] != name:  # a row after the other is asked for, of an embedding
            self._last = (name, self._computed(name))
        return np.asarray(self._last[1][number])

    def is_float(self, name: str) -> bool:
        """Whether it holds numbers that are computed with, and does not count or point."""
        return self.kind(name) not in COUNTED

    def _computed(self, name: str) -> Array:
        matrix = self._matrices[name]
        values = self._checked(matrix, matrix.values)
        if values.shape != matrix.shape:
            raise self._held.refused(matrix.sources[0], f"gives {list(values.shape)} in place of {list(matrix.shape)}")
        return values

    def _checked(self, matrix: Matrix, compute: Callable[..., Array], *number: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # said below, with the tensor's name
            values = compute(*number)
        if not np.isfinite(values).all():
            raise self._held.refused(matrix.sources[0], "means values beyond float32")
        return values


def plain_tensors(folder: Path) -> PlainTensors | None:
    """What a quantized folder means; None of a folder whose weights are plain.

    Raises ModelError, with file, field and remedy, where method, settings and tensors do not fit one another.
    """
    settings = settings_of(folder)
    try:
        held = Held(folder)
    except ContractError as error:
        raise ModelError(error.text, where=error.where, remedy=error.remedy) from None
    if settings is None:
        _check_plain(held)
        return None
    method = settings.values.get("quant_method")
    if not isinstance(method, str) or method not in READERS:
        text = f"is {method!a}, whose own kernels would decide what its weights mean; read are {', '.join(sorted(READERS))}"
        raise settings.refused(text, "quant_method", PLAIN_AGAIN)
    matrices = READERS[method](held, settings)
    if not matrices:
        text = f"says that the weights are quantized by {method!a}, and no tensor of {folder.name} is"
        remedy = f"remove it from {settings.file.name} if the weights were dequantized"
        raise ModelError(text, where=f"{settings.file}: {settings.field}", remedy=remedy)
    plain = PlainTensors(held, settings, matrices)
    _check_rest(held, plain, method)
    return plain


def settings_of(folder: Path) -> Settings | None:
    """What the folder states about the quantization of its weights, wherever it does; None where it states nothing."""
    for name, place in PLACES:
        file = folder / name
        if not file.is_file():
            continue
        value: Any = read_model_json(file)
        for key in place.split(".") if place else []:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is None:
            continue
        if not isinstance(value, Mapping):
            raise ModelError(f"is {value!a:.60}, not an object", where=f"{file}: {place}", remedy=AGAIN)
        return Settings(file, place or "top", _with_method(name, value))
    return None


def _with_method(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Older files name no method, for a file of their own is it."""
    own = {"quantize_config.json": "gptq", "hf_quant_config.json": "modelopt"}.get(name)
    method = value.get("quant_method") or own
    if method is None and ("load_in_4bit" in value or "load_in_8bit" in value):
        method = "bitsandbytes"
    if method is None and "config_groups" in value:
        method = "compressed-tensors"
    return {**value, "quant_method": method}


def _check_plain(held: Held) -> None:
    marked = [name for name in held.names if name.endswith(MARKS) or held.kind(name).startswith(("F8_", "F4"))]
    if marked:
        text = "is a tensor of a quantized checkpoint, and config.json has no quantization_config"
        remedy = "take config.json from the publisher of these weights"
        raise ModelError(text, where=f"{held.tensors(marked[0]).path}: {marked[0]}", remedy=remedy)


def _check_rest(held: Held, plain: PlainTensors, method: str) -> None:
    """What belongs to no matrix must be plain itself."""
    for name in plain.names:
        if plain.kind(name) not in (*FLOATS, *COUNTED) or name.endswith(MARKS):
            text = f"has type {held.kind(name)} and belongs to no matrix of {method}"
            raise held.refused(name, text)
