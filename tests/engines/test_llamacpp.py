"""The engine `llamacpp` on a real libllama: what it computes, what it records, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from logitproof.engines import Refusal
from logitproof.engines.llamacpp import LlamaCpp

ROOT = Path(__file__).parents[2]
GGUF = ROOT / "zoo" / "gguf"
ZOO = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
IDS = [5, 17, 301, 44, 902, 8, 8, 77, 512, 640, 3, 99, 1000, 250, 61, 7]
SMALL = 1e-4
"""Float32 sums in another order: 3e-5 was the largest seen on the zoo."""

every_family = pytest.mark.parametrize("name", ZOO)


def engine(name: str, quantization: str = "F32", **options: object) -> LlamaCpp:
    made = LlamaCpp(**options)  # type: ignore[arg-type]
    made.load(GGUF / f"{name}-{quantization}.gguf")
    return made


def largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


@every_family
def test_decode_agrees_with_prefill(name: str) -> None:
    one = engine(name)
    assert largest(one.score(IDS, "prefill").logits, one.score(IDS, "decode").logits) <= SMALL


@every_family
def test_logits_of_a_prefix_are_a_prefix_of_the_logits(name: str) -> None:
    one = engine(name)
    assert largest(one.score(IDS, "prefill").logits[:9], one.score(IDS[:9], "prefill").logits) <= SMALL


@every_family
def test_a_second_score_knows_nothing_of_the_first(name: str) -> None:
    one = engine(name)
    first = one.score(IDS, "decode").logits
    one.score(IDS[::-1], "decode")
    assert np.array_equal(first, one.score(IDS, "decode").logits)


@every_family
def test_small_batches_give_the_same_logits(name: str) -> None:
    assert largest(engine(name, batch_size=4).score(IDS, "prefill").logits, engine(name).score(IDS, "prefill").logits) <= SMALL


def test_the_kv_cache_is_float32_unless_asked_otherwise_and_says_so() -> None:
    """llama.cpp's own default is f16: the harness must never compare float32 with that in silence."""
    exact, halved = LlamaCpp(), LlamaCpp(kv_type="f16")
    path = GGUF / "qwen3-F32.gguf"
    log_exact, log_halved = (" ".join(one.load(path).details["log"]) for one in (exact, halved))
    assert "K (f32)" in log_exact and "V (f32)" in log_exact
    assert "K (f16)" in log_halved and "V (f16)" in log_halved
    difference = largest(exact.score(IDS, "prefill").logits, halved.score(IDS, "prefill").logits)
    assert 1e-4 < difference < 0.1


def test_greedy_generation_is_the_argmax_of_prefill() -> None:
    one = engine("qwen3")
    made = one.generate(IDS, 12, stop=())
    assert len(made.token_ids) == 12
    assert made.finish == "length"
    logits = one.score([*IDS, *made.token_ids], "prefill").logits[len(IDS) - 1 : -1]
    assert made.token_ids == logits.argmax(axis=1).tolist()
    assert largest(made.logits, logits) <= SMALL


def test_generation_stops_at_a_stop_token() -> None:
    one = engine("qwen3")
    free = one.generate(IDS, 6, stop=()).token_ids
    stopped = one.generate(IDS, 6, stop=(free[2],))
    assert stopped.token_ids == free[: free.index(free[2]) + 1]
    assert stopped.finish == "stop"


@pytest.mark.parametrize("text", ["The capital of France is", "  \t\n x", "Größe Луна 🦙", "<|im_start|>user\nhi<|im_end|>"])
def test_text_survives_the_tokenizer(text: str) -> None:
    one = engine("qwen3")
    assert one.detokenize(one.tokenize(text)) == text


def test_a_cut_letter_becomes_a_replacement_character() -> None:
    one = engine("qwen3")
    halves = [token for token in one.tokenize("🦙") if one.detokenize([token]) == "�"]
    assert halves, "the emoji should need several byte tokens"


def test_a_missing_file_is_refused_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="cannot load gone.gguf") as caught:
        LlamaCpp().load(tmp_path / "gone.gguf")
    assert caught.value.field == "model"


def test_a_truncated_file_is_refused_in_its_own_words(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes((GGUF / "qwen3-F32.gguf").read_bytes()[:1_000_000])
    with pytest.raises(Refusal, match="cannot load") as caught:
        LlamaCpp().load(cut)
    assert "reason" not in caught.value.text
    assert caught.value.remedy


def test_an_unknown_architecture_is_refused_in_its_own_words(tmp_path: Path) -> None:
    path = tmp_path / "foreign.gguf"
    writer = gguf.GGUFWriter(path, "no-such-architecture")
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(Refusal, match="no-such-architecture"):
        LlamaCpp().load(path)


def test_a_sequence_beyond_the_models_context_is_refused() -> None:
    with pytest.raises(Refusal, match="exceed the model's context"):
        engine("qwen3").score([1] * 5000, "prefill")


def test_a_context_that_was_asked_for_is_not_exceeded_in_silence() -> None:
    with pytest.raises(Refusal, match="exceed the context of 256"):
        engine("qwen3", context=256).score([1] * 300, "prefill")


def test_a_sequence_longer_than_the_first_context_fits() -> None:
    one = engine("qwen3")
    assert one.score([7, 8] * 200, "prefill").logits.shape[0] == 400


def test_a_folder_without_a_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="no libllama") as caught:
        LlamaCpp(library=str(tmp_path)).hello()
    assert caught.value.field == "library"


@pytest.mark.parametrize("option", ["threads", "batch_size", "context"])
def test_numbers_below_one_are_refused(option: str) -> None:
    with pytest.raises(Refusal, match="less than 1"):
        LlamaCpp(**{option: 0})  # type: ignore[arg-type]


def test_a_quantized_value_cache_without_flash_attention_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        LlamaCpp(kv_type="q8_0").load(GGUF / "qwen3-F32.gguf")
    assert caught.value.field == "kv_type"


def test_hello_names_every_library_and_the_instruction_sets() -> None:
    hello = LlamaCpp().hello()
    assert hello.versions["llama-cpp-python"]
    assert any(name.startswith("sha256 of libllama") for name in hello.versions)
    assert any(name.startswith("sha256 of libggml") for name in hello.versions)
    assert hello.isa["system_info"].startswith("CPU")


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    """Built here from C: the right names, another layout of the context's parameters."""
    import subprocess
    import sys

    source = tmp_path / "fake.c"
    source.write_text(
        "struct params { unsigned n[128]; };\n"
        "struct params llama_context_default_params(void) { struct params p = {{7}}; return p; }\n"
    )
    compiler = shutil.which("cc")
    assert compiler, "a C compiler is needed to build llama.cpp anyway"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "libllama.so", source], check=True)
    for name in ("libggml", "libggml-base", "libggml-cpu"):
        shutil.copy(tmp_path / "libllama.so", tmp_path / f"{name}.so")
    script = (
        "from logitproof.engines.llamacpp import LlamaCpp; from logitproof.engines import Refusal\n"
        "import sys\n"
        "try: LlamaCpp(library=sys.argv[1]).hello()\n"
        "except Refusal as refusal: print(refusal.field, refusal.remedy)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("library")
    assert "of one version" in done.stdout
