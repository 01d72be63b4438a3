"""The pytest plugin: what becomes a test, what fails, what is an error, and that nothing passes unseen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

import logitproof.runs.workspace  # noqa: F401 -- see below
from logitproof.parity import assert_parity

pytest_plugins = ["pytester"]

CONTRACT = """\
contract: demo
reference: {engine: toy}
candidates:
  good: {engine: toy, options: {noise: 1.0e-7}}
models: {m: {original: toy.json}}
suites: [suite.yaml]
matrix: {quantization: [original], mode: [prefill, greedy]}
bands:
  - {match: 1.0e-4, wrong: 1.0e-2, basis: "two float32 engines"}
gates:
  - {id: kl, metric: kl_divergence, at_most: 1.0e-6, statistic: max, basis: "far above rounding", if_fails: [look at the rope]}
  - {id: greedy, metric: greedy_match_10, at_least: 1.0, where: {mode: greedy}, basis: "the same greedy tokens"}
"""
BAD = "  bad: {engine: toy, options: {noise: 0.5}, only: {mode: prefill}}\n"
DEAD = "  dead: {engine: toy, options: {fault: FAULT}, only: {mode: prefill}}\n"
PLANTED = "  planted: {engine: toy, options: {noise: NOISE}, only: {mode: prefill}, expect: WRONG}\n"
COUNTED = """
from logitproof.runs.workspace import Workspace
real = Workspace.check
def counted(self, *args, **kwargs):
    with open("checks.txt", "a") as file:
        file.write("once\\n")
    return real(self, *args, **kwargs)
Workspace.check = counted
"""


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """pytester forgets the modules that an in-process run imported; NumPy and numba can be imported only once."""
    for kind in (np.float32, np.float64):
        assert_parity(np.eye(4, dtype=kind), np.eye(4, dtype=kind))


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    write(pytester, "")
    pytester.path.joinpath("toy.json").write_text('{"vocab_size": 300, "seed": 1}')
    prompts = [{"id": "a", "text": "hello there"}, {"id": "b", "text": "another prompt"}]
    pytester.path.joinpath("suite.yaml").write_text(yaml.safe_dump({"suite": "two", "max_new_tokens": 12, "prompts": prompts}))
    return pytester


def write(pytester: pytest.Pytester, candidates: str, **changes: str) -> None:
    """The contract with more candidates, and with some of its text replaced."""
    text = CONTRACT.replace("models:", f"{candidates}models:")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    pytester.path.joinpath("demo.parity.yaml").write_text(text)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("-p", "logitproof_pytest", "-rA", *arguments)


def test_without_a_contract_nothing_is_imported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_it(request):
            assert request.config.pluginmanager.hasplugin("logitproof_pytest")
            assert not [name for name in sys.modules if name.split(".")[0] in ("logitproof", "numpy", "yaml", "pydantic")]
        """
    )
    pytester.runpytest_subprocess("-p", "logitproof_pytest").assert_outcomes(passed=1)


def test_every_gate_and_cell_is_a_test_that_is_collected_without_an_engine(project: pytest.Pytester) -> None:
    write(project, PLANTED.replace("NOISE", "2.0"))
    result = run(project, "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == [
        f"demo.parity.yaml::{name}"
        for name in (
            "kl[good/m/original/prefill]",
            "kl[good/m/original/greedy]",
            "greedy[good/m/original/greedy]",
            "cell[good/m/original/prefill]",
            "cell[good/m/original/greedy]",
            "control[planted/m/original/prefill]",
            "verdict",
        )
    ]
    assert not project.path.joinpath("runs").exists()


def test_a_contract_that_holds_passes_and_leaves_a_run_folder(project: pytest.Pytester) -> None:
    write(project, PLANTED.replace("NOISE", "2.0"))
    run(project).assert_outcomes(passed=7)
    assert json.loads(project.path.joinpath("runs/demo/verdict.json").read_text())["status"] == "PASS"


def test_a_failed_gate_says_observed_allowed_where_and_what_to_do(project: pytest.Pytester) -> None:
    write(project, BAD)
    result = run(project, "--logitproof-out", "elsewhere")
    result.assert_outcomes(passed=5, failed=3)  # the gate, the cell, the verdict
    result.stdout.fnmatch_lines(
        [
            "kl: observed 0.*, allowed at_most 1e-06 in bad/m/original/prefill",
            "  where     worst at prompt ?, position *",
            "  basis     far above rounding",
            "  if fails  look at the rope",
            "  report    *elsewhere/demo/report.md",
        ]
    )
    result.stdout.fnmatch_lines(["FAILED demo.parity.yaml::cell[[]bad/m/original/prefill[]]*"])


@pytest.mark.parametrize(("fault", "said"), [("crash", "SIGABRT"), ("nan", "hold nan at position"), ("raise", "told to fail")])
def test_an_engine_that_fails_is_an_error_with_its_last_words(project: pytest.Pytester, fault: str, said: str) -> None:
    write(project, DEAD.replace("FAULT", fault))
    result = run(project)
    result.assert_outcomes(passed=5, errors=3)
    result.stdout.fnmatch_lines(["ENGINE ERROR: dead/m/original/prefill", f"  said      *{said}*"])
    assert result.stdout.str().count("During handling") == 0


def test_a_control_that_is_not_caught_fails(project: pytest.Pytester) -> None:
    write(project, PLANTED.replace("NOISE", "0.0"))
    result = run(project)
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(["MATCH, expected WRONG: the control is not caught: planted/m/original/prefill*"])


def test_a_control_that_crashes_is_not_caught_either(project: pytest.Pytester) -> None:
    write(project, DEAD.replace("FAULT", "crash").replace("}}", "}, expect: WRONG}"))
    run(project, "-k", "control").assert_outcomes(errors=1, deselected=6)


def test_a_contract_that_cannot_be_read_is_one_error_with_file_and_line(project: pytest.Pytester) -> None:
    write(project, "", kl_divergence="kl_divergense")
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*demo.parity.yaml:11: gates.0.metric: *did you mean 'kl_divergence'?"])
    assert "Traceback" not in result.stdout.str() and result.ret == pytest.ExitCode.INTERRUPTED


def test_a_model_that_is_missing_is_an_error_of_every_test(project: pytest.Pytester) -> None:
    project.path.joinpath("toy.json").unlink()
    result = run(project)
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(["SET-UP ERROR: *demo.parity.yaml:5: models.m.original: no such file or folder*"])


@pytest.mark.parametrize("leave", ["", "may_be_unmeasured: ['*/greedy']\n"])
def test_what_is_not_measured_fails_unless_it_has_leave(project: pytest.Pytester, leave: str) -> None:
    write(project, "", **{"bands:": f"{leave}bands:"})
    project.makeconftest(
        """
        from logitproof.jobs.plan import _Builder
        _Builder._impossible = lambda self, cell: "does not offer it" if cell.mode == "greedy" else ""
        """
    )
    result = project.runpytest_subprocess("-p", "logitproof_pytest", "-rA")
    left = {name: count for name, count in result.parseoutcomes().items() if name != "passed"}
    if leave:
        assert left == {"skipped": 3}
    else:
        assert left == {"failed": 3, "errors": 1}
        result.stdout.fnmatch_lines(["NOT-MEASURED: good/m/original/greedy: does not offer it"])


def test_a_gate_that_no_cell_could_measure_is_not_forgotten(project: pytest.Pytester) -> None:
    write(project, "", **{"prefill, greedy": "prefill, decode"})
    result = run(project, "-k", "greedy")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the gate 'greedy' selects no cell of the matrix, so it can never fail*"])


def test_keywords_and_only_select(project: pytest.Pytester) -> None:
    write(project, BAD)
    run(project, "-k", "kl and good").assert_outcomes(passed=2, deselected=6)
    run(project, "--logitproof-only", "good/*").assert_outcomes(passed=6)
    assert run(project, "--logitproof-only", "nothing/*").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("dist", ["load", "loadgroup"])
def test_under_xdist_a_contract_is_run_once(project: pytest.Pytester, dist: str) -> None:
    write(project, BAD)
    project.makeconftest(COUNTED)
    result = project.runpytest_subprocess("-p", "logitproof_pytest", "-n", "2", "--dist", dist)
    result.assert_outcomes(passed=5, failed=3)
    assert project.path.joinpath("checks.txt").read_text() == "once\n"


def test_a_run_that_cannot_start_is_tried_once_by_all_xdist_workers(project: pytest.Pytester) -> None:
    project.path.joinpath("toy.json").unlink()
    project.makeconftest(COUNTED)
    project.runpytest_subprocess("-p", "logitproof_pytest", "-n", "2").assert_outcomes(errors=6)
    assert project.path.joinpath("checks.txt").read_text() == "once\n"


def test_each_session_runs_the_contract_again_as_it_stands(project: pytest.Pytester) -> None:
    run(project, "-k", "verdict").assert_outcomes(passed=1, deselected=5)
    write(project, "", **{"1.0e-6": "1.0e-30"})
    run(project, "-k", "verdict").assert_outcomes(failed=1, deselected=5)


def test_two_contracts_of_one_name_are_not_mixed_up(project: pytest.Pytester) -> None:
    write(project, "", **{"1.0e-6": "1.0e-30"})
    project.path.joinpath("demo.parity.yaml").rename(project.path / "other.parity.yaml")
    write(project, "")
    result = run(project, "-k", "verdict")
    result.assert_outcomes(passed=1, errors=1, deselected=10)
    assert "which another would take the place of" in result.stdout.str()


def test_the_fixture_runs_a_contract_and_compares_logits(project: pytest.Pytester) -> None:
    write(project, BAD)
    Path("demo.parity.yaml").rename("demo.yaml")
    project.makepyfile(
        """
        import numpy as np, pytest

        def test_report(parity):
            report = parity("demo.yaml", expect="FAIL")
            assert report is parity("demo.yaml", expect=None)

        def test_no_pass_unseen(parity):
            with pytest.raises(AssertionError, match="FAIL, expected PASS"):
                parity("demo.yaml")

        def test_compare(parity):
            logits = np.random.default_rng(0).normal(size=(4, 20))
            assert parity.compare(logits, logits + 1e-6).positions == 4
            with pytest.raises(AssertionError, match="position 3"):
                parity.compare(logits, np.where(np.arange(4)[:, None] == 3, -logits, logits))
        """
    )
    run(project).assert_outcomes(passed=3)
