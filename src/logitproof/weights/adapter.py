"""A PEFT adapter on disk: pairs of low-rank matrices."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.files.patterns import fits
from logitproof.weights.checkpoint import read_json, read_tensors

PREFIX = "base_model.model."
MERGE = "merge it into the weights with PEFT, and check those"


@dataclass(frozen=True)
class Pair:
    """W becomes W + scale · B @ A (Hu et al. 2021); `a` is [rank, in], `b` [out, rank], float32."""

    a: np.ndarray
    b: np.ndarray
    scale: float

    @property
    def delta(self) -> np.ndarray:
        """What is added to the weight, [out, in]."""
        return np.asarray(self.scale * (self.b.astype(np.float64) @ self.a.astype(np.float64)), np.float32)

    @property
    def size(self) -> float:
        """Frobenius norm of the delta, which no order of B's rows changes."""
        a, b = self.a.astype(np.float64), self.b.astype(np.float64)
        return self.scale * float(np.sqrt(max(np.sum((a @ a.T) * (b.T @ b)), 0.0)))


WITHOUT_EFFECT = {
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "lora_dropout", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "megatron_config", "megatron_core", "runtime_config", "qalora_group_size", "ensure_weight_tying", "layers_pattern",
    "arrow_config",
}  # fmt: skip
"""Keys that say how an adapter was made or trained: the matrices that are there already follow them."""
HONOURED = {
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "target_modules",
    "exclude_modules",
}
INITIAL = (True, False, None, "gaussian", "default", "orthogonal", "eva")
"""Initial values that leave the base model as it is; PiSSA, OLoRA, CorDA and LoftQ take a part out of its weights."""


def read_adapter(folder: Path) -> dict[str, Pair]:
    """The pairs of a PEFT LoRA folder by the name of the weight that each changes, each with the scale that PEFT gives it.

    Raises ModelError where a file is missing or damaged, half a pair is there, and ContractError where the folder is another
    kind of adapter or its config has a key that PEFT would act on and this does not.
    """
    _refuse_no_adapter(folder)
    config = read_json(folder / "adapter_config.json")
    where = str(folder / "adapter_config.json")
    _refuse_what_is_not_honoured(config, where)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise ModelError("names no `r` or no `lora_alpha`", where=where, remedy="save the adapter with PEFT")
    halves = read_tensors(folder / "adapter_model.safetensors")
    _refuse_other_tensors(halves, folder)
    names = {name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in halves}
    pairs = {}
    for name in sorted(names):
        try:
            a, b = (halves[f"{PREFIX}{name}.lora_{half}.weight"] for half in "AB")
        except KeyError as error:
            raise ModelError(f"lacks {error}", where=str(folder), remedy="save the adapter again") from None
        if a.shape[0] != b.shape[1]:
            raise ModelError(f"{name}: A is {a.shape} and B is {b.shape}", where=str(folder), remedy="save it again")
        pairs[f"{name}.weight"] = Pair(a, b, _scale(config, name, a.shape[0], where))
    if not pairs:
        raise ModelError("holds no pair of matrices, so it would change nothing", where=str(folder))
    return pairs


def scales_of(pairs: dict[str, Pair]) -> dict[float, list[str]]:
    """The names of the weights by their scale, the most common scale first."""
    by_scale: dict[float, list[str]] = {}
    for name, pair in pairs.items():
        by_scale.setdefault(pair.scale, []).append(name)
    return dict(sorted(by_scale.items(), key=lambda item: -len(item[1])))


def _refuse_no_adapter(folder: Path) -> None:
    """Say what a folder is instead of an adapter, before one of its files is missed."""
    remedy = "name the folder that PEFT's save_pretrained wrote: adapter_config.json and adapter_model.safetensors"
    if not (folder / "adapter_config.json").is_file():
        text = "is no PEFT adapter: it has no adapter_config.json"
        if (folder / "config.json").is_file():
            text = "is a whole model and no PEFT adapter: it has config.json and no adapter_config.json"
        elif inside := sorted(folder.glob("*/adapter_config.json")):
            remedy = f"name the folder below it: {inside[0].parent}"
        raise ModelError(text, where=str(folder), remedy=remedy)
    if not (folder / "adapter_model.safetensors").is_file():
        text = "has adapter_config.json and no adapter_model.safetensors"
        if (folder / "adapter_model.bin").is_file():
            text += "; adapter_model.bin is a pickle, which could run anything and is not read"
            remedy = "save it again with PEFT's save_pretrained(safe_serialization=True)"
        raise ModelError(text, where=str(folder), remedy=remedy)


def _refuse_what_is_not_honoured(config: dict[str, Any], where: str) -> None:
    """Every key that PEFT would act on is honoured or named: none is passed over in silence."""
    if config.get("peft_type", "LORA") != "LORA":
        raise ContractError(f"peft_type: {config['peft_type']} is no plain LoRA adapter", where=where, remedy=MERGE)
    if config.get("bias", "none") != "none":
        raise ContractError(f"bias: {config['bias']} changes biases too, which are not read", where=where, remedy=MERGE)
    if config.get("init_lora_weights", True) not in INITIAL:
        text = f"init_lora_weights: {config['init_lora_weights']} takes a part out of the base model's weights"
        raise ContractError(text, where=where, remedy="save it with PEFT's path_initial_model_for_weight_conversion")
    known = WITHOUT_EFFECT | HONOURED | {"bias", "init_lora_weights"}
    for key, value in config.items():
        if key not in known and value not in (None, False, [], {}, "", 0):
            text = f"{key}: {value!r} makes it no plain LoRA adapter, and it is not honoured here"
            raise ContractError(text[:200], where=where, remedy=MERGE)


def _refuse_other_tensors(halves: dict[str, np.ndarray], folder: Path) -> None:
    """Tensors beside pairs: embeddings, magnitudes, whole modules, biases."""
    for name in sorted(halves):
        if not name.endswith((".lora_A.weight", ".lora_B.weight")):
            kind = "the embedding pair" if "lora_embedding_" in name else "a tensor that is no half of a pair"
            text = f"holds {name}, {kind}, which is not applied here"
            raise ContractError(text, where=str(folder), remedy=MERGE)


def _scale(config: dict[str, Any], name: str, rank: int, where: str) -> float:
    """alpha/r, or alpha/sqrt(r) where `use_rslora` (Kalajdzievski 2023), each from the pattern that fits the module's name."""
    stated = _of_pattern(config.get("rank_pattern"), name, config["r"], "rank_pattern", where)
    alpha = _of_pattern(config.get("alpha_pattern"), name, config["lora_alpha"], "alpha_pattern", where)
    if stated != rank:
        text = f"says rank {stated} of {name}, whose matrices have rank {rank}"
        raise ModelError(text, where=where, remedy="save the adapter again, with the config that it was trained with")
    layers = config.get("layers_to_transform")
    number = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", f".{name}.")
    if layers is not None and not isinstance(layers, int | list):
        raise ModelError(f"layers_to_transform: {layers!r} is no list of layers", where=where, remedy="save the adapter again")
    if layers is not None and number and int(number[1]) not in ([layers] if isinstance(layers, int) else layers):
        text = f"layers_to_transform: {layers} leaves out layer {number[1]}, of which it holds matrices"
        raise ModelError(text, where=where, remedy="save the adapter again, with the config that it was trained with")
    for key, wanted in (("target_modules", True), ("exclude_modules", False)):
        if config.get(key) and _is_named(config[key], name, key, where) is not wanted:
            text = f"{key} leaves out {name}, of which it holds matrices: PEFT would not apply them"
            raise ModelError(text, where=where, remedy="save the adapter again, with the config that it was trained with")
    return float(alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _is_named(patterns: Any, name: str, key: str, where: str) -> bool:
    """Whether a module is one of a list of names or their ends, or fits an expression."""
    if isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns):
        return any(name == pattern or name.endswith(f".{pattern}") for pattern in patterns)
    try:
        return patterns == "all-linear" or fits(patterns, name)
    except ValueError as error:
        text = f"{key} is neither a list of names nor an expression: {error}"
        raise ModelError(text, where=where, remedy="save the adapter again") from None


def _of_pattern(patterns: Any, name: str, otherwise: Any, key: str, where: str) -> Any:
    """The value of the first pattern that the end of the module's name fits, as PEFT matches it."""
    try:
        scale = next((value for pattern, value in (patterns or {}).items() if fits(rf"(.*\.)?({pattern})", name)), otherwise)
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{key} is no mapping of patterns: {error}", where=where, remedy="save the adapter again") from None
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise ModelError(f"{key}: {scale!r} of {name} is no number above zero", where=where, remedy="save the adapter again")
    return scale
