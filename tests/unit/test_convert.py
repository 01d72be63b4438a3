"""Conversion: the format is recognized by content, doubt is an error, and a dump is an engine like any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from logitproof.errors import ContractError
from logitproof.jobs.worker import Spec, Worker
from logitproof.readers import convert, open_dump, recognize
from logitproof.readers.aprrawlg import Aprrawlg
from logitproof.readers.ndjson import Ndjson
from logitproof.traces.dump import Dump, DumpedPrompt

VOCAB = 12
LOGITS = np.random.default_rng(0).normal(size=(5, VOCAB)).astype(np.float32)
TOKENS = [3, 1, 4, 1, 5]


def written(path: Path, logits: np.ndarray = LOGITS, tokens: list[int] | None = None) -> Path:
    Aprrawlg().write(Dump((DumpedPrompt("a", tokens or TOKENS, 3, np.arange(len(logits)), logits),), VOCAB), path)
    return path


def test_a_file_goes_through_formats_and_keeps_every_bit(tmp_path: Path) -> None:
    path = written(tmp_path / "start")
    for step, target in enumerate(("one.jsonl", "two.npy", "three.f32", "four.apr")):
        dump = convert(path, tmp_path / str(step) / target)
        path = tmp_path / str(step) / target
        assert np.array_equal(dump.prompts[0].logits[:], LOGITS)
    assert path.read_bytes() == (tmp_path / "start").read_bytes()


def test_the_format_is_recognized_by_content_and_not_by_name(tmp_path: Path) -> None:
    assert recognize(written(tmp_path / "logits.json")) == "aprrawlg"


def test_doubt_asks_for_from(tmp_path: Path) -> None:
    path = tmp_path / "both"
    path.write_text('Token IDs: [1, 2]\n@@prompt {"id": 1, "token_ids": [1]}\n')
    with pytest.raises(ContractError, match="could be any of: marked_text, ndjson") as caught:
        open_dump(path)
    assert "--from" in caught.value.remedy
    assert open_dump(path, "ndjson").prompts[0].token_ids == [1]


@pytest.mark.parametrize(("content", "complaint"), [(b"", "is empty"), (b"hello", "looks like no format that is known")])
def test_a_file_of_no_format_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ContractError, match=complaint):
        open_dump(path)
    with pytest.raises(ContractError, match="no such file"):
        open_dump(tmp_path / "gone")


def test_a_format_that_cannot_hold_the_dump_says_so(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("prompt_tokens=1,2\n")
    with pytest.raises(ContractError, match="no logits over the whole vocabulary"):
        convert(path, tmp_path / "x.npy")
    with pytest.raises(ContractError, match="are read, not written"):
        convert(path, tmp_path / "x", target_format="aprt")
    with pytest.raises(ContractError, match="does not say which format"):
        convert(path, tmp_path / "x.what")
    with pytest.raises(ContractError, match="did you mean 'ndjson'"):
        convert(path, tmp_path / "x", target_format="ndjsn")


def test_a_conversion_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    prompt = DumpedPrompt("a", TOKENS, 3, np.arange(3), LOGITS[:3])
    Ndjson().write(Dump((prompt,), VOCAB), path)
    with pytest.raises(ContractError, match="has no logits at position 3"):
        convert(path, tmp_path / "x.kld")
    assert [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_folder_of_dumps_is_one_dump(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    written(folder / "a.apr")
    convert(written(tmp_path / "other", LOGITS[::-1].copy(), [1, 1, 2, 2, 3]), folder / "b.f32")
    (folder / "README.md").write_text("notes")
    dump = open_dump(folder)
    assert [prompt.id for prompt in dump.prompts] == ["a", "b"]
    assert dump.vocab_size == VOCAB
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ContractError, match="no file of a known format"):
        open_dump(empty)


def test_a_dump_is_an_engine_that_gives_exactly_its_tokens(tmp_path: Path) -> None:
    path = written(tmp_path / "dump")
    with Worker(Spec("dump", {"path": str(path)}), name="mine") as worker:
        hello = worker.hello()
        assert (hello.modes, hello.generate, hello.tokenize) == (["prefill"], False, False)
        assert worker.load(tmp_path, None).vocab_size == VOCAB
        out = tmp_path / "logits.bin"
        assert np.array_equal(worker.score(TOKENS, "prefill", out).logits.open(), LOGITS)
        with pytest.raises(ContractError, match=r"from index 2 it has \[4, 1, 5\], asked are \[9\]"):
            worker.score([3, 1, 9], "prefill", out)
        with pytest.raises(ContractError, match="was made in prefill, decode is asked for"):
            worker.score(TOKENS, "decode", out)


def test_a_top_k_dump_is_no_candidate_for_a_verdict_and_says_what_is(tmp_path: Path) -> None:
    path = tmp_path / "top.jsonl"
    lines = ['@@meta {"vocab_size": 12}', '@@prompt {"id": 1, "token_ids": [3, 1]}']
    lines += ["@@topk " + json.dumps({"prompt": 1, "position": at, "ids": [1, 2], "logprobs": [-0.5, -2.0]}) for at in range(2)]
    path.write_text("\n".join(lines))
    with Worker(Spec("dump", {}), name="mine") as worker:
        worker.load(path, None)
        with pytest.raises(ContractError, match="the best 2 entries") as caught:
            worker.score([3, 1], "prefill", tmp_path / "x")
    assert "bounds of KL" in caught.value.remedy


def test_a_damaged_dump_is_the_files_fault_not_the_engines(tmp_path: Path) -> None:
    path = written(tmp_path / "dump")
    path.write_bytes(path.read_bytes()[:-2])
    with Worker(Spec("dump", {"path": str(path)}), name="mine") as worker, pytest.raises(ContractError, match="cut off"):
        worker.hello()


def test_a_dump_continues_only_by_its_own_choice(tmp_path: Path) -> None:
    new = [int(np.argmax(LOGITS[1])), int(np.argmax(LOGITS[2]))]
    for tokens, greedy in (([3, 1, *new], True), ([3, 1, new[0], (new[1] + 1) % VOCAB], False)):
        path = tmp_path / "dump.jsonl"
        prompt = DumpedPrompt("a", tokens, 2, np.arange(4), LOGITS[:4], text="hi")
        Ndjson().write(Dump((prompt,), VOCAB), path)
        with Worker(Spec("dump", {"path": str(path)}), name="mine") as worker:
            assert worker.hello().generate is greedy
            worker.load(path, None)
            assert worker.tokenize("hi") == [3, 1]
            out = tmp_path / "logits.bin"
            if greedy:
                made = worker.generate([3, 1], 2, [], out)
                assert made.token_ids == new
                assert np.array_equal(made.logits.open(), LOGITS[1:3])
                with pytest.raises(ContractError, match="by 2 tokens, 3 are asked for"):
                    worker.generate([3, 1], 3, [], out)
            else:
                with pytest.raises(ContractError, match="no greedy continuation"):
                    worker.generate([3, 1], 2, [], out)
