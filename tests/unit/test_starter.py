"""`logitproof new`: the contract that it writes is one that opens, of the models and the engine that somebody has."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract.opened import open_contract


def file_of(path: Path, file_type: int | None) -> Path:
    """A GGUF file of one tensor that calls itself by a type of llama.cpp."""
    writer = gguf.GGUFWriter(path, "llama")
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.add_tensor("token_embd.weight", np.zeros((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    for name, number in (("q4", 15), ("f16", 1), ("f32", 0), ("silent", None), ("odd", 999)):
        file_of(tmp_path / f"{name}.gguf", number)
    return tmp_path


def new(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["new", *words])
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("models", "labels", "compared", "weights", "wrong"),
    [
        (["q4.gguf"], ["Q4_K_M"], ["Q4_K_M"], "candidate", 0.7),
        (["f32.gguf"], ["F32"], ["F32"], "original", 0.01),
        (["silent.gguf"], ["F32"], ["F32"], "original", 0.01),
        (["f16.gguf"], ["F16"], ["F16"], "candidate", 0.3),
        (["odd.gguf"], ["type-999"], ["type-999"], "candidate", 0.7),
        (["hf", "f32.gguf"], ["original", "F32"], ["F32"], "original", 0.01),
        (["hf", "q4.gguf", "f16.gguf"], ["original", "Q4_K_M", "F16"], ["Q4_K_M", "F16"], "candidate", 0.7),
    ],
)
def test_models_are_named_by_what_they_hold(
    models: list[str], labels: list[str], compared: list[str], weights: str, wrong: float, folder: Path
) -> None:
    code, text = new(*(word for model in models for word in ("-m", model)))
    assert code == 0 and "next: logitproof check my.parity.yaml" in text
    contract = open_contract(folder / "my.parity.yaml").contract
    (files,) = contract.models.values()
    assert list(files.items()) == list(zip(labels, models, strict=True))
    assert contract.matrix.quantization == compared
    assert contract.reference.weights == weights
    assert contract.bands[0].wrong == wrong


def test_paths_are_relative_to_the_contract(folder: Path) -> None:
    (folder / "deep").mkdir()
    assert new("deep/c.parity.yaml", "-m", "q4.gguf")[0] == 0
    assert open_contract(folder / "deep/c.parity.yaml").contract.models == {"q4": {"Q4_K_M": "../q4.gguf"}}


@pytest.mark.parametrize(
    ("words", "engine", "options"),
    [
        (["--program", "./eng --layers '1 2'"], "command", {"argv": ["./eng", "--layers", "1 2"]}),
        (["--url", "http://127.0.0.1:8000"], "openai", {"url": "http://127.0.0.1:8000"}),
        (["--engine", "transformers"], "transformers", {}),
    ],
)
def test_an_engine_is_named_in_one_of_three_ways(words: list[str], engine: str, options: object, folder: Path) -> None:
    assert new("-m", "hf", *words)[0] == 0
    (use,) = open_contract(folder / "my.parity.yaml").contract.candidates.values()
    assert (use.engine, use.options) == (engine, options)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-m", "hf"], "hf is a folder, and llamacpp reads GGUF files"),
        (["-m", "q4.guff"], r"did you mean 'q4.gguf'?"),
        (["-m", "q4.gguf", "-m", "q4.gguf"], "are both Q4_K_M"),
        (["-m", "hf/config.json"], "neither a model's folder nor a GGUF file"),
        (["-m", "q4.gguf", "--engine", "lama"], "no engine is called 'lama'"),
        (["-m", "q4.gguf", "--engine", "toy", "--url", "http://x"], "--engine and --url each name an engine"),
        (["-m", "q4.gguf", "--program", "./eng 'open"], "no command line"),
        (["-m", "q4.gguf", "--program", ""], "is empty"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(words: list[str], told: str, folder: Path) -> None:
    code, text = new(*words)
    assert code == 2 and told in text and "remedy:" in text
    assert not (folder / "my.parity.yaml").exists()


def test_a_contract_that_is_there_stays(folder: Path) -> None:
    Path("my.parity.yaml").write_text("mine")
    code, text = new("-m", "q4.gguf")
    assert code == 2 and "exists already" in text
    assert Path("my.parity.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["a: b", "#x", "-x", "[", "ünï", "{", "'"])
def test_odd_names_of_files_are_written_as_yaml_takes_them(name: str, folder: Path) -> None:
    (folder / "q4.gguf").rename(folder / f"{name}.gguf")
    assert new("-m", f"./{name}.gguf")[0] == 0
    (files,) = open_contract(folder / "my.parity.yaml").contract.models.values()
    assert files == {"Q4_K_M": f"{name}.gguf"}


def test_without_models_there_are_places_for_them(folder: Path) -> None:
    code, text = new()
    assert code == 0 and "set the paths in it" in text
    assert open_contract(folder / "my.parity.yaml").contract.models["my-model"]["original"] == "path/to/hf-folder"
