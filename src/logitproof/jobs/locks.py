"""Locks of engines' environments: every package with its version and the sha256 of all its files, so that pip takes no other.

`requirements/NAME.lock` is for every platform, `requirements/NAME.cpu.lock` for Linux on x86-64 where the indexes that pip
knows have PyTorch for the CPU. `python zoo/make_locks.py` makes both from the index.
"""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)(?P<rest>.*)$")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def locks_of(requirements: Path) -> list[Path]:
    """The locks that lie beside pinned requirements, that for the CPU first."""
    return [path for ending in (".cpu.lock", ".lock") if (path := requirements.with_suffix(ending)).is_file()]


def lock_of(requirements: Path, pip: Sequence[str], environment: dict[str, str]) -> Path | None:
    """The lock to install by; None where there is none: a package's engine of its own may have pins alone.

    `pip` is how to call it. The lock for the CPU is taken where its PyTorch can be had, and where it is the only one.
    """
    locks = locks_of(requirements)
    small = [path for path in locks if path.name.endswith(".cpu.lock")]
    if small and len(locks) > 1 and not (_is_of_this_platform() and _can_be_had(small[0], pip, environment)):
        return locks[-1]
    return locks[0] if locks else None


def requirements_sha256(requirements: Path) -> str:
    """The hash of requirements with their locks: an environment that was made of others is outdated."""
    digest = hashlib.sha256()
    for path in (requirements, *locks_of(requirements)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def entries(lock: Path) -> dict[str, list[str]]:
    """Every entry of a lock on one line, by the package's name: a version may hang on the interpreter."""
    lines = lock.read_text("utf-8").replace("\\\n", " ").splitlines()
    by_package: dict[str, list[str]] = {}
    for line in lines:
        if match := ENTRY.match(line):
            by_package.setdefault(match["name"].lower(), []).append(line)
    return by_package


def _is_of_this_platform() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _can_be_had(lock: Path, pip: Sequence[str], environment: dict[str, str]) -> bool:
    """Whether pip finds the PyTorch of a lock, whose version no index but PyTorch's own may have."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "torch.txt"
        part.write_text("\n".join(entries(lock).get("torch", [])) + "\n", "utf-8")
        words = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--require-hashes", "-r", str(part)]
        return subprocess.run([*pip, *words], capture_output=True, check=False, env=environment).returncode == 0
