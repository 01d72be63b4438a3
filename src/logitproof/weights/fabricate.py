"""Makes a model of a published one's shape without a download: `fabricate(shape("llama3-8b"), folder)`.

It says nothing that means anything, and computes as the real one does: as many tokens, layers and bytes, the same
kernels, margins and losses of quantization of the same size. Written piece by piece, whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.files.atomic import environment_errors, write_atomically
from logitproof.files.safetensors import write_pieces
from logitproof.weights.shapes import Config, Sizes, tensors
from logitproof.weights.spectrum import pieces

SHARD = 4 << 30
"""Bytes of one file at most, as far as whole tensors allow it."""
SPARE = 1 << 30
"""Bytes of disk that are left free."""


def parameters(config: Config) -> int:
    """How many numbers the model has."""
    return sum(math.prod(sizes) for _, sizes in tensors(config))


def check_disk(place: Path, needed: int) -> None:
    """Raise EnvironmentFailed where the disk of `place` has fewer than `needed` bytes to spare."""
    existing = next(folder for folder in [place, *place.absolute().parents] if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + SPARE:
        text = f"{needed:,} bytes are needed and {SPARE:,} to spare, and the disk has {free:,} free"
        raise EnvironmentFailed(text, where=str(place), remedy="free the disk, name another, or give fewer --layers")


def fabricate(config: Config, out: Path, seed: int = 0, shard: int = SHARD) -> dict[str, str]:
    """Write the model as a Hugging Face folder in bfloat16 to `out`, which must not be there; sha256 by file name."""
    if out.exists():
        raise ContractError("exists already", where=str(out), remedy="give another folder")
    check_disk(out, 2 * parameters(config))
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with environment_errors(part):
        part.mkdir(parents=True)
        try:
            hashes = _written(config, part, seed, shard)
            part.rename(out)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return hashes


def _written(config: Config, folder: Path, seed: int, shard: int) -> dict[str, str]:
    groups = list(_shards(config, shard))
    single = len(groups) == 1
    names = (
        ["model.safetensors"]
        if single
        else [f"model-{n:05}-of-{len(groups):05}.safetensors" for n in range(1, len(groups) + 1)]
    )
    hashes = {}
    for name, group in zip(names, groups, strict=True):
        hashes[name] = write_pieces(
            folder / name, {key: ("BF16", sizes) for key, sizes in group.items()}, _bytes(group, config, seed)
        )
    texts = {"config.json": config}
    if not single:
        total = 2 * parameters(config)
        weights = {key: name for name, group in zip(names, groups, strict=True) for key in group}
        texts["model.safetensors.index.json"] = {"metadata": {"total_size": total}, "weight_map": weights}
    for name, value in texts.items():
        text = json.dumps(value, indent=2) + "\n"
        write_atomically(folder / name, text)
        hashes[name] = hashlib.sha256(text.encode()).hexdigest()
    return dict(sorted(hashes.items()))


def _shards(config: Config, limit: int) -> Iterator[dict[str, Sizes]]:
    """Tensors by file, in order."""
    group: dict[str, Sizes] = {}
    size = 0
    for name, sizes in tensors(config):
        count = 2 * math.prod(sizes)
        if group and size + count > limit:
            yield group
            group, size = {}, 0
        group[name] = sizes
        size += count
    yield group


def _bytes(group: dict[str, Sizes], config: dict[str, Any], seed: int) -> Iterator[np.ndarray]:
    for name, sizes in group.items():
        for piece in pieces(name, sizes, config, seed):
            yield bfloat16(piece)


def bfloat16(values: np.ndarray) -> np.ndarray:
    """The bits of float32 values in bfloat16, rounded to the nearest, ties away from zero: uint16. Changes `values`."""
    bits = values.view("<u4")
    bits += np.uint32(0x8000)
    return np.ascontiguousarray(bits.view("<u2")[..., 1::2])
