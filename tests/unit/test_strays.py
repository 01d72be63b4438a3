"""Nothing of an engine outlives its harness or its own end, and nothing that it does holds the harness for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logitproof.errors import EngineGarbage, EngineTimeout
from logitproof.jobs.environment import environment_of
from logitproof.jobs.spec import Spec
from logitproof.jobs.worker import Worker

CHILDREN = """
import subprocess
def load(p):
    inner = "import os, time, sys; os.setsid(); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    for name in ("one", "two"):
        subprocess.Popen([sys.executable, "-c", inner, name])
    while not all(os.path.exists(name) and open(name).read() for name in ("one", "two")): time.sleep(0.01)
    open("engine", "w").write(str(os.getpid()))
    #THEN#
    return {"vocab_size": V}
"""
HARNESS = """
import sys, json
from pathlib import Path
from logitproof.jobs.worker import Spec, Worker
worker = Worker(Spec("command", json.loads(sys.argv[1]), directory="."), name="mine")
worker.load(Path("toy.json"), None)
"""


def wait_for(holds: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)
    return holds()


def numbers(folder: Path) -> list[int]:
    return [int((folder / name).read_text()) for name in ("one", "two", "engine")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_engine_and_no_child_of_it_outlives_a_harness_that_is_killed(
    project: Any, is_gone: Callable[[int], bool], number: signal.Signals
) -> None:
    """The engine computes when it happens, and its children have sessions of their own."""
    use = project.engine(CHILDREN.replace("#THEN#", "time.sleep(600)"))
    argv = [sys.executable, "-c", HARNESS, json.dumps(use["options"])]
    harness = subprocess.Popen(argv, cwd=project.folder, start_new_session=True)
    assert wait_for((project.folder / "engine").exists)
    found = numbers(project.folder)
    assert not any(is_gone(process) for process in found)
    os.killpg(harness.pid, number)
    harness.wait()
    assert wait_for(lambda: all(is_gone(process) for process in found)), [p for p in found if not is_gone(p)]


def test_an_engines_children_end_with_it(project: Any, is_gone: Callable[[int], bool]) -> None:
    use = project.engine(CHILDREN.replace("#THEN#", "pass"))
    with Worker(Spec("command", use["options"], directory=str(project.folder)), name="mine") as worker:
        worker.load(project.model, None)
        found = numbers(project.folder)
    assert wait_for(lambda: all(is_gone(process) for process in found), 5)


def test_progress_has_a_deadline(project: Any) -> None:
    for_ever = """
    def load(p):
        while True:
            send({"id": number, "progress": {}}); time.sleep(0.05)
    """
    use = project.engine(for_ever)
    spec = Spec("command", use["options"], directory=str(project.folder), timeout=5, deadline=1)
    with Worker(spec, name="mine") as worker, pytest.raises(EngineTimeout, match="deadline of 1 s"):
        worker.load(project.model, None)


def test_answers_that_nobody_asked_for_wait_in_the_engine(project: Any) -> None:
    many = """
    def load(p):
        for n in range(100):
            send({"id": number, "progress": {"x": "y" * 1000000}})
            open("sent", "w").write(str(n))
        return {"vocab_size": V}
    """
    use = project.engine(many)
    with Worker(Spec("command", use["options"], directory=str(project.folder)), name="mine") as worker:
        worker._send("load", {"model": "toy.json"})
        time.sleep(3)
        assert int((project.folder / "sent").read_text()) < 40
        begin = time.monotonic()
    assert time.monotonic() - begin < 20, "one that waits for its pipe is ended all the same"


def test_details_are_bounded(project: Any) -> None:
    use = project.engine('def load(p): return {"vocab_size": V, "details": {"x": "y" * 100000}}')
    with (
        Worker(Spec("command", use["options"], directory=str(project.folder)), name="mine") as worker,
        pytest.raises(EngineGarbage, match="details"),
    ):
        worker.load(project.model, None)


@pytest.mark.parametrize(
    "name", ["MY_SECRET", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HF_HUB_TOKEN", "OPENAI_API_KEY", "NPM_CONFIG_X"]
)
def test_an_engine_gets_no_secret_of_the_harness(name: str) -> None:
    outer = {name: "s3cret", "PATH": "/bin", "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    assert environment_of(Spec("toy", environment={"X": "1"}), outer) == {
        "PATH": "/bin", "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false", "X": "1",
    }  # fmt: skip
    assert environment_of(Spec("toy", inherit=(name,)), outer)[name] == "s3cret"
    assert environment_of(Spec("openai", {"api_key_env": name}), outer)[name] == "s3cret"


def test_what_an_engine_sees_is_what_it_may_see(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "s3cret")
    use = project.engine('def load(p): return {"vocab_size": V, "details": dict(os.environ)}')
    spec = Spec("command", use["options"], environment={"GIVEN": "1"}, directory=str(project.folder))
    with Worker(spec, name="mine") as worker:
        details = worker.load(project.model, None).details
    assert "MY_SECRET" not in details and details["GIVEN"] == "1" and details["PATH"] == os.environ["PATH"]
