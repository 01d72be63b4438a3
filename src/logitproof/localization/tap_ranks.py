"""Pieces of one tap in several files: ranks of tensor and expert parallelism are joined, pipeline stages are counted on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from logitproof.errors import ContractError
from logitproof.protocol import taps

Join = Annotated[int, Field(ge=0)] | Literal["positions", "heads", "features", "experts", "vocabulary", "sum", "same"]
"""Along which dimension ranks lie one after another: an axis or its name; `sum` of parts, or `same` of copies."""
ALIKE = 1e-6
"""Relative difference up to which what all ranks should have is the same."""


@dataclass(frozen=True)
class Piece:
    """One array of one file, and the layer, rank and pipeline stage that it is of, where their numbers are named."""

    file: Path
    array: str | None
    layer: int | None = None
    rank: int | None = None
    stage: int | None = None


def placed(name: str, pieces: Iterable[Piece], stages: Mapping[int, int], *, where: str) -> dict[str, list[Piece]]:
    """The pieces of every tap that `name` stands for, in the order of their ranks.

    Raises ContractError where a stage has no first layer, two pieces claim one place, or a rank of a layer is not there.
    """
    every: dict[str, list[Piece]] = {}
    for piece in pieces:
        if piece.stage is not None and piece.stage not in stages:
            text = f"{piece.file} is of stage {piece.stage}, whose first layer is not said"
            raise ContractError(text, where=where, remedy="add it to `stages`")
        layer = None if piece.layer is None else piece.layer + (0 if piece.stage is None else stages[piece.stage])
        full = name if layer is None else name.replace("{layer}", str(layer))
        every.setdefault(full, []).append(piece)
    ranks = {piece.rank for group in every.values() for piece in group}
    for full, group in every.items():
        group.sort(key=lambda piece: -1 if piece.rank is None else piece.rank)
        numbers = [piece.rank for piece in group]
        if len(set(numbers)) < len(numbers):
            text = f"{full}: {group[0].file} and {group[1].file} claim one place"
            raise ContractError(text, where=where, remedy="put {rank} or {stage} where their names differ")
        if missing := sorted(rank for rank in ranks - set(numbers) if rank is not None):
            raise ContractError(f"{full}: there is no file of rank {missing[0]}", where=where, remedy="dump every rank")
    return every


def joined(name: str, ranks: Mapping[int | None, np.ndarray], join: Join | None, *, where: str) -> np.ndarray:
    """The whole tensor of what the ranks hold; raises ContractError where they do not fit, or differ and should not."""
    parts = list(ranks.values())
    if len(parts) == 1 and join is None:
        return parts[0]
    if join is None:
        remedy = "add `join`: positions, heads, features, experts, vocabulary, an axis, sum, or same"
        raise ContractError(f"{name}: {len(parts)} ranks, and nothing says how they are one", where=where, remedy=remedy)
    try:
        if join == "sum":
            return np.asarray(np.sum(np.stack(parts), axis=0, dtype=np.float64), np.float32)
        if join == "same":
            return _alike(name, ranks, where)
        return np.concatenate(parts, axis=join if isinstance(join, int) else _axis(name, join, parts[0].ndim))
    except ValueError as error:
        shapes = ", ".join(str(list(part.shape)) for part in parts)
        raise ContractError(f"{name}: ranks of shapes {shapes}: {error}", where=where, remedy="correct `join`") from None


def _axis(name: str, join: str, dimensions: int) -> int:
    """The axis of a dimension in the canonical layout of a tap."""
    is_matrix = taps.split(name)[1] in taps.MATRICES
    if join in ("positions", "heads"):
        return int((join == "heads") != is_matrix)
    return dimensions - 1


def _alike(name: str, ranks: Mapping[int | None, np.ndarray], where: str) -> np.ndarray:
    (first, right), *rest = ranks.items()
    for rank, values in rest:
        scale = float(np.linalg.norm(right)) or 1.0
        far = float(np.linalg.norm(values - right)) / scale if values.shape == right.shape else float("inf")
        if not far <= ALIKE:
            text = f"{name}: rank {rank} differs from rank {first} by {far:.2g}, relative, where all should hold the same"
            raise ContractError(text, where=where, remedy="look for what one rank does alone, or correct `join`")
    return right
