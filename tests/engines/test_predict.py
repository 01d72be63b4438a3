"""What noise at every operation predicts is what real engines of that arithmetic do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from logitproof.contract.arithmetic import Arithmetic, arithmetic_of
from logitproof.engines.transformers import Transformers
from logitproof.reference.predict import Predictor

ZOO = Path(__file__).parents[2] / "zoo"
MODEL = ZOO / "qwen3"
IDS = [(7 * at * at + 31 * at) % 1500 for at in range(40)]
BFLOAT16 = Arithmetic(base="bfloat16")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(MODEL)


def rms(a: np.ndarray, b: np.ndarray) -> float:
    """Over all positions, the mean difference of each taken off."""
    delta = np.asarray(a, np.float64) - b
    return float(np.sqrt(((delta - delta.mean(-1, keepdims=True)) ** 2).mean()))


def predicted(predictor: Predictor, arithmetic: Arithmetic, exact: np.ndarray) -> float:
    return float(np.sqrt(np.mean([rms(predictor.noisy(IDS, arithmetic, seed).logits, exact) ** 2 for seed in range(3)])))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_error_of_a_narrow_engine_is_predicted(predictor: Predictor, dtype: str) -> None:
    exact = predictor.exact(IDS)
    engine = Transformers(dtype=dtype, threads=1)  # type: ignore[arg-type]
    engine.load(MODEL)
    arithmetic = arithmetic_of("transformers", {"dtype": dtype})
    assert arithmetic is not None
    ratio = predicted(predictor, arithmetic, exact) / rms(engine.score(IDS, "prefill").logits, exact)
    assert 0.75 < ratio < 1.33


def test_the_error_of_quantized_kernels_is_predicted() -> None:
    pytest.importorskip("llama_cpp")
    from logitproof.engines.llamacpp import LlamaCpp

    file = ZOO / "gguf" / "qwen3-Q8_0.gguf"
    if not file.is_file():
        pytest.skip("make zoo makes the GGUF files")
    engine, options = LlamaCpp(kv_type="f16"), {"kv_type": "f16"}
    engine.load(file)
    quantized = Predictor(file, MODEL)
    exact, arithmetic = quantized.exact(IDS), arithmetic_of("llamacpp", options)
    assert arithmetic is not None
    ratio = predicted(quantized, arithmetic, exact) / rms(engine.score(IDS, "prefill").logits, exact)
    assert 0.75 < ratio < 1.33


def test_values_that_flash_attention_sums_in_float16_are_predicted() -> None:
    """Token by token llama.cpp's kernel does that, and its error grows with the keys; a long prompt at once it does not."""
    pytest.importorskip("llama_cpp")
    from logitproof.engines.llamacpp import LlamaCpp

    file = ZOO / "gguf" / "llama3-F32.gguf"
    if not file.is_file():
        pytest.skip("make zoo makes the GGUF files")
    ids = [(7 * at * at + 31 * at) % 1500 for at in range(160)]
    engine, same = LlamaCpp(kv_type="f16", flash_attention=True), Predictor(file, ZOO / "llama3")
    arithmetic = arithmetic_of("llamacpp", {"kv_type": "f16", "flash_attention": True})
    assert arithmetic is not None
    engine.load(file)
    exact, last = same.exact(ids), slice(-40, None)
    found = {}
    for mode in ("prefill", "decode"):
        noisy = same.noisy(ids, arithmetic.in_mode(mode), 0).logits
        found[mode] = rms(noisy[last], exact[last]), rms(engine.score(ids, mode).logits[last], exact[last])  # type: ignore[arg-type]
    assert all(0.6 < noise / observed < 1.6 for noise, observed in found.values())
    assert found["decode"][1] > 1.8 * found["prefill"][1]


def test_noise_is_seeded_and_leaves_no_trace(predictor: Predictor) -> None:
    exact, first = predictor.exact(IDS), predictor.noisy(IDS, BFLOAT16, 1).logits
    assert np.array_equal(first, predictor.noisy(IDS, BFLOAT16, 1).logits)
    assert not np.array_equal(first, predictor.noisy(IDS, BFLOAT16, 2).logits)
    assert np.array_equal(exact, predictor.exact(IDS))
    assert np.array_equal(exact, predictor.noisy(IDS, Arithmetic(base="float64"), 1).logits)


def test_the_experts_are_those_of_float64_unless_they_are_free() -> None:
    experts = Predictor(ZOO / "qwen3-moe")
    assert not any(experts.noisy(IDS, BFLOAT16, seed).flipped.any() for seed in range(4))
    flips = [experts.noisy(IDS, Arithmetic(base="bfloat16"), seed, free=True).flipped for seed in range(4)]
    assert 0 < np.mean(flips) < 0.5
