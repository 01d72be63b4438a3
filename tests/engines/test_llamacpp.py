"""The engine `llamacpp` on a real libllama: what it computes, what it records, and what it refuses."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from logitproof.engines._libllama import DEBUG, Log
from logitproof.engines.llamacpp import LlamaCpp
from logitproof.errors import Refusal

GGUF = Path(__file__).parents[2] / "zoo" / "gguf"
ZOO = ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5")
IDS = [5, 17, 201, 44, 102, 8, 8, 77, 212, 240, 3, 99, 100, 250, 61, 7]
SMALL = 1e-4
"""Float32 sums in another order: 3e-5 was the largest seen on the zoo."""
L, E, H, K, D, F = 2, 64, 4, 2, 16, 96
TRAINED, EPSILON, THETA = 512, 1e-5, 10000.0
SPECIAL = "<|end|>"


def byte_letters() -> list[str]:
    """The letter that stands for each byte in vocabularies of GPT-2's kind."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def tiny_weights(seed: int = 7) -> dict[str, np.ndarray]:
    """A random Llama, in which no tensor is constant; matrices are [out, in] as in GGUF."""
    random = np.random.default_rng(seed)
    shapes = {"token_embd": (258, E), "output": (258, E), "output_norm": (E,)}
    for layer in range(L):
        own = {"attn_norm": (E,), "ffn_norm": (E,), "attn_q": (H * D, E), "attn_k": (K * D, E), "attn_v": (K * D, E),
               "attn_output": (E, H * D), "ffn_gate": (F, E), "ffn_up": (F, E), "ffn_down": (E, F)}  # fmt: skip
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in own.items()}
    return {
        name: (
            1 + 0.3 * random.normal(size=shape) if len(shape) == 1 else 1.5 * shape[-1] ** -0.5 * random.normal(size=shape)
        ).astype("f4")
        for name, shape in shapes.items()
    }


def tiny_facts() -> dict[str, Any]:
    """What the file says of itself, by the names of the writer's methods."""
    return {
        "context_length": TRAINED, "embedding_length": E, "block_count": L, "feed_forward_length": F, "head_count": H,
        "head_count_kv": K, "layer_norm_rms_eps": EPSILON, "rope_dimension_count": D, "rope_freq_base": THETA,
        "tokenizer_model": "gpt2", "tokenizer_pre": "gpt-2", "token_list": [*byte_letters(), "he", SPECIAL],
        "token_types": [gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL], "token_merges": ["h e"], "eos_token_id": 257,
    }  # fmt: skip


def write_tiny(path: Path, weights: dict[str, np.ndarray]) -> Path:
    return write_gguf(path, "llama", tiny_facts(), weights)


def write_gguf(path: Path, architecture: str, facts: dict[str, Any], weights: dict[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in facts.items():
        getattr(writer, f"add_{name}")(value)
    for name, values in weights.items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_forward(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """The same Llama in float64, written from its definition: logits [T, V]."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    count = len(ids)
    x = w["token_embd"][ids]
    hidden = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(L):
        own = {name.split(".", 2)[2]: values for name, values in w.items() if name.startswith(f"blk.{layer}.")}
        h = rms_norm(x, own["attn_norm"])
        q = rotated((h @ own["attn_q"].T).reshape(count, H, D))
        k = rotated((h @ own["attn_k"].T).reshape(count, K, D)).repeat(H // K, axis=1)
        v = (h @ own["attn_v"].T).reshape(count, K, D).repeat(H // K, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(D) + hidden
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        x = x + np.einsum("hts,shd->thd", p, v).reshape(count, H * D) @ own["attn_output"].T
        h = rms_norm(x, own["ffn_norm"])
        gate = h @ own["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ own["ffn_up"].T)) @ own["ffn_down"].T
    return rms_norm(x, w["output_norm"]) @ w["output"].T


def rms_norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * weight


def rotated(x: np.ndarray) -> np.ndarray:
    """RoPE of [T, heads, D] on the pairs (2i, 2i+1), as GGUF files of Llama hold them."""
    angles = np.arange(len(x))[:, None] * THETA ** (-np.arange(0, D, 2) / D)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None]
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf", tiny_weights())


@pytest.fixture(params=["tiny", *ZOO])
def model(request: pytest.FixtureRequest, tiny: Path) -> Path:
    path = tiny if request.param == "tiny" else GGUF / f"{request.param}-F32.gguf"
    if not path.exists():
        pytest.skip(f"{path.name} is not made: run `make zoo`")
    return path


def engine(path: Path, **options: object) -> LlamaCpp:
    made = LlamaCpp(**options)  # type: ignore[arg-type]
    made.load(path)
    return made


def largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("options", [{}, {"batch_size": 4}, {"ubatch_size": 4}, {"mmap": False}, {"threads": 2}])
@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_the_logits_are_those_of_the_definition(tiny: Path, mode: str, options: dict[str, object]) -> None:
    expected = tiny_forward(tiny_weights(), IDS)
    assert np.ptp(expected) > 1, "logits without spread would agree with anything"
    assert largest(expected, engine(tiny, **options).score(IDS, mode).logits) <= SMALL  # type: ignore[arg-type]


def test_decode_agrees_with_prefill(model: Path) -> None:
    one = engine(model)
    assert largest(one.score(IDS, "prefill").logits, one.score(IDS, "decode").logits) <= SMALL


def test_logits_of_a_prefix_are_a_prefix_of_the_logits(model: Path) -> None:
    one = engine(model)
    assert largest(one.score(IDS, "prefill").logits[:9], one.score(IDS[:9], "prefill").logits) <= SMALL


def test_a_second_score_knows_nothing_of_the_first(model: Path) -> None:
    one = engine(model)
    first = one.score(IDS, "decode").logits
    one.score(IDS[::-1], "decode")
    assert np.array_equal(first, one.score(IDS, "decode").logits)


def test_small_batches_give_the_same_logits(model: Path) -> None:
    whole, chunks = (engine(model, batch_size=size).score(IDS, "prefill").logits for size in (512, 4))
    assert largest(whole, chunks) <= SMALL


def test_the_kv_cache_is_float32_unless_asked_otherwise_and_says_so(tiny: Path) -> None:
    """llama.cpp's own default is f16: the harness must never compare float32 with that in silence."""
    exact, halved, mixed = LlamaCpp(), LlamaCpp(kv_type="f16"), LlamaCpp(kv_type_v="bf16")
    assert exact.load(tiny).details["kv_types"] == [["f32", "f32"]]
    assert halved.load(tiny).details["kv_types"] == [["f16", "f16"]]
    assert mixed.load(tiny).details["kv_types"] == [["f32", "bf16"]]
    assert 1e-4 < largest(exact.score(IDS, "prefill").logits, halved.score(IDS, "prefill").logits) < 0.1


def test_flash_attention_which_computes_in_f16_cannot_be_recorded_as_float32(tiny: Path) -> None:
    with pytest.raises(Refusal, match="in f16"):
        LlamaCpp(flash_attention=True)
    one = LlamaCpp(flash_attention=True, kv_type="f16")
    assert one.load(tiny).details["flash_attention"] == "enabled"
    assert 1e-3 < largest(tiny_forward(tiny_weights(), IDS), one.score(IDS, "prefill").logits) < 0.1


def test_load_tells_the_model_and_the_context_as_the_library_sees_them(tiny: Path) -> None:
    loaded = LlamaCpp(batch_size=8, ubatch_size=4, context=300).load(tiny)
    assert (loaded.vocab_size, loaded.context_length, loaded.eos_token_ids) == (258, TRAINED, (257,))
    assert loaded.details["n_ctx"] >= 300
    assert (loaded.details["n_batch"], loaded.details["n_ubatch"]) == (8, 4)
    assert any("file type" in line for line in loaded.details["log"])
    assert any("freq_base" in line for line in loaded.details["log"])


def test_a_deep_models_log_does_not_push_out_its_cache() -> None:
    log = Log()
    log.add(2, b"llama_kv_cache: size = 1 MiB\n", None)
    for _ in range(5000):
        log.add(DEBUG, b"graph_reserve: reserving\n", None)
    assert log.matching("llama_kv_cache")


def test_nothing_is_printed(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    engine(tiny).score(IDS, "decode")
    assert capfd.readouterr() == ("", "")


def test_greedy_generation_is_the_argmax_of_prefill(model: Path) -> None:
    one = engine(model)
    made = one.generate(IDS, 12, stop=())
    assert len(made.token_ids) == 12
    assert made.finish == "length"
    logits = one.score([*IDS, *made.token_ids], "prefill").logits[len(IDS) - 1 : -1]
    assert made.token_ids == logits.argmax(axis=1).tolist()
    assert largest(made.logits, logits) <= SMALL


def test_generation_stops_at_a_stop_token(tiny: Path) -> None:
    one = engine(tiny)
    free = one.generate(IDS, 6, stop=()).token_ids
    stopped = one.generate(IDS, 6, stop=(free[2],))
    assert stopped.token_ids == free[: free.index(free[2]) + 1]
    assert stopped.finish == "stop"


def test_a_tie_goes_to_the_lowest_id(tmp_path: Path) -> None:
    weights = tiny_weights()
    one = engine(write_tiny(tmp_path / "flat.gguf", weights | {"output": np.zeros_like(weights["output"])}))
    assert one.generate(IDS, 3, stop=()).token_ids == [0, 0, 0]


@pytest.mark.parametrize("text", ["The capital of France is", "  \t\n x", "Größe Луна 🦙", f"he said{SPECIAL}\nhi", ""])
def test_text_survives_the_tokenizer(tiny: Path, text: str) -> None:
    one = engine(tiny)
    assert one.detokenize(one.tokenize(text)) == text


def test_special_tokens_in_a_text_are_parsed_and_a_merge_is_applied(tiny: Path) -> None:
    assert engine(tiny).tokenize(f"he{SPECIAL}") == [256, 257]


def test_a_cut_letter_becomes_a_replacement_character(tiny: Path) -> None:
    one = engine(tiny)
    assert one.detokenize(one.tokenize("🦙")[:1]) == "\ufffd"


def test_a_file_without_a_tokenizer_scores_and_says_that_it_has_none(tmp_path: Path) -> None:
    facts = tiny_facts() | {"tokenizer_model": "none", "vocab_size": 258}
    one = engine(write_gguf(tmp_path / "bare.gguf", "llama", facts, tiny_weights()))
    assert one.score(IDS, "prefill").logits.shape == (len(IDS), 258)
    with pytest.raises(Refusal, match="carries no tokenizer"):
        one.tokenize("x")


def test_a_file_that_cannot_be_loaded_is_refused_in_llama_cpps_words(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(tiny.read_bytes()[:-5000])
    (tmp_path / "text.gguf").write_text("this is not a model")
    write_gguf(tmp_path / "foreign.gguf", "no-such-kind", {}, {"token_embd": np.zeros((4, 4), np.float32)})
    for name, words in (("gone", "No such file"), ("cut", "incomplete"), ("text", "magic"), ("foreign", "no-such-kind")):
        with pytest.raises(Refusal, match=words) as caught:
            LlamaCpp().load(tmp_path / f"{name}.gguf")
        assert caught.value.field == "model"
        assert caught.value.remedy


def test_what_would_end_the_process_is_refused(tiny: Path) -> None:
    with pytest.raises(Refusal, match="no model is loaded"):
        LlamaCpp().tokenize("x")
    one = engine(tiny)
    for ask in (lambda: one.detokenize([258]), lambda: one.score([258], "prefill"), lambda: one.generate([258], 1, ())):
        with pytest.raises(Refusal, match="outside the vocabulary"):
            ask()
    with pytest.raises(Refusal, match="empty prompt"):
        one.generate([], 1, ())


def test_a_sequence_beyond_the_models_context_is_refused(tiny: Path) -> None:
    one = engine(tiny)
    assert one.score([7, 8] * (TRAINED // 2), "prefill").logits.shape == (TRAINED, 258)
    with pytest.raises(Refusal, match="exceed the model's context"):
        one.score([1] * (TRAINED + 1), "prefill")
    with pytest.raises(Refusal, match="exceed the context of 100"):
        engine(tiny, context=100).score([1] * 101, "prefill")


def test_a_quantized_value_cache_without_flash_attention_is_refused(tiny: Path) -> None:
    one = LlamaCpp(kv_type="f32", kv_type_v="q8_0")
    for ask in (lambda: one.load(tiny), lambda: one.score(IDS, "prefill")):
        with pytest.raises(Refusal) as caught:
            ask()
        assert caught.value.field == "kv_type"


@pytest.mark.parametrize("option", ["threads", "batch_size", "ubatch_size", "context"])
def test_numbers_below_one_are_refused(option: str) -> None:
    with pytest.raises(Refusal, match="less than 1"):
        LlamaCpp(**{option: 0})  # type: ignore[arg-type]


def test_hello_names_the_files_that_are_really_loaded(tiny: Path) -> None:
    one = LlamaCpp()
    hello, files = one.hello(), one.load(tiny).details["library"]
    stored = {f"sha256 of {Path(file).name}": hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files}
    assert stored.items() <= hello.versions.items()
    assert {name.split(".")[0] for name in stored} >= {"sha256 of libllama", "sha256 of libggml-base", "sha256 of libggml-cpu"}
    assert hello.isa["features of CPU"]
    if (maps := Path("/proc/self/maps")).exists():
        mapped = {
            line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if "/libggml" in line or "/libllama" in line
        }
        assert set(files) == mapped


def test_a_library_or_backend_that_would_not_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.so").touch()
    for options, words in (
        ({"library": str(tmp_path)}, "no libllama"),
        ({"library": str(tmp_path / "gone")}, "no such file"),
        ({"backend": str(tmp_path / "gone.so")}, "no such file"),
        ({"backend": str(tmp_path / "some.so")}, "CPU backend linked in"),
    ):
        with pytest.raises(Refusal, match=words) as caught:
            LlamaCpp(**options).hello()
        assert [caught.value.field] == list(options)


def test_a_library_of_another_version_is_refused(tmp_path: Path) -> None:
    """Built here from C: the right names, another layout of the context's parameters."""
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
