"""Jobs leave the harness in groups: the same traces elsewhere, a killed run goes on, another machine has other keys."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Prompt
from logitproof.errors import LogitproofError
from logitproof.jobs.group import Group, Outcome, groups_of
from logitproof.jobs.job import Job, make_job
from logitproof.jobs.needs import Needs, together
from logitproof.jobs.plan import specs
from logitproof.jobs.pool import LocalPool, Tell
from logitproof.jobs.run import run
from logitproof.jobs.session import Session
from logitproof.jobs.spec import Spec
from logitproof.jobs.workers import Workers
from logitproof.protocol.messages import HelloResult, Machine
from logitproof.runs import identity
from logitproof.runs.check import check
from logitproof.runs.workspace import Workspace
from logitproof.traces.store import Store, TraceStore
from logitproof.traces.trace import Failure, Trace
from logitproof.weights.model import open_model

FAR_END = """\
import json, sys
from dataclasses import asdict
from pathlib import Path
from logitproof.jobs.group import Group, run_group
from logitproof.jobs.session import Session
from logitproof.traces.store import Store
group = Group.read(sys.stdin.read())
with Session(group.spec, group.name) as session:
    for outcome in run_group(group, Store(Path(sys.argv[1])), session):
        print(json.dumps(asdict(outcome)), flush=True)
"""
"""All that another machine needs to run a group."""


class Elsewhere:
    """A second executor: every group in a process of its own, which is given JSON and gives back keys."""

    def __init__(self) -> None:
        self.groups: list[Group] = []
        self._pool = ThreadPoolExecutor(2)

    def hello(self, named: Mapping[str, Spec]) -> dict[str, HelloResult | LogitproofError]:
        with Workers() as workers:
            return workers.hello(named)

    def submit(self, group: Group, store: TraceStore, tell: Tell) -> Future[None]:
        self.groups.append(group)
        return self._pool.submit(self._work, group, store, tell)

    def stop(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, group: Group, store: TraceStore, tell: Tell) -> None:
        assert isinstance(store, Store)
        argv = [sys.executable, "-c", FAR_END, str(store.folder)]
        done = subprocess.run(argv, input=group.as_json(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for line in done.stdout.splitlines():
            record = json.loads(line)
            tell(Outcome(record["key"], Failure(**record["failure"]) if record["failure"] else None))


def files(store: Store) -> dict[str, bytes]:
    """Every file of every trace, but for how long it took, the seal over that, and what the process happened to read."""
    found = {}
    for path in sorted((store.folder / "traces").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "trace.json":
                content = json.dumps({**json.loads(content), "seconds": 0, "sha256": "", "executed": ""}).encode()
            found[str(path.relative_to(store.folder))] = content
    return found


def test_a_group_that_runs_in_another_process_gives_byte_equal_traces(project: Any) -> None:
    contract = project.contract(matrix={"mode": ["prefill", "decode", "greedy"]})
    here, there = Store(project.folder / "here"), Store(project.folder / "there")
    elsewhere = Elsewhere()
    ours, theirs = check(open_contract(contract), here), check(open_contract(contract), there, executor=elsewhere)
    assert files(here) == files(there) and len(files(here)) >= 12
    assert ours.verdict.status == theirs.verdict.status == "PASS"
    assert {group.spec.engine for group in elsewhere.groups} == {"toy"} and len(elsewhere.groups) == 2


def test_a_failure_elsewhere_is_the_failure_that_it_is_here(project: Any) -> None:
    contract = project.contract(candidates={"bad": project.toy(fault="nan", fault_at=1)})
    ours = check(open_contract(contract), Store(project.folder / "here"))
    theirs = check(open_contract(contract), Store(project.folder / "there"), executor=Elsewhere())
    failures = [[result for result in report.results.values() if isinstance(result, Failure)] for report in (ours, theirs)]
    assert failures[0] == failures[1] and len(failures[0]) == 1


class Silent(Elsewhere):
    """An executor whose groups end without having done anything."""

    def _work(self, group: Group, store: TraceStore, tell: Tell) -> None:
        pass


class Lying(Elsewhere):
    """An executor that says that a trace is there, and it is not."""

    def _work(self, group: Group, store: TraceStore, tell: Tell) -> None:
        for job in group.jobs:
            tell(Outcome(job.key))


@pytest.mark.parametrize(("kind", "text"), [(Silent, "its group ended without it"), (Lying, "is not in the store")])
def test_what_an_executor_owes_is_a_failure_of_the_environment_and_no_hang(project: Any, kind: Any, text: str) -> None:
    results = list(run(jobs(project, Spec("toy"), 2), project.store, executor=kind()))
    assert [isinstance(result, Failure) and result.fault for result in results] == ["environment"] * 4
    assert isinstance(results[0], Failure) and text in results[0].text


def hello(processor: str = "A", **changes: Any) -> HelloResult:
    machine = Machine(architecture="x86_64", processor=processor, flags=["avx2"])
    return HelloResult(protocol=1, engine="toy", batch=True, machine=machine, **changes)


def jobs(project: Any, spec: Spec, count: int, said: HelloResult | None = None) -> list[Job]:
    """A generate job and the score job after it for so many prompts."""
    models = {str(project.model): open_model(project.model)}
    found = []
    for number in range(count):
        prompt = Prompt(id=f"p{number}", text=f"prompt {number}")
        source = make_job(spec, said or hello(), models, project.model, None, "generate", "greedy", prompt, 3)
        found += [
            source,
            make_job(spec, said or hello(), models, project.model, None, "score", "prefill", prompt, 0, source.key),
        ]
    return found


def test_the_key_of_a_trace_is_of_the_machine_that_computes_and_not_of_the_harness(project: Any) -> None:
    one, same, other, flagless = (
        jobs(project, Spec("toy"), 1, said)[0].key
        for said in (
            hello("A"),
            hello("A"),
            hello("B"),
            hello("A").model_copy(update={"machine": Machine(architecture="x86_64", processor="A")}),
        )
    )
    assert one == same and len({one, other, flagless}) == 3


def test_every_engine_says_its_machine_and_one_that_does_not_is_said_to_be_here(project: Any) -> None:
    fake = project.engine()
    elsewhere = """\
    def hello(p):
        return {"protocol": 1, "engine": "fake", "machine": {"architecture": "riscv64", "processor": "far away"}}
    """
    far = project.engine(elsewhere, name="far.py")
    with Workers() as workers:
        folder = str(project.folder)
        named = {name: Spec("command", use["options"], directory=folder) for name, use in (("fake", fake), ("far", far))}
        said = workers.hello({"toy": Spec("toy"), **named})
    machines = {name: answer.machine for name, answer in said.items() if isinstance(answer, HelloResult)}
    assert machines["toy"] == machines["fake"] and machines["toy"] is not None and machines["toy"].architecture
    assert machines["far"] == Machine(architecture="riscv64", processor="far away")


ONCE_SILENT = """\
with open("started-NAME", "a") as file:
    file.write("x")
def hello(p):
    if len(open("started-NAME").read()) == 1:
        FAULT
    return {"protocol": 1, "engine": "fake", "versions": {"fake": "1"}, "generate": True, "tokenize": True}
def tokenize(p):
    return {"token_ids": TOKENS}
"""
"""An engine whose first process does not come through `hello`, and whose second does."""
SAME, OTHER = '[1 + byte for byte in p["text"].encode()]', "[7, 8, 9]"


@pytest.mark.parametrize("fault", ["os._exit(1)", "time.sleep(600)", "return {'protocol': 99, 'engine': 'fake'}"])
@pytest.mark.parametrize(("side", "tokens"), [("candidates", SAME), ("candidates", OTHER), ("reference", SAME)])
def test_an_engine_whose_hello_failed_is_judged_by_nothing_that_it_answers_later(
    project: Any, fault: str, side: str, tokens: str
) -> None:
    """It was planned without its tokenizer, modes and versions: what was not looked at may not pass."""
    changes = ONCE_SILENT.replace("NAME", side).replace("FAULT", fault).replace("TOKENS", tokens)
    silent = {**project.engine(changes, "silent.py"), "timeout": 5 if "sleep" in fault else 60}
    honest = {**project.engine("# the same"), "timeout": 60}
    uses = {"reference": honest, "candidates": {"mine": {**silent, "may_be_exact": "the same program"}}}
    if side == "reference":
        uses = {"reference": silent, "candidates": {"mine": {**honest, "may_be_exact": "the same program"}}}
    report = project.check(**uses)
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 3), report.verdict.reason
    assert {failure.fault for failure in report.verdict.cells[0].failures} == {"engine"}
    started = project.folder / f"started-{side}"
    assert not started.exists() or len(started.read_text()) == 1, "it was started again"


BATCH = """\
def hello(p):
    return {"protocol": 1, "engine": "fake", "generate": True, "tokenize": True, "batch": True}
def score_many(p):
    with open("asked.txt", "a") as file:
        file.write(f"{len(p['sequences'])}\\n")
    for index, sequence in enumerate(p["sequences"]):
        #EACH#
        send({"id": number, "part": {"index": index, "result": score(sequence)}})
    return {"answered": len(p["sequences"])}
"""


def batch(project: Any, each: str = "pass") -> dict[str, Any]:
    """The fake engine with `score_many`; `each` is done before a sequence is answered."""
    use: dict[str, Any] = project.engine(BATCH.replace("#EACH#", each))
    return use


def asked(project: Any) -> list[int]:
    """How many sequences each request had."""
    return [int(line) for line in (project.folder / "asked.txt").read_text().splitlines()]


def collected(project: Any, use: dict[str, Any], count: int = 4) -> dict[str, Trace | Failure]:
    spec = Spec("command", use["options"], timeout=20, directory=str(project.folder))
    return {result.key: result for result in run(jobs(project, spec, count), project.store)}


def scored(results: dict[str, Trace | Failure]) -> list[bytes]:
    """The rows of every scored sequence, in one order."""
    traces = [result for result in results.values() if isinstance(result, Trace) and result.kind == "score"]
    return [trace.logits.tobytes() for trace in sorted(traces, key=lambda trace: trace.token_ids)]


def test_an_engine_that_takes_many_is_asked_once_and_gives_what_it_gives_one_by_one(project: Any) -> None:
    many = scored(collected(project, batch(project)))
    assert asked(project) == [4]
    assert many == scored(collected(project, project.engine(name="one.py"))) and len(many) == 4 and all(many)
    assert asked(project) == [4]


def test_an_engine_that_dies_at_one_of_many_loses_that_one_alone(project: Any) -> None:
    results = collected(project, batch(project, "if index == 1 and len(p['sequences']) == 4: os._exit(3)"))
    failures = [result for result in results.values() if isinstance(result, Failure)]
    assert len(failures) == 1 and "during `score_many` (exit code 3)" in failures[0].text
    assert asked(project) == [4, 2]


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("os._exit(3)", "exit code 3"),
        ("return {'answered': 'none'}", "answered"),
        ("raise ValueError('the last state')", "the last state"),
    ],
)
def test_an_engine_that_fails_when_all_is_answered_owes_the_last(project: Any, end: str, text: str) -> None:
    use = project.engine(BATCH.replace("#EACH#", "pass").replace("return {\"answered\"", f"{end}\n    return {{\"answered\""))
    results = collected(project, use)
    (failure,) = [result for result in results.values() if isinstance(result, Failure)]
    assert failure.fault == "engine" and text in failure.text, failure
    assert len(scored(results)) == 3


def test_an_engine_that_dies_at_every_one_of_many_is_given_up_after_two(project: Any) -> None:
    results = collected(project, batch(project, "os._exit(3)"))
    failures = [result for result in results.values() if isinstance(result, Failure)]
    assert len(failures) == 4 and sum("not tried" in failure.text for failure in failures) == 2
    assert asked(project) == [4, 3]


@pytest.mark.parametrize(
    ("each", "text"),
    [
        ("index = 9", "answered sequence 9 of 4, which did not wait"),
        ("if index == 1: index = 0", "answered sequence 0 of 4, which did not wait"),
        ("if index == 3: continue", "without an answer to sequence 3"),
        ("if index == 2: sequence['token_ids'].pop()", r"expected \[11, 300\]"),
    ],
)
def test_an_answer_to_many_that_is_not_what_was_asked_is_an_engine_error(project: Any, each: str, text: str) -> None:
    results = collected(project, batch(project, each))
    failures = [result for result in results.values() if isinstance(result, Failure)]
    assert failures and {failure.fault for failure in failures} == {"engine"}
    assert any(re.search(text, failure.text) for failure in failures), failures


def test_one_refused_sequence_of_many_is_its_own_failure(project: Any) -> None:
    refuse = 'error = {"kind": "refused", "message": "too long"}'
    each = f"{refuse}\n        if index == 2: send({{'id': number, 'part': {{'index': 2, 'error': error}}}}); continue"
    results = collected(project, batch(project, each))
    failures = [result for result in results.values() if isinstance(result, Failure)]
    assert [(failure.fault, failure.text) for failure in failures] == [("setup", "too long")] and asked(project) == [4]


KILLED = """\
import sys
from pathlib import Path
from logitproof.contract.opened import open_contract
from logitproof.runs.workspace import Workspace
Workspace(Path(sys.argv[2])).check(open_contract(Path(sys.argv[1])))
"""


def test_a_killed_batch_resumes_with_what_was_not_answered_and_keeps_its_id(project: Any) -> None:
    project.suite("suite.yaml", "one", "two", "three", "four")
    files = "__import__('glob').glob('run/store/traces/*/*/trace.json')"
    kept = f"sum('many' in (text := open(file).read()) and 'score' in text for file in {files})"
    kill = f"""if index == 2 and not os.path.exists('killed'):
            open('killed', 'w').close()
            while {kept} < 2: time.sleep(0.05)
            os.kill(os.getppid(), 9)
            time.sleep(60)"""
    bands = [{"match": 1e3, "wrong": 1e4, "basis": "this engine is another model than the toy"}]
    path = project.contract(candidates={"many": batch(project, kill)}, bands=bands, gates=[gate()])
    out = project.folder / "run"
    done = subprocess.run([sys.executable, "-c", KILLED, path, out], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    begun = json.loads((out / "begun.json").read_text())["run_id"]
    report = Workspace(out).check(open_contract(path))
    assert asked(project) == [4, 2], "two of four were answered before the kill"
    assert report.facts["run_id"] == begun and not (out / "begun.json").exists()
    assert not any((out / "store/partial").iterdir())


def gate() -> dict[str, Any]:
    return {"id": "kl", "metric": "kl_divergence", "at_most": 1e6, "basis": "this engine is another model than the toy"}


def test_a_new_run_has_a_new_id_and_judging_keeps_it(project: Any) -> None:
    path, out = project.contract(), project.folder / "run"
    first = Workspace(out).check(open_contract(path)).facts["run_id"]
    second = Workspace(out).check(open_contract(path)).facts["run_id"]
    assert first < second, "ids sort by time"
    assert Workspace(out).judge_again().facts["run_id"] == second
    assert json.loads((out / "verdict.json").read_text())["run_id"] == second
    assert json.loads((out / "run.json").read_text())["facts"]["run_id"] == second


def test_a_run_of_before_ids_is_given_one_and_keeps_it(project: Any) -> None:
    path, out = project.contract(), project.folder / "run"
    Workspace(out).check(open_contract(path))
    record = json.loads((out / "run.json").read_text())
    del record["facts"]["run_id"]
    (out / "run.json").write_text(json.dumps(record))
    given = Workspace(out).judge_again().facts["run_id"]
    assert given and Workspace(out).judge_again().facts["run_id"] == given


def test_only_the_same_contract_is_continued(project: Any) -> None:
    opened, out = open_contract(project.contract()), project.folder / "run"
    begun = identity.begin(out, opened, "*", fresh=False)
    assert identity.begin(out, opened, "*", fresh=False) == begun
    others = [identity.begin(out, opened, "good/*", fresh=False), identity.begin(out, opened, "good/*", fresh=True)]
    changed = open_contract(project.contract(gates=[gate()]))
    assert len({begun, *others, identity.begin(out, changed, "good/*", fresh=False)}) == 4


def test_a_group_waits_until_its_sources_have_ended_and_one_whose_source_failed_is_not_tried(project: Any) -> None:
    sources = jobs(project, Spec("toy", {"fault": "raise"}), 2)[::2]
    others = [replace(job, after=sources[n].key) for n, job in enumerate(jobs(project, Spec("toy", {"seed": 1}), 2)[1::2])]
    elsewhere = Elsewhere()
    results = {result.key: result for result in run([*others, *sources], project.store, executor=elsewhere)}
    assert len(results) == 4 and all(isinstance(result, Failure) for result in results.values())
    assert all("the reference gave no tokens" in results[job.key].text for job in others)  # type: ignore[union-attr]
    assert [group.spec.options for group in elsewhere.groups] == [{"fault": "raise"}]


def test_groups_that_wait_for_each_other_are_parted(project: Any) -> None:
    first, then = jobs(project, Spec("toy"), 1)
    other_first, other_then = jobs(project, Spec("toy", {"seed": 1}), 1)
    crossed = [first, replace(then, after=other_first.key), other_first, replace(other_then, after=first.key)]
    results = list(run(crossed, project.store, executor=Elsewhere()))
    assert len(results) == 4 and all(isinstance(result, Trace) for result in results)
    with Workers() as workers:
        here = list(run(crossed, Store(project.folder / "here"), executor=LocalPool(workers, parallel=3)))
    assert {result.key for result in here} == {result.key for result in results}
    assert all(isinstance(result, Trace) for result in here)


def test_a_group_reads_back_as_it_was(project: Any) -> None:
    group = groups_of(jobs(project, Spec("toy", {"noise": 1e-7}, {"A": "b"}, directory=str(project.folder)), 2), {})[0]
    assert Group.read(group.as_json()) == group


def test_a_spec_says_what_a_machine_must_have(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from logitproof.contract import isa

    monkeypatch.setattr(isa, "host_flags", lambda: frozenset({"avx2", "avx512f"}))
    monkeypatch.setattr(isa, "host_machine", lambda: "x86_64")
    candidates = {"mine": {"engine": "transformers"}, "card": {"engine": "transformers", "options": {"device": "cuda:0"}}}
    path = project.contract(candidates=candidates, matrix={"mode": ["prefill"], "isa": ["native", "avx2"]})
    found = specs(open_contract(path))
    assert found["mine"].needs == Needs(engine="transformers") and found["card"].needs.gpus == 1
    assert found["mine on avx2"].needs == Needs(instruction_sets=("avx2",), engine="transformers")
    group = groups_of(jobs(project, replace(Spec("toy"), needs=found["mine on avx2"].needs), 1), {})[0]
    assert group.needs == together([found["mine on avx2"].needs, Needs(memory=os.path.getsize(project.model))])


def test_what_a_machine_must_have_is_in_no_key(project: Any) -> None:
    needy = replace(Spec("toy"), needs=Needs(gpus=1, memory=1))
    assert [job.key for job in jobs(project, needy, 1)] == [job.key for job in jobs(project, Spec("toy"), 1)]


def test_a_session_loads_once_and_again_where_its_engine_died(project: Any) -> None:
    use = project.engine("def load(p):\n    open('loads.txt', 'a').write('x')\n    return {'vocab_size': V}\n")
    with Session(Spec("command", use["options"], timeout=20, directory=str(project.folder)), "fake") as session:
        worker, _ = session.loaded(project.model)
        assert session.loaded(project.model)[0] is worker and session.holds(project.model, None)
        worker.close()
        assert not session.holds(project.model, None)
        assert session.loaded(project.model)[0] is not worker
    assert (project.folder / "loads.txt").read_text() == "xx" and not session.alive


def test_a_caller_that_stops_early_loses_nothing_that_was_measured(project: Any) -> None:
    use = batch(project, "time.sleep(0.2)")
    spec = Spec("command", use["options"], timeout=20, directory=str(project.folder))
    todo = jobs(project, spec, 4)
    with Workers() as workers:
        results = run(todo, project.store, executor=LocalPool(workers))
        keys = [next(results).key for _ in range(5)]
        results.close()  # type: ignore[attr-defined]
    assert all(project.store.read(key) is not None for key in keys)
    assert len(list(run(todo, project.store))) == 8


def test_the_store_gives_every_trace_and_remembers_records(tmp_path: Path, project: Any) -> None:
    list(run(jobs(project, Spec("toy"), 2), project.store))
    assert [trace.kind for trace in sorted(project.store.every(), key=lambda trace: trace.kind)] == ["generate"] * 2 + [
        "score"
    ] * 2
    project.store.remember("words", "abc", {"1": "x"})
    assert project.store.note("words", "abc") == {"1": "x"} and project.store.note("words", "other") == {}
    (project.folder / "store/words/abc.json").write_text("[1")
    assert project.store.note("words", "abc") == {}
