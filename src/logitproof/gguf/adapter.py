"""LoRA adapters: a PEFT folder read as pairs of small matrices, and the same adapter as a GGUF file for llama.cpp."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import gguf
import numpy as np

from logitproof.errors import ContractError
from logitproof.files.gguf import GgufFile
from logitproof.gguf.families import layout_of
from logitproof.weights.adapter import Pair, read_adapter
from logitproof.weights.checkpoint import read_json


def adapter_to_gguf(folder: Path, base: Path, out: Path) -> Path:
    """Write a PEFT adapter of the HF model `base` as a GGUF adapter, whole or not at all; returns `out`.

    Rows of B are reordered as the rows of its weight are, so that it fits the converted model. GGUF has one alpha for all:
    where a pair's scale is another than alpha over its rank, what is missing is multiplied into its B.
    """
    _refuse_exchanged(folder, base)
    pairs = read_adapter(folder)
    if not out.parent.is_dir():
        raise ContractError("cannot be written: its folder is not there", where=str(out), remedy="make the folder first")
    layout = layout_of(read_json(base / "config.json"), str(base / "config.json"))
    planned = {tensor.sources[0]: tensor for tensor in layout.tensors if len(tensor.sources) == 1}
    if unknown := sorted(set(pairs) - set(planned)):
        raise ContractError(f"{unknown[0]} has no place in a {layout.name} model", where=str(folder))
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        writer = gguf.GGUFWriter(part, layout.name)
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        first = next(iter(pairs.values()))
        alpha = first.scale * first.a.shape[0]
        writer.add_float32("adapter.lora.alpha", alpha)
        for source, pair in pairs.items():
            writer.add_tensor(f"{planned[source].name}.lora_a", np.ascontiguousarray(pair.a))
            writer.add_tensor(
                f"{planned[source].name}.lora_b", np.ascontiguousarray(planned[source].change([_folded(pair, alpha)]))
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.chmod(0o644)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out


def _refuse_exchanged(folder: Path, base: Path) -> None:
    """Say that the two folders stand the wrong way round, or that the second is no HF model."""
    adapters = [(path / "adapter_config.json").is_file() for path in (folder, base)]
    if adapters == [False, True]:
        text = "the adapter comes first and its model second; here they stand the wrong way round"
        raise ContractError(text, where=f"{folder} {base}", remedy=f"logitproof lora {base} {folder} OUT")
    if adapters[0] and not (base / "config.json").is_file():
        text = "is no HF model: it has no config.json"
        raise ContractError(text, where=str(base), remedy="name the folder of the model that the adapter was trained on")


def read_gguf_adapter(file: Path, base: Path) -> dict[str, Pair]:
    """The pairs of a GGUF adapter by the checkpoint names of the HF model `base`; rows of B stand as in the file.

    llama.cpp's scale is alpha over the rank, or 1 where the file has no alpha. Raises ContractError of a tensor without place.
    """
    opened = GgufFile(file)
    layout = layout_of(read_json(base / "config.json"), str(base / "config.json"))
    sources = {tensor.name: tensor.sources[0] for tensor in layout.tensors if len(tensor.sources) == 1}
    halves = {tensor.name: np.array(tensor.data, np.float32) for tensor in opened.tensors}
    alpha = float(opened.value("adapter.lora.alpha", 0.0) or 0.0)
    pairs = {}
    for name in sorted({name.removesuffix(".lora_a").removesuffix(".lora_b") for name in halves}):
        a, b = (halves.get(f"{name}.lora_{half}") for half in "ab")
        if name not in sources or a is None or b is None:
            text = f"{name} has no place in a {layout.name} model, or lacks a half"
            raise ContractError(text, where=str(file), remedy="convert the adapter again with `logitproof lora`")
        pairs[sources[name]] = Pair(a, b, alpha / a.shape[0] if alpha else 1.0)
    return pairs


def _folded(pair: Pair, alpha: float) -> np.ndarray:
    """B [out, rank] with what alpha over the rank leaves of the pair's scale."""
    rest = pair.scale * pair.a.shape[0] / alpha
    return pair.b if rest == 1.0 else np.asarray(pair.b * np.float32(rest), np.float32)
