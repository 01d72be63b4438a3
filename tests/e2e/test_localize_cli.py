"""`logitproof localize` and `decompose` on a finished run, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ZOO = Path(__file__).parents[2] / "zoo"
CONTRACT = {
    "contract": "broken",
    "reference": {"engine": "transformers", "options": {"dtype": "float32", "threads": 1}},
    "candidates": {
        "right": {"engine": "llamacpp", "options": {"threads": 1, "kv_type": "f32"}},
        "wrong": {"engine": "transformers", "options": {"threads": 1, "mutation": "rope.pairing.interleaved"}},
    },
    "models": {"qwen3": {"original": str(ZOO / "qwen3"), "Q8_0": str(ZOO / "gguf/qwen3-Q8_0.gguf")}},
    "suites": ["one.yaml"],
    "matrix": {"quantization": ["Q8_0"], "mode": ["prefill"]},
    "bands": [{"match": 0.08, "wrong": 0.3, "basis": "8-bit weights against the original ones"}],
    "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 0.01, "basis": "far below any bug"}],
}
SUITE = {"suite": "one", "max_new_tokens": 2, "prompts": [{"id": "a", "text": "The library opens at nine and closes at"}]}


def logitproof(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", *map(str, args)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "one.yaml").write_text(yaml.safe_dump(SUITE), "utf-8")
    (folder / "broken.parity.yaml").write_text(yaml.safe_dump(CONTRACT), "utf-8")
    said = logitproof("check", "broken.parity.yaml", cwd=folder)
    assert said.returncode == 1, said.stderr
    return folder


def test_the_wrong_cell_of_a_run_is_localized_on_the_weights_that_it_was_given(run: Path) -> None:
    said = logitproof("localize", "broken.parity.yaml", "--out", "where", cwd=run)
    assert said.returncode == 1, said.stderr
    assert "wrong: first wrong at layers.0.attn.q_rope" in said.stdout
    assert "known bug: rope.pairing.interleaved" in said.stdout
    (folder,) = (run / "where").iterdir()
    found = json.loads((folder / "localization.json").read_text("utf-8"))
    leaves = {tap.partition("attn.")[2] for tap in found["located"][0]["broken"]}
    assert leaves == {"q_rope", "k_rope"}, "quantization is no finding"
    assert "<table" in (folder / "localization.html").read_text("utf-8")


def test_a_right_cell_is_cleared_operation_by_operation(run: Path) -> None:
    cells = json.loads((run / "runs/broken/verdict.json").read_text("utf-8"))["cells"]
    name = next(one["id"] for one in cells if "right" in one["id"])
    said = logitproof("localize", "runs/broken", "--cell", name, cwd=run)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "every operation is the reference's" in said.stdout and "what is wrong is in the file" in said.stdout


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--cell", "nobody"), "no cell is called 'nobody'"),
        (("--prompt", "zz"), "no compared prompt 'zz'"),
        (("--layers", "7-9"), "the reference has no layer 7, 8, 9"),
    ],
)
def test_a_question_about_what_is_not_there_is_refused(run: Path, args: tuple[str, ...], text: str) -> None:
    said = logitproof("localize", "broken.parity.yaml", *args, cwd=run)
    assert said.returncode == 2 and text in said.stderr, said.stderr
    assert "Traceback" not in said.stderr


def test_what_quantization_took_and_what_the_engine_adds_are_told_apart(run: Path) -> None:
    said = logitproof("decompose", "runs/broken", "--runs", "3", "--json", cwd=run)
    assert said.returncode == 1, said.stderr
    right, wrong = (next(one for one in json.loads(said.stdout)["cells"] if name in one["cell"]) for name in ("right", "wrong"))
    assert right["quantization"] == wrong["quantization"] and 1e-5 < right["quantization"]["kl_divergence"] < 1e-2
    assert 0 < right["share"] < 0.7 and wrong["share"] > 0.9
    assert wrong["engine"]["kl_divergence"] > 10 * right["engine"]["kl_divergence"] > 0
    assert right["inside"] is True and wrong["inside"] is False, "a part outside of its band is a failure"
    assert right["quantization_band"] == wrong["quantization_band"]
    low, high = right["quantization_band"]["rms_delta_logit"]
    assert wrong["engine_band"]["rms_delta_logit"][1] < 1e-4 < right["engine_band"]["rms_delta_logit"][1], "float32, and 8 bits"
    assert 0 < low <= right["quantization"]["rms_delta_logit"] <= high < 1.1 * low


def test_bands_are_left_out_where_nobody_wants_them(run: Path) -> None:
    said = logitproof("decompose", "runs/broken", "--runs", "0", cwd=run)
    assert said.returncode == 0 and "inside" not in said.stdout.lower() and "share" in said.stdout
    assert logitproof("decompose", "runs/broken", "--runs", "1", cwd=run).returncode == 2


def test_a_folder_that_is_no_run_cannot_be_decomposed(run: Path) -> None:
    said = logitproof("decompose", ".", cwd=run)
    assert said.returncode == 2 and "no run.json" in said.stderr
