"""Where the tensors of a checkpoint lie in a model of transformers: what it stacks, joins and renames while it loads them.

The rules are those of transformers' own `conversion_mapping`, for a part of a tensor at a time. Whoever loads a model
asks that every parameter is filled exactly once, so that a rule that is missing here is told and never a wrong number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

Index = tuple[int | slice, ...]
EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(gate|up|down)_proj\.weight")
"""An expert's matrix in a checkpoint; transformers stacks those of a layer, and gate and up of each in one."""
CONVOLUTION = re.compile(r"(.+\.self_attn)\.([qkv])_conv1d\.weight")
"""Convolutions of q, k and v, which transformers has one after the other in one parameter."""
RENAMED = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^backbone\.", "model."),
        (r"\.block_sparse_moe\.(input_linear|output_linear)\.weight$", r".block_sparse_moe.experts.\1"),
        (r"\.experts\.input_linear$", ".experts.gate_up_proj"),
        (r"\.experts\.output_linear$", ".experts.down_proj"),
        (r"\.router\.layer\.weight$", ".router.weight"),
        (r"\.block_sparse_moe\.(?!router|experts\.gate_up_proj|experts\.down_proj)", ".mlp."),
        (r"\.experts\.(\d+)\.w1\.weight$", r".experts.\1.gate_proj.weight"),
        (r"\.experts\.(\d+)\.w2\.weight$", r".experts.\1.down_proj.weight"),
        (r"\.experts\.(\d+)\.w3\.weight$", r".experts.\1.up_proj.weight"),
        (r"\.mlp\.moe_statics\.", ".mlp.gate.moe_statics."),
        (r"\.self_attn\.(f_a_proj\.|f_b_proj\.|dt_bias$|A_log$)", r".self_attn.forget_gate.\1"),
    )
)
"""Names of checkpoints and those of transformers, in the order in which they are tried where a model has no such parameter."""


@dataclass(frozen=True)
class Place:
    """Where a tensor of a checkpoint lies: the part `index` of the parameter `name`, with its shape."""

    name: str
    index: Index
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """Values for a place; where `at` is given, those at these numbers, counted through the place."""

    place: Place
    values: torch.Tensor
    at: torch.Tensor | None = None


def fill(parameter: torch.Tensor, piece: Piece) -> None:
    """Put the values where they belong."""
    part = parameter[piece.place.index] if piece.place.index else parameter
    if piece.at is None:
        part.copy_(piece.values.reshape(part.shape))
    else:
        part.reshape(-1)[piece.at] = piece.values.to(part.dtype)


def place_in(parameters: Mapping[str, torch.Tensor], name: str) -> Place:
    """Where transformers keeps the checkpoint tensor `name`; KeyError where the model has none of it."""
    places = (place for known in _names(name) if (place := _place(parameters, known)) is not None)
    place = next(places, None)
    if place is None:
        raise KeyError(name)
    return place


def _names(name: str) -> Iterator[str]:
    """The name, and what the rules make of it one after the other."""
    yield name
    for pattern, new in RENAMED:
        renamed = pattern.sub(new, name)
        if renamed != name:
            name = renamed
            yield name


def _place(parameters: Mapping[str, torch.Tensor], name: str) -> Place | None:
    if name in parameters:
        return Place(name, (), tuple(parameters[name].shape))
    if expert := EXPERT.fullmatch(name):
        return _of_expert(parameters, expert)
    joined = CONVOLUTION.fullmatch(name)
    if joined is None or (held := f"{joined[1]}.conv1d.weight") not in parameters:
        return None
    channels, *kernel = (int(size) for size in parameters[held].shape)
    start = "qkv".index(joined[2]) * (channels // 3)
    return Place(held, (slice(start, start + channels // 3),), (channels // 3, *kernel))


def _of_expert(parameters: Mapping[str, torch.Tensor], expert: re.Match[str]) -> Place | None:
    number, part = int(expert[2]), expert[3]
    stacked = f"{expert[1]}.{'down_proj' if part == 'down' else 'gate_up_proj'}"
    if stacked not in parameters:
        return None
    rows, columns = (int(size) for size in parameters[stacked].shape[1:])
    if part == "down":
        return Place(stacked, (number,), (rows, columns))
    half = slice(0, rows // 2) if part == "gate" else slice(rows // 2, rows)
    return Place(stacked, (number, half), (rows // 2, columns))
