"""Formats: what is written is read back, and a bad file is one message with file, field and remedy."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitproof import catalog
from logitproof.errors import ContractError, ModelError
from logitproof.files.safetensors import Tensors, widened, write_tensors
from logitproof.readers import Reader, open_dump
from logitproof.traces.dump import Dump, DumpedPrompt
from logitproof.weights.model import open_model

WHOLE = ["aprrawlg", "hf_fixture", "ndjson", "npy", "raw_f32"]
TOKENS = ["frozen_json", "key_value", "marked_text"]
FAST = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def reader(name: str) -> Reader:
    return catalog.load("readers", name)()


@st.composite
def dumps(draw: st.DrawFn, *, greedy: bool = False) -> Dump:
    """One prompt with logits at every token; `greedy`: its continuation is the rows' own choice."""
    count, vocab, length = draw(st.integers(2, 9)), draw(st.integers(2, 40)), draw(st.integers(1, 9))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = (10 ** draw(st.floats(-2, 1.5)) * random.normal(size=(count, vocab))).astype(np.float32)
    tokens, length = random.integers(0, vocab, count).tolist(), min(length, count)
    if greedy:
        for at in range(length, count):
            tokens[at] = int(np.argmax(logits[at - 1]))
    text = draw(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
    prompt = DumpedPrompt("only", tokens, length, np.arange(count), logits, text=text, continuation_text="")
    return Dump((prompt,), vocab, {"made by": "hypothesis"})


def same(a: DumpedPrompt, b: DumpedPrompt) -> None:
    assert a.token_ids == b.token_ids
    assert a.prompt_length == b.prompt_length
    assert a.positions.tolist() == b.positions.tolist()


@pytest.mark.parametrize("name", WHOLE)
@FAST
@given(dump=dumps())
def test_whole_rows_survive_the_way_there_and_back(name: str, tmp_path: Path, dump: Dump) -> None:
    path = tmp_path / "file"
    reader(name).write(dump, path)
    back = open_dump(path)
    assert back.format == name
    assert back.vocab_size == dump.vocab_size
    ours, theirs = dump.prompts[0], back.prompts[0]
    if name != "aprrawlg":
        same(ours, theirs)
        assert back.versions == ({"made by": "hypothesis"})
    assert ours.token_ids == theirs.token_ids
    assert np.array_equal(np.asarray(theirs.logits[:]), ours.logits)


@pytest.mark.parametrize("char", ["\x00", "\x1b", "\x85", "\u2028", "\ud800", "\U000e0001", "\\", "\t"])
def test_no_character_of_a_text_makes_the_key_value_format_another(tmp_path: Path, char: str) -> None:
    prompt = DumpedPrompt(id="only", token_ids=[0, 1], prompt_length=1, positions=np.empty(0, np.int64), text=f"a{char}b")
    reader("key_value").write(Dump((prompt,)), tmp_path / "file")
    assert open_dump(tmp_path / "file").prompts[0].text == f"a{char}b"


@pytest.mark.parametrize("name", TOKENS)
@FAST
@given(dump=dumps())
def test_tokens_survive_the_way_there_and_back(name: str, tmp_path: Path, dump: Dump) -> None:
    path = tmp_path / "file"
    reader(name).write(dump, path)
    back = open_dump(path)
    assert back.format == name
    theirs = back.prompts[0]
    assert theirs.token_ids == dump.prompts[0].token_ids
    assert theirs.prompt_length == dump.prompts[0].prompt_length
    assert theirs.logits is None
    if name != "marked_text":
        assert theirs.text == dump.prompts[0].text


@FAST
@given(dump=dumps(greedy=True))
def test_greedy_steps_and_decode_goldens_keep_the_best_entries(tmp_path: Path, dump: Dump) -> None:
    ours = dump.prompts[0]
    log_p = ours.logits - ours.logits.max(axis=1, keepdims=True).astype(np.float64)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    for name, values in (("llamacpp_fixture", ours.logits), ("safetensors_golden", log_p)):
        path = tmp_path / name
        reader(name).write(dump, path)
        back = open_dump(path)
        assert back.format == name
        theirs = back.prompts[0]
        first = ours.prompt_length - 1
        assert theirs.positions.tolist() == list(range(first, len(ours.token_ids)))
        best = np.argmax(ours.logits[first:], axis=1)
        assert theirs.top is not None
        assert theirs.top.ids[:, 0].tolist() == best.tolist()
        assert np.allclose(theirs.top.values[:, 0], values[first:].max(axis=1), atol=1e-5)
        assert theirs.top.normalized is (name == "safetensors_golden")


@FAST
@given(st.integers(2, 5), st.integers(2, 33), st.integers(1, 3), st.floats(0.01, 12), st.integers(0, 2**32 - 1))
def test_the_kl_base_file_keeps_log_probabilities_to_its_own_precision(
    tmp_path: Path, half: int, vocab: int, chunks: int, spread: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    window = 2 * half
    logits = (spread * random.normal(size=(chunks, window, vocab))).astype(np.float32)
    tokens = random.integers(0, vocab, (chunks, window))
    prompts = [DumpedPrompt(str(n), tokens[n].tolist(), window, np.arange(window), logits[n]) for n in range(chunks)]
    path = tmp_path / "base.kld"
    reader("llamacpp_kl_base").write(Dump(tuple(prompts), vocab), path)
    header, row = 8 + 12 + 4 * window * chunks, 2 * (2 * ((vocab + 1) // 2) + 4)
    assert path.stat().st_size == header + chunks * (window - 1 - half) * row
    back = open_dump(path)
    assert back.format == "llamacpp_kl_base"
    for n, prompt in enumerate(back.prompts):
        assert prompt.token_ids == tokens[n].tolist()
        assert prompt.positions.tolist() == list(range(half, window - 1))
        assert not prompt.is_complete
        z = logits[n, half : window - 1].astype(np.float64)
        log_p = z - z.max(axis=1, keepdims=True)
        log_p = np.maximum(log_p, -16.0) - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
        assert np.allclose(prompt.logits[:], log_p, atol=16 / 65535 + 1e-5)


def test_a_kl_base_file_of_the_program_is_read_as_documented(tmp_path: Path) -> None:
    """Laid out by hand: scale and least log-probability as two floats, then one u16 an entry and one to fill up."""
    row = struct.pack("<ff3HH", 0.5, -4.0, 8, 0, 2, 0)
    path = tmp_path / "base"
    path.write_bytes(b"_logits_" + struct.pack("<iii", 4, 3, 1) + struct.pack("<4i", 0, 1, 2, 1) + row)
    (prompt,) = open_dump(path).prompts
    assert prompt.positions.tolist() == [2]
    assert prompt.logits[0].tolist() == [0.0, -4.0, -3.0]


def test_taps_are_read_layer_by_layer(tmp_path: Path) -> None:
    path = tmp_path / "taps"
    record = lambda layer, rows: b"APRT" + struct.pack("<II", layer, 2) + np.array(rows, "<f4").tobytes()  # noqa: E731
    path.write_bytes(record(3, [1, 2]) + record(0xFFFFFFFF, [3, 4]))
    taps = open_dump(path).taps
    assert {name: tap.tolist() for name, tap in taps.items()} == {"layers.3": [[1.0, 2.0]], "model": [[3.0, 4.0]]}
    path.write_bytes(record(0, [1, 2, 3, 4]))
    assert open_dump(path).taps["layers.0"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_engine_chatter_around_the_lines_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        'loading…\n@@meta {"vocab_size": 3, "versions": {"mine": "1"}}\n@@prompt {"id": 7, "token_ids": [0, 2]}\n'
        'tick\n@@topk {"prompt": 7, "position": 1, "ids": [2, 0], "logprobs": [-0.1, -3.0]}\n@@path {"cuda": 4}\n'
    )
    dump = open_dump(path)
    assert dump.versions == {"mine": "1"}
    assert dump.provenance["path"] == [{"cuda": 4}]
    assert dump.prompts[0].top.ids.tolist() == [[2, 0]]


def test_text_between_markers_belongs_to_the_ids_after_it(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("init\n=====\nHello\nworld\n=====\nToken IDs: [5, 6]\n--- output ---\nBye\n--------\nToken IDs: [7]\n")
    prompts = open_dump(path).prompts
    assert [(one.token_ids, one.continuation_text) for one in prompts] == [([5, 6], "Hello\nworld"), ([7], "Bye")]


def test_the_position_of_an_hf_fixture_is_asked_for_where_it_can_be_two_things(tmp_path: Path) -> None:
    fixture = {"tokens": [4, 1, 2, 3], "vocab_size": 5, "logits": [0, 0, 1, 0, 0], "argmax_token": 2}
    path = tmp_path / "f.json"
    for position in (0, 3):
        path.write_text(json.dumps({**fixture, "position": position}))
        assert open_dump(path).prompts[0].positions.tolist() == [3]
    path.write_text(json.dumps({**fixture, "position": 2}))
    with pytest.raises(ContractError, match="a generation step, or the index of a token"):
        open_dump(path)
    path.write_text(json.dumps({**fixture, "position": 2, "position_is": "index"}))
    assert open_dump(path).prompts[0].positions.tolist() == [2]


APR = b"APRRAWLG" + struct.pack("<Iii", 1, 2, 3) + struct.pack("<2i", 0, 1) + np.zeros((2, 3), "<f4").tobytes()
FIXTURE = {"tokens": [1], "vocab_size": 2, "position": 0, "logits": [0.0, 1.0], "argmax_token": 1}
SHAPE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (900000000, 900000000), }\n"
HUGE = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(SHAPE)) + SHAPE
NAN = np.array([[0, np.nan, 1]], "<f4")
STEP = {"step": 0, "top1_id": 1, "top1_logit": 2.0, "topk_ids": [1], "topk_logits": [2.0]}


def tensors(**header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("aprrawlg", APR[:-3], "logits"),
        ("aprrawlg", APR + b"x", "logits"),
        ("aprrawlg", b"APRRAWLX" + APR[8:], "magic"),
        ("aprrawlg", APR[:8] + struct.pack("<I", 9) + APR[12:], "version"),
        ("aprrawlg", APR[:12] + struct.pack("<ii", 2**31 - 1, 2**31 - 1) + APR[20:], "ids"),
        ("aprrawlg", APR[:12] + struct.pack("<ii", -1, 3) + APR[20:], "n_pos"),
        ("aprrawlg", APR[:20] + struct.pack("<2i", 0, 3) + APR[28:], "token ids"),
        ("aprrawlg", APR[:-4] + np.array([np.nan], "<f4").tobytes(), "logits"),
        ("aprrawlg", APR[:9], "version"),
        ("aprt", b"APRT" + struct.pack("<II", 0, 2**32 - 1) + b"1234", "dim"),
        ("aprt", b"APRT" + struct.pack("<II", 0, 1) + np.array([np.inf], "<f4").tobytes(), "tap layers.0"),
        ("llamacpp_kl_base", b"_logits_" + struct.pack("<iii", 512, 2**31 - 1, 2**31 - 1), "tokens"),
        ("llamacpp_kl_base", b"_logits_" + struct.pack("<iii", 4, 3, 1) + struct.pack("<4i", 0, 1, 2, 1), "log-probabilities"),
        ("llamacpp_kl_base", b"_logits_" + struct.pack("<iii", -4, 3, 1), "n_ctx"),
        (
            "npy",
            b"\x93NUMPY\x01\x00\x40\x00{'descr': '<f4', 'fortran_order': False, 'shape': (900000000, 900000000), }",
            "header",
        ),
        ("npy", HUGE, "header"),
        ("npy", b"\x93NUMPY\x01\x00", "header"),
        ("hf_fixture", json.dumps(FIXTURE)[:-4].encode(), "line 1"),
        ("hf_fixture", json.dumps({**FIXTURE, "vocab_size": 3}).encode(), "logits"),
        ("hf_fixture", json.dumps({**FIXTURE, "logits": [float("nan"), 1.0]}).encode(), "argmax_token"),
        ("hf_fixture", json.dumps({**FIXTURE, "argmax_token": 0}).encode(), "argmax_token"),
        ("hf_fixture", json.dumps({**FIXTURE, "tokens": ["a"]}).encode(), "tokens"),
        ("hf_fixture", json.dumps({**FIXTURE, "tokens": [9]}).encode(), "token ids"),
        ("llamacpp_fixture", json.dumps({"prompts": [{"id": 1, "prompt_token_ids": [0], "steps": [{}]}]}).encode(), "steps"),
        (
            "llamacpp_fixture",
            json.dumps({"prompts": [{"id": 1, "prompt_token_ids": [0], "steps": [{**STEP, "step": 3}]}]}).encode(),
            "steps",
        ),
        ("frozen_json", b'{"prompts": [{"ids": [1, 2], "window": [1, 9]}], "versions": {}}', "window"),
        ("key_value", b"prompt_tokens=1,x", "prompt_tokens"),
        ("key_value", b"steps=3\nsteps=4\n", "line 2"),
        ("key_value", b"prompt_tokens=1\noracle_tokens=2,3\nsteps=7\n", "steps"),
        ("key_value", b"\xff\xfe", "byte 0"),
        ("marked_text", b"Token IDs: [1, 2", "line 1"),
        ("marked_text", b"nothing here", "Token IDs"),
        ("ndjson", b'@@prompt {"id": 1, "token_ids": [0', "line 1, @@prompt"),
        ("ndjson", b'@@logits {"prompt": 1, "position": 0, "logits": [0, 1]}', "prompt"),
        (
            "ndjson",
            b'@@prompt {"id": 1, "token_ids": [0]}\n@@logits {"prompt": 1, "position": 0, "logits": [NaN, 1]}',
            "logits",
        ),
        (
            "ndjson",
            b'@@prompt {"id": 1, "token_ids": [0]}\n@@topk {"prompt": 1, "position": 0, "ids": [0], "logprobs": [9]}',
            "top-k",
        ),
        ("safetensors_golden", struct.pack("<Q", 2**63), "header length"),
        ("safetensors_golden", tensors(a={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}), "prompt_lens"),
        (
            "safetensors_golden",
            tensors(prompt_lens={"dtype": "I32", "shape": [2**40], "data_offsets": [0, 2**42]}),
            "prompt_lens",
        ),
        ("safetensors_golden", tensors(prompt_lens={"dtype": "I32", "shape": [-1], "data_offsets": [0, -4]}), "prompt_lens"),
        ("golden", tensors(__metadata__={"format": "logitproof.golden", "header": "{"}), "header"),
        ("golden", tensors(__metadata__={"format": "logitproof.golden", "header": '{"version": 99}'}), "version"),
        ("raw_f32", NAN.tobytes(), "VOCAB"),
    ],
)
def test_a_bad_file_is_one_message_with_file_field_and_remedy(tmp_path: Path, name: str, content: bytes, field: str) -> None:
    path = tmp_path / "bad.file"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ContractError) as caught:
        open_dump(path, name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in caught.value.where
    assert field in str(caught.value)
    assert caught.value.remedy
    assert peak < 50e6, "a header's counts were believed"


def test_raw_numbers_are_read_by_their_sidecar_only(tmp_path: Path) -> None:
    path = tmp_path / "logits.f32"
    np.arange(6, dtype="<f4").tofile(path)
    (tmp_path / "logits.txt").write_text("loading\nVOCAB=3\nNPOS=2\nTOKENS=1,2\n")
    dump = open_dump(path)
    assert (dump.format, dump.vocab_size, dump.prompts[0].token_ids) == ("raw_f32", 3, [1, 2])
    assert dump.prompts[0].logits[1].tolist() == [3.0, 4.0, 5.0]
    (tmp_path / "logits.txt").write_text("VOCAB=3\nNPOS=1000000000\n")
    with pytest.raises(ContractError, match="cut off, or the counts are wrong"):
        open_dump(path, "raw_f32")
    (tmp_path / "logits.txt").write_text("VOCAB=3\nNPOS=1\n")
    with pytest.raises(ContractError, match="promises 12 bytes, the file has 24"):
        open_dump(path, "raw_f32")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ContractError, match="no .npy file of plain numbers"):
        open_dump(path)


@pytest.mark.parametrize("name", ["aprrawlg", "hf_fixture", "ndjson", "npy", "raw_f32", "llamacpp_fixture", "llamacpp_kl_base"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_never_crashes(name: str, tmp_path: Path, data: st.DataObject) -> None:
    """Any byte changed, or the end cut off: a message, or a dump that was looked at; nothing else."""
    path = tmp_path / "file"
    random = np.random.default_rng(5)
    logits = random.normal(size=(6, 7)).astype(np.float32)
    tokens = [1, 2, *(int(np.argmax(row)) for row in logits[1:5])]
    reader(name).write(Dump((DumpedPrompt("a", tokens, 2, np.arange(6), logits),), 7), path)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        dump, complaint = open_dump(path, name), None
    except ContractError as error:
        dump, complaint = Dump(()), error
    assert complaint is None or (complaint.where and complaint.remedy)
    for prompt in dump.prompts:
        assert prompt.logits is None or np.isfinite(prompt.logits[:]).any()


def test_every_format_says_what_it_is() -> None:
    for name, entry in catalog.entries("readers").items():
        assert entry.help, name
        assert entry.base == "Reader", name


def test_every_format_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text("utf-8")
    for name in catalog.entries("readers"):
        assert f"`{name}`" in text, name


FLOATS = {"F32": np.float32, "F16": np.float16, "F64": np.float64}


@pytest.mark.parametrize("kind", [*FLOATS, "BF16"])
def test_a_tensor_is_widened_without_loss_whoever_wrote_the_file(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    values = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8
    dtype = {"F32": torch.float32, "F16": torch.float16, "F64": torch.float64, "BF16": torch.bfloat16}[kind]
    save_file({"a": (values + 0).to(dtype), "b": (values[0] + 0).to(dtype)}, tmp_path / "x.safetensors")
    tensors = Tensors(tmp_path / "x.safetensors")
    assert tensors.kind("a") == kind and tensors.shape("a") == (3, 4)
    assert np.array_equal(widened(tensors.raw("a"), kind).reshape(3, 4), values.numpy())
    assert tensors.promised == (tmp_path / "x.safetensors").stat().st_size


def test_what_is_written_at_once_is_what_the_library_reads(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(3), "c": np.zeros((0, 2), np.float16)}
    write_tensors(tmp_path / "x.safetensors", arrays, {"format": "pt"})
    found = safetensors.load_file(tmp_path / "x.safetensors")
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


@pytest.mark.parametrize("cut", [0, 5, 40, -1])
def test_weights_that_are_cut_off_anywhere_are_refused(cut: int, tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", {"a": np.arange(600, dtype=np.float32)}, {})
    (tmp_path / "config.json").write_text('{"architectures": ["A"]}')
    open_model(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:cut])
    with pytest.raises(ModelError, match="cut off|truncated"):
        open_model(tmp_path)
