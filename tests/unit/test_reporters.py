"""Every reporter on every status; and nothing that a prompt, a token or an engine says breaks a file."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console as Terminal

from logitproof import catalog
from logitproof.comparison.compare import compare
from logitproof.contract.contract import Contract
from logitproof.contract.opened import OpenContract
from logitproof.contract.suite import Prompt, Suite
from logitproof.documents.console import show
from logitproof.errors import ContractError
from logitproof.golden.text import of_comparison
from logitproof.jobs.cell import Cell, Pair, Unmeasured
from logitproof.jobs.plan import Plan
from logitproof.preflight import Examined, Finding, Preflight, Setting
from logitproof.report import schema
from logitproof.report.report import Report, provenance
from logitproof.reporters.console import renderable
from logitproof.traces.trace import Failure, Trace
from logitproof.verdict.case import Case, band_of
from logitproof.verdict.compared import Compared
from logitproof.verdict.judge import judge

V, T = 12, 6
NASTY = "|`<script>alert(1)</script>\n# h\n- [x](y) \x1b[31m\x00\x9b2J\u2028\u202e\ud800 &amp; **b** \\| `` ~~~\r\n```"


@dataclass(frozen=True)
class Words:
    """Every text of a report that somebody else chooses."""

    prompt: str = "the prompt"
    token: str = "token"
    error: str = "the engine died\nlast words: segmentation fault"
    remedy: str = "start it again"
    basis: str = "a reason of some length"
    step: str = "look at the mask"
    name: str = "mine"

    @classmethod
    def all(cls, text: str) -> Words:
        """The same text everywhere; YAML lets no lone surrogate into a contract, and blank text leaves no paragraph."""
        said = text if text.split() else "x"
        written = said.encode("utf-8", "replace").decode()
        return cls(text, text, said, said, f"ten letters {written}", written, f"n{written}".replace("/", ""))


@dataclass
class Built:
    """A report in the making: one prompt a row, cells by what happens in them."""

    words: Words = field(default_factory=Words)
    compared: dict[Cell, list[Compared]] = field(default_factory=dict)
    results: dict[str, Trace | Failure] = field(default_factory=dict)
    unmeasured: list[Unmeasured] = field(default_factory=list)

    def add(self, what: str, *, candidate: str = "", mode: str = "prefill") -> Built:
        cell = Cell(candidate or self.words.name, "m", what, mode, "native", "transformers", "mine (llamacpp)")
        pair = Pair("s", 0, self.prompt, f"{cell.id} s", f"{cell.id} r", f"{cell.id} c", None)
        cell = replace(cell, pairs=(pair,))
        self.compared[cell] = [] if what == "nothing" else [self._row(what, pair, mode)]
        return self

    @property
    def prompt(self) -> Prompt:
        return Prompt(id=f"p{self.words.prompt}", text=f"t{self.words.prompt}")

    def _row(self, what: str, pair: Pair, mode: str) -> Compared:
        if what in ("setup", "engine", "environment"):
            failure = Failure(pair.candidate, "llamacpp", what, self.words.error, self.words.prompt, self.words.remedy)  # type: ignore[arg-type]
            self.results[pair.candidate] = failure
            return Compared(pair, failure=failure)
        reference = np.random.default_rng(1).normal(size=(T, V)).astype(np.float32) * 3
        candidate = np.roll(reference, 1, axis=1) if what == "wrong" else reference + np.float32(1e-6)
        if mode != "greedy":
            for key, logits in ((pair.reference, reference), (pair.candidate, candidate)):
                self.results[key] = Trace(key, "score", "e", mode, list(range(T)), 3, logits)
            return Compared(pair, 3, compare(reference, candidate, labels=[*range(1, T), -1]))
        ours = list(range(T))
        theirs = ours if what == "match" else [0, 1, 9, 9]
        for key, new, logits in ((pair.reference, ours, reference), (pair.candidate, theirs, candidate)):
            self.results[key] = Trace(key, "generate", "e", mode, [0, 1], 2, logits[: len(new)], new, "text")
        rows = T if what == "match" else 3
        whole = {"greedy_match_10": float(what == "match"), "first_divergence": float(rows)}
        return Compared(pair, 0, compare(reference[:rows], candidate[:rows], labels=ours[:rows]), None, whole)

    def report(self, **changes: Any) -> Report:
        contract = Contract.model_validate(
            {
                "contract": "one",
                "about": self.words.step,
                "reference": {"engine": "transformers"},
                "candidates": {self.words.name: {"engine": "llamacpp"}, "bug": {"engine": "transformers", "expect": "WRONG"}},
                "models": {"m": {"original": "m"}},
                "suites": ["s"],
                "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": self.words.basis}],
                "gates": [
                    {"id": f"kl{self.words.name}", "metric": "kl_divergence", "at_most": 1e-6, "basis": self.words.basis,
                     "if_fails": [self.words.step], "where": {"mode": ["prefill", "decode"]}},
                ],
                **changes,
            }
        )  # fmt: skip
        opened = OpenContract(Path("c.yaml"), contract, {}, (Suite(suite="s", prompts=[self.prompt]),))
        cases = [Case(cell, rows, band_of(contract, cell)) for cell, rows in self.compared.items()]
        verdict = judge(cases, contract, self.unmeasured)
        texts = {"m": {str(token): self.words.token for token in range(V)}}
        plan = Plan((), tuple(self.compared), tuple(self.unmeasured))
        facts = {"run_id": "0", **provenance(opened, plan, self.results, {}), **self.facts()}
        return Report(opened, verdict, self.compared, self.results, texts, facts)

    def facts(self) -> dict[str, Any]:
        """What preflight found, with a finding by leave, and a run of the reference that failed."""
        said = self.words
        found = Finding("PF201", said.name, said.token, said.error, said.prompt, said.step, said.remedy, said.basis)
        settings = (Setting(said.name, said.token, said.error, "differs", said.step, "config"),)
        pairs = (Examined(said.name, "m", "match", settings, (found,), (found,), said.basis),)
        failed = {
            "model": "m",
            "weights": "original",
            "mode": "prefill",
            "run": said.name,
            "metrics": {},
            "failure": said.error,
        }
        return {"run_id": "run-1", "preflight": Preflight(pairs, {"m": 1}).as_json(), "reference_error": [failed]}


def everything(words: Words | None = None) -> Built:
    built = Built(words or Words())
    for what in ("match", "wrong", "engine", "setup", "environment", "nothing"):
        built.add(what)
    built.add("match", mode="greedy").add("wrong", mode="greedy")
    built.add("wrong", candidate="bug").add("match", candidate="bug")
    built.unmeasured.append(Unmeasured("mine/m/Q8_0/decode", f"no decode {built.words.step}"))
    return built


def render_all(report: Report, folder: Path) -> dict[str, str]:
    """Every file that every reporter writes, by name."""
    for name in catalog.entries("reporters"):
        assert catalog.load("reporters", name)().render(report, folder).parent == folder
    assert not [path for path in folder.iterdir() if path.name.startswith(".")], "half-written files were left"
    return {path.name: path.read_bytes().decode("utf-8") for path in folder.iterdir() if path.suffix != ".parquet"}


def screen(report: Report, width: int, **options: Any) -> str:
    page = io.StringIO()
    terminal = Terminal(file=page, width=width, legacy_windows=False, **options)
    terminal.print(renderable(report, Path("runs/one/report.md"), "logitproof check c.yaml", width=width))
    return page.getvalue()


def cases(xml: str) -> list[ET.Element]:
    return list(ET.fromstring(xml).iter("testcase"))


def outcome(case: ET.Element) -> str:
    return next((child.tag for child in case), "pass")


def structure(markdown: str) -> list[str]:
    """What a Markdown reader makes of a file, block by block; an inline HTML element would show."""
    tokens = MarkdownIt("commonmark").enable("table").enable("strikethrough").parse(markdown)
    inline = {child.type for token in tokens for child in token.children or ()}
    assert not {"html_inline", "link_open", "em_open", "s_open"} & inline
    images = [child.attrs["src"] for token in tokens for child in token.children or () if child.type == "image"]
    assert images == [f"report-{number}.svg" for number in range(1, len(images) + 1)], "every picture is one of ours"
    return [token.type for token in tokens]


STATUSES: Sequence[tuple[Mapping[str, Any], str, int, str]] = [
    ({"what": "match"}, "PASS", 0, "MATCH"),
    ({"what": "match", "mode": "decode"}, "PASS", 0, "MATCH"),
    ({"what": "wrong"}, "FAIL", 1, "WRONG"),
    ({"what": "engine"}, "ERROR", 3, "ENGINE ERROR"),
    ({"what": "environment"}, "ERROR", 3, "ENGINE ERROR"),
    ({"what": "setup"}, "ERROR", 2, "SET-UP ERROR"),
    ({"what": "nothing"}, "ERROR", 3, "NOT-MEASURED"),
    ({"what": "wrong", "candidate": "bug"}, "PASS", 0, "WRONG"),
    ({"what": "match", "candidate": "bug"}, "FAIL", 1, "MATCH"),
]


@pytest.mark.parametrize(("cell", "whole", "exit_code", "status"), STATUSES)
def test_every_file_tells_the_same_status(
    tmp_path: Path, cell: dict[str, Any], whole: str, exit_code: int, status: str
) -> None:
    built = Built().add(**cell)
    # nothing but a control proves nothing, so an honest engine stands beside it
    report = (built.add("match") if "candidate" in cell else built).report()
    assert (report.verdict.status, report.verdict.exit_code) == (whole, exit_code)
    files = render_all(report, tmp_path)
    verdict = json.loads(files["verdict.json"])
    assert (verdict["status"], verdict["exit_code"], verdict["cells"][0]["status"]) == (whole, exit_code, status)
    assert files["report.md"].startswith(f"# {whole}: one")
    assert f"**{status}**" in files["report.md"]
    assert status in files["console.txt"]
    assert [line for line in files["console.txt"].splitlines() if line[2:].startswith(f"{whole}  ")]
    assert f"<strong>{whole}</strong>" in files["report.html"] and status in files["report.html"]
    bad = {outcome(case) for case in cases(files["junit.xml"])} - {"pass", "skipped"}
    assert bool(bad) == (whole != "PASS"), "CI must see what the exit code says"
    assert "error" in bad or whole != "ERROR"


def test_the_verdict_fits_its_schema(tmp_path: Path) -> None:
    verdict = json.loads(render_all(everything().report(), tmp_path)["verdict.json"])
    jsonschema.Draft202012Validator(json.loads(schema.path("verdict").read_text("utf-8"))).validate(verdict)
    assert verdict["cells"][0]["metrics"]["kl_divergence"]["mean"] is not None
    assert {cell["status"] for cell in verdict["cells"]} == {"MATCH", "WRONG", "ENGINE ERROR", "SET-UP ERROR", "NOT-MEASURED"}


def test_what_is_not_finite_is_null_in_json(tmp_path: Path) -> None:
    report = Built().add("match").report()
    report = replace(report, facts={**report.facts, "seconds": float("nan"), "jobs": [float("inf"), 1.5]})
    verdict = json.loads(render_all(report, tmp_path)["verdict.json"], parse_constant=lambda name: pytest.fail(name))
    assert verdict["seconds"] is None
    assert verdict["jobs"] == [None, 1.5]


def test_a_failing_position_is_one_line_with_both_top_fives(tmp_path: Path) -> None:
    lines = render_all(Built(Words(token="Лёд")).add("wrong").add("engine").report(), tmp_path)["failures.jsonl"].splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == T + 1
    first = records[0]
    assert (first["model"], first["quantization"], first["prompt_idx"], first["token_idx"]) == ("m", "wrong", 0, 0)
    assert len(first["top5_reference"]) == len(first["top5_candidate"]) == 5
    assert first["top5_reference"][0]["text"] == "Лёд"
    assert "Лёд" in lines[0], "grep finds letters"
    assert first["label"] == {"id": 1, "text": "Лёд"}
    assert records[T - 1]["label"] is None
    assert first["delta"] > 0
    assert records[-1]["token_idx"] is None
    assert "segmentation fault" in records[-1]["error"]


def test_positions_hold_every_compared_position_with_its_place(tmp_path: Path) -> None:
    report = everything().report()
    render_all(report, tmp_path)
    table = pq.read_table(tmp_path / "positions.parquet")
    assert table.num_rows == sum(
        row.comparison.positions for rows in report.compared.values() for row in rows if row.comparison
    )
    assert {"candidate", "model", "quantization", "mode", "isa", "suite", "prompt_idx", "prompt_id", "status"} < set(
        table.column_names
    )
    wrong = table.filter(np.array(table["quantization"].to_pylist()) == "wrong")
    assert "WRONG" in wrong["status"].to_pylist()
    assert table["kl_divergence"].null_count == 0


def test_nothing_compared_still_writes_a_table_that_can_be_read(tmp_path: Path) -> None:
    render_all(Built().add("engine").report(), tmp_path)
    table = pq.read_table(tmp_path / "positions.parquet")
    assert table.num_rows == 0
    assert {"candidate", "status", "position"} <= set(table.column_names)


def test_a_control_that_is_caught_passes_and_one_that_is_not_fails(tmp_path: Path) -> None:
    files = render_all(Built().add("match").add("wrong", candidate="bug").report(), tmp_path)
    found = {case.get("classname"): outcome(case) for case in cases(files["junit.xml"]) if "status" in case.get("name", "")}
    assert found == {"mine/m/match/prefill": "pass", "bug/m/wrong/prefill": "pass"}
    assert "control: as planted" in files["report.md"]
    assert "it was caught" in files["console.txt"]
    files = render_all(Built().add("match").add("match", candidate="bug").report(), tmp_path)
    found = {case.get("classname"): outcome(case) for case in cases(files["junit.xml"]) if "status" in case.get("name", "")}
    assert found["bug/m/match/prefill"] == "failure"
    assert "not caught" in files["report.md"]
    assert "would miss a planted bug" in files["console.txt"]
    assert "✘ MATCH *" in files["console.txt"], "a tick would read as success"


def test_a_failed_gate_says_observed_allowed_where_and_what_to_do(tmp_path: Path) -> None:
    files = render_all(Built().add("wrong").report(), tmp_path)
    text = next(case.findtext("failure") or "" for case in cases(files["junit.xml"]) if "kl_divergence" in case.get("name", ""))
    for said in ("observed", "at_most 1e-06", "worst at prompt pthe prompt, position", "basis: a reason", "look at the mask"):
        assert said in text
    for name in ("report.md", "console.txt"):
        assert "worst at prompt" in " ".join(files[name].split())
        assert "look at the mask" in files[name]


def test_an_error_shows_its_last_words_and_its_remedy(tmp_path: Path) -> None:
    for text in (
        *(f for n, f in render_all(Built().add("engine").report(), tmp_path).items() if n in ("report.md", "console.txt")),
    ):
        assert "segmentation fault" in text
        assert "start it again" in text


def test_what_may_not_be_unmeasured_is_no_success_for_ci(tmp_path: Path) -> None:
    built = Built().add("match")
    built.unmeasured.append(Unmeasured("mine/m/Q8_0/decode", "the engine does not offer decode"))
    report = built.report()
    assert report.verdict.status == "ERROR"
    files = render_all(report, tmp_path)
    assert "error" in {outcome(case) for case in cases(files["junit.xml"])}
    for name in ("report.md", "console.txt"):
        assert "does not offer decode" in " ".join(files[name].split())


def test_free_running_texts_are_shown_with_the_token_where_they_part(tmp_path: Path) -> None:
    markdown = render_all(Built().add("wrong", mode="greedy").report(), tmp_path)["report.md"]
    assert "2 tokens in common: `tokentoken`" in markdown
    assert "reference goes on: `tokentokentokentoken`" in markdown
    assert "candidate goes on: `tokentoken`" in markdown
    assert markdown.count("top 5: `token`") == 2


def test_names_of_junit_are_the_same_whatever_came_of_them(tmp_path: Path) -> None:
    """A CI system shows a history by name; a status in it would begin another one."""
    names, times = [], []
    for what in ("match", "wrong", "engine"):
        built = Built().add("match")
        cell = next(iter(built.compared))
        built.compared[cell] = [built._row(what, cell.pairs[0], "prefill")]
        root = ET.fromstring(render_all(built.report(), tmp_path)["junit.xml"])
        names.append([(case.get("classname"), case.get("name")) for case in root.iter("testcase")])
        times += [element.get("time") for kind in ("testcase", "testsuite") for element in root.iter(kind)]
        assert all(datetime.fromisoformat(suite.get("timestamp") or "").tzinfo is None for suite in root.iter("testsuite"))
    assert names[0] == names[1] and {names[0][0], ("contract", "verdict")} <= set(names[0]) & set(names[2])
    assert all(time is not None and float(time) >= 0 for time in times)


def test_positions_are_a_table_of_arrow_and_a_frame_of_polars(tmp_path: Path) -> None:
    report = everything().report()
    render_all(report, tmp_path)
    table = report.positions()
    written = pq.read_table(tmp_path / "positions.parquet")
    assert str(written.to_pylist()) == str(table.to_pylist()) and written.column_names == table.column_names
    assert report.positions("polars").shape == (table.num_rows, table.num_columns)
    with pytest.raises(ContractError, match="arrow, pandas or polars"):
        report.positions("excel")  # type: ignore[arg-type]


def test_a_report_shows_itself_in_a_notebook() -> None:
    report = everything(Words.all(NASTY)).report()
    shown, written = report._repr_html_(), report._repr_markdown_()
    assert shown.startswith("<style>") and "<script" not in shown and "WRONG" in shown
    laid_out = MarkdownIt("commonmark", {"html": True}).enable("table").render(written)
    assert "WRONG" in laid_out and "<script" not in laid_out and "\x1b" not in written and "::error" not in written


def test_counts_of_junit_are_those_of_its_cases(tmp_path: Path) -> None:
    root = ET.fromstring(render_all(everything().report(), tmp_path)["junit.xml"])
    for suite in root.iter("testsuite"):
        outcomes = [outcome(case) for case in suite.iter("testcase")]
        said = [int(suite.get(name, "-1")) for name in ("tests", "failures", "errors", "skipped")]
        assert said == [len(outcomes), *(outcomes.count(kind) for kind in ("failure", "error", "skipped"))]


@pytest.mark.parametrize("width", [20, 40, 80, 96, 200])
def test_the_screen_fits_its_width_and_loses_no_status(width: int) -> None:
    text = screen(everything().report(), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for status in ("MATCH", "WRONG", "ENGINE ERROR", "SET-UP ERROR", "NOT-MEASURED") if width >= 40 else ("MATCH", "WRONG"):
        assert status in text
    assert "\x1b" not in text, "no colours where there is no terminal"


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    report = everything().report()
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in screen(report, 100, force_terminal=True, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in screen(report, 100, force_terminal=True)


def test_the_screen_ends_with_the_status_the_report_and_one_command() -> None:
    lines = screen(Built().add("match").report(), 100).splitlines()
    assert "PASS" in lines[-3]
    assert lines[-2] == "report: runs/one/report.md"
    assert lines[-1] == "next:   logitproof check c.yaml"


def test_only_all_is_a_hundred_percent() -> None:
    from logitproof.documents.wording import percent

    assert percent(1.0, 1) == "100.0"
    assert percent(0.99999, 1) == "99.9"
    assert percent(0.29, 2) == "29.00"
    assert percent(None, 1) == percent(float("nan"), 1) == "–"


def test_two_captures_are_a_table_too() -> None:
    comparison = compare(np.eye(4, V, dtype=np.float32), np.eye(4, V, dtype=np.float32) * 2, labels=[0] * 4)
    from logitproof.comparison.summary import summarize

    metrics = {"kl_divergence": summarize([comparison.metrics["kl_divergence"]], seed=0)}
    summary = {"reference": "a[red]", "candidate": "b\x1b[2J", "positions": 4, "metrics": metrics}
    page = io.StringIO()
    show(of_comparison(summary), Terminal(file=page, width=80))
    assert "kl_divergence" in page.getvalue()
    assert "[red]" in page.getvalue()
    assert "\x1b" not in page.getvalue()


FOREIGN = st.one_of(
    st.text(st.characters(), min_size=1, max_size=40), st.text("|`<>&\\#-+=*_[]()!~\n\r\t \x1b\x00.1a", min_size=1, max_size=30)
)


@functools.cache
def calm_files() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        return render_all(everything(Words.all("x")).report(), Path(folder))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FOREIGN)
@example(NASTY)
@example("- 1. # | `")
@example("\u2028\u2029\x85\x0b\x0c")
def test_no_text_breaks_a_file(text: str) -> None:
    calm = calm_files()
    with tempfile.TemporaryDirectory() as folder:
        files = render_all(everything(Words.all(text)).report(), Path(folder))
        assert pq.read_table(Path(folder) / "positions.parquet").num_rows == 5 * T + 3
    assert structure(files["report.md"]) == structure(calm["report.md"])
    assert len(cases(files["junit.xml"])) == len(cases(calm["junit.xml"]))
    assert len(files["failures.jsonl"].splitlines()) == len(calm["failures.jsonl"].splitlines())
    for line in files["failures.jsonl"].splitlines():
        json.loads(line)
    json.loads(files["verdict.json"])
    for name in ("console.txt", "report.md", "verdict.json", "failures.jsonl"):
        assert all(char == "\n" or char.isprintable() or name.endswith(("json", "jsonl")) for char in files[name])
        assert not any((ord(char) < 0x20 and char != "\n") or 0x7F <= ord(char) < 0xA0 for char in files[name])
