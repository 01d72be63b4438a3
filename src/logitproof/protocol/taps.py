"""Taps: the named intermediate tensors of a decoder, in the one layout in which those of all engines are compared.

A name is `embedding`, `norm`, `logits`, or `layers.N.` and one of `LAYER`. T counts positions, E is the hidden size, H the
query heads, K the heads of K and V, D the size of a head, S the keys, F the inner size of an MLP, X the experts.
"""

from __future__ import annotations

import fnmatch
import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class OwnTap:
    """A tap that a package registers in the entry-point group `logitproof.taps`, as `module:NAME` of a dict of these by name.

    `says` gives shape and meaning. In transformers it is what the submodule `module` of a layer gives, or `reads`; in
    llama.cpp the node that is called `node`.
    """

    says: str
    module: str = ""
    reads: bool = False
    node: str = ""


def _registered() -> dict[str, OwnTap]:
    """The taps of installed packages."""
    taps: dict[str, OwnTap] = {}
    for point in importlib.metadata.entry_points(group="logitproof.taps"):
        taps |= point.load()
    return taps


BEGIN = {"embedding": "[T, E] what the first layer reads"}
LAYER = {
    "attn_norm": "[T, E] the norm before attention, or before the gated delta-net",
    "attn.latent": "[T, L] the latent of K and V after its norm, where attention is latent",
    "attn.q_latent": "[T, L] the latent of Q after its norm",
    "attn.q_proj": "[T, H * D] the projection of Q with its bias, a gate that is fused into it included",
    "attn.k_proj": "[T, K * D] the projection of K with its bias",
    "attn.v_proj": "[T, K * D] the projection of V with its bias",
    "attn.q": "[T, H, D] Q after the norm on its heads, where there is one",
    "attn.k": "[T, K, D] K after the norm on its heads, where there is one",
    "attn.q_rope": "[T, H, D] Q after the rotation, pairs as halves (i, i + D / 2)",
    "attn.k_rope": "[T, K, D] K after the rotation, pairs as halves",
    "cache.k": "[T, K, D] keys as the cache holds them, slot by slot: what the last pass read of each position",
    "cache.v": "[T, K, D] values as the cache holds them",
    "attn.scores": "[H, T, S] Q times K, scaled and soft-capped, before the mask; only S <= T counts",
    "attn.probs": "[H, T, S] the softmax of the masked scores, without a sink's share",
    "attn.context": "[T, H * D] what the output projection reads: probabilities times V, gated where the family gates",
    "attn.out": "[T, E] the output projection",
    "linear_attn.qkv": "[T, C] the fused projection of a gated delta-net",
    "linear_attn.z": "[T, H * D] its gate",
    "linear_attn.b": "[T, H] what beta is the sigmoid of",
    "linear_attn.a": "[T, H] what the decay is computed from",
    "linear_attn.conv": "[T, C] after the causal convolution and its activation",
    "linear_attn.core": "[T, H, D] what the gated delta rule gives",
    "linear_attn.norm": "[T, H * D] normed and gated: what the output projection reads",
    "linear_attn.out": "[T, E] the output projection of a gated delta-net",
    "scan.in": "[T, C] the projection of a Mamba-2 scan: gate, x, B, C and the steps",
    "scan.conv": "[T, C] x, B and C after the causal convolution and its activation",
    "scan.core": "[T, H * P] what the scan gives, with the skip of its input",
    "scan.norm": "[T, H * P] gated and normed: what the output projection reads",
    "scan.out": "[T, E] the output projection of a scan",
    "shortconv.in": "[T, 3 * E] the projection of a gated short convolution",
    "shortconv.conv": "[T, E] after the convolution",
    "shortconv.gated": "[T, E] gated: what the output projection reads",
    "shortconv.out": "[T, E] the output projection of a short convolution",
    "attn_post_norm": "[T, E] the norm after attention, where there is one",
    "residual": "[T, E] the residual stream after attention was added",
    "ffn_norm": "[T, E] the norm before the MLP",
    "mlp.gate": "[T, F] the gate's projection",
    "mlp.up": "[T, F] the up projection",
    "mlp.activation": "[T, F] act(gate) * up: what the down projection reads",
    "mlp.out": "[T, E] the down projection",
    "moe.router": "[T, X] the router's logits",
    "moe.index": "[T, k] the chosen experts, by number",
    "moe.weights": "[T, k] their weights, in the order of the numbers",
    "moe.shared": "[T, E] the shared expert",
    "moe.out": "[T, E] the whole block of experts",
    "mlp_post_norm": "[T, E] the norm after the MLP, where there is one",
    "out": "[T, E] the residual stream after the MLP was added",
}
OWN = _registered()
"""Taps of packages that register theirs, by name."""
LAYER |= {name: tap.says for name, tap in OWN.items() if name not in LAYER}
END = {"norm": "[T, E] the norm before the head", "logits": "[T, V] what the engine reports"}
BOUNDARIES = ("embedding", "layers.*.out", "norm", "logits")
"""What tells which layer diverges first."""
HEADS = ("attn.q", "attn.k", "attn.q_rope", "attn.k_rope")
MATRICES = ("attn.scores", "attn.probs")
"""[H, T, S]: all other taps have the positions first."""
CACHED = ("cache.k", "cache.v")
"""Not a pass each, but what all passes have left."""
ROUTING = ("moe.router", "moe.index", "moe.weights")
"""One operation with three results."""
_PLACES = {name: number for number, name in enumerate(LAYER)}
_NAME = re.compile(r"layers\.(\d+)\.(.+)")


def split(name: str) -> tuple[int | None, str]:
    """Layer and the rest of a name: `layers.3.attn.q` is (3, "attn.q"), `norm` is (None, "norm")."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), match[2]) if match else (None, name)


def is_known(name: str) -> bool:
    """Whether the vocabulary has it."""
    layer, leaf = split(name)
    return leaf in LAYER if layer is not None else leaf in BEGIN | END


def order(name: str) -> tuple[int, int]:
    """Sorts names in the order of computation."""
    layer, leaf = split(name)
    if layer is None:
        return (-1, 0) if leaf in BEGIN else (10**9, list(END).index(leaf) if leaf in END else 9)
    return layer, _PLACES.get(leaf, 99)


def joined(name: str, pieces: Sequence[np.ndarray]) -> np.ndarray:
    """One array of what the passes of a sequence gave, pass after pass.

    Of a cache the last pass has all. Probabilities [H, n, S] of a pass have as many keys as there were then: keys that came
    later have a share of 0.
    """
    if len(pieces) == 1 or split(name)[1] in CACHED:
        return pieces[-1]
    if split(name)[1] not in MATRICES:
        return np.concatenate(pieces)
    keys = max(piece.shape[-1] for piece in pieces)
    return np.concatenate([np.pad(piece, ((0, 0), (0, 0), (0, keys - piece.shape[-1]))) for piece in pieces], axis=1)


def wanted(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns (`layers.*.attn.*`, `embedding`) names it."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def of_layers(layers: Sequence[int]) -> list[str]:
    """Patterns for everything inside these layers."""
    return [f"layers.{number}.*" for number in layers]
