"""Numbers with the statistics of a trained model's weights, in pieces, the same bytes for the same seed.

A matrix is a head of `HEAD` directions whose energy falls as 1/√i, and noise for all other directions; its rows and
columns are scaled log-normally. The directions of the residual stream are the same in all layers, as training makes them: so
what a matrix reads is larger than what is lost by rounding it, which chance alone would amplify from layer to layer.

Shares and scales are those of SmolLM2-135M and Gemma 3 270M, whose 32 strongest directions hold 0.27 to 0.54 of the energy
of Q, K and O and 0.13 to 0.23 of the feed-forward matrices, and whose entries have a kurtosis of 3 to 12. So blocks of a
quantized type have the outliers that they have in a real model.

The head is a product of whole numbers below 2^24, which float32 holds exactly whatever the order of its sums, and scales are
rounded to 1/256: neither the instruction set nor the number of threads changes a bit.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

HEAD = 32
PIECE = 1 << 20
"""Values of one piece, which a cache holds."""
LEFT, RIGHT = 60.0, 30.0
"""Standard deviations of the whole numbers that the head is a product of; 32 products of at most 127 · 127 are below 2^24."""
BRANCH = 0.4
"""RMS of the residual stream behind the last layer; the embedding's is some 0.02 to 0.03."""
STREAM = 0.3
"""Share of the residual stream's energy that lies in the directions that all layers share."""
LOGITS = 3.5
"""Standard deviation of a row of logits."""
NORMS = ("layernorm.weight", "model.norm.weight", "q_norm.weight", "k_norm.weight", "linear_attn.norm.weight")


@dataclass(frozen=True)
class Statistics:
    """Of a matrix: standard deviation times the root of its columns, share of the head, log-scales of rows and columns."""

    gain: float
    share: float
    rows: float = 0.1
    columns: float = 0.12


STATISTICS = {
    "embed_tokens": Statistics(1.0, 0.5, rows=0.2),
    "lm_head": Statistics(1.0, 0.5, rows=0.2),
    "q_proj": Statistics(0.9, 0.4, rows=0.45),
    "k_proj": Statistics(0.9, 0.4, rows=0.35, columns=0.2),
    "v_proj": Statistics(1.0, 0.2, columns=0.25),
    "o_proj": Statistics(1.0, 0.4, rows=0.15),
    "gate_proj": Statistics(1.0, 0.25, rows=0.2),
    "up_proj": Statistics(1.0, 0.2),
    "down_proj": Statistics(1.0, 0.25),
    "gate": Statistics(1.5, 0.3),
    "in_proj_qkv": Statistics(1.0, 0.3, rows=0.3),
    "in_proj_z": Statistics(1.0, 0.2),
    "in_proj_a": Statistics(0.5, 0.3),
    "in_proj_b": Statistics(1.0, 0.3),
    "out_proj": Statistics(1.0, 0.3, rows=0.15),
}
WRITERS = {"o_proj": 1.0, "out_proj": 1.0, "down_proj": 2.0}
"""Matrices that add to the residual stream, and what makes up for the smaller input that they have."""


def pieces(name: str, sizes: tuple[int, ...], config: dict[str, Any], seed: int) -> Iterator[np.ndarray]:
    """The tensor in float32, rows after rows; every piece is drawn from `seed`, the name and its own number alone."""
    if len(sizes) == 1 or name.endswith("conv1d.weight"):
        yield _small(name, sizes, config, _random(seed, name, "values"))
        return
    rows, columns = sizes
    kind = name.split(".")[-2]
    statistics = STATISTICS[kind]
    stream = _random(seed, "residual stream").standard_normal((config["hidden_size"], HEAD))
    right = _random(seed, name, "right")
    inner = right.standard_normal((HEAD, columns)) if kind in WRITERS else stream.T
    directions = _whole(inner * RIGHT)
    falling = LEFT / np.arange(1, HEAD + 1) ** 0.25
    spread = np.sqrt(np.sum(falling**2)) * RIGHT
    across = _scales(right, columns, statistics.columns) * np.float32(_gain(kind, config) / np.sqrt(columns))
    step = max(1, PIECE // columns)
    for number, start in enumerate(range(0, rows, step)):
        count = min(step, rows - start)
        piece = _random(seed, name, str(number))
        outer = stream[start : start + count] if kind in WRITERS else piece.standard_normal((count, HEAD))
        head = _whole(outer * falling) @ directions
        head *= np.float32(np.sqrt(statistics.share) / spread)
        noise = _normal(piece, count, columns)
        noise *= np.float32(np.sqrt(1 - statistics.share))
        noise += head
        noise *= _scales(piece, count, statistics.rows)[:, None]
        noise *= across
        yield noise


def _gain(kind: str, config: dict[str, Any]) -> float:
    """What a matrix multiplies its input's RMS by, through the root of its columns: its own, for the input that it has."""
    own, width = STATISTICS[kind], config["hidden_size"]
    if kind in WRITERS:  # all layers together come to BRANCH
        return own.gain * WRITERS[kind] * float(BRANCH / np.sqrt(config["num_hidden_layers"]))
    if kind == "embed_tokens" and not config["tie_word_embeddings"]:
        return own.gain
    # the head multiplies that part of the stream by more, which lies in its own directions
    return own.gain / float(np.sqrt(1 - own.share + own.share * STREAM * width / HEAD))


def _small(name: str, sizes: tuple[int, ...], config: dict[str, Any], random: np.random.Generator) -> np.ndarray:
    """Vectors and short filters."""
    if name.endswith(NORMS):
        around = {"model.norm.weight": LOGITS, "q_norm.weight": 0.9, "k_norm.weight": 0.9}
        middle = next((value for ending, value in around.items() if name.endswith(ending)), 1.0)
        scales = _scales(random, sizes[0], 0.3)
        centred = config["model_type"] == "qwen3_5_text" and not name.endswith("linear_attn.norm.weight")
        # Qwen3.5's norms multiply by 1 + weight
        return (scales / np.float32(np.sqrt(np.mean(scales**2))) * np.float32(middle) - np.float32(centred)).astype(np.float32)
    if name.endswith("A_log"):
        return np.log(random.uniform(1.0, 16.0, sizes)).astype(np.float32)
    if name.endswith("dt_bias"):
        steps = np.exp(random.uniform(np.log(1e-3), np.log(0.1), sizes))
        return np.log(np.expm1(steps)).astype(np.float32)  # softplus of this is the step
    bias = {"q_proj.bias": 0.5, "k_proj.bias": 1.5, "v_proj.bias": 0.1}
    spread = next((value for ending, value in bias.items() if name.endswith(ending)), 0.4)
    return random.standard_normal(sizes, np.float32) * np.float32(spread)


def _random(seed: int, *labels: str) -> np.random.Generator:
    key = hashlib.sha256("\0".join(labels).encode()).digest()
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *np.frombuffer(key, "<u4").tolist()])))


def _normal(random: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Normally distributed numbers by their quantiles, which takes a tenth of the time of drawing them exactly."""
    words = random.bit_generator.random_raw(-(-rows * columns // 4))
    return quantiles()[words.view(np.uint16)[: rows * columns]].reshape(rows, columns)


@functools.cache
def quantiles() -> np.ndarray:
    """Of the normal distribution at (i + 1/2) / 2^16, rounded to 2^-12: float32 [65536]."""
    normal = NormalDist()
    return np.array([round(normal.inv_cdf((number + 0.5) / 65536) * 4096) / 4096 for number in range(65536)], np.float32)


def _whole(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), -127, 127).astype(np.float32)


def _scales(random: np.random.Generator, count: int, spread: float) -> np.ndarray:
    """Log-normal with a mean square of about 1, float32."""
    exact = np.exp(random.standard_normal(count) * spread - spread**2)
    return np.asarray(np.maximum(np.rint(exact * 256), 1) / 256, np.float32)
