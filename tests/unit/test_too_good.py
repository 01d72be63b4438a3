"""Too little and too good: what was measured in part, what is the reference under another name, what judges another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from logitproof.bands.calculated import CalculatedBand, tokens_sha256
from logitproof.cli import main
from logitproof.comparison.compare import Comparison
from logitproof.contract.contract import Contract
from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Prompt
from logitproof.errors import ContractError
from logitproof.jobs.cell import Cell, Pair
from logitproof.runs.workspace import Workspace
from logitproof.verdict.compared import Compared
from logitproof.verdict.suspect import suspicion_of

BASIS = "a reason of more than ten letters"
WIDE: dict[str, Any] = {"bands": [{"match": 1e3, "wrong": 1e4, "basis": BASIS}]}
WIDE["gates"] = [{"id": "kl", "metric": "kl_divergence", "at_most": 1e6, "basis": BASIS}]
SOME = """
def score(p):
    import math
    ids = [[-1] * V for _ in p["token_ids"]]
    values = [[float("nan")] * V for _ in ids]
    made = row(p["token_ids"][0])
    ids[0] = sorted(range(V), key=lambda n: -made[n])
    values[0] = [made[n] - math.log(sum(math.exp(x) for x in made)) for n in ids[0]]
    with open(p["logits"] + ".topk_ids", "wb") as file:
        for r in ids: file.write(struct.pack(f"<{V}i", *r))
    ids = {"path": p["logits"] + ".topk_ids", "dtype": "int32", "shape": [len(values), V]}
    return {"topk_ids": ids, "topk_logprobs": write(p["logits"] + ".topk_logprobs", values)}
"""


def test_a_cell_that_was_measured_in_part_is_not_measured(project: Any) -> None:
    report = project.check(candidates={"few": project.engine(SOME)}, **WIDE)
    (cell,) = report.verdict.cells
    assert (cell.status, report.verdict.exit_code) == ("NOT-MEASURED", 3)
    assert cell.coverage.measured == 2 < cell.coverage.planned and "2 of" in cell.reason
    assert "2 of" in report.verdict.reason
    record = report.as_json()["cells"][0]["coverage"]
    assert record == {"planned": cell.coverage.planned, "measured": 2, "judged": 2}
    few = {**project.engine(SOME), "may_be_vacuous": "another model than the toy"}
    leave = project.check(candidates={"few": few}, may_be_unmeasured=["few/*"], **WIDE)
    assert leave.verdict.status == "PASS"


def test_nothing_but_controls_is_no_test(project: Any) -> None:
    verdict = project.check(candidates={"planted": {**project.toy(noise=1.0), "expect": "WRONG"}}).verdict
    assert (verdict.status, verdict.exit_code) == ("ERROR", 3) and "controls" in verdict.reason


@pytest.mark.parametrize("use", [{"environment": {"X": "1"}}, {"options": {"noise": 0.0}}], ids=["environment", "inert option"])
def test_the_reference_under_another_name_is_suspect(project: Any, use: dict[str, Any]) -> None:
    report = project.check(candidates={"same": {"engine": "toy", **use}})
    assert (report.verdict.cells[0].status, report.verdict.exit_code) == ("SUSPECT", 1)
    assert "bit for bit" in report.verdict.cells[0].reason
    why = {"may_be_exact": "the option is known to change nothing here"}
    assert project.check(candidates={"same": {"engine": "toy", **use, **why}}).verdict.status == "PASS"


def test_a_quantized_file_that_was_not_read_is_suspect(project: Any) -> None:
    project.write("q4.json", '{"vocab_size": 300, "seed": 1, "bits": 4}')
    models = {"m": {"original": "toy.json", "Q4": "q4.json"}}
    matrix = {"mode": ["decode"], "quantization": ["Q4"]}
    report = project.check(candidates={"lazy": {"engine": "toy", "options": {"noise": 0.0}}}, models=models, matrix=matrix)
    assert report.verdict.cells[0].status == "SUSPECT" and "other weights (Q4)" in report.verdict.cells[0].reason


def row_of(errors: np.ndarray) -> Compared:
    names = ("rms_delta_logit", "max_delta_logit")
    table = Comparison(pa.table(dict.fromkeys(names, errors)), names)
    prompt = Prompt(id="p", text="x")
    return Compared(Pair("s", 0, prompt, "a", "b", "c", None), 1, table, token_ids=tuple(range(len(errors))))


@pytest.mark.parametrize(
    ("errors", "doubt"),
    [
        (np.full(60, 1e-3), ""),
        (np.full(60, 2e-4), ""),
        (np.full(60, 1e-5), "of what its arithmetic must make"),
        (np.where(np.arange(60) < 2, 1e-9, 1e-3), "2 of 60 positions"),
        (np.where(np.arange(60) < 1, 2e-5, 1e-3), ""),
    ],
)
def test_errors_far_below_those_of_the_declared_arithmetic_are_suspect(project: Any, errors: np.ndarray, doubt: str) -> None:
    """A band for bfloat16 on an engine of float32 lets a bug of its size through; that rounding is missing tells."""
    contract = Contract.model_validate(project.data())
    cell = Cell("good", "m", "original", "prefill", "native", "toy", "good (toy)")
    row, name = row_of(errors), tokens_sha256(tuple(range(60)))
    band = CalculatedBand({name: np.full(60, 4e-3)}, 0.0, 0.1, BASIS, {name: np.full(60, 1e-3)})
    found = suspicion_of(contract, cell, [row], band, same_arithmetic=False)
    assert doubt in found and bool(found) == bool(doubt)
    assert not suspicion_of(contract, cell, [row], band, same_arithmetic=True)


def test_a_contract_cannot_say_that_a_known_engine_computes_otherwise(project: Any) -> None:
    use = {"engine": "transformers", "options": {"dtype": "float32"}, "arithmetic": {"base": "bfloat16"}}
    with pytest.raises(ContractError, match=r"base: bfloat16.*base: float32"):
        open_contract(project.contract(candidates={"liar": use}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"candidates": {name: {"engine": "toy", "options": {"noise": 1e-7}} for name in ("good", "bad")}}, "bad/m"),
        ({"matrix": {"mode": ["prefill", "greedy"]}}, "greedy"),
        ({"candidates": {"good": {"engine": "toy", "options": {"noise": 1.0}}}}, "candidates.good"),
        ({"reference": {"engine": "toy", "options": {"noise": 1e-9}}}, "reference"),
    ],
)  # fmt: skip
def test_judging_again_judges_bounds_only(project: Any, changes: dict[str, Any], named: str) -> None:
    run = Workspace(project.folder / "run")
    run.check(open_contract(project.contract()))
    project.contract(gates=[{"id": "kl", "metric": "kl_divergence", "at_most": 1e-30, "basis": BASIS}])
    assert run.judge_again().verdict.exit_code == 1, "a bound may change"
    project.contract(**changes)
    with pytest.raises(ContractError, match=named) as caught:
        run.judge_again()
    assert caught.value.exit_code == 2 and "check" in caught.value.remedy


def test_judging_again_needs_the_suite_and_the_weights_of_the_run(project: Any) -> None:
    run = Workspace(project.folder / "run")
    run.check(open_contract(project.contract()))
    before = project.model.read_text()
    project.model.write_text('{"vocab_size": 300, "seed": 2}')
    with pytest.raises(ContractError, match="weights"):
        run.judge_again()
    project.model.write_text(before)
    project.suite("suite.yaml", "hello there", "other words")
    with pytest.raises(ContractError, match="suite"):
        run.judge_again()


def dump(folder: Path, name: str, prompts: int = 2, rows: int = 6, shift: float = 0.0) -> str:
    lines = ['@@meta {"vocab_size": 8}']
    random = np.random.default_rng(0).normal(size=(2, 6, 8))
    for prompt in range(prompts):
        lines.append(f"@@prompt {json.dumps({'id': f'p{prompt}', 'token_ids': list(range(prompt, prompt + 6))})}")
        for position in range(rows):
            logits = (random[prompt, position] + shift * np.arange(8)).tolist()
            lines.append(f"@@logits {json.dumps({'prompt': f'p{prompt}', 'position': position, 'logits': logits})}")
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


@pytest.mark.parametrize(("few", "said"), [({"rows": 1}, "10 rows of the reference"), ({"prompts": 1}, "")])
def test_rows_that_only_one_side_has_are_counted_and_fail(tmp_path: Path, few: dict[str, int], said: str) -> None:
    whole, part = dump(tmp_path, "a.ndjson"), dump(tmp_path, "b.ndjson", shift=1e-3, **few)
    done = CliRunner().invoke(main, ["compare", whole, part])
    assert done.exit_code != 0 and said in done.output.replace("\n", " ")
    assert CliRunner().invoke(main, ["compare", part, whole]).exit_code == 1
    if "rows" in few:
        leave = CliRunner().invoke(main, ["compare", whole, part, "--missing", "the first row is all there is"])
        assert leave.exit_code == 0 and "by leave" in leave.output.replace("\n", " ")
    assert CliRunner().invoke(main, ["compare", whole, dump(tmp_path, "c.ndjson", shift=1e-3)]).exit_code == 0


def test_a_file_is_not_compared_with_itself(tmp_path: Path) -> None:
    first, copy = dump(tmp_path, "a.ndjson"), dump(tmp_path, "b.ndjson")
    for other in (first, copy):
        done = CliRunner().invoke(main, ["compare", first, other])
        assert done.exit_code == 2 and "the same" in str(done.output) + str(done.exception)
