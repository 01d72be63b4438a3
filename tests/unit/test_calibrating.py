"""What `calibrate` asks for and of whom: the reference runs, its rows are repeated, and nothing of a candidate is run.

The repetitions themselves, which need transformers, have noise of the test in their place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.bands.calculated import METRIC, Calibration, Repeated, tokens_sha256
from logitproof.bands.power import Effects, read_effects
from logitproof.calibration import calibrate, effects
from logitproof.calibration.calibrate import Calibrated, calibrate_contract
from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError, Refusal
from logitproof.runs.calibrations import folder_of, read_calibration

BASIS = "a reason of more than ten letters"
WIDE, NARROW = {"base": "float32"}, {"base": "bfloat16"}


class Stand:
    """In place of the predictors and of what they compute: what was asked, and noise for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.planted: list[dict[str, Any]] = []
        self.refused: set[str] = set()
        monkeypatch.setattr(calibrate._Predictors, "of_sides", self.of_sides)
        monkeypatch.setattr(calibrate, "calibration_of", self.calibration)
        monkeypatch.setattr(effects, "measure_effects", self.effects)
        monkeypatch.setattr(calibrate, "planted_in", self.planted_in)

    def of_sides(self, sides: Any) -> tuple[str, str]:
        if sides.label in self.refused:
            raise Refusal("it cannot be read", remedy="convert it")
        return f"{sides.model}/{sides.truth}", f"{sides.model}/{sides.label}"

    def calibration(
        self, predictors: Any, sides: Any, sequences: Any, measured: Any, repetitions: Any, key: str
    ) -> Calibration:
        self.asked.append(
            {"sides": sides, "predictors": predictors, "sequences": sequences, "measured": measured, "repetitions": repetitions}
        )
        columns = {tokens: np.full((repetitions[0], len(tokens)), 1e-6) for tokens in sequences}
        repeated = {
            tokens_sha256(tokens): Repeated({METRIC: noise}, {METRIC: noise}, np.zeros(noise.shape, bool))
            for tokens, noise in columns.items()
        }
        return Calibration(key, {"runs": repetitions[0], "predicted": 1e-6, "spread": 1.0, "flips": 0.0}, repeated)

    def planted_in(self, opened: Any, model: str, path: Path) -> tuple[Path, None]:
        if model in self.refused:
            raise ContractError("it has no layers", where=model)
        return path, None

    def effects(self, folder: Path, subjects: Any, **words: Any) -> dict[str, Effects]:
        self.planted.append({"folder": folder, "subjects": subjects, **words})
        return {subject.calibration.key: Effects({"bug": 2.0}, {}) for subject in subjects}


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(monkeypatch)


def words(**changes: Any) -> dict[str, Any]:
    return {
        "reference": {"engine": "toy", "arithmetic": WIDE},
        "candidates": {"good": {"engine": "toy", "options": {"noise": 1e-7}, "arithmetic": NARROW}},
        "bands": [{"bound": "calibrated", "basis": BASIS}],
        "error_bar": {"vary": []},
        **changes,
    }


def run(project: Any, lines: list[str] | None = None, **changes: Any) -> list[Calibrated]:
    more = {name: changes.pop(name) for name in ("runs", "seed", "power") if name in changes}
    opened = open_contract(project.contract(**words(**changes)))
    return calibrate_contract(opened, project.store, say=(lines if lines is not None else []).append, **more)


def test_cells_of_the_same_sides_share_one_calibration_and_each_has_its_own(project: Any, stand: Stand) -> None:
    lines: list[str] = []
    cells = run(project, lines, matrix={"mode": ["prefill", "decode", "self"]}, runs=3, seed=7)
    modes = {cell.cell.mode: cell for cell in cells}
    assert modes["prefill"].calibration is modes["decode"].calibration is not modes["self"].calibration
    assert [entry["repetitions"] for entry in stand.asked] == [(3, 7), (3, 7)]
    wide_narrow, own = (entry["sides"] for entry in stand.asked)
    assert (wide_narrow.reference.base, wide_narrow.candidate.base) == ("float32", "bfloat16")
    assert (own.reference.base, own.candidate.base) == ("bfloat16", "bfloat16")
    assert all(len(set(entry["sequences"])) == len(entry["sequences"]) == 2 for entry in stand.asked)
    assert all(entry["measured"] is None for entry in stand.asked), "the reference was run once"
    assert all(cell.effects is None and cell.reason == "" for cell in cells)
    for cell in cells:
        assert cell.path and cell.calibration and cell.path.is_file()
        opened = open_contract(project.contract(**words()))
        assert read_calibration(folder_of(opened), cell.calibration.key) is not None
        assert all(0 < length < len(ids) for length, ids in zip(cell.lengths, cell.sequences, strict=True))
    assert f"{cells[0].cell.id}: 3 runs in {wide_narrow.candidate}" in lines and "reference: 2 of 2" in lines
    assert {trace.engine for trace in project.store.every()} == {"reference"}, "nothing of a candidate is run"


def test_the_reference_against_itself_is_measured_where_it_differs(project: Any, stand: Stand) -> None:
    builds = {name: {"engine": "toy", "options": {"noise": size}} for name, size in (("near", 1e-5), ("far", 1e-3))}
    run(project, error_bar={"vary": [], "builds": builds}, matrix={"mode": ["prefill", "self"]})
    (apart, own) = (entry["measured"] for entry in stand.asked)
    assert apart == pytest.approx(1e-3, rel=0.3), "RMS, of the worse of both"
    assert own is None, "the candidate beside itself rests on no reference"


def test_what_cannot_be_calibrated_says_why(project: Any, stand: Stand) -> None:
    project.write("other.json", '{"vocab_size": 300, "seed": 2}')
    stand.refused = {"Q8_0"}
    files = {"m": {"original": "toy.json", "Q8_0": "other.json"}}
    good, refused = run(project, models=files, matrix={"mode": ["prefill"], "quantization": ["original", "Q8_0"]})
    assert good.calibration is not None and good.sequences
    assert (refused.calibration, refused.path, refused.reason) == (None, None, "it cannot be read (convert it)")
    (silent,) = run(project, candidates={"good": {"engine": "toy", "options": {"noise": 1e-7}}})
    assert silent.calibration is None and "arithmetic" in silent.reason
    broken = run(project, reference={"engine": "toy", "options": {"fault": "crash"}, "arithmetic": WIDE})
    assert [cell.calibration for cell in broken] == [None] and broken[0].reason.startswith(
        "the reference failed at prompt p0: "
    )
    with pytest.raises(ContractError, match="1 runs have no spread"):
        run(project, runs=1)


def test_known_bugs_are_planted_where_they_are_asked_for_once_a_model(project: Any, stand: Stand) -> None:
    for name in ("a", "b"):
        project.write(f"{name}.json", f'{{"vocab_size": 300, "seed": {ord(name)}}}')
    models = {name: {"original": f"{name}.json"} for name in ("a", "b")}
    stand.refused, lines = {"b"}, list[str]()
    cells = run(project, lines, models=models, matrix={"mode": ["prefill", "self"]}, power=True)
    effects = {(cell.cell.model, cell.cell.mode): cell.effects for cell in cells}
    assert effects["a", "prefill"] == Effects({"bug": 2.0}, {})
    assert [effects[place] for place in effects if place != ("a", "prefill")] == [None, None, None]
    assert lines[-2:] == ["a: known bugs are planted", "b: no known bug is planted: it has no layers"]
    (planted,) = stand.planted
    assert planted["folder"] == project.folder / "a.json" and list(planted["metrics"]) == ["kl_divergence"]
    assert [subject.sides.model for subject in planted["subjects"]] == ["a"], "not of the candidate beside itself"
    opened = open_contract(project.contract(**words(models=models)))
    key = next(cell.calibration.key for cell in cells if cell.effects)  # type: ignore[union-attr]
    assert read_effects(folder_of(opened), key) is not None


def test_a_model_is_opened_once(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = pytest.importorskip("logitproof.reference.predict")
    opens: list[Path] = []
    monkeypatch.setattr(predict, "Predictor", lambda path, config: opens.append(path) or object())
    predictors = calibrate._Predictors(open_contract(project.contract(**words())))
    assert predictors.of("m", "original") is predictors.of("m", "original") and opens == [project.model]
    assert predictors.original("m") == project.model
