"""A PEFT adapter on disk: pairs of low-rank matrices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.errors import ContractError, ModelError
from logitproof.weights.checkpoint import read_json, read_tensors

PREFIX = "base_model.model."


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


def read_adapter(folder: Path) -> dict[str, Pair]:
    """The pairs of a PEFT LoRA folder by the name of the weight that each changes.

    Raises ModelError where a file is missing or damaged, half a pair is there, or the folder is another kind of adapter.
    """
    config = read_json(folder / "adapter_config.json")
    where = str(folder / "adapter_config.json")
    if config.get("peft_type", "LORA") != "LORA" or config.get("use_dora") or config.get("fan_in_fan_out"):
        raise ContractError("is no plain LoRA adapter", where=where, remedy="merge it into the weights instead")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise ModelError("names no `r` or no `lora_alpha`", where=where, remedy="save the adapter with PEFT")
    scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    halves = read_tensors(folder / "adapter_model.safetensors")
    names = {name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in halves}
    pairs = {}
    for name in sorted(names):
        try:
            a, b = (halves[f"{PREFIX}{name}.lora_{half}.weight"] for half in "AB")
        except KeyError as error:
            raise ModelError(f"lacks {error}", where=str(folder), remedy="save the adapter again") from None
        if a.shape[0] != b.shape[1]:
            raise ModelError(f"{name}: A is {a.shape} and B is {b.shape}", where=str(folder), remedy="save it again")
        pairs[f"{name}.weight"] = Pair(a, b, scale)
    if not pairs:
        raise ModelError("holds no pair of matrices, so it would change nothing", where=str(folder))
    return pairs
