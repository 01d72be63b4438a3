"""Configs of transformers 5 in the words of those before it, for engines that know no others."""

from __future__ import annotations

import json
from pathlib import Path

from logitproof import catalog
from logitproof.engines._older_config import older_names, with_settings
from logitproof.jobs import environments

SCALED = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}


def test_what_is_said_in_other_words_is_said_in_the_older_ones() -> None:
    found = older_names({"rope_parameters": {**SCALED, "partial_rotary_factor": 0.5}, "num_local_experts": 6})
    assert found["rope_theta"] == 5e5 and found["partial_rotary_factor"] == 0.5 and found["num_experts"] == 6
    assert found["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0, "partial_rotary_factor": 0.5}
    assert older_names({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}) == {"rope_theta": 1e6}


def test_what_an_older_config_says_itself_stands() -> None:
    assert older_names({"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": SCALED}) == {}
    assert older_names({}) == {}


def test_full_attention_at_every_nth_layer_is_named_and_no_other_order() -> None:
    def kinds(*full: int) -> dict[str, list[str]]:
        return {"layer_types": ["full_attention" if at in full else "linear_attention" for at in range(8)]}

    assert older_names(kinds(3, 7)) == {"full_attention_interval": 4}
    assert older_names(kinds(1, 3, 5, 7)) == {"full_attention_interval": 2}
    assert older_names(kinds(0, 4)) == {}
    assert older_names({"layer_types": ["full_attention"] * 4}) == {}


def test_a_folder_with_other_settings_leaves_the_model_s_own_as_it_is(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "rope_theta": 1.0}))
    (model / "model.safetensors").write_bytes(b"weights")
    made = with_settings(model, {"rope_theta": 2.0}, tmp_path / "made")
    assert json.loads((made / "config.json").read_text()) == {"model_type": "llama", "rope_theta": 2.0}
    assert (made / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((model / "config.json").read_text())["rope_theta"] == 1.0


def test_engines_of_an_environment_of_their_own_pin_every_package() -> None:
    names = [name for name in catalog.entries("engines") if environments.requirements(name)]
    assert {"mlx", "ctranslate2", "tinygrad", "mistralrs", "vllm"} <= set(names)
    for name in names:
        file = environments.requirements(name)
        assert file is not None
        pins = [line for line in file.read_text("utf-8").splitlines() if line and not line.startswith("#")]
        assert all("==" in pin for pin in pins), name
        assert {pin.partition("==")[0] for pin in pins} >= {"numpy", "pydantic"}, name
