"""Results of a run are mapped while somebody looks at them, so that their number is not bounded by open files."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.errors import StoreFailed
from logitproof.jobs import job, plan
from logitproof.traces.aside import Aside
from logitproof.traces.trace import Failure, Trace, open_logits


def trace(path: Path, rows: np.ndarray) -> Trace:
    rows.astype("<f4").tofile(path)
    return Trace(path.name, "score", "e", "prefill", [1, 2], 2, open_logits(path, "float32", list(rows.shape)))


def test_a_trace_comes_back_with_its_rows_and_holds_nothing_open(tmp_path: Path) -> None:
    rows = np.arange(12.0).reshape(2, 6)
    kept = Aside({"f": Failure("f", "e", "engine", "it died")})
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for number in range(40):
        kept[str(number)] = trace(tmp_path / str(number), rows + number)
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    back = kept["7"]
    assert isinstance(back, Trace) and isinstance(back.logits, np.memmap)
    assert np.array_equal(back.logits, rows + 7) and (back.key, back.token_ids) == ("7", [1, 2])
    assert isinstance(kept["f"], Failure) and len(kept) == 41 and list(kept)[:2] == ["f", "0"]
    del kept["7"]
    assert kept.get("7") is None


def test_rows_that_change_behind_a_run_end_it(tmp_path: Path) -> None:
    kept = Aside({"a": trace(tmp_path / "a", np.ones((2, 6)))})
    np.zeros((2, 7), "<f4").tofile(tmp_path / "a")
    with pytest.raises(StoreFailed, match="have changed since they were read"):
        _ = kept["a"]


def test_rows_that_are_not_kept_are_none(tmp_path: Path) -> None:
    kept = Aside({"a": trace(tmp_path / "a", np.ones((2, 6)))})
    (tmp_path / "a").unlink()
    back = kept["a"]
    assert isinstance(back, Trace) and back.logits.shape == (0, 6)


@pytest.mark.parametrize("change", [np.array, lambda rows: rows[:1], lambda rows: rows[:, :3]])
def test_rows_that_are_no_whole_file_stay_as_they_are(tmp_path: Path, change: Any) -> None:
    whole = trace(tmp_path / "a", np.arange(12.0).reshape(2, 6))
    part = Trace("a", "score", "e", "prefill", [1, 2], 2, change(whole.logits))
    back = Aside({"a": part})["a"]
    assert isinstance(back, Trace) and back.logits is part.logits


def test_a_run_holds_no_file_for_each_of_its_traces(project: Any) -> None:
    project.suite("suite.yaml", *(f"prompt {number}" for number in range(12)))
    report = project.check()
    gc.collect()
    maps = Path("/proc/self/maps")
    assert report.verdict.exit_code == 0 and len(report.results) >= 36
    if maps.is_file():
        assert "logits.bin" not in maps.read_text()


def test_what_an_engine_is_is_read_once_a_plan(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def count(spec: Any) -> Any:
        asked.append(spec.engine)
        return job.engine_facts(spec)

    monkeypatch.setattr(plan, "engine_facts", count)
    project.suite("suite.yaml", *(f"prompt {number}" for number in range(5)))
    assert project.check().verdict.exit_code == 0
    assert len(asked) == 2
