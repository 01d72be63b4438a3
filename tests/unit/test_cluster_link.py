"""The connection to a cluster by a driver that is no Ray: what it says, and that its end is an error and never an exit code."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.opened import open_contract
from logitproof.errors import EnvironmentFailed
from logitproof.jobs.cluster import link
from logitproof.jobs.cluster.executor import RayCluster
from logitproof.jobs.cluster.link import Link, Lost, Stopped
from logitproof.jobs.cluster.tasks import Tasks
from logitproof.jobs.progress import Progress
from logitproof.runs.check import check
from logitproof.traces.store import Store

DRIVER = """
import json, os, sys, time
def tell(piece=b"", **reply):
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\\n" + piece)
    sys.stdout.buffer.flush()
NODES = [{"id": "a", "name": "node a", "resources": {"CPU": 1.0}}]
tell(id=0, nodes=NODES)
asked = 0
for line in sys.stdin:
    request = json.loads(line)
    number, do = request["id"], request["do"]
    with open("asked.txt", "a") as file:
        file.write(do + "\\n")
    if do == "begin":
        tell(id=number)
    elif do == "nodes":
        tell(id=number, nodes=NODES)
    elif do == "next":
        asked += 1
#NEXT#
"""
Join = Callable[[str], Link]


@pytest.fixture
def join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(link, "TICK", 0.1)
    joined: list[Link] = []

    def start(code: str, driver: str = DRIVER) -> Link:
        (tmp_path / "driver.py").write_text(driver.replace("#NEXT#", textwrap.indent(textwrap.dedent(code), " " * 8)))
        joined.append(Link([sys.executable, "driver.py"], "--ray host:1"))
        return joined[-1]

    yield start
    for entry in joined:
        entry.close()


def asked() -> list[str]:
    return Path("asked.txt").read_text().split()


def test_what_a_task_gives_comes_in_order_and_as_it_was(join: Join) -> None:
    joined = join(
        """
        if asked == 1: tell(id=number, text="{}")
        if asked == 2: tell(id=number, piece=b"\\n{}\\n\\0", size=5)
        if asked == 3: tell(id=number, ended=True)
        """
    )
    assert [node.name for node in joined.nodes()] == ["node a"]
    assert list(joined.follow("task", {"num_cpus": 1})) == ["{}", b"\n{}\n\0"]
    assert "cancel" not in asked()


def test_a_task_that_is_left_before_its_end_is_cancelled(join: Join) -> None:
    joined = join('tell(id=number, text="{}")')
    items = joined.follow("task", {})
    assert next(items) == "{}"
    items.close()  # type: ignore[attr-defined]
    joined.close()
    assert asked()[-1] == "cancel"


def test_a_task_that_is_lost_is_no_end_of_the_run(join: Join) -> None:
    joined = join('tell(id=number, lost="NodeDiedError: it is gone") if asked == 1 else tell(id=number, ended=True)')
    with pytest.raises(Lost, match="it is gone"):
        list(joined.follow("task", {}))
    assert list(joined.follow("task", {})) == []


def test_what_never_answers_is_given_up_by_time_by_reason_and_by_an_interrupt(join: Join) -> None:
    joined = join("pass")
    with pytest.raises(Lost, match="no answer within"):
        list(joined.follow("task", {}, within=0.3))
    with pytest.raises(Lost, match="every node is gone"):
        list(joined.follow("task", {}, possible=lambda: "every node is gone"))
    threading.Timer(0.3, joined.stop).start()
    with pytest.raises(Stopped):
        list(joined.follow("task", {}))
    joined.go_on()
    with pytest.raises(Lost):
        list(joined.follow("task", {}, within=0.3))


def test_a_driver_that_ray_has_ended_is_an_error_of_the_machine_whatever_waits_for_it(join: Join) -> None:
    joined = join(
        """
        print("GCS may have been killed.", file=sys.stderr)
        os._exit(1)
        """
    )
    for _ in range(2):
        with pytest.raises(EnvironmentFailed, match="exit code 1, GCS may have been killed") as caught:
            list(joined.follow("task", {}))
        assert caught.value.exit_code == 3 and caught.value.where == "--ray host:1" and caught.value.remedy
    time.sleep(0.2)
    with pytest.raises(EnvironmentFailed, match="the connection to the cluster ended"):
        joined.nodes()


def test_a_run_whose_driver_ends_has_the_exit_code_of_an_error(join: Join, project: Any, tmp_path: Path) -> None:
    cluster = RayCluster("host:1")
    cluster._joined = Tasks(join("os._exit(1)"))
    with pytest.raises(EnvironmentFailed, match="the connection to the cluster ended") as caught:
        check(open_contract(project.contract()), Store(tmp_path / "store"), executor=cluster)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("driver", "text"),
    [
        (
            'print(\'{"id": 0, "fault": {"kind": "EnvironmentFailed", "text": "no cluster of this version"}}\')',
            "no cluster of this",
        ),
        ("raise SystemExit(4)", "exit code 4"),
        ('print("hello")', "the connection to the cluster ended"),
        ("import time; time.sleep(60)", "does not answer within"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_told_in_one_sentence(
    join: Join, driver: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "JOINED_IN", 3.0)
    monkeypatch.setattr(link, "ENDING", 0.5)
    with pytest.raises(EnvironmentFailed, match=text):
        join("", driver)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayCluster]:
    """A cluster of one node that is joined by the driver, with no Ray behind it."""
    scripts = tmp_path / "path/ray/scripts"
    scripts.mkdir(parents=True)
    (scripts / "__init__.py").touch()
    (scripts / "scripts.py").write_text("import sys; sys.exit('host:9' in sys.argv)\n")
    shutil.copy(Path(__file__).parent / "stand_in_for_ray.py", scripts.parent / "__init__.py")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path / "path"), *sys.path))))
    monkeypatch.setenv("LOGITPROOF_NODE_CACHE", str(tmp_path / "node"))
    monkeypatch.setattr(link, "_refuse_silent", lambda address: None)
    with RayCluster("host:1") as cluster:
        yield cluster


def test_from_the_driver_to_the_far_end_a_run_has_the_verdict_of_one_machine(
    stand_in: RayCluster, project: Any, tmp_path: Path
) -> None:
    project.suite("suite.yaml", "hello there", max_new_tokens=1)
    opened = open_contract(project.contract())
    reports = [check(opened, Store(tmp_path / "here")), check(opened, Store(tmp_path / "there"), executor=stand_in)]
    records = [json.loads(json.dumps(report.as_json())) for report in reports]
    for record in records:
        assert [record.pop(name) for name in ("made_at", "run_id", "seconds")]
    assert records[0] == records[1] and stand_in.moved == (project.folder / "toy.json").stat().st_size and not stand_in.lost


def test_what_hangs_is_left_at_once_when_the_run_is_stopped(stand_in: RayCluster, project: Any, tmp_path: Path) -> None:
    opened = open_contract(
        project.contract(candidates={"slow": {"engine": "toy", "options": {"fault": "hang", "noise": 1e-7}}})
    )

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(opened, Store(tmp_path / "there"), executor=stand_in, on_progress=interrupt)
    begin = time.monotonic()
    stand_in.__exit__()
    assert time.monotonic() - begin < 25 and stand_in._tasks._link._process.returncode == 0


def test_what_answers_and_is_no_cluster_is_told(stand_in: RayCluster) -> None:
    with pytest.raises(EnvironmentFailed, match="no Ray cluster of this version") as caught, RayCluster("host:9"):
        pass
    assert caught.value.where == "--ray host:9" and "ray start" in caught.value.remedy


def test_a_driver_that_does_not_leave_is_ended(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ENDING", 0.5)
    joined = join("pass", DRIVER + "time.sleep(60)\n")
    joined.close()
    assert joined._process.returncode == -9
