"""What rotary positions ask of a GGUF file: the order of the pairs, and frequency factors that are tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from logitproof.errors import ModelError
from logitproof.gguf.layout import Change, Config, Planned
from logitproof.weights.checkpoint import Array

LLAMA3_SCALING = {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}


def llama3_tensors(config: Config) -> list[Planned]:
    """The divisors of the rotary frequencies where the config scales them as Llama 3 does, else nothing."""
    if config.rope.get("rope_type", config.rope.get("type")) != "llama3":
        return []
    lost = LLAMA3_SCALING - config.rope.keys()
    if lost:
        raise ModelError(
            f"llama3 rope scaling lacks {', '.join(sorted(lost))}",
            where=config.where,
            remedy="take config.json from the model's publisher",
        )
    factors = llama3_rope_factors(config.rope, config.head_size)
    return [Planned("rope_freqs.weight", (), lambda arrays: factors)]


def neighbours(heads: int) -> Change:
    """Row 2i of a head takes the old row i, row 2i + 1 the old row D/2 + i."""

    def change(arrays: list[Array]) -> Array:
        whole = arrays[0]
        halves = whole.reshape(heads, 2, whole.shape[0] // heads // 2, *whole.shape[1:])
        return halves.swapaxes(1, 2).reshape(whole.shape)

    return change


def llama3_rope_factors(rope: dict[str, Any], size: int) -> Array:
    """Divisors of the D/2 rotary frequencies, shape (D/2,).

    In float32 and in PyTorch's order of operations (a number over a tensor is its reciprocal times the
    number), so that the divisors are equal to the bit to those of llama.cpp's converter.
    """
    unity, low, high = np.float32(1), rope["low_freq_factor"], rope["high_freq_factor"]
    factor, context = rope["factor"], rope["original_max_position_embeddings"]
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    # PyTorch's power is rounded correctly, NumPy's in float32 is not
    powers = np.power(float(rope["rope_theta"]), exponents.astype(np.float64)).astype(np.float32)
    wavelengths = (unity / (unity / powers)) * np.float32(2 * math.pi)
    smooth = ((unity / wavelengths) * np.float32(context) - np.float32(low)) / np.float32(high - low)
    between = unity / ((unity - smooth) / np.float32(factor) + smooth)
    longest, shortest = np.float32(context / low), np.float32(context / high)
    stretched = np.where(wavelengths > longest, np.float32(factor), between)
    return np.where(wavelengths < shortest, unity, stretched)
