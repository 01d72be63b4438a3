"""LoRA adapters: a PEFT folder read as pairs of small matrices, and the same adapter as a GGUF file for llama.cpp."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import gguf
import numpy as np

from logitproof.errors import ContractError
from logitproof.gguf.families import layout_of
from logitproof.weights.adapter import read_adapter
from logitproof.weights.checkpoint import read_json


def adapter_to_gguf(folder: Path, base: Path, out: Path) -> Path:
    """Write a PEFT adapter of the HF model `base` as a GGUF adapter, whole or not at all; returns `out`.

    Rows of B are reordered as the rows of its weight are, so that it fits the converted model.
    """
    pairs = read_adapter(folder)
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
        writer.add_float32("adapter.lora.alpha", first.scale * first.a.shape[0])
        for source, pair in pairs.items():
            writer.add_tensor(f"{planned[source].name}.lora_a", np.ascontiguousarray(pair.a))
            writer.add_tensor(f"{planned[source].name}.lora_b", np.ascontiguousarray(planned[source].change([pair.b])))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        part.chmod(0o644)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out
