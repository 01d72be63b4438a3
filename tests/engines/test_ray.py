"""A contract on two real nodes of Ray on this machine: the verdict of one machine, whatever dies meanwhile."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="NOT MEASURED: many machines need ray: pip install 'logitproof[ray]'")
if not os.environ.get("LOGITPROOF_RAY"):
    pytest.skip("NOT MEASURED: `make test-ray` starts a cluster of two nodes", allow_module_level=True)

from ray_nodes import Nodes, left, wait_until

from logitproof.contract.opened import open_contract
from logitproof.errors import EnvironmentFailed
from logitproof.jobs.cluster.executor import RayCluster
from logitproof.jobs.needs import Needs
from logitproof.jobs.progress import Progress
from logitproof.jobs.spec import Spec
from logitproof.runs.workspace import Workspace
from logitproof.traces.store import Store
from logitproof.traces.trace import Failure

TIMES = ("made_at", "run_id", "seconds")
"""All of verdict.json that two runs on one machine need not have alike."""
PROMPTS = 16
SLOW = {"first": 1e-7, "second": 2e-7}
"""Candidates by name, and their noise: as many as there are nodes, so that each node has one."""


def _project(folder: Path) -> Any:
    """A project of toys, as the tests of units have it."""
    path = Path(__file__).parents[1] / "unit/conftest.py"
    spec = importlib.util.spec_from_file_location("unit_conftest", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder.mkdir()
    return module.Project(folder)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("nodes")
    with Nodes(folder) as started:
        yield started
    assert wait_until(lambda: not left(str(folder))), "a process of the cluster is left"


@pytest.fixture
def project(tmp_path: Path) -> Any:
    return _project(tmp_path / "project")


@pytest.fixture
def cluster(nodes: Nodes) -> Iterator[RayCluster]:
    with RayCluster(nodes.address) as joined:
        yield joined


def verdict(space: Workspace) -> bytes:
    """verdict.json byte for byte, but for times."""
    text = (space.folder / "verdict.json").read_bytes()
    for name in TIMES:
        value = json.dumps(json.loads(text)[name]).encode()
        assert text.count(value) >= 1
        text = text.replace(value, b"0")
    return text


def slow(project: Any) -> Path:
    """A contract whose candidates take half a second a prompt, so that there is a middle."""
    project.suite("suite.yaml", *(f"prompt {number}" for number in range(PROMPTS)), max_new_tokens=1)
    return project.contract(candidates={name: project.toy(fault="slow", noise=noise) for name, noise in SLOW.items()})


def test_the_verdict_on_a_cluster_is_that_of_one_machine_and_weights_come_by_content(
    project: Any, cluster: RayCluster, nodes: Nodes
) -> None:
    crashing = project.toy(fault="crash", fault_at=1)
    contract = project.contract(
        matrix={"mode": ["prefill", "greedy"]}, candidates={"good": project.toy(noise=1e-7), "bad": crashing}
    )
    opened = open_contract(contract)
    here, there = Workspace(project.folder / "here"), Workspace(project.folder / "there")
    here.check(opened)
    entries: list[Progress] = []
    report = there.check(opened, executor=cluster, on_progress=entries.append)
    assert verdict(there) == verdict(here)
    keys = [[(trace.key, trace.logits.tobytes()) for trace in Store(space.folder / "store").every()] for space in (here, there)]
    assert keys[0] == keys[1] and len(keys[0]) > 2
    assert any(isinstance(result, Failure) and "SIGABRT" in result.text for result in report.results.values())
    assert not cluster.lost, "an engine's own crash is its verdict and no machine's"
    assert [entry.done for entry in entries] == list(range(1, entries[0].total + 1))
    size = (project.folder / "toy.json").stat().st_size
    caches = [name for name in ("head", "other") if list((nodes.folder / name).glob("models/*/toy.json"))]
    assert caches and cluster.moved == size * len(caches), "every node that computed has fetched it, once"
    assert wait_until(lambda: not left(str(nodes.folder), named="logitproof.serve")), "no engine is left on a node"


def test_nodes_put_traces_at_a_url_themselves(project: Any, cluster: RayCluster) -> None:
    space, url = Workspace(project.folder / "run"), f"file://{project.folder}/shared"
    assert space.check(open_contract(project.contract()), executor=cluster, store_url=url).verdict.status == "PASS"
    kept = list(Store(space.folder / "store").every())
    assert len(kept) == len(list((project.folder / "shared/traces").glob("*/*/trace.json"))) > 2


def test_what_no_node_has_is_told_by_name_in_bounded_time(cluster: RayCluster, project: Any) -> None:
    asked = {
        "card": Spec("toy", needs=Needs(gpus=1, engine="toy")),
        "arm": Spec("toy", {"seed": 1}, needs=Needs(("neon",), engine="toy")),
        "large": Spec("toy", {"seed": 2}, needs=Needs(memory=1 << 50, engine="toy")),
        "uninstalled": Spec("plain", needs=Needs(engine="plain")),
    }
    answers = cluster.hello(asked)
    for name, lack in (("card", "1 GPU"), ("arm", "neon"), ("large", "MiB of memory"), ("uninstalled", "engine:plain")):
        error = answers[name]
        assert isinstance(error, EnvironmentFailed) and lack in error.text and error.text.count("node ") >= 2
        assert "logitproof doctor --ray" in error.remedy


def test_a_node_without_the_engine_runs_nothing_of_it(project: Any, cluster: RayCluster, nodes: Nodes) -> None:
    project.write("toy.json", json.dumps({"vocab_size": 300, "seed": 9}))
    contract = project.contract(reference=project.engine(), candidates={"same": project.engine(name="again.py")})
    report = Workspace(project.folder / "run").check(open_contract(contract), executor=cluster)
    assert not [result for result in report.results.values() if isinstance(result, Failure)] and len(report.results) > 2
    sha256 = next(iter(report.facts["pins"]["models"]["m"].values()))["sha256"]
    assert (nodes.folder / "head/models" / sha256).is_dir() and not (nodes.folder / "other/models" / sha256).exists()


def test_a_node_that_is_killed_in_the_middle_changes_no_verdict(project: Any, nodes: Nodes, cluster: RayCluster) -> None:
    opened = open_contract(slow(project))
    here, there = Workspace(project.folder / "here"), Workspace(project.folder / "there")
    here.check(opened)
    scored: Counter[str] = Counter()
    killed: list[str] = []

    def kill(progress: Progress) -> None:
        noise = json.dumps(progress.job.spec.options.get("noise"))
        scored[noise] += progress.job.kind == "score"
        engine = left(str(nodes.folder / "other"), named=f'"noise": {noise}')
        if not killed and 1 < scored[noise] < PROMPTS and engine:
            killed.extend(nodes.others)
            nodes.kill(killed[0])

    report = there.check(opened, executor=cluster, on_progress=kill)
    assert len(killed) == 1 and cluster.lost and all(killed[0][:8] in reason for reason in cluster.lost)
    assert verdict(there) == verdict(here)
    assert not [result for result in report.results.values() if isinstance(result, Failure)]
    nodes.add("third")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ends_in_the_middle_leaves_no_engine_and_is_continued(
    project: Any, nodes: Nodes, number: signal.Signals
) -> None:
    contract, folder = slow(project), project.folder / "run"
    argv = [sys.executable, "-m", "logitproof", "check", str(contract), "--out", str(folder), "--ray", nodes.address]
    mark = str(nodes.folder)
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=project.folder) as process:
        try:
            assert wait_until(lambda: kept(folder)["first"] > 1 or process.poll() is not None, 240)
            assert left(mark, named="logitproof.serve") and left(mark, named="far_end")
            os.kill(process.pid, number)
            assert process.wait(120) not in (0, 1, 2)
        finally:
            process.kill()
    assert wait_until(lambda: not left(mark, named="logitproof.serve")), "an engine is left"
    assert wait_until(lambda: not left(mark, named="far_end"))
    before = kept(folder)
    assert before["first"] < PROMPTS
    with RayCluster(nodes.address) as cluster:
        report = Workspace(folder).check(open_contract(contract), executor=cluster)
    assert report.facts["from_store"] == before.total() and report.verdict.status == "PASS"


def kept(folder: Path) -> Counter[str]:
    """How many whole traces a run has of each engine."""
    records = (folder / "store/traces").glob("*/*/trace.json")
    return Counter(json.loads(record.read_bytes())["engine"] for record in records)


def test_where_the_head_is_lost_the_run_ends_as_an_error_and_with_no_verdict(project: Any, nodes: Nodes) -> None:
    """The last one: the cluster is gone then. Ray ends the process that has joined it with exit code 1, that of FAIL."""
    contract, folder = slow(project), project.folder / "run"
    argv = [sys.executable, "-m", "logitproof", "check", str(contract), "--out", str(folder), "--ray", nodes.address]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=project.folder, text=True) as process:
        try:
            assert wait_until(lambda: kept(folder)["first"] > 1 or process.poll() is not None, 240)
            os.kill(nodes.cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)
            output, _ = process.communicate(timeout=180)
        finally:
            process.kill()
    assert (
        process.returncode == 3 and f"--ray {nodes.address}: the c" in output and "remedy: look at the cluster's head" in output
    )
    assert "Traceback" not in output and not (folder / "run.json").exists()
    assert wait_until(lambda: not left(str(nodes.folder), named="logitproof.serve"), 180), "an engine is left"
