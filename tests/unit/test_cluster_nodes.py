"""Nodes without Ray: what a lost one owed is begun again elsewhere, what it had given stays, and each runs what it has."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.contract import isa
from logitproof.contract.isa import lacking
from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.jobs import doctor
from logitproof.jobs.cluster.executor import RETRIES, RayCluster
from logitproof.jobs.cluster.far_end import FarEnd
from logitproof.jobs.cluster.link import Lost
from logitproof.jobs.cluster.messages import Answer, Task
from logitproof.jobs.cluster.placing import ID, Node
from logitproof.jobs.cluster.relay import _files
from logitproof.jobs.cluster.tasks import Tasks
from logitproof.jobs.doctor import EngineState
from logitproof.jobs.group import Group
from logitproof.protocol.machine import this_machine
from logitproof.protocol.messages import Machine
from logitproof.report.report import Report
from logitproof.runs.check import check
from logitproof.traces.store import Store
from logitproof.traces.trace import Failure

RESOURCES = {"CPU": 1.0, "engine:toy": 1.0, "memory": 1e12}


@dataclass
class Nearby:
    """A link whose nodes are this machine. `lose` says after how many items the next task that runs jobs is lost, if it is."""

    folder: Path
    alive: list[str] = field(default_factory=lambda: ["a" * 8, "b" * 8])
    resources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lose: Callable[[Nearby, str], int | None] = lambda link, node: None
    change: Callable[[Answer], Answer] = lambda answer: answer
    tasks: list[tuple[str, Task]] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        return [Node(node, f"node {node}", self.resources.get(node, RESOURCES)) for node in self.alive]

    def follow(
        self, text: str, options: Mapping[str, Any], *, possible: Callable[[], str] = lambda: "", **_: Any
    ) -> Iterator[str | bytes]:
        selectors = [options, *options.get("fallback_strategy", ())]
        wanted = [selector["label_selector"][ID].removeprefix("in(").removesuffix(")").split(",") for selector in selectors]
        able = [node for nodes in wanted for node in nodes if node in self.alive]
        if not able:
            raise Lost(possible() or "nobody is there")
        task = Task.model_validate_json(text)
        self.tasks.append((able[0], task))
        left = self.lose(self, able[0]) if task.action == "run" else None
        for number, item in enumerate(self._items(task, able[0])):
            if number == left:
                raise Lost("WorkerCrashedError: the node died")
            yield item

    def _items(self, task: Task, node: str) -> Iterator[str | bytes]:
        yield Answer(begun=node).model_dump_json()
        folder = self.folder / str(len(self.tasks))
        folder.mkdir(parents=True)
        answers = io.StringIO()
        FarEnd(task, folder, {}, answers).work()
        for line in answers.getvalue().splitlines():
            yield self.change(Answer.model_validate_json(line)).model_dump_json()
            yield from _files(line.encode())

    def stop(self) -> None: ...

    def go_on(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def link(tmp_path: Path) -> Nearby:
    return Nearby(tmp_path / "far")


@pytest.fixture
def opened(project: Any) -> Any:
    project.suite("suite.yaml", "a", "b", "c", max_new_tokens=1)
    return open_contract(project.contract())


def checked(opened: Any, link: Nearby, store: Store) -> tuple[Report, RayCluster]:
    cluster = RayCluster("nowhere:1")
    cluster._joined = Tasks(link)  # type: ignore[arg-type]
    return check(opened, store, executor=cluster), cluster


def verdict(report: Report) -> str:
    record = json.loads(json.dumps(report.as_json()))
    return json.dumps({name: value for name, value in record.items() if name not in ("made_at", "run_id", "seconds")})


def once(items: int) -> Callable[[Nearby, str], int | None]:
    """Lose the second task that runs jobs, and its node."""

    def lose(link: Nearby, node: str) -> int | None:
        ran = [task for _, task in link.tasks if task.action == "run"]
        if len(ran) != 2:
            return None
        link.alive.remove(node)
        return items

    return lose


# what names the node; three times an answer and the record of a trace without rows; an answer, rows and the record of a trace
@pytest.mark.parametrize(("items", "whole"), [(0, 0), (2, 0), (5, 2), (9, 3)])
def test_a_node_that_is_lost_at_any_moment_changes_no_verdict_and_what_it_gave_stays(
    opened: Any, link: Nearby, tmp_path: Path, items: int, whole: int
) -> None:
    link.lose = once(items)
    here = check(opened, Store(tmp_path / "here"))
    there, cluster = checked(opened, link, Store(tmp_path / "there"))
    assert verdict(there) == verdict(here) and here.verdict.status == "PASS"
    assert len(cluster.lost) == 1 and "the node died" in cluster.lost[0]
    ran = [Group.read(task.group).jobs for _, task in link.tasks if task.action == "run"]
    given = [job.key for jobs in (ran[0], *ran[2:]) for job in jobs]
    assert len(given) == len(set(given)), "nothing that had come whole was asked for again"
    assert len(ran[2]) == len(ran[1]) - whole


def test_what_is_lost_again_and_again_is_an_error_by_name_and_no_verdict(opened: Any, link: Nearby, tmp_path: Path) -> None:
    link.lose = lambda link, node: 1
    report, cluster = checked(opened, link, Store(tmp_path / "there"))
    failures = [result for result in report.results.values() if isinstance(result, Failure)]
    assert report.verdict.status == "ERROR" and report.verdict.exit_code == 3
    assert len(failures) == len(report.results) and len(cluster.lost) == 2 * (RETRIES + 1), "of both engines"
    assert {failure.fault for failure in failures} == {"environment"}
    assert all("the machines that ran it were lost, 4 times" in failure.text for failure in failures)
    assert "node aaaaaaaa" in failures[0].text and failures[0].remedy


def test_where_the_last_node_is_gone_it_is_told_by_name(opened: Any, link: Nearby, tmp_path: Path) -> None:
    link.alive = ["a" * 8]
    link.lose = once(3)
    report, _ = checked(opened, link, Store(tmp_path / "there"))
    failures = [result for result in report.results.values() if isinstance(result, Failure)]
    assert report.verdict.exit_code == 3 and failures
    assert all("node aaaaaaaa is gone" in failure.text for failure in failures)


def test_bytes_that_changed_on_the_way_are_asked_for_again_and_never_judged(opened: Any, link: Nearby, tmp_path: Path) -> None:
    files = iter([True])

    def change(answer: Answer) -> Answer:
        if answer.files and next(files, False):
            return answer.model_copy(update={"files": {name: size + 1 for name, size in answer.files.items()}})
        return answer

    link.change = change
    report, cluster = checked(opened, link, Store(tmp_path / "there"))
    assert report.verdict.status == "PASS" and len(cluster.lost) == 1 and "cut short" in cluster.lost[0]


def test_an_engine_runs_only_where_a_node_says_that_it_has_it(opened: Any, link: Nearby, tmp_path: Path) -> None:
    link.resources = {"a" * 8: {"CPU": 64.0, "memory": 1e12}}
    report, _ = checked(opened, link, Store(tmp_path / "there"))
    assert report.verdict.status == "PASS"
    assert {node for node, task in link.tasks if task.action != "describe"} == {"b" * 8}


def test_where_no_node_has_the_engine_each_is_named_and_nothing_passes(opened: Any, link: Nearby, tmp_path: Path) -> None:
    link.resources = {node: {"CPU": 1.0, "memory": 1e12} for node in link.alive}
    report, _ = checked(opened, link, Store(tmp_path / "there"))
    assert report.verdict.status == "ERROR" and report.verdict.exit_code == 3
    text = json.dumps(report.as_json())
    assert all(f"node {node} lacks engine:toy" in text for node in link.alive)


@pytest.fixture
def without_amx(monkeypatch: pytest.MonkeyPatch, link: Nearby) -> None:
    """Neither this machine nor a node says that it has AMX."""
    monkeypatch.setattr(isa, "host_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(isa, "host_machine", lambda: "x86_64")

    def change(answer: Answer) -> Answer:
        if answer.described is None:
            return answer
        machine = Machine(architecture="x86_64", processor="a processor", flags=["avx2"])
        return answer.model_copy(update={"described": answer.described.model_copy(update={"machine": machine})})

    link.change = change


@pytest.fixture
def on_amx(project: Any, without_amx: None) -> Any:
    pin = {"amx": {"evidence": {"isa.kernels": "numpy"}}}
    candidates = {"good": {**project.toy(noise=1e-7), "isa": pin}}
    project.suite("suite.yaml", "a", max_new_tokens=1)
    return open_contract(project.contract(candidates=candidates, matrix={"mode": ["prefill"], "isa": ["native", "amx"]}))


def test_what_this_machine_lacks_is_measured_where_a_node_has_it(on_amx: Any, link: Nearby, tmp_path: Path) -> None:
    link.resources = {"b" * 8: {**RESOURCES, "amx": 1.0}}
    here = check(on_amx, Store(tmp_path / "here"))
    there, _ = checked(on_amx, link, Store(tmp_path / "there"))
    assert [cell.isa for cell in here.compared] == ["native"] and [cell.isa for cell in there.compared] == ["native", "amx"]
    pinned = [(node, Group.read(task.group)) for node, task in link.tasks if task.action == "run"]
    assert {node for node, group in pinned if group.spec.needs.instruction_sets} == {"b" * 8}
    assert there.verdict.status == "PASS"


def test_what_no_node_has_is_not_measured_as_on_one_machine(on_amx: Any, link: Nearby, tmp_path: Path) -> None:
    here = check(on_amx, Store(tmp_path / "here"))
    there, _ = checked(on_amx, link, Store(tmp_path / "there"))
    assert verdict(there) == verdict(here) and "this processor has no amx" in verdict(there)


def test_a_node_that_has_an_instruction_set_and_does_not_offer_it_is_told_how(
    on_amx: Any, link: Nearby, tmp_path: Path
) -> None:
    link.change = lambda answer: answer
    report, _ = checked(on_amx, link, Store(tmp_path / "there"))
    reasons = [cell.reason for cell in report.verdict.unmeasured]
    assert len(reasons) == 1
    if lacking("amx", this_machine()):
        assert "amx" in reasons[0]
    else:
        assert "does not offer it" in reasons[0] and "logitproof doctor --ray" in reasons[0]


def test_a_node_offers_what_answers_there_and_its_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "host_flags", lambda: frozenset({"avx2", "avx512f", "amx_tile"}))
    monkeypatch.setattr(isa, "host_machine", lambda: "x86_64")
    states = (EngineState("toy", {}, {}), EngineState("vllm", {}, {}, problem="not installed"))
    monkeypatch.setattr(doctor, "ask_engines", lambda: states)
    out = CliRunner().invoke(main, ["doctor", "--ray"])
    assert out.exit_code == 0 and json.loads(out.output) == {"engine:toy": 1, "amx": 1, "avx512": 1, "avx2": 1}


def test_nobody_works_on_a_cluster_that_was_not_joined(opened: Any, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="nobody has joined the cluster") as caught:
        check(opened, Store(tmp_path / "there"), executor=RayCluster("nowhere:1"))
    assert "with RayCluster" in caught.value.remedy


def test_one_cluster_runs_one_contract_after_another(opened: Any, link: Nearby, tmp_path: Path) -> None:
    _, cluster = checked(opened, link, Store(tmp_path / "first"))
    second = check(opened, Store(tmp_path / "second"), executor=cluster)
    assert second.verdict.status == "PASS" and second.facts["from_store"] == 0
