"""Real models with one fault of their set-up: GGUF files and HF folders of the zoo, edited."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

Change = Callable[[np.ndarray], np.ndarray]
DROP = object()
"""In place of a value: the key is left out."""


def edit_gguf(
    source: Path,
    target: Path,
    keys: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Change | None] | None = None,
    swap: Mapping[str, str] | None = None,
) -> Path:
    """Copy a GGUF file with other `keys`, changed `tensors` (None: left out) and tensors under the names of others."""
    reader, keys, tensors, swap = gguf.GGUFReader(source), dict(keys or {}), tensors or {}, swap or {}
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = keys.pop(name, field.contents())
        if value is not DROP:
            writer.add_key_value(name, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)
    for name, value in keys.items():
        _add(writer, name, value)
    held = {tensor.name: tensor for tensor in reader.tensors}
    for name in held:
        tensor = held[swap.get(name, name)]
        if name in tensors and tensors[name] is None:
            continue
        change = tensors.get(name)
        if change is None:
            writer.add_tensor(name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
            continue
        shape = [int(size) for size in reversed(tensor.shape)]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        stored = gguf.quants.quantize(np.ascontiguousarray(change(values), np.float32), tensor.tensor_type)
        writer.add_tensor(name, stored, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def edit_folder(
    source: Path,
    target: Path,
    config: Callable[[dict[str, Any]], None] | None = None,
    tensors: Callable[[dict[str, np.ndarray]], None] | None = None,
    files: Mapping[str, Callable[[str], str]] | None = None,
) -> Path:
    """Copy a model folder with another config.json, other tensors (as float32) or other text files."""
    shutil.copytree(source, target)
    if config is not None:
        values = json.loads((target / "config.json").read_text())
        config(values)
        (target / "config.json").write_text(json.dumps(values, indent=1))
    if tensors is not None:
        held = _as_float32(target / "model.safetensors")
        tensors(held)
        save_file(held, target / "model.safetensors", {"format": "pt"})
    for name, change in (files or {}).items():
        (target / name).write_text(change((target / name).read_text()))
    return target


def unpaired_rows(heads: int) -> Change:
    """Rows of Q or K of a llama file as a converter leaves them that forgets to permute."""

    def change(values: np.ndarray) -> np.ndarray:
        size = values.shape[0] // heads
        pairs = values.reshape(heads, size // 2, 2, *values.shape[1:])
        return pairs.swapaxes(1, 2).reshape(values.shape)

    return change


def first_row(value: float) -> Change:
    """All rows but the fortieth, which becomes `value`."""

    def change(values: np.ndarray) -> np.ndarray:
        changed = values.copy()
        changed[40] = value
        return changed

    return change


def with_nan(values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[3, 7] = np.nan
    return changed


def fresh(values: np.ndarray) -> np.ndarray:
    """As a framework initialises what it does not find."""
    return np.random.default_rng(0).normal(0, 0.02, values.shape).astype(np.float32)


def _add(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}[type(value)]
    add(name, value)


def _as_float32(file: Path) -> dict[str, np.ndarray]:
    """All tensors; bfloat16, which NumPy lacks, through its upper half of a float32."""
    found = gguf.utility.SafetensorsLocal(file).tensors
    if any(tensor.dtype != "BF16" for tensor in found.values()):
        return dict(load_file(file))
    raw = {name: tensor.mmap_bytes().view(np.uint16).astype(np.uint32) << 16 for name, tensor in found.items()}
    return {name: bits.view(np.float32).reshape(found[name].shape).copy() for name, bits in raw.items()}
