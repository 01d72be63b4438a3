"""What is fuzzed: every reader of files from outside with a sound sample, and the faults that are put into it."""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from logitproof.contract.contract import open_contract
from logitproof.contract.suite import open_suite
from logitproof.errors import ContractError, Refusal
from logitproof.files.arrays import read_arrays, write_arrays
from logitproof.files.gguf import GgufFile
from logitproof.gguf.side import Side, open_side
from logitproof.gguf.tensors import FolderTensors, GgufTensors
from logitproof.gguf.tokenizer import PRE_TOKENIZERS
from logitproof.gguf.vocabulary import token_texts, vocabulary_size
from logitproof.gguf.write import to_gguf
from logitproof.golden.freeze import freeze
from logitproof.jobs.capture import capture
from logitproof.localization.tap_dump import open_tap_dump
from logitproof.quality.accuracy import read_questions
from logitproof.quality.chat_template import template_of
from logitproof.readers import open_dump
from logitproof.runs.pins import gguf_tokenizer_hashes, make_pins, read_pins, write_pins
from logitproof.runs.workspace import Workspace
from logitproof.traces.dump import Dump, DumpedPrompt
from logitproof.weights.adapter import read_adapter
from logitproof.weights.model import open_model

REFUSALS = (ContractError, Refusal)
"""What a reader may raise: the file is wrong, and it says so."""
TOKENS = (
    b"9223372036854775808", b"-9223372036854775809", b"1" * 30, b"9" * 5000, b"-1", b"0", b"1e999", b"NaN", b"Infinity",
    b"-Infinity", b"null", b"true", b"[]", b"{}", b'""', b'"x"', b'"\\ud800"', b'"\\u0000"', b"[" * 3000, b'{"a":' * 3000,
    b"[[]]", b'[{"x": [1]}]', b"2026-02-30", b"*a", b"&a", b"<<: ", b"? [a]\n: b", b"!!int x", b"!!timestamp x", b"\xff",
    b"\xed\xa0\x80", b"\x00", b"\r\n", b"%", b"'", b'"', b"\\", b"@@", b"../../..", b"/dev/zero",
)  # fmt: skip
NUMBERS = (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
WRITTEN = (
    "aprrawlg", "frozen_json", "hf_fixture", "key_value", "llamacpp_fixture", "llamacpp_kl_base", "ndjson", "npy", "raw_f32",
    "safetensors_golden",
)  # fmt: skip
"""Formats of dumps that can be written."""
VALUE = re.compile(rb'-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|"(?:[^"\\]|\\.)*"|true|false|null|\[\]|\{\}')


@dataclass(frozen=True)
class Target:
    """One border: sound files in a folder, which of them take faults, and what reads them."""

    name: str
    sample: Path
    files: tuple[str, ...]
    read: Callable[[Path], object]

    def broken(self, chance: random.Random, folder: Path) -> tuple[str, bytes]:
        """Put faults into one file of a copy of the sample in `folder`; its name and its content."""
        name = chance.choice(self.files)
        data = mutated((self.sample / name).read_bytes(), chance)
        (folder / name).write_bytes(data)
        return name, data

    def restore(self, folder: Path, name: str) -> None:
        """Undo `broken`."""
        shutil.copyfile(self.sample / name, folder / name)


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes with up to three faults."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        values = list(VALUE.finditer(data[:65536])) if chance.random() < 0.5 else []
        if values:
            value = chance.choice(values)
            data = data[: value.start()] + chance.choice(TOKENS) + data[value.end() :]
        else:
            data = _damaged(data, chance)
    return data


def _damaged(data: bytes, chance: random.Random) -> bytes:
    # Headers are at the front, and a fault among the numbers of a tensor tells little.
    at = chance.randrange(min(len(data), chance.choice((64, 1024, 1 << 30))) or 1)
    fault = chance.randrange(7)
    if fault == 0:
        return data[:at]
    if fault == 1:
        return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    if fault == 2:
        return data[:at] + struct.pack("<Q", chance.choice(NUMBERS)) + data[at + 8 :]
    if fault == 3:
        return data[:at] + struct.pack("<I", chance.choice(NUMBERS) % 2**32) + data[at + 4 :]
    if fault == 4:
        return data[:at] + data[at + chance.randrange(1, 32) :]
    if fault == 5:
        return data[:at] + chance.choice(TOKENS) + data[at:]
    start = chance.randrange(len(data) or 1)
    return data[:at] + data[start : start + chance.randrange(1, 64)] + data[at:]


def targets(folder: Path) -> Iterator[Target]:
    """Every target, its sample made below `folder`; the engine `toy` is run once for what only a run can make."""
    yield from _dumps(folder)
    yield from _run(folder)
    yield from _models(folder)
    yield from _others(folder)


def _dumps(folder: Path) -> Iterator[Target]:
    tokens, vocab = [3, 1, 4, 1, 5], 7
    logits = np.random.default_rng(0).normal(size=(5, vocab)).astype(np.float32)
    for row, token in enumerate(tokens[1:]):
        logits[row, token] = 9.0
    dump = Dump((DumpedPrompt("p", tokens, 2, np.arange(5), logits, text="hello"),), vocab)
    for name in WRITTEN:
        place = folder / name
        place.mkdir(parents=True)
        _writer(name).write(dump, place / "dump")
        files = tuple(sorted(path.name for path in place.iterdir()))
        yield Target(name, place, files, lambda at, name=name: _opened(at / "dump", name))  # type: ignore[misc]
    texts = {
        "marked_text": b"Token IDs: [1, 2, 3]\nGenerated: [4, 5]\n",
        "aprt": b"APRT" + struct.pack("<II", 3, 2) + np.arange(4, dtype="<f4").tobytes(),
    }
    for name, data in texts.items():
        (folder / name).mkdir()
        (folder / name / "dump").write_bytes(data)
        yield Target(name, folder / name, ("dump",), lambda at, name=name: _opened(at / "dump", name))  # type: ignore[misc]


def _writer(name: str) -> Any:
    from logitproof import catalog

    return catalog.load("readers", name)()


def _opened(path: Path, name: str) -> None:
    """Read by the format's name, and by content; the last refusal is raised when both were tried."""
    refusal: Exception | None = None
    for form in (name, None):
        try:
            dump = open_dump(path, form)
            for prompt in dump.prompts:
                if prompt.logits is not None:
                    np.asarray(prompt.logits[: min(4, len(prompt.logits))])
        except REFUSALS as error:
            refusal = error
    if refusal is not None:
        raise refusal


def _run(folder: Path) -> Iterator[Target]:
    place = folder / "project"
    place.mkdir()
    (place / "toy.json").write_text('{"vocab_size": 300, "seed": 1}')
    suite = {"suite": "s", "max_new_tokens": 3, "prompts": [{"id": "p", "text": "hello"}, {"id": "q", "token_ids": [5, 6, 7]}]}
    (place / "suite.yaml").write_text(yaml.safe_dump(suite))
    basis = "a reason of more than ten letters"
    waiver = {"id": "w", "cell": "good/*", "prompt": "0" * 12, "issue": "none", "until": "2099-01-01", "reason": basis}
    contract = {
        "contract": "c", "reference": {"engine": "toy"}, "candidates": {"good": {"engine": "toy", "options": {"noise": 1e-7}}},
        "models": {"m": {"original": "toy.json"}}, "suites": ["suite.yaml"], "matrix": {"mode": ["prefill"]},
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": basis}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": basis}],
    }  # fmt: skip
    path = place / "c.parity.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    opened = open_contract(path)
    Workspace(place / "run").check(opened)
    write_pins(make_pins(opened, {}), place / "c.pins.yaml")
    write_pins(make_pins(opened, {}), place / "c.pins.toml")
    yield Target("contract", place, ("c.parity.yaml",), lambda at: open_contract(at / "c.parity.yaml"))
    text = yaml.safe_dump({**contract, "waivers": [waiver]}, sort_keys=False).replace("'2099-01-01'", "2099-01-01")
    (place / "w.parity.yaml").write_text(text)
    yield Target("waiver", place, ("w.parity.yaml",), lambda at: open_contract(at / "w.parity.yaml"))
    yield Target("suite", place, ("suite.yaml",), lambda at: open_suite("suite.yaml", at))
    yield Target("pins yaml", place, ("c.pins.yaml",), lambda at: read_pins(at / "c.pins.yaml"))
    yield Target("pins toml", place, ("c.pins.toml",), lambda at: read_pins(at / "c.pins.toml"))
    yield Target("run.json", place, ("run/run.json",), lambda at: Workspace(at / "run").judge_again(at / "c.parity.yaml"))
    made = folder / "captured"
    capture("toy", place / "toy.json", str(place / "suite.yaml"), made)
    files = sorted(str(path.relative_to(made)) for path in made.rglob("*.json"))
    yield Target("capture", made, tuple(files), lambda at: _opened(at, "capture"))
    (folder / "golden").mkdir()
    freeze(made, folder / "golden" / "dump")
    yield Target("golden", folder / "golden", ("dump",), lambda at: _opened(at / "dump", "golden"))


def _models(folder: Path) -> Iterator[Target]:
    place = folder / "model"
    write_model(place)
    names = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "chat_template.jinja",
             "model.safetensors.index.json", "generation_config.json")  # fmt: skip
    yield Target("model folder", folder, tuple(f"model/{name}" for name in names), lambda at: read_model(at / "model"))
    (folder / "gguf").mkdir()
    to_gguf(place, folder / "gguf" / "x.gguf", "Q8_0")
    yield Target("gguf", folder / "gguf", ("x.gguf",), lambda at: read_model(at / "x.gguf"))
    made = folder / "adapter"
    made.mkdir()
    (made / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
    pair = {f"{name}A.weight": np.ones((2, 48), np.float32), f"{name}B.weight": np.ones((32, 2), np.float32)}
    write_safetensors(made / "adapter_model.safetensors", pair)
    yield Target("adapter", made, ("adapter_config.json", "adapter_model.safetensors"), read_adapter)


def _others(folder: Path) -> Iterator[Target]:
    (folder / "arrays").mkdir()
    write_arrays(folder / "arrays" / "x.npz", {"a": [1, 2]}, {"rows": np.arange(50.0), "ids": np.arange(7)})
    yield Target("arrays", folder / "arrays", ("x.npz",), lambda at: read_arrays(at / "x.npz", "again"))
    place = folder / "taps"
    place.mkdir()
    values = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    np.savez_compressed(place / "all.npz", **{"stage.0": values})
    np.save(place / "norm.npy", values)
    write_safetensors(place / "x.safetensors", {"out": values})
    (place / "ids.json").write_text("[1, 2, 3, 4]")
    taps = {
        "token_ids": "ids.json",
        "taps": {
            "layers.{layer}.out": {"file": "all.npz", "array": "stage.{layer}"},
            "norm": {"file": "norm.npy"},
            "embedding": {"file": "x.safetensors", "array": "out"},
        },
    }
    (place / "taps.yaml").write_text(yaml.safe_dump(taps))
    yield Target("tap dump", place, ("all.npz", "norm.npy", "x.safetensors", "ids.json", "taps.yaml"), open_tap_dump)
    (folder / "questions").mkdir()
    question = {"question": "1 + 1?", "choices": ["1", "2"], "answer": 1}
    (folder / "questions" / "q.jsonl").write_text(f"{json.dumps(question)}\n" * 2)
    yield Target("questions", folder / "questions", ("q.jsonl",), lambda at: read_questions(str(at / "q.jsonl")))


def read_model(path: Path) -> None:
    """Everything that preflight and pins ask of weights that were opened, each by itself: one refusal hides no other fault."""
    open_model(path)
    if path.suffix == ".gguf":
        # A file that does not begin so is another engine's, and no business of ours.
        steps: list[Callable[[], object]] = [
            lambda: [entry.contents() for entry in GgufFile(path).fields.values()],
            lambda: _all_rows(GgufTensors(GgufFile(path))),
            lambda: gguf_tokenizer_hashes(path),
        ]
    else:
        steps = [lambda: _all_rows(FolderTensors(path))]
    side = open_side(path)
    steps += [lambda: _asked(side), lambda: template_of(path), lambda: token_texts(path), lambda: vocabulary_size(path)]
    for step in steps:
        try:
            step()
        except REFUSALS:
            continue


def _asked(side: Side) -> None:
    for name in ("architecture", "keys", "tokenizer", *(("general",) if side.format == "gguf" else ("layout",))):
        if side.format == "other":
            return
        try:
            getattr(side, name)
        except REFUSALS:
            continue


def _all_rows(tensors: GgufTensors | FolderTensors) -> None:
    for name in tensors.names:
        try:
            tensors.rows(name)
        except REFUSALS:
            continue


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """A safetensors file of float32 arrays."""
    header, parts, at = {}, [], 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        parts.append(array.tobytes())
        at += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def write_model(place: Path) -> None:
    """A complete Qwen3 of one layer."""
    place.mkdir()
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "hidden_size": 64, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "num_hidden_layers": 1,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": True,
        "vocab_size": 6,
    }  # fmt: skip
    split = next(pattern for pattern, name in PRE_TOKENIZERS.items() if name == "qwen2")
    tokenizer = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": split}}]},
        "post_processor": {"type": "ByteLevel"},
        "added_tokens": [{"id": 3, "content": "<|endoftext|>", "special": True}],
    }
    shapes = {
        "embed_tokens": (6, 64), "norm": (64,), "layers.0.input_layernorm": (64,), "layers.0.post_attention_layernorm": (64,),
        "layers.0.self_attn.q_proj": (32, 64), "layers.0.self_attn.k_proj": (16, 64), "layers.0.self_attn.v_proj": (16, 64),
        "layers.0.self_attn.o_proj": (64, 32), "layers.0.self_attn.q_norm": (8,), "layers.0.self_attn.k_norm": (8,),
        "layers.0.mlp.gate_proj": (64, 64), "layers.0.mlp.up_proj": (64, 64), "layers.0.mlp.down_proj": (64, 64),
    }  # fmt: skip
    draw = np.random.default_rng(7)
    tensors = {f"model.{name}.weight": draw.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    write_safetensors(place / "model.safetensors", tensors)
    index = {"weight_map": dict.fromkeys(tensors, "model.safetensors")}
    settings = {"eos_token": "<|endoftext|>", "chat_template": "{{ x }}", "model_max_length": 10**30}
    for name, value in (
        ("config", config), ("tokenizer", tokenizer), ("tokenizer_config", settings), ("model.safetensors.index", index),
        ("generation_config", {"eos_token_id": 3}),
    ):  # fmt: skip
        (place / f"{name}.json").write_text(json.dumps(value))
    (place / "chat_template.jinja").write_text("{{ messages }}")
