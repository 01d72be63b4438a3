"""Converts the zoo to GGUF: `python zoo/make_gguf.py [--only NAME] [--out zoo/gguf]`.

Makes NAME-{F32,F16,Q8_0,Q4_K_M}.gguf and skips what is up to date: a stamp holds the sha256 of everything
that a file is made from, the model folder and the converter's source.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

ZOO = Path(__file__).parent
SOURCE = ZOO.parent / "src" / "logitproof"
if SOURCE.is_dir():  # works from a checkout, installed or not
    sys.path.insert(0, str(SOURCE.parent))

from families import FAMILIES  # noqa: E402

from logitproof.files.sources import import_closure, sources_sha256  # noqa: E402
from logitproof.gguf.write import to_gguf  # noqa: E402

NAMES = tuple(FAMILIES)
QUANTIZATIONS = ("F32", "F16", "Q8_0", "Q4_K_M")


def stamp_of(folder: Path) -> str:
    """sha256 over the model folder and the converter."""
    digest = hashlib.sha256()
    inputs = [path for path in folder.iterdir() if path.is_file() and path.name != "TRAINING.json"]
    for path in sorted(inputs):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest() + sources_sha256(import_closure(SOURCE / "gguf" / "write.py"))


def make(name: str, out: Path) -> list[Path]:
    """All GGUF files of one model that were not up to date."""
    stamp, made = stamp_of(ZOO / name), []
    for quantization in QUANTIZATIONS:
        target = out / f"{name}-{quantization}.gguf"
        noted = target.with_suffix(".stamp")
        if target.is_file() and noted.is_file() and noted.read_text() == stamp:
            continue
        made.append(to_gguf(ZOO / name, target, quantization))
        noted.write_text(stamp)
    return made


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NAMES, nargs="+", metavar="NAME", help="these models alone")
    parser.add_argument("--out", type=Path, default=ZOO / "gguf")
    arguments = parser.parse_args()
    for name in arguments.only or NAMES:
        made = make(name, arguments.out)
        for path in made:
            print(f"{path} {path.stat().st_size:,} bytes")
        if not made:
            print(f"{name}: up to date")


if __name__ == "__main__":
    main()
