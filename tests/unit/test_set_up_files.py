"""Which files a model is (its index decides), and that no key or field which nothing reads is passed over in silence."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from logitproof import catalog
from logitproof.contract.contract import EngineUse
from logitproof.errors import ModelError
from logitproof.gguf.side import open_side
from logitproof.gguf.tensors import FolderTensors
from logitproof.gguf.write import to_gguf
from logitproof.preflight import UNKNOWN_HERE, Finding, Preflight, Setting, Setup
from logitproof.preflight import Examined as Pair
from logitproof.weights.checkpoint import read_checkpoint
from logitproof.weights.model import open_model, stray_weights, weight_files
from logitproof.weights.stored import stored_types

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

from _set_up_faults import DROP, edit_folder, edit_gguf  # noqa: E402

QWEN = ROOT / "zoo/qwen3"
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 256}
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with YaRN as a folder and as a right GGUF file."""
    place = tmp_path_factory.mktemp("yarn")
    folder = edit_folder(QWEN, place / "yarn", config=lambda config: config.update(rope_parameters=YARN))
    return folder, to_gguf(folder, place / "yarn.gguf", "F32")


def rows(original: Path, file: Path) -> Iterator[Setting | Finding]:
    uses = EngineUse(engine="transformers"), EngineUse(engine="llamacpp")
    setup = Setup("mine", "m", "F32", *uses, open_side(original), open_side(file), ())
    for name in catalog.entries("preflight"):
        yield from catalog.load("preflight", name)().examine(setup)


def codes(original: Path, file: Path) -> set[str]:
    return {row.code for row in rows(original, file) if isinstance(row, Finding)}


def unknown(original: Path, file: Path) -> dict[str, tuple[str, str]]:
    settings = (row for row in rows(original, file) if isinstance(row, Setting) and row.note == UNKNOWN_HERE)
    return {row.name: (row.reference, row.candidate) for row in settings}


def sharded(folder: Path) -> None:
    """The model of a folder in two shards with an index."""
    held = load_file(folder / "model.safetensors")
    names = sorted(held)
    (folder / "model.safetensors").unlink()
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: held[name] for name in part}, folder / file)
    table = {name: file for file, part in parts.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"weight_map": table}))


def single(folder: Path) -> None:
    """As it is: one file."""


@pytest.mark.parametrize("shape", [single, sharded])
@pytest.mark.parametrize("stray", ["consolidated.safetensors", "adapter_model.safetensors", "original/model.safetensors"])
def test_weights_beside_a_model_are_noted_and_are_no_finding_about_it(
    tmp_path: Path, shape: Callable[[Path], None], stray: str
) -> None:
    folder = edit_folder(QWEN, tmp_path / "m", tensors=lambda held: None)
    shape(folder)
    before = set(FolderTensors(folder).names)
    (folder / stray).parent.mkdir(exist_ok=True)
    save_file(
        {"layers.0.attention.wq.weight": np.ones((4, 4), np.float16), "tok_embeddings.weight": np.ones(3)}, folder / stray
    )

    assert open_model(folder).format == "safetensors"
    assert set(FolderTensors(folder).names) == set(read_checkpoint(folder)) == before
    assert stray_weights(folder) == [stray]
    assert stored_types(folder) == {"F32"}
    seen = list(rows(folder, ROOT / "zoo/gguf/qwen3-F32.gguf")) if (ROOT / "zoo/gguf/qwen3-F32.gguf").is_file() else []
    assert [row for row in seen if isinstance(row, Finding)] == []
    assert not seen or [row.reference for row in seen if row.name == "weights beside the model"] == [stray]  # type: ignore[union-attr]


def test_a_damaged_file_beside_a_model_is_no_damage_of_the_model(tmp_path: Path) -> None:
    folder = edit_folder(QWEN, tmp_path / "m", tensors=lambda held: None)
    (folder / "consolidated.safetensors").write_bytes(b"not a safetensors file")
    assert open_model(folder).architecture == "Qwen3ForCausalLM"


def test_two_checkpoints_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = edit_folder(QWEN, tmp_path / "m", tensors=lambda held: None)
    whole = (folder / "model.safetensors").read_bytes()
    sharded(folder)
    (folder / "model.safetensors").write_bytes(whole)
    with pytest.raises(ModelError, match="disagree about which"):
        open_model(folder)


def test_weights_that_nothing_names_are_refused_by_their_name(tmp_path: Path) -> None:
    folder = edit_folder(QWEN, tmp_path / "m", tensors=lambda held: None)
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    with pytest.raises(ModelError, match=r"weights\.safetensors is named by neither"):
        open_model(folder)
    with pytest.raises(ModelError):
        weight_files(folder)


def test_an_adapter_in_the_folder_of_its_model_is_refused(tmp_path: Path) -> None:
    folder = edit_folder(QWEN, tmp_path / "m", tensors=lambda held: None)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"adapter_config\.json: transformers would apply"):
        open_model(folder)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("rope.scaling.attn_factor", 1.277, "PF202"),
        ("rope.scaling.yarn_ext_factor", 16.0, "PF202"),
        ("rope.scaling.yarn_attn_factor", 0.5, "PF202"),
        ("rope.scaling.yarn_log_multiplier", 0.1, "PF202"),
        ("rope.scaling.yarn_beta_fast", 16.0, "PF202"),
        ("rope.scaling.yarn_beta_slow", 2.0, "PF202"),
        ("rope.scaling.original_context_length", 4096, "PF202"),
        ("rope.scaling.factor", 8.0, "PF202"),
        ("rope.scaling.factor", DROP, "PF202"),
        ("rope.scaling.type", DROP, "PF202"),
        ("attention.temperature_scale", 0.2, "PF213"),
        ("attention.value_scale", 0.5, "PF213"),
        ("attention.clamp_kqv", 8.0, "PF215"),
        ("attention.causal", False, "PF215"),
    ],
)
def test_a_key_that_a_right_file_has_not_is_compared_with_what_an_engine_takes_without_it(
    yarn: tuple[Path, Path], tmp_path: Path, key: str, value: Any, code: str
) -> None:
    folder, file = yarn
    edited = edit_gguf(file, tmp_path / "edited.gguf", keys={f"qwen3.{key}": value})
    (finding,) = (row for row in rows(folder, edited) if isinstance(row, Finding))
    assert (finding.code, finding.field) == (code, f"qwen3.{key}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope.scaling.attn_factor", 1.0),
        ("rope.scaling.yarn_ext_factor", 1.0),
        ("rope.scaling.yarn_beta_fast", 32.0),
        ("rope.scaling.finetuned", False),
        ("attention.value_scale", 0.0),
        ("attention.causal", True),
    ],
)
def test_a_key_that_says_what_is_so_anyway_is_no_finding(yarn: tuple[Path, Path], tmp_path: Path, key: str, value: Any) -> None:
    folder, file = yarn
    edited = edit_gguf(file, tmp_path / "edited.gguf", keys={f"qwen3.{key}": value})
    assert codes(folder, edited) == set()
    assert unknown(folder, edited) == {}


def test_a_default_is_not_shown_as_if_a_file_had_said_it(yarn: tuple[Path, Path], tmp_path: Path) -> None:
    folder, file = yarn
    edited = edit_gguf(file, tmp_path / "edited.gguf", keys={"qwen3.rope.freq_base": DROP})
    (finding,) = (row for row in rows(folder, edited) if isinstance(row, Finding))
    assert (finding.reference, finding.candidate) == ("1000000.0", "10000.0 (not said)")


@pytest.mark.parametrize(("key", "value"), [("rope.freq_scale", 2.0), ("attention.made_up", 3), ("rescale_every", 6)])
def test_a_key_that_nothing_knows_is_told(yarn: tuple[Path, Path], tmp_path: Path, key: str, value: Any) -> None:
    folder, file = yarn
    edited = edit_gguf(file, tmp_path / "edited.gguf", keys={f"qwen3.{key}": value})
    assert unknown(folder, edited) == {f"edited.gguf: qwen3.{key}": ("–", str(value))}
    settings = tuple(row for row in rows(folder, edited) if isinstance(row, Setting))
    text = repr(Preflight((Pair("mine", "m", "F32", settings, (), ()),), {}).document())
    assert f"qwen3.{key}" in text and "unknown here" in text


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"query_multiplier": 0.5}, "query_multiplier"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"rope_parameters": {**YARN, "rope_type": "default"}}, "rope_parameters.factor"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "xpos_base": 512}}, "rope_parameters.xpos_base"),
    ],
)
def test_a_field_that_nothing_knows_is_told(tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    folder = edit_folder(QWEN, tmp_path / "m", config=lambda config: config.update(changes))
    found = unknown(folder, to_gguf(QWEN, tmp_path / "m.gguf", "F32"))
    assert f"m/config.json: {name}" in found
    assert all(value[1] == "–" for value in found.values())
    assert f"m/config.json: {name}" in unknown(folder, folder), "one file on both sides is no reason for silence"


def test_an_unknown_field_that_two_folders_have_differently_is_a_finding(tmp_path: Path) -> None:
    folders = [
        edit_folder(QWEN, tmp_path / name, config=lambda config, value=value: config.update(query_multiplier=value))
        for name, value in (("a", 0.5), ("b", 0.25), ("c", 0.5))
    ]
    (finding,) = (row for row in rows(folders[0], folders[1]) if isinstance(row, Finding))
    assert (finding.code, finding.setting, finding.reference, finding.candidate) == ("PF215", "query_multiplier", "0.5", "0.25")
    assert codes(folders[0], folders[2]) == set()


def test_factors_that_a_converter_dropped_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "phi3"
    shutil.copytree(ROOT / "src/logitproof/acid/probes/phi3", folder)
    whole = to_gguf(folder, tmp_path / "whole.gguf", "F32")
    assert codes(folder, whole) == set(), "what a probe expects lies beside it and is no part of it"
    tensors = {f"rope_factors_{kind}.weight": None for kind in ("long", "short")}
    dropped = edit_gguf(whole, tmp_path / "dropped.gguf", keys={"phi3.rope.scaling.attn_factor": DROP}, tensors=tensors)
    assert codes(folder, dropped) == {"PF101", "PF202"}


def test_an_output_matrix_of_its_own_under_a_config_that_ties_it_is_named(tmp_path: Path) -> None:
    source = ROOT / "zoo/llama3"
    tied = edit_folder(source, tmp_path / "m", config=lambda config: config.update(tie_word_embeddings=True))
    file = to_gguf(source, tmp_path / "m.gguf", "F32")
    assert codes(tied, file) == {"PF208"}
    assert codes(tied, tied) == {"PF208"}, "both sides read the folder: an engine ties it, another does not"


GUESSED = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize("template", [GUESSED, DROP, " "])
def test_a_chat_template_that_is_not_the_models_is_named(tmp_path: Path, template: Any) -> None:
    file = to_gguf(QWEN, tmp_path / "m.gguf", "F32")
    edited = edit_gguf(file, tmp_path / "edited.gguf", keys={"tokenizer.chat_template": template})
    assert codes(QWEN, edited) == {"PF307"}
