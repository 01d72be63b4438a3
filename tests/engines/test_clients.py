"""The clients of the protocol, built by whatever compilers are here: conforming, equal to the toy, and one a real engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from logitproof.acid.acid import Request, acid
from logitproof.commands.acid import diagnosis_of
from logitproof.conformance.conformance import conformance
from logitproof.contract.opened import open_contract
from logitproof.jobs.address import parse_address
from logitproof.jobs.worker import Spec, Worker
from logitproof.report.report import Report
from logitproof.runs.check import check
from logitproof.traces.store import Store

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "clients"
LINES = 200
IDS = [5, 6, 7, 299, 0, 31]
BUGS = {  # number in engine.c, and the cells that it makes wrong
    1: {"qwen3/prefill", "qwen3/decode", "llama3/prefill", "llama3/decode"},
    2: {"qwen3/prefill", "qwen3/decode"},
    3: {"qwen3/prefill", "qwen3/decode", "llama3/prefill", "llama3/decode"},
    4: {"llama3/prefill", "llama3/decode"},
    5: {"qwen3/prefill", "qwen3/decode", "llama3/prefill", "llama3/decode"},
    6: {"qwen3/decode", "llama3/decode"},
    7: {"qwen3/decode", "llama3/decode"},
}


def need(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path=str(Path.home() / ".cargo/bin"))
    if found is None:
        pytest.skip(f"{program} is not on this machine")
    return found


def run(*argv: object) -> None:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build_c(folder: Path, bug: int = 0) -> Path:
    need("cc")
    run(need("make"), "-s", "-C", CLIENTS / "c", f"OUT={folder}", f"BUG={bug}", "CFLAGS=-O3 -std=c11 -Wall -Wextra -Werror")
    return folder


def c(folder: Path) -> list[str]:
    return [str(build_c(folder) / "toy")]


def rust(folder: Path) -> list[str]:
    run(need("rustc"), "-O", "-Dwarnings", "--edition", "2021", CLIENTS / "rust/engine.rs", "-o", folder / "toy")
    return [str(folder / "toy")]


def java(folder: Path) -> list[str]:
    sources = sorted((CLIENTS / "java").glob("*.java"))
    run(need("javac"), "-Xlint:all", "-Werror", "--release", "11", "-d", folder, *sources)
    # Java 11 to 17 can only name files in the letters of the locale.
    return ["env", "LC_ALL=C.UTF-8", need("java"), "-cp", str(folder), "Engine"]


def javascript(folder: Path) -> list[str]:
    return [need("node"), str(CLIENTS / "javascript/engine.js")]


TOYS = [c, rust, java, javascript]


@pytest.fixture(scope="module", params=TOYS, ids=lambda build: build.__name__)
def toy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """argv of a client that computes the toy."""
    return request.param(tmp_path_factory.mktemp("client"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "toy.json"
    path.write_text('{"vocab_size": 300, "seed": 7}')
    return path


def rows(spec: Spec, model: Path, folder: Path) -> dict[str, Any]:
    with Worker(spec, name=spec.engine) as worker:
        worker.hello()
        worker.load(model, None)
        found: dict[str, Any] = {}
        for mode in ("prefill", "decode"):
            found[mode] = np.array(worker.score(IDS, mode, folder / mode).logits.open())  # type: ignore[arg-type]
        made = worker.generate(IDS, 12, [], folder / "new")
        return {**found, "new": made.token_ids, "new rows": np.array(made.logits.open())}


def test_a_client_keeps_every_rule_of_the_protocol(toy: list[str], model: Path) -> None:
    report = conformance(parse_address(f"command:{model}?argv={json.dumps(toy)}"), timeout=30)
    assert report.failed == []
    assert sum(row.status == "PASS" for row in report.rows) >= 27


def test_a_client_computes_the_toy_to_float32(toy: list[str], model: Path, tmp_path: Path) -> None:
    ours = rows(Spec("toy"), model, tmp_path)
    theirs = rows(Spec("command", {"argv": toy}), model, tmp_path)
    assert theirs.pop("new") == ours.pop("new")
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, rtol=2e-7, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    "file", [*CLIENTS.glob("*/*.rs"), *CLIENTS.glob("*/*.java"), *CLIENTS.glob("*/*.js"), CLIENTS / "c/protocol.c"], ids=str
)
def test_a_client_fits_on_four_pages(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) <= LINES


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The engine in C with a bug of this number compiled in, 0 for none."""
    folder = tmp_path_factory.mktemp("engines")

    def build(bug: int) -> Path:
        (folder / str(bug)).mkdir(exist_ok=True)
        return build_c(folder / str(bug), bug) / "engine"

    return build


@pytest.mark.parametrize("name", ["qwen3", "llama3"])
def test_the_engine_in_c_keeps_every_rule_of_the_protocol(engines: Callable[[int], Path], name: str) -> None:
    report = conformance(parse_address(f"command:{ROOT}/zoo/gguf/{name}-F32.gguf?argv=[{engines(0)}]"), timeout=30)
    assert report.failed == []


FREE = {"where": {"mode": "greedy"}}


def candidate(program: Path, *modes: str) -> dict[str, Any]:
    return {"engine": "command", "options": {"argv": [str(program)]}, "only": {"mode": ["prefill", "decode", *modes]}}


@pytest.fixture(scope="module")
def checked(engines: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The engine in C, right and with each of its bugs, against transformers in float32."""
    folder = tmp_path_factory.mktemp("check")
    names = {"right": 0, **{f"bug-{number}": number for number in BUGS}}
    reason = "float32 sums in another order: 2e-11 nats at most were seen"
    texts = ["The capital of France is", "def add(a, b):\n    return", "Once upon a time there was a small"]
    prompts = [{"id": f"p{n}", "text": text} for n, text in enumerate(texts)]
    (folder / "suite.yaml").write_text(yaml.safe_dump({"suite": "three", "max_new_tokens": 12, "prompts": prompts}))
    contract = {
        "contract": "engine-in-c",
        "reference": {"engine": "transformers", "options": {"dtype": "float32", "threads": 1}},
        "candidates": {name: candidate(engines(bug), "greedy" if name == "right" else "decode") for name, bug in names.items()},
        "models": {
            name: {"original": str(ROOT / "zoo" / name), "F32": str(ROOT / f"zoo/gguf/{name}-F32.gguf")}
            for name in ("qwen3", "llama3")
        },
        "suites": ["suite.yaml"],
        "matrix": {"quantization": ["F32"], "mode": ["prefill", "decode", "greedy"]},
        "error_bar": {"vary": []},
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": reason}],
        "gates": [
            {"id": "kl", "metric": "kl_divergence", "statistic": "max", "at_most": 1e-8, "basis": reason},
            {"id": "top1", "metric": "top1", "statistic": "mean", "at_least": 1.0, "basis": reason},
            {"id": "greedy", "metric": "greedy_match_10", "statistic": "min", "at_least": 1.0, "basis": reason, **FREE},
        ],
    }
    path = folder / "engine-in-c.parity.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    return check(open_contract(path), Store(folder / "store"))


def test_the_engine_in_c_computes_qwen3_and_llama3_in_every_mode(checked: Report) -> None:
    cells = [cell for cell in checked.verdict.cells if cell.cell.candidate == "right"]
    assert len(cells) == 6
    gates = [gate for gate in checked.verdict.gates if gate.cell.startswith("right/")]
    assert {cell.status for cell in cells} == {"MATCH"} and min(cell.positions for cell in cells) >= 36
    assert [gate.status for gate in gates] == ["PASS"] * 14, gates


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_that_is_compiled_in_fails_where_it_acts_and_nowhere_else(checked: Report, bug: int) -> None:
    cells = [cell for cell in checked.verdict.cells if cell.cell.candidate == f"bug-{bug}"]
    wrong = {f"{cell.cell.model}/{cell.cell.mode}" for cell in cells if cell.status == "WRONG"}
    right = {f"{cell.cell.model}/{cell.cell.mode}" for cell in cells if cell.status == "MATCH"}
    assert wrong == BUGS[bug] and len(right) == 4 - len(wrong)


@pytest.mark.parametrize(
    ("bug", "probe", "name"), [(4, "llama3", "rope.scaling.llama3_missing"), (6, "qwen3", "rope.offset_in_decode")]
)
def test_the_acid_test_names_a_bug_that_is_compiled_in(engines: Callable[[int], Path], bug: int, probe: str, name: str) -> None:
    report = acid(Request("command", {"argv": [str(engines(bug))]}, [probe], "F32"), diagnose=diagnosis_of)
    found = next(row for row in report.rows if row.check == probe)
    assert found.status == "FAIL" and found.diagnosis.startswith(name)


def test_the_planted_bugs_are_all_that_there_are() -> None:
    source = (CLIENTS / "c/engine.c").read_text("utf-8")
    listed = source.partition("enum bug {")[2].partition("}")[0].count("/*")
    assert sorted(BUGS) == list(range(1, listed + 1))
