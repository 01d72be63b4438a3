"""What a run on many machines rests on, without Ray: parts, resources, weights by content, the far end, and what comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Prompt
from logitproof.errors import ContractError, EngineDied, EnvironmentFailed, LogitproofError
from logitproof.jobs.adapter import adapter_identity
from logitproof.jobs.cluster import link, relay, weights
from logitproof.jobs.cluster.arrivals import Arrivals
from logitproof.jobs.cluster.executor import RayCluster
from logitproof.jobs.cluster.far_end import package_sha256
from logitproof.jobs.cluster.link import Lost
from logitproof.jobs.cluster.messages import Answer, Fault, Task, WeightFile
from logitproof.jobs.cluster.placing import Node, demand, options, parted, shortage
from logitproof.jobs.group import Group, groups_of
from logitproof.jobs.job import Job, make_job, option_files
from logitproof.jobs.needs import Needs
from logitproof.jobs.spec import Spec
from logitproof.protocol.machine import this_machine
from logitproof.protocol.messages import HelloResult, Machine
from logitproof.runs.check import check
from logitproof.traces.store import Store
from logitproof.weights.model import open_model, weights_sha256


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOGITPROOF_NODE_CACHE", str(tmp_path / "node"))
    return tmp_path / "node"


def hello_of(processor: str = "A", flags: tuple[str, ...] = ("avx2",), **versions: str) -> HelloResult:
    machine = Machine(architecture="x86_64", processor=processor, flags=list(flags))
    return HelloResult(protocol=1, engine="toy", machine=machine, versions=versions)


def job(project: Any, model: str = "toy.json", after: str | None = None, hello: HelloResult | None = None) -> Job:
    path = project.folder / model
    kind: Any = "score" if after else "generate"
    prompt = Prompt(id="p", text="hello")
    return make_job(Spec("toy"), hello, {str(path): open_model(path)}, path, None, kind, "prefill", prompt, 2, after)


@pytest.fixture
def models(project: Any) -> list[str]:
    """The names of three models."""
    project.contract()
    names = ["toy.json", "second.json", "third.json"]
    for seed, name in enumerate(names[1:], 7):
        project.write(name, json.dumps({"vocab_size": 300, "seed": seed}))
    return names


def test_traces_of_another_machine_never_have_this_ones_key(project: Any, models: list[str]) -> None:
    hellos = [
        hello_of(), hello_of("B"), hello_of(flags=("avx2", "avx512f")), hello_of(numpy="1"), hello_of(numpy="2"),
    ]  # fmt: skip
    assert len({job(project, hello=hello).key for hello in hellos}) == len(hellos)
    own = this_machine()
    assert own.architecture and own == this_machine()


def test_parts_are_one_a_model_and_those_that_continue_each_other_stay_together(project: Any, models: list[str]) -> None:
    first, second, third = (job(project, model) for model in models)
    crossing = job(project, models[2], after=first.key)
    parts = parted(Group("toy", Spec("toy"), (first, second, third, crossing)))
    assert sorted(len(part.jobs) for part in parts) == [1, 3]
    assert {entry.key for part in parts for entry in part.jobs} == {entry.key for entry in (first, second, third, crossing)}
    assert [entry.key for entry in next(part for part in parts if len(part.jobs) == 3).jobs] == [
        first.key, third.key, crossing.key,
    ]  # fmt: skip


def test_what_a_job_needs_is_asked_of_ray_and_what_a_node_lacks_is_named() -> None:
    amounts = demand(Needs(("amx", "avx512"), gpus=1, memory=3 << 30, engine="toy"))
    assert options(amounts) == {
        "num_cpus": 1.0, "num_gpus": 1.0, "memory": 3 << 30, "resources": {"amx": 0.001, "avx512": 0.001, "engine:toy": 0.001},
    }  # fmt: skip
    whole = {"CPU": 2.0, "GPU": 1.0, "memory": float(4 << 30), "amx": 1.0, "avx512": 1.0, "engine:toy": 1.0}
    assert not Node("1", "a", whole).lacks(amounts)
    for name in whole:
        lacking = Node("1", "node-a", {**whole, name: 0.0})
        assert "node-a lacks" in shortage([lacking], amounts) and name in shortage([lacking], amounts)
    assert demand(Needs(engine="./mine.py")) == {"CPU": 1.0}
    assert options(demand(Needs()))["num_gpus"] == 0


def reader(paths: dict[str, Path], *, damage: bool = False) -> Any:
    def read(sha256: str, offset: int, count: int) -> bytes:
        piece = paths[sha256].read_bytes()[offset : offset + count]
        return piece[:-1] + bytes([piece[-1] ^ 1]) if damage else piece

    return read


def folder_model(tmp_path: Path) -> Path:
    folder = tmp_path / "source/m"
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "sub/part.bin"):
        (folder / name).write_text(f"content of {name}" * 100)
    (folder / "README.md").write_text("nobody reads it")
    return folder


@pytest.mark.parametrize("is_folder", [True, False])
def test_weights_are_fetched_by_content_once_and_are_the_same_model(
    tmp_path: Path, is_folder: bool, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr(weights, "PIECE", 97)
    path = folder_model(tmp_path)
    path = path if is_folder else path / "config.json"
    wanted = weights.manifest(path, weights_sha256(path))
    read = reader({file.sha256: (path / file.name if is_folder else path) for file in wanted.files})
    place, fetched = weights.local(wanted, read)
    assert place.is_relative_to(own_cache) and place.name == path.name and weights_sha256(place) == wanted.sha256
    assert fetched == sum(file.size for file in wanted.files) > 0
    assert weights.local(wanted, reader({})) == (place, 0) and weights.held() == [wanted.sha256]
    monkeypatch.delenv("LOGITPROOF_NODE_CACHE")
    assert weights.local(wanted, reader({})) == (path, 0), "without a cache of its own the path itself is taken"


def test_a_damaged_copy_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    path = folder_model(tmp_path) / "config.json"
    wanted = weights.manifest(path, weights_sha256(path))
    place, _ = weights.local(wanted, reader({wanted.files[0].sha256: path}))
    place.write_text("another content of this name")
    again, fetched = weights.local(wanted, reader({wanted.files[0].sha256: path}))
    assert fetched and weights_sha256(again) == wanted.sha256


def test_bytes_that_changed_on_the_way_are_never_weights(tmp_path: Path) -> None:
    path = folder_model(tmp_path)
    wanted = weights.manifest(path, weights_sha256(path))
    read = reader({file.sha256: path / file.name for file in wanted.files}, damage=True)
    with pytest.raises(EnvironmentFailed, match="another sha256"):
        weights.local(wanted, read)
    assert not weights.held()


@pytest.mark.parametrize("name", ["../out.bin", "/etc/out.bin", "sub/../../out.bin"])
def test_no_name_of_a_file_leads_out_of_the_cache(tmp_path: Path, name: str) -> None:
    path = folder_model(tmp_path)
    wanted = weights.manifest(path, weights_sha256(path))
    odd = wanted.model_copy(update={"files": [WeightFile(name=name, sha256="0" * 64, size=3)]})
    with pytest.raises(EnvironmentFailed, match="leads out"):
        weights.local(odd, lambda sha256, offset, count: b"abc")
    assert not list(tmp_path.rglob("out.bin"))


def test_a_library_gives_what_was_offered_and_nothing_else(tmp_path: Path) -> None:
    library = relay.Library()
    (tmp_path / "a").write_bytes(b"0123456789")
    library.offer(json.dumps({"a" * 64: str(tmp_path / "a")}))
    assert library.read("a" * 64, 3, 4) == b"3456"
    with pytest.raises(KeyError):
        library.read(str(tmp_path / "a"), 0, 1)


def far_end(task: Task, folder: Path, places: dict[str, str]) -> list[Answer]:
    folder.mkdir()
    argv = [sys.executable, "-m", "logitproof.jobs.cluster.far_end", str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(f"{task.model_dump_json()}\n{json.dumps(places)}\n".encode())
        process.stdin.flush()
        answers = [Answer.model_validate_json(line) for line in process.stdout]
        assert process.wait(120) == 0
        process.stdin.close()  # a far end whose stdin ends before it does ends with 3
    return answers


def task_for(group: Group, **changes: Any) -> Task:
    spec = group.spec
    known = {"source": package_sha256(), "adapter": adapter_identity(spec), "files": option_files(spec)}
    return Task(**{"action": "run", "group": group.as_json(), **known, **changes})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": "0" * 64}, "another version of logitproof"),
        ({"adapter": {"source": "x"}}, "other source of the engine toy"),
        ({"files": {"kernels.so": "0" * 64}}, "the file kernels.so"),
        ({"hello": hello_of("another machine")}, "says another"),
    ],
)
def test_a_node_whose_rows_would_stand_under_the_key_of_something_else_runs_nothing(
    project: Any, models: list[str], tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    group = groups_of([job(project)], {})[0]
    answers = far_end(task_for(group, **changes), tmp_path / "far", {})
    assert len(answers) == 1 and reason in answers[0].unfit and not answers[0].outcome


def test_the_far_end_gives_the_trace_that_this_machine_gives_and_words_with_the_paths_of_the_contract(
    project: Any, models: list[str], tmp_path: Path
) -> None:
    first = job(project)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "toy.json").write_bytes((project.folder / "toy.json").read_bytes())
    places = {str(first.model): str(elsewhere / "toy.json")}
    answers = far_end(task_for(Group("toy", first.spec, (first,))), tmp_path / "far", places)
    assert [bool(answer.outcome) for answer in answers] == [True] and answers[0].files["trace.json"] and answers[0].executed
    (elsewhere / "toy.json").write_text(json.dumps({"vocab_size": 300, "seed": 5}))
    failing = far_end(task_for(Group("toy", first.spec, (first,))), tmp_path / "again", places)
    failure = json.loads(failing[0].outcome)["failure"]
    assert failure["fault"] == "setup" and failure["where"] == str(first.model) and str(elsewhere) not in json.dumps(failure)


def test_the_environment_of_a_far_end_is_the_nodes_own_and_not_what_ray_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import time; time.sleep(60)"
    outer = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "3", "RAY_X": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    with subprocess.Popen([sys.executable, "-c", code], env=outer) as node:
        try:
            while b"RAY_X" not in Path(f"/proc/{node.pid}/environ").read_bytes():  # it is empty for a moment after a start
                time.sleep(0.01)
            monkeypatch.setenv("RAY_RAYLET_PID", str(node.pid))
            monkeypatch.setenv("OMP_NUM_THREADS", "1")
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
            without, with_card = relay._environment(False), relay._environment(True)
        finally:
            node.kill()
    assert without == {name: text for name, text in outer.items() if name != "RAY_X"}
    assert with_card == {**without, "CUDA_VISIBLE_DEVICES": "1"}


def test_no_variable_of_the_harness_travels(project: Any, models: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "a-secret-of-the-harness")
    first = job(project)
    spec = replace(first.spec, inherit=("MY_API_TOKEN",))
    task = RayCluster("127.0.0.1:1")._task("run", Group("toy", spec, (replace(first, spec=spec),)))
    text = task.model_dump_json()
    assert "MY_API_TOKEN" in text, "its name does, so that the node gives its own"
    assert "a-secret-of-the-harness" not in text and os.environ["PATH"] not in text


def test_an_error_comes_back_as_what_it_was() -> None:
    errors: list[LogitproofError] = [EngineDied("died", where="a", remedy="b"), ContractError("bad"), EnvironmentFailed("full")]
    for error in errors:
        back = Fault.of(error).as_error()
        assert type(back) is type(error) and str(back) == str(error)


def arrived(folder: Path, trace_files: dict[str, bytes], key: str) -> tuple[Answer, Iterator[bytes]]:
    outcome = json.dumps({"key": key, "failure": None})
    return Answer(outcome=outcome, files={name: len(data) for name, data in trace_files.items()}), iter(trace_files.values())


def test_only_a_whole_trace_of_a_job_that_was_asked_for_comes_into_the_store(project: Any, tmp_path: Path) -> None:
    check(open_contract(project.contract()), project.store)
    trace = next(trace for trace in project.store.every() if trace.kind == "score")
    files = {name: path.read_bytes() for name, path in project.store.files(trace.key).items()}
    store = Store(tmp_path / "own")
    arrivals = Arrivals(store, {trace.key, "b" * 64})
    damaged = {**files, "logits.bin": files["logits.bin"][:-1] + bytes([files["logits.bin"][-1] ^ 1])}
    short = arrived(tmp_path, files, trace.key)[0], iter([files["logits.bin"][:8]])
    long = arrived(tmp_path, files, trace.key)[0], iter([files["logits.bin"] + b"more", files["trace.json"]])
    for answer, pieces in [
        arrived(tmp_path, damaged, trace.key),
        arrived(tmp_path, files, "b" * 64),
        arrived(tmp_path, files, "c" * 64),
        arrived(tmp_path, {**files, "../x": b"x"}, trace.key),
        (Answer(outcome="[]"), iter([])),
        short,
        long,
    ]:
        with pytest.raises(Lost):
            arrivals.take(answer, pieces)
    assert not list(store.every()) and not list((tmp_path / "own").rglob("x"))
    assert arrivals.take(*arrived(tmp_path, files, trace.key)).key == trace.key
    assert [kept.key for kept in store.every()] == [trace.key]


@pytest.mark.parametrize("address", ["", "auto", "ray://host:10001", "host", "host:", "host:0", "host:99999", ":6379", "a:b"])
def test_an_address_that_is_none_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(ContractError, match="is no HOST:PORT") as caught:
        link.connected(address)
    assert caught.value.exit_code == 2 and "ray start" in caught.value.remedy


def test_a_missing_ray_is_told_by_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ContractError, match="not installed: ray") as caught:
        link.connected("127.0.0.1:6379")
    assert "logitproof[ray]" in caught.value.remedy


def test_nobody_at_the_address_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(EnvironmentFailed, match="nothing answers there"):
        link.connected("127.0.0.1:1")


def test_nothing_but_the_link_and_the_relay_imports_ray() -> None:
    code = (
        "import sys, logitproof.cli, logitproof.jobs.cluster.executor as _, logitproof.runs.check; print('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
