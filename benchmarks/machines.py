"""A contract on a real Ray cluster on this machine, with a node killed in the middle, beside the same contract without it.

Two nodes that compute, each with its own cache of weights; the one that is not the head is killed by SIGKILL while both are in
the middle of a task. `verdict_equal` says whether verdict.json is the same but for times; `lost` counts the jobs without a
trace. What a task, a piece of weights and a trace cost is measured beside it, and a plan for 100 nodes and 1,000 cells is
simulated from that (`_scale_plan.py`), which docs/scale.md shows. A script called as the library is would hide it from
everything beside it, so `make bench-ray` runs this one.

    python benchmarks/machines.py [--out benchmarks/results/ray.json] [--plan]

With `--plan` no cluster is started: the plan is simulated anew from what ray.json holds as measured, where stream.json is new.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import ray
import yaml

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks/results/ray.json"
sys.path += [str(Path(__file__).parent), str(ROOT / "tests/engines")]

import _page  # noqa: E402
import _scale_plan  # noqa: E402
from ray_nodes import Nodes, left, wait_until  # noqa: E402

from logitproof.contract.opened import open_contract  # noqa: E402
from logitproof.jobs.cluster.executor import RayCluster  # noqa: E402
from logitproof.jobs.needs import Needs  # noqa: E402
from logitproof.jobs.progress import Progress  # noqa: E402
from logitproof.jobs.spec import Spec  # noqa: E402
from logitproof.report.report import Report  # noqa: E402
from logitproof.runs.check import check  # noqa: E402
from logitproof.traces.store import Store  # noqa: E402
from logitproof.traces.trace import Failure  # noqa: E402

TIMES = ("made_at", "run_id", "seconds")
MODELS, PROMPTS = 2, 16
"""As many models as nodes: a model is a task, so that each node has one."""
PIECE, PIECES = 8 << 20, 16
NOTHING = 200
"""Tasks that do nothing, for what the scheduler takes."""
TASKS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--plan", action="store_true", help="simulate from what was measured before")
    arguments = parser.parse_args()
    out: Path = arguments.out
    measured = json.loads(out.read_text("utf-8")) if arguments.plan else _measured()
    stream = json.loads((ROOT / "benchmarks/results/stream.json").read_text("utf-8"))
    result = {**measured, "scale_plan": _scale_plan.plan(_scale_plan.inputs(measured["measured"], stream))}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    if out == RESULT:
        _page.write("scale.md", "ray", page(result))
    return 0 if result["verdict_equal"] and not result["lost"] and result["killed"] else 1


def _say(text: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr)


def _measured() -> dict[str, Any]:
    """Everything but the plan."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        contract = _project(folder)
        here = check(open_contract(contract), Store(folder / "here"))
        _say("one machine has judged")
        with Nodes(folder / "nodes") as nodes:
            ray.init(address=nodes.address, log_to_driver=False, logging_level="error")
            with RayCluster(nodes.address) as cluster:
                costs = _costs(cluster)
            ray.shutdown()
            _say("tasks and bytes are measured")
            with RayCluster(nodes.address) as cluster:
                ran = _with_a_kill(contract, folder, nodes, cluster, here)
        ran["processes_left"] = 0 if wait_until(lambda: not left(str(folder))) else len(left(str(folder)))
    return {
        "benchmark": "ray",
        "date": datetime.date.today().isoformat(),
        **ran,
        "measured": costs,
        "machine": {"cores": os.cpu_count(), "load_at_the_end": [round(load, 1) for load in os.getloadavg()]},
    }


def page(result: dict[str, Any]) -> str:
    """The tables of docs/scale.md."""
    cost, scale = result["measured"], result["scale_plan"]
    measured = _page.table(
        ("measured", ""),
        [
            ("nodes that computed, killed in the middle", f"{result['nodes']}, {result['killed']}"),
            ("verdict.json as on one machine, but for times", "yes" if result["verdict_equal"] else "no"),
            ("jobs without a trace", result["lost"]),
            ("a task beside what its engine computes", f"{cost['task_s']:.2f} s"),
            ("a task of Ray that does nothing", f"{1e3 * cost['dispatch_s']:.1f} ms"),
            ("weights to a node, traces back", f"{cost['fetch_mb_s']:.0f} and {cost['trace_mb_s']:.0f} MB/s, over loopback"),
        ],
    )
    runs = {
        "as it is built": "as_built",
        "weights fetched for every task": "without_locality",
        "five nodes lost half-way": "five_nodes_lost",
    }
    heads = ("simulated", "hours", "nodes busy", "weights moved", "traces moved", "tasks", "begun again")
    simulated = _page.table(
        heads,
        [
            (
                name,
                scale[key]["hours"],
                f"{scale[key]['busy']:.0%}",
                f"{scale[key]['weights_gb']:,.0f} GB",
                f"{scale[key]['traces_gb']:,.0f} GB",
                scale[key]["tasks"],
                scale[key]["begun_again"],
            )
            for name, key in runs.items()
        ],
    )
    load = scale["as_built"]
    words = (
        f"One such node alone would take {scale['one_node_h']:,.0f} hours. The scheduler is given "
        f"{load['tasks_per_s']:.3f} tasks a second and is busy for {load['scheduler_share']:.4%} of the time. The store takes "
        f"{scale['store_gb']:,.0f} GB with `--keep all`.\n"
    )
    return f"{measured}\n{simulated}\n{words}"


def _project(folder: Path) -> Path:
    """A contract of toys with an engine that takes its time, so that there is a middle."""
    for model in range(MODELS):
        (folder / f"m{model}.json").write_text(json.dumps({"vocab_size": 300, "seed": model}))
    prompts = [{"id": f"p{n}", "text": f"prompt number {n}"} for n in range(PROMPTS)]
    (folder / "suite.yaml").write_text(yaml.safe_dump({"suite": "suite", "max_new_tokens": 4, "prompts": prompts}))
    basis = "the engines are one program with noise of 1e-7"
    contract = {
        "contract": "many-machines",
        "reference": {"engine": "toy"},
        "candidates": {
            "slow": {"engine": "toy", "options": {"fault": "slow", "noise": 1e-7}},
        },
        "models": {f"m{model}": {"original": f"m{model}.json"} for model in range(MODELS)},
        "suites": ["suite.yaml"],
        "matrix": {"mode": ["prefill"]},
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": basis}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": basis}],
    }
    path = folder / "many.parity.yaml"
    path.write_text(yaml.safe_dump(contract, sort_keys=False))
    return path


def _with_a_kill(contract: Path, folder: Path, nodes: Nodes, cluster: RayCluster, here: Report) -> dict[str, Any]:
    """Run it on the cluster; the node that is not the head is killed while the slow engine is in the middle on both."""
    killed: list[str] = []
    computing = 1 + len(nodes.others)
    scored: Counter[Path] = Counter()

    def kill(progress: Progress) -> None:
        if progress.job.kind == "score" and progress.job.spec.options.get("fault") == "slow":
            scored[progress.job.model] += 1
        if not killed and len(scored) == MODELS and all(1 < count < PROMPTS for count in scored.values()):
            killed.extend(nodes.others)
            _say(f"killed at {progress.done} of {progress.total}")
            nodes.kill(killed[0])

    begin = time.monotonic()
    there = check(open_contract(contract), Store(folder / "there"), executor=cluster, on_progress=kill)
    failed = [{key for key, result in report.results.items() if isinstance(result, Failure)} for report in (here, there)]
    return {
        "nodes": computing,
        "killed": len(killed),
        "machines_lost_by_tasks": len(cluster.lost),
        "verdict_equal": _verdict(here) == _verdict(there),
        "status": there.verdict.status,
        "jobs": len(there.results),
        "lost": len(failed[1] - failed[0]),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _verdict(report: Report) -> str:
    """verdict.json but for times."""
    return json.dumps({name: value for name, value in report.as_json().items() if name not in TIMES}, sort_keys=True)


def _costs(cluster: RayCluster) -> dict[str, float]:
    """Medians of what one task, one dispatch and the bytes of weights and traces cost, once every process is warm."""
    cluster.hello({"warm": Spec("toy", needs=Needs(engine="toy"))})
    tasks = []
    for seed in range(TASKS):
        begin = time.perf_counter()
        cluster._hello("toy", Spec("toy", {"seed": seed + 1}, needs=Needs(engine="toy")))
        tasks.append(time.perf_counter() - begin)
    nothing = ray.remote(num_cpus=1)(_nothing)
    ray.get([nothing.remote() for _ in range(4)])
    begin = time.perf_counter()
    ray.get([nothing.remote() for _ in range(NOTHING)])
    dispatch = (time.perf_counter() - begin) / NOTHING
    source = ray.remote(num_cpus=0)(_Pieces).remote()
    assert len(ray.get(source.read.remote())) == PIECE
    rates = []
    for fetch in (True, False):
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            if fetch:
                ray.get(ray.remote(num_cpus=1)(_fetched).remote(source))
            else:
                items = ray.remote(num_cpus=1, num_returns="streaming", _generator_backpressure_num_objects=4)(_sent).remote()
                assert sum(len(ray.get(item)) for item in items) == PIECE * PIECES
            times.append(time.perf_counter() - begin)
        rates.append(PIECE * PIECES / 1e6 / median(times))
    return {"task_s": median(tasks), "dispatch_s": dispatch, "fetch_mb_s": rates[0], "trace_mb_s": rates[1]}


def _nothing() -> None:
    pass


class _Pieces:
    def read(self) -> bytes:
        return bytes(PIECE)


def _fetched(source: Any) -> int:
    import ray

    return sum(len(ray.get(source.read.remote())) for _ in range(PIECES))


def _sent() -> Any:
    for _ in range(PIECES):
        yield bytes(PIECE)


if __name__ == "__main__":
    sys.exit(main())
