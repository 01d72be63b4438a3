"""Gates of what routers choose: the set of experts and the sum of their weights, of engines that show their taps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from logitproof import catalog
from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.engines import Engine
from logitproof.lint import lint
from logitproof.lint.routing import _shows_nothing
from logitproof.metrics.expert_set import ExpertSet
from logitproof.metrics.expert_weight_sum import ExpertWeightSum
from logitproof.report.report import Report
from logitproof.rows.routing import Routing, routing_record
from logitproof.runs.check import check
from logitproof.runs.workspace import Workspace
from logitproof.traces.trace import ROUTING

BASIS = "a reason of more than ten letters"
ROUTER = """
LAYERS, TAPS = (1, 3), ["layers.*.moe.*"]
def hello(p):
    known = {"protocol": 1, "engine": "fake", "versions": {"fake": "1"}, "generate": True, "tokenize": True}
    return known | {"taps": TAPS}
def chosen(t, layer):
    return [t % 4, 4 + (t + layer) % 4]
def weights(t, layer):
    return [0.75, 0.25]
def taps(p):
    answer = {}
    for layer in LAYERS:
        for leaf, values in (("index", chosen), ("weights", weights)):
            name = f"layers.{layer}.moe.{leaf}"
            rows = [[float(value) for value in values(t, layer)] for t in p["token_ids"]]
            answer[name] = write(os.path.join(p["folder"], name + ".bin"), rows)
    return {"taps": answer}
"""
GATES = [
    {"id": "experts", "metric": "expert_set", "statistic": "min", "at_least": 1.0, "basis": BASIS},
    {"id": "weights", "metric": "expert_weight_sum", "statistic": "max", "at_most": 1e-6, "basis": BASIS},
]


def routed(project: Any, changes: str, **more: Any) -> Report:
    """A run of two engines of equal logits, the candidate's router changed."""
    candidate = {**project.engine(ROUTER + changes, "candidate.py"), "may_be_exact": "it is the same program, on purpose"}
    reference = project.engine(ROUTER, "reference.py")
    report: Report = project.check(
        reference=reference, candidates={"mine": candidate}, gates=GATES, error_bar={"vary": []}, **more
    )
    return report


def statuses(report: Report) -> dict[str, str]:
    return {gate.id: gate.status for gate in report.verdict.gates}


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_a_right_router_passes(project: Any, mode: str) -> None:
    if mode == "decode":
        project.suite("suite.yaml", "ab", max_new_tokens=2)
    report = routed(project, "", matrix={"mode": [mode]})
    assert report.verdict.status == "PASS", report.verdict.reason
    assert statuses(report) == {"experts": "PASS", "weights": "PASS"}
    assert [gate.observed for gate in report.verdict.gates] == [1.0, 0.0]
    assert not list(report.failing_positions())


EXPERTS, WEIGHTS = "def chosen(t, layer): return ", "def weights(t, layer): return "
RIGHT = "[t % 4, 4 + (t + layer) % 4]"
WRONG_ROUTERS = {
    "one layer": (f"{EXPERTS}[t % 4, (4 + (t + layer) % 4 + 1) % 8] if layer == 3 else {RIGHT}", {"experts"}),
    "one expert twice": (f"{EXPERTS}[t % 4, t % 4]", {"experts"}),
    "one too many": (f"{EXPERTS}[*{RIGHT}, 9]\n{WEIGHTS}[0.5, 0.25, 0.25]", {"experts"}),
    "one too few": (f"{EXPERTS}[t % 4]\n{WEIGHTS}[1.0]", {"experts"}),
    "one layer's sum": (f"{WEIGHTS}[0.75, 0.2501] if layer == 3 else [0.75, 0.25]", {"weights"}),
    "one token's sum": (f"{WEIGHTS}[0.75, 0.25] if t != 102 else [0.0, 0.0]", {"weights"}),
    "doubled": (f"{WEIGHTS}[1.5, 0.5]", {"weights"}),
    "both": (f"{EXPERTS}[7 - t % 4, 3]\n{WEIGHTS}[3.0, 0.0]", {"experts", "weights"}),
}


@pytest.mark.parametrize(("changes", "failed"), WRONG_ROUTERS.values(), ids=WRONG_ROUTERS)
def test_a_wrong_router_fails_though_every_logit_agrees(project: Any, changes: str, failed: set[str]) -> None:
    report = routed(project, changes)
    assert (report.verdict.status, report.verdict.exit_code) == ("FAIL", 1), report.verdict.reason
    assert {name for name, status in statuses(report).items() if status == "FAIL"} == failed
    assert report.verdict.cells[0].status == "WRONG"


def test_the_order_of_experts_and_rounding_of_weights_are_no_fault(project: Any) -> None:
    swapped = "def chosen(t, layer): return [4 + (t + layer) % 4, t % 4]\ndef weights(t, layer): return [0.25, 0.7500002]"
    report = routed(project, swapped)
    assert report.verdict.status == "PASS", report.verdict.reason
    assert 0 < report.verdict.gates[1].observed < 1e-6  # type: ignore[operator]


def test_a_failing_position_has_its_line_with_layer_and_experts(project: Any) -> None:
    report = routed(project, "def chosen(t, layer): return [t % 4, 4 + (t + layer + (layer == 3 and t == 102)) % 4]")
    lines = [json.loads(json.dumps(line)) for line in report.failing_positions()]
    assert lines and all(line["gates"] == ["experts"] for line in lines)
    for line in lines:
        (entry,) = line["routing"]
        assert entry["layer"] == 3 and entry["experts_reference"] != entry["experts_candidate"]
        assert (entry["weight_sum_reference"], entry["weight_sum_candidate"]) == (1.0, 1.0)
        assert line["metrics"]["expert_set"] == 0.5 and line["top5_reference"] and line["prompt_idx"] in (0, 1)
    assert len(lines) == "hello there".count("e") + "another prompt".count("e")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ("TAPS = []", "candidate (mine) offers no taps of its router"),
        ('TAPS = ["layers.*.attn.*", "logits"]', "candidate (mine) offers no taps of its router"),
        ("LAYERS = ()", "candidate (mine) gave no moe.index"),
        ("LAYERS = (1,)", "no taps of the routers of layers 3"),
        ("LAYERS = (1, 2, 3)", "routers in layers 2, where the reference has none"),
    ],
    ids=["no taps", "other taps", "no router", "a layer less", "a layer more"],
)
def test_what_an_engine_does_not_show_is_not_measured_and_never_passes(project: Any, changes: str, reason: str) -> None:
    report = routed(project, changes)
    assert statuses(report) == {"experts": "NOT-MEASURED", "weights": "NOT-MEASURED"}
    assert all(reason in gate.reason for gate in report.verdict.gates), report.verdict.gates[0].reason
    assert report.verdict.cells[0].status == "NOT-MEASURED"
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 3) and reason in report.verdict.reason


def test_leave_lets_the_other_gates_of_such_a_cell_decide(project: Any) -> None:
    kl = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}
    candidate = {**project.engine("", "plain.py"), "may_be_exact": "it is the same program, on purpose"}
    report = project.check(
        reference=project.engine(ROUTER, "reference.py"), candidates={"mine": candidate}, gates=[*GATES, kl],
        error_bar={"vary": []}, may_be_unmeasured=["mine/*"],
    )  # fmt: skip
    assert statuses(report) == {"experts": "NOT-MEASURED", "weights": "NOT-MEASURED", "kl": "PASS"}
    assert report.verdict.status == "PASS" and report.verdict.cells[0].status == "MATCH"


def test_a_reference_without_taps_is_named(project: Any) -> None:
    candidate = project.engine(ROUTER, "candidate.py")
    report = project.check(reference=project.engine("", "plain.py"), candidates={"mine": candidate}, gates=GATES)
    assert all("the reference" in gate.reason and gate.status == "NOT-MEASURED" for gate in report.verdict.gates)
    assert report.verdict.exit_code != 0


IMPOSSIBLE = {
    "half an expert": (f"{EXPERTS}[0.5, 1]", "holds 0.5 at position 0"),
    "a negative one": (f"{EXPERTS}[-1, 1]", "holds -1 at position 0"),
    "inf": (f"{WEIGHTS}[float('inf'), 1]", "not finite"),
    "nan": (f"{WEIGHTS}[float('nan'), 1]", "holds nan"),
    "shapes apart": (f"{WEIGHTS}[1.0]", "is [17, 1]"),
    "k apart": (
        f"{EXPERTS}[1, 2] if layer == 1 else [1]\n{WEIGHTS}[1.0] * len(chosen(t, layer))",
        "another number of experts",
    ),
    "no weights": (
        """
whole = taps
def taps(p):
    kept = whole(p)["taps"]
    kept.pop("layers.3.moe.weights")
    return {"taps": kept}
""",
        "gave no layers.3.moe.weights",
    ),
    "a position less": (
        """
whole = taps
def taps(p):
    return whole({**p, "token_ids": p["token_ids"][1:]})
""",
        "expected [17, k]",
    ),
    "dies": ("def taps(p): sys.exit(7)", "7"),
}


@pytest.mark.parametrize(("changes", "text"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_taps_that_cannot_be_a_routing_are_a_fault_of_the_engine(project: Any, changes: str, text: str) -> None:
    report = routed(project, changes)
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 3)
    assert text in report.verdict.cells[0].failures[0].text, report.verdict.cells[0].failures[0].text


def test_nobody_is_asked_where_no_gate_looks_at_it(project: Any) -> None:
    dying = ROUTER + "def taps(p): sys.exit(7)"
    candidate = {**project.engine(dying, "mine.py"), "may_be_exact": "it is the same program, on purpose"}
    report = project.check(reference=project.engine(dying, "reference.py"), candidates={"mine": candidate})
    assert report.verdict.status == "PASS" and "expert_set" not in report.verdict.cells[0].metrics


def test_cells_that_run_free_are_judged_by_their_other_gates(project: Any) -> None:
    """They have no column of experts, which every file of the run must bear."""
    space = space_of(project, WRONG, "failing", matrix={"mode": ["prefill", "self", "greedy"]})
    verdict = json.loads((space.folder / "verdict.json").read_text("utf-8"))
    judged = {cell["id"].rpartition("/")[2]: cell["status"] for cell in verdict["cells"]}
    assert judged == {"prefill": "WRONG", "self": "MATCH", "greedy": "MATCH"}, verdict["reason"]
    table = space.judge_again().positions("pandas")
    free = table[table["mode"] == "greedy"]
    assert len(free) and free["expert_set"].isna().all() and table["expert_set"].notna().any()


def test_a_gate_that_is_added_asks_again_what_was_not_asked(project: Any) -> None:
    """The store holds traces without routing, which another key keeps apart."""
    candidate = {**project.engine(ROUTER, "candidate.py"), "may_be_exact": "it is the same program, on purpose"}
    sides = {"reference": project.engine(ROUTER, "reference.py"), "candidates": {"mine": candidate}}
    assert project.check(**sides).verdict.status == "PASS"
    report = project.check(**sides, gates=GATES)
    assert statuses(report) == {"experts": "PASS", "weights": "PASS"}


def test_a_byte_that_changed_in_a_kept_routing_is_measured_again(project: Any) -> None:
    routed(project, "")
    (path, *_) = sorted(project.folder.rglob(ROUTING))
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    assert project.store.read(path.parent.name) is None
    path.write_bytes(content[:-8])
    assert project.store.read(path.parent.name) is None
    report = check(open_contract(project.folder / "toys.parity.yaml"), project.store)
    assert report.verdict.status == "PASS"


def drawn(seed: int, positions: int, layers: int, chosen: int) -> Routing:
    random = np.random.default_rng(seed)
    numbers = np.stack([[random.permutation(16)[:chosen] for _ in range(layers)] for _ in range(positions)])
    weights = random.dirichlet(np.ones(chosen), (positions, layers))
    return Routing(tuple(range(layers)), numbers.reshape(positions, layers, chosen), weights)


@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))
def test_metrics_do_what_their_formula_says(seed: int, positions: int, layers: int, chosen: int) -> None:
    reference, candidate = drawn(seed, positions, layers, chosen), drawn(seed + 1, positions, layers, chosen)
    for at, (left, right) in enumerate(zip(reference.chosen, candidate.chosen, strict=True)):
        same = [set(a) == set(b) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
        assert ExpertSet().compute(reference, candidate)[at] == pytest.approx(sum(same) / layers)
        sums = [abs(sum(weights) - 1) for weights in candidate.weights[at].tolist()]
        assert ExpertWeightSum().compute(reference, candidate)[at] == pytest.approx(max(sums), abs=1e-12)
        assert [entry["layer"] for entry in routing_record(reference, candidate, at)] == [
            n for n in range(layers) if not same[n]
        ]


def moe(project: Any, **config: Any) -> dict[str, Any]:
    """A contract with gates of experts on a model folder of this config."""
    folder = project.folder / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    engine = {"engine": "transformers", "options": {"threads": 1}}
    candidate = {"engine": "llamacpp", "options": {"threads": 1}}
    data: dict[str, Any] = project.data(
        reference=engine, candidates={"mine": candidate}, models={"m": {"original": "model"}}, gates=GATES,
        matrix={"mode": ["prefill", "decode"]},
    )  # fmt: skip
    return data


@pytest.mark.parametrize(
    ("config", "codes"),
    [
        ({"num_experts": 8, "norm_topk_prob": True}, []),
        ({"num_local_experts": 8}, []),
        ({"text_config": {"num_experts": 8}}, []),
        ({"hidden_size": 8}, ["LP017", "LP017"]),
        ({"num_experts": 8, "norm_topk_prob": False}, ["LP018"]),
        ({"n_routed_experts": 8, "routed_scaling_factor": 2.5}, ["LP018"]),
        ({"model_type": "llama4_text", "num_local_experts": 8}, ["LP018"]),
    ],
)
def test_lint_knows_models_without_routers_and_sums_of_their_own(
    project: Any, config: dict[str, Any], codes: list[str]
) -> None:
    path = project.write("moe.parity.yaml", moe(project, **config))
    assert [finding.code for finding in lint(path) if finding.code in ("LP017", "LP018")] == codes


@pytest.mark.parametrize(
    ("engine", "shows"),
    [("llamacpp", True), ("transformers", True), ("command", True), ("llama_cli", False), ("dump", False), ("openai", False)],
)
def test_lint_knows_engines_that_show_nothing(project: Any, engine: str, shows: bool) -> None:
    options = {
        "llama_cli": {"binary": "x"},
        "dump": {"path": "x"},
        "openai": {"url": "http://localhost:1"},
        "command": {"argv": ["x"]},
    }
    data = moe(project, num_experts=8)
    data["candidates"] = {"mine": {"engine": engine, "options": options.get(engine, {})}}
    findings = [finding for finding in lint(project.write("moe.parity.yaml", data)) if finding.code == "LP017"]
    assert (not findings) == shows, findings
    allowed = project.write("moe.parity.yaml", {**data, "may_be_unmeasured": ["mine/*"]})
    assert not [finding for finding in lint(allowed) if finding.code == "LP017"]


@pytest.mark.parametrize("name", sorted(set(catalog.entries("engines")) - {"command"}))
def test_what_lint_reads_of_an_engine_s_source_is_what_its_class_has(name: str) -> None:
    try:
        kind = catalog.load("engines", name)
    except ImportError as error:
        pytest.skip(f"{error}: logitproof engines install {name}")
    assert _shows_nothing(name) == (kind.taps is Engine.taps)


def test_lint_knows_that_free_running_cells_show_no_router(project: Any) -> None:
    data = moe(project, num_experts=8) | {"matrix": {"mode": ["greedy"]}}
    findings = [finding for finding in lint(project.write("moe.parity.yaml", data)) if finding.code == "LP017"]
    assert len(findings) == 2 and all("free-running" in finding.text for finding in findings)


WRONG = "def chosen(t, layer): return [t % 4, 4 + (t + layer + (layer == 3 and t == 102)) % 4]"


def space_of(project: Any, changes: str, keep: Any, **more: Any) -> Workspace:
    candidate = {**project.engine(ROUTER + changes, "candidate.py"), "may_be_exact": "it is the same program, on purpose"}
    sides = {"reference": project.engine(ROUTER, "reference.py"), "candidates": {"mine": candidate}}
    space = Workspace(project.folder / f"run-{keep}")
    space.check(open_contract(project.contract(**{**sides, "gates": GATES, "error_bar": {"vary": []}, **more})), keep=keep)
    return space


def judged(space: Workspace) -> tuple[Any, str]:
    verdict = json.loads((space.folder / "verdict.json").read_text("utf-8"))
    lines = (space.folder / "failures.jsonl").read_text("utf-8")
    return {name: verdict[name] for name in ("status", "reason", "cells", "gates")}, lines


@pytest.mark.parametrize("keep", ["all", "failing", "none"])
@pytest.mark.parametrize("changes", ["", WRONG, "TAPS = []"], ids=["right", "wrong", "unseen"])
def test_a_finished_run_is_judged_again_the_same_whatever_was_kept(project: Any, keep: str, changes: str) -> None:
    space = space_of(project, changes, keep)
    before = judged(space)
    space.judge_again()
    after = judged(space)
    assert after[0] == before[0]
    assert after[1] == before[1] or keep == "none"
    assert after[1].count("\n") == before[1].count("\n")
    assert (before[1].count("\n") >= 3) == (changes == WRONG)


def test_a_gate_that_came_after_the_run_is_not_judged_by_what_nobody_asked(project: Any) -> None:
    kl = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS}
    space = space_of(project, "", "all", gates=[kl])
    contract = project.folder / "toys.parity.yaml"
    contract.write_text(contract.read_text("utf-8").replace("kl_divergence", "expert_weight_sum"), "utf-8")
    report = space.judge_again(contract)
    assert report.verdict.status == "ERROR" and report.verdict.exit_code in (2, 3)
    assert "no cell of this run measures it" in report.verdict.reason


@pytest.mark.parametrize(("changes", "code"), [("", 0), (WRONG, 1), ("TAPS = []", 3)], ids=["right", "wrong", "unseen"])
def test_evidence_of_such_gates_verifies(project: Any, changes: str, code: int) -> None:
    space = space_of(project, changes, "all")
    private, public = project.folder / "key.pem", project.folder / "public.pem"
    key = ed25519.Ed25519PrivateKey.generate()
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    file = project.folder / "evidence.json"
    done = CliRunner().invoke(main, ["attest", str(space.folder), "--key", str(private), "--out", str(file)])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(main, ["verify-evidence", str(file), "--key", str(public)])
    assert done.exit_code == code and "GENUINE" in done.output, done.output
