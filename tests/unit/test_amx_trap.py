"""The known crash of llama.cpp's AMX kernels is tried in a process of its own, and named when it happens."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from conftest import Project
from logitproof.contract import isa
from logitproof.jobs import amx_trap
from logitproof.jobs.worker import Spec


def spring(project: Project, changes: str) -> amx_trap.Trap:
    engine = project.engine(changes)
    return amx_trap.spring(Spec("command", engine["options"], timeout=30, directory=str(project.folder)))


@pytest.mark.parametrize("signal", ["SIGSEGV", "SIGILL"])
def test_a_death_by_a_signal_at_the_first_quantized_decode_is_named(project: Project, signal: str) -> None:
    trap = spring(project, f"def score(p):\n    import signal\n    os.kill(os.getpid(), signal.{signal})\n    time.sleep(9)")
    assert trap.state == "sprung"
    assert f"dies of {signal} at the first quantized decode" in trap.text and "GCC 12" in trap.text
    assert "clang" in trap.remedy


def test_a_death_of_another_kind_is_not_this_trap(project: Project) -> None:
    assert spring(project, "def score(p):\n    sys.exit(3)").state == "untested"


def test_a_decode_without_amx_says_nothing_of_the_build(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "host_flags", frozenset)
    monkeypatch.setattr(isa, "host_machine", lambda: "x86_64")
    trap = spring(project, "")
    assert trap.state == "untested" and "no amx_tile among its flags" in trap.text


def test_a_decode_with_amx_is_a_build_without_the_trap(project: Project) -> None:
    changes = 'plain = score\ndef score(p):\n    return {**plain(p), "isa": {"weights": "CPU_Mapped AMX"}}'
    assert spring(project, changes).state == "absent"


def test_the_tiny_model_is_quantized(tmp_path: Path) -> None:
    amx_trap.write_tiny(tmp_path / "tiny.gguf")
    types = {one.name: one.tensor_type.name for one in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors}
    assert types["blk.0.attn_q.weight"] == types["output.weight"] == "Q8_0"
