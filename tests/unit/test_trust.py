"""What was measured stays what was measured: answers, traces, goldens and weights that change behind the harness's back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.errors import ContractError
from logitproof.files.safetensors import Tensors, write_tensors
from logitproof.readers import open_dump
from logitproof.traces.store import Store
from logitproof.traces.trace import Trace

WIDE = {"bands": [{"match": 1e3, "wrong": 1e4, "basis": "the fake engine is another model than the toy"}]}
WIDE["gates"] = [{"id": "kl", "metric": "kl_divergence", "at_most": 1e6, "basis": "the fake engine is another model"}]

LATER = """
import threading
def later(path):
    time.sleep(0.02)
    for _ in range(200):
        try: os.truncate(path, 0)
        except OSError: pass
        try: os.ftruncate(held.fileno(), 0)
        except OSError: pass
        time.sleep(0.01)
def score(p):
    global held
    answer = {"logits": write(p["logits"], [row(t) for t in p["token_ids"]])}
    held = open(p["logits"], "r+b")
    threading.Thread(target=later, args=(p["logits"],), daemon=True).start()
    return answer
"""


def test_an_engine_that_truncates_its_answer_later_changes_nothing(project: Any) -> None:
    """Under a mapping that is a SIGBUS of the harness: nothing is left to write a verdict."""
    project.suite("suite.yaml", *(f"prompt {n}" for n in range(8)))
    path = project.contract(candidates={"late": project.engine(LATER)}, **WIDE)
    argv = [sys.executable, "-m", "logitproof", "check", str(path), "--out", str(project.folder / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode >= 0, done.stderr
    (cell,) = json.loads((project.folder / "run/verdict.json").read_text())["cells"]
    failures = [prompt["failure"]["text"] for prompt in cell["prompts"] if prompt["failure"]]
    # what was cut off before it was taken is one row, never the end
    assert all("the file has" in text or "PF50" in text for text in failures)
    assert cell["positions"] > 0 or failures


LINKED = """
def score(p):
    write("mine.bin", [row(t) for t in p["token_ids"]])
    os.{link}(os.path.abspath("mine.bin"), p["logits"])
    return {{"logits": {{"path": p["logits"], "dtype": "float32", "shape": [len(p["token_ids"]), V]}}}}
"""


@pytest.mark.parametrize("link", ["symlink", "link"])
def test_an_answer_that_is_a_link_is_garbage(project: Any, link: str) -> None:
    report = project.check(candidates={"linked": project.engine(LINKED.format(link=link))}, **WIDE)
    (cell,) = report.verdict.cells
    assert cell.status == "ENGINE ERROR" and "link" in cell.failures[0].text


def test_what_an_engine_leaves_beside_its_answer_is_not_kept(project: Any) -> None:
    more = """
    def score(p):
        os.makedirs(p["logits"] + ".folder/in"); open(p["logits"] + ".more", "w").close()
        return {"logits": write(p["logits"], [row(t) for t in p["token_ids"]])}
    """
    project.check(candidates={"more": project.engine(more)}, **WIDE)
    kept = {path.name for path in (project.folder / "store/traces").rglob("*") if path.is_file()}
    assert kept == {"trace.json", "logits.bin"}


def trace_of(folder: Path) -> tuple[Store, Path]:
    store, rows = Store(folder), np.arange(6, dtype=np.float32).reshape(2, 3)
    with store.partial() as made:
        rows.tofile(made / "logits.bin")
        store.write(made, Trace("ab" * 32, "score", "e", "prefill", [1, 2], 1, rows))
    return store, folder / "traces/ab" / ("ab" * 32)


@pytest.mark.parametrize("name", ["logits.bin", "trace.json"])
def test_every_byte_of_a_trace_counts(tmp_path: Path, name: str) -> None:
    store, place = trace_of(tmp_path)
    whole = (place / name).read_bytes()
    for at in range(len(whole)):
        (place / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert store.read("ab" * 32) is None, (name, at)
    (place / name).write_bytes(whole)
    assert store.read("ab" * 32) is not None


@pytest.mark.parametrize("form", ["full", "small"])
def test_every_tensor_of_a_golden_and_its_header_count(project: Any, form: str) -> None:
    golden = frozen(project, form)
    assert open_dump(golden).prompts
    file = Tensors(golden)
    arrays = {name: np.array(file.array(name)) for name in file.names}
    for name, array in arrays.items():
        changed = array.copy()
        changed.reshape(-1).view(np.uint8)[-1] ^= 1
        write_tensors(golden, {**arrays, name: changed}, file.metadata)
        with pytest.raises(ContractError, match="checksum"):
            open_dump(golden)
    header = {**file.metadata, "header": file.metadata["header"].replace('"margin_floor":', '"margin_floor":1')}
    write_tensors(golden, arrays, header)
    with pytest.raises(ContractError, match="checksum"):
        open_dump(golden)
    write_tensors(golden, {name: arrays[name] for name in list(arrays)[:-1]}, file.metadata)
    with pytest.raises(ContractError, match="not in the file"):
        open_dump(golden)


def frozen(project: Any, form: str) -> Path:
    """A golden of the toy."""
    from click.testing import CliRunner

    from logitproof.cli import main

    out, suite = project.folder / "captured", str(project.folder / "suite.yaml")
    done = CliRunner().invoke(main, ["capture", "toy", str(project.model), suite, "--out", str(out)])
    assert done.exit_code == 0, done.output
    small = ["--small"] if form == "small" else []
    golden = project.folder / f"{form}.golden"
    done = CliRunner().invoke(main, ["freeze", str(out), "--out", str(golden), *small])
    assert done.exit_code == 0, done.output
    return golden


REPLACED = """
def {method}(p):
    with open("new.json", "w") as file: file.write('{{"vocab_size": 300, "seed": 2}}')
    os.replace("new.json", "toy.json")
    return {answer}
"""
HELLO = '{"protocol": 1, "engine": "fake", "generate": True, "tokenize": True}'
SCORED = '{"logits": write(p["logits"], [row(t) for t in p["token_ids"]])}'


@pytest.mark.parametrize(("method", "answer"), [("hello", HELLO), ("load", '{"vocab_size": V}'), ("score", SCORED)])
def test_weights_that_are_replaced_behind_the_run_are_refused_and_leave_no_trace(
    project: Any, method: str, answer: str
) -> None:
    """Hashed before, loaded after: the verdict would name a file that nobody read."""
    engine = project.engine(REPLACED.format(method=method, answer=answer))
    report = project.check(candidates={"swap": engine}, **WIDE)
    (cell,) = report.verdict.cells
    assert (report.verdict.status, cell.status) == ("ERROR", "SET-UP ERROR") and "replaced" in cell.reason
    records = [json.loads(path.read_text()) for path in (project.folder / "store/traces").rglob("trace.json")]
    assert not [record for record in records if record["engine"] == "swap" and record["kind"] == "score"]


def test_weights_that_are_put_back_after_loading_are_seen_too(project: Any) -> None:
    back = """
    def load(p):
        old = open("toy.json").read()
        open("toy.json", "w").write('{"vocab_size": 300, "seed": 2}')
        open("toy.json", "w").write(old)
        return {"vocab_size": V}
    """
    report = project.check(candidates={"swap": project.engine(back)}, **WIDE)
    assert report.verdict.cells[0].status == "SET-UP ERROR"
