"""Arrays in the files that engines dump taps to: by name, whatever the format."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError
from logitproof.files.arrays import read_archive, read_array
from logitproof.files.nearest import meant

RAW = ""
"""The name of the only array in a file that names none."""
LLAMA_CPP = {
    "token_embd": "embedding",
    "blk.{layer}.attn_norm": "attn_norm",
    "blk.{layer}.attn_q": "attn.q_proj",
    "blk.{layer}.attn_k": "attn.k_proj",
    "blk.{layer}.attn_v": "attn.v_proj",
    "blk.{layer}.attn_q_norm": "attn.q",
    "blk.{layer}.attn_k_norm": "attn.k",
    "blk.{layer}.attn_output": "attn.out",
    "blk.{layer}.attn_qkv": "linear_attn.qkv",
    "blk.{layer}.attn_gate": "linear_attn.z",
    "blk.{layer}.ssm_beta": "linear_attn.b",
    "blk.{layer}.ssm_alpha": "linear_attn.a",
    "blk.{layer}.ssm_conv1d": "linear_attn.conv",
    "blk.{layer}.ssm_norm": "linear_attn.norm",
    "blk.{layer}.ssm_out": "linear_attn.out",
    "blk.{layer}.ffn_norm": "ffn_norm",
    "blk.{layer}.ffn_gate": "mlp.gate",
    "blk.{layer}.ffn_up": "mlp.up",
    "blk.{layer}.ffn_down": "mlp.out",
    "blk.{layer}.ffn_gate_inp": "moe.router",
    "blk.{layer}.post_attention_norm": "attn_post_norm",
    "blk.{layer}.post_ffw_norm": "mlp_post_norm",
    "output_norm": "norm",
    "output": "logits",
}
"""What the operation gives that reads the weight of this name in a GGUF file."""


def arrays(file: Path) -> Mapping[str, np.ndarray]:
    """Every array of a file by its name, float32 but for token ids.

    An `APRT` file has `layers.N` and `model`, an `APRRAWLG` file `token_ids` and `logits`; numbers without a header
    are one array without a shape. Raises ContractError or ValueError for a file that cannot be read.
    """
    from logitproof.files.safetensors import Tensors, is_safetensors
    from logitproof.readers import Peek
    from logitproof.readers.aprrawlg import Aprrawlg
    from logitproof.readers.aprt import Aprt

    if not file.is_file():
        raise ContractError(f"there is no such file{meant(file)}", where=str(file), remedy="correct `file` in taps.yaml")
    peek = Peek(file)
    if Aprrawlg().recognizes(peek):
        prompt = Aprrawlg().read(file).prompts[0]
        return {"token_ids": np.array(prompt.token_ids), "logits": np.asarray(prompt.logits)}
    if Aprt().recognizes(peek):
        return Aprt().read(file).taps
    if peek.head.startswith(b"GGUF"):
        return _gguf(file)
    if peek.head.startswith(b"\x93NUMPY"):
        return {RAW: read_array(file)}
    if zipfile.is_zipfile(file):
        return read_archive(file)
    if file.suffix == ".safetensors" or is_safetensors(peek.head, peek.size):
        stored = Tensors(file)
        return {name: stored.array(name) for name in sorted(stored.names)}
    if peek.size % 4:
        raise ValueError(f"{peek.size} bytes are no float32 numbers")
    return {RAW: np.fromfile(file, "<f4")}


def _gguf(file: Path) -> dict[str, np.ndarray]:
    from logitproof.files.gguf import GgufFile

    tensors = {tensor.name: tensor.data for tensor in GgufFile(file).tensors}
    if any(name.endswith(".in_sum2") for name in tensors):
        raise ContractError(
            "is an importance matrix: sums over all positions, which tell no position apart",
            where=str(file),
            remedy="dump the tensors themselves",
        )
    narrow = sorted(name for name, data in tensors.items() if data.dtype.kind != "f")
    if narrow:
        raise ContractError(f"{narrow[0]} is quantized", where=str(file), remedy="write taps as F32")
    return tensors
