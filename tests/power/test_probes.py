"""Probes catch what they claim to, and are what they say: small, agreed on, made from one set of weights."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from logitproof.acid.probe import FACTOR, KILLED_AT, open_probes, probe_names
from logitproof.acid.subject import gguf_of
from logitproof.rows.distance import distances

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
FAMILIES = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5", "gemma2", "gemma3", "mistral", "phi3", "gpt-oss",
            "smollm3", "qwen2-moe", "glm4-moe", "llama-gelu")  # fmt: skip
OF_2026 = ("apertus", "arcee", "cohere2", "deepseek-v2", "deepseek-v3", "ernie4.5-moe", "exaone4", "falcon-h1",
           "gemma", "gemma3n", "gemma4", "gemma4-moe", "glm4",
           "granite-hybrid", "hunyuan", "kimi-linear", "lfm2", "llama4", "llama4-chunked", "mamba2", "minimax-m2", "nemotron-h",
           "olmo2", "olmo3", "phi3.5-moe", "qwen3-next", "qwen3.5-moe", "seed-oss")  # fmt: skip
WITHOUT_GGUF = ("gemma3n", "llama-gelu", "llama4-chunked", "phi3.5-moe")
"""llama.cpp has no Llama whose activation is GELU, no Llama 4 whose chunks are shorter than 8192, no Gemma 3n of less than 20
layers, and mixes the experts of Phi-3.5 MoE otherwise."""
PROBES = {probe.name: probe for probe in open_probes()}
SAMPLE = (
    ("llama3", "rope.scaling.llama3_missing"),
    ("llama3", "rope.offset_in_decode"),
    ("qwen2.5", "weights.bias_dropped"),
    ("qwen2.5", "weights.transposed"),
    ("qwen3", "rope.pairing.interleaved"),
    ("qwen3-moe", "moe.router_low_precision"),
    ("qwen3-moe", "moe.weights_misordered"),
    ("qwen3.5", "deltanet.conv_state_not_carried"),
    ("qwen3.5", "deltanet.v_head_tiling"),
    ("gemma3", "mlp.gelu_exact_for_tanh"),
    ("gemma3", "rope.one_base_for_all_layers"),
    ("glm4-moe", "rope.partial.ignored"),
    ("gpt-oss", "mlp.swiglu_limit_missing"),
    ("gpt-oss", "rope.scaling.yarn_mscale_missing"),
    ("gpt-oss", "mlp.gate_clamped_below"),
    ("qwen2.5", "weights.bf16_truncated"),
    ("llama-gelu", "mlp.gelu_tanh_for_exact"),
    ("qwen2-moe", "moe.shared_gate_missing"),
    ("glm4-moe", "moe.group_limit_ignored"),
    ("smollm3", "rope.nope_layers_rotated"),
)


def test_every_family_has_its_probe() -> None:
    assert {*FAMILIES, *OF_2026} <= set(probe_names())


@pytest.mark.parametrize("name", sorted(PROBES))
def test_a_probe_is_small_and_agreed_on_by_two_engines(name: str) -> None:
    probe = PROBES[name]
    assert sum(path.stat().st_size for path in probe.folder.glob("model*")) <= 1_000_000
    agreed = {one["engine"] for one in probe.witnesses if "distances" in one}
    assert {"transformers", "plain"} <= agreed or (name in OF_2026 and {"transformers", "llamacpp"} <= agreed)
    assert "llamacpp" in agreed or name in WITHOUT_GGUF


@pytest.mark.parametrize("name", sorted(PROBES))
def test_a_band_follows_from_its_witnesses(name: str) -> None:
    probe = PROBES[name]
    for case in probe.cases:
        for precision, band in case.band.items():
            seen = [one["distances"][case.name] for one in probe.witnesses if one.get("precision") == precision]
            assert band == pytest.approx(FACTOR * max(seen), rel=0.01)
        assert np.isfinite(case.expected).all()
        assert case.band["float32"] < 1e-4 * float(case.distances(np.zeros((len(case.token_ids), probe.vocab_size))).mean())


@pytest.mark.parametrize("name", sorted(set(PROBES) - set(WITHOUT_GGUF)))
def test_the_gguf_file_holds_the_bytes_of_the_folder(name: str, tmp_path: Path) -> None:
    """Every number of a float32 file fits the 16 bits of the folder, unless it is computed (norm + 1, exp)."""
    file = gguf_of(PROBES[name], tmp_path, "F32")
    kept = json.loads((PROBES[name].folder / "config.json").read_text("utf-8"))["dtype"]
    empty = {"bfloat16": 0xFFFF, "float16": 0x1FFF}[kept]
    assert file.stat().st_size <= 1_000_000
    for tensor in gguf.GGUFReader(file).tensors:
        if not any(part in tensor.name for part in ("norm", "ssm_a", "rope", "sinks")):
            assert not (np.ascontiguousarray(tensor.data).view(np.uint32) & empty).any(), tensor.name


@pytest.mark.parametrize(("name", "mutation"), SAMPLE)
def test_a_known_bug_moves_a_probe_by_ten_bands(name: str, mutation: str) -> None:
    from _acid_kill import variants

    _, planted = next(variants(mutation))
    assert planted.applies(_bench(name).model.config)
    assert _bench(name).kill(planted).ratio >= KILLED_AT


def test_the_right_model_is_inside_the_band() -> None:
    from _acid_kill import RUNS

    bench = _bench("qwen3")
    for run in RUNS.values():
        for case in bench.probe.cases:
            assert case.distances(run(bench.model, case)).max() <= case.band["float32"]


def test_a_shift_of_all_logits_is_no_distance_and_a_nan_is_infinite() -> None:
    expected = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32)
    assert distances(expected, expected + 5).max() < 1e-6
    wrong = expected.copy()
    wrong[1, 4] = np.nan
    assert np.isinf(distances(expected, wrong)[1])


@functools.cache
def _bench(name: str) -> Any:
    from _acid_kill import Bench

    return Bench(PROBES[name])
