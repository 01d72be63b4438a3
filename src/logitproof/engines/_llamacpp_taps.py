"""Reads the taps of llama.cpp through its eval callback: any stock build, no edit of its code.

The callback sees every node of ggml's graph right after it was computed. Most carry the names that llama.cpp's graph
builders give them; what has none is found by what it is computed from. Layouts are brought to the canonical one: rotary
pairs that are neighbours become halves, value heads that were dealt out in turn stand grouped again.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from logitproof.protocol import taps as vocabulary

MOST_SOURCES = 10
NEIGHBOURS = 0
"""ggml's rotary mode whose pairs are neighbours; all others turn halves."""
KINDS = {0: np.float32, 1: np.float16, 26: np.int32}
"""ggml's numbers of the types that are read."""
EMBEDDINGS = ("embd", "inp_embd", "model.input_embed", "model.embed_tokens", "inp_scaled")
NAMED = {
    "attn_norm": "attn_norm",
    "Qcur_normed": "attn.q",
    "Kcur_normed": "attn.k",
    "attn_out": "attn.out",
    "ffn_inp": "residual",
    "sa_out": "residual",
    "attn_residual": "residual",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "mlp.gate",
    "ffn_up": "mlp.up",
    "ffn_swiglu": "mlp.activation",
    "ffn_geglu": "mlp.activation",
    "ffn_out": "mlp.out",
    "ffn_moe_logits": "moe.router",
    "ffn_moe_logits_biased": "moe.router",
    "ffn_moe_topk": "moe.index",
    "ffn_moe_weights": "moe.weights",
    "ffn_moe_weights_norm": "moe.weights",
    "ffn_moe_weights_scaled": "moe.weights",
    "ffn_moe_weights_softmax": "moe.weights",
    "ffn_moe_out": "moe.out",
    "linear_attn_qkv_mixed": "linear_attn.qkv",
    "z": "linear_attn.z",
    "alpha": "linear_attn.a",
    "beta": "linear_attn.b",
    "conv_output_silu": "linear_attn.conv",
    "attn_output": "linear_attn.core",
    "final_output": "linear_attn.norm",
    "linear_attn_out": "linear_attn.out",
    "l_out": "out",
    "kv_cmpr": "attn.latent",
    "ffn_xielu": "mlp.activation",
    "mamba_out": "scan.out",
    "mamba2_y_add_d": "scan.core",
    "kda_out": "attn.out",
    "kda_beta": "linear_attn.b",
    "mla_out": "attn.out",
    "model.layers.{}.operator_norm": "attn_norm",
    "model.layers.{}.ffn_norm": "ffn_norm",
    "model.layers.{}.conv.out_proj": "shortconv.out",
}
"""llama.cpp's name of a node to the tap; a later node of the same name takes the place of an earlier one."""
NAMED_OTHERWISE = {
    "gemma4": {"attn_out": "residual", "ffn_norm_1": "ffn_norm"},
    "nemotron_h": {"nemotron_h_block_out": "out", "l_out": "mlp.out"},
}
"""Names that one architecture uses for another node than the rest."""
NEIGHBOURS_IN_CHECKPOINT = ("cohere2", "ernie4_5", "ernie4_5-moe", "glm4", "llama4")
"""Architectures whose checkpoints have rotary pairs as neighbours too, so that nothing was moved."""
IN_GROUPS = ("qwen3next",)
"""Architectures whose value heads stand by key head in the file, too."""
ANOTHER_VALUE = {
    # the file's weights hold the factors that the model multiplies by afterwards
    "falcon-h1": ("attn.k_proj", "attn.out", "mlp.gate"),
    # the sum holds the shared expert, and nothing says how pairs lie where no layer rotates
    "granitehybrid": ("moe.out", "attn.q_proj", "attn.k_proj"),
    # the model multiplies the shares by each expert's own factor, the graph what the experts give
    "gemma4": ("moe.weights",),
    # the name is given to what the norm reads
    "llama4": ("ffn_norm",),
}
"""Taps of an architecture whose nodes are another value than the tap."""
READ = {"kq": "cache.k", "kqv": "cache.v"}
"""The products of attention, and what of the cache is their first factor."""
SHARED = ("ffn_shexp", "ffn_shexp_out")
"""The shared expert, of which the first name is before its gate."""
BEHIND_BLOCKS = ("gemma2", "gemma3", "gemma3n", "gemma4", "olmo2", "exaone4", "glm4")
"""Architectures with norms behind their blocks; most call the norm before the MLP so where it follows attention."""
POST_NORMS = {
    "attn_post_norm": "attn_post_norm",
    "post_attn_norm": "attn_post_norm",
    "ffn_post_norm": "mlp_post_norm",
    "post_mlp_norm": "mlp_post_norm",
}
ROUTED_OUT = {"ffn_out": "moe.out"}
"""Families with a shared expert call the sum so."""
DEALT = ("linear_attn.z", "linear_attn.a", "linear_attn.b", "linear_attn.core", "linear_attn.norm")
DEALT_AFTER_KEYS = ("linear_attn.qkv", "linear_attn.conv")
TAPS = (
    "embedding",
    *(f"layers.*.{name}" for name in vocabulary.LAYER),
    "norm",
    "logits",
)
_NODE = re.compile(r"(.+?)-(\d+)")


class _Tensor(ctypes.Structure):
    """`struct ggml_tensor`, as far as it is read."""


_Tensor._fields_ = (
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * MOST_SOURCES),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
)


@dataclass
class Recorder:
    """The taps of one sequence, over the batches that it is decoded in.

    `value_heads` is (groups, heads) of a gated delta-net; `keys` how many columns of its fused projection belong to Q and K.
    """

    patterns: Sequence[str]
    architecture: str
    name_of_operation: Any
    value_heads: tuple[int, int] | None = None
    keys: int = 0
    positions: int = 0
    _kept: dict[str, list[np.ndarray]] = field(default_factory=dict)
    _now: dict[str, np.ndarray] = field(default_factory=dict)
    _scores: np.ndarray | None = None
    _rotation: dict[str, tuple[int, int]] = field(default_factory=dict)
    _head: dict[str, int] = field(default_factory=dict)
    _layer: int = 0
    _normed: np.ndarray | None = None

    def __call__(self, pointer: int, asking: bool, _: Any) -> bool:
        """What ggml's scheduler calls: before a node whether it is wanted, after it with its values."""
        if not asking:
            self._read(ctypes.cast(pointer, ctypes.POINTER(_Tensor)).contents)
        return True

    def end_of_batch(self) -> None:
        """Keep what the batch gave."""
        for name, value in self._now.items():
            if vocabulary.wanted(name, self.patterns):
                self._kept.setdefault(name, []).append(value)
        self._now = {}

    def kept(self) -> dict[str, np.ndarray]:
        """Every tap over all batches, float32, canonical; weights of experts in the order of their numbers."""
        whole = {
            name: vocabulary.joined(name, pieces)
            for name, pieces in self._kept.items()
            if len(pieces) == 1 or vocabulary.split(name)[1] != "attn.scores"
        }
        for name in [tap for tap in whole if tap.endswith("moe.index")]:
            order = whole[name].argsort(axis=-1)
            whole[name] = np.take_along_axis(whole[name], order, -1)
            weights = name.replace("index", "weights")
            if weights in whole:
                whole[weights] = np.take_along_axis(whole[weights], order, -1)
        differing = ANOTHER_VALUE.get(self.architecture, ())
        kept = {name: value for name, value in whole.items() if vocabulary.split(name)[1] not in differing}
        return {name: self._canonical(name, value) for name, value in kept.items()}

    def _read(self, node: _Tensor) -> None:
        name, operation = node.name.decode("utf-8", "replace"), self.name_of_operation(node.op).decode()
        if name in EMBEDDINGS:
            self._now["embedding"] = _values(node)
        elif name == "result_norm":
            self._now["norm"] = _values(node)
        elif match := _NODE.fullmatch(name):
            self._layer = int(match[2])
            self._inside(node, operation, match[1], self._layer)
        elif name == "ffn_post_norm":
            self._inside(node, operation, name, self._layer)
        elif operation in ("MUL_MAT", "ADD", "SCALE"):
            self._unnamed(node, operation)

    def _inside(self, node: _Tensor, operation: str, name: str, layer: int) -> None:
        leaf = self._leaf(name, operation, layer)
        for own in [own for own, tap in vocabulary.OWN.items() if tap.node == name]:
            self._now[f"layers.{layer}.{own}"] = _values(node)
        if name.startswith("kq") and operation != "SOFT_MAX":
            self._scores = _values(node)
        elif operation == "SOFT_MAX" and name.startswith("kq"):
            scale = ctypes.c_float.from_buffer(ctypes.c_int32(node.op_params[0])).value
            if self._scores is not None:
                self._now[f"layers.{layer}.attn.scores"] = self._matrix(self._scores) * np.float32(scale)
            self._now[f"layers.{layer}.attn.probs"] = self._matrix(_values(node))
        if operation == "MUL_MAT" and name in READ:
            self._read_cache(node, READ[name], layer)
        if operation == "RMS_NORM" and name == "norm" and node.src[0]:
            self._normed = _values(node.src[0].contents)
        if name in ("kqv_out", "attn_gated"):
            leaf = "attn.context"
        if leaf == "ffn_norm" and self._normed is not None:
            # some families do not name the sum that they normalize
            self._now.setdefault(f"layers.{layer}.residual", self._normed)
        if not leaf:
            return
        tap = f"layers.{layer}.{leaf}"
        if operation == "ROPE":
            self._rotation[f"layers.{layer}.{leaf[:6]}"] = (node.op_params[2], node.op_params[1])
        value = _values(node)
        if leaf in vocabulary.HEADS:
            value = value.reshape(len(value) if value.ndim == 3 else node.ne[2], -1, node.ne[0])
            self._head[f"layers.{layer}.{leaf[:6]}"] = int(node.ne[0])
        elif value.ndim > 2 and leaf != "linear_attn.core":
            value = value.reshape(value.shape[0], -1)
        self._now[tap] = value
        gate_and_up = self._now.get(f"layers.{layer}.mlp.up", value)
        fused = gate_and_up.shape[-1] == 2 * value.shape[-1]
        if leaf == "mlp.activation" and fused and f"layers.{layer}.mlp.gate" not in self._now:
            self._now[f"layers.{layer}.mlp.gate"], self._now[f"layers.{layer}.mlp.up"] = np.split(gate_and_up, 2, axis=-1)

    def _read_cache(self, node: _Tensor, leaf: str, layer: int) -> None:
        """Keys [K, S, D] or values [K, D, S] as attention reads them, where the cache holds whole heads and no latent."""
        rotated = self._now.get(f"layers.{layer}.attn.k_rope")
        if rotated is None or rotated.ndim != 3 or not node.src[0]:
            return
        stored = _values(node.src[0].contents)
        stored = stored[None] if stored.ndim == 2 and rotated.shape[1] == 1 else stored
        if stored.ndim != 3 or stored.shape[0] != rotated.shape[1]:
            return
        slots = stored.transpose(1, 0, 2) if leaf == "cache.k" else stored.transpose(2, 0, 1)
        if leaf == "cache.k" and slots.shape[1:] != rotated.shape[1:]:
            return
        if leaf == "cache.v" and f"layers.{layer}.cache.k" not in self._now:
            return
        self._now[f"layers.{layer}.{leaf}"] = slots[: self.positions].copy()

    def _leaf(self, name: str, operation: str, layer: int) -> str:
        letter = name[0].lower()
        if name in ("Qcur", "Kcur", "Qcur_pos", "Kcur_pos") and operation == "ROPE":
            return f"attn.{letter}_rope"
        if name in ("Qcur", "Kcur", "Vcur", "Qcur_full"):
            return f"attn.{letter}_proj" if operation in ("MUL_MAT", "ADD", "VIEW", "RESHAPE") else ""
        if name in POST_NORMS:
            behind = self.architecture in BEHIND_BLOCKS
            return POST_NORMS[name] if behind else "ffn_norm" if POST_NORMS[name] == "attn_post_norm" else ""
        if name == "ffn_moe_probs" and operation == "ADD":
            return "moe.router"  # raw scores are the probabilities of this gating
        if name == "attn_output" and operation == "MUL_MAT":
            return "attn.out"
        if name in SHARED:
            # behind a gate the second name is the gated one
            return "moe.shared" if name == SHARED[0] or f"layers.{layer}.moe.shared" not in self._now else ""
        leaf = NAMED_OTHERWISE.get(self.architecture, {}).get(name, NAMED.get(name, ""))
        if leaf.startswith("mlp.") and f"layers.{layer}.moe.router" in self._now:
            return "moe.out" if leaf == "mlp.out" else ""
        return leaf

    def _unnamed(self, node: _Tensor, operation: str) -> None:
        """The output projection often has no name: it multiplies what attention gave, and a bias may follow."""
        if operation == "MUL_MAT" and node.src[1]:
            source = _NODE.fullmatch(node.src[1].contents.name.decode("utf-8", "replace"))
            if source and source[1] in ("kqv_out", "attn_gated"):
                self._now[f"layers.{source[2]}.attn.out"] = _values(node)

    def _matrix(self, value: np.ndarray) -> np.ndarray:
        """[H, T, S] of a node [T?, ...]: the keys of this sequence alone, not the padding of the cache."""
        return value[..., : self.positions]

    def _canonical(self, name: str, value: np.ndarray) -> np.ndarray:
        layer, leaf = vocabulary.split(name)
        if leaf in ("attn.q_proj", "attn.k_proj", "attn.q_rope", "attn.k_rope", "cache.k"):
            stem = f"layers.{layer}.{'attn.k' if leaf == 'cache.k' else leaf[:6]}"
            # layers without rotation keep the order in which the file's other layers have their pairs
            rotations = list(self._rotation.values()) or [(-1, 0)]
            mode, turned = self._rotation.get(stem, rotations[0])
            if mode == NEIGHBOURS and turned and self.architecture not in NEIGHBOURS_IN_CHECKPOINT:
                size = self._head.get(stem) or next(iter(self._head.values()), turned)
                return _halves(value.reshape(len(value), -1, size), turned).reshape(value.shape)
        if self.architecture in IN_GROUPS:
            return value
        if leaf in DEALT and len(value) != self.positions and value.size % self.positions == 0:
            # a step of one token has its heads in the place of positions
            value = value.reshape(self.positions, -1)
        if self.value_heads is not None and leaf in DEALT:
            return _grouped(value, self.value_heads)
        if self.value_heads is not None and leaf in DEALT_AFTER_KEYS:
            flat = value.reshape(len(value), -1)
            return np.concatenate([flat[:, : self.keys], _grouped(flat[:, self.keys :], self.value_heads)], axis=1)
        return value


def _values(node: _Tensor) -> np.ndarray:
    """The node's values as float32, positions first: ne [a, b, c, d] is an array [d, c, b, a] without leading ones."""
    kind = np.dtype(KINDS.get(node.type, np.float32))
    shape, strides = [int(number) for number in reversed(node.ne)], [int(number) for number in reversed(node.nb)]
    while len(shape) > 2 and shape[0] == 1:
        shape, strides = shape[1:], strides[1:]
    extent = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + kind.itemsize
    if node.type not in KINDS or not node.data or min(shape) == 0:
        return np.zeros((0, 0), np.float32)
    raw = memoryview((ctypes.c_char * extent).from_address(node.data))
    return np.ndarray(shape, kind, raw, strides=strides).astype(np.float32)


def _halves(value: np.ndarray, turned: int) -> np.ndarray:
    """[T, H, D] with pairs (2i, 2i + 1) of the first `turned` entries as (i, i + turned / 2)."""
    pairs = value[..., :turned].reshape(*value.shape[:-1], turned // 2, 2)
    return np.concatenate([pairs[..., 0], pairs[..., 1], value[..., turned:]], axis=-1)


def _grouped(value: np.ndarray, heads: tuple[int, int]) -> np.ndarray:
    """Value heads dealt out over key heads in turn, as groups of one key head again."""
    groups, count = heads
    dealt = value.reshape(len(value), count // groups, groups, -1)
    return dealt.swapaxes(1, 2).reshape(value.shape)
