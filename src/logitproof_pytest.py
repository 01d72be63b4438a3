"""The pytest plugin: every gate of a `*.parity.yaml` is a test, and so is every cell.

    demo.parity.yaml::kl[mine/qwen3/F32/prefill]      a gate on a cell
    demo.parity.yaml::cell[mine/qwen3/F32/prefill]    the cell's own status
    demo.parity.yaml::control[planted/qwen3/F32/…]    a planted bug, which must be caught
    demo.parity.yaml::verdict                         the whole, as the exit code of `logitproof check`

Nothing of logitproof is imported before a contract is found or the fixture `parity` is used. A contract is
run once a session: the first item that needs it runs it under a lock, other items and other xdist workers
read what it left.
"""

from __future__ import annotations

import fcntl
import fnmatch
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from logitproof.contract.contract import Gate
    from logitproof.contract.opened import OpenContract
    from logitproof.jobs.cell import Cell
    from logitproof.parity import Parity
    from logitproof.report.report import Report
    from logitproof.verdict.gates import GateVerdict
    from logitproof.verdict.judge import CellVerdict

SUFFIX = ".parity.yaml"
SHOWN_FAILURES = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("logitproof")
    group.addoption("--logitproof-out", default="runs", metavar="DIR", help="folder of the run folders (default: runs)")
    group.addoption("--logitproof-only", default="*", metavar="GLOB", help="cells to run, such as 'mine/*/Q8_0/*'")
    group.addoption("--logitproof-parallel", default=1, type=int, metavar="N", help="engines run at a time (default: 1)")


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", {})
    config.stash[_RUNS] = _Runs(config, worker.get("logitproof_session") or uuid.uuid4().hex)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of xdist: its workers belong to this session. (Its own testrunuid can be given twice by the user.)"""
    node.workerinput["logitproof_session"] = node.config.stash[_RUNS].session


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return ContractFile.from_parent(parent, path=file_path) if file_path.name.endswith(SUFFIX) else None


@pytest.fixture(scope="session")
def parity(pytestconfig: pytest.Config) -> ParityFixture:
    """Run a contract, or compare two sets of logits, in a test of one's own.

    `parity(contract)` runs it once a session and returns its Report; it raises AssertionError unless the
    verdict is PASS (or `expect`; None asks for nothing). `parity.compare(reference, candidate, **bounds)` is
    `logitproof.parity.assert_parity`.
    """
    return ParityFixture(pytestconfig.stash[_RUNS], pytestconfig.rootpath)


class ParityFixture:
    """What the fixture `parity` gives."""

    def __init__(self, runs: _Runs, root: Path) -> None:
        self._runs, self._root = runs, root

    def __call__(self, contract: str | Path, *, expect: Literal["PASS", "FAIL", "ERROR"] | None = "PASS") -> Report:
        """The Report of a contract; a relative path starts at pytest's root."""
        report = self._runs.report(self._root / contract)
        if expect is not None and report.verdict.status != expect:
            raise AssertionError(
                f"{_whole_text(report, f'{report.verdict.status}, expected {expect}')}\n"
                f"  report    {self._runs.folder(report.opened) / 'report.md'}"
            )
        return report

    def compare(self, reference: Any, candidate: Any, **bounds: Any) -> Parity:
        from logitproof.parity import assert_parity

        return assert_parity(reference, candidate, **bounds)


class ContractFile(pytest.File):
    """A contract: its items come from its plan, no engine is run to collect them."""

    def collect(self) -> Iterator[pytest.Item]:
        from logitproof.contract.opened import open_contract
        from logitproof.errors import LogitproofError
        from logitproof.jobs.plan import matrix_cells

        try:
            opened = open_contract(self.path)
            only = self.config.getoption("logitproof_only")
            cells = [cell for cell in matrix_cells(opened) if fnmatch.fnmatchcase(cell.id, only)]
        except LogitproofError as error:
            raise self.CollectError(str(error)) from None
        if not cells:
            return
        for index, gate in enumerate(opened.contract.gates):
            yield from self._gate_items(opened, index, gate, cells)
        for cell in cells:
            control = opened.contract.candidates[cell.candidate].expect is not None
            name = f"{'control' if control else 'cell'}[{cell.id}]"
            line = opened.lines.get(("candidates", cell.candidate))
            yield CellItem.from_parent(self, name=name, cell_id=cell.id, line=line)
        yield VerdictItem.from_parent(self, name="verdict", line=opened.lines.get(("contract",)))

    def _gate_items(self, opened: OpenContract, index: int, gate: Gate, cells: list[Cell]) -> Iterator[pytest.Item]:
        """An item a cell that the gate judges; one without a cell where it judges none, so that it is not forgotten."""
        whole = _is_of_whole_prompts(gate.metric)
        judged = [cell for cell in cells if gate.selects(cell.axes) and (not whole or cell.mode == "greedy")]
        counted = [cell for cell in judged if opened.contract.candidates[cell.candidate].expect is None]
        line = opened.lines.get(("gates", index))
        for cell in counted:
            yield GateItem.from_parent(self, name=f"{gate.id}[{cell.id}]", gate_id=gate.id, cell_id=cell.id, line=line)
        if not judged and self.config.getoption("logitproof_only") == "*":
            yield GateItem.from_parent(self, name=f"{gate.id}[no cell]", gate_id=gate.id, cell_id="", line=line)


class GateFailed(Exception):
    """A test that failed: its text says observed, allowed and where."""


class NothingProven(Exception):
    """A test that could not be judged, because an engine or the set-up failed: a pytest error, never a pass."""


class _ContractItem(pytest.Item):
    """`judge` is what a kind of item asks of the report; engines run in `setup`, where pytest counts errors."""

    def __init__(self, *, line: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.line = line
        if self.config.pluginmanager.hasplugin("xdist"):
            self.add_marker(pytest.mark.xdist_group(self.parent.nodeid if self.parent else self.name))
        if self.config.pluginmanager.hasplugin("timeout"):
            self.add_marker(pytest.mark.timeout(0))  # the contract has a time limit for every engine

    def judge(self, report: Report) -> None:
        """Raise GateFailed, NothingProven or pytest's skip; returning is a pass."""
        raise NotImplementedError

    def setup(self) -> None:
        unproven, self.failed = self._judged()
        if unproven:
            pytest.fail(unproven, pytrace=False)

    def runtest(self) -> None:
        if self.failed:
            pytest.fail(self.failed, pytrace=False)

    def _judged(self) -> tuple[str, str]:
        """Why nothing was proven, and why the test fails; both empty for a pass."""
        from logitproof.errors import LogitproofError

        runs, report_file = self.config.stash[_RUNS], ""
        try:
            report = runs.report(self.path)
            report_file = f"\n  report    {runs.folder(report.opened) / 'report.md'}"
            self.judge(report)
        except LogitproofError as error:
            return f"{'SET-UP ERROR' if error.exit_code == 2 else 'ENGINE ERROR'}: {error}", ""
        except NothingProven as error:
            return f"{error}{report_file}", ""
        except GateFailed as error:
            return "", f"{error}{report_file}"
        return "", ""

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, self.line - 1 if self.line else None, self.name


class GateItem(_ContractItem):
    """One gate on one cell."""

    def __init__(self, *, gate_id: str, cell_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate_id, self.cell_id = gate_id, cell_id

    def judge(self, report: Report) -> None:
        if not self.cell_id:
            raise GateFailed(f"NOT-MEASURED: no cell of the contract measures the gate {self.gate_id}")
        cell = _measured(report, self.cell_id)
        gates = [gate for gate in report.verdict.gates if (gate.id, gate.cell) == (self.gate_id, self.cell_id)]
        if not gates:
            raise NothingProven(_cell_text(cell, f"the gate {self.gate_id} was not judged in this cell"))
        (gate,) = gates
        self.user_properties += [("observed", gate.observed), (gate.operator, gate.bound)]
        if gate.status == "FAIL":
            raise GateFailed(_gate_text(gate))
        if gate.status != "PASS":
            raise NothingProven(f"{gate.status}: {gate.id} in {gate.cell}: {gate.reason}")


class CellItem(_ContractItem):
    """The status of one cell; of a control, that its planted bug is caught."""

    def __init__(self, *, cell_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell_id = cell_id

    def judge(self, report: Report) -> None:
        cell = _measured(report, self.cell_id)
        self.user_properties.append(("status", cell.status))
        if not cell.as_expected:
            expected = f"{cell.status}, expected {cell.expected}: the control is not caught" if cell.expected else cell.status
            raise GateFailed(_cell_text(cell, expected))


class VerdictItem(_ContractItem):
    """The whole, so that pytest is never greener than `logitproof check`."""

    def judge(self, report: Report) -> None:
        if report.verdict.status == "FAIL":
            raise GateFailed(_whole_text(report, "FAIL"))
        if report.verdict.exit_code != 0:
            raise NothingProven(_whole_text(report, report.verdict.status))


class _Runs:
    """Reports of a session by contract; a run is shared with xdist's other workers through its run folder."""

    def __init__(self, config: pytest.Config, session: str) -> None:
        self._config, self.session = config, session
        self._reports: dict[Path, Report] = {}
        self._errors: dict[Path, Exception] = {}

    def report(self, path: Path) -> Report:
        """The report of a contract, run if nobody has in this session; raises what the run raised."""
        path = path.resolve()
        if path in self._errors:
            raise self._errors[path]
        if path not in self._reports:
            try:
                self._reports[path] = self._make(path)
            except Exception as error:
                self._errors[path] = error
                raise
        return self._reports[path]

    def folder(self, opened: OpenContract) -> Path:
        """The run folder of a contract."""
        return Path(self._config.rootpath, self._config.getoption("logitproof_out"), opened.contract.contract)

    def _make(self, path: Path) -> Report:
        from logitproof.contract.opened import open_contract
        from logitproof.errors import ContractError, EngineError, LogitproofError
        from logitproof.files.atomic import write_atomically
        from logitproof.runs.workspace import Workspace

        opened = open_contract(path)
        option, folder = self._config.getoption, self.folder(opened)
        asked = {"session": self.session, "contract": str(path), "only": option("logitproof_only")}
        with _locked(folder):
            record = folder / "pytest.json"
            left = _read(record)
            if {key: left.get(key) for key in asked} == asked:
                if left["error"]:
                    raise (ContractError if left["exit_code"] == ContractError.exit_code else EngineError)(left["error"])
                return Workspace(folder).judge_again(path)
            try:
                report = Workspace(folder).check(opened, only=asked["only"], parallel=option("logitproof_parallel"))
            except LogitproofError as error:
                write_atomically(record, json.dumps({**asked, "error": str(error), "exit_code": error.exit_code}))
                raise
            write_atomically(record, json.dumps({**asked, "error": ""}))
            return report


_RUNS = pytest.StashKey[_Runs]()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time in a run folder; the lock ends with the process that holds it."""
    from logitproof.files.atomic import environment_errors

    with environment_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".pytest.lock").open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(path: Path) -> dict[str, Any]:
    from logitproof.errors import ContractError
    from logitproof.files.untrusted import read_object

    try:
        return read_object(path)
    except ContractError:
        return {}


def _is_of_whole_prompts(metric: str) -> bool:
    from logitproof import catalog
    from logitproof.metrics import PromptMetric

    return issubclass(catalog.load("metrics", metric), PromptMetric)


def _measured(report: Report, cell_id: str) -> CellVerdict:
    """The verdict on a cell that something was measured of; everything else is no pass."""
    cell = next((verdict for verdict in report.verdict.cells if verdict.cell.id == cell_id), None)
    if cell is None:
        reason = next(
            (entry.reason for entry in report.verdict.unmeasured if entry.cell == cell_id), "the run says nothing of it"
        )
        if any(fnmatch.fnmatchcase(cell_id, glob) for glob in report.opened.contract.may_be_unmeasured):
            pytest.skip(f"NOT-MEASURED, by leave of may_be_unmeasured: {reason}")
        raise GateFailed(f"NOT-MEASURED: {cell_id}: {reason}\nremedy: make it measurable, or name it in may_be_unmeasured")
    if cell.status in ("ENGINE ERROR", "SET-UP ERROR"):
        raise NothingProven(_cell_text(cell, cell.status))
    if cell.status == "NOT-MEASURED":
        raise GateFailed(_cell_text(cell, "NOT-MEASURED"))
    return cell


def _gate_text(gate: GateVerdict) -> str:
    lines = [
        f"{gate.id}: observed {gate.observed:.6g}, allowed {gate.operator} {gate.bound:.6g} in {gate.cell}",
        f"  what      {gate.statistic} of {gate.metric} over {gate.scope}, {gate.positions} values",
        f"  where     {gate.where}",
        f"  basis     {gate.basis}",
        *(f"  if fails  {step}" for step in gate.if_fails),
    ]
    return "\n".join(lines)


def _cell_text(cell: CellVerdict, status: str) -> str:
    reason = "" if cell.failures else cell.reason
    lines = [f"{status}: {cell.cell.id}{': ' if reason else ''}{reason}"]
    for failure in dict.fromkeys((failure.text, failure.where, failure.remedy) for failure in cell.failures[:SHOWN_FAILURES]):
        lines += [f"  {label:9} {text}" for label, text in zip(("said", "where", "remedy"), failure, strict=True) if text]
    counts = ", ".join(f"{count} {name}" for name, count in cell.counts.items())
    if counts:
        lines.append(f"  positions {counts}")
    if cell.band and not cell.failures:
        lines.append(f"  allowed   RMS of the logit difference at most {cell.band.wrong:g}: {cell.band.basis}")
    return "\n".join(lines)


def _whole_text(report: Report, status: str) -> str:
    verdict = report.verdict
    lines = [f"{status}: {report.opened.contract.contract}, exit code {verdict.exit_code}"]
    lines += [f"  {cell.status:12} {cell.cell.id}: {cell.reason}" for cell in verdict.cells if not cell.as_expected]
    lines += [f"  {'NOT-MEASURED':12} {entry.cell}: {entry.reason}" for entry in verdict.unmeasured]
    lines += [f"  gate {gate.id}: {gate.reason}" for gate in verdict.gates if gate.status == "ERROR" and not gate.cell]
    return "\n".join(lines)
