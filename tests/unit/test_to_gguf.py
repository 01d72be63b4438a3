"""The converter on folders made by hand: what it refuses, and which types it writes. No engine is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from logitproof.errors import ContractError, ModelError
from logitproof.gguf.tokenizer import PRE_TOKENIZERS
from logitproof.gguf.write import to_gguf

QWEN2_SPLIT = next(pattern for pattern, name in PRE_TOKENIZERS.items() if name == "qwen2")
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"], "hidden_act": "silu", "hidden_size": 48, "head_dim": 8,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "num_hidden_layers": 1,
    "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True,
    "vocab_size": 6,
}  # fmt: skip
SHAPES = {
    "model.embed_tokens.weight": (6, 48),
    "model.norm.weight": (48,),
    "model.layers.0.input_layernorm.weight": (48,),
    "model.layers.0.post_attention_layernorm.weight": (48,),
    "model.layers.0.self_attn.q_proj.weight": (32, 48),
    "model.layers.0.self_attn.k_proj.weight": (16, 48),
    "model.layers.0.self_attn.v_proj.weight": (16, 48),
    "model.layers.0.self_attn.o_proj.weight": (48, 32),
    "model.layers.0.self_attn.q_norm.weight": (8,),
    "model.layers.0.self_attn.k_norm.weight": (8,),
    "model.layers.0.mlp.gate_proj.weight": (64, 48),
    "model.layers.0.mlp.up_proj.weight": (64, 48),
    "model.layers.0.mlp.down_proj.weight": (48, 64),
}
TOKENIZER: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}}, {"type": "ByteLevel"}],
    },
    "post_processor": {"type": "ByteLevel"},
    "added_tokens": [
        {"id": 3, "content": "<|endoftext|>", "special": True},
        {"id": 4, "content": "<think>", "special": False},
    ],
}


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], kind: str = "BF16") -> None:
    """A safetensors file; float32 arrays are cut to bfloat16 unless `kind` is F32."""
    header, parts, at = {}, [], 0
    for name, array in tensors.items():
        data = array.tobytes() if kind != "BF16" else (array.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def seeded_tensors() -> dict[str, np.ndarray]:
    """Random weights that bfloat16 holds exactly."""
    random = np.random.default_rng(7)
    drawn = {name: random.standard_normal(shape, dtype=np.float32) for name, shape in SHAPES.items()}
    return {name: (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32) for name, array in drawn.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete one-layer Qwen3."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    (made / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (made / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>", "chat_template": "{{ x }}"}))
    write_safetensors(made / "model.safetensors", seeded_tensors())
    return made


def change_config(folder: Path, **changes: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def test_every_tensor_and_the_tokenizer_arrive_unchanged(folder: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(to_gguf(folder, tmp_path / "out" / "x.gguf", "F32"))
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    given = seeded_tensors()
    assert len(tensors) == len(given)
    assert np.array_equal(tensors["token_embd.weight"], given["model.embed_tokens.weight"])
    assert np.array_equal(tensors["blk.0.attn_q.weight"], given["model.layers.0.self_attn.q_proj.weight"])
    values = {name: entry.contents() for name, entry in reader.fields.items()}
    assert values["tokenizer.ggml.tokens"] == ["a", "b", "ab", "<|endoftext|>", "<think>", "[PAD5]"]
    assert values["tokenizer.ggml.token_type"] == [1, 1, 1, 3, 4, 5]
    assert values["tokenizer.ggml.merges"] == ["a b"]
    assert values["tokenizer.ggml.pre"] == "qwen2"
    assert values["tokenizer.ggml.eos_token_id"] == 3
    assert values["tokenizer.chat_template"] == "{{ x }}"
    assert values["qwen3.attention.key_length"] == 8
    assert values["qwen3.rope.freq_base"] == 10000.0


@pytest.mark.parametrize(
    ("quantization", "rows_of_32", "rows_of_48"), [("F16", "F16", "F16"), ("BF16", "BF16", "BF16"), ("Q8_0", "Q8_0", "F16")]
)
def test_norms_stay_f32_and_odd_rows_fall_back(
    folder: Path, tmp_path: Path, quantization: str, rows_of_32: str, rows_of_48: str
) -> None:
    reader = gguf.GGUFReader(to_gguf(folder, tmp_path / "x.gguf", quantization))
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.attn_output.weight"] == rows_of_32
    assert kinds["blk.0.attn_q.weight"] == rows_of_48  # no whole blocks of 32
    assert {kinds[name] for name in kinds if name.endswith("_norm.weight")} == {"F32"}


def test_a_checkpoint_in_two_files_equals_one_file(folder: Path, tmp_path: Path) -> None:
    whole = to_gguf(folder, tmp_path / "whole.gguf", "F32").read_bytes()
    tensors = list(seeded_tensors().items())
    parts = {"part-1.safetensors": dict(tensors[:5]), "part-2.safetensors": dict(tensors[5:])}
    for name, part in parts.items():
        write_safetensors(folder / name, part)
    weight_map = {tensor: name for name, part in parts.items() for tensor in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "model.safetensors").unlink()
    assert to_gguf(folder, tmp_path / "parts.gguf", "F32").read_bytes() == whole


def test_an_unknown_architecture_is_named_with_the_known_ones(folder: Path, tmp_path: Path) -> None:
    change_config(folder, architectures=["MambaForCausalLM"])
    with pytest.raises(ContractError, match=r"(?s)MambaForCausalLM.*remedy.*Qwen3ForCausalLM"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


@pytest.mark.parametrize("lost", sorted(SHAPES))
def test_a_missing_tensor_is_named(folder: Path, tmp_path: Path, lost: str) -> None:
    write_safetensors(folder / "model.safetensors", {name: a for name, a in seeded_tensors().items() if name != lost})
    with pytest.raises(ModelError, match=lost):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


def test_a_tensor_without_a_place_is_named(folder: Path, tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.q_proj.bias": np.zeros(32, np.float32)}
    write_safetensors(folder / "model.safetensors", seeded_tensors() | extra)
    with pytest.raises(ModelError, match=r"no place.*q_proj\.bias"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


def test_a_tied_output_matrix_is_only_accepted_as_a_copy(folder: Path, tmp_path: Path) -> None:
    tensors = seeded_tensors()
    copied = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    write_safetensors(folder / "model.safetensors", copied)
    assert to_gguf(folder, tmp_path / "x.gguf", "F32").is_file()
    write_safetensors(folder / "model.safetensors", tensors | {"lm_head.weight": -tensors["model.embed_tokens.weight"]})
    with pytest.raises(ModelError, match="lm_head"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


@pytest.mark.parametrize(
    "change",
    [{"hidden_act": "gelu"}, {"use_sliding_window": True}, {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}],
)
def test_a_setting_that_llama_cpp_would_ignore_is_refused(folder: Path, tmp_path: Path, change: dict[str, object]) -> None:
    change_config(folder, **change)
    with pytest.raises(ContractError, match="remedy"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


def test_yarn_scaling_is_written_in_full(folder: Path, tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
    change_config(folder, rope_parameters=scaling)
    fields = gguf.GGUFReader(to_gguf(folder, tmp_path / "x.gguf", "F32")).fields
    assert fields["qwen3.rope.scaling.type"].contents() == "yarn"
    assert fields["qwen3.rope.scaling.factor"].contents() == 4.0
    assert fields["qwen3.rope.scaling.original_context_length"].contents() == 32


def test_llama3_scaling_becomes_divisors_and_must_be_complete(folder: Path, tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }  # fmt: skip
    tensors = {name: array for name, array in seeded_tensors().items() if not name.endswith(("q_norm.weight", "k_norm.weight"))}
    write_safetensors(folder / "model.safetensors", tensors)
    change_config(folder, architectures=["LlamaForCausalLM"], rope_scaling=scaling)
    reader = gguf.GGUFReader(to_gguf(folder, tmp_path / "x.gguf", "F16"))
    arrays = {tensor.name: tensor.data for tensor in reader.tensors}
    assert arrays["rope_freqs.weight"].dtype == np.float32
    assert arrays["rope_freqs.weight"].tolist()[0] == 1.0
    assert arrays["rope_freqs.weight"].tolist()[-1] == 8.0
    key = tensors["model.layers.0.self_attn.k_proj.weight"].astype(np.float16)
    assert np.array_equal(arrays["blk.0.attn_k.weight"][:4], key[[0, 4, 1, 5]])  # halves of a head of 8 become pairs
    del scaling["factor"]
    change_config(folder, architectures=["LlamaForCausalLM"], rope_scaling=scaling)
    with pytest.raises(ModelError, match="factor"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


def test_an_unknown_pre_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    other = TOKENIZER | {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"\w+"}}}
    (folder / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(ModelError, match="pre-tokenizer"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


def test_a_tokenizer_larger_than_the_embedding_is_refused(folder: Path, tmp_path: Path) -> None:
    change_config(folder, vocab_size=4)
    with pytest.raises(ModelError, match="no row"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"])
def test_a_missing_or_cut_file_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=name):
        to_gguf(folder, tmp_path / "x.gguf", "F32")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


def test_weights_of_another_type_are_refused(folder: Path, tmp_path: Path) -> None:
    write_safetensors(folder / "model.safetensors", {name: a.view(np.int32) for name, a in seeded_tensors().items()}, "I32")
    with pytest.raises(ModelError, match="I32"):
        to_gguf(folder, tmp_path / "x.gguf", "F32")


def test_a_failed_conversion_leaves_the_old_file_and_no_scraps(folder: Path, tmp_path: Path) -> None:
    out = to_gguf(folder, tmp_path / "out" / "x.gguf", "F32")
    before = out.read_bytes()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        to_gguf(folder, out, "F32")
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == ["x.gguf"]


def test_conversion_repeats_to_the_byte(folder: Path, tmp_path: Path) -> None:
    first = to_gguf(folder, tmp_path / "a.gguf", "Q8_0").read_bytes()
    shutil.copytree(folder, tmp_path / "again" / "model")
    assert to_gguf(tmp_path / "again" / "model", tmp_path / "b.gguf", "Q8_0").read_bytes() == first


@pytest.mark.parametrize("name", ["llama-bpe", "qwen2", "qwen35", "gpt-4o", "tekken", "smollm", "gpt-2"])
def test_a_pre_tokenizer_is_written_by_the_name_that_it_is_read_by(name: str, tmp_path: Path) -> None:
    """Whatever the reader makes of a file's name, the writer knows again."""
    from logitproof.gguf.tokenizer import _pre_tokenizer_name
    from logitproof.gguf.vocabularies import DIGITS, SPLITS

    split = {"type": "Split", "pattern": {"Regex": SPLITS.get(name, "")}, "behavior": "Isolated", "invert": False}
    steps = [split] if name in SPLITS else [{"type": "Digits", "individual_digits": True}] if name in DIGITS else []
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": name not in SPLITS}
    whole = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, last]}}
    assert _pre_tokenizer_name(whole, tmp_path) == name
    if not steps:
        assert _pre_tokenizer_name({"pre_tokenizer": last}, tmp_path) == name


@pytest.mark.parametrize(
    "steps",
    [
        [{"type": "Digits", "individual_digits": False}, {"type": "ByteLevel", "use_regex": True}],
        [{"type": "Whitespace"}, {"type": "ByteLevel", "use_regex": True}],
        [{"type": "ByteLevel", "use_regex": False}],
        [{"type": "Digits", "individual_digits": True}],
    ],
)
def test_a_pre_tokenizer_that_llama_cpp_has_no_name_for_is_refused(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    from logitproof.gguf.tokenizer import _pre_tokenizer_name

    with pytest.raises(ModelError, match="unknown pre-tokenizer"):
        _pre_tokenizer_name({"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}, tmp_path)
