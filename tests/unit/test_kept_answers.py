"""What a run says whose rows did not all stay: the same verdict and evidence; what needs rows says that they are gone."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from conftest import Project
from logitproof.cli import main
from logitproof.contract.opened import open_contract
from logitproof.runs.workspace import Workspace

KEPT: tuple[Any, ...] = ("compact", "failing", "none")
MOVING = {"run_id", "made_at", "seconds", "jobs"}
"""What two runs of one contract may differ in."""
SAID = {"compact": "compact", "none": "were not kept"}


def cli(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


class Runs:
    """One contract, run once for every way to keep rows, and `again` as `all`."""

    def __init__(self, folder: Path) -> None:
        project = Project(folder)
        candidates = {"good": project.toy(noise=1e-7), "noisy": project.toy(noise=2.0)}
        self.contract = project.contract(candidates=candidates, matrix={"mode": ["prefill", "greedy"]})
        self.key, self.public = folder / "key.pem", folder / "key.pub.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.key], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", self.key, "-pubout", "-out", self.public], check=True, capture_output=True)
        self.folder = folder
        for name in ("all", "again", *KEPT):
            Workspace(folder / name).check(open_contract(self.contract), keep="all" if name == "again" else name)

    def verdict(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name / "verdict.json").read_text())
        return content

    def evidence(self, name: str) -> dict[str, Any]:
        """What a signed statement about the run says, which verifies."""
        path = self.folder / name / "evidence.dsse.json"
        made = cli("attest", self.folder / name, "--key", self.key)
        assert made.exit_code == 0, made.output
        verified = cli("verify-evidence", path, "--key", self.public, "--contract", self.contract)
        assert verified.exit_code == 1, verified.output  # it is true, and what it says is that a gate fails
        predicate: dict[str, Any] = json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))["predicate"]
        return predicate


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def differing(first: dict[str, Any], second: dict[str, Any]) -> set[str]:
    return {name for name in {*first, *second} if first.get(name) != second.get(name)}


def test_two_runs_of_one_contract_differ_in_their_names_and_times_alone(runs: Runs) -> None:
    assert differing(runs.verdict("all"), runs.verdict("again")) <= MOVING
    assert runs.verdict("all")["status"] == "FAIL"


@pytest.mark.parametrize("keep", KEPT)
def test_all_of_verdict_json_is_the_same_whatever_stays(runs: Runs, keep: str) -> None:
    assert differing(runs.verdict("all"), runs.verdict(keep)) <= MOVING
    before = runs.verdict(keep)
    Workspace(runs.folder / keep).judge_again()
    assert differing(before, runs.verdict(keep)) <= MOVING


@pytest.mark.parametrize("keep", KEPT)
def test_every_number_of_every_position_is_the_same_whatever_stays(runs: Runs, keep: str) -> None:
    tables = [pq.read_table(runs.folder / name / "positions.parquet") for name in ("all", keep)]
    assert tables[0].num_rows > 40
    np.testing.assert_equal(tables[1].to_pydict(), tables[0].to_pydict())  # NaN is NaN here


@pytest.mark.parametrize("keep", KEPT)
def test_evidence_is_signed_of_the_same_cells_gates_and_rows(runs: Runs, keep: str) -> None:
    whole, kept = runs.evidence("all"), runs.evidence(keep)
    for name in ("cells", "gates", "verdict", "models", "suites", "engines", "unmeasured", "contract"):
        assert whole[name] == kept[name], name


@pytest.mark.parametrize("keep", SAID)
def test_what_needs_single_logits_says_that_they_are_gone_and_how_to_have_them(runs: Runs, keep: str) -> None:
    done = cli("diagnose", runs.folder / keep)
    assert done.exit_code == 2 and SAID[keep] in done.output and "--keep all" in done.output, done.output


@pytest.mark.parametrize("keep", KEPT)
def test_localize_asks_the_engines_and_needs_no_row_that_was_measured(runs: Runs, keep: str) -> None:
    whole, kept = (cli("localize", runs.folder / name) for name in ("all", keep))
    assert (whole.exit_code, whole.output.splitlines()[-2:]) == (kept.exit_code, kept.output.splitlines()[-2:])
    assert "kept" not in kept.output.splitlines()[-1] and "compact" not in kept.output.splitlines()[-1]


@pytest.mark.parametrize("keep", ["all", *KEPT])
def test_a_run_is_no_dump_to_compare_whatever_stayed_and_is_told_so(runs: Runs, keep: str) -> None:
    done = cli("compare", runs.folder / keep, runs.folder / "again")
    assert done.exit_code == 2 and str(runs.folder / keep) in done.output, done.output
