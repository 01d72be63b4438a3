"""What a killed run left is swept; what a living one is making is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from logitproof.traces.store import Store
from logitproof.traces.trace import Trace


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


def test_a_trace_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    """A finished run is judged again by its traces, which hold a field that is gone."""
    store = Store(tmp_path / "store")
    with store.partial() as folder:
        np.zeros((2, 3), np.float32).tofile(folder / "logits.bin")
        made = Trace("ab" * 32, "score", "e", "prefill", [1, 2], 1, np.zeros((2, 3), np.float32))
        store.write(folder, made)
    (file,) = (tmp_path / "store").rglob("trace.json")
    record = {**json.loads(file.read_text("utf-8")), "versions": {}}
    del record["sha256"], record["logits"]["sha256"], record["executed"], record["unseen"]
    file.write_text(json.dumps(record), "utf-8")
    read = store.read(made.key)
    assert read is not None and read.token_ids == [1, 2]
