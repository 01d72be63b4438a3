"""Taps of the mechanisms of 2026 in both witnesses: the same tensors by the same names, on the probes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from logitproof.acid.probe import open_probes, probe_names
from logitproof.acid.subject import gguf_of
from logitproof.engines.llamacpp import LlamaCpp
from logitproof.engines.transformers import Transformers
from logitproof.protocol import taps as vocabulary

MECHANISMS = {
    "deepseek-v3": {"attn.latent", "attn.out", "moe.router", "moe.weights", "moe.index", "moe.shared"},
    "mamba2": {"scan.core", "scan.out"},
    "falcon-h1": {"scan.core", "attn.q_proj", "attn.probs", "mlp.activation"},
    "granite-hybrid": {"scan.core", "scan.out", "moe.router", "attn.out"},
    "lfm2": {"shortconv.out", "mlp.activation", "attn.probs"},
    "kimi-linear": {"attn.out", "moe.router", "moe.weights"},
    "gemma": {"attn.q_rope", "attn.probs", "attn.out", "mlp.activation", "residual"},
    "glm4": {"attn.q_rope", "attn.probs", "attn.out", "mlp.activation"},
    "gemma4": {"attn.q", "attn.q_rope", "attn.k_rope", "attn.probs", "attn.out", "attn_post_norm", "mlp_post_norm", "residual"},
    "gemma4-moe": {"attn.q_rope", "attn.out", "moe.router", "moe.index", "moe.out"},
}
"""Leaves that both engines must have; what only one has is beside the point."""
LEAST = {"embedding", "out", "norm", "logits"}
"""Leaves of every family."""
NOT_IN_LLAMACPP = ("gemma3n", "llama-gelu", "llama4-chunked", "phi3.5-moe")
NAMES = [name for name in probe_names() if name not in NOT_IN_LLAMACPP]
IN_REFERENCE = {
    "mamba2": {"scan.in", "scan.conv", "scan.core", "scan.norm", "scan.out"},
    "lfm2": {"shortconv.in", "shortconv.conv", "shortconv.gated", "shortconv.out"},
    "deepseek-v3": {"attn.latent", "attn.q_latent"},
}


@pytest.mark.parametrize("name", NAMES)
def test_both_witnesses_have_the_same_tensors_by_the_same_names(name: str, tmp_path: Path) -> None:
    probe = open_probes([name])[0]
    ids = list(probe.case("short").token_ids)
    reference, candidate = Transformers(), LlamaCpp()
    reference.load(probe.folder)
    candidate.load(gguf_of(probe, tmp_path))
    own, other = (engine.taps(ids, "prefill", ["*"], {}) for engine in (reference, candidate))
    both = {tap for tap in own if tap in other and vocabulary.split(tap)[1] != "attn.scores"}
    assert MECHANISMS.get(name, set()) | LEAST <= {vocabulary.split(tap)[1] for tap in both}
    for tap in both:
        apart = np.abs(own[tap].ravel() - other[tap].ravel()).max()
        assert apart <= 2e-3 * np.abs(own[tap]).max(), tap


@pytest.mark.parametrize("name", sorted(IN_REFERENCE))
def test_the_reference_has_every_tap_of_a_mechanism_and_passes_on_what_is_given(name: str) -> None:
    probe = open_probes([name])[0]
    ids = list(probe.case("short").token_ids)
    engine = Transformers()
    engine.load(probe.folder)
    found = engine.taps(ids, "prefill", ["*"], {})
    assert IN_REFERENCE[name] <= {vocabulary.split(tap)[1] for tap in found}
    for leaf in sorted(IN_REFERENCE[name]):
        tap = next(tap for tap in found if vocabulary.split(tap)[1] == leaf)
        moved = engine.taps(ids, "prefill", ["logits"], {tap: found[tap][::-1]})["logits"]
        assert np.abs(moved - found["logits"]).max() > 1e-3, leaf
