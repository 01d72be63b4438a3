"""What a killed run left is swept; what a living one is making is not."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from logitproof.errors import EnvironmentFailed
from logitproof.files.lock import in_use
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


def written(store: Store, value: float = 0.0) -> Trace:
    with store.partial() as folder:
        np.full((2, 3), value, np.float32).tofile(folder / "logits.bin")
        return store.write(folder, Trace("ab" * 32, "score", "e", "prefill", [1, 2], 1, np.zeros((2, 3), np.float32)))


def test_a_trace_that_another_run_has_put_there_is_taken(tmp_path: Path) -> None:
    """Two runs at one store make the same trace; the second finds it there, and nobody's reading is broken."""
    first = written(Store(tmp_path))
    second = written(Store(tmp_path))
    assert np.array_equal(first.logits, second.logits) and not list((tmp_path / "partial").iterdir())


def test_a_trace_that_is_not_whole_is_replaced(tmp_path: Path) -> None:
    written(Store(tmp_path))
    (file,) = tmp_path.rglob("logits.bin")
    file.write_bytes(b"cut off")
    assert Store(tmp_path).read("ab" * 32) is None
    assert written(Store(tmp_path), 1.0).logits[0, 0] == 1.0


def test_many_runs_write_one_trace_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        traces = list(pool.map(lambda _: written(Store(tmp_path)), range(40)))
    assert all(trace.logits.shape == (2, 3) for trace in traces)


def test_a_folder_in_use_names_the_other_run(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from logitproof.files.lock import in_use\n"
    program += "with in_use(Path(sys.argv[1]), 'check of toys'): print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout and other.stdout.readline() == b"held\n"
    text = f"in use by another run: check of toys, process {other.pid}, since 20"
    with pytest.raises(EnvironmentFailed, match=text), in_use(tmp_path, "another"):
        pass
    other.kill()
    other.wait()
    with in_use(tmp_path, "another"):
        pass


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
