"""One row of logits in ten to sixteen bits an entry: the entries that weigh most exact, all others by a companded code.

    u8 kind                                  0: the row as it was, and nothing else
    u8 bits of a code, u16 nothing, u32 exact entries, f64 least, most and bend of the coded entries
    u32 ids of the exact entries, rising, and their logits as they were
    codes of all entries by id: the low bytes, then the bits above them, several entries in a byte

Code 0 is an entry of -inf, or an exact one. The others, 1 to 2^bits - 1, divide [least, most] evenly on a scale that is half z
and half exp(bend z): steps shrink towards the large logits, which carry the mass, and are nowhere more than twice what equal
ones were. For a fixed number of codes the error of a sum that is weighted by the mass is least where their density is the cube
root of the weights' squares (Panter and Dite, 1951).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

HEADER = struct.Struct("<BBHIddd")
WHOLE, CODED = 0, 1
WIDTHS = (10, 12, 16)
"""Bits of a code, in the order in which they are tried."""
BENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
BEST = 16
"""Largest entries that are exact whatever they weigh, so that the best tokens, their ranks and margins are the row's own."""
EXACT = 80
"""One entry of so many is exact."""
DEEP = 60.0
"""Nats below the largest coded entry from which an entry is no logit but a mask, and is exact."""
SAMPLE = 1 << 14
"""Entries by which a bend is chosen."""
NUDGES = 2048
"""Entries that may be nudged: those with which a step weighs most."""
GRID = 1 << 16
"""Places at which the scale of the codes is turned around."""


@dataclass(frozen=True)
class Coded:
    """A row [V] in codes: `ids` are exact, with `values` of the row's own type; `codes` uint32 [V] stand for all others."""

    width: int
    least: float
    most: float
    bend: float
    ids: np.ndarray
    values: np.ndarray
    codes: np.ndarray

    @cached_property
    def table(self) -> np.ndarray:
        """float64 [2^bits] of what every code stands for."""
        return levels(self.width, self.least, self.most, self.bend)

    def decoded(self) -> np.ndarray:
        """The row as it will be read."""
        row = self.table[self.codes].astype(self.values.dtype)
        row[self.ids] = self.values
        return row

    def as_bytes(self) -> bytes:
        """The row as it lies in a file."""
        header = HEADER.pack(CODED, self.width, 0, len(self.ids), self.least, self.most, self.bend)
        return header + self.ids.astype("<u4").tobytes() + self.values.tobytes() + _packed(self.codes, self.width)

    def nudged(self, slopes: np.ndarray, errors: np.ndarray) -> Coded:
        """The row with some codes one step off, so that errors [K], with slopes [K, V] by logit, come to nearly nothing."""
        codes = self.codes.astype(np.int32)
        free = (codes > 1) & (codes + 1 < 2**self.width)
        gains = np.abs(slopes).max(axis=0)
        apart = np.diff(self.table, append=np.inf)
        gains *= apart[np.where(free, codes, 1)]
        gains[~free] = 0.0
        order = _largest(gains, NUDGES)
        order = order[np.argsort(-gains[order])]
        order = order[free[order]]
        up, down = apart[codes[order]], -apart[codes[order] - 1]
        left, chosen = errors.astype(np.float64), {}
        for place, entry in enumerate(order.tolist()):
            ways = {way: left + slopes[:, entry] * float(step[place]) for way, step in ((1, up), (-1, down))}
            way, moved = min(ways.items(), key=lambda item: float(item[1] @ item[1]))
            if moved @ moved < left @ left:
                left, chosen[entry] = moved, way
        codes[np.array(list(chosen), np.int64)] += np.array(list(chosen.values()), np.int32)
        return replace(self, codes=codes.view(np.uint32))


def encode(row: np.ndarray, weight: np.ndarray, label: int, width: int) -> Coded:
    """A row [V], finite but for entries of -inf, whose entries weigh `weight` [V]; `label` is an id kept exactly, or -1."""
    finite = np.isfinite(row)
    wide = np.where(finite, row, 0.0).astype(np.float64)
    exact = np.zeros(len(row), bool)
    exact[_largest(np.where(finite, wide, -np.inf), max(BEST, len(row) // (2 * EXACT)))] = True
    exact[label if label >= 0 else []] = True
    exact &= finite
    if not (finite & ~exact).any():
        return Coded(width, 0.0, 0.0, 0.0, np.flatnonzero(exact), row[exact], np.zeros(len(row), np.uint32))
    exact |= finite & (wide < wide[finite & ~exact].max() - DEEP)
    coded = finite & ~exact
    least, most, bend = _ends(wide, weight, coded, width)
    loss = _steps(wide, least, most, bend, width)
    loss *= weight
    loss[~coded] = 0.0
    exact[_largest(loss, len(row) // (2 * EXACT))] = True
    del loss  # what is not needed is let go of: a row of the largest vocabularies takes megabytes
    coded &= ~exact
    if coded.any():
        least, most, bend = _ends(wide, weight, coded, width)
    shares = _shares(np.clip(wide, least, most, out=wide), least, most, bend)
    shares *= 2**width - 2
    codes = np.rint(shares, out=shares).astype(np.uint32)
    codes += 1
    codes[~coded] = 0
    return Coded(width, least, most, bend, np.flatnonzero(exact & finite), row[exact & finite], codes)


def as_it_was(row: np.ndarray) -> bytes:
    """A row of which every bit stays."""
    return bytes([WHOLE]) + row.tobytes()


def decode(data: np.ndarray, size: int, kind: np.dtype[Any]) -> np.ndarray:
    """The row [V] of uint8 that `Coded` or `as_it_was` gave; raises ValueError where they cannot be of such a row."""
    if not len(data) or data[0] not in (WHOLE, CODED):
        raise ValueError("begins with an unknown kind")
    if data[0] == WHOLE:
        if len(data) != 1 + size * kind.itemsize:
            raise ValueError(f"has {len(data)} bytes")
        return np.frombuffer(data[1:].tobytes(), kind)
    if len(data) < HEADER.size:
        raise ValueError(f"has {len(data)} bytes")
    _, width, _, count, least, most, bend = HEADER.unpack(data[: HEADER.size].tobytes())
    values_at = HEADER.size + 4 * count
    codes_at = values_at + count * kind.itemsize
    if width not in WIDTHS or count > size or len(data) != codes_at + packed_bytes(size, width):
        raise ValueError(f"has {count} exact entries and codes of {width} bits for {size}, in {len(data)} bytes")
    if not (-1e300 < least <= most < 1e300 and bend in BENDS):
        raise ValueError("has codes between ends that are no numbers, or on a scale that is not known")
    ids = np.frombuffer(data[HEADER.size : values_at].tobytes(), "<u4").astype(np.int64)
    if count and not (ids[-1] < size and (np.diff(ids) > 0).all()):
        raise ValueError("has exact entries out of order")
    values = np.frombuffer(data[values_at:codes_at].tobytes(), kind)
    return Coded(width, least, most, bend, ids, values, _unpacked(data[codes_at:], size, width)).decoded()


def levels(width: int, least: float, most: float, bend: float) -> np.ndarray:
    """float64 [2^width]: -inf, then the logits of the codes from `least` to `most`."""
    grid = np.linspace(least, most, GRID)
    shares = np.linspace(0.0, 1.0, 2**width - 1)
    inner = np.interp(shares, _shares(grid, least, most, bend), grid) if most > least else np.full(len(shares), least)
    return np.concatenate([[-np.inf], inner])


def packed_bytes(size: int, width: int) -> int:
    """Bytes of the codes of a row."""
    return size * (width // 8) + -(-size * (width % 8) // 8)


def _ends(wide: np.ndarray, weight: np.ndarray, coded: np.ndarray, width: int) -> tuple[float, float, float]:
    """Least, most and the bend that loses least of these entries, by a sample of them."""
    ids = np.flatnonzero(coded)
    least, most = float(wide[ids].min()), float(wide[ids].max())
    sample = ids[:: max(1, len(ids) // SAMPLE)]
    losses = []
    for bend in BENDS:
        steps = _steps(wide[sample], least, most, bend, width)
        # what rounding adds to a weighted sum: by chance, and to masses, whose exponential is bent, always
        losses.append(float(np.sqrt(((weight[sample] * steps) ** 2).sum() / 12) + (weight[sample] * steps**2).sum() / 24))
    return least, most, BENDS[int(np.argmin(losses))]


def _shares(wide: np.ndarray, least: float, most: float, bend: float) -> np.ndarray:
    """Where logits lie between the ends, 0 to 1, on the scale of the codes."""
    if most <= least:
        return np.zeros(len(wide))
    even = np.asarray(wide - least)
    even /= most - least
    if bend == 0:
        return even
    # in place: a row of the largest vocabularies takes megabytes, and several are written at once
    low = np.exp(bend * (least - most))
    bent = np.asarray(wide - most)
    bent *= bend
    np.exp(bent, out=bent)
    bent -= low
    bent /= 1.0 - low
    even += bent
    even *= 0.5
    return even


def _steps(wide: np.ndarray, least: float, most: float, bend: float, width: int) -> np.ndarray:
    """How far apart the codes are at each logit."""
    count = 2**width - 2
    if bend == 0 or most <= least:
        return np.full(len(wide), (most - least) / count)
    low = np.exp(bend * (least - most))
    density = np.clip(wide, least, most)
    density -= most
    density *= bend
    np.exp(density, out=density)
    density *= 0.5 * bend / (1.0 - low)
    density += 0.5 / (most - least)
    density *= count
    return np.asarray(np.reciprocal(density, out=density))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Ids of the `count` largest."""
    count = min(count, len(values))
    return np.argpartition(values, len(values) - count)[len(values) - count :] if count else np.empty(0, np.int64)


def _packed(codes: np.ndarray, width: int) -> bytes:
    low, high = width // 8, width % 8
    whole = codes.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :low].tobytes()
    if not high:
        return whole
    entries = 8 // high
    rest = np.zeros(-(-len(codes) // entries) * entries, np.uint8)
    rest[: len(codes)] = codes >> (8 * low)
    shifts = np.arange(entries, dtype=np.uint8) * np.uint8(high)
    return whole + np.bitwise_or.reduce(rest.reshape(-1, entries) << shifts, axis=1).astype(np.uint8).tobytes()


def _unpacked(data: np.ndarray, size: int, width: int) -> np.ndarray:
    low, high = width // 8, width % 8
    codes = np.zeros((size, 4), np.uint8)
    codes[:, :low] = data[: size * low].reshape(size, low)
    if high:
        entries = 8 // high
        shifts = np.arange(entries, dtype=np.uint8) * np.uint8(high)
        codes[:, low] = ((data[size * low :, None] >> shifts) & np.uint8(2**high - 1)).reshape(-1)[:size]
    return codes.view("<u4").reshape(-1)
