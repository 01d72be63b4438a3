"""Engines on a real cluster of a head and two nodes on this machine: lacks are told, and nodes put traces at a URL."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="NOT MEASURED: many machines need ray: pip install 'logitproof[ray]'")
if not os.environ.get("LOGITPROOF_RAY"):
    pytest.skip("NOT MEASURED: `make test-ray` starts a cluster of three nodes", allow_module_level=True)

from ray_nodes import Nodes, left, wait_until

from logitproof.contract.opened import open_contract
from logitproof.errors import EnvironmentFailed
from logitproof.jobs.cluster.executor import RayCluster
from logitproof.jobs.needs import Needs
from logitproof.jobs.spec import Spec
from logitproof.runs.check import check
from logitproof.traces.store import Store
from logitproof.traces.url_store import UrlStore


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


def test_nodes_put_traces_at_a_url_themselves(project: Any, cluster: RayCluster) -> None:
    store = UrlStore(f"file://{project.folder}/shared", Store(project.folder / "own"))
    report = check(open_contract(project.contract()), store, executor=cluster)
    assert report.verdict.status == "PASS"
    assert len(list(store.every())) == len(list((project.folder / "shared/traces").glob("*/*/trace.json"))) > 2


def test_what_no_node_has_is_told_by_name_in_bounded_time(cluster: RayCluster, project: Any) -> None:
    asked = {
        "card": Spec("toy", needs=Needs(gpus=1, engine="toy")),
        "arm": Spec("toy", {"seed": 1}, needs=Needs(("neon",), engine="toy")),
        "uninstalled": Spec("plain", needs=Needs(engine="plain")),
    }
    answers = cluster.hello(asked)
    for name, lack in (("card", "1 GPU"), ("arm", "neon"), ("uninstalled", "engine:plain")):
        error = answers[name]
        assert isinstance(error, EnvironmentFailed) and f"lacks {lack}" in error.text and error.text.count("node ") >= 2
        assert "logitproof doctor --ray" in error.remedy
