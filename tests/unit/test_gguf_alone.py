"""What is made of a GGUF file's metadata without any framework, and a contract that names files alone."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from logitproof.contract.contract import EngineUse
from logitproof.contract.opened import open_contract
from logitproof.errors import ModelError
from logitproof.files.gguf import GgufFile
from logitproof.gguf.folder import RECORD, derive, folder_of
from logitproof.gguf.layout import Planned
from logitproof.gguf.metadata import Metadata
from logitproof.gguf.rotary import llama3_rope_factors
from logitproof.gguf.settings import UnknownArchitecture
from logitproof.gguf.settings_common import llama3_scaling
from logitproof.gguf.side import open_side
from logitproof.gguf.undo import undone
from logitproof.gguf.write import to_gguf
from logitproof.jobs.sides import config_of, path_of
from logitproof.preflight import Finding, Setting, Setup
from logitproof.preflight.config import Config
from logitproof.preflight.precision import Precision

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from _set_up_faults import DROP, edit_gguf  # noqa: E402

PROBES = ROOT / "src/logitproof/acid/probes"


@pytest.fixture(autouse=True)
def derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITPROOF_DERIVED", str(tmp_path / "derived"))


def of_probe(name: str, folder: Path, **keys: Any) -> Path:
    """A probe as GGUF, with keys of its architecture changed."""
    file = to_gguf(PROBES / name, folder / f"{name}.gguf", "F32")
    prefix = str(GgufFile(file).value("general.architecture"))
    changes = {key if key.startswith("general.") else f"{prefix}.{key}": value for key, value in keys.items()}
    return edit_gguf(file, folder / f"{name}-edited.gguf", keys=changes) if keys else file


def test_what_a_gemma_3_file_leaves_out_is_what_llama_cpps_loader_takes_and_is_listed(tmp_path: Path) -> None:
    silent = {"attention.sliding_window_pattern": DROP, "rope.freq_base_swa": DROP}
    made = derive(of_probe("gemma3", tmp_path, **silent))
    assert made.config["layer_types"] == ["sliding_attention"] * 3
    assert made.config["rope_parameters"]["sliding_attention"]["rope_theta"] == 10000.0
    assert {"attention.sliding_window_pattern", "rope.freq_base_swa"} <= {entry.key for entry in made.assumed}
    told = derive(of_probe("gemma3", tmp_path))
    assert told.config["layer_types"] == ["sliding_attention", "full_attention", "sliding_attention"]
    assert not {"attention.sliding_window_pattern", "rope.freq_base_swa"} & {entry.key for entry in told.assumed}


def test_a_silent_file_is_no_fault_where_the_loader_takes_what_the_config_says(tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    shutil.copytree(PROBES / "gemma3", folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    silent = {"attention.sliding_window_pattern": DROP, "rope.freq_base_swa": DROP}
    file = of_probe("gemma3", tmp_path, **silent)
    wrong = [row for row in Config().examine(setup(folder, file)) if isinstance(row, Finding)]
    assert [row.code for row in wrong] == ["PF209"], "llama.cpp would give every one of three layers a window"
    (folder / "config.json").write_text(json.dumps(config | {"layer_types": ["sliding_attention"] * 3}), "utf-8")
    rows = list(Config().examine(setup(folder, file)))
    assert not [row for row in rows if isinstance(row, Finding)]
    assert sum(isinstance(row, Setting) and "llama.cpp's loader" in row.note for row in rows) == 2


def test_an_architecture_that_is_not_known_says_what_still_works(tmp_path: Path) -> None:
    file = of_probe("qwen3", tmp_path, **{"general.architecture": "rwkv9"})
    with pytest.raises(UnknownArchitecture) as refused:
        folder_of(file)
    first = str(refused.value).splitlines()[0]
    assert "rwkv9" in first and "llama.cpp against llama.cpp" in first and "tokenizer" in first
    opened = contract(tmp_path, str(file), "llamacpp")
    assert config_of(opened, "m") is None and path_of(opened, "m") == file


def test_a_folder_belongs_to_a_content_whatever_the_file_is_called(tmp_path: Path) -> None:
    file = of_probe("qwen3", tmp_path)
    copy, link = Path(shutil.copy(file, tmp_path / "other-Q8_0.gguf")), tmp_path / "blob"
    link.symlink_to(file)
    assert folder_of(file) == folder_of(copy) == folder_of(link)
    changed = edit_gguf(file, tmp_path / "changed.gguf", keys={"qwen3.rope.freq_base": 5000.0})
    assert folder_of(changed) != folder_of(file)
    assert sorted(path.name for path in folder_of(file).iterdir()) == sorted(
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", RECORD]
    )


def test_a_key_that_the_config_cannot_say_is_listed_as_not_read(tmp_path: Path) -> None:
    made = derive(of_probe("qwen3", tmp_path, **{"attention.new_trick": 3.0, "attention.other_trick": 0.0}))
    assert made.unread == ("attention.new_trick",)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("qwen3", {"attention.head_count": 0}),
        ("gemma4", {"attention.sliding_window_pattern": [True] * 5}),
        ("deepseek-v3", {"expert_gating_func": 7}),
        ("deepseek-v2", {"attention.key_length_mla": DROP}),
        ("mamba2", {"ssm.time_step_rank": 0}),
        ("nemotron-h", {"attention.head_count_kv": [0, 0, 2, 4, 0]}),
        ("granite-hybrid", {"rope.scaling.finetuned": True}),
        ("exaone4", {"attention.sliding_window": 20}),
        ("lfm2", {"attention.head_count_kv": [0]}),
        ("kimi-linear", {"expert_gating_func": 1}),
    ],
)
def test_settings_that_no_model_of_a_family_has_are_refused_in_one_sentence(
    name: str, keys: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as refused:
        derive(of_probe(name, tmp_path, **keys))
    assert str(tmp_path) in str(refused.value.where) and "remedy" in str(refused.value)


def test_a_vocabulary_that_is_not_known_costs_the_tokenizer_alone(tmp_path: Path) -> None:
    file = to_gguf(PROBES / "qwen3", tmp_path / "a.gguf", "F32")
    odd = edit_gguf(file, tmp_path / "b.gguf", keys={"tokenizer.ggml.pre": "of-tomorrow"})
    made = derive(odd)
    assert "of-tomorrow" in made.no_tokenizer and "tokenizer.json" not in made.texts and "config.json" in made.texts


@pytest.mark.parametrize(("factor", "high", "context"), [(8.0, 4.0, 8192), (32.0, 4.0, 8192), (8.0, 4.0, 128), (4.0, 2.0, 64)])
def test_llama3_scaling_is_found_in_its_divisors(tmp_path: Path, factor: float, high: float, context: int) -> None:
    meta = Metadata(GgufFile(of_probe("llama3", tmp_path)))
    rope = {
        "rope_theta": 500000.0, "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }  # fmt: skip
    divisors = llama3_rope_factors(rope, 64)
    found = llama3_scaling(meta, 500000.0, 64, divisors)
    assert np.allclose(llama3_rope_factors(found, 64), divisors, rtol=1e-6)
    with pytest.raises(ModelError, match="no `llama3` scaling gives"):
        llama3_scaling(meta, 500000.0, 64, np.linspace(1, 3, 32, dtype=np.float32))


def test_a_change_of_values_that_is_not_known_backwards_is_refused() -> None:
    planned = Planned("blk.0.attn_norm.weight", ("norm",), lambda arrays: arrays[0] ** np.float32(2))
    with pytest.raises(ModelError, match="not known backwards"):
        list(undone(planned, np.ones(8, np.float32), lambda name: (8,)))


def contract(folder: Path, models: Any, reference: str = "transformers") -> Any:
    (folder / "suite.yaml").write_text(yaml.safe_dump({"suite": "s", "prompts": [{"id": "a", "text": "hello"}]}))
    values = {
        "contract": "c", "reference": {"engine": reference}, "candidates": {"llama": {"engine": "llamacpp"}},
        "models": {"m": models}, "suites": ["suite.yaml"],
        "bands": [{"match": 0.1, "wrong": 0.2, "basis": "a figure for this test"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 0.1, "basis": "a figure for this test"}],
    }  # fmt: skip
    (folder / "c.parity.yaml").write_text(yaml.safe_dump(values))
    return open_contract(folder / "c.parity.yaml")


def test_one_path_is_a_whole_model_and_files_without_an_original_are_all_meant(tmp_path: Path) -> None:
    alone = contract(tmp_path, "file.gguf").contract
    assert alone.models == {"m": {"original": "file.gguf"}} and alone.matrix.quantization == ["original"]
    both = contract(tmp_path, {"Q8_0": "a.gguf", "Q4_1": "b.gguf"}).contract
    assert sorted(both.matrix.quantization) == ["Q4_1", "Q8_0"]


def setup(original: Path, file: Path, reference: str = "transformers", candidate: str = "llamacpp") -> Setup:
    uses = EngineUse(engine=reference), EngineUse(engine=candidate)
    return Setup("c", "m", "F32", *uses, open_side(original), open_side(file), ())


def test_two_files_in_one_engine_are_a_fair_question_and_in_two_engines_are_not(tmp_path: Path) -> None:
    better = to_gguf(ROOT / "zoo/qwen3", tmp_path / "a.gguf", "Q8_0")
    other = Path(shutil.copy(better, tmp_path / "b.gguf"))
    for candidate, codes in (("llamacpp", []), ("command", ["PF402"])):
        rows = list(Precision().examine(setup(better, other, "llamacpp", candidate)))
        assert [row.code for row in rows if isinstance(row, Finding)] == codes
