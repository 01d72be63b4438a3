"""The laws of a calculated band: it holds for one more run, grows with the noise, and never takes nothing for a match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof import catalog
from logitproof.bands.calculated import (
    METHOD,
    METRIC,
    QUANTILE,
    SIGMAS,
    Calibration,
    Repeated,
    calculated_band,
    gate_bound,
    one_more,
    scale,
    studentized_quantile,
    tokens_sha256,
)
from logitproof.comparison.chance import student
from logitproof.contract.arithmetic import Arithmetic, arithmetic_of
from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.jobs.plan import matrix_cells, open_models
from logitproof.lint import lint
from logitproof.runs.calibrations import Sides, folder_of, read_calibration, sides_of, weights_of, write_calibration
from logitproof.weights.model import open_model

BASIS = "a reason of more than ten letters"
IDS = list(range(60))
ABOUT = {"reference": "float32", "candidate": "bfloat16", "runs": 8, "predicted": 0.02, "spread": 1.0, "flips": 0.0}
FLOAT32 = {"base": "float32"}


def noise(seed: int = 0, runs: int = 8, positions: int = 60, size: float = 0.02) -> np.ndarray:
    """What an RMS over a few hundred logits looks like: positive, a third wide, larger at some positions."""
    random = np.random.default_rng(seed)
    return size * (1 + np.arange(positions) % 3) * np.sqrt(random.chisquare(12, (runs, positions)) / 12)


def calibration(values: np.ndarray, free: np.ndarray | None = None, ids: list[int] = IDS) -> Calibration:
    def columns(one: np.ndarray) -> dict[str, np.ndarray]:
        return {METRIC: one, "kl_divergence": one**2, "cosine": 1 - one**2}

    fixed = columns(values)
    flipped = np.zeros(values.shape, bool) if free is None else free > 2 * values
    return Calibration("key", ABOUT, {tokens_sha256(ids): Repeated(fixed, fixed if free is None else columns(free), flipped)})


def test_the_band_holds_for_runs_that_it_has_not_seen() -> None:
    band, more = calculated_band(calibration(noise())), noise(1, 200)
    limits = np.array([one.match for one in band.along(IDS, 0, 60)])
    assert (more <= limits).mean() >= 0.999
    factor = studentized_quantile([noise()])
    assert (more <= factor * scale(noise())).mean() >= 0.99


def test_the_band_grows_with_the_noise_and_only_with_it() -> None:
    one, two = (calculated_band(calibration(noise(size=size))).along(IDS, 0, 60) for size in (0.02, 0.04))
    assert all(
        b.match == pytest.approx(2 * a.match) and b.wrong == pytest.approx(2 * b.match) for a, b in zip(one, two, strict=True)
    )
    assert one[2].match > one[0].match


def test_a_higher_quantile_is_never_tighter() -> None:
    found = [studentized_quantile([noise()], quantile) for quantile in (0.5, 0.9, 0.99, 0.999)]
    assert found == sorted(found) and found[-1] > found[0]


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 318.309), (2, 22.327), (5, 5.893), (7, 4.785), (15, 3.733), (1000, 3.098)]
)
def test_quantiles_of_student_are_those_of_the_tables(degrees: int, expected: float) -> None:
    assert student(degrees, QUANTILE, SIGMAS) == pytest.approx(expected, rel=0.01)


def test_one_run_no_noise_and_no_number_give_no_band() -> None:
    for values in (noise(runs=1), np.zeros((4, 5)), np.full((4, 5), np.nan)):
        with pytest.raises(ContractError):
            studentized_quantile([values])
    with pytest.raises(ContractError):
        one_more([1.0])


def test_a_nan_and_tokens_that_were_not_calibrated_are_no_match() -> None:
    band = calculated_band(calibration(noise()))
    first = band.along(IDS, 0, 1)[0]
    assert first.status(float("nan"), True, 0.0) == "NOT-MEASURED"
    assert first.status(first.match, True, 0.0) == "MATCH"
    assert first.status(1.5 * first.match, True, 0.0) == "DRIFT"
    assert first.status(2.1 * first.match, True, 0.0) == "WRONG"
    assert first.status(first.match, False, 10 * first.tie_margin) == "WRONG"
    assert band.along([9, 9], 0, 1) == []


def test_flips_of_experts_widen_the_shares_and_not_the_band() -> None:
    values = noise()
    free = values.copy()
    free[::2, 5:9] *= 40
    dense, experts = calculated_band(calibration(values)), calculated_band(calibration(values, free))
    assert dense.match.keys() == experts.match.keys()
    assert np.array_equal(next(iter(dense.match.values())), next(iter(experts.match.values())))
    assert dense.allow == 0 < experts.allow < experts.beyond < 0.5 and dense.beyond < experts.beyond


def test_a_gate_is_bounded_above_every_repetition_and_not_far_above() -> None:
    one = calibration(noise())
    every = [(IDS, range(60))]
    bound = gate_bound(one, "kl_divergence", "mean", every, at_most=True)
    means = (noise() ** 2).mean(1)
    assert means.max() * METHOD < bound < 3 * means.max()
    least = gate_bound(one, "cosine", "min", every, at_most=False)
    assert -1 <= least <= 1
    assert least < (1 - noise() ** 2).min() < 1
    assert gate_bound(one, "kl_divergence", "mean", [(IDS, [0, 3])], at_most=True) < bound
    with pytest.raises(ContractError, match="no repetition measures it"):
        gate_bound(one, "greedy_match", "mean", every, at_most=False)


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    free = noise() * 3
    path = write_calibration(tmp_path, calibration(noise(), free))
    read = read_calibration(tmp_path, "key")
    assert read is not None and read.about == ABOUT and (found := read.find(IDS)) is not None
    assert np.array_equal(found.fixed[METRIC], noise()) and np.array_equal(found.free[METRIC], free) and found.flipped.all()
    assert read_calibration(tmp_path, "other") is None
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ContractError, match="damaged"):
        read_calibration(tmp_path, "key")


def test_how_an_engine_computes_follows_from_its_options() -> None:
    assert arithmetic_of("transformers", {"dtype": "bfloat16"}) == Arithmetic(base="bfloat16")
    found = arithmetic_of("llamacpp", {"kv_type": "f16"})
    assert found is not None and found.blocks and found.cache == "f16"
    assert arithmetic_of("llamacpp", {"kv_type": "q4_0"}) is None
    assert arithmetic_of("llamacpp", {"kv_type": "f16", "kv_type_v": "f32"}) is None, "two types are not one"
    assert arithmetic_of("openvino", {"precision": "bf16"}) == Arithmetic(base="bfloat16")
    assert arithmetic_of("openvino", {"kv_precision": "u8"}) is None
    assert arithmetic_of("vllm", {"dtype": "auto"}) is None
    assert arithmetic_of("openai", {}) is None


def test_what_an_engine_declares_of_its_arithmetic_can_be_read() -> None:
    """With its options as they are by default, or with none: a misspelt declaration would only look like an unknown one."""
    declared = {name for name, entry in catalog.entries("engines").items() if entry.arithmetic}
    assert declared >= {"transformers", "llamacpp", "onnxruntime", "vllm"}
    assert {name for name in declared if arithmetic_of(name, {}) is not None} == declared


def calibrated(project: Any, **changes: Any) -> dict[str, Any]:
    return {
        "reference": {"engine": "toy", "arithmetic": FLOAT32},
        "candidates": {"good": {"engine": "toy", "options": {"noise": 1e-7}, "arithmetic": FLOAT32}},
        "bands": [{"bound": "calibrated", "basis": BASIS}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": "calibrated", "basis": BASIS}],
        **changes,
    }


def calibrate_toys(project: Any, values: float, **changes: Any) -> None:
    """Write the calibration that the cell of the toys is judged by, of this size at every position."""
    opened = open_contract(project.contract(**calibrated(project, **changes)))
    report = project.check(
        **{**calibrated(project, **changes), "bands": project.data()["bands"], "gates": project.data()["gates"]}
    )
    arithmetic = Arithmetic(base="float32")
    key = Sides("m", "original", "original", arithmetic, arithmetic).key(weights_of(opened, open_models(opened)))
    rows = [row for rows in report.compared.values() for row in rows]
    sequences = {}
    for row in rows:
        sized = noise(positions=len(row.token_ids), size=values)
        columns = {METRIC: sized, "kl_divergence": sized**2}
        sequences[tokens_sha256(row.token_ids)] = Repeated(columns, columns, np.zeros(sized.shape, bool))
    write_calibration(folder_of(opened), Calibration(key, ABOUT, sequences))


def test_a_calibration_of_files_without_an_original_is_of_the_file_that_says_the_config(project: Any) -> None:
    first, second = project.folder / "first.json", project.folder / "second.json"
    arithmetic = Arithmetic(base="float32")
    keys = set()
    for text in ("40", "41"):
        first.write_text(f'{{"vocab_size": {text}}}')
        second.write_text('{"vocab_size": 40}')
        contract = project.contract(
            models={"m": {"A": "first.json", "B": "second.json"}}, matrix={"quantization": ["B"], "mode": ["prefill"]}
        )
        opened = open_contract(contract)
        weights = weights_of(opened, {str(second): open_model(second)})
        keys.add(Sides("m", "B", "B", arithmetic, arithmetic).key(weights))
    assert len(keys) == 2


def test_what_was_not_calibrated_is_a_fault_of_the_set_up(project: Any) -> None:
    report = project.check(**calibrated(project))
    assert (report.verdict.status, report.verdict.exit_code) == ("ERROR", 2)
    assert "has no calibration" in report.verdict.cells[0].reason
    unknown = {"good": {"engine": "toy", "options": {"noise": 1e-7}}}
    assert "say `arithmetic:`" in project.check(**calibrated(project, candidates=unknown)).verdict.cells[0].reason


def test_bands_and_gates_are_judged_by_what_was_calculated(project: Any) -> None:
    calibrate_toys(project, 1e-6)
    report = project.check(**calibrated(project))
    assert report.verdict.status == "PASS" and report.verdict.cells[0].status == "MATCH"
    gate = report.verdict.gates[0]
    assert gate.observed is not None and gate.observed < gate.bound < 1e-9 and "calculated" in gate.basis
    calibrate_toys(project, 1e-12)
    tight = project.check(**calibrated(project))
    assert tight.verdict.status != "PASS" and tight.verdict.cells[0].status in ("WRONG", "SET-UP ERROR")


def test_a_suite_that_changed_is_calibrated_again_or_not_judged(project: Any) -> None:
    calibrate_toys(project, 1e-6)
    project.suite("suite.yaml", "hello there", "a prompt that is new")
    report = project.check(**calibrated(project))
    assert report.verdict.exit_code == 2 and "were not calibrated" in report.verdict.cells[0].reason


def test_a_band_is_calculated_or_typed_and_never_both(project: Any) -> None:
    for band in ({"bound": "calibrated", "match": 1e-3, "wrong": 1.0}, {}, {"match": 1e-3}):
        with pytest.raises(ContractError):
            open_contract(project.contract(bands=[{**band, "basis": BASIS}]))


def test_a_typed_band_that_is_far_from_the_calculated_one_is_a_warning_both_ways(project: Any) -> None:
    calibrate_toys(project, 1e-6)
    for match, code in ((1e-3, ["LP014"]), (1e-8, ["LP015"]), (5e-6, [])):
        bands = [{"match": match, "wrong": 1.0, "basis": BASIS}]
        path = project.contract(**calibrated(project, bands=bands, gates=project.data()["gates"]))
        assert [one.code for one in lint(path) if one.code in ("LP014", "LP015")] == code


def test_an_engine_against_itself_has_its_own_arithmetic_on_both_sides(project: Any) -> None:
    use = {"good": {"engine": "toy", "options": {"noise": 1e-7}, "arithmetic": {"base": "bfloat16"}}}
    opened = open_contract(project.contract(**calibrated(project, candidates=use, matrix={"mode": ["prefill", "self"]})))
    sides = {cell.mode: sides_of(opened, cell) for cell in matrix_cells(opened)}
    narrow, wide = Arithmetic(base="bfloat16"), Arithmetic(base="float32")
    assert sides["prefill"] == Sides("m", "original", "original", wide, narrow)
    assert sides["self"] == Sides("m", "original", "original", narrow, narrow)


def test_the_continuation_of_a_pair_cannot_be_calibrated(project: Any) -> None:
    opened = open_contract(project.contract(**calibrated(project)))
    cell = replace(next(iter(matrix_cells(opened))), mode="greedy", isa="avx512~avx2")
    assert "continues by" in str(sides_of(opened, cell))


@pytest.mark.parametrize("metric", ["top1", "top5_overlap", "cosine", "kl_divergence", "total_variation", "regret"])
@pytest.mark.parametrize("statistic", ["min", "mean", "max"])
def test_a_calculated_bound_lies_where_its_metric_can_lie(metric: str, statistic: str) -> None:
    """Noise that flips half of all choices gives a bound of 0 on their share, not of -0.56."""
    random = np.random.default_rng(3)
    values = random.integers(0, 2, (8, 20)).astype(float)
    repeated = Repeated({METRIC: values, metric: values}, {METRIC: values, metric: values}, np.zeros((8, 20), bool))
    calibration = Calibration("k", {"runs": 8}, {tokens_sha256(list(range(20))): repeated})
    kind = catalog.load("metrics", metric)
    for at_most in (True, False):
        bound = gate_bound(calibration, metric, statistic, [(list(range(20)), list(range(20)))], at_most=at_most)
        assert kind.least <= bound <= kind.greatest
