"""Rows of logits in few bits: whole numbers of steps above a least value, packed, and the way back."""

from __future__ import annotations

import math

import numpy as np

WIDTHS = (8, 12, 16, 20, 24)
"""Bits an entry may take."""


def encode(logits: np.ndarray, width: int, top: np.ndarray) -> tuple[float, float, bytes]:
    """(least, step, packed codes) of a row; `top` are ids kept elsewhere exactly, which must not widen the range.

    Code 0 is -inf (a masked entry); the least finite entry is code 1.
    """
    rest = np.asarray(logits, np.float64).copy()
    finite = np.isfinite(rest)
    others = finite.copy()
    others[top] = False
    if not others.any():
        return 0.0, 0.0, _packed(np.zeros(len(rest), np.uint32), width)
    least, most = float(rest[others].min()), float(rest[others].max())
    step = (most - least) / (2**width - 2)
    steps = np.rint((np.where(others, rest, least) - least) / step) if step > 0 else np.zeros(len(rest))
    codes = np.where(others, np.clip(steps, 0, 2**width - 2) + 1, 0).astype(np.uint32)
    return least, step, _packed(codes, width)


def decode(data: np.ndarray, vocab: int, width: int, least: float, step: float) -> np.ndarray:
    """float64 [V]; entries that were kept elsewhere come back as -inf."""
    codes = _unpacked(data, vocab, width)
    return np.where(codes > 0, least + (codes.astype(np.float64) - 1.0) * step, -np.inf)


def row_bytes(vocab: int, width: int) -> int:
    """Bytes of a packed row."""
    return vocab * (width // 8) + ((vocab + 1) // 2 if width % 8 else 0)


def _packed(codes: np.ndarray, width: int) -> bytes:
    """Whole bytes first, entry by entry; then the last four bits of every entry, two in a byte."""
    whole = codes.astype("<u4").view(np.uint8).reshape(-1, 4)[:, : width // 8].tobytes()
    if width % 8 == 0:
        return whole
    high = (codes >> (8 * (width // 8))).astype(np.uint8) & 15
    high = np.append(high, np.zeros(len(high) % 2, np.uint8))
    return whole + (high[0::2] | (high[1::2] << 4)).tobytes()


def _unpacked(data: np.ndarray, vocab: int, width: int) -> np.ndarray:
    count = width // 8
    codes = np.zeros((vocab, 4), np.uint8)
    codes[:, :count] = data[: vocab * count].reshape(vocab, count)
    if width % 8:
        pairs = data[vocab * count :]
        codes[:, count] = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:vocab]
    return codes.view("<u4").reshape(-1)


def pack_bits(numbers: np.ndarray, width: int) -> bytes:
    """A few unsigned numbers of any width, the lowest bit first."""
    bits = (np.asarray(numbers, np.uint64)[:, None] >> np.arange(width, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def unpack_bits(data: np.ndarray, count: int, width: int) -> np.ndarray:
    """int64 [count] of what `pack_bits` packed."""
    bits = np.unpackbits(data, count=count * width, bitorder="little").reshape(count, width)
    return bits.astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))


SMALL_VALUE_BITS = 24
SMALL_HEADER = 24  # least, step and log tail mass, float64 each


def small_k(vocab: int, budget: int, token_bytes: int = 4) -> int:
    """How many of the best entries fit into `budget` bytes a token, 64 at most."""
    bits = id_bits(vocab) + SMALL_VALUE_BITS
    return max(0, min(64, vocab, int((budget - token_bytes - SMALL_HEADER) * 8 // bits)))


def id_bits(vocab: int) -> int:
    """Bits of a token id."""
    return max(1, math.ceil(math.log2(vocab)))


def small_row_bytes(vocab: int, k: int) -> int:
    """Bytes of a small row."""
    return SMALL_HEADER + -(-k * id_bits(vocab) // 8) + -(-k * SMALL_VALUE_BITS // 8)


def encode_small(ids: np.ndarray, log_p: np.ndarray, log_tail: float, vocab: int) -> bytes:
    """The best entries with 24-bit log-probabilities, and the log mass of the rest."""
    least, most = float(log_p.min()), float(log_p.max())
    step = (most - least) / (2**SMALL_VALUE_BITS - 1)
    codes = np.rint((log_p - least) / step) if step > 0 else np.zeros(len(log_p))
    header = np.array([least, step, log_tail], "<f8").tobytes()
    return header + pack_bits(ids, id_bits(vocab)) + pack_bits(codes, SMALL_VALUE_BITS)


def decode_small(data: np.ndarray, k: int, vocab: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """ids, log-probabilities, log tail mass and the largest rounding error of a small row."""
    least, step, log_tail = np.frombuffer(data[:SMALL_HEADER].tobytes(), "<f8")
    middle = SMALL_HEADER + -(-k * id_bits(vocab) // 8)
    ids = unpack_bits(data[SMALL_HEADER:middle], k, id_bits(vocab))
    log_p = least + unpack_bits(data[middle:], k, SMALL_VALUE_BITS) * step
    return ids, log_p, float(log_tail), float(step) / 2
