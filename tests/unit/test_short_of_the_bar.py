"""`quality` says why a candidate falls short, and `lora` what a folder is instead of an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.errors import ContractError, ModelError
from logitproof.gguf.adapter import adapter_to_gguf
from logitproof.weights.adapter import read_adapter

LAST = -1


def quality(project: Any, **changes: Any) -> tuple[int, str, dict[str, str]]:
    """Exit code, the last line, and what each section says."""
    out = project.folder / "runs"
    done = CliRunner().invoke(main, ["quality", str(project.contract(**changes)), "--no-sampling", "--out", str(out)])
    cell = json.loads((out / "quality/quality.json").read_text("utf-8"))["cells"][0]
    return done.exit_code, done.stdout.strip().splitlines()[LAST], {part["name"]: part["said"] for part in cell["sections"]}


def test_a_mode_that_nobody_asked_for_is_named_with_the_key_to_write(project: Any) -> None:
    code, last, sections = quality(project, matrix={"mode": ["prefill"]})
    assert code == 1 and "0 of 1 meet their bar" in last
    assert "greedy not measured: the contract has no greedy cell of it: name greedy under `matrix: mode`" in last
    assert "adapter" not in last and "cache" not in last, "what makes no bar keeps nobody from it"
    assert sections["cache"].startswith("the contract has no decode cell")


def test_an_engine_that_fails_is_the_reason_and_not_the_contract(project: Any) -> None:
    dead = {"mine": {"engine": "command", "options": {"argv": ["/bin/false"]}}}
    code, last, sections = quality(project, matrix={"mode": ["prefill", "greedy"]}, candidates=dead)
    assert code == 3 and "set-up missed: " in last
    assert all("the contract has no prefill" not in said for said in sections.values())
    assert "nothing was compared in prefill: " in sections["teacher forcing"] or "prefill" not in sections["teacher forcing"]


def test_a_candidate_that_is_far_away_is_told_by_its_figure(project: Any) -> None:
    far = {"mine": {"engine": "toy", "options": {"noise": 3.0}}}
    code, last, _ = quality(project, matrix={"mode": ["prefill", "greedy"]}, candidates=far)
    assert code == 1 and "teacher forcing missed: mean KL" in last and "at most 0.01" in last


def folder(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("files", "text", "remedy"),
    [
        ({}, "is no PEFT adapter: it has no adapter_config.json", "save_pretrained"),
        ({"config__json": "{}"}, "is a whole model and no PEFT adapter", "save_pretrained"),
        ({"adapter_config__json": "{}"}, "has adapter_config.json and no adapter_model.safetensors", "save_pretrained"),
        ({"adapter_config__json": "{}", "adapter_model__bin": "x"}, "adapter_model.bin is a pickle", "safe_serialization"),
    ],
)
def test_a_folder_that_is_no_adapter_is_called_what_it_is(
    tmp_path: Path, files: dict[str, str], text: str, remedy: str
) -> None:
    with pytest.raises(ModelError) as caught:
        read_adapter(folder(tmp_path / "ad", **files))
    assert text in caught.value.text and remedy in caught.value.remedy and caught.value.where == str(tmp_path / "ad")


def test_a_checkpoint_folder_below_is_pointed_to(tmp_path: Path) -> None:
    folder(tmp_path / "out" / "checkpoint-7", adapter_config__json="{}")
    with pytest.raises(ModelError) as caught:
        read_adapter(tmp_path / "out")
    assert caught.value.remedy.endswith("out/checkpoint-7")


def test_lora_says_which_of_its_two_folders_is_wrong(tmp_path: Path) -> None:
    model = folder(tmp_path / "model", config__json="{}")
    adapter = folder(tmp_path / "ad", adapter_config__json="{}", adapter_model__safetensors="")
    with pytest.raises(ContractError, match="wrong way round"):
        adapter_to_gguf(model, adapter, tmp_path / "out.gguf")
    with pytest.raises(ContractError, match="is no HF model: it has no config.json"):
        adapter_to_gguf(adapter, folder(tmp_path / "empty"), tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()
