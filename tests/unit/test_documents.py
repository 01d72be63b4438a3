"""An answer is laid out without losing a fact, whatever an engine wrote into it, and its JSON has one envelope."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from click.testing import CliRunner
from rich.console import Console

from logitproof.acid import row as acid_row
from logitproof.acid import text as acid_text
from logitproof.acid.row import AcidReport, Measured
from logitproof.calibration import parts_text
from logitproof.calibration.decompose import Parts
from logitproof.cli import main
from logitproof.commands import _progress, _say
from logitproof.commands._schemas import ANSWERS
from logitproof.conformance import conformance
from logitproof.conformance import text as conformance_text
from logitproof.conformance.conformance import Conformance
from logitproof.diagnosis import text as diagnosis_text
from logitproof.diagnosis.found import Diagnosis, Mutant
from logitproof.documents import console, html, markdown, pages, step_summary, stored
from logitproof.documents.answer import Answer
from logitproof.documents.document import Document
from logitproof.documents.section import Chart, Column, Explorer, Field, Grid, GridLine, Line, Row, Series, Table, Text, Verdict
from logitproof.documents.wording import visible
from logitproof.jobs.amx_trap import Trap
from logitproof.jobs.doctor import EngineState, Examination
from logitproof.jobs.progress import Progress
from logitproof.kernels import text as kernels_text
from logitproof.kernels.kernel import Kernel
from logitproof.localization import localize as localization
from logitproof.localization import text as localize_text
from logitproof.localization.hypotheses import Hypothesis
from logitproof.localization.located import Located, Locations
from logitproof.report import schema
from logitproof.runs import pins_text
from logitproof.runs.pins import Difference
from logitproof.traces.trace import Failure

EVIL = "boom \x1b[2J\x1b]0;owned\x07 <script>alert(1)</script>\n::error::owned\r\n##[error]x \u202e | `tick` *bold*"
WRAPPED = "A" * 36 + " ::error::owned " + "B" * 30 + "::Add-Mask::x ::stop-commands::y"
RENDERERS: dict[str, Callable[[Document], str]] = {
    "console": console.text,
    "terminal": lambda page: _terminal(page),
    "markdown": markdown.text,
    "html": html.whole,
    "fragment": Document._repr_html_,
    "notebook": Document._repr_markdown_,
}


def document(text: str) -> Document:
    """A document with the same foreign text in every place that holds one."""
    line = (Line(text, "bad"), Line(text, level=1))
    rows = (Row((text, text, text), "bad", (Line(text),)), Row(("short", "1", "")))
    table = Table((Column(text), Column("n", "number"), Column("c", "code")), rows, text)
    grid = Grid((text,), (GridLine(text, (Field(text, text, "wrong"),)),), (("wrong", text),), text, text)
    chart = Chart("lines", (Series(text, ((0.0, 1.0), (1.0, 2.0))),), text, text, text, text)
    dots = Chart("points", (Series(text, ((1.0, 2.0),)),), text, text, text, text, logarithmic=True)
    sections = (Text(line, text), Text(line, verbatim=True), table, grid, chart, dots)
    return Document(text, Verdict(text, text, "bad"), sections, text)


def _terminal(page: Document) -> str:
    sheet = io.StringIO()
    console.show(page, Console(file=sheet, width=80, force_terminal=False))
    return sheet.getvalue()


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize("text", [EVIL, WRAPPED], ids=["evil", "wrapped"])
def test_nothing_that_an_engine_says_reaches_a_reader_as_a_command(name: str, text: str) -> None:
    shown = RENDERERS[name](document(text))
    assert not set(shown) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "::error" not in shown.lower() and "::add-mask" not in shown.lower() and "::stop" not in shown.lower()
    assert "##[" not in shown


@pytest.mark.parametrize("name", RENDERERS)
def test_every_fact_is_in_every_layout(name: str) -> None:
    lines = (Line("a line"), Line("an item", level=1), Line("a deeper item", level=2))
    table = Table(
        (Column("what"), Column("how far", "number")), (Row(("row one", "1.25"), notes=(Line("a remark"),)),), "a table"
    )
    grid = Grid(("up",), (GridLine("layer 0", (Field("-3", "own error"),)),), (), "in words", "a picture")
    bars = Chart("bars", (Series("cell", ((0, 2.0), (1, 3.0))),), "across", "upwards", "bars in words", "a chart")
    sections = (Text(lines, "a title"), table, grid, bars, Explorer({"cells": []}, "explored in words", "an explorer"))
    shown = RENDERERS[name](Document("the question", Verdict("WRONG", "the reason", "bad"), sections, "logitproof next"))
    facts = [
        "the question",
        "WRONG",
        "the reason",
        "a title",
        "a line",
        "an item",
        "a deeper item",
        "a table",
        "what",
        "how far",
    ]
    facts += ["bars in words", "a chart", "explored in words", "an explorer"]
    facts += ["row one", "1.25", "a remark", "a picture", "in words", "logitproof next"]
    assert [fact for fact in facts if fact not in shown] == []


def test_a_detail_is_on_pages_and_not_on_the_terminal() -> None:
    page = Document("q", Verdict("v", ""), (Text((Line("hidden depth"),), detail=True),))
    assert "hidden depth" not in console.text(page)
    assert "hidden depth" in markdown.text(page) and "hidden depth" in html.whole(page)


def test_a_row_with_a_cell_too_few_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        Table((Column("a"), Column("b")), (Row(("only",)),))


def test_numbers_stand_under_one_another() -> None:
    table = Table((Column("name"), Column("n", "number")), (Row(("a", "1.5")), Row(("漢字", "100.5"))))
    lines = console.text(Document("q", Verdict("v", ""), (table,))).splitlines()
    assert lines[2:5] == ["name      n", "a       1.5", "漢字  100.5"]
    assert "|---|---:|" in markdown.text(Document("q", Verdict("v", ""), (table,)))


def test_the_html_is_well_formed_and_fetches_nothing() -> None:
    parser = Tags()
    page = html.whole(document(EVIL))
    parser.feed(page)
    assert parser.open == [] and not {"script", "img", "link", "iframe"} & parser.seen
    assert "default-src 'none'" in page and "prefers-color-scheme: dark" in page


@pytest.mark.parametrize("text", ["<svg onload=x>", "]]></style><script>x</script>", '" onload="x'])
def test_what_stands_in_a_picture_is_text(text: str) -> None:
    parser = Tags()
    parser.feed(html.whole(document(text)))
    assert parser.open == [] and "script" not in parser.seen and "onload" not in parser.attributes
    for section in document(text).sections:
        if isinstance(section, Grid | Chart):
            root = ElementTree.fromstring(pages.svg(section))
            assert not [element for element in root.iter() if "script" in element.tag or "onload" in element.attrib]
            assert text in "".join(root.itertext())


def test_a_page_runs_its_own_script_and_no_other() -> None:
    data = {"cells": [], "text": "</script><script>alert(1)</script><!--"}
    parser = Tags()
    page = html.whole(Document("q", Verdict("v", ""), (Explorer(data, "alt"),)))
    parser.feed(page)
    digest = base64.b64encode(hashlib.sha256((html.asset("tables.js") + html.asset("page.js")).encode()).digest()).decode()
    assert parser.open == [] and page.count("<script") == 2
    policy = page.partition('content="')[2].partition('content="')[2].partition('"')[0].split("; ")
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert "<script" not in html.fragment(Document("q", Verdict("v", ""), (Explorer(data, "alt"),)))


def test_pages_lie_beside_one_another_with_their_pictures(tmp_path: Path) -> None:
    path = pages.write_pages(document("a | b"), tmp_path)
    assert path.name == "report.html" and {file.name for file in tmp_path.iterdir()} == {
        "report.html", "report.md", "report-4.svg", "report-5.svg", "report-6.svg"
    }  # fmt: skip
    assert "](report-4.svg)" in (tmp_path / "report.md").read_text("utf-8")


def test_an_answer_about_a_run_is_kept_for_that_run_only(tmp_path: Path) -> None:
    kept = stored.Kept("localize", "run-1", document("<b>"))
    stored.keep(kept, tmp_path)
    (tmp_path / "answers" / "damaged.json").write_text('{"kind": 1}', "utf-8")
    assert stored.kept_answers(tmp_path, "run-1") == [kept]
    assert stored.kept_answers(tmp_path, "run-2") == []


def test_a_step_summary_is_written_where_github_listens_and_small_enough(tmp_path: Path) -> None:
    target = tmp_path / "summary.md"
    page = Document("q", Verdict("v", "", "good"), (Text(tuple(Line("x" * 1000) for _ in range(2000))),))
    step_summary.append(page, {"GITHUB_STEP_SUMMARY": str(target)})
    assert not target.exists()
    step_summary.append(page, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(target)})
    text = target.read_text("utf-8")
    assert text.startswith("## q\n\n✔ **v**") and len(text.encode()) < 1_000_000 and "cut here" in text


def test_a_line_of_progress_is_one_line_without_commands(capsys: pytest.CaptureFixture[str]) -> None:
    _say.say(EVIL)
    _say.say(WRAPPED)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and not any("\x1b" in line or "::error" in line or "##[" in line for line in lines)


def test_a_failure_of_an_engine_is_one_line_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the prompt's id, or the engine's words, hold a newline, an escape or a command."""
    for text in (EVIL, WRAPPED):
        job = SimpleNamespace(model=SimpleNamespace(name="m"), kind="score", mode="prefill", prompt=SimpleNamespace(id=text))
        with _progress.shown_progress() as on_progress:
            on_progress(Progress(1, 1, job, Failure("k", "e\x1b[0m", "engine", text)))  # type: ignore[arg-type]
        (line,) = capsys.readouterr().err.splitlines()
        assert "FAILED" in line and "\x1b" not in line and "::error" not in line and "##[" not in line


def test_an_error_keeps_its_lines_and_loses_its_commands(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["verify", str(tmp_path / "a\x1b[31m\n::error::x.yaml")])
    assert done.exit_code == 2 and "error: " in done.output
    assert "\x1b" not in done.output and "::error" not in done.output


def test_names_of_other_languages_and_of_cpp_are_left_alone() -> None:
    for text in ("Größe 漢字 ✔", "std::bad_alloc", "llama::error_code", "a # b ## c", "C:\\dir"):
        assert visible(text) == text


def test_an_answer_has_its_envelope_on_top_and_no_number_that_json_lacks() -> None:
    answer = Answer("lint", "a.yaml", 2, {"value": math.inf, "rows": (math.nan, {"path": Path("x")}, Line("y"))})
    read = json.loads(answer.text())
    assert list(read)[:6] == ["format", "kind", "version", "made_at", "about", "exit_code"]
    assert read["value"] is None and read["rows"] == [None, {"path": "x"}, {"text": "y", "tone": "plain", "level": 0}]
    with pytest.raises(ValueError, match="kind stands in the envelope"):
        Answer("lint", "a", 0, {"kind": "other"}).as_json()
    assert Answer("kernels", "m", 0, {"made_at": "then"}).as_json()["made_at"] == "then"


def test_what_github_would_obey_is_the_same_text_when_json_is_read(tmp_path: Path) -> None:
    answer = Answer("lint", EVIL, 0, {"value": WRAPPED})
    text = answer.write(tmp_path / "a.json").read_text("utf-8")
    assert "##[" not in text and "::error" not in text
    assert json.loads(text)["about"] == EVIL and json.loads(text)["value"] == WRAPPED


class Tags(HTMLParser):
    """Which elements a page has, and which are still open at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def answered(*words: str, kind: str) -> dict[str, Any]:
    """The JSON that a command prints, which fits the published schema of its kind."""
    done = CliRunner().invoke(main, [*words, "--json"])
    read: dict[str, Any] = json.loads(done.stdout)
    assert read["kind"] == kind and read["exit_code"] == done.exit_code, done.stderr
    fits(read)
    return read


def fits(read: dict[str, Any]) -> None:
    assert read["kind"] in ANSWERS
    published = json.loads(schema.path(read["kind"]).read_text("utf-8"))
    jsonschema.Draft202012Validator(published).validate(read)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(published).validate({**read, "exit_code": "0"})


def test_what_commands_print_as_json_fits_the_published_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.json").write_text('{"vocab_size": 300, "seed": 1}')
    (tmp_path / "two.yaml").write_text("suite: two\nmax_new_tokens: 3\nprompts: [{id: a, text: hello}, {id: b, text: world}]\n")
    for name, noise in (("one", "noise=0.0"), ("other", "noise=1.0e-6")):
        done = CliRunner().invoke(main, ["capture", "toy", "toy.json", "two.yaml", "--out", name, "-o", noise])
        assert done.exit_code == 0, done.output
    answered("list", "engines", kind="list")
    answered("mutations", "show", "rope.base", kind="mutation")
    answered("lint", "missing.yaml", kind="lint")
    answered("engines", "list", "--into", str(tmp_path), kind="engines")
    answered("compare", "one", "other", kind="compare")
    for name in ("one", "other"):
        answered("freeze", name, "--out", f"{name}.golden", "--no-determinism", kind="freeze")
    answered("compare", "one.golden", "other.golden", kind="compare")


def test_answers_that_take_long_to_get_fit_their_schemas() -> None:
    for answer in long_ones():
        fits(json.loads(answer.text()))


def long_ones() -> list[Answer]:
    """Answers of questions that need real engines, made of their own nouns, with numbers that JSON lacks."""
    measured = (Measured("c", "prefill", math.inf, 0, 1.0), Measured("c", "decode", 0.0, 0, None))
    acid = AcidReport("e", {"a": 1}, {"e": "1"}, "F32", (acid_row.Row("p", "probe", "FAIL", measured=measured),), 1.0)
    mutant = Mutant("rope.base", {"base": 1.0}, 0.5)
    diagnosis = Diagnosis("named", 1.0, 0.1, (mutant,), 1, together=(mutant, mutant), positions=((0, 1),))
    row = localization.Row("layers.0.attn.q", math.inf, None, 1e-7, "differs")
    found = localization.Localization("located", (row,), (localization.Growth("layers.0.out", (1.0, 2.0), (1.0, 2.0)),))
    bug = Hypothesis("layers.0.attn.q", "rope.base", {}, 0.1, True, "look")
    stage = localization.Stage("layers.0.attn.q", "b", 1.0, 0.1, True)
    locations = Locations("r", (1, 2), "prefill", (Located("c", "float32", found, (bug,)),), (stage,))
    numbers = {"kl_divergence": 1.0, "rms_delta_logit": math.nan}
    parts = Parts("c", 3, numbers, numbers, numbers, {"kl_divergence": (0.0, 1.0), "rms_delta_logit": (0.0, 1.0)})
    kernel = Kernel("torch", "matmul", "q", "float32", (1, 2), 1e-7, 1e-6, None, 1.0, 2.0)
    kernels = {"model": "m", "sha256": "0", "tokens": 3, "machine": "x", "versions": {}, "isa": {}, "kernels": [vars(kernel)]}
    machine = Examination({"cores": 2}, (EngineState("toy", {}, {}, pins={"avx2": "x"}),), Trap("untested", "no"))
    return [
        acid_text.answer(acid),
        diagnosis_text.answer({"cell": diagnosis}, "run"),
        localize_text.answer(locations),
        Answer("localizations", "run", 1, {"cell": locations.as_json()}),
        parts_text.answer([parts], "run"),
        kernels_text.answer({**kernels, "not_measured": []}),
        conformance_text.answer(Conformance("e", (conformance.Row("hello", "PASS", "said"),))),
        Answer("doctor", "this machine", 3, machine.as_json()),
        pins_text.answer(Path("p"), [Difference("a", "b", "c", "d")]),
    ]
