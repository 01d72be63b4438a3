"""Gates of what routers choose, on real engines: llama.cpp against Hugging Face, and every routing bug that can be planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from logitproof.contract.opened import open_contract
from logitproof.runs.check import check
from logitproof.traces.store import Store

ROOT = Path(__file__).parents[2]
MOE, FILE = ROOT / "zoo/qwen3-moe", ROOT / "zoo/gguf/qwen3-moe-F32.gguf"
BASIS = "a reason of more than ten letters"
PLANTED = {
    "moe.wrong_k": {"experts"},
    "moe.lowest_experts_chosen": {"experts"},
    "moe.experts_shifted": {"experts"},
    "moe.experts_reversed": {"experts"},
    "moe.topk_norm_missing": {"weights"},
    "moe.raw_logits_as_weights": {"weights"},
    "moe.one_expert_dead": {"weights"},
}
"""Which gate each bug of a router must break, whatever else of it breaks."""


def contract(folder: Path, candidates: dict[str, Any]) -> Path:
    engine = {"engine": "transformers", "options": {"threads": 1}}
    path = folder / "moe.parity.yaml"
    gates = [
        {"id": "experts", "metric": "expert_set", "statistic": "min", "at_least": 1.0, "basis": BASIS},
        {"id": "weights", "metric": "expert_weight_sum", "statistic": "max", "at_most": 1e-6, "basis": BASIS},
    ]
    suite = {
        "suite": "s",
        "max_new_tokens": 4,
        "prompts": [{"id": "a", "text": "The old house stood on a hill above the river."}],
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), "utf-8")
    data = {
        "contract": "moe", "reference": engine, "candidates": candidates, "gates": gates, "suites": ["suite.yaml"],
        "models": {"moe": {"original": str(MOE), "F32": str(FILE)}}, "error_bar": {"vary": []},
        "matrix": {"quantization": ["F32"], "mode": ["prefill", "decode"]},
        "bands": [{"match": 1e-3, "wrong": 100.0, "basis": BASIS}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
    return path


@pytest.mark.skipif(not FILE.is_file(), reason="`make zoo` makes the GGUF files")
def test_llama_cpp_chooses_as_hugging_face_does_in_both_modes(tmp_path: Path) -> None:
    candidates = {"apr": {"engine": "llamacpp", "options": {"threads": 1, "kv_type": "f32"}}}
    report = check(open_contract(contract(tmp_path, candidates)), Store(tmp_path / "store"))
    assert [(gate.id, gate.status, gate.not_measured) for gate in report.verdict.gates] == [
        ("experts", "PASS", 0), ("experts", "PASS", 0), ("weights", "PASS", 0), ("weights", "PASS", 0),
    ]  # fmt: skip
    assert all(gate.observed == 1.0 for gate in report.verdict.gates if gate.id == "experts")
    assert report.verdict.status == "PASS", report.verdict.reason


def test_every_planted_bug_of_a_router_breaks_its_gate(tmp_path: Path) -> None:
    only = {"quantization": ["original"], "mode": ["prefill"]}
    candidates = {
        name.replace(".", "-"): {"engine": "transformers", "options": {"threads": 1, "mutation": name}, "only": only}
        for name in PLANTED
    }
    report = check(open_contract(contract(tmp_path, candidates)), Store(tmp_path / "store"))
    for name, broken in PLANTED.items():
        cell = f"{name.replace('.', '-')}/moe/original/prefill"
        failed = {gate.id for gate in report.verdict.gates if gate.cell == cell and gate.status == "FAIL"}
        assert broken <= failed, (
            name,
            [(gate.id, gate.status, gate.observed) for gate in report.verdict.gates if gate.cell == cell],
        )
    lines = [line for line in report.failing_positions() if "experts" in line.get("gates", ())]
    entries = [entry for line in lines if line["candidate"] == "moe-experts_reversed" for entry in line["routing"]]
    assert entries and all(entry["experts_reference"] != entry["experts_candidate"] for entry in entries)
