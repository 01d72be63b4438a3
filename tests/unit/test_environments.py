"""Environments of engines: made whole or not used, from a local package, without network."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from logitproof import catalog
from logitproof.cli import main
from logitproof.errors import ContractError, EngineError, EnvironmentFailed
from logitproof.jobs import environments, locks
from logitproof.jobs.worker import Spec, Worker

REQUIREMENTS = Path(environments.__file__).parents[1] / "engines/requirements"
ENGINE = '''
"""An engine in a package of its own."""

from dataclasses import dataclass
import sys

import numpy as np
import tiny_dependency

from logitproof.engines import Engine, Hello, Loaded, Scored


@dataclass
class Tiny(Engine):
    """Equal logits."""

    size: int = 7

    def hello(self):
        return Hello(versions={"tiny": tiny_dependency.VERSION}, generate=False, tokenize=False)

    def load(self, model, config=None):
        return Loaded(self.size, details={"executable": sys.executable})

    def score(self, token_ids, mode):
        return Scored(np.zeros((len(token_ids), self.size), np.float32))
'''


def wheel(folder: Path, name: str, files: dict[str, str], entry_points: str = "") -> Path:
    """A pure wheel of these files."""
    info = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in files.items():
            archive.writestr(place, text)
    return path


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with the engine `tiny_engine`, which this interpreter has and its one dependency not; its requirements."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    # What an environment would fetch, it finds beside the tests' own: numpy and pydantic.
    neighbours = {"neighbours.pth": f"{Path(np.__file__).parents[1]}\n"}
    wheel(wheels, "tiny_dependency", {"tiny_dependency.py": "VERSION = '1.0'\n", **neighbours})
    points = "[logitproof.engines]\ntiny_engine = tiny_engine\n"
    with zipfile.ZipFile(wheel(wheels, "tiny_engine", {"tiny_engine.py": ENGINE}, points)) as archive:
        archive.extractall(site)
    pins = site / "requirements/tiny_engine.txt"
    pins.parent.mkdir()
    pins.write_text(f"--no-index\n--find-links {wheels}\ntiny_dependency==1.0\ntiny_engine==1.0\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("LOGITPROOF_ENGINES", str(tmp_path / "made"))
    importlib.invalidate_caches()
    catalog._entries.cache_clear()
    yield pins
    catalog._entries.cache_clear()


def _install() -> str:
    done = CliRunner().invoke(main, ["engines", "install", "tiny_engine"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def test_an_engine_whose_package_is_missing_names_the_command_that_installs_it_and_then_runs(plugin: Path) -> None:
    with Worker(Spec("tiny_engine"), name="tiny") as worker, pytest.raises(EnvironmentFailed) as missing:
        worker.hello()
    assert "tiny_dependency" in missing.value.text
    assert missing.value.remedy == "logitproof engines install tiny_engine"
    python = _install()
    with Worker(Spec("tiny_engine"), name="tiny") as worker:
        assert worker.hello().versions == {"tiny": "1.0"}
        details = worker.load(plugin, None).details
    assert details["executable"] == python
    assert details["environment"] == str(Path(python).parents[1])
    (row,) = [row for row in environments.states() if row["name"] == "tiny_engine"]
    assert row["state"] == "current" and row["python"] == python
    made = environments.installed("tiny_engine")
    assert made is not None and made.packages["tiny_engine"] == "1.0"
    plugin.write_text(plugin.read_text() + "# changed\n")
    (row,) = [row for row in environments.states() if row["name"] == "tiny_engine"]
    assert row["state"] == "outdated"


def test_what_is_half_made_or_does_not_answer_is_not_used_and_goes_on_once_it_can(plugin: Path) -> None:
    right = plugin.read_text()
    plugin.write_text(right + "tiny_missing==9\n")
    said: list[str] = []
    with pytest.raises(EnvironmentFailed, match="tiny_missing") as failed:
        environments.install("tiny_engine", tell=said.append, prove=lambda python: None)
    assert "run the same command again" in failed.value.remedy and any("tiny_missing" in line for line in said)
    assert environments.installed("tiny_engine") is None
    plugin.write_text(right)

    def prove(python: Path) -> None:
        raise EngineError("it crashed")

    with pytest.raises(EngineError, match="it crashed"):
        environments.install("tiny_engine", tell=said.append, prove=prove)
    assert environments.installed("tiny_engine") is None
    assert Path(_install()).exists()
    home = environments.root() / "tiny_engine"
    assert [path.name for path in home.iterdir() if path.is_dir()] == [Path(environments.installed("tiny_engine").folder).name]


def locked(plugin: Path, **changed: str) -> Path:
    """The lock of the plugin, with the hashes of its two wheels or others in their place."""
    wheels = plugin.parents[2] / "wheels"
    lines = [f"--no-index\n--find-links {wheels}"]
    for name in ("tiny_dependency", "tiny_engine"):
        digest = changed.get(name) or hashlib.sha256((wheels / f"{name}-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        lines.append(f"{name}==1.0 \\\n    --hash=sha256:{digest}")
    lock = plugin.with_suffix(".lock")
    lock.write_text("\n".join(lines) + "\n")
    return lock


def test_what_a_lock_names_is_installed_by_its_hashes(plugin: Path) -> None:
    locked(plugin)
    said: list[str] = []
    made = environments.install("tiny_engine", tell=said.append, prove=lambda python: None)
    assert made.packages["tiny_dependency"] == "1.0" and "by the hashes of tiny_engine.lock" in said
    assert environments.is_current("tiny_engine", made)
    plugin.with_suffix(".lock").write_text(plugin.with_suffix(".lock").read_text() + "# changed\n")
    assert not environments.is_current("tiny_engine", made)


def test_a_package_that_is_not_what_its_hash_says_is_not_installed(plugin: Path) -> None:
    locked(plugin, tiny_engine="0" * 64)
    with pytest.raises(EnvironmentFailed, match="(?i)hash"):
        environments.install("tiny_engine", tell=lambda line: None, prove=lambda python: None)
    assert environments.installed("tiny_engine") is None


def test_the_lock_for_the_cpu_is_taken_where_its_torch_can_be_had(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = plugin.parents[2] / "wheels"
    digest = hashlib.sha256(wheel(wheels, "torch", {"torch.py": ""}).read_bytes()).hexdigest()
    whole, small = locked(plugin), plugin.with_suffix(".cpu.lock")
    small.write_text(whole.read_text() + f"torch==1.0 --hash=sha256:{digest}\n")
    pip = [sys.executable, "-m", "pip"]
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    here = sys.platform == "linux" and platform.machine() == "x86_64"
    assert locks.lock_of(plugin, pip, environment) == (small if here else whole)
    (wheels / "torch-1.0-py3-none-any.whl").unlink()
    assert locks.lock_of(plugin, pip, environment) == whole
    whole.unlink()
    assert locks.lock_of(plugin, pip, environment) == small
    small.unlink()
    assert locks.lock_of(plugin, pip, environment) is None


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_engine_that_is_shipped_has_a_lock_of_all_its_pins_in_which_everything_has_a_hash(path: Path) -> None:
    pins = [line.partition("==") for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    assert locks.locks_of(path)
    for lock in locks.locks_of(path):
        entries = locks.entries(lock)
        assert all(locks.HASH.search(line) for lines in entries.values() for line in lines), lock.name
        text = [line for line in lock.read_text("utf-8").splitlines() if line and not line.startswith(("#", " "))]
        assert len(text) == sum(map(len, entries.values())), f"{lock.name} has a line that is no entry"
        for name, _, version in pins:
            (line,) = entries[name.partition("[")[0].lower()]
            assert re.match(rf"\S+=={re.escape(version)}(\+cpu)?[\s;]", line), line


def test_the_lock_of_the_package_itself_has_all_that_it_needs() -> None:
    root = REQUIREMENTS.parents[3]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    entries = locks.entries(root / "requirements.lock")
    assert all(locks.HASH.search(line) for lines in entries.values() for line in lines)
    needed = [*project["dependencies"], *project["optional-dependencies"]["transformers"]]
    assert {re.split("[=<>]", need)[0] for need in needed} <= set(entries)


def test_an_engine_without_requirements_needs_no_environment() -> None:
    with pytest.raises(ContractError, match="toy needs no environment"):
        environments.install("toy", tell=lambda line: None, prove=lambda python: None)


def test_another_interpreter_sees_this_package_and_none_of_its_neighbours(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    said = "its interpreter cannot serve it: No module named 'numpy'"
    bare = Spec("toy", python=str(tmp_path / "bare/bin/python"))
    with Worker(bare, name="toy") as worker, pytest.raises(EnvironmentFailed, match=said):
        worker.hello()


def test_every_requirement_is_pinned_and_every_environment_can_speak_the_protocol() -> None:
    paths = sorted(REQUIREMENTS.glob("*.txt"))
    assert len(paths) >= 8
    for path in paths:
        assert environments.requirements(path.stem) == path
        names = set()
        for line in path.read_text("utf-8").splitlines():
            if line and not line.startswith(("#", "-")):
                name, pin, version = line.partition("==")
                assert pin and version, f"{path.name}: {line}"
                names.add(name.partition("[")[0])
        assert {"numpy", "pydantic"} <= names, path.name


def test_a_record_that_names_no_interpreter_is_no_environment(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    record = {"folder": str(tmp_path / "gone"), "requirements_sha256": "", "packages": {}}
    (tmp_path / "toy" / environments.RECORD).write_text(json.dumps(record))
    assert environments.installed("toy", tmp_path) is None
