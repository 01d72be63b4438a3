"""CTranslate2 beside transformers, on what its converter takes; its refusals in its own words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from against_reference import ALONE, ZOO, beside, greedy_is_what_it_scores, needs, reference

from logitproof.errors import ContractError, EngineError
from logitproof.jobs.worker import Spec, Worker

pytestmark = needs("ctranslate2")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Worker]:
    kept = {"LOGITPROOF_EXPORTS": str(tmp_path / "exports")}
    with Worker(Spec("ctranslate2", {}, {**ALONE, **kept}, timeout=300), name="ctranslate2") as worker:
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


def test_the_scaling_of_llama_3_s_rotation_is_lost(engine: Worker, tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    rope = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    sizes = {"vocab_size": 1500, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 65536}
    rows, ids = {}, list(range(5, 205))
    for name, own in (("scaled", rope), ("unscaled", {"rope_type": "default", "rope_theta": 500000.0})):
        torch.manual_seed(1)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads, rope_parameters=own)).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(4.0 if weight.ndim > 1 else 1.0)
            rows[name] = model(torch.tensor([ids])).logits[0].numpy()
        if name == "scaled":
            model.save_pretrained(tmp_path / "llama")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ZOO / "llama3" / file, tmp_path / "llama" / file)
    engine.load(tmp_path / "llama", None)
    found = np.array(engine.score(ids, "prefill", tmp_path / "rows").logits.open())
    assert np.abs(found - rows["unscaled"]).max() < 1e-4, "if it is more, CTranslate2 has mended it: see docs/findings.md"
    assert np.abs(found - rows["scaled"]).max() > 0.01


def test_a_folder_that_its_own_converter_wrote_is_taken_as_it_is(engine: Worker, tmp_path: Path) -> None:
    folder = tmp_path / "converted"
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"no model")
    (folder / "vocabulary.json").write_text(json.dumps(["a"]))
    with pytest.raises(ContractError, match="CTranslate2 does not load"):
        engine.load(folder, None)
    shutil.rmtree(folder)
