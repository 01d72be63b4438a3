"""The reference engine: right on its own terms (prefill, decode, float64) and strict about its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.numpy import load_file, save_file
from tiny import CONFIGS, build, write_gguf

from logitproof import catalog
from logitproof.engines.transformers import Transformers
from logitproof.errors import Refusal
from logitproof.gguf.write import to_gguf
from logitproof.protocol.sink import RowSink
from logitproof.reference.float64 import float64

IDS = [int(token) for token in np.random.default_rng(5).integers(0, 96, 40)]
ZOO = Path(__file__).parents[2] / "zoo"
families = pytest.mark.parametrize("family", list(CONFIGS))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: build(family, root / family) for family in CONFIGS}


@pytest.fixture
def copy(models: dict[str, Path], tmp_path: Path) -> Any:
    return lambda family: Path(shutil.copytree(models[family], tmp_path / family))


def logits(folder: Path, mode: Any = "prefill", ids: list[int] = IDS, **options: Any) -> np.ndarray:
    engine = Transformers(**options)
    engine.load(folder)
    return engine.score(ids, mode).logits


def apart(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(np.float64) - second).max())


@families
def test_logits_are_those_of_the_plain_model(models: dict[str, Path], family: str) -> None:
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(
        models[family], attn_implementation="eager", experts_implementation="eager"
    )
    with torch.no_grad():
        expected = plain(torch.tensor([IDS]), use_cache=False).logits[0].numpy()
    observed = logits(models[family])
    assert observed.dtype == np.float32
    assert np.array_equal(observed, expected)
    assert expected.std() > 0.3


@families
def test_logits_of_a_prefix_are_a_prefix_of_the_logits(models: dict[str, Path], family: str) -> None:
    whole = logits(models[family])
    assert whole.shape == (40, 96)
    assert apart(logits(models[family], ids=IDS[:17]), whole[:17]) < 1e-4
    assert apart(whole[1:18], whole[:17]) > 0.1, "a shift by one must be visible"


@families
def test_decode_agrees_with_prefill(models: dict[str, Path], family: str) -> None:
    whole = logits(models[family])
    assert apart(logits(models[family], "decode"), whole) <= 1e-4
    assert apart(logits(models[family], chunk=7), whole) <= 1e-4


@families
def test_a_second_score_knows_nothing_of_the_first(models: dict[str, Path], family: str) -> None:
    engine = Transformers()
    engine.load(models[family])
    for mode in ("prefill", "decode"):
        first = engine.score(IDS, mode).logits
        assert np.array_equal(engine.score(IDS, mode).logits, first)


@families
def test_sdpa_agrees_with_eager(models: dict[str, Path], family: str) -> None:
    assert apart(logits(models[family], attention="sdpa"), logits(models[family])) <= 1e-4


@families
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_finite_and_near(models: dict[str, Path], family: str, dtype: str) -> None:
    half = logits(models[family], dtype=dtype)
    assert half.dtype == np.float32
    assert np.isfinite(half).all()
    # A flipped expert moves a whole position, so the median is what must be near.
    assert 1e-5 < np.median(np.abs(half - logits(models[family]))) < 0.1


@families
def test_float64_differs_from_float32_by_its_rounding(models: dict[str, Path], family: str) -> None:
    engine = Transformers(dtype="float64")
    details = engine.load(models[family]).details
    exact = engine.score(IDS, "prefill").logits
    assert exact.dtype == np.float64
    assert 1e-7 < apart(logits(models[family]), exact) < 1e-4
    assert apart(engine.score(IDS, "decode").logits, exact) < 1e-12
    assert details["rope"][0]["inv_freq_dtype"] == details["dtype"] == "float64"
    assert any("RMSNorm" in place for place in details["upgraded_to_float64"])
    assert any("softmax" in place for place in details["upgraded_to_float64"])
    assert any("RotaryEmbedding" in place for place in details["upgraded_to_float64"])


def test_a_norm_and_its_rope_angles_are_true_float64(models: dict[str, Path]) -> None:
    engine = Transformers(dtype="float64")
    engine.load(models["llama3"])
    norm, rotary = engine.reference.model.model.norm, engine.reference.model.model.rotary_emb
    x = torch.randn(3, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), float64():
        made = norm(x).numpy()
        cos = rotary(x[None], torch.tensor([[0, 1, 100]]))[0][0].numpy()
    rows, weight = x.numpy(), norm.weight.detach().numpy()
    expected = weight * rows / np.sqrt((rows**2).mean(-1, keepdims=True) + norm.variance_epsilon)
    assert np.abs(made - expected).max() < 1e-14
    frequencies = _llama3_frequencies(engine.reference.model.config)
    assert np.abs(cos[2, :8] - np.cos(100 * frequencies)).max() < 1e-12


def _llama3_frequencies(config: Any) -> np.ndarray:
    """[D/2], written from the definition in float64."""
    rope = config.rope_parameters
    plain = rope["rope_theta"] ** -(np.arange(0, config.head_dim, 2) / config.head_dim)
    turns = rope["original_max_position_embeddings"] * plain / (2 * np.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    share = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - share) * plain / rope["factor"] + share * plain


def test_float64_refuses_what_would_round() -> None:
    narrow = torch.ones(2)
    with float64():
        assert narrow.to(torch.float32).dtype == torch.float64
        with pytest.raises(Refusal, match="float32"):
            narrow * 2
        with pytest.raises(Refusal, match="bfloat16"):
            narrow.to(torch.bfloat16)


def test_float64_refuses_an_unchecked_family(copy: Any) -> None:
    folder = copy("qwen2")
    change_config(folder, model_type="olmo", architectures=["OlmoForCausalLM"])
    with pytest.raises(Refusal, match="float64 is not known"):
        Transformers(dtype="float64").load(folder)


@families
def test_greedy_generation_is_the_argmax_of_prefill(models: dict[str, Path], family: str) -> None:
    engine = Transformers()
    engine.load(models[family])
    made = engine.generate(IDS[:9], 12, [])
    rows = engine.score(IDS[:9] + made.token_ids, "prefill").logits[8:-1]
    assert made.finish == "length"
    assert len(made.token_ids) == 12
    assert apart(made.logits, rows) < 1e-4
    assert made.token_ids == made.logits.argmax(-1).tolist()
    stopped = engine.generate(IDS[:9], 12, [made.token_ids[3]])
    assert stopped.finish == "stop"
    assert stopped.token_ids == made.token_ids[: made.token_ids.index(made.token_ids[3]) + 1]
    assert engine.generate(IDS[:9], 0, []).logits.shape == (0, 96)


@pytest.mark.parametrize(
    ("mode", "options", "blocks"),
    [
        ("prefill", {}, [64, 36]),
        ("prefill", {"chunk": 60}, [60, 40]),
        ("decode", {}, [1] * 100),
        ("prefill", {"batch": 2}, [64, 36]),
    ],
)
def test_rows_are_written_piece_by_piece_with_the_bits_of_score(
    models: dict[str, Path], tmp_path: Path, mode: Any, options: dict[str, Any], blocks: list[int]
) -> None:
    class Counting(RowSink):
        seen: ClassVar[list[int]] = []

        def write(self, rows: np.ndarray) -> None:
            self.seen.append(len(rows))
            super().write(rows)

    engine, ids = Transformers(threads=1, **options), [n * 7 % 90 for n in range(100)]
    engine.load(models["qwen3"])
    Counting.seen.clear()
    with Counting(tmp_path / "rows") as rows:
        engine.score_rows(ids, mode, rows)
        rows.announce()
    assert Counting.seen == blocks
    assert (tmp_path / "rows").read_bytes() == engine.score(ids, mode).logits.tobytes()


def change_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def change_weights(folder: Path, change: Any) -> None:
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama3", "model.norm.weight"),
        ("llama3", "lm_head.weight"),
        ("qwen2", "model.layers.1.self_attn.q_proj.bias"),
        ("qwen3", "model.layers.0.self_attn.q_norm.weight"),
        ("qwen3_moe", "model.layers.1.mlp.experts.2.up_proj.weight"),
        ("qwen3_5", "model.layers.0.linear_attn.A_log"),
    ],
)
def test_a_missing_tensor_is_refused_by_name(copy: Any, family: str, name: str) -> None:
    folder = copy(family)
    change_weights(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(Refusal) as refused:
        Transformers().load(folder)
    assert name.replace("2.up_proj.weight", "gate_up_proj") in refused.value.text
    assert refused.value.field
    assert refused.value.remedy


def test_a_foreign_tensor_is_refused_by_name(copy: Any) -> None:
    folder = copy("qwen3")
    change_weights(folder, lambda tensors: tensors.update({"model.layers.0.adapter.weight": np.ones((2, 2), np.float32)}))
    with pytest.raises(Refusal, match=r"unexpected: model\.layers\.0\.adapter\.weight"):
        Transformers().load(folder)


def test_a_tensor_of_the_wrong_shape_is_refused_by_name(copy: Any) -> None:
    folder = copy("qwen3")
    change_weights(folder, lambda tensors: tensors.update({"model.norm.weight": np.ones(47, np.float32)}))
    with pytest.raises(Refusal, match=r"model\.norm\.weight"):
        Transformers().load(folder)


def test_a_tied_tensor_with_other_values_is_refused(copy: Any) -> None:
    folder = copy("qwen3")
    change_weights(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}))
    with pytest.raises(Refusal, match=r"lm_head\.weight"):
        Transformers().load(folder)


def test_a_draft_head_is_left_out_and_recorded(copy: Any, models: dict[str, Path]) -> None:
    folder = copy("qwen3_5")
    change_weights(folder, lambda tensors: tensors.update({"mtp.fc.weight": np.ones((2, 2), np.float32)}))
    assert Transformers().load(folder).details["ignored_tensors"] == {"mtp.fc": 1}
    assert np.array_equal(logits(folder), logits(models["qwen3_5"]))


def test_a_truncated_file_is_refused(copy: Any) -> None:
    folder = copy("qwen3")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(Refusal, match="cannot read the weights") as refused:
        Transformers().load(folder)
    assert refused.value.remedy


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_refused(copy: Any, name: str) -> None:
    folder = copy("qwen3")
    (folder / name).unlink()
    with pytest.raises(Refusal, match=name):
        Transformers().load(folder)


def test_pickled_weights_and_remote_code_are_refused(copy: Any) -> None:
    folder = copy("qwen3")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(Refusal):
        Transformers().load(folder)
    change_config(folder, model_type="mine", auto_map={"AutoConfig": "code.Config"})
    (folder / "code.py").write_text("raise SystemExit('remote code was run')")
    with pytest.raises(Refusal, match=r"config\.json"):
        Transformers().load(folder)


@families
def test_a_float32_gguf_gives_the_same_weights(models: dict[str, Path], tmp_path: Path, family: str) -> None:
    from_folder, from_gguf = Transformers(), Transformers()
    from_folder.load(models[family])
    details = from_gguf.load(write_gguf(models[family], tmp_path / "model.gguf"), models[family]).details
    pairs = zip(from_folder.reference.model.named_parameters(), from_gguf.reference.model.named_parameters(), strict=True)
    for (name, expected), (other, observed) in pairs:
        assert name == other
        if not _is_rounded_by_gguf(family, name):
            assert torch.equal(observed, expected), name
        elif name.endswith("A_log"):
            assert torch.allclose(observed, expected, rtol=0, atol=2e-7), name
        else:
            assert torch.equal(1 + observed, 1 + expected), "the factor that is used must be the same"
    assert details["rope_factors"].startswith("agree" if family == "llama3" else "none")
    assert apart(from_gguf.score(IDS, "prefill").logits, from_folder.score(IDS, "prefill").logits) < 2e-5


def _is_rounded_by_gguf(family: str, name: str) -> bool:
    """Qwen3.5's GGUF holds 1 + w and -exp(A_log) in float32, from which w itself cannot come back exactly."""
    norm = name.endswith("norm.weight") and "linear_attn" not in name
    return family == "qwen3_5" and (norm or name.endswith("A_log"))


@families
def test_a_quantized_gguf_is_dequantized(models: dict[str, Path], tmp_path: Path, family: str) -> None:
    engine = Transformers()
    loaded = engine.load(write_gguf(models[family], tmp_path / "model.gguf", "F16"), models[family])
    assert loaded.details["tensor_types"]["F16"] > 5
    assert 1e-6 < np.median(np.abs(engine.score(IDS, "prefill").logits - logits(models[family]))) < 0.01


def test_a_gguf_without_config_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        Transformers().load(write_gguf(models["qwen3"], tmp_path / "model.gguf"))
    assert refused.value.field == "config"
    assert refused.value.remedy


@pytest.mark.parametrize("other", ["llama3", "qwen2", "qwen3_moe"])
def test_a_gguf_of_another_model_is_refused(models: dict[str, Path], tmp_path: Path, other: str) -> None:
    with pytest.raises(Refusal, match="architecture"):
        Transformers().load(write_gguf(models["qwen3"], tmp_path / "model.gguf"), models[other])


def test_a_gguf_of_another_size_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_gguf(models["qwen3"], tmp_path / "model.gguf")
    for name, changes in {"wide": {"head_dim": 32}, "deep": {"num_hidden_layers": 3}, "flat": {"num_hidden_layers": 1}}.items():
        with pytest.raises(Refusal, match=r"model\.layers|lm_head"):
            Transformers().load(file, build("qwen3", tmp_path / name, **changes))


def test_a_truncated_gguf_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    file = write_gguf(models["qwen3"], tmp_path / "model.gguf")
    whole = file.read_bytes()
    for size in (len(whole) - 500, len(whole) // 2, 100, 0):
        file.write_bytes(whole[:size])
        with pytest.raises(Refusal) as refused:
            Transformers().load(file, models["qwen3"])
        assert refused.value.remedy


def test_wrong_rope_factors_in_a_gguf_are_recorded(models: dict[str, Path], tmp_path: Path) -> None:
    other = build("llama3", tmp_path / "other", rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    file = write_gguf(models["llama3"], tmp_path / "model.gguf")
    assert Transformers().load(file, other).details["rope_factors"].startswith("disagree")
    file = write_gguf(other, tmp_path / "unscaled.gguf")
    assert "absent" in Transformers().load(file, models["llama3"]).details["rope_factors"]


def test_impossible_requests_are_refused(models: dict[str, Path]) -> None:
    engine = Transformers()
    with pytest.raises(Refusal, match="no model"):
        engine.score(IDS, "prefill")
    assert engine.load(models["qwen3"]).context_length == 128
    for ids, text in (([1] * 129, "context length"), ([96], "outside"), ([-1], "outside"), ([], "no token")):
        with pytest.raises(Refusal, match=text):
            engine.score(ids, "prefill")
    with pytest.raises(Refusal, match="context length"):
        engine.generate([1] * 120, 9, [])
    for options, text in (({"chunk": 0}, "chunk"), ({"threads": 0}, "threads"), ({"device": "cuda"}, "CUDA")):
        if options != {"device": "cuda"} or not torch.cuda.is_available():
            with pytest.raises(Refusal, match=text):
                Transformers(**options).load(models["qwen3"])
    with pytest.raises(Refusal, match="does not exist"):
        engine.load(models["qwen3"] / "nothing")


def test_what_was_loaded_is_described(models: dict[str, Path]) -> None:
    loaded = Transformers(attention="sdpa", threads=2).load(models["llama3"])
    assert (loaded.vocab_size, loaded.bos_token_id, loaded.eos_token_ids) == (96, 1, (2,))
    details = json.loads(json.dumps(loaded.details))
    assert details["attention"] == "sdpa"
    assert details["model_type"] == "llama"
    assert details["threads"] == 2
    assert details["parameters"] == sum(array.size for array in load_file(models["llama3"] / "model.safetensors").values())
    (rope,) = details["rope"]
    assert np.allclose(rope["inv_freq"], _llama3_frequencies(config_of(models["llama3"])), rtol=1e-6)


def config_of(folder: Path) -> Any:
    import transformers

    return transformers.AutoConfig.from_pretrained(folder)


def test_hello_names_what_can_change_a_logit() -> None:
    hello = Transformers().hello()
    assert {"torch", "transformers", "tokenizers", "safetensors", "python", "gguf"} <= hello.versions.keys()
    assert hello.isa["aten"]
    assert json.dumps(hello.isa)


@pytest.mark.parametrize("name", ["llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5"])
def test_the_zoo_agrees_with_itself(name: str, tmp_path: Path) -> None:
    folder = ZOO / name
    engine = Transformers()
    engine.load(folder)
    text = "def größe(x):\n    return  x + 1  # пример <|im_end|>"
    ids = engine.tokenize(text)
    assert engine.detokenize(ids).removeprefix("<|begin_of_text|>") == text
    prefill = engine.score(ids, "prefill").logits
    assert apart(engine.score(ids, "decode").logits, prefill) <= 1e-4
    dequantized = Transformers()
    dequantized.load(to_gguf(folder, tmp_path / "model.gguf", "F32"), folder)
    assert apart(dequantized.score(ids, "prefill").logits, prefill) < 2e-5


def test_options_are_checked_and_served(models: dict[str, Path]) -> None:
    assert "_model" not in catalog.find("engines", "transformers").option_names
    adapter = TypeAdapter(catalog.load("engines", "transformers"))
    engine = adapter.validate_python({"dtype": "float64", "threads": 1})
    assert engine.load(models["qwen3"]).details["dtype"] == "float64"
    with pytest.raises(ValidationError):
        adapter.validate_python({"dtype": "int8"})
