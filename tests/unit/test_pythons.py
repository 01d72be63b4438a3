"""What newer Pythons took away is not used, and the package says which ones it is for."""

from __future__ import annotations

import ast
import re
import tomllib
import warnings
from pathlib import Path

import pytest
from import_graph import PACKAGE, ROOT

GONE = {
    # 3.12
    "asynchat", "asyncore", "distutils", "imp", "smtpd",
    # 3.13: PEP 594
    "aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis", "nntplib",
    "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib",
}  # fmt: skip
GONE_NAMES = {("datetime", "utcnow"), ("datetime", "utcfromtimestamp"), ("unittest", "makeSuite"), ("pkgutil", "ImpImporter")}
"""Deprecated or removed, as attributes."""


@pytest.mark.parametrize("folder", ["src", "benchmarks", "zoo", "docs", "clients"])
def test_no_module_of_the_standard_library_that_is_gone_is_imported(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    used = [(file.name, name) for file in files for name in _uses(file)]
    assert files or folder == "clients"
    assert used == []


def test_what_is_gone_would_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    file.write_text("import imp\nfrom distutils.util import strtobool\nimport datetime\ndatetime.datetime.utcnow()\n")
    assert set(_uses(file)) == {"imp", "distutils.util", "datetime.utcnow"}


def test_every_file_compiles_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in sorted(PACKAGE.rglob("*.py")):
            compile(file.read_bytes(), str(file), "exec")


def test_the_package_says_for_which_pythons_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [entry.rpartition(" ")[2] for entry in project["classifiers"] if re.search(r":: 3\.\d+$", entry)]
    assert named == ["3.11", "3.12", "3.13"] and project["requires-python"] == f">={named[0]}"


def _uses(file: Path) -> list[str]:
    uses = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            uses += [alias.name for alias in node.names if alias.name.partition(".")[0] in GONE]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level and node.module.partition(".")[0] in GONE:
            uses.append(node.module)
        elif isinstance(node, ast.Attribute):
            base = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            uses += [f"{base}.{node.attr}"] if (base, node.attr) in GONE_NAMES else []
    return uses
