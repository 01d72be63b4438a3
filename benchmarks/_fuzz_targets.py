"""What is fuzzed: every reader of files from outside, and every border to an engine, with a sound sample."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _fuzz_answers import answers
from _fuzz_damage import REFUSALS, Target, each
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from logitproof.attestation.keys import signed
from logitproof.attestation.make import payload_of, statement_of
from logitproof.attestation.statement import PAYLOAD
from logitproof.attestation.verify import verify
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import open_suite
from logitproof.errors import ContractError
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
from logitproof.traces.store import Store
from logitproof.weights.adapter import read_adapter
from logitproof.weights.model import open_model

WRITTEN = (
    "aprrawlg", "frozen_json", "hf_fixture", "key_value", "llamacpp_fixture", "llamacpp_kl_base", "ndjson", "npy", "raw_f32",
    "safetensors_golden",
)  # fmt: skip
"""Formats of dumps that can be written."""


def targets(folder: Path) -> Iterator[Target]:
    """Every target, its sample made below `folder`; the engine `toy` is run once for what only a run can make."""
    yield from _dumps(folder)
    yield from _run(folder)
    yield from _models(folder)
    yield from _others(folder)
    yield from answers(folder)


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
    yield from _saved(folder, tokens, logits)
    texts = {
        "marked_text": b"Token IDs: [1, 2, 3]\nGenerated: [4, 5]\n",
        "aprt": b"APRT" + struct.pack("<II", 3, 2) + np.arange(4, dtype="<f4").tobytes(),
    }
    for name, data in texts.items():
        (folder / name).mkdir()
        (folder / name / "dump").write_bytes(data)
        yield Target(name, folder / name, ("dump",), lambda at, name=name: _opened(at / "dump", name))  # type: ignore[misc]


def _saved(folder: Path, tokens: list[int], logits: np.ndarray) -> Iterator[Target]:
    """Dumps as everybody saves them, in formats that are only read."""
    import torch

    names = ("npz", "safetensors_logits", "torch_pt", "jsonl", "vllm_prompt_logprobs")
    places = {name: folder / name / "dump" for name in names}
    for place in places.values():
        place.parent.mkdir()
    with places["npz"].open("wb") as file:
        np.savez(file, logits=logits, token_ids=np.array(tokens))
    write_safetensors(places["safetensors_logits"], {"logits": logits})
    torch.save({"logits": torch.from_numpy(logits), "token_ids": tokens}, places["torch_pt"])
    line = json.dumps({"prompt": "hello", "token_ids": tokens, "logits": logits.tolist()})
    places["jsonl"].write_text(f"{line}\n" * 2)
    rows = [{str(token): {"logprob": -float(token), "rank": token} for token in range(1, 4)} for _ in tokens[1:]]
    asked = {"prompt_token_ids": tokens, "prompt_logprobs": [None, *rows]}
    places["vllm_prompt_logprobs"].write_text(json.dumps([asked]))
    for name, place in places.items():
        yield Target(name, place.parent, ("dump",), lambda at, name=name: _opened(at / "dump", name))  # type: ignore[misc]


def _writer(name: str) -> Any:
    from logitproof import catalog

    return catalog.load("readers", name)()


def _opened(path: Path, name: str) -> None:
    """Read by the format's name, and one file in eight by content too, which asks every reader."""
    by_content = path.is_dir() or zlib.crc32(path.read_bytes()) % 8 == 0
    each(partial(_dump_read, path, form) for form in ((name, None) if by_content else (name,)))


def _dump_read(path: Path, form: str | None) -> None:
    for prompt in open_dump(path, form).prompts:
        if prompt.logits is not None:
            np.asarray(prompt.logits[: min(4, len(prompt.logits))])


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
    traces = sorted(str(path.relative_to(place)) for path in (place / "run/store/traces").rglob("*") if path.is_file())
    yield Target("trace", place, tuple(traces), lambda at: _kept_whole(Store(at / "run/store"), traces))
    yield _evidence(place)
    made = folder / "captured"
    capture("toy", place / "toy.json", str(place / "suite.yaml"), made)
    files = sorted(str(path.relative_to(made)) for path in made.rglob("*.json"))
    yield Target("capture", made, tuple(files), lambda at: _opened(at, "capture"))
    (folder / "golden").mkdir()
    freeze(made, folder / "golden" / "dump")
    yield Target("golden", folder / "golden", ("dump",), lambda at: _opened(at / "dump", "golden"))


def _kept_whole(store: Store, files: list[str]) -> None:
    """Refused where the store has lost one of its traces."""
    if lost := [key for key in sorted({Path(file).parent.name for file in files}) if store.read(key) is None]:
        raise ContractError(f"damaged: {lost}")


def _evidence(place: Path) -> Target:
    """Signed evidence of the run, which is damaged before it is signed and after."""
    key = Ed25519PrivateKey.generate()
    statement = payload_of(statement_of(Workspace(place / "run")))
    (place / "statement.json").write_bytes(statement)
    (place / "evidence.json").write_bytes(signed(statement, PAYLOAD, key))

    def read(at: Path) -> None:
        (at / "again.json").write_bytes(signed((at / "statement.json").read_bytes(), PAYLOAD, key))
        each(partial(verify, at / name, key.public_key()) for name in ("evidence.json", "again.json"))

    return Target("evidence", place, ("evidence.json", "statement.json"), read)


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
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {".*.q_proj": 6},
              "target_modules": ".*(q|v)_proj", "exclude_modules": ["lm_head"], "layers_to_transform": [0]}  # fmt: skip
    (made / "adapter_config.json").write_text(json.dumps(config))
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
