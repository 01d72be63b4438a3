"""Files that nobody vouches for: each is read, or refused by one error that names the file, the place and a remedy."""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import random
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitproof import catalog
from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import open_suite
from logitproof.engines._http import ServerError
from logitproof.engines._program import ProgramFailed
from logitproof.errors import ContractError, EngineError, ModelError, Refusal
from logitproof.files.arrays import read_archive, read_array, read_arrays, write_arrays
from logitproof.files.safetensors import Tensors
from logitproof.files.untrusted import DEPTH_LIMIT, read_json, read_object, read_text
from logitproof.gguf.side import open_side
from logitproof.gguf.tokenizer import tokenizer_keys
from logitproof.gguf.vocabulary import special_tokens, token_texts
from logitproof.jobs.answers import Untrusted
from logitproof.readers import open_dump
from logitproof.runs.workspace import Workspace
from logitproof.traces.store import Store
from logitproof.weights.model import open_model

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/logitproof"
DEEP = 5000
REFUSALS = (ContractError, EngineError, ServerError, ProgramFailed, Untrusted)
"""Of files the first; of answers of engines and servers the others."""


def refused(read: Callable[[], object], path: Path, *places: str) -> ContractError:
    """The one error of reading, which names the file, these places and what to do."""
    with pytest.raises(ContractError) as raised:
        read()
    error = raised.value
    assert str(path) in str(error)
    assert error.remedy
    for place in places:
        assert place in str(error)
    assert len(str(error)) < 1000
    return error


# JSON and text


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", "line 1"),
        (b'{"a": 1', "line 1"),
        (b"[" * DEEP, f"more than {DEPTH_LIMIT} levels"),
        (b"[" * 500 + b"]" * 500, f"more than {DEPTH_LIMIT} levels"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, f"more than {DEPTH_LIMIT} levels"),
        (b"9" * 5000, "5000 digits"),
        (b"1" * 41, "41 digits"),
        (b'{"a": "\xff"}', "byte 7"),
        (b"\xff\xfe", "byte 0"),
    ],
)
def test_json_that_cannot_be_is_refused(tmp_path: Path, data: bytes, place: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    refused(lambda: read_json(path), path, place)


def test_json_that_many_files_hold_is_read(tmp_path: Path) -> None:
    """10^30 stands in tokenizer_config.json for "no limit"; Infinity in configs of state-space models."""
    path = tmp_path / "x.json"
    path.write_text('{"model_max_length": 1000000000000000019884624838656, "limit": [0.0, Infinity], "text": "\\ud83d\\ude00"}')
    assert read_object(path, halves=False)["text"] == "😀"


def test_half_of_a_character_is_refused_where_texts_are_hashed(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"a": "\\ud800"}')
    refused(lambda: read_object(path, halves=False), path, "half of a character")


@pytest.mark.parametrize("half", [b"\\ud800", b"\xed\xa0\x80"])
def test_half_of_a_character_in_a_header_of_safetensors_is_refused(tmp_path: Path, half: bytes) -> None:
    header = b'{"__metadata__": {"header": "' + half + b'"}}'
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused(lambda: Tensors(path), path, "half of a character")


def test_a_text_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    refused(lambda: read_text(path), path, "size")


# YAML and TOML

YAMLS = {
    "a self-reference": ("contract: &a {x: *a}\n", "1: not valid YAML: the alias *a"),
    "2,000 nested lists": ("contract: " + "[" * 2000, "1: not valid YAML: lists and mappings"),
    "500 closed lists": ("contract: " + "[" * 500 + "]" * 500, "1: not valid YAML: lists and mappings"),
    "a list as a key": ("contract: x\n? [a, b]\n: 1\n", "2: not valid YAML: a list or a mapping is a key"),
    "a mapping as a key": ("contract: x\n? {a: b}\n: 1\n", "2: not valid YAML: a list or a mapping is a key"),
    "an alias of a list as a key": ("contract: &a [x]\n*a : 1\n", "2: not valid YAML: a list or a mapping is a key"),
    "5,000 digits": ("contract: x\nbands: " + "9" * 5000, "2: not valid YAML: a whole number of 5000 digits"),
    "5,000 digits of base 16": ("contract: 0x" + "f" * 5000, "1: not valid YAML: a whole number of 5002 digits"),
    "a date that does not exist": ("contract: 2026-02-30\n", "1: not valid YAML: '2026-02-30' is no timestamp"),
    "an hour that does not exist": ("contract: 2026-02-03 25:00:00\n", "1: not valid YAML: '2026-02-03 25:00:00'"),
    "a tag that its value is not": ("contract: !!int x\n", "1: not valid YAML: 'x' is no int"),
    "an empty number": ("contract: !!int ''\n", "1: not valid YAML: '' is no int"),
    "a truth that is none": ("contract: !!bool x\n", "1: not valid YAML: 'x' is no bool"),
    "a date that is none": ("contract: !!timestamp x\n", "1: not valid YAML: 'x' is no timestamp"),
    "an object of Python": ("contract: !!python/object/apply:os.system [id]\n", "1: not valid YAML: the tag python/object"),
    "half of a character": ('contract: "\\ud800"\n', "1: not valid YAML: half of a character"),
    "no character": ('contract: "\\U00110000"\n', "1: not valid YAML"),
    "an unknown alias": ("contract: *a\n", "1: not valid YAML: the alias *a names nothing"),
    "a control character": ("contract: \x07\n", "not valid YAML"),
    "two documents": ("contract: a\n---\ncontract: b\n", "2: not valid YAML"),
    "an alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "entries, its aliases written out",
    ),
    "nothing": ("", "is empty or not a mapping"),
}


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_that_cannot_be_is_refused_with_its_line(project: Any, name: str) -> None:
    text, place = YAMLS[name]
    path = project.write("x.parity.yaml", text)
    refused(lambda: open_contract(path), path, place)
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == 2
    assert done.exception is None or isinstance(done.exception, SystemExit)
    done = CliRunner().invoke(main, ["lint", str(path)])
    assert (done.exit_code, "Traceback" in done.output) == (2, False)


def test_a_waiver_until_a_date_that_does_not_exist_is_refused_by_lint(project: Any) -> None:
    waiver = {
        "id": "w",
        "cell": "good/*",
        "prompt": "0" * 12,
        "issue": "none",
        "until": "UNTIL",
        "reason": "more than ten letters",
    }
    path = project.contract(waivers=[waiver])
    path.write_text(path.read_text().replace("UNTIL", "2026-02-30"))
    done = CliRunner().invoke(main, ["lint", str(path)])
    assert done.exit_code == 2
    assert "2026-02-30" in done.output
    assert isinstance(done.exception, SystemExit)


def test_yaml_that_many_files_hold_is_read(project: Any) -> None:
    """Anchors, merges and comments are part of YAML, and none of our business."""
    text = project.contract().read_text().replace("reference:\n  engine: toy", "reference: &toy\n  engine: toy")
    path = project.write("y.parity.yaml", text + "witness:\n  <<: *toy\n")
    assert open_contract(path).contract.witness.engine == "toy"


@pytest.mark.parametrize("number", ["9" * 5000, "1" * 41])
def test_a_suite_with_a_number_of_too_many_digits_is_refused(project: Any, number: str) -> None:
    path = project.write("s.yaml", f"suite: s\nprompts:\n- id: p\n  token_ids: [{number}]\n")
    refused(lambda: open_suite("s.yaml", path.parent), path, "4: not valid YAML: a whole number")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.pins.toml", "pins = " + "9" * 5000),
        ("x.pins.toml", "pins = " + "[" * DEEP),
        ("x.pins.toml", "pins = 2026-02-30"),
        ("x.pins.toml", "\0"),
        ("x.pins.yaml", "pins: " + "9" * 5000),
        ("x.pins.yaml", "pins: " + "[" * DEEP),
    ],
)
def test_pins_that_cannot_be_are_refused(project: Any, name: str, text: str) -> None:
    path = project.write(name, text)
    done = CliRunner().invoke(main, ["verify", str(path)])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert name in done.output.replace("\n", "")


# Arrays


def archive(path: Path) -> Path:
    return write_arrays(path, {"a": 1}, {"rows": np.arange(100.0), "ids": np.arange(9)})


def test_a_calibration_with_any_byte_damaged_is_read_or_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.npz")
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1 :])
        try:
            read_arrays(path, "calibrate again")
        except ContractError as error:
            assert (error.where.startswith(str(path)), error.remedy) == (True, "calibrate again")  # noqa: PT017


def test_an_array_that_promises_more_than_its_member_holds_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("about.npy", member)
    refused(lambda: read_archive(path), path, "about.npy")


def test_an_archive_that_unpacks_to_more_than_the_limit_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", b"\0" * 1000)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(bytes(data))
    refused(lambda: read_archive(path), path, "members", "read at most")


@pytest.mark.parametrize("kind", ["O", "<f8", "V8", "<U2"])
def test_arrays_of_objects_are_never_made(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.npy"
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': (4611686018427387904,), }}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)
    refused(lambda: read_array(path), path, "header")


def safetensors(path: Path, header: bytes, data: bytes = b"\0" * 16) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 16]}',
        '{"dtype": "F32", "shape": [4], "data_offsets": [0, Infinity]}',
        '{"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}',
        '{"dtype": "F32", "shape": [4.0], "data_offsets": [0, 16]}',
        '{"dtype": "F32", "shape": [NaN], "data_offsets": [0, 16]}',
        '{"dtype": "F32", "shape": [0, 9223372036854775808], "data_offsets": [0, 0]}',
        '{"dtype": "F32", "shape": [1,1,1,1,1,1,1,1,1], "data_offsets": [0, 4]}',
        '{"dtype": [], "shape": [4], "data_offsets": [0, 16]}',
        '{"dtype": "F32", "shape": 4, "data_offsets": [0, 16]}',
        '{"dtype": "F32", "shape": [4], "data_offsets": [0]}',
        '{"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}',
        "[]",
        "null",
    ],
)
def test_a_tensor_that_cannot_be_is_refused(tmp_path: Path, entry: str) -> None:
    path = safetensors(tmp_path / "x.safetensors", f'{{"t": {entry}}}'.encode())
    refused(lambda: Tensors(path).array("t"), path, "t")


@pytest.mark.parametrize("size", ["[]", "5", '{"a": 1}', "null", '"x"'])
def test_a_golden_whose_vocabulary_is_no_text_is_read_without_it(tmp_path: Path, size: str) -> None:
    entries = {
        "prompt_tokens": ("I32", [1, 2], 8),
        "prompt_lens": ("I32", [1], 4),
        "decode_tokens": ("I32", [1, 1], 4),
        "topk_ids": ("I32", [1, 2, 1], 8),
        "topk_logprobs": ("F32", [1, 2, 1], 8),
    }
    header: dict[str, Any] = {"__metadata__": {"vocab_size": json.loads(size)}}
    at, parts = 0, [b"\0" * 8, struct.pack("<i", 2), b"\0" * 4, b"\0" * 8, b"\0" * 8]
    for name, (kind, shape, count) in entries.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + count]}
        at += count
    path = safetensors(tmp_path / "x", json.dumps(header).encode(), b"".join(parts))
    assert open_dump(path, "safetensors_golden").vocab_size is None


# Dumps, captures, runs

HUGE = 1 << 63
FIXTURE = {"tokens": [1], "vocab_size": 2, "position": 0, "logits": [0.0, 1.0], "argmax_token": 1}
STEP = {"step": 0, "top1_id": 1, "top1_logit": 0.0, "topk_ids": [1], "topk_logits": [0.0]}


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("hf_fixture", json.dumps({**FIXTURE, "position": HUGE, "position_is": "index"}), "position"),
        ("hf_fixture", json.dumps({**FIXTURE, "tokens": [HUGE]}), "tokens.0"),
        ("hf_fixture", json.dumps({**FIXTURE, "vocab_size": HUGE}), "vocab_size"),
        (
            "llamacpp_fixture",
            json.dumps(
                {"prompts": [{"id": 1, "prompt_token_ids": [0], "steps": [{**STEP, "topk_ids": [HUGE], "top1_id": HUGE}]}]}
            ),
            "prompts.0.steps.0.top1_id",
        ),
        (
            "ndjson",
            f'@@prompt {{"id": 1, "token_ids": [0]}}\n@@logits {{"prompt": 1, "position": {HUGE}, "logits": [0, 1]}}',
            "position",
        ),
        ("frozen_json", json.dumps({"prompts": [{"ids": [HUGE]}], "versions": {}}), "prompts.0"),
        ("key_value", f"prompt_tokens={HUGE}\n", "token ids"),
        ("key_value", f"prompt_tokens={'9' * 5000}\n", "prompt_tokens"),
        ("marked_text", f"Token IDs: [{HUGE}]\n", "token ids"),
    ],
)
def test_a_dump_with_a_number_that_cannot_be_is_refused(tmp_path: Path, name: str, text: str, place: str) -> None:
    path = tmp_path / "dump"
    path.write_text(text)
    refused(lambda: open_dump(path, name), path, place)


def test_a_sidecar_with_a_position_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.f32"
    np.zeros(4, "<f4").tofile(path)
    beside = tmp_path / "x.f32.json"
    beside.write_text(json.dumps({"vocab": 2, "first_position": HUGE}))
    refused(lambda: open_dump(path, "raw_f32"), beside, "first_position")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every target of the fuzzer by its name, with its sound files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        targets = importlib.import_module("_fuzz_targets")
    return {target.name: target for target in targets.targets(tmp_path_factory.mktemp("foreign"))}


def changed(value: Any, new: Any) -> Iterator[tuple[str, Any]]:
    """The value with one of its parts replaced, part after part, and the name of the part."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(parts):
        copy = dict(value) if isinstance(value, dict) else list(value)
        copy[key] = new
        yield str(key), copy
        for name, inner in changed(part, new):
            again = dict(value) if isinstance(value, dict) else list(value)
            again[key] = inner
            yield f"{key}.{name}", again


HOSTILE = (None, 5, "x", [], {}, HUGE, float("inf"), [[]], True)


@pytest.mark.parametrize("new", HOSTILE, ids=repr)
def test_a_trace_of_another_shape_is_no_trace(foreign: dict[str, Any], tmp_path: Path, new: Any) -> None:
    """Whatever stands in trace.json, a store gives a trace of the right types or none."""
    folder = tmp_path / "captured"
    shutil.copytree(foreign["capture"].sample, folder)
    path = next(folder.rglob("trace.json"))
    store = Store(folder / "store")
    assert store.read(path.parent.name) is not None
    for _, record in changed(json.loads(path.read_text()), new):
        path.write_text(json.dumps(record))
        trace = store.read(path.parent.name)
        assert trace is None or (trace.logits.ndim == 2 and all(isinstance(token, int) for token in trace.token_ids))
        try:
            open_dump(folder)
        except ContractError as error:
            assert str(folder) in str(error)  # noqa: PT017


@pytest.mark.parametrize("new", HOSTILE, ids=repr)
def test_a_run_of_another_shape_is_refused_by_judge(foreign: dict[str, Any], tmp_path: Path, new: Any) -> None:
    folder = tmp_path / "project"
    shutil.copytree(foreign["run.json"].sample, folder)
    space, path = Workspace(folder / "run"), folder / "run/run.json"
    changes = list(changed(json.loads(path.read_text()), new))
    chosen = random.Random(repr(new)).sample(changes, min(60, len(changes)))
    space.render = lambda report: None  # type: ignore[method-assign]
    for _, record in chosen:
        path.write_text(json.dumps(record))
        try:
            space.judge_again(folder / "c.parity.yaml")
        except ContractError as error:
            assert str(folder) in str(error) or "contract" in str(error)  # noqa: PT017


@pytest.mark.parametrize("data", [b"[" * DEEP, b"\xff", b"[]", b"5", b"{}", b'{"format": 2}'])
def test_a_run_that_is_no_record_ends_judge_with_2(foreign: dict[str, Any], tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_bytes(data)
    done = CliRunner().invoke(main, ["judge", str(folder)])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert "run.json" in done.output.replace("\n", "")


# Model folders


@pytest.fixture
def model(foreign: dict[str, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(foreign["model folder"].sample / "model", tmp_path / "model"))


@pytest.mark.parametrize(
    ("file", "change", "place"),
    [
        ("config.json", {"architectures": 5}, "architectures"),
        ("config.json", {"architectures": [5]}, "architectures"),
        ("config.json", {"architectures": {"a": 1}}, "architectures"),
        ("config.json", {"vocab_size": HUGE}, "vocab_size"),
        ("config.json", {"vocab_size": "6"}, "vocab_size"),
        ("config.json", {"vocab_size": -1}, "vocab_size"),
        ("config.json", {"num_hidden_layers": 1 << 40}, "num_hidden_layers"),
        ("config.json", {"num_hidden_layers": 1.0}, "num_hidden_layers"),
        ("config.json", {"text_config": 5}, "text_config"),
        ("config.json", {"text_config": {"vocab_size": HUGE}}, "text_config.vocab_size"),
        ("model.safetensors.index.json", {"weight_map": 5}, "weight_map"),
        ("model.safetensors.index.json", {"weight_map": {"a": 5}}, "weight_map"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../../x.safetensors"}}, "weight_map"),
        ("model.safetensors.index.json", {"weight_map": {"a": "x\0"}}, "x"),
    ],
)
def test_a_model_with_a_value_that_cannot_be_is_refused(model: Path, file: str, change: dict[str, Any], place: str) -> None:
    path = model / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert isinstance(refused(lambda: open_model(model), model, place), ModelError)


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
        "generation_config.json",
    ],
)
def test_a_model_file_that_is_no_utf_8_ends_check_with_2(project: Any, model: Path, file: str) -> None:
    (model / file).write_bytes(b'{"a": "\xff"}')
    refused(lambda: open_model(model), model / file, "UTF-8")
    path = project.contract(models={"m": {"original": str(model)}})
    done = CliRunner().invoke(main, ["check", str(path), "--out", str(project.folder / "out")])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert file in done.output.replace("\n", "")


def test_a_vocabulary_of_2_to_the_63_is_refused_where_the_tokenizer_is_read(model: Path) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocab_size": HUGE}))
    refused(lambda: open_side(model).config, path, "vocab_size")
    with pytest.raises(Exception, match="vocab_size"):
        token_texts(model)


TOKENS = ["a", "b", "c"]


@pytest.mark.parametrize("read", [token_texts, special_tokens])
@pytest.mark.parametrize(
    ("tokens", "types"),
    [(None, None), (None, [1, 1]), (7, None), ("abc", None), ([1, 2], [1, 1]), (TOKENS, [3]), (TOKENS, 3), (TOKENS, "3")],
    ids=str,
)
def test_a_gguf_with_a_vocabulary_of_another_shape_is_read_or_refused(
    tmp_path: Path, read: Any, tokens: object, types: object
) -> None:
    keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    adds = {int: writer.add_uint32, str: writer.add_string, list: writer.add_array}
    for key, value in keys.items():
        if value is not None:
            adds[type(value)](key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with contextlib.suppress(Refusal):
        told = read(tmp_path / "m.gguf")
        assert read is special_tokens and all(isinstance(text, str) for text in told)


@pytest.mark.parametrize("new", HOSTILE, ids=repr)
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_model_of_another_shape_is_read_or_refused(foreign: dict[str, Any], model: Path, file: str, new: Any) -> None:
    path = model / file
    sound = path.read_text()
    for _, record in changed(json.loads(sound), new):
        path.write_text(json.dumps(record))
        try:
            foreign["model folder"].read(model.parent)
        except ContractError as error:
            assert str(model) in str(error)  # noqa: PT017


# Everything at random

TARGETS = (
    *("aprrawlg", "aprt", "frozen_json", "hf_fixture", "jsonl", "key_value", "llamacpp_fixture", "llamacpp_kl_base"),
    *("marked_text", "ndjson", "npy", "npz", "raw_f32", "safetensors_golden", "safetensors_logits", "torch_pt"),
    *("vllm_prompt_logprobs", "golden", "capture", "contract", "waiver", "suite", "pins yaml", "pins toml", "run.json"),
    *("trace", "evidence", "model folder", "gguf", "adapter", "arrays", "tap dump", "questions"),
    *("protocol", "completions", "printed", "kernel baseline"),
)


def test_every_reader_is_a_target() -> None:
    assert set(catalog.entries("readers")) <= set(TARGETS)


def test_every_target_of_the_fuzzer_is_tried_here(foreign: dict[str, Any]) -> None:
    assert set(foreign) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_sound_sample_is_read(foreign: dict[str, Any], name: str) -> None:
    foreign[name].read(foreign[name].sample)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(chance=st.randoms(use_true_random=False))
def test_a_damaged_file_is_read_or_refused(
    foreign: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, name: str, chance: random.Random
) -> None:
    target = foreign[name]
    folder = tmp_path_factory.getbasetemp() / f"damaged {name}"
    if not folder.exists():
        shutil.copytree(target.sample, folder)
    damaged, _ = target.broken(chance, folder)
    try:
        target.read(folder)
    except REFUSALS as error:
        assert str(error)  # noqa: PT017
    finally:
        target.restore(folder, damaged)


@pytest.mark.parametrize("kind", ["guided", "plain"])
def test_the_fuzzer_counts_what_is_no_refusal(tmp_path: Path, kind: str) -> None:
    """Guided by libFuzzer, where the tool is installed, and plainly: a planted fault is counted with its place, and kept."""
    pytest.importorskip("atheris", reason="libFuzzer for Python has wheels for Linux on x86-64")
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import _fuzz_slice as slices
def planted(folder):
    if len((folder / "q.jsonl").read_bytes()) % 2:
        raise OverflowError("planted")
sound = slices.fuzz.targets
slices.fuzz.targets = lambda folder: [slices.Target("planted", t.sample, t.files, planted)
                                      for t in sound(folder) if t.name == "questions"]
slices.main()
"""
    out = tmp_path / "slice.json"
    words = [sys.executable, "-c", code, kind, "1", "1", str(tmp_path / "corpus"), str(out), "planted"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    part = json.loads(out.read_text())["planted"]
    assert part["inputs"] > len(part["uncaught"]) > 0
    assert "OverflowError" in part["uncaught"][0]
    kept = list((tmp_path / "corpus/planted faults").iterdir())
    assert kept and all(len(path.read_bytes()[1:]) % 2 for path in kept)


# The door

PARSERS = {
    "json": {"load", "loads"},
    "yaml": {"load", "safe_load", "load_all", "safe_load_all", "compose", "parse", "unsafe_load"},
    "np": {"load", "loadtxt", "genfromtxt"},
    "numpy": {"load", "loadtxt", "genfromtxt"},
    "tomllib": {"load", "loads"},
    "zipfile": {"ZipFile"},
    "tarfile": {"open", "TarFile"},
    "pickle": {"load", "loads"},
    "torch": {"load"},
    "gguf": {"GGUFReader"},
    "pq": {"read_table", "ParquetFile"},
    "csv": {"reader", "DictReader"},
    "ET": {"parse", "fromstring"},
}
"""Calls that take a file, or its text, to pieces."""
NAMES = {"GGUFReader", "SafetensorsLocal", "safe_open", "load_file", "ZipFile"}
"""The same, imported by their names."""
DOOR = ("files/",)
ELSEWHERE = {
    "serve.py": "lines of the harness itself, which started this process",
    "jobs/environments.py": "what pip prints of an environment that was just made",
    "conformance/wire.py": "lines of an engine, bounded by the session",
    "quality/chat_template.py": "what its own process printed, of bounded size",
    "quality/_rendering.py": "what the harness asked of this process",
    "engines/_http.py": "answers of a server, bounded there",
    "engines/stdout.py": "lines of a program, bounded by the run",
    "reference/parts.py": "settings of a model that is in memory, as text and back",
    "reference/checkpoint.py": "weights that open_model has checked, by the safetensors library",
    "mutations/tokenizer/_text.py": "a tokenizer that is in memory, as text and back",
    "mutations/tokenizer/text.py": "a tokenizer that is in memory, as text and back",
    "readers/_files.py": "a record that was just made, as JSON and back",
}
"""Modules that take apart what is no file from outside, and why."""


def parsing_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute):
            if isinstance(node.func.value, ast.Name) and node.func.attr in PARSERS.get(node.func.value.id, ()):
                yield f"{node.func.value.id}.{node.func.attr}"
            elif node.func.attr in NAMES:
                yield node.func.attr
        elif isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield node.func.id


def test_every_file_from_outside_comes_in_by_the_door() -> None:
    found: dict[str, set[str]] = {}
    for path in [*PACKAGE.rglob("*.py"), ROOT / "src/logitproof_pytest.py"]:
        place = path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else path.name
        if calls := set(parsing_calls(path)):
            found[place] = calls
    assert len([place for place in found if place.startswith(DOOR)]) == 3, "the door itself is not seen"
    outside = {place: calls for place, calls in found.items() if not place.startswith((*DOOR, "engines/requirements"))}
    assert {place: calls for place, calls in outside.items() if place not in ELSEWHERE} == {}


def test_the_ways_around_the_door_that_are_listed_are_there() -> None:
    assert [place for place in ELSEWHERE if not set(parsing_calls(PACKAGE / place))] == []


def test_no_command_reads_a_file_past_the_door() -> None:
    """What a user names may be anything: a pipe, a device, bytes that are no text."""
    own = {"_show.py": "verdict.json of the run that this command has just written"}
    past = {
        path.name
        for path in (PACKAGE / "commands").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("read_text", "read_bytes")
    }
    assert past == set(own)


LONG = {"a name": "s" * 300, "a path": "s/" * 3000}
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "model": lambda name: {"models": {"m": {"original": name}}},
    "suite": lambda name: {"suites": [name]},
    "suite file": lambda name: {"suites": [f"{name}.yaml"]},
    "golden": lambda name: {"reference": {"engine": "golden", "options": {"path": name}}},
    "tokenizer": lambda name: {"candidates": {"g": {"engine": "toy", "tokenizer": name}}},
    "engine": lambda name: {"candidates": {"g": {"engine": name}}},
    "metric": lambda name: {"gates": [{"id": "x", "metric": name, "at_most": 1, "basis": "a reason of more than ten"}]},
    "pins": lambda name: {"pins": name},
}


@pytest.mark.parametrize("length", LONG)
@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_no_system_takes_is_the_fault_of_who_wrote_it(project: Any, place: str, length: str) -> None:
    path = project.contract(**PLACES[place](LONG[length]))
    done = CliRunner().invoke(main, ["lint", str(path)])
    assert done.exit_code == 2, done.output[-300:]
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("command", ["check", "judge", "lint", "compare", "freeze", "diagnose", "gguf export"])
def test_an_argument_that_no_system_takes_is_one_too(command: str) -> None:
    count = 1 if command in ("check", "judge", "lint", "freeze") else 2
    done = CliRunner().invoke(main, [*command.split(), *[LONG["a name"]] * count])
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output[-300:]


@pytest.mark.parametrize("pattern", [None, {}, {"String": "a"}, {"Regex": "[a-z"}])
def test_a_split_by_what_is_no_known_expression_is_refused(model: Path, pattern: object) -> None:
    path = model / "tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = {"type": "Split", **({"pattern": pattern} if pattern is not None else {})}
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="unknown pre-tokenizer"):
        tokenizer_keys(model, 100_000)
