"""What the pages count and measure is what the code and the results say; a figure that nothing holds may not stand there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from logitproof import catalog
from logitproof.acid import consistency, probe, sampling
from logitproof.contract.opened import open_contract
from logitproof.localization import engines as localization

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import _acid_page  # noqa: E402
import _bands_page  # noqa: E402
import _page  # noqa: E402

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "probes/README.md", "zoo/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
UP_TO_TEN = "two three four five six seven eight nine ten"
BEYOND = "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
NUMBERS = [*UP_TO_TEN.split(), *BEYOND.split()]
COUNTED = (
    "bugs mutations mutants probes families engines metrics formats readers layouts reporters commands checks rules taps models"
)
COUNT = re.compile(
    rf"\b(?P<number>\d[\d,]*|{'|'.join(NUMBERS)}|hundreds?)(?: [a-z][\w-]*){{0,2}} (?P<noun>{COUNTED.replace(' ', '|')})\b",
    re.I,
)
FEW = 4
"""Up to so many are a relation of things ("two engines that agree"), no count of what there is."""
WITNESSES = {"t": "transformers", "l": "llamacpp", "p": "plain"}


def result(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def zoo() -> int:
    return len(list((ROOT / "zoo").glob("*/TRAINING.json")))


def demo_models() -> int:
    return len(open_contract(ROOT / "examples" / "demo.parity.yaml").contract.models)


def megabytes(name: str) -> int:
    return round(result("localize")[name] / 1e6)


CLAIMS: list[tuple[str, str, Callable[[], int]]] = [
    ("README.md", r"compares llama.cpp with transformers on (\w+) tiny models", demo_models),
    ("README.md", r"(\w+) tiny trained models for tests and the demo", zoo),
    ("zoo/README.md", r"(\w+) tiny language models, one for each family", zoo),
    ("docs/engines.md", r"the weights of (\w+) trained zoo models", zoo),
    ("docs/quality.md", r"on the (\w+) zoo families", zoo),
    ("docs/findings.md", r"with which all (\w+) families are", zoo),
    ("docs/findings.md", r"The other (\w+) families", lambda: zoo() - 1),
    ("docs/acid.md", r"killed where it moves the logits of some probe by (\w+) bands", lambda: int(probe.KILLED_AT)),
    ("docs/acid.md", r"A band is (\w+) times the largest distance", lambda: int(probe.FACTOR)),
    (
        "docs/acid.md",
        r"\| (\w+) positions a pass, and all in one",
        lambda: int(consistency.VARIANTS["chunked prefill = prefill"][0]["chunk"]),
    ),
    ("docs/acid.md", r"\| (\d+) draws under", lambda: sampling.DRAWS),
    ("docs/localize.md", r"where they fit into (\d+) MiB", lambda: localization.BUDGET // 2**20),
    ("docs/localize.md", r"boundaries of 128 positions take (\d+) MB", lambda: megabytes("bytes_of_32_boundaries_4096")),
    ("docs/localize.md", r"the taps of one layer (\d+) MB", lambda: megabytes("bytes_of_one_layer_4096")),
    ("docs/families.md", r"registers in (\w+) entry-point groups", lambda: len(groups(ROOT / "docs" / "families.md"))),
]
MADE: dict[tuple[str, str], Callable[[], str]] = {
    ("acid.md", "bench"): lambda: _page.table(_acid_page.HEAD, _acid_page.rows(*_acid_page.results())),
    ("bands.md", "bench cells"): lambda: _bands_page.cells(result("bands")),
    ("bands.md", "bench flips"): lambda: _bands_page.flips(result("bands")),
    ("bands.md", "bench kills"): lambda: _bands_page.kills(result("bands")),
}
ELSEWHERE = {
    ("bands.md", "bench kernels"): "test_kernels_page.py",
    ("bands.md", "bench kernels on isa"): "test_kernels_page.py",
    ("bands.md", "bench kernels by length"): "test_kernels_page.py",
    ("clients.md", "rules"): "test_clients_page.py",
    ("engines.md", "capabilities"): "test_engines_page.py",
    ("engines.md", "bench"): "test_engines_page.py",
    ("engines.md", "bench probes"): "test_engines_page.py",
    ("engines.md", "bench probes causes"): "test_engines_page.py",
    ("engines.md", "bench quantizations"): "test_engines_page.py",
    ("engines.md", "bench quantizations causes"): "test_engines_page.py",
    ("engines.md", "bench formats"): "test_engines_page.py",
    ("isa.md", "bench"): "test_figures.py",
    ("localize.md", "measured"): "test_localize_page.py",
    ("scale.md", "ray"): "test_scale_page.py",
    ("quality.md", "bench"): "test_quality_page.py",
    ("taps.md", "taps"): "test_localize_page.py",
}
"""Tables between marks and the test that makes them again."""


def groups(page: Path) -> set[str]:
    """The entry-point groups of a page's TOML."""
    return set(re.findall(r'entry-points\."(logitproof\.\w+)"', page.read_text("utf-8")))


def prose(text: str) -> str:
    """A page without its code, its tables that are made, and its links' addresses."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.M | re.S)
    text = re.sub(r"<!-- ([\w ]+) -->.*?<!-- /\1 -->", "", text, flags=re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def as_number(word: str) -> int:
    """A number in figures or in words."""
    return NUMBERS.index(word.lower()) + 2 if word.lower() in NUMBERS else int(word.replace(",", ""))


def unheld(text: str, claims: list[re.Pattern[str]]) -> Iterator[str]:
    """Counts of things of the catalogue that no claim holds."""
    plain = " ".join(prose(text).split())
    held = [match.span() for claim in claims for match in claim.finditer(plain)]
    for match in COUNT.finditer(plain):
        word = match["number"].lower()
        many = word.startswith("hundred") or as_number(word) > FEW
        if many and not any(begin <= match.start() and match.end() <= end + len(match[0]) for begin, end in held):
            yield match[0]


@pytest.mark.parametrize(("page", "pattern", "count"), CLAIMS, ids=[f"{page} {pattern}" for page, pattern, _ in CLAIMS])
def test_a_count_of_a_page_is_that_of_the_code(page: str, pattern: str, count: Callable[[], int]) -> None:
    text = " ".join((ROOT / page).read_text("utf-8").split())
    stated = re.findall(pattern, text)
    assert stated, "the page says it otherwise now: change the pattern with it"
    assert {as_number(word) for word in stated} == {count()}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_page_counts_what_nothing_holds(page: Path) -> None:
    claims = [re.compile(pattern) for name, pattern, _ in CLAIMS if ROOT / name == page]
    assert not [*unheld(page.read_text("utf-8"), claims)], "leave the number out, or give it a claim in this test"


@pytest.mark.parametrize(
    "text",
    ["It has 258 known bugs.", "on 16 probes", "Sixteen probes are", "All twenty\nengines of it", "hundreds of known bugs",
     "There are 1,024 mutations"],
)  # fmt: skip
def test_a_count_in_prose_is_seen(text: str) -> None:
    assert [*unheld(text, [])]


@pytest.mark.parametrize(
    "text",
    ["two engines that agree", "```\n258 known bugs\n```", "<!-- bench -->\n258 known bugs\n<!-- /bench -->", "`16 probes`"],
)
def test_a_relation_code_and_a_table_that_is_made_are_no_counts(text: str) -> None:
    assert not [*unheld(text, [])]


def test_a_claim_holds_its_own_words_alone() -> None:
    claim = re.compile(r"(\w+) trained models")
    assert [*unheld("five trained models and 258 known bugs", [claim])] == ["258 known bugs"]


def test_the_picture_of_the_demo_is_described_as_the_demo_is() -> None:
    contract = open_contract(ROOT / "examples" / "demo.parity.yaml").contract
    controls = [use for use in contract.candidates.values() if use.expect is not None]
    assert "a planted bug is caught in both models" in (ROOT / "README.md").read_text("utf-8")
    assert len(controls) == 1 and len(contract.models) == 2


def marks() -> list[tuple[str, str]]:
    pages = sorted((ROOT / "docs").glob("*.md"))
    return [
        (page.name, mark) for page in pages for mark in re.findall(r"^<!-- (?!/)([\w ]+) -->$", page.read_text("utf-8"), re.M)
    ]


def test_every_table_between_marks_has_a_test() -> None:
    assert set(marks()) == set(MADE) | set(ELSEWHERE)
    for (page, mark), name in ELSEWHERE.items():
        assert page.removesuffix(".md") in (ROOT / "tests" / "unit" / name).read_text("utf-8"), (page, mark)


@pytest.mark.parametrize("place", MADE, ids=[" ".join(place) for place in MADE])
def test_a_table_between_marks_is_what_was_measured(place: tuple[str, str]) -> None:
    text = (ROOT / "docs" / place[0]).read_text("utf-8")
    assert _page.replaced(text, place[1], MADE[place]()) == text, "run the benchmark of the page"


def test_the_table_of_instruction_sets_is_what_was_measured(module_of: Callable[[Path], Any]) -> None:
    text = (ROOT / "docs" / "isa.md").read_text("utf-8")
    made = module_of(ROOT / "benchmarks" / "isa.py").markdown(result("isa"))
    assert _page.replaced(text, "bench", made) == text, "run `make bench-isa`"


def test_the_table_of_families_has_every_probe_and_its_witnesses() -> None:
    stated: dict[str, set[str]] = {}
    for line in (ROOT / "docs" / "families.md").read_text("utf-8").splitlines():
        if line.startswith("| `"):
            names, _, letters, _ = (cell.strip() for cell in line.strip("|").split("|"))
            stated |= {name: {WITNESSES[letter] for letter in letters.split()} for name in re.findall("`([^`]+)`", names)}
    assert stated == {name: set(agreed["engines"]) for name, agreed in result("families")["by_family"].items()}


def test_the_groups_that_the_page_of_families_names_are_read() -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "src" / "logitproof").rglob("*.py"))
    for group in groups(ROOT / "docs" / "families.md"):
        assert f'group="{group}"' in sources or group.removeprefix("logitproof.") in catalog.CATALOGUES, group
