"""Converts a Hugging Face model folder to GGUF: `to_gguf(folder, out, "F32")`.

F32, F16, BF16 and Q8_0 are written here, tensor for tensor as llama.cpp's own converter writes them. Every
other type (Q4_K_M, IQ4_XS, ...) is quantized from F32 by libllama, since those formats are its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from logitproof.errors import ContractError, EnvironmentFailed, ModelError
from logitproof.files.causes import cause_of
from logitproof.gguf.families import layout_of
from logitproof.gguf.layout import Layout, Planned
from logitproof.gguf.tensors import FolderTensors, PlannedTensors, chunks, row_count
from logitproof.gguf.tokenizer import tokenizer_keys
from logitproof.weights.checkpoint import Array, check_stored
from logitproof.weights.config import read_config

OWN_TYPES = {
    "F32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "F16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "BF16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
PLAIN = {gguf.GGMLQuantizationType.F32: "<f4", gguf.GGMLQuantizationType.F16: "<f2"}
"""Types that a tensor of the file is described by without blocks."""
PIECE = 1 << 22
"""Values that are converted at a time."""
LARGE = 1 << 22
"""Values of a matrix that lies between as bfloat16 where it came as that, which is exact and half as long."""
MERGES = "tokenizer.ggml.merges"
NONE = "no_vocab"
"""What llama.cpp calls a model without a tokenizer."""
# llama.cpp's kernels take these in float32 only, whatever the type of the file
ALWAYS_F32 = (
    "_norm.weight", ".ffn_gate_inp.weight", ".ssm_conv1d.weight", ".shortconv.conv.weight",
    ".ssm_conv1d_q.weight", ".ssm_conv1d_k.weight", ".ssm_conv1d_v.weight",
)  # fmt: skip


def to_gguf(folder: Path, out: Path, quantization: str, *, tokenizer: bool = True) -> Path:
    """Writes `folder` as GGUF of type `quantization` to `out`, whole or not at all; returns `out`.

    Without a `tokenizer` the file says that it has none, and serves prompts that are given as token ids.
    """
    handle, name = tempfile.mkstemp(dir=_made(out.parent), prefix=f".{out.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        if quantization in OWN_TYPES:
            _write(folder, part, quantization, tokenizer)
        else:
            _write_with_libllama(folder, part, quantization, tokenizer)
        part.chmod(0o644)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(folder: Path, out: Path, quantization: str, tokenizer: bool, narrow: bool = False) -> None:
    """Writes all keys and tensors to `out`, piece by piece; `narrow` leaves large matrices of bfloat16 as they are."""
    config = read_config(folder)
    layout = layout_of(config, str(folder / "config.json"))
    stored = _opened(folder)
    account_for_tensors(layout, stored.raw(), config, folder)
    tensor_type, file_type = OWN_TYPES[quantization]
    writer = _Writer(out, layout.name)
    rows = int(config["vocab_size"])
    keys = {
        "general.type": "model",
        "general.name": folder.resolve().name,
        "general.file_type": int(file_type),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **{f"{layout.name}.{key}": value for key, value in layout.keys.items()},
        **{key: [float(stored.rows(name).item()) for name in names] for key, names in layout.measured.items()},
        **(tokenizer_keys(folder, rows) if tokenizer else {"tokenizer.ggml.model": NONE, f"{layout.name}.vocab_size": rows}),
    }
    for key, value in keys.items():
        _add_key(writer, key, value)
    tensors = PlannedTensors(stored, layout)
    types = {name: _type_of(name, tensors, tensor_type, narrow) for name in tensors.names}
    for name, kind in types.items():
        shape = gguf.quant_shape_to_byte_shape(tensors.shape(name), kind)
        plain = PLAIN.get(kind)
        sized = (tensors.shape(name), np.dtype(plain)) if plain else (shape, np.dtype(np.uint8))
        writer.add_tensor_info(name, *sized, int(np.prod(shape, dtype=np.int64)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, kind in types.items():
        _write_tensor(writer, tensors, name, kind)
    writer.close()


def _opened(folder: Path) -> FolderTensors:
    """The tensors of the folder, mapped; ModelError where a file is missing or damaged, or a type is not of floating point."""
    try:
        stored = FolderTensors(folder)
    except ContractError as error:
        remedy = "complete the download or save the model again"
        raise error if isinstance(error, ModelError) else ModelError(error.text, where=error.where, remedy=remedy) from None
    for name in stored.names:
        check_stored(stored.kind(name), name, folder)
    return stored


def _type_of(name: str, tensors: PlannedTensors, wanted: gguf.GGMLQuantizationType, narrow: bool) -> gguf.GGMLQuantizationType:
    """`wanted`, or float32 or float16 where llama.cpp needs or falls back to that."""
    shape = tensors.shape(name)
    if len(shape) <= 1 or name.endswith(ALWAYS_F32) or not name.endswith(".weight"):
        return gguf.GGMLQuantizationType.F32
    if narrow and tensors.kind(name) == "BF16" and tensors.is_reordered(name) and np.prod(shape, dtype=np.int64) >= LARGE:
        return gguf.GGMLQuantizationType.BF16
    whole_blocks = shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
    return wanted if whole_blocks else gguf.GGMLQuantizationType.F16


def _write_tensor(writer: gguf.GGUFWriter, tensors: PlannedTensors, name: str, kind: gguf.GGMLQuantizationType) -> None:
    """Rows after rows, so that a matrix larger than memory is written as well."""
    shape, file = tensors.shape(name), writer.fout[0]
    writer.write_padding(file, file.tell())
    written = 0
    for index in chunks(None, row_count(shape), shape[-1] if shape else 1, PIECE):
        part = tensors.rows(name, index)
        data = np.ascontiguousarray(gguf.quants.quantize(part, kind))
        file.write(data.data.cast("B"))
        written += data.nbytes
    writer.write_padding(file, written)


class _Writer(gguf.GGUFWriter):  # type: ignore[misc]  # gguf has no types
    """gguf's writer, which also writes lists of no strings: a byte-level vocabulary may have no merges, and must say so."""

    def _pack_val(
        self, val: Any, vtype: gguf.GGUFValueType, add_vtype: bool, sub_type: gguf.GGUFValueType | None = None
    ) -> bytes:
        if vtype != gguf.GGUFValueType.ARRAY or len(val):
            return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))
        head = struct.pack("<I", vtype) if add_vtype else b""
        return head + struct.pack("<IQ", gguf.GGUFValueType.STRING, 0)


def _add_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Adds a key under the GGUF type that belongs to the Python type; counts are unsigned."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value or key == MERGES:
        writer.add_key_value(key, value, gguf.GGUFValueType.ARRAY)


def account_for_tensors(layout: Layout, checkpoint: Mapping[str, Array], config: dict[str, Any], folder: Path) -> None:
    """ModelError unless every planned source is in the checkpoint and nothing in the checkpoint is left over."""
    wanted = _sources(layout.tensors) | {name for names in layout.measured.values() for name in names}
    missing = sorted(wanted - checkpoint.keys())
    left = {name for name in checkpoint.keys() - wanted if not name.startswith(layout.left_out)}
    tied = config.get("tie_word_embeddings") and {"lm_head.weight", "model.embed_tokens.weight"} <= checkpoint.keys()
    if tied and _are_equal(checkpoint["lm_head.weight"], checkpoint["model.embed_tokens.weight"]):
        left.discard("lm_head.weight")  # a copy of the embedding that says nothing new
    if missing:
        raise ModelError(
            f"{len(missing)} tensors are missing: {', '.join(missing[:5])}",
            where=str(folder),
            remedy="complete the download, or correct config.json",
        )
    if left:
        raise ModelError(
            f"{len(left)} tensors have no place in a {layout.name} model: {', '.join(sorted(left)[:5])}",
            where=str(folder),
            remedy="the config does not describe these weights, or the family is not known fully",
        )


def _are_equal(left: Array, right: Array) -> bool:
    """Of two mapped tensors, without a copy of either."""
    left, right = left.reshape(-1), right.reshape(-1)
    places = range(0, len(left), PIECE)
    return len(left) == len(right) and all(np.array_equal(left[at : at + PIECE], right[at : at + PIECE]) for at in places)


def _sources(tensors: Iterable[Planned]) -> set[str]:
    return {source for planned in tensors for source in planned.sources}


def check_type(quantization: str) -> None:
    """ContractError for a quantization that is not known, EnvironmentFailed for one that needs a library that is missing."""
    if quantization not in OWN_TYPES:
        _libllama(quantization)


def bytes_of(parameters: int, quantizations: Sequence[str]) -> int:
    """Bytes of disk that files of so many parameters need, with what lies between while one is quantized; never too few."""
    own = {"F32": 4.0, "F16": 2.0, "BF16": 2.0, "Q8_0": 34 / 32}
    files = sum(own.get(kind, 34 / 32) for kind in quantizations)
    return int(parameters * (files + (2.0 if set(quantizations) - set(own) else 0.0)))


def _libllama(quantization: str) -> tuple[Any, int]:
    """The bindings, and their number of this type."""
    try:
        import llama_cpp  # heavy, and not needed for the types written here
    except (ImportError, OSError, RuntimeError) as error:
        remedy = "pip install llama-cpp-python"
        raise EnvironmentFailed(f"{quantization} needs llama.cpp: {cause_of(error)}", remedy=remedy) from error
    file_type = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}", None)
    if file_type is None:
        raise ContractError(
            f"unknown quantization {quantization!r}",
            remedy="one of F32, F16, BF16, Q8_0, or a type of llama.cpp such as Q4_K_M",
        )
    return llama_cpp, int(file_type)


def _write_with_libllama(folder: Path, out: Path, quantization: str, tokenizer: bool) -> None:
    """Converts exactly beside `out`, then has libllama quantize that file."""
    llama_cpp, file_type = _libllama(quantization)
    exact = out.with_suffix(".f32")
    try:
        _write(folder, exact, "F32", tokenizer, narrow=True)
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype, options.nthread = file_type, 1
        with _log_of(llama_cpp) as lines:
            status = llama_cpp.llama_model_quantize(os.fsencode(exact), os.fsencode(out), ctypes.byref(options))
    finally:
        exact.unlink(missing_ok=True)
    if status != 0:
        raise ModelError(
            f"libllama cannot quantize to {quantization}: {b''.join(lines[-3:]).decode(errors='replace').strip()}",
            where=str(folder),
            remedy="F32, F16, BF16 and Q8_0 are always possible",
        )


@contextlib.contextmanager
def _log_of(llama_cpp: Any) -> Iterator[list[bytes]]:
    """Collects what libllama logs instead of letting it print a line for every tensor; then restores the log."""
    lines: list[bytes] = []
    before, data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    collect = llama_cpp.llama_log_callback(lambda level, text, _: lines.append(text))
    llama_cpp.llama_log_set(collect, None)
    try:
        yield lines
    finally:
        llama_cpp.llama_log_set(before, data)
