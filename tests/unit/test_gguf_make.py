"""`logitproof gguf make`: a GGUF of a synthetic model, with a tokenizer or without, in any type that can be quantized."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.files.gguf import GgufFile
from logitproof.runs.workspace import Workspace

ROOT = Path(__file__).parents[2]


def save_model(folder: Path) -> None:
    """A Qwen3 of one layer without a tokenizer, 64 tokens and rows of 256, so that every type fits."""
    import torch
    import transformers

    config = transformers.Qwen3Config(
        hidden_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=64, intermediate_size=256, vocab_size=64,
        num_hidden_layers=1, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Qwen3ForCausalLM(config).float().eval().save_pretrained(folder)


def made(*words: Any) -> str:
    result = CliRunner().invoke(main, ["gguf", "make", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("quantization", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M"])
def test_a_model_without_a_tokenizer_is_made_in_any_type(tmp_path: Path, quantization: str) -> None:
    save_model(tmp_path / "model")
    assert "without a tokenizer" in made(tmp_path / "model", tmp_path / "m.gguf", "--type", quantization)
    file = GgufFile(tmp_path / "m.gguf")
    assert file.value("tokenizer.ggml.model") == "no_vocab" and file.value("qwen3.vocab_size") == 64


def test_it_runs_in_llama_cpp_against_the_folder_that_it_was_made_of(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    made(tmp_path / "model", tmp_path / "m.gguf")
    prompt = {"id": "ids", "token_ids": [3, 14, 15, 9, 26, 53, 58]}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"suite": "s", "max_new_tokens": 2, "prompts": [prompt]}))
    basis = "two float32 engines of one model"
    contract = {
        "contract": "made", "reference": {"engine": "transformers"}, "candidates": {"mine": {"engine": "llamacpp"}},
        "models": {"m": {"original": "model", "F32": "m.gguf"}}, "suites": ["s.yaml"],
        "matrix": {"quantization": ["F32"], "mode": ["prefill"]},
        "bands": [{"match": 1e-3, "wrong": 1e-1, "basis": basis}], "error_bar": {"vary": []},
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": basis}],
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(contract))
    report = Workspace(tmp_path / "run").check(open_contract(tmp_path / "c.yaml"))
    assert report.verdict.status == "PASS", report.verdict.reason


def test_a_tokenizer_is_taken_along_and_one_of_no_merges_is_no_fault(tmp_path: Path) -> None:
    folder = tmp_path / "qwen3"
    folder.mkdir()
    for path in (ROOT / "zoo/qwen3").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    assert "with its tokenizer" in made(folder, tmp_path / "m.gguf")
    file = GgufFile(tmp_path / "m.gguf")
    assert "tokenizer.ggml.merges" in file.fields and list(file.value("tokenizer.ggml.merges")) == []


def test_a_type_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    result = CliRunner().invoke(main, ["gguf", "make", str(tmp_path / "model"), str(tmp_path / "m.gguf"), "--type", "Q9"])
    assert result.exit_code == 2 and "Q9" in result.output
    assert not (tmp_path / "m.gguf").exists()
