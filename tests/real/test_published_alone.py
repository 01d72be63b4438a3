"""A published GGUF file and nothing else: check, tokenizer, and a changed rope base that preflight names."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from logitproof.files.gguf import GgufFile

TEXT = "The capital of France is"


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the folders of files are made, once for all tests."""
    return tmp_path_factory.mktemp("derived")


def logitproof(folder: Path, derived: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", *arguments]
    environment = {**os.environ, "LOGITPROOF_DERIVED": str(derived)}
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def write_contract(folder: Path, models: Any, **more: Any) -> None:
    """A contract of one prompt; bands are what 8-bit activations of ggml make on these models."""
    suite = {"suite": "s", "max_new_tokens": 2, "prompts": [{"id": "paris", "text": TEXT}]}
    contract = {
        "contract": "alone",
        "reference": {"engine": "transformers"},
        "candidates": {"llama": {"engine": "llamacpp"}},
        "models": {"published": models},
        "matrix": {"mode": ["prefill"]},
        "suites": ["suite.yaml"],
        "bands": [{"match": 0.4, "wrong": 0.7, "basis": "ggml rounds activations to 8 bits", "allow": 0.3}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 0.02, "basis": "ggml rounds activations to 8 bits"}],
        "error_bar": {"vary": []},
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    (folder / "alone.parity.yaml").write_text(yaml.safe_dump(contract | more))


def other_rope_base(file: Path, out: Path, base: float) -> Path:
    """A copy of the file with another rope base in its metadata; no tensor is touched."""
    key = f"{GgufFile(file).value('general.architecture')}.rope.freq_base"
    field = GgufFile(file).fields[key]
    shutil.copy(file, out)
    with out.open("r+b") as copy:
        copy.seek(field.offset + 8 + len(key) + 4)
        copy.write(struct.pack("<f", base))
    assert GgufFile(out).value(key) == base
    return out


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_a_published_file_alone_is_checked_against_its_own_dequantized_weights(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, derived: Path
) -> None:
    write_contract(tmp_path, str(request.getfixturevalue(name)))
    done = logitproof(tmp_path, derived, "check", "alone.parity.yaml", "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (cell,) = json.loads(done.stdout)["cells"]
    assert cell["status"] in ("MATCH", "TIE-FLIP")
    assert sum(cell["counts"].values()) >= 7


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_the_tokenizer_made_of_a_published_file_cuts_as_llama_cpp_does(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, derived: Path
) -> None:
    file = request.getfixturevalue(name)
    done = logitproof(tmp_path, derived, "tokenizer", f"transformers:{file}", f"llamacpp:{file}", "--fuzzed", "60", "--json")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert answer["tried"] >= 95 and answer["differences"] == [] and answer["trips"] == []


def test_a_rope_base_changed_in_a_file_is_named_before_anything_runs(smollm2: Path, tmp_path: Path, derived: Path) -> None:
    bad = other_rope_base(smollm2, tmp_path / "bad.gguf", 10000.0)
    write_contract(
        tmp_path, {"original": str(smollm2), "Q4_1": str(bad)}, matrix={"mode": ["prefill"], "quantization": ["Q4_1"]}
    )
    done = logitproof(tmp_path, derived, "check", "alone.parity.yaml", "--json")
    assert done.returncode == 2
    assert "PF201 rope base" in done.stdout and "reference 100000.0, candidate 10000.0" in done.stdout
    assert done.stdout.count("PF20") == done.stdout.count("PF201")
