"""A contract of two honest engines, which passes; every kind of `vacuous.py` spoils one thing of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from logitproof.contract.opened import open_contract
from logitproof.errors import LogitproofError
from logitproof.report.report import Report
from logitproof.runs.workspace import Workspace

BASIS = "two engines of one toy, apart by a rounding of 1e-6"
ENGINE = """\
import json, math, os, struct, sys, time
V, NOISE = 40, {noise}
def row(token):
    return [5 * math.sin(12.9898 * token + 78.233 * n) + NOISE * math.sin(token + 3.7 * n) for n in range(V)]
def rows(ids):
    return [row(token) for token in ids]
def write(path, rows, kind="f"):
    with open(path, "wb") as file:
        for row in rows:
            file.write(struct.pack(f"<{{len(row)}}{{kind}}", *row))
    dtype = {{"f": "float32", "d": "float64", "i": "int32"}}[kind]
    return {{"path": path, "dtype": dtype, "shape": [len(rows), len(rows[0]) if rows else 0]}}
def hello(p):
    return {{"protocol": 1, "engine": "fake", "versions": {{"fake": "1"}}, "generate": True, "tokenize": True}}
def tokenize(p):
    return {{"token_ids": [byte % V for byte in p["text"].encode()]}}
def detokenize(p):
    return {{"text": "".join(chr(65 + t) for t in p["token_ids"])}}
def load(p):
    return {{"vocab_size": V}}
def score(p):
    return {{"logits": write(p["logits"], rows(p["token_ids"]))}}
def generate(p):
    ids, made = list(p["token_ids"]), []
    for _ in range(p["max_new_tokens"]):
        made.append(row(ids[-1]))
        ids.append(made[-1].index(max(made[-1])))
    return {{"token_ids": ids[len(p["token_ids"]):], "logits": write(p["logits"], made), "finish": "length"}}
def close(p):
    return {{}}
def send(message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
number = 0
{changes}
for line in sys.stdin:
    request = json.loads(line)
    number = request["id"]
    answer = globals()[request["method"]](request["params"])
    if answer is not None:
        send({{"id": number, "result": answer}})
"""


class Project:
    """A folder with two engines, weights that they do not read, a suite and a contract."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.write("weights.json", '{"vocab_size": 40}')
        self.suite("hello there", "one more of them")
        self.reference = self.engine(name="reference.py", noise=0.0)
        self.mine = self.engine()

    def write(self, name: str, data: Any) -> Path:
        path = self.folder / name
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), "utf-8")
        return path

    def suite(self, *texts: str, **more: Any) -> None:
        prompts = [{"id": f"p{n}", "text": text} for n, text in enumerate(texts)]
        self.write("suite.yaml", {"suite": "suite", "max_new_tokens": 4, "prompts": prompts, **more})

    def engine(self, changes: str = "", name: str = "mine.py", noise: float = 1e-6) -> dict[str, Any]:
        """A program that speaks the protocol; `changes` replace some of its functions."""
        self.write(name, ENGINE.format(noise=noise, changes=textwrap.dedent(changes)))
        return {"engine": "command", "options": {"argv": [sys.executable, name]}, "timeout": 20}

    def contract(self, **changes: Any) -> Path:
        """The contract, with some of its keys replaced."""
        data = {
            "contract": "toys",
            "reference": self.reference,
            "candidates": {"mine": self.mine},
            "models": {"m": {"original": "weights.json"}},
            "suites": ["suite.yaml"],
            "matrix": {"mode": ["prefill"]},
            "error_bar": {"vary": ["decode"], "prompts": 1},
            "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": BASIS}],
            "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}],
            **changes,
        }
        return self.write("toys.parity.yaml", data)

    def check(self, *, only: str = "*", fresh: bool = False, **changes: Any) -> tuple[int, str]:
        """Exit code of a check of that contract, and what it says."""
        run = Workspace(self.folder / "run")
        return _code(lambda: run.check(open_contract(self.contract(**changes)), only=only, fresh=fresh))

    def judge(self, **changes: Any) -> tuple[int, str]:
        """Exit code of judging the run again by the contract as it is then."""
        self.contract(**changes)
        return _code(lambda: Workspace(self.folder / "run").judge_again())

    def command(self, *words: str) -> tuple[int, str]:
        """Exit code of a command that starts no engine, and the last of what it says."""
        from logitproof.cli import main

        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), self.inside():
            try:
                return int(main(list(words), standalone_mode=False) or 0), said.getvalue()
            except SystemExit as error:
                return int(error.code or 0), said.getvalue()
            except LogitproofError as error:
                return error.exit_code, str(error)
            except click.ClickException as error:
                return error.exit_code, error.format_message()

    def traces(self, engine: str = "mine") -> list[Path]:
        """Folders of what an engine scored."""
        found = []
        for path in sorted((self.folder / "run/store/traces").rglob("trace.json")):
            record = json.loads(path.read_text("utf-8"))
            if record["engine"] == engine and record["kind"] == "score":
                found.append(path.parent)
        return found

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            yield
        finally:
            os.chdir(before)


def _code(ask: Any) -> tuple[int, str]:
    try:
        report: Report = ask()
    except LogitproofError as error:
        return error.exit_code, str(error)
    cells = "; ".join(f"{cell.cell.id} {cell.status}: {cell.reason}" for cell in report.verdict.cells)
    return report.verdict.exit_code, f"{report.verdict.status} {report.verdict.reason} {cells}"
