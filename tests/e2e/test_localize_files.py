"""Localization looks into files: a wrong one is found whatever its type, and its name decides nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from safetensors.torch import load_file, save_file

from logitproof.gguf.write import to_gguf

ZOO = Path(__file__).parents[2] / "zoo"
PROMPT = "The library opens at nine and closes at"
CONTRACT = {
    "contract": "wrong",
    "reference": {"engine": "transformers", "options": {"threads": 1}},
    "candidates": {"lc": {"engine": "llamacpp", "options": {"threads": 1, "kv_type": "f32"}}},
    "models": {"qwen3": {"original": str(ZOO / "qwen3"), "F32": "model-F32.gguf"}},
    "suites": ["one.yaml"],
    "matrix": {"quantization": ["F32"], "mode": ["prefill"]},
    "preflight": {"skip": ["PF104"], "reason": "the file is wrong on purpose"},
    "bands": [{"match": 0.001, "wrong": 0.01, "basis": "one model in float32 on both sides"}],
    "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 0.001, "basis": "far below any bug"}],
}
SUITE = {"suite": "one", "max_new_tokens": 2, "prompts": [{"id": "a", "text": PROMPT}]}


def logitproof(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", *map(str, args)]
    return subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def copy_of(folder: Path) -> Path:
    return Path(shutil.copytree(ZOO / "qwen3", folder, copy_function=shutil.copyfile))


def test_a_wrong_f32_file_is_located_from_its_run(tmp_path: Path) -> None:
    """Float32 weights are the model itself: a file that differs is an error, and not what quantization took."""
    folder = copy_of(tmp_path / "changed")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1.5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    to_gguf(folder, tmp_path / "model-F32.gguf", "F32")
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(SUITE), "utf-8")
    (tmp_path / "wrong.parity.yaml").write_text(yaml.safe_dump(CONTRACT), "utf-8")
    assert logitproof("check", "wrong.parity.yaml", cwd=tmp_path).returncode == 1
    said = logitproof("localize", "runs/wrong", cwd=tmp_path)
    assert "first wrong at layers.1.mlp.up" in said.stdout, said.stdout + said.stderr
    assert said.returncode == 1


def test_the_same_bytes_under_any_name_get_the_same_answer(tmp_path: Path) -> None:
    folder = copy_of(tmp_path / "changed")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": config["rms_norm_eps"] * 10}), "utf-8")
    file = to_gguf(folder, tmp_path / "eps-F32.gguf", "F32")
    answers = set()
    for name in ("eps-F32.gguf", "eps-Q4_K_M"):
        if not (tmp_path / name).exists():
            (tmp_path / name).hardlink_to(file)
        candidate = f"llamacpp:{name}?kv_type=f32&threads=1&config={ZOO / 'qwen3'}"
        said = logitproof("localize", f"transformers:{ZOO / 'qwen3'}", candidate, "--text", PROMPT, cwd=tmp_path)
        answers.add((said.returncode, said.stdout.replace(name, "FILE").split("(", 1)[0]))
        assert "norm.eps_value" in said.stdout, said.stdout + said.stderr
    assert len(answers) == 1, answers
