"""The changelog has the version of everything that is written, and every constant that is such a version."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import logitproof

ROOT = Path(__file__).parents[2]
PACKAGE = Path(logitproof.__file__).parent
ROW = re.compile(r"^\| .* \| (\d+) \| `(\w+)` in `([\w/]+\.py)` \|$", re.MULTILINE)
NAMES = ("FORMAT", "VERSION", "SCHEMA_VERSION", "TRACE_FORMAT")


def test_every_version_of_a_file_is_in_the_changelog() -> None:
    rows = {(file, name): int(version) for version, name, file in ROW.findall((ROOT / "CHANGELOG.md").read_text("utf-8"))}
    assert rows == _versions()


def test_the_changelog_has_the_version_of_the_package() -> None:
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def _versions() -> dict[tuple[str, str], int]:
    """By file and name: every constant at the top of a module that counts a format."""
    versions = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and type(node.value.value) is int:
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                versions |= {(str(path.relative_to(PACKAGE)), name): node.value.value for name in names if name in NAMES}
    return versions
