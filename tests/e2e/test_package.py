"""The package as it is given away: the wheel is built from the sdist, and works in an environment that has nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTRACT = """\
contract: toys
reference: {engine: golden}
candidates: {mine: {engine: toy, options: {noise: 1.0e-7}}}
models: {m: {original: ref.golden, toy: toy.json}}
suites: [two.yaml]
matrix: {quantization: [toy], mode: [prefill]}
bands: [{match: 1.0e-4, wrong: 1.0e-2, basis: "rounding of the toy's noise"}]
gates: [{id: kl, metric: kl_divergence, at_most: 1.0e-6, basis: "rounding of the toy's noise"}]
"""
SUITE = """\
suite: two
max_new_tokens: 3
prompts:
  - {id: a, text: "hello there"}
  - {id: b, text: "another prompt"}
"""


def clean() -> dict[str, str]:
    """The environment without this repository's own source."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist that is built from the repository."""
    source, out = tmp_path_factory.mktemp("source") / "tree", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    argv = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=clean())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(list(out.glob("*.tar.gz"))) == 1
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel and what it needs, at the versions of `constraints.txt`."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, env=clean())
    python = folder / "bin/python"
    argv = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    done = subprocess.run([*argv, str(wheel)], capture_output=True, text=True, check=False, env=clean())
    assert done.returncode == 0, done.stderr[-2000:]
    return python


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    package = ROOT / "src/logitproof"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    missing = [str(path.relative_to(package.parent)) for path in files if str(path.relative_to(package.parent)) not in inside]
    assert len(files) > 500 and not missing


def test_without_torch_it_checks_against_a_golden_compares_lints_and_converts(python: Path, tmp_path: Path) -> None:
    def logitproof(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(python), "-m", "logitproof", *words]
        return subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, env=clean(), timeout=500)

    torch = subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False, env=clean())
    assert torch.returncode != 0, "the environment is not clean"
    code = "import logitproof; print(logitproof.__file__)"
    where = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, env=clean(), cwd=tmp_path)
    assert str(python.parents[1]) in where.stdout
    (tmp_path / "toy.json").write_text('{"vocab_size": 300, "seed": 1}')
    (tmp_path / "two.yaml").write_text(SUITE)
    (tmp_path / "toys.parity.yaml").write_text(CONTRACT)
    noisy = ("capture", "toy", "toy.json", "two.yaml", "--out", "b", "-o", "noise=1e-3", "--tokens-from", "a")
    steps = {
        ("capture", "toy", "toy.json", "two.yaml", "--out", "a"): 0,
        noisy: 0,
        ("compare", "a", "b", "--json"): 0,
        ("convert", "a", "a.ndjson", "--to", "ndjson"): 0,
        ("compare", "a.ndjson", "b"): 0,
        ("freeze", "a", "--out", "ref.golden"): 0,
        ("lint", "toys.parity.yaml"): None,
        ("check", "toys.parity.yaml", "--out", "run"): 0,
        ("judge", "run"): 0,
        ("list", "engines"): 0,
        ("verify-evidence", "x.json", "--key", "x.pem"): 2,
    }
    for words, code in steps.items():
        done = logitproof(*words)
        assert "Traceback" not in done.stderr, (words, done.stderr)
        assert code is None or done.returncode == code, (words, done.stdout, done.stderr)
    assert json.loads((tmp_path / "run/verdict.json").read_text())["status"] == "PASS"
    assert "logitproof[attest]" in logitproof("verify-evidence", "x.json", "--key", "x.pem").stderr
