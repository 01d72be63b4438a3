"""Rotates the residual stream of a Hugging Face checkpoint, as QuaRot (Ashkboos et al. 2024) does before quantizing.

The norms' weights are folded into the matrices that read from the stream; then everything that writes to the stream is
turned by an orthogonal matrix R and everything that reads from it by its transpose. The model computes the same logits:
rotation without quantization must stay inside the float32 band, else the rotation is wrong and not the quantization.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.atomic import write_atomically
from logitproof.files.safetensors import write_tensors
from logitproof.weights.checkpoint import read_checkpoint, read_json
from logitproof.weights.quantized.write import LEFT_OUT, plain_config

FAMILIES = ("llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "qwen3_5_text")
ONE_CENTRED = ("qwen3_5_text",)
"""Families whose norms store their weight less one."""
READERS = re.compile(
    r"layers\.(\d+)\.(?:self_attn\.[qkv]_proj|linear_attn\.in_proj_\w+|mlp\.(?:gate|up)_proj|mlp\.gate"
    r"|mlp\.experts\.\d+\.(?:gate|up)_proj)\.weight$"
)
WRITERS = re.compile(r"layers\.\d+\.(?:self_attn\.o_proj|linear_attn\.out_proj|mlp\.(?:experts\.\d+\.)?down_proj)\.weight$")
NORMS = {"mlp": "post_attention_layernorm", "self_attn": "input_layernorm", "linear_attn": "input_layernorm"}


def hadamard(size: int) -> np.ndarray:
    """Orthogonal [size, size]: Sylvester's matrix of the largest power of two in `size`, turned by a fixed random one
    of the rest, since zoo and field widths are not all powers of two. Float64."""
    power = size & -size
    whole = np.ones((1, 1))
    while len(whole) < power:
        whole = np.block([[whole, whole], [whole, -whole]])
    rest = size // power
    q, r = np.linalg.qr(np.random.default_rng(0).normal(size=(rest, rest)))
    return np.asarray(np.kron(q * np.sign(np.diag(r)), whole / np.sqrt(power)))


def random_orthogonal(size: int, seed: int) -> np.ndarray:
    """Orthogonal [size, size], a Hadamard matrix with random signs, as QuaRot takes it. Float64."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size)
    return hadamard(size) * signs[:, None]


def rotate(folder: Path, out: Path, *, seed: int = 0, rotation: np.ndarray | None = None) -> Path:
    """Write the rotated model of `folder` to the new folder `out` in float32; returns `out`.

    The output matrix is untied, since the norm that is folded into it does not belong into the embedding. Raises
    ContractError for a family whose tensors are not known and where `out` exists.
    """
    config = read_json(folder / "config.json")
    family = config.get("model_type", "")
    if family not in FAMILIES:
        raise ContractError(
            f"the family {family!r} is not known to be rotated rightly", where=str(folder), remedy=f"one of {FAMILIES}"
        )
    if out.exists():
        raise ContractError("exists already", where=str(out), remedy="give another folder")
    tensors = {name: value.astype(np.float64) for name, value in read_checkpoint(folder).items()}
    turned = _turned(tensors, config, rotation if rotation is not None else random_orthogonal(int(config["hidden_size"]), seed))
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(folder, part, ignore=shutil.ignore_patterns(*LEFT_OUT))
    write_tensors(part / "model.safetensors", turned, {"format": "pt"})
    config = plain_config(config) | {"tie_word_embeddings": False, "dtype": "float32"}
    write_atomically(part / "config.json", json.dumps(config, indent=2) + "\n")
    part.rename(out)
    return out


def _turned(tensors: dict[str, np.ndarray], config: dict[str, Any], rotation: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor of the rotated model, float32."""
    centre = 1.0 if config["model_type"] in ONE_CENTRED else 0.0
    prefix = "model.embed_tokens.weight"
    if prefix not in tensors:
        raise ModelError(
            f"{prefix!r} is missing", where="model.safetensors", remedy="save the model as a causal language model"
        )
    out: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        if match := READERS.search(name):
            part = name[match.start() :].split(".")[2]
            out[name] = value * (tensors[f"model.layers.{match.group(1)}.{NORMS[part]}.weight"] + centre) @ rotation
        elif WRITERS.search(name):
            out[name] = rotation.T @ value
        elif name == prefix:
            out[name] = value @ rotation
        elif re.search(r"layers\.\d+\.(input|post_attention)_layernorm\.weight$", name) or name == "model.norm.weight":
            out[name] = np.full_like(value, 1.0 - centre)
        elif name != "lm_head.weight":
            out[name] = value
    head = tensors.get("lm_head.weight", tensors[prefix])
    out["lm_head.weight"] = head * (tensors["model.norm.weight"] + centre) @ rotation
    return {name: np.ascontiguousarray(value, np.float32) for name, value in out.items()}
