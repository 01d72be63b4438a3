"""Tiny random models of the five families, and GGUF files of them, for the tests of engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from logitproof.gguf.families import layout_of

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "head_dim": 16,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    },
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("LlamaConfig", {"head_dim": 16, "rope_parameters": LLAMA3_ROPE}),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "norm_topk_prob": True},
    ),
    "qwen3_5": ("Qwen3_5TextConfig", DELTA_NET),
}


def build(family: str, folder: Path, **changes: Any) -> Path:
    """Write a random model of `family`, in which no tensor is constant, to `folder`; seeded."""
    name, own = CONFIGS[family]
    config = getattr(transformers, name)(**SIZES | own | changes)
    torch.manual_seed(20)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 1 else 1.6 * parameter.shape[-1] ** -0.5
            parameter.add_(torch.randn(parameter.shape) * spread)
    model.save_pretrained(folder)
    return folder


def write_gguf(folder: Path, file: Path, kind: str = "F32") -> Path:
    """Write the weights of `folder` as GGUF without a tokenizer: matrices as `kind`, the rest as F32."""
    config = json.loads((folder / "config.json").read_text())
    layout = layout_of(config, str(folder))
    stored = load_file(folder / "model.safetensors")
    writer = gguf.GGUFWriter(file, layout.name)
    for planned in layout.tensors:
        values = np.ascontiguousarray(planned.change([stored[name] for name in planned.sources]), np.float32)
        used = gguf.GGMLQuantizationType["F32" if values.ndim < 2 or values.shape[-1] % 16 else kind]
        writer.add_tensor(planned.name, gguf.quants.quantize(values, used), raw_dtype=used)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
