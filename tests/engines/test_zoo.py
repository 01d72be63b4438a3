"""The zoo as it is committed: its shapes, its text, and its GGUF files against llama.cpp's own converter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from direct_llama_cpp import DirectModel

from logitproof.gguf.write import to_gguf

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "zoo"
sys.path.insert(0, str(ZOO))
from documents import CORPUS, read_documents, sha256_of_corpus, split_documents  # noqa: E402
from families import FAMILIES  # noqa: E402
from report import MARGIN_EDGES, loop_in  # noqa: E402
from table import table  # noqa: E402

SOURCE = Path(os.environ.get("LOGITPROOF_LLAMA_CPP_SOURCE", ROOT / ".cache" / "llama.cpp"))
PRE_TOKENIZERS = {"llama3": "llama-bpe", "qwen3.5": "qwen35"}  # the others: qwen2

# Keys that name the file and change neither a token nor a logit. `GGUF.*` are the reader's own header fields.
NAMING_KEYS = {"general.name", "general.size_label", "GGUF.kv_count"}
LARGEST_FOLDER = 8_000_000
LARGEST_DIFFERENCE = 1e-4  # float32 sums in another order, for logits up to 20: 3e-5 was the largest seen

HARD_TEXTS = (
    "", " ", "  ", "   x", "\t\tif x:\n\t\t\treturn\r\n\r\n", "\n\n\n", "a\u00a0b\u2009c\u3000d\u200be\ufefff\x85g",
    "I'VE you'll 'S 't ''' \u2019s it'\u017f 'dont", "3 33 333 3333 33333 3.14 1,000,000 \u00bd\u2167\u0663\u00b2 x2y",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308 \u2705\U0001f999\U0001f999",
    "Größenwahn »Straße« Ёлка съешь ещё этих мягких 你好，世界 日本語 한국어 العربية עברית",
    "\u0928\u093f\u0930\u094d\u092e\u0932 \u0e01\u0e34\u0e19 \u1780\u17b6\u1793\u17cb ก็ ",  # marks: the qwen35 split differs
    "<|im_start|>user\nhi<|im_end|>\n<|begin_of_text|>x<|eot_id|><think>\n</think><|endoftext|><|end_of_text|>",
    "<|unknown|> <think <|im_start|", "\x00\x01\x1f\x7f", "->= != <<>> ===== ------ ...... `````` #include <stdio.h>",
    "x" * 300, " " * 70 + "x", "=" * 200, "Ω\u212b\u2126 K\u212a \u0130\u0131\u01c5 \U0001d54f\ufb01",
)  # fmt: skip
DECOMPOSED = "Cafe\u0301 Stra\u00dfe u\u0308ber \u0439 \u0438\u0306"

families = pytest.mark.parametrize("name", sorted(FAMILIES))


@cache
def config_of(name: str) -> dict[str, Any]:
    return json.loads((ZOO / name / "config.json").read_text())


@cache
def training_of(name: str) -> dict[str, Any]:
    return json.loads((ZOO / name / "TRAINING.json").read_text())


@cache
def tokenizer_of(name: str) -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(ZOO / name)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The F32 GGUF of every family, fresh from the converter."""
    out = tmp_path_factory.mktemp("gguf")
    return {name: to_gguf(ZOO / name, out / f"{name}.gguf", "F32") for name in FAMILIES}


@pytest.fixture(scope="session")
def loaded(converted: dict[str, Path]) -> dict[str, DirectModel]:
    """The same files, loaded by llama.cpp."""
    return {name: DirectModel(path) for name, path in converted.items()}


def convert_with_llama_cpp(name: str, out: Path, kind: str) -> Path:
    """What llama.cpp's converter makes of a zoo folder."""
    assert (SOURCE / "convert_hf_to_gguf.py").is_file(), (
        f"llama.cpp's source is not at {SOURCE}: run `make setup` or set LOGITPROOF_LLAMA_CPP_SOURCE"
    )
    driver = Path(__file__).with_name("llama_cpp_converter.py")
    command = [sys.executable, driver, SOURCE, PRE_TOKENIZERS.get(name, "qwen2"), ZOO / name, "--outfile", out]
    options = ["--outtype", kind] + (["--no-mtp"] if name == "qwen3.5" else [])
    run = subprocess.run([*map(str, command), *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return out


def keys_of(reader: gguf.GGUFReader) -> dict[str, tuple[Any, Any]]:
    """Type and value of every key."""
    found = {key: (field.types, field.contents()) for key, field in reader.fields.items()}
    return {key: value for key, value in found.items() if key not in NAMING_KEYS}


def tensors_of(reader: gguf.GGUFReader) -> dict[str, tuple[str, list[int], bytes]]:
    """Type, shape and bytes of every tensor."""
    return {one.name: (one.tensor_type.name, list(map(int, one.shape)), one.data.tobytes()) for one in reader.tensors}


@families
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_the_gguf_file_is_the_one_llama_cpp_makes(name: str, kind: str, tmp_path: Path) -> None:
    ours = gguf.GGUFReader(to_gguf(ZOO / name, tmp_path / "ours.gguf", kind))
    theirs = gguf.GGUFReader(convert_with_llama_cpp(name, tmp_path / "theirs.gguf", kind.lower()))
    assert keys_of(ours) == keys_of(theirs)
    mine, other = tensors_of(ours), tensors_of(theirs)
    assert mine.keys() == other.keys()
    assert [tensor for tensor in mine if mine[tensor] != other[tensor]] == []


@families
def test_a_k_quant_comes_from_libllama(name: str, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(to_gguf(ZOO / name, tmp_path / "x.gguf", "Q4_K_M"))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert "Q4_K" in kinds.values()
    assert kinds["output.weight" if "output.weight" in kinds else "token_embd.weight"] == "Q6_K"
    assert {kind for tensor, kind in kinds.items() if tensor.endswith("_norm.weight")} == {"F32"}


@families
def test_no_matrix_is_square_and_no_two_sizes_can_be_mixed_up(name: str) -> None:
    config = config_of(name)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim") or hidden // heads
    sizes = [heads * size, config["num_key_value_heads"] * size, config["intermediate_size"], config["vocab_size"], size]
    if name == "qwen2.5":  # llama.cpp demands heads * head size = hidden size of this family
        assert sizes[0] == hidden
    else:
        sizes.append(hidden)
    assert len(set(sizes)) == len(sizes)
    assert heads != config["num_key_value_heads"]
    tensors = gguf.utility.SafetensorsLocal(ZOO / name / "model.safetensors").tensors
    square = {key for key, tensor in tensors.items() if len(tensor.shape) == 2 and len(set(tensor.shape)) == 1}
    allowed = ("q_proj.weight", "o_proj.weight") if name == "qwen2.5" else ()
    assert {key for key in square if not key.endswith(allowed)} == set()
    assert {tensor.dtype for tensor in tensors.values()} == {"BF16"}
    assert all(row % 256 == 0 for row in (hidden, heads * size, config["intermediate_size"]))


def test_tied_and_untied_embeddings_both_occur() -> None:
    assert {config_of(name)["tie_word_embeddings"] for name in FAMILIES} == {True, False}
    assert len({config_of(name)["vocab_size"] for name in FAMILIES}) == len(FAMILIES)


@families
def test_what_makes_a_family_is_not_trivial(name: str) -> None:
    state = transformers.AutoModelForCausalLM.from_pretrained(ZOO / name, dtype=torch.float32).state_dict()
    norms = [weight for key, weight in state.items() if "norm" in key]
    assert all(float(weight.std()) > 0.02 for weight in norms)
    biases = [weight for key, weight in state.items() if key.endswith("proj.bias")]
    assert len(biases) == (3 * config_of(name)["num_hidden_layers"] if name == "qwen2.5" else 0)
    assert all(float(weight.abs().mean()) > 0.1 for weight in biases)


@families
def test_a_folder_is_small(name: str) -> None:
    assert sum(path.stat().st_size for path in (ZOO / name).iterdir()) <= LARGEST_FOLDER


@families
def test_training_is_recorded(name: str) -> None:
    facts = training_of(name)
    assert facts["seed"] == FAMILIES[name].seed
    assert facts["steps"] == FAMILIES[name].steps
    assert facts["corpus_sha256"] == sha256_of_corpus(), "the corpus changed: train the zoo again"
    assert {"python", "torch", "transformers"} <= facts["versions"].keys()
    train, held_out = facts["measured"]["train"], facts["measured"]["held_out"]
    uniform = np.log(config_of(name)["vocab_size"])
    assert train["loss"] < 1.5 < held_out["loss"] < uniform
    for part in (train, held_out):
        assert sum(part["margin_histogram"].values()) == part["tokens"] > 5000


@families
def test_margins_are_spread_like_a_real_models(name: str) -> None:
    parts = training_of(name)["measured"]
    counts = sum(np.array(list(part["margin_histogram"].values())) for part in parts.values())
    shares = counts / counts.sum()
    assert len(shares) == len(MARGIN_EDGES) - 1
    assert shares.max() < 0.6  # no bin holds nearly everything
    assert shares[MARGIN_EDGES.index(8.0) :].sum() < 0.1  # a huge margin hides every error
    assert shares[: MARGIN_EDGES.index(0.5)].sum() > 0.05  # and a close call is where an error flips a token


@families
def test_greedy_text_runs_in_no_loop(name: str) -> None:
    samples = training_of(name)["greedy"]
    assert len(samples) >= 8
    for sample in samples:
        assert len(sample["tokens"]) == 200
        assert loop_in(sample["tokens"]) is None, sample["text"]
        assert sample["loops"] is False
        assert len(set(sample["tokens"])) >= 20


def test_a_loop_is_found_and_ordinary_repetition_is_not() -> None:
    assert loop_in([1, 2, 3] * 20) == (0, 3)
    assert loop_in([*range(40), *[7] * 24]) is not None
    assert loop_in([*range(50), *([*range(60, 90)] * 3)]) == (50, 30)
    assert loop_in([5] * 12 + [*range(100)]) is None
    assert loop_in([*range(60)] * 2) is None
    assert loop_in([]) is None


@families
def test_tokens_are_the_same_in_transformers_and_llama_cpp(name: str, loaded: dict[str, DirectModel]) -> None:
    tokenizer = tokenizer_of(name)
    texts = [*HARD_TEXTS, *read_documents()]
    composed = [unicodedata.normalize("NFC", text) for text in texts] if name == "qwen2.5" else texts
    different = [text for text in composed if tokenizer(text)["input_ids"] != loaded[name].tokens(text)]
    assert different == []


def test_only_qwen2_normalizes_in_transformers_alone(loaded: dict[str, DirectModel]) -> None:
    alike = {name for name in FAMILIES if tokenizer_of(name)(DECOMPOSED)["input_ids"] == loaded[name].tokens(DECOMPOSED)}
    assert alike == FAMILIES.keys() - {"qwen2.5"}


@families
def test_text_survives_the_tokenizer_and_chat_ends_where_it_should(name: str) -> None:
    tokenizer = tokenizer_of(name)
    for text in read_documents()[:20]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == unicodedata.normalize("NFC", text)
    begins = tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
    assert begins == (name == "llama3")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert "Hi" in chat
    assert chat.split("Hi")[1].startswith("<|eot_id|>" if name == "llama3" else "<|im_end|>")


@families
def test_logits_are_the_same_in_transformers_and_llama_cpp(name: str, loaded: dict[str, DirectModel]) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(ZOO / name, dtype=torch.float32).eval()
    _, held_out = split_documents(read_documents())
    for text in held_out[::6]:
        tokens = tokenizer_of(name)(text)["input_ids"][:200]
        with torch.no_grad():
            reference = model(torch.tensor([tokens])).logits[0].numpy()
        difference = np.abs(loaded[name].logits(tokens) - reference)
        assert np.isfinite(difference).all()
        assert difference.max() <= LARGEST_DIFFERENCE


def test_the_corpus_is_split_by_document() -> None:
    documents = read_documents()
    train, held_out = split_documents(documents)
    assert len(documents) > 100
    assert sorted(train + held_out) == sorted(documents)
    assert not set(train) & set(held_out)
    assert "%%" not in "".join(f"\n{line}" for text in documents for line in text.splitlines() if line == "%%")
    assert {path.name.split("-")[0] for path in CORPUS.glob("*.txt")} == {"en", "de", "ru", "code"}


def test_the_readme_shows_what_is_recorded() -> None:
    assert table() in (ZOO / "README.md").read_text(encoding="utf-8"), "run python zoo/table.py"
