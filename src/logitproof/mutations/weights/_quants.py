"""Weights through the bytes of a GGUF block type, with the bytes or the numbers spoilt on the way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from gguf import quants

from logitproof.mutations import Mutation
from logitproof.reference import parts
from logitproof.reference.patches import tensors_spoilt

Spoil = Callable[[np.ndarray], np.ndarray]


@dataclass
class WrongBlocks(Mutation):
    """A bug in how blocks of a GGUF type are read: subclasses name it in `kind`, and say in `read` what comes out."""

    kind: ClassVar[str]
    projection: str = ""

    def applies(self, config: Any) -> bool:
        """Models with rows of whole blocks; whether they are quantized, the config cannot say."""
        return bool(matrices(parts.skeleton(config), self.kind, self.projection))

    def applied_to(self, model: Any) -> AbstractContextManager[Any]:
        """Quantize the matrices and read them wrongly."""
        return requantized(model, self.kind, self.projection, self.read)

    def read(self, blocks: np.ndarray) -> np.ndarray:
        """Blocks [n, bytes] as numbers [n, block], wrongly; those of a spoilt copy unless a subclass says otherwise."""
        spoilt = blocks.copy()
        self.spoil(spoilt)
        return dequantize(self.kind, spoilt)

    def spoil(self, blocks: np.ndarray) -> None:
        """Change blocks [n, bytes] in place."""
        raise NotImplementedError


def requantized(model: Any, kind: str, projection: str, read: Spoil | None = None) -> AbstractContextManager[None]:
    """While open, matrices are what `read` makes of their blocks [n, bytes] of type `kind`; by default, rightly."""
    reader = read or getattr(quants, kind).dequantize_blocks
    return tensors_spoilt(model, matrices(model, kind, projection), lambda matrix: _through(matrix, kind, reader))


def matrices(model: Any, kind: str, projection: str) -> list[torch.Tensor]:
    """Weights of the decoder's linear modules whose rows are whole blocks; of one projection or of all."""
    block = getattr(quants, kind).block_size
    named = [(name.rpartition(".")[2], linear) for name, linear in parts.linears(model)]
    return [linear.weight for leaf, linear in named if linear.in_features % block == 0 and projection in ("", leaf)]


def dequantize(kind: str, blocks: np.ndarray) -> np.ndarray:
    """Blocks [n, bytes] as numbers [n, block], rightly."""
    return getattr(quants, kind).dequantize_blocks(blocks)


def swap_nibbles(codes: np.ndarray) -> np.ndarray:
    """Each byte with its halves exchanged."""
    return (codes >> 4) | (codes << 4)


def _through(weight: torch.Tensor, kind: str, read: Spoil) -> torch.Tensor:
    type_ = getattr(quants, kind)
    rows = weight.float().cpu().numpy().reshape(-1, type_.block_size)
    made = read(_ENCODERS.get(kind, type_.quantize_blocks)(rows))
    return torch.from_numpy(np.asarray(made, np.float32).reshape(weight.shape)).to(weight.device)


def _encode_q4_k(x: np.ndarray) -> np.ndarray:
    """Blocks [n, 256] as Q4_K: eight sub-blocks d·scale·code − dmin·minimum."""
    sub = x.reshape(-1, 8, 32)
    low = np.maximum(-sub.min(-1), 0.0)
    step = (np.maximum(sub.max(-1), 0.0) + low) / 15
    d = (step.max(-1, keepdims=True) / 63).astype(np.float16)
    dmin = (low.max(-1, keepdims=True) / 63).astype(np.float16)
    scale = _codes(step, d.astype(np.float32), 63)
    minimum = _codes(low, dmin.astype(np.float32), 63)
    base = (dmin * minimum.astype(np.float32))[..., None]
    code = _codes(sub + base, (d * scale.astype(np.float32))[..., None], 15)
    packed = np.concatenate(
        (
            scale[:, :4] | (scale[:, 4:] >> 4 << 6),
            minimum[:, :4] | (minimum[:, 4:] >> 4 << 6),
            (scale[:, 4:] & 15) | (minimum[:, 4:] << 4),
        ),
        axis=-1,
    )
    pairs = code.reshape(-1, 4, 2, 32)
    nibbles = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    return np.concatenate((d.view(np.uint8), dmin.view(np.uint8), packed, nibbles), axis=-1)


def _encode_q6_k(x: np.ndarray) -> np.ndarray:
    """Blocks [n, 256] as Q6_K: sixteen sub-blocks d·scale·(code − 32)."""
    sub = x.reshape(-1, 16, 16)
    step = np.abs(sub).max(-1) / 31
    d = (step.max(-1, keepdims=True) / 127).astype(np.float16)
    scale = _codes(step, d.astype(np.float32), 127)
    unit = (d * scale.astype(np.float32))[..., None]
    code = (np.rint(np.divide(sub, unit, where=unit != 0, out=np.zeros_like(sub))).clip(-32, 31) + 32).astype(np.uint8)
    code = code.reshape(-1, 2, 4, 32)
    low = (code[:, :, :2] & 15) | ((code[:, :, 2:] & 15) << 4)
    high = code[:, :, 0] >> 4 | code[:, :, 1] >> 4 << 2 | code[:, :, 2] >> 4 << 4 | code[:, :, 3] >> 4 << 6
    return np.concatenate((low.reshape(-1, 128), high.reshape(-1, 64), scale.view(np.uint8), d.view(np.uint8)), axis=-1)


def _codes(values: np.ndarray, unit: np.ndarray, most: int) -> np.ndarray:
    unit = np.broadcast_to(unit, values.shape)
    return np.rint(np.divide(values, unit, where=unit != 0, out=np.zeros_like(values))).clip(0, most).astype(np.uint8)


_ENCODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"Q4_K": _encode_q4_k, "Q6_K": _encode_q6_k}
