"""What a notebook shows is the page that every other renderer lays out, escaped; and a table of positions is a frame."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from markdown_it import MarkdownIt

from logitproof.comparison.compare import Comparison, compare
from logitproof.comparison.text import KL, STRETCHES
from logitproof.diagnosis.found import Diagnosis, Finding, Mutant
from logitproof.documents import console, html, markdown
from logitproof.documents.document import Document
from logitproof.documents.frames import frame
from logitproof.documents.section import Chart, Table, Text
from logitproof.documents.shown import Shown
from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.localization.hypotheses import Hypothesis
from logitproof.localization.localize import Growth, Localization, Row, localize
from logitproof.localization.located import Located, Locations

ROOT = Path(__file__).parents[2]
EVIL = "boom \x1b[2J <script>alert(1)</script>\n::error::owned\n| `tick` *bold* </style><img src=x onerror=alert(1)>"
TAP = "layers.0.attn.q_proj"


def rows(seed: int = 0, count: int = 12, vocabulary: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, vocabulary)) * 4


def compared(noise: float = 0.5, count: int = 12) -> Comparison:
    reference = rows(count=count)
    return compare(reference, reference + noise * rows(1, count), labels=np.arange(count) % 50)


def diagnosed(text: str = "rope.base", **changes: Any) -> Diagnosis:
    mutants = (Mutant(text, {text: text}, 0.01), Mutant("rope.pairing", {}, 0.4))
    findings = (Finding("scale", text, {}),)
    facts: dict[str, Any] = {"mutants": mutants, "named": 1, "findings": findings, "remedies": (text,), "bugs": (text,)}
    return Diagnosis("named", 2.0, 0.001, **{**facts, **changes})


def localized(text: str = "it looks like its transpose") -> Localization:
    row = Row(TAP, 0.5, 0.4, 1e-7, "differs", text)
    return Localization(
        "located", (row, Row("logits", 0.5, 1e-9, 1e-7, "carried")), (Growth("layers.0.out", (1.0, 2.0), (1.0, 3.0)),)
    )


def located(text: str = "mine") -> Located:
    bug = Hypothesis(TAP, text, {text: text}, 1e-9, 1e-8, text)
    return Located(text, "float32", localized(text), (bug,))


def locations(text: str = "mine") -> Locations:
    return Locations(text, (1, 2, 3), "prefill", (located(text),), notes=(text,))


NOUNS: dict[str, Shown] = {
    "comparison": compared(),
    "diagnosis": diagnosed(),
    "localization": localized(),
    "one candidate": located(),
    "locations": locations(),
}
FOREIGN = {
    "diagnosis": diagnosed(EVIL), "localization": localized(EVIL), "one candidate": located(EVIL), "locations": locations(EVIL)
}  # fmt: skip


@pytest.mark.parametrize("name", NOUNS)
def test_a_notebook_shows_what_every_renderer_lays_out(name: str) -> None:
    noun = NOUNS[name]
    page = noun.as_page()
    assert noun._repr_html_() == html.fragment(page) and noun._repr_markdown_() == markdown.text(page)
    assert page.verdict.status and page.verdict.reason and page.sections and console.text(page)
    for shown in (noun._repr_html_(), noun._repr_markdown_()):
        assert page.verdict.status in shown and "<script" not in shown


@pytest.mark.parametrize("name", FOREIGN)
def test_no_foreign_text_reaches_a_notebook_as_markup_or_as_a_command(name: str) -> None:
    written = FOREIGN[name]._repr_markdown_()
    shown, laid_out = FOREIGN[name]._repr_html_(), MarkdownIt("commonmark", {"html": True}).enable("table").render(written)
    assert "alert(1)" in shown and "alert(1)" in laid_out
    assert not {"\x1b", "\u202e"} & set(written) and "::error" not in written
    for text in (shown, laid_out):
        assert "<script" not in text and "<img" not in text and "\x1b" not in text and "::error" not in text
    assert shown.count("</style>") == NOUNS[name]._repr_html_().count("</style>")


def test_every_noun_that_shows_itself_names_a_module_that_lays_it_out() -> None:
    layouts = {}
    for path in sorted((ROOT / "src" / "logitproof").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id == "LAYOUT"
                and node.value
            ):
                layouts[path.stem, node.lineno] = ast.literal_eval(node.value)
    assert len(layouts) >= 5 and all(callable(importlib.import_module(name).page) for name in layouts.values())


def test_a_class_that_somebody_derives_shows_itself_as_well() -> None:
    class Mine(Comparison):
        pass

    table = compared()
    assert Mine(table.table, table.names)._repr_html_() == table._repr_html_()


def test_a_document_shows_itself_as_it_is() -> None:
    document = NOUNS["diagnosis"].as_page()
    assert isinstance(document, Document) and document.as_page() is document and "<style>" in document._repr_html_()


def test_a_comparison_shows_where_it_is_worst() -> None:
    comparison = compared()
    kl = comparison.metrics[KL]
    page = comparison.as_page()
    (chart,) = [section for section in page.sections if isinstance(section, Chart)]
    assert [value for _, value in chart.series[0].points] == pytest.approx(kl.tolist())
    worst = [section for section in page.sections if isinstance(section, Table)][-1]
    assert [int(row.cells[0]) for row in worst.rows] == np.argsort(-kl)[:5].tolist()
    first = int(np.argmax(kl))
    ids = comparison.table["top5_ids_candidate"][first].as_py()
    assert worst.rows[0].cells[1:] == (str(first), f"{kl[first]:.3g}", *_best(comparison, first)) and len(ids) == 5
    assert f"largest {kl.max():.3g}" in page.verdict.reason and "a verdict needs a contract" in page.verdict.reason


def _best(comparison: Comparison, at: int) -> tuple[str, ...]:
    sides = (comparison.table[f"top5_ids_{side}"][at].as_py() for side in ("reference", "candidate"))
    return tuple(" ".join(map(str, ids)) for ids in sides)


def test_of_many_positions_the_chart_keeps_the_largest_of_each_stretch() -> None:
    comparison = compared(count=3 * STRETCHES + 1)
    (chart,) = [section for section in comparison.as_page().sections if isinstance(section, Chart)]
    values = [value for _, value in chart.series[0].points]
    assert len(values) <= STRETCHES and max(values) == pytest.approx(comparison.metrics[KL].max())


def test_logits_that_are_not_finite_are_no_measurement_in_a_notebook() -> None:
    reference, candidate = rows(), rows() + 0.1
    candidate[3, 7] = np.nan
    page = compare(reference, candidate, labels=[-1] * 12).as_page()
    assert page.verdict.status == "NOT FINITE" and page.verdict.tone == "bad" and "the first is 3" in page.verdict.reason
    nothing = compare(reference, np.full_like(reference, np.nan), labels=[-1] * 12)
    assert nothing.as_page().verdict.status == "NOT FINITE" and "<script" not in nothing._repr_html_()


def test_a_comparison_of_other_metrics_says_that_kl_is_not_measured() -> None:
    from logitproof.comparison.compare import all_metrics

    top1 = {"top1": all_metrics()["top1"]}
    page = compare(rows(), rows(), top1, labels=[-1] * 12).as_page()
    assert "KL is not measured" in page.verdict.reason and not [1 for section in page.sections if isinstance(section, Chart)]


def test_an_infinite_divergence_is_called_infinite() -> None:
    comparison = compared()
    values = comparison.metrics[KL].copy()
    values[2] = np.inf
    table = comparison.table.set_column(comparison.table.column_names.index(KL), KL, pa.array(values))
    page = Comparison(table, comparison.names).as_page()
    worst = [section for section in page.sections if isinstance(section, Table)][-1]
    assert "largest infinite" in page.verdict.reason and worst.rows[0].cells[0] == "2" and worst.rows[0].cells[2] == "infinite"


def test_a_comparison_of_nothing_says_so() -> None:
    whole = compared()
    page = Comparison(whole.table.slice(0, 0), whole.names).as_page()
    assert page.verdict.status == "NOT-MEASURED" and page.verdict.tone == "unsure"


def test_a_diagnosis_that_names_nothing_offers_no_record() -> None:
    page = replace(diagnosed(named=0, mutants=()), verdict="unexplained").as_page()
    assert page.next_command == "" and isinstance(page.sections[0], Text)
    assert NOUNS["diagnosis"].as_page().next_command == "logitproof mutations show rope.base"


def test_taps_that_were_compared_by_hand_keep_the_arithmetic_that_they_were_judged_by() -> None:
    right = {TAP: np.ones((3, 4)), "logits": np.ones((3, 5))}
    where = localize(right, {**right, TAP: np.full((3, 4), 2.0)}, None, precision="bfloat16")
    assert where.precision == "bfloat16" and "what bfloat16 explains" in where._repr_markdown_()


@pytest.mark.parametrize("kind", ["arrow", "pandas", "polars"])
def test_positions_are_the_same_in_every_frame(kind: Any) -> None:
    comparison = compared()
    made = comparison.frame(kind)
    assert type(made).__module__.split(".")[0] == {"arrow": "pyarrow"}.get(kind, kind)
    assert made.shape == (12, comparison.table.num_columns)
    assert [float(value) for value in np.asarray(made[KL])] == comparison.metrics[KL].tolist()


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_frame_whose_package_is_missing_names_the_extra(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(EnvironmentFailed) as raised:
        compared().frame(kind)
    assert raised.value.remedy == f"pip install 'logitproof[{kind}]'" and kind in raised.value.text


@pytest.mark.parametrize("kind", ["excel", "", "os", "../polars"])
def test_a_frame_that_there_is_not_is_refused_before_anything_is_imported(kind: Any) -> None:
    with pytest.raises(ContractError, match="name arrow, pandas or polars"):
        frame(pa.table({"position": [0]}), kind)


def test_the_extras_that_a_frame_names_are_declared() -> None:
    extras = re.search(r"\[project.optional-dependencies\]\n(.*?)\n\n", (ROOT / "pyproject.toml").read_text("utf-8"), re.S)
    assert extras and all(re.search(rf'^{kind} = \["{kind}>=', extras[1], re.M) for kind in ("pandas", "polars"))
