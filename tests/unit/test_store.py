"""What a killed run left is swept; what a living one is making is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from logitproof.traces.store import Store


def test_only_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    store = Store(tmp_path)
    left = [tmp_path / "partial" / name for name in (f"{dead.pid}-abc", "tmpabc")]
    for folder in left:
        folder.mkdir()
    with store.partial() as living:
        Store(tmp_path).sweep()
        assert living.is_dir() and not any(folder.exists() for folder in left)
    assert not living.exists()
