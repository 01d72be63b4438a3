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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from logitproof.errors import ContractError, EnvironmentFailed, ModelError
from logitproof.gguf.families import layout_of
from logitproof.gguf.layout import Layout, Planned
from logitproof.gguf.tokenizer import tokenizer_keys
from logitproof.weights.checkpoint import Array, read_checkpoint
from logitproof.weights.config import read_config

OWN_TYPES = {
    "F32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "F16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "BF16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
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


def _write(folder: Path, out: Path, quantization: str, tokenizer: bool) -> None:
    """Writes all keys and tensors to `out`."""
    config = read_config(folder)
    layout = layout_of(config, str(folder / "config.json"))
    checkpoint = read_checkpoint(folder)
    account_for_tensors(layout, checkpoint, config, folder)
    tensor_type, file_type = OWN_TYPES[quantization]
    writer = _Writer(out, layout.name)
    rows = int(config["vocab_size"])
    keys = {
        "general.type": "model",
        "general.name": folder.resolve().name,
        "general.file_type": int(file_type),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        **{f"{layout.name}.{key}": value for key, value in layout.keys.items()},
        **{key: [float(checkpoint[name].item()) for name in names] for key, names in layout.measured.items()},
        **(tokenizer_keys(folder, rows) if tokenizer else {"tokenizer.ggml.model": NONE, f"{layout.name}.vocab_size": rows}),
    }
    for key, value in keys.items():
        _add_key(writer, key, value)
    for planned in layout.tensors:
        data = planned.change([checkpoint[source] for source in planned.sources])
        _add_tensor(writer, planned.name, np.ascontiguousarray(data), tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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


def _add_tensor(writer: gguf.GGUFWriter, name: str, data: Array, wanted: gguf.GGMLQuantizationType) -> None:
    """Adds a tensor as `wanted`; as float32 or float16 where llama.cpp needs or falls back to that."""
    exact = data.ndim <= 1 or name.endswith(ALWAYS_F32) or not name.endswith(".weight")
    used = gguf.GGMLQuantizationType.F32 if exact else wanted
    try:
        stored = gguf.quants.quantize(data, used)
    except gguf.QuantError:  # rows that are no multiple of the block size
        used = gguf.GGMLQuantizationType.F16
        stored = gguf.quants.quantize(data, used)
    writer.add_tensor(name, stored, raw_dtype=used)


def account_for_tensors(layout: Layout, checkpoint: dict[str, Array], config: dict[str, Any], folder: Path) -> None:
    """ModelError unless every planned source is in the checkpoint and nothing in the checkpoint is left over."""
    wanted = _sources(layout.tensors) | {name for names in layout.measured.values() for name in names}
    missing = sorted(wanted - checkpoint.keys())
    left = {name for name in checkpoint.keys() - wanted if not name.startswith(layout.left_out)}
    tied = config.get("tie_word_embeddings") and {"lm_head.weight", "model.embed_tokens.weight"} <= checkpoint.keys()
    if tied and np.array_equal(checkpoint["lm_head.weight"], checkpoint["model.embed_tokens.weight"]):
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


def _sources(tensors: Iterable[Planned]) -> set[str]:
    return {source for planned in tensors for source in planned.sources}


def _write_with_libllama(folder: Path, out: Path, quantization: str, tokenizer: bool) -> None:
    """Converts to F32 beside `out`, then has libllama quantize that file."""
    try:
        import llama_cpp  # heavy, and not needed for the types written here
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentFailed(f"{quantization} needs llama.cpp: {error}", remedy="pip install llama-cpp-python") from error
    file_type = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}", None)
    if file_type is None:
        raise ContractError(
            f"unknown quantization {quantization!r}",
            remedy="one of F32, F16, BF16, Q8_0, or a type of llama.cpp such as Q4_K_M",
        )
    exact = out.with_suffix(".f32")
    try:
        _write(folder, exact, "F32", tokenizer)
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
