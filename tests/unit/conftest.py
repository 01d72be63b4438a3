"""A project of toys: a model, a suite, a contract, and engines of fifteen lines that break the protocol."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from logitproof.contract.opened import open_contract
from logitproof.report.report import Report
from logitproof.runs.check import check
from logitproof.traces.store import Store


def load_file(path: Path) -> Any:
    """The module of a script of docs/ or benchmarks/, which imports its neighbours."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.fixture
def module_of() -> Callable[[Path], Any]:
    """Loads a script by its path."""
    return load_file


BASIS = "a reason of more than ten letters"

ENGINE = """\
import json, os, struct, sys, time
V = 300
def write(path, rows):
    with open(path, "wb") as file:
        for row in rows:
            file.write(struct.pack(f"<{len(row)}f", *row))
    return {"path": path, "dtype": "float32", "shape": [len(rows), len(rows[0]) if rows else 0]}
def row(seed):
    return [((seed * 31 + n * 7) % 97) / 10 for n in range(V)]
def hello(p):
    return {"protocol": 1, "engine": "fake", "versions": {"fake": "1"}, "generate": True, "tokenize": True}
def tokenize(p):
    return {"token_ids": [1 + byte for byte in p["text"].encode()]}
def detokenize(p):
    return {"text": "".join(chr(t) for t in p["token_ids"])}
def load(p):
    return {"vocab_size": V}
def score(p):
    return {"logits": write(p["logits"], [row(t) for t in p["token_ids"]])}
def generate(p):
    ids, rows = list(p["token_ids"]), []
    for _ in range(p["max_new_tokens"]):
        rows.append(row(ids[-1]))
        ids.append(rows[-1].index(max(rows[-1])))
    return {"token_ids": ids[len(p["token_ids"]):], "logits": write(p["logits"], rows), "finish": "length"}
def close(p):
    return {}
def send(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
number = 0
#CHANGES#
for line in sys.stdin:
    request = json.loads(line)
    number = request["id"]
    answer = globals()[request["method"]](request["params"])
    if answer is not None:
        send({"id": number, "result": answer})
"""
"""A whole engine in plain Python; a test replaces one of its functions."""


class Project:
    """A folder with a toy model, a suite of two prompts and whatever a test writes into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "toy.json"
        self.model.write_text('{"vocab_size": 300, "seed": 1}')
        self.suite("suite.yaml", "hello there", "another prompt")

    def suite(self, name: str, *texts: str, max_new_tokens: int = 6) -> None:
        prompts = [{"id": f"p{n}", "text": text} for n, text in enumerate(texts)]
        self.write(name, {"suite": Path(name).stem, "max_new_tokens": max_new_tokens, "prompts": prompts})

    def write(self, name: str, data: Any) -> Path:
        path = self.folder / name
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False, allow_unicode=True), "utf-8")
        return path

    def data(self, **changes: Any) -> dict[str, Any]:
        """A contract that holds, as data; `changes` replace its top-level keys."""
        return {
            "contract": "toys",
            "reference": {"engine": "toy"},
            "candidates": {"good": {"engine": "toy", "options": {"noise": 1e-7}}},
            "models": {"m": {"original": "toy.json"}},
            "suites": ["suite.yaml"],
            "matrix": {"mode": ["prefill"]},
            "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": BASIS}],
            "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}],
            **changes,
        }

    def contract(self, **changes: Any) -> Path:
        return self.write("toys.parity.yaml", self.data(**changes))

    def toy(self, **options: Any) -> dict[str, Any]:
        """A candidate `toy` with these options and a short time limit."""
        return {"engine": "toy", "options": options, "timeout": 30}

    def engine(self, changes: str = "", name: str = "fake.py") -> dict[str, Any]:
        """A candidate `command`: the fake engine with some of its functions replaced."""
        self.write(name, ENGINE.replace("#CHANGES#", textwrap.dedent(changes)))
        return {"engine": "command", "options": {"argv": [sys.executable, name]}, "timeout": 30}

    def check(self, only: str = "*", store: Store | None = None, **changes: Any) -> Report:
        return check(open_contract(self.contract(**changes)), store or self.store, only=only)

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    """Whether a process has ended (a zombie has)."""

    def ask(process: int) -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        state = Path(f"/proc/{process}/stat")
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"

    return ask


def as_dict(report: Report) -> dict[str, Any]:
    """verdict.json of a report, through JSON, so that nothing in it is not JSON."""
    return json.loads(json.dumps(report.as_json(), allow_nan=False))
