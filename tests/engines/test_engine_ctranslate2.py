"""CTranslate2 beside transformers, on what its converter takes; its refusals in its own words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from against_reference import ALONE, ZOO, beside, greedy_is_what_it_scores, needs, reference

from logitproof.errors import ContractError, EngineError
from logitproof.worker import Spec, Worker

pytestmark = needs("ctranslate2")


@pytest.fixture
def engine() -> Iterator[Worker]:
    with Worker(Spec("ctranslate2", {}, ALONE, timeout=300), name="ctranslate2") as worker:
        yield worker


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3"])
def test_prefill_and_decode_are_the_reference_s(family: str, engine: Worker, tmp_path: Path) -> None:
    loaded = engine.load(ZOO / family, None)
    assert loaded.details["dtype"] == "float32" and loaded.details["isa"]["Selected ISA"]
    found = beside(engine, family, tmp_path)
    assert set(found) == {"prefill", "decode"}
    for one in found.values():
        assert one.kl_divergence_mean < 1e-9 and one.top1 == 1.0
    greedy_is_what_it_scores(engine, family, tmp_path)


def test_the_end_of_text_inside_a_prompt_ends_nothing(engine: Worker, tmp_path: Path) -> None:
    loaded = engine.load(ZOO / "qwen3", None)
    ids = reference("qwen3")[0]
    ids = [*ids[:8], loaded.eos_token_ids[0], *ids[8:16]]
    assert engine.score(ids, "decode", tmp_path / "logits").logits.shape == (17, 1540)
    made = engine.generate(ids, 40, [], tmp_path / "generated")
    assert len(made.token_ids) == 40
    last = made.token_ids[5]
    assert engine.generate(ids, 40, [last], tmp_path / "generated").token_ids[-1] == last


def test_what_its_converter_does_not_know_is_refused_in_its_words(engine: Worker, tmp_path: Path) -> None:
    for family, config in (("qwen3-moe", "Qwen3MoeConfig"), ("qwen3.5", "Qwen3_5TextConfig")):
        with pytest.raises(ContractError, match=f"No conversion is registered for the model configuration {config}"):
            engine.load(ZOO / family, None)
    with pytest.raises(ContractError, match="reads no GGUF"):
        engine.load(tmp_path, None)
    engine.load(ZOO / "qwen3", None)
    with pytest.raises(ContractError, match="outside the vocabulary of 1540"):
        engine.score([5000], "prefill", tmp_path / "logits")


def test_a_head_size_of_its_own_fails_in_llama_and_is_an_error(engine: Worker, tmp_path: Path) -> None:
    engine.load(ZOO / "llama3", None)
    with pytest.raises(EngineError, match="axis 2 has dimension 768 but expected 384"):
        engine.score([1, 2, 3], "prefill", tmp_path / "logits")


def test_a_folder_that_its_own_converter_wrote_is_taken_as_it_is(engine: Worker, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"no model")
    (folder / "vocabulary.json").write_text(json.dumps(["a"]))
    with pytest.raises(ContractError, match="CTranslate2 does not load"):
        engine.load(folder, None)
    shutil.rmtree(folder)
