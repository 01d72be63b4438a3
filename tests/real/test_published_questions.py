"""Questions about a run on a published file and nothing else: which bug, where, how much, and what can be made of the file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_published_alone import logitproof, other_rope_base, write_contract

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

TEXTS = (
    "The capital of France is Paris. The capital of Germany is",
    "Once upon a time there was a little girl who lived in a village near the forest. Whenever she went out, the little girl "
    "wore a red riding cloak, so everyone in the village called her Little Red Riding Hood.",
    "def fibonacci(n):\n    if n < 2:\n        return n\n    return fibonacci(n-1) + fibonacci(n-2)\n",
)
SKIPPED = {"skip": ["PF201"], "reason": "the changed base is what is to be found"}


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the folders of files are made, once for all tests."""
    return tmp_path_factory.mktemp("derived")


def answer(folder: Path, derived: Path, *arguments: str, exits: int = 0) -> Any:
    """What a command prints for machines."""
    done = logitproof(folder, derived, *arguments, "--json")
    assert done.returncode == exits, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout)


def test_a_rope_base_changed_in_a_file_is_named_by_a_diagnosis(smollm2: Path, tmp_path: Path, derived: Path) -> None:
    bad = other_rope_base(smollm2, tmp_path / "bad.gguf", 10000.0)
    matrix = {"mode": ["prefill"], "quantization": ["Q4_1"]}
    models = {"original": str(smollm2), "Q4_1": str(bad)}
    write_contract(tmp_path, models, matrix=matrix, preflight=SKIPPED)
    prompts = [{"id": f"p{number}", "text": text} for number, text in enumerate(TEXTS)]
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump({"suite": "s", "max_new_tokens": 0, "prompts": prompts}))
    logitproof(tmp_path, derived, "check", "alone.parity.yaml")
    explained = answer(tmp_path, derived, "diagnose", "runs/alone", exits=1)
    diagnosis = explained["llama/published/Q4_1/prefill"]
    assert diagnosis["verdict"] == "named" and diagnosis["names"] == ["rope.base"]
    assert diagnosis["passes"] < 400


def test_a_tensor_left_out_of_a_file_is_located(smollm2: Path, tmp_path: Path, derived: Path) -> None:
    from _real_faults import LLAMA, plant

    (fault,) = (fault for fault in LLAMA if fault.name == "v_dropped")
    bad = plant(fault, smollm2, tmp_path)
    tokens = ["--tokens", "504,3575,282,4649,314,7042"]
    addresses = [f"transformers:{smollm2}", f"llamacpp:{bad}"]
    explained = answer(tmp_path, derived, "localize", *addresses, *tokens, "--no-hypotheses", exits=1)
    (located,) = explained["engines"]["located"]
    assert located["first"] == fault.located


def test_what_is_made_of_a_file_alone(smollm2: Path, tmp_path: Path, derived: Path) -> None:
    write_contract(tmp_path, str(smollm2))
    for arguments in (
        ("check", "alone.parity.yaml"),
        ("decompose", "runs/alone", "--runs", "0"),
        ("freeze", "alone.parity.yaml", "--out", "golden.safetensors", "--no-determinism"),
        ("gguf", "export", str(smollm2), "exported", "--no-weights"),
    ):
        done = logitproof(tmp_path, derived, *arguments)
        assert done.returncode == 0, (arguments, done.stdout[-2000:], done.stderr[-2000:])
    assert (tmp_path / "golden.safetensors").is_file()
    assert json.loads((tmp_path / "exported/config.json").read_text("utf-8"))["model_type"] == "llama"
