"""An engine that gives only the best entries of a row is bounded or not measured, and never passes on that alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import as_dict
from logitproof.comparison.compare import compare
from logitproof.errors import EngineError, EngineGarbage
from logitproof.jobs.worker import Spec, Worker
from logitproof.rows.bounds import known_logits
from logitproof.rows.top import top_fault, top_rows

BASIS = "a reason of more than ten letters"
TOP = """
import math
K = 20
def score(p):
    rows = [row(t) for t in p["token_ids"]]
    return top(p, rows)
def top(p, rows):
    ids = [sorted(range(V), key=lambda i: (-one[i], i))[:K] for one in rows]
    sums = [math.log(sum(math.exp(x) for x in one)) for one in rows]
    values = [[one[i] - total for i in chosen] for one, chosen, total in zip(rows, ids, sums)]
    ids, values = change(ids, values)
    with open(p["logits"] + ".topk_ids", "wb") as file:
        for chosen in ids:
            file.write(struct.pack(f"<{len(chosen)}i", *chosen))
    said = write(p["logits"] + ".topk_logprobs", values)
    return {"topk_logprobs": said, "topk_ids": {**said, "path": p["logits"] + ".topk_ids", "dtype": "int32"}}
def generate(p):
    ids, rows = list(p["token_ids"]), []
    for _ in range(p["max_new_tokens"]):
        rows.append(row(ids[-1]))
        ids.append(rows[-1].index(max(rows[-1])))
    return {"token_ids": ids[len(p["token_ids"]):], **top(p, rows), "finish": "length"}
def change(ids, values):
    return ids, values
"""
GATES = [
    {"id": "least", "metric": "kl_divergence_lower", "at_most": 1e-6, "basis": BASIS},
    {"id": "top1", "metric": "top1", "at_least": 1.0, "basis": BASIS},
    {"id": "mass", "metric": "known_mass", "at_least": 0.2, "basis": BASIS},
]


def rows(seed: int, count: int = 5, vocab: int = 64) -> np.ndarray:
    return 3 * np.random.default_rng(seed).normal(size=(count, vocab)).astype(np.float32)


def best_of(logits: np.ndarray, k: int) -> np.ndarray:
    ids = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    values = np.stack([known_logits(row).log_p for row in logits])
    return top_rows(ids, np.take_along_axis(values, ids, axis=1))


def test_the_true_divergence_lies_between_the_bounds_of_both_metrics() -> None:
    z_r, z_t = rows(1), rows(1) + 0.3 * rows(2)
    labels = np.array([1, 2, 3, 4, -1])
    true = compare(z_r, z_t, labels=labels).metrics
    found = compare(z_r, best_of(z_t, 16), labels=labels).metrics
    assert (found["kl_divergence_lower"] <= true["kl_divergence"]).all()
    assert (found["kl_divergence_lower"] > 0).any()
    assert np.isinf(found["kl_divergence_upper"]).all()
    assert np.isnan(found["kl_divergence"]).all() and np.isnan(found["rms_delta_logit"]).all()
    assert (true["kl_divergence_upper"] == true["kl_divergence"]).all()
    for name in ("top1", "regret", "top5_overlap", "margin"):
        np.testing.assert_allclose(found[name], true[name], atol=2e-5)
    known = np.isfinite(found["label_logprob_delta"])
    np.testing.assert_allclose(found["label_logprob_delta"][known], true["label_logprob_delta"][known], atol=2e-5)


def test_the_best_entries_that_are_all_entries_measure_what_whole_rows_do() -> None:
    z_r, z_t = rows(1), rows(1) + 0.3 * rows(2)
    labels = np.full(5, -1)
    whole, top = (compare(z_r, side, labels=labels).metrics for side in (z_t, best_of(z_t, 64)))
    for name in ("kl_divergence", "rms_delta_logit"):
        np.testing.assert_allclose(top[name], whole[name], rtol=1e-4)
    np.testing.assert_allclose(top["known_mass"], 1.0, atol=1e-6)


def test_a_row_without_an_entry_is_not_measured_and_the_others_are() -> None:
    z_r = rows(1)
    top = best_of(z_r, 64)
    top["id"][0] = -1
    found = compare(z_r, top, labels=np.full(5, -1))
    assert all(np.isnan(values[0]) for values in found.metrics.values())
    assert (found.metrics["kl_divergence"][1:] < 1e-6).all() and not found.nonfinite.size
    top["id"][:] = -1
    assert top_fault(top, 64) == (0, "no row has an entry")


def test_a_chosen_token_alone_measures_top1_and_regret_and_nothing_else() -> None:
    z_r = rows(1)
    chosen = top_rows(z_r.argmax(axis=1)[:, None], None)
    chosen["id"][0] = (chosen["id"][0] + 1) % 64
    found = compare(z_r, chosen, labels=np.full(5, -1)).metrics
    assert found["top1"].tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]
    assert found["regret"][0] > 0 and (found["regret"][1:] == 0).all()
    measured = {name for name, values in found.items() if np.isfinite(values).any()}
    assert measured == {"top1", "regret", "margin", "known_mass"} and not found["known_mass"].any()


@pytest.mark.parametrize(
    ("side", "text"),
    [
        (best_of(rows(1, vocab=70), 5), "below the other side's vocabulary of 64"),
        (best_of(rows(1, count=4), 5), "4 positions"),
        (best_of(rows(1), 5)[:, :0], r"shape \[5, 0\]"),
    ],
)
def test_rows_that_cannot_be_paired_are_an_error(side: np.ndarray, text: str) -> None:
    side = side.copy()
    if side.shape == (5, 5):
        side["id"][0, 0] = 64
    with pytest.raises(EngineGarbage, match=text):
        compare(rows(1), side, labels=np.full(5, -1))


def test_a_contract_on_the_best_entries_measures_its_gates_and_gives_no_pass_to_the_unmeasured(project: Any) -> None:
    fake = project.engine()
    top = project.engine(TOP, "top.py")
    report = project.check(reference=fake, candidates={"top": top}, gates=GATES, matrix={"mode": ["prefill", "greedy"]})
    gates = {(gate["id"], gate["cell"].rpartition("/")[2]): gate for gate in as_dict(report)["gates"]}
    assert {gate["status"] for gate in gates.values()} == {"PASS"}
    assert gates["top1", "prefill"]["positions"] == gates["least", "prefill"]["positions"] > 10
    (cell, _) = report.verdict.cells
    assert "kl_divergence" not in cell.metrics and cell.metrics["kl_divergence_lower"]["max"] < 1e-6


def test_a_gate_on_the_whole_vocabulary_is_an_error_where_only_the_best_entries_are_known(project: Any) -> None:
    report = project.check(reference=project.engine(), candidates={"top": project.engine(TOP, "top.py")})
    (gate,) = report.verdict.gates
    assert gate.status == "ERROR" and "nothing was measured" in gate.reason
    assert report.verdict.exit_code == 3


def test_a_wrong_engine_is_seen_by_its_best_entries(project: Any) -> None:
    wrong = TOP.replace("rows = [row(t) for t in p", "rows = [row(t + 1) for t in p")
    report = project.check(reference=project.engine(), candidates={"top": project.engine(wrong, "top.py")}, gates=GATES)
    statuses = {gate.id: gate.status for gate in report.verdict.gates}
    assert statuses["least"] == statuses["top1"] == "FAIL"


def test_traces_of_best_entries_are_read_back_from_the_store(project: Any) -> None:
    use: dict[str, Any] = {"candidates": {"top": project.engine(TOP, "top.py")}, "reference": project.engine(), "gates": GATES}
    first, second = project.check(**use), project.check(**use)
    assert first.verdict.gates == second.verdict.gates
    assert not list(project.folder.rglob("*.topk_*"))


FAULTS = [
    ("values[2][3] = float('nan')", "position 2 cannot be true: it is empty, or a value is NaN"),
    ("values[1][0] = 0.5", "position 1 cannot be true: the probabilities sum to"),
    ("values[1].reverse()", "position 1 cannot be true: the values do not fall"),
    ("ids[0][1] = ids[0][0]", "position 0 cannot be true: an id stands twice"),
    ("ids[0][1] = 300", "position 0 cannot be true: .* outside the vocabulary"),
    ("ids, values = ids[:-1], values[:-1]", r"shape \[2, 20\], expected \[3, 20\]"),
]


@pytest.mark.parametrize(("change", "text"), FAULTS, ids=[change for change, _ in FAULTS])
def test_best_entries_that_cannot_be_true_are_an_error(project: Any, change: str, text: str) -> None:
    use = project.engine(TOP.replace("    return ids, values\n", f"    {change}\n    return ids, values\n"))
    with Worker(Spec(use["engine"], use["options"], timeout=20, directory=str(project.folder)), name="mine") as running:
        running.load(project.model, None)
        with pytest.raises(EngineGarbage, match=text):
            running.score([5, 6, 7], "prefill", project.folder / "logits.bin")


def test_who_needs_whole_rows_is_told_that_there_are_none(project: Any) -> None:
    use = project.engine(TOP)
    with Worker(Spec(use["engine"], use["options"], timeout=20, directory=str(project.folder)), name="mine") as running:
        running.load(project.model, None)
        result = running.score([5, 6, 7], "prefill", project.folder / "logits.bin")
        with pytest.raises(EngineError, match="best entries of a row only"):
            result.logits.open()
