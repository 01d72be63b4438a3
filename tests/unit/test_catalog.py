"""An entry that is looked for alone is the one that is listed, and no two may have one name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from logitproof import catalog
from logitproof.errors import ContractError


@pytest.mark.parametrize("catalogue", catalog.CATALOGUES)
def test_what_is_found_by_its_file_is_what_is_listed(catalogue: catalog.Catalogue) -> None:
    for name, entry in catalog.entries(catalogue).items():
        assert catalog.find(catalogue, name) == entry


@pytest.mark.parametrize(
    "name", ["", ".", "toy.", "_http", "../engines/toy", "/etc/passwd", "/", "a./", "..", "__init__", "no such", "Toy"]
)
def test_a_name_that_is_none_finds_no_file(name: str) -> None:
    with pytest.raises(ContractError, match="no engine is called"):
        catalog.find("engines", name)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder of packages with one that adds the engine `toy`, which there is already."""
    (tmp_path / "toy.py").write_text("class Other(Engine):\n    '''Another toy.'''\n")
    about = tmp_path / "other-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[logitproof.engines]\ntoy = toy\n")
    return tmp_path


def test_a_name_that_a_package_claims_too_is_refused_wherever_it_is_looked_for(package: Path) -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); from logitproof import catalog; catalog.find('engines', 'toy')"
    done = subprocess.run([sys.executable, "-c", program, str(package)], capture_output=True, text=True)
    assert done.returncode == 1 and "two classes claim the name 'toy' in engines" in done.stderr


def test_the_process_of_an_engine_reads_the_file_of_no_other(tmp_path: Path) -> None:
    program = """
import ast
from logitproof import catalog
parsed, real = [], ast.parse
ast.parse = lambda *given, **options: parsed.append(1) or real(*given, **options)
catalog.find("engines", "toy")
print(len(parsed))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]
