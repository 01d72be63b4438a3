"""The weights of a GGUF file under the names, shapes and conventions of transformers.

llama.cpp's converter renames tensors, permutes Q and K of the llama family, splits merged experts, and
for Qwen3.5 stores 1 + w for norms, -exp(A_log), a flat convolution and value heads in tiled order. Each
of these is undone here. Shapes: H heads, K key heads, R value heads per key head, D head size, E width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.quants import dequantize

from logitproof.errors import ContractError, Refusal
from logitproof.files.gguf import GgufFile

FAMILIES = {
    "llama": ("llama", "mistral"),
    "qwen2": ("qwen2",),
    "qwen3": ("qwen3",),
    "qwen3moe": ("qwen3_moe",),
    "qwen35": ("qwen3_5", "qwen3_5_text"),
}
MODEL = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "attn_qkv": "linear_attn.in_proj_qkv",
    "attn_gate": "linear_attn.in_proj_z",
    "ssm_conv1d": "linear_attn.conv1d",
    "ssm_norm": "linear_attn.norm",
    "ssm_beta": "linear_attn.in_proj_b",
    "ssm_alpha": "linear_attn.in_proj_a",
    "ssm_out": "linear_attn.out_proj",
}
WHOLE = {
    "ssm_a": "linear_attn.A_log",
    "ssm_dt.bias": "linear_attn.dt_bias",
    "ffn_gate_exps.weight": "mlp.experts.gate_up_proj",
    "ffn_up_exps.weight": "mlp.experts.gate_up_proj",
    "ffn_down_exps.weight": "mlp.experts.down_proj",
}
NOT_WEIGHTS = ("rope_freqs.weight",)


@dataclass(frozen=True)
class Piece:
    """Part `rows` of dimension 1 (all of it where None) of the parameter `name`, as float32."""

    name: str
    values: torch.Tensor
    rows: slice | None = None


class GgufWeights:
    """A GGUF file opened for a model of the transformers text config `config`."""

    def __init__(self, path: Path, config: Any) -> None:
        try:
            self._reader = GgufFile(path)
        except ContractError as error:
            text = f"cannot read {path.name}: {error.where}: {error.text}"
            raise Refusal(text, field=str(path), remedy=error.remedy) from error
        self._path, self._config = path, config
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self.architecture = str(self._value("general.architecture"))
        if config.model_type not in FAMILIES.get(self.architecture, ()):
            raise Refusal(
                f"{path.name} is of architecture {self.architecture!r}, the config of {config.model_type!r}",
                field=str(path),
                remedy=f"name the config of the model it was made from; known: {', '.join(FAMILIES)}",
            )

    @property
    def ties_embeddings(self) -> bool:
        """Whether the output matrix is the embedding matrix: such files hold it once."""
        return "output.weight" not in self._tensors

    @property
    def tensor_types(self) -> dict[str, int]:
        """How many tensors there are of each GGUF type."""
        names = [tensor.tensor_type.name for tensor in self._reader.tensors]
        return {name: names.count(name) for name in sorted(set(names))}

    def rope_factors(self) -> np.ndarray | None:
        """What the file divides each inverse frequency by, [D/2], or None."""
        tensor = self._tensors.get("rope_freqs.weight")
        return None if tensor is None else np.array(tensor.data, np.float32)

    def pieces(self) -> Iterator[Piece]:
        """Every tensor of the file once, one at a time; names that mean nothing are refused together."""
        names = [name for name in self._tensors if name not in NOT_WEIGHTS and not self._is_extra_block(name)]
        targets = {name: parameter_of(name) for name in names}
        foreign = sorted(name for name, target in targets.items() if target is None)
        if foreign:
            raise Refusal(
                f"{self._path.name} has tensors that no {self.architecture} model has: {some(foreign)}",
                field=str(self._path),
                remedy="convert the model again with the converter of this architecture",
            )
        for name, target in targets.items():
            yield _piece(name, str(target), self._read(name), self._config, self.architecture)

    def _read(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        try:
            return torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape))
        except (ValueError, NotImplementedError, KeyError) as error:
            text = f"cannot dequantize {name} ({tensor.tensor_type.name}): {error}"
            raise Refusal(text, field=str(self._path), remedy=REPLACE) from error

    def _is_extra_block(self, name: str) -> bool:
        """Blocks past the last layer are a multi-token-prediction head, which no logit depends on."""
        block = re.match(r"blk\.(\d+)\.", name)
        extra = self._value(f"{self.architecture}.nextn_predict_layers") or 0
        return bool(block and extra and int(block[1]) >= self._config.num_hidden_layers)

    def _value(self, key: str) -> Any:
        return self._reader.value(key)


REPLACE = "fetch or convert the file again and compare its sha256"


def parameter_of(name: str) -> str | None:
    """The transformers parameter that the GGUF tensor `name` belongs to."""
    block = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    if block is None:
        return MODEL.get(name)
    stem, _, suffix = block[2].rpartition(".")
    inner = WHOLE.get(block[2])
    if inner is None and stem in LAYER and suffix in ("weight", "bias"):
        inner = f"{LAYER[stem]}.{suffix}"
    return None if inner is None else f"model.layers.{block[1]}.{inner}"


def _piece(name: str, target: str, values: torch.Tensor, config: Any, architecture: str) -> Piece:
    if architecture == "llama" and ".attn_q." in name:
        values = _split_half(values, config.num_attention_heads)
    elif architecture == "llama" and ".attn_k." in name:
        values = _split_half(values, config.num_key_value_heads)
    elif architecture == "qwen35":
        values = _qwen35(name, values, config)
    ffn_width = values.shape[1] if values.ndim == 3 else 0
    if name.endswith("ffn_gate_exps.weight"):
        return Piece(target, values, slice(0, ffn_width))
    if name.endswith("ffn_up_exps.weight"):
        return Piece(target, values, slice(ffn_width, 2 * ffn_width))
    return Piece(target, values)


def _split_half(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows [H·D, …] of interleaved RoPE pairs back in split-half order."""
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, *values.shape[1:])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def _qwen35(name: str, values: torch.Tensor, config: Any) -> torch.Tensor:
    """Undo what the converter does to Qwen3.5; in float64, so that only the last step rounds."""
    if name.endswith("norm.weight") and "ssm_norm" not in name:
        return (values.double() - 1).float()
    if name.endswith("ssm_a"):
        values = torch.log(-values.double()).float()
    if name.endswith("ssm_conv1d.weight"):
        values = _grouped(values, config, 0, config.linear_value_head_dim, keys_first=True)
        return values.reshape(values.shape[0], 1, -1)
    if name.endswith("attn_qkv.weight"):
        return _grouped(values, config, 0, config.linear_value_head_dim, keys_first=True)
    if name.endswith("attn_gate.weight"):
        return _grouped(values, config, 0, config.linear_value_head_dim)
    if name.endswith("ssm_out.weight"):
        return _grouped(values, config, 1, config.linear_value_head_dim)
    if name.endswith(("ssm_a", "ssm_dt.bias", "ssm_beta.weight", "ssm_alpha.weight")):
        return _grouped(values, config, 0, 1)
    return values


def _grouped(values: torch.Tensor, config: Any, axis: int, size: int, keys_first: bool = False) -> torch.Tensor:
    """Value heads of `size` along `axis` from tiled order [R, K] back to grouped order [K, R].

    With `keys_first` the query and key channels lie before them and stay as they are.
    """
    keys, per_key = config.linear_num_key_heads, config.linear_num_value_heads // config.linear_num_key_heads
    start = 2 * keys * config.linear_key_head_dim if keys_first else 0
    order = torch.arange(values.shape[axis])
    order[start:] = start + torch.arange(keys * per_key * size).reshape(per_key, keys, size).swapaxes(0, 1).reshape(-1)
    return values.index_select(axis, order)


def some(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
