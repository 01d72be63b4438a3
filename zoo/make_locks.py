"""Makes locks with hashes from the index: `python zoo/make_locks.py [NAME ...]`, or `make locks`.

For each engine with an environment of its own: NAME.lock, for every platform and Python from 3.11 on, and where the engine
needs PyTorch NAME.cpu.lock, for Linux on x86-64 with Python 3.11 and PyTorch for the CPU, without the libraries of CUDA.
`requirements.lock` is what logitproof itself needs, with transformers. uv resolves; the index gives the hashes of all files.
PyTorch for the CPU is on no index but its own: its wheel is taken from the folders or pages that PIP_FIND_LINKS names,
and its hash is of that file; without them locks for the CPU stay as they are.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "src/logitproof/engines/requirements"
UV = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header"]
EVERYWHERE = ["--universal", "--python-version", "3.11"]
CPU = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
HEAD = "# Written by zoo/make_locks.py from {name}; `make locks` writes it again.\n"
ONLY_CPU = {"vllm"}
"""Engines whose packages demand PyTorch for the CPU, so that no lock for every platform can be."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="engines; all of them and the package itself, unless named")
    chosen = parser.parse_args().names
    for path in sorted(REQUIREMENTS.glob("*.txt")):
        if not chosen or path.stem in chosen:
            _of_engine(path)
    if not chosen:
        own = ["--extra", "transformers", "--constraint", str(ROOT / "constraints.txt")]
        _write(ROOT / "requirements.lock", "pyproject.toml", _compiled(ROOT / "pyproject.toml", [*EVERYWHERE, *own]))
    return 0


def _of_engine(path: Path) -> None:
    needs_torch = "torch==" in path.read_text("utf-8")
    if path.stem not in ONLY_CPU:
        _write(path.with_suffix(".lock"), path.name, _compiled(path, EVERYWHERE))
    places = os.environ.get("PIP_FIND_LINKS", "").split()
    if needs_torch and places:
        found = [word for place in places for word in ("--find-links", place)]
        with tempfile.TemporaryDirectory() as folder:
            pins = Path(folder) / path.name
            lines = path.read_text("utf-8").splitlines()
            pins.write_text("\n".join(f"{line}+cpu" if line.startswith("torch==") else line for line in lines) + "\n", "utf-8")
            _write(path.with_suffix(".cpu.lock"), path.name, _compiled(pins, [*CPU, *found]))


def _compiled(path: Path, options: list[str]) -> str:
    done = subprocess.run([*UV, *options, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{path.name} cannot be resolved:\n{done.stderr}")
    return done.stdout


def _write(path: Path, name: str, text: str) -> None:
    path.write_text(HEAD.format(name=name) + text, "utf-8")
    print(f"{path.relative_to(ROOT)}: {text.count('--hash=')} hashes")


if __name__ == "__main__":
    sys.exit(main())
