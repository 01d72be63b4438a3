"""Set-ups as a user writes them, with real engines: a fault is named and no verdict given; a right one passes.

The whole list of faults is run by `make bench-contract`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import contract as bench  # noqa: E402
from _set_up_cases import clean, planted  # noqa: E402

FAULTS = (
    "Q not permuted for rotary pairs",
    "a gate tighter than eager against SDPA in bfloat16",
    "a repetition penalty in the reference",
)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_named_and_no_engine_is_judged(name: str, tmp_path: Path) -> None:
    (case,) = [case for case in planted() if case.name == name]
    said = bench.run(tmp_path / "case", case)
    assert said["found"], said
    assert said["exit_code"] == 2


@pytest.mark.parametrize("name", ["llama3 F16, a second engine as witness"])
def test_a_right_set_up_passes(name: str, tmp_path: Path) -> None:
    (case,) = [case for case in clean() if case.name == name]
    assert bench.run(tmp_path / "case", case)["exit_code"] == 0


def test_the_list_of_faults_is_as_long_as_it_claims_and_has_no_name_twice() -> None:
    names = [case.name for case in (*planted(), *clean())]
    assert len(set(names)) == len(names)
    assert len(list(planted())) >= 25
    assert len(list(clean())) >= 10
    assert all(case.says for case in planted())
