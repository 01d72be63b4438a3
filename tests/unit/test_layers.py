"""Packages stand in layers: each imports what stands above it in this table, and in its own row what stands to its left.

The table is the architecture (docs/architecture.md shows it) and is typed by hand: a new package is given its place here.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from import_graph import PACKAGE, ROOT, circles, exists, longest_chain, modules, package_imports

LAYERS = (
    ("errors", "catalog", "files", "documents"),
    ("rows", "metrics", "comparison"),
    ("protocol",),
    ("weights", "gguf"),
    ("contract",),
    ("traces", "readers"),
    ("reference", "mutations", "engines"),
    ("jobs",),
    ("bands", "preflight", "verdict"),
    ("report", "runs", "reporters"),
    (
        "acid",
        "attestation",
        "calibration",
        "conformance",
        "diagnosis",
        "divergence",
        "golden",
        "kernels",
        "lint",
        "localization",
        "quality",
        "sensitivity",
    ),
    ("parity", "serve", "web", "commands", "cli"),
)
QUESTIONS = frozenset(LAYERS[10])
HEAVY = {"torch", "transformers", "llama_cpp", "onnxruntime", "vllm"}
JUDGES = ("bands.band", "bands.rule", "comparison.compare", "contract.scope", "contract.waiver", "rows.kernel", "verdict.judge")
"""Modules that compute a verdict: none of them may reach an engine, a file of a run or a terminal."""
PLACE = {name: (row, column) for row, names in enumerate(LAYERS) for column, name in enumerate(names)}


def test_every_package_has_its_place() -> None:
    names = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert names - {"__init__", "__main__"} == set(PLACE)


def test_imports_go_up_the_table_only() -> None:
    across = [edge for edge in package_imports() if edge.own != edge.other and edge.own in PLACE]
    assert not [str(edge) for edge in across if PLACE[edge.other] >= PLACE[edge.own]]


def test_no_way_of_imports_passes_through_more_packages_than_there_are_rows() -> None:
    chain = longest_chain((edge.own, edge.other) for edge in package_imports() if {edge.own, edge.other} <= set(PLACE))
    assert len(chain) <= len(LAYERS), chain


def test_questions_know_nothing_of_one_another() -> None:
    across = [edge for edge in package_imports() if edge.own != edge.other]
    assert not [str(edge) for edge in across if {edge.own, edge.other} <= QUESTIONS]


def test_no_two_modules_import_each_other() -> None:
    assert not circles()


@pytest.mark.parametrize("name", JUDGES)
def test_what_judges_reaches_no_engine(name: str) -> None:
    graph = modules()
    reached, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph.get(module, set())
    assert exists(name)
    packages = {module.partition(".")[0] for module in reached}
    assert not packages & {"reference", "engines", "runs", "reporters", "commands", "cli"}
    assert not reached & {"jobs.worker", "jobs.run"}


def test_frameworks_are_imported_where_engines_live_and_nowhere_else() -> None:
    """A heavy import at the top of any other module would be paid by every command."""
    heavy = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("engines", "mutations", "reference", "kernels")
        for name in _imported_at_the_top(path)
        if name in HEAVY
    }
    assert not heavy


def test_what_every_command_imports_is_light() -> None:
    """`kernels/` may use frameworks in modules of engines; what the command line imports of it may not."""
    code = "import sys, logitproof.kernels.measure, logitproof.runs.check; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_the_process_of_an_engine_loads_nothing_that_only_people_look_at() -> None:
    """It starts with every engine of every command: what it imports is waited for."""
    code = "import sys, logitproof.serve; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "logitproof.jobs.environments" in loaded
    assert not {"jinja2", "pygal", "rich", "numba", "pyarrow", "click", "yaml"} & set(loaded)


def test_the_page_shows_the_table() -> None:
    rows = [line for line in (ROOT / "docs/architecture.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    numbered = [row.split("|") for row in rows if row.split("|")[1].strip().isdigit()]
    shown = [tuple(name.strip("`/") for name in columns[2].split()) for columns in numbered]
    assert tuple(shown) == LAYERS


def _imported_at_the_top(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names
