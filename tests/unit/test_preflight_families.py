"""Every setting that a family's file has is compared with the folder: a wrong value is found by its name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.contract import EngineUse
from logitproof.errors import ContractError
from logitproof.files.gguf import GgufFile
from logitproof.gguf.families import layout_of
from logitproof.gguf.layout import WHOLE_KEYS
from logitproof.gguf.side import open_side
from logitproof.gguf.write import to_gguf
from logitproof.preflight import Finding, Setup
from logitproof.preflight._keys import KNOWN, unknown_fields
from logitproof.preflight.config import Config
from logitproof.weights.config import read_config

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from _set_up_faults import edit_gguf  # noqa: E402

PROBES = sorted(config.parent for config in ROOT.glob("src/logitproof/acid/probes/*/config.json"))
SAID_BY_OTHERS = {"full_attention_interval"}
"""Keys of no effect where the file has the key that says the same."""


def written() -> Iterator[Path]:
    for folder in PROBES:
        try:
            layout_of(read_config(folder), "")
        except ContractError:
            continue
        yield folder


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, list):
        return [changed(value[0]), *value[1:]]
    if isinstance(value, bool):
        return not value
    return "other" if isinstance(value, str) else value * 2 + 1


@pytest.mark.parametrize("folder", [*written()], ids=lambda folder: folder.name)
def test_a_wrong_value_of_any_key_is_found_by_its_name(folder: Path, tmp_path: Path) -> None:
    file = to_gguf(folder, tmp_path / "right.gguf", "F32")
    assert not findings(folder, file)
    prefix = f"{GgufFile(file).value('general.architecture')}."
    keys = [name for name in GgufFile(file).fields if name.startswith((prefix, *WHOLE_KEYS))]
    missed, unnamed = [], []
    for name in keys:
        wrong = edit_gguf(file, tmp_path / "wrong.gguf", keys={name: changed(GgufFile(file).value(name))})
        fields = {finding.field: finding.setting for finding in findings(folder, wrong)}
        key = name.removeprefix(prefix)
        if key not in SAID_BY_OTHERS:
            missed += [] if name in fields else [name]
            unnamed += [] if key in KNOWN else [name]
    assert not missed and not unnamed, (missed, unnamed)


OF_ANOTHER_KIND = {
    "mamba2": {"intermediate_size", "num_attention_heads", "time_step_rank"},
    "nemotron-h": {"time_step_min"},
}
"""Fields that a family's model does not have, or that GGUF has no word for: they are listed and not compared."""


@pytest.mark.parametrize("folder", [*written()], ids=lambda folder: folder.name)
def test_every_field_that_may_change_a_logit_is_looked_at_by_the_familys_layout(folder: Path) -> None:
    assert unknown_fields(open_side(folder)).keys() == OF_ANOTHER_KIND.get(folder.name, set())


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("mamba2", "time_step_limit", [0.001, 0.1]),
        ("falcon-h1", "time_step_limit", [0.0, 0.1]),
        ("granite-hybrid", "time_step_limit", [0.001, {"__float__": "Infinity"}]),
        ("mamba2", "hidden_act", "gelu"),
        ("nemotron-h", "mamba_hidden_act", "gelu"),
        ("nemotron-h", "use_conv_bias", False),
        ("llama4", "layer_types", ["full_attention"] * 4),
        ("gpt-oss", "attention_bias", False),
        ("qwen2-moe", "qkv_bias", False),
    ],
)
def test_what_a_file_cannot_say_is_refused_by_the_layout(name: str, field: str, value: object) -> None:
    config = read_config(next(folder for folder in PROBES if folder.name == name))
    with pytest.raises(ContractError, match="llama.cpp has no such setting"):
        layout_of(config | {field: value}, "config.json")


def findings(folder: Path, file: Path) -> list[Finding]:
    uses = EngineUse(engine="transformers"), EngineUse(engine="llamacpp")
    setup = Setup("c", "m", "F32", *uses, open_side(folder), open_side(file), ())
    return [row for row in Config().examine(setup) if isinstance(row, Finding)]
