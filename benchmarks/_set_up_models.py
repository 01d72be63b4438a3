"""Models with one fault: files of the zoo, edited, under a contract that is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import yaml
from _set_up_faults import DROP, edit_folder, edit_gguf, first_row, fresh, unpaired_rows, with_nan

ZOO = Path(__file__).parents[1] / "zoo"
BASIS = "two engines on one model, as the demo measures them"
LOOSE = {"match": 5.0, "wrong": 50.0, "basis": BASIS}


@dataclass(frozen=True)
class Case:
    """One set-up: `make` writes it into a folder and gives the command, `says` is what must be said of a fault."""

    name: str
    make: Callable[[Path], list[str]]
    says: str = ""


def contract(folder: Path, family: str, label: str = "F32", file: Path | None = None, **changes: Any) -> list[str]:
    """Write a contract of llama.cpp against transformers on one zoo model; the command that checks it."""
    models = {
        "original": str(changes.pop("original", ZOO / family)),
        label: str(file or ZOO / "gguf" / f"{family}-{label}.gguf"),
    }
    prompts = changes.pop("prompts", [{"id": "moon", "text": "The moon goes around the earth because"}])
    (folder / "small.yaml").write_text(yaml.safe_dump({"suite": "small", "max_new_tokens": 8, "prompts": prompts}))
    data = {
        "contract": "planted",
        "reference": {"engine": "transformers", "options": {"threads": 1}},
        "candidates": {"mine": {"engine": "llamacpp", "options": {"threads": 1}}},
        "models": {"m": models},
        "suites": ["small.yaml"],
        "matrix": {"quantization": [label], "mode": ["prefill"]},
        "bands": [LOOSE],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1.0, "basis": BASIS}],
        "error_bar": {"vary": []},
        **changes,
    }
    (folder / "planted.parity.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return ["check", str(folder / "planted.parity.yaml"), "--out", str(folder / "run")]


def _gguf(name: str, says: str, family: str, label: str = "F32", **edit: Any) -> Case:
    """The candidate's GGUF file, edited."""

    def make(folder: Path) -> list[str]:
        source = ZOO / "gguf" / f"{family}-{label}.gguf"
        return contract(folder, family, label, edit_gguf(source, folder / "edited.gguf", **edit))

    return Case(name, make, says)


def metadata() -> Iterator[Case]:
    keys: list[tuple[str, str, str, dict[str, Any]]] = [
        ("rope base of the converter's default", "PF201 rope base", "llama3", {"llama.rope.freq_base": 10000.0}),
        ("rope base key dropped", "PF201 rope base", "qwen3", {"qwen3.rope.freq_base": DROP}),
        ("linear rope scaling that nobody asked for", "PF202 rope scaling", "qwen3",
         {"qwen3.rope.scaling.type": "linear", "qwen3.rope.scaling.factor": 4.0}),
        ("half of the head rotated", "PF203 rotary dimensions", "llama3", {"llama.rope.dimension_count": 32}),
        ("sections of multimodal rope in another order", "PF203 rotary sections", "qwen3.5",
         {"qwen35.rope.dimension_sections": [2, 3, 3, 0]}),
        ("norm epsilon hard-coded", "PF204 norm epsilon", "llama3", {"llama.attention.layer_norm_rms_epsilon": 1e-6}),
        ("key heads of another model", "PF205 key and value heads", "qwen3", {"qwen3.attention.head_count_kv": 1}),
        ("head size of another model", "PF206 head size", "qwen3", {"qwen3.attention.key_length": 128}),
        ("a sliding window that the model does not have", "PF209 sliding window", "qwen3",
         {"qwen3.attention.sliding_window": 64}),
        ("a softcap that the model does not have", "PF210 softcap", "qwen3", {"qwen3.final_logit_softcapping": 30.0}),
        ("one expert a token instead of two", "PF211 experts used", "qwen3-moe", {"qwen3moe.expert_used_count": 1}),
        ("expert weights scaled", "PF211 scale of expert weights", "qwen3-moe", {"qwen3moe.expert_weights_scale": 2.5}),
        ("context cut to an eighth", "PF212 context length", "llama3", {"llama.context_length": 512}),
        ("logits scaled", "PF213 scale of logits", "llama3", {"llama.logit_scale": 0.125}),
    ]  # fmt: skip
    for name, says, family, changed in keys:
        yield _gguf(name, says, family, keys=changed)


def tokenizers() -> Iterator[Case]:
    def swapped(key: str, family: str, a: int, b: int) -> dict[str, Any]:
        values = list(gguf.GGUFReader(ZOO / "gguf" / f"{family}-F32.gguf").fields[key].contents())
        values[a], values[b] = values[b], values[a]
        return {key: values}

    yield _gguf("BOS not added", "PF306 BOS is added", "llama3", keys={"tokenizer.ggml.add_bos_token": False})
    yield _gguf("BOS added", "PF306 BOS is added", "qwen3", keys={"tokenizer.ggml.add_bos_token": True})
    yield _gguf("another BOS token", "PF305 BOS token", "llama3", keys={"tokenizer.ggml.bos_token_id": 1497})
    yield _gguf("another chat template", "PF307 chat template", "qwen3", keys={"tokenizer.chat_template": "{{ messages }}"})
    yield _gguf("another pre-tokenizer", "PF304 pre-tokenizer", "llama3", keys={"tokenizer.ggml.pre": "qwen2"})
    yield _gguf("two vocabulary entries exchanged", "PF302 vocabulary", "qwen3", keys=swapped(
        "tokenizer.ggml.tokens", "qwen3", 700, 701))  # fmt: skip
    yield _gguf("two merges exchanged", "PF303 merges", "qwen2.5", keys=swapped("tokenizer.ggml.merges", "qwen2.5", 20, 900))


def tensors() -> Iterator[Case]:
    layer = "blk.1."
    square = {f"{layer}attn_q.weight": lambda values: values.T}
    yield _gguf("a tensor dropped", "PF101 weights of blk.1.ffn_up.weight", "qwen3", tensors={f"{layer}ffn_up.weight": None})
    yield _gguf("rope factors dropped", "PF202 weights of rope_freqs.weight", "llama3", tensors={"rope_freqs.weight": None})
    yield _gguf("the output matrix dropped", "PF208 weights of output.weight", "llama3", tensors={"output.weight": None})
    yield _gguf(
        "a matrix left at zero", "PF106 .*every value is 0", "qwen3", tensors={f"{layer}attn_output.weight": np.zeros_like}
    )
    yield _gguf("a norm left at one", "PF106 .*every value is 1", "llama3", tensors={f"{layer}ffn_norm.weight": np.ones_like})
    yield _gguf("a matrix left as a framework initialises it", "PF104 .*nothing to do with", "llama3",
                tensors={f"{layer}ffn_down.weight": fresh})  # fmt: skip
    yield _gguf("Q not permuted for rotary pairs", "PF105 .*attn_q.*another order", "llama3",
                tensors={f"{layer}attn_q.weight": unpaired_rows(8)})  # fmt: skip
    yield _gguf("K permuted with the number of Q's heads", "PF105 .*attn_k.*another order", "llama3",
                tensors={f"{layer}attn_k.weight": lambda values: unpaired_rows(8)(_paired(values))})  # fmt: skip
    yield _gguf("a square matrix left untransposed", "PF105 .*transposed", "qwen2.5", tensors=square)
    gate, up = "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"
    yield _gguf("gate and up exchanged", "PF104 weights of blk.0.ffn_gate.weight", "qwen3", swap={gate: up, up: gate})
    yield _gguf("experts in another order", "PF105 .*ffn_down_exps", "qwen3-moe",
                tensors={f"{layer}ffn_down_exps.weight": lambda values: values[::-1]})  # fmt: skip
    yield _gguf("one layer in the place of another", "PF104 weights of blk.1.ffn_gate.weight", "qwen3",
                swap={f"blk.1.ffn_{part}.weight": f"blk.0.ffn_{part}.weight" for part in ("gate", "up", "down")})  # fmt: skip
    yield _gguf("norms without the one that is added", "PF104 .*minus one", "qwen3.5",
                tensors={f"blk.{n}.attn_norm.weight": lambda values: values - 1 for n in range(3)})  # fmt: skip
    yield _gguf("one embedding row off", "PF104 .*row 40", "llama3", "Q8_0", tensors={"token_embd.weight": first_row(0.2)})
    yield _gguf("a NaN in the weights", "PF107 .*not finite", "qwen2.5", tensors={f"{layer}ffn_up.weight": with_nan})
    yield _gguf("8-bit scales of one matrix doubled", "PF104 .*times 2", "qwen3", "Q8_0",
                tensors={f"{layer}attn_v.weight": lambda values: 2 * values})  # fmt: skip
    yield Case("4-bit weights under an 8-bit label", lambda f: contract(
        f, "qwen3", "Q8_0", ZOO / "gguf" / "qwen3-Q4_K_M.gguf"), "PF108 quantization")  # fmt: skip
    yield Case("weights of another model", lambda f: contract(f, "qwen3", "F32", ZOO / "gguf" / "qwen2.5-F32.gguf"), "PF20[07]")


def _paired(values: np.ndarray, heads: int = 2) -> np.ndarray:
    """Back to halves from neighbours."""
    size = values.shape[0] // heads
    return values.reshape(heads, size // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _folder(name: str, says: str, family: str, **edit: Any) -> Case:
    """The checkpoint that the reference reads, edited."""
    return Case(name, lambda f: contract(f, family, original=edit_folder(ZOO / family, f / "model", **edit)), says)


def checkpoints() -> Iterator[Case]:
    def renamed(config: dict[str, Any]) -> None:
        config["rope_params"] = config.pop("rope_parameters")

    def unscaled(config: dict[str, Any]) -> None:
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": 500000.0}

    def halved(file: Path) -> None:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    def truncated(folder: Path) -> list[str]:
        made = edit_folder(ZOO / "qwen3", folder / "model")
        halved(made / "model.safetensors")
        return contract(folder, "qwen3", original=made)

    def added(held: dict[str, np.ndarray]) -> None:
        update = np.random.default_rng(1).normal(0, 0.02, (2, 256, 4)).astype(np.float32)
        name = "model.layers.0.mlp.down_proj.weight"
        held[name] = held[name] + update[0] @ np.resize(update[1], (4, held[name].shape[1])) * 5

    yield _folder("rope_parameters under another name", "PF20[012] ", "llama3", config=renamed)
    yield _folder("rope scaling missing in config.json", "PF202 weights of rope_freqs", "llama3", config=unscaled)
    yield _folder("a tied model taken for untied", "PF208", "qwen3", config=lambda c: c.update(tie_word_embeddings=False))
    yield _folder("an untied model taken for tied", "PF208", "llama3", config=lambda c: c.update(tie_word_embeddings=True))
    yield _folder(
        "head_dim of another model in config.json", "PF206 head size", "qwen3", config=lambda c: c.update(head_dim=32)
    )
    yield _folder("three experts a token in config.json", "PF211 experts used", "qwen3-moe",
                  config=lambda c: c.update(num_experts_per_tok=3))  # fmt: skip
    yield _folder("expert weights not normalised in config.json", "PF2.. .*norm_topk_prob", "qwen3-moe",
                  config=lambda c: c.update(norm_topk_prob=False))  # fmt: skip
    yield _folder("a sliding window in config.json", "PF2.. .*sliding", "qwen2.5",
                  config=lambda c: c.update(use_sliding_window=True, sliding_window=32, layer_types=None))  # fmt: skip
    yield _folder("vocab_size of another model in config.json", "PF301 vocabulary size", "qwen3",
                  config=lambda c: c.update(vocab_size=1600))  # fmt: skip
    yield _folder("a tensor missing in the checkpoint", "PF101", "llama3",
                  tensors=lambda held: held.pop("model.layers.1.mlp.up_proj.weight"))  # fmt: skip
    yield _folder("a tensor of the checkpoint left at zero", "PF106", "llama3", tensors=lambda held: held.update(
        {"model.layers.1.mlp.up_proj.weight": np.zeros_like(held["model.layers.1.mlp.up_proj.weight"])}))  # fmt: skip
    yield _folder("an adapter merged on one side only", "PF104 .*ffn_down", "qwen3", tensors=added)
    yield _folder("an activation that the other side does not have", "PF200 .*gelu", "qwen3",
                  config=lambda c: c.update(hidden_act="gelu"))  # fmt: skip
    yield Case("a truncated checkpoint", truncated, "truncated")
