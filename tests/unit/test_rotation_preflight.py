"""Preflight recognizes rotated weights by computing the rotation, says so, and checks every tensor against it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from logitproof.contract.contract import EngineUse
from logitproof.files.safetensors import write_tensors
from logitproof.gguf.side import open_side
from logitproof.gguf.write import to_gguf
from logitproof.preflight import Finding, Setting, Setup
from logitproof.preflight.weights import Weights
from logitproof.weights.checkpoint import Array, read_checkpoint
from logitproof.weights.rotate import random_orthogonal, rotate

ZOO = Path(__file__).parents[2] / "zoo"
FAMILIES = ("qwen3", "qwen3.5", "qwen3-moe", "llama3", "qwen2.5")
Tensors = dict[str, Array]


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The rotated model of a family of the zoo, made when a test first asks."""
    folder = tmp_path_factory.mktemp("rotated")

    def make(family: str) -> Path:
        return folder / family if (folder / family).exists() else rotate(ZOO / family, folder / family, seed=3)

    return make


def examined(original: Path, file: Path) -> tuple[list[str], list[Finding]]:
    """The notes about a rotation, and the findings."""
    use = EngineUse(engine="transformers")
    setup = Setup("mine", "m", "x", use, use, open_side(original), open_side(file), ())
    rows = list(Weights().examine(setup))
    notes = [row.note for row in rows if isinstance(row, Setting) and row.name == "rotation of the weights"]
    return notes, [row for row in rows if isinstance(row, Finding)]


def changed(folder: Path, out: Path, change: Callable[[Tensors], None]) -> Path:
    """The folder with other tensors."""
    tensors = dict(read_checkpoint(folder))
    change(tensors)
    out.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".json":
            (out / file.name).write_bytes(file.read_bytes())
    held = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    write_tensors(out / "model.safetensors", held, {"format": "pt"})
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rotated_folder_is_recognized_and_every_tensor_fits(rotated: Callable[[str], Path], family: str) -> None:
    notes, findings = examined(ZOO / family, rotated(family))
    assert findings == []
    (note,) = notes
    assert "rotation" in note and "every other tensor fits it" in note


@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rotated_gguf_is_recognized_in_every_type(
    rotated: Callable[[str], Path], tmp_path: Path, family: str, quantization: str
) -> None:
    file = to_gguf(rotated(family), tmp_path / "rotated.gguf", quantization)
    notes, findings = examined(ZOO / family, file)
    assert len(notes) == 1 and findings == []


@pytest.mark.parametrize("family", ["qwen3", "qwen3.5"])
def test_nothing_is_called_rotated_that_is_not(tmp_path: Path, family: str) -> None:
    same, _ = examined(ZOO / family, to_gguf(ZOO / family, tmp_path / "plain.gguf", "Q8_0"))
    random = np.random.default_rng(0)

    def others(tensors: Tensors) -> None:
        for name, value in tensors.items():
            tensors[name] = random.normal(size=value.shape) * 0.02

    notes, findings = examined(ZOO / family, changed(ZOO / family, tmp_path / "other", others))
    assert (same, notes) == ([], []) and {finding.code for finding in findings} >= {"PF104"}


LAYER = "model.layers.1."
FAULTS: dict[str, tuple[str, Callable[[Tensors], None]]] = {
    "one reader is not turned": (
        "q_proj",
        lambda t: t.update({f"{LAYER}self_attn.q_proj.weight": t["original q"]}),
    ),
    "one writer is turned by the wrong side": (
        "o_proj",
        lambda t: t.update({f"{LAYER}self_attn.o_proj.weight": t["R"] @ t["original o"]}),
    ),
    "a norm is folded in and kept": (
        "layernorm",
        lambda t: t.update({f"{LAYER}input_layernorm.weight": t[f"{LAYER}input_layernorm.weight"] * 1.5}),
    ),
    "the head lacks the last norm": (
        "lm_head",
        lambda t: t.update({"lm_head.weight": t["original embedding"] @ t["R"]}),
    ),
    "the sign of one row": (
        "up_proj",
        lambda t: t[f"{LAYER}mlp.up_proj.weight"].__setitem__(3, -t[f"{LAYER}mlp.up_proj.weight"][3]),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_rotation_is_a_finding_at_its_tensor_alone(tmp_path: Path, name: str) -> None:
    tensor, fault = FAULTS[name]
    original = read_checkpoint(ZOO / "qwen3")
    matrix = random_orthogonal(original["model.embed_tokens.weight"].shape[1], 7)
    folder = rotate(ZOO / "qwen3", tmp_path / "rotated", rotation=matrix)

    def change(tensors: Tensors) -> None:
        for name, value in tensors.items():
            tensors[name] = np.array(value, np.float32)
        help_with = {
            "R": matrix,
            "original q": original[f"{LAYER}self_attn.q_proj.weight"],
            "original o": original[f"{LAYER}self_attn.o_proj.weight"],
            "original embedding": original["model.embed_tokens.weight"],
        }
        tensors.update(help_with)
        fault(tensors)
        for helper in help_with:
            del tensors[helper]

    notes, findings = examined(ZOO / "qwen3", changed(folder, tmp_path / "spoilt", change))
    assert "1 of the other tensors do not fit it" in notes[0]
    assert [tensor in finding.field for finding in findings] == [True], findings


def test_a_matrix_that_is_not_orthogonal_is_no_rotation(tmp_path: Path) -> None:
    """E' = E A with A far from orthogonal: the model is another one."""
    matrix = np.random.default_rng(1).normal(size=(64, 64))

    def stretch(tensors: Tensors) -> None:
        embedding = tensors["model.embed_tokens.weight"]
        tensors["model.embed_tokens.weight"] = embedding @ np.resize(matrix, (embedding.shape[1], embedding.shape[1]))

    notes, findings = examined(ZOO / "qwen3", changed(ZOO / "qwen3", tmp_path / "stretched", stretch))
    assert notes == [] and any(finding.code == "PF104" for finding in findings)
