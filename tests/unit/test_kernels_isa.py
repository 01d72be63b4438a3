"""Kernels on an instruction set: what cannot be measured or proven here is refused before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from logitproof.commands.kernels import command
from logitproof.contract import isa
from logitproof.errors import ContractError
from logitproof.kernels.isa import measure_on

ZOO = Path(__file__).parents[2] / "zoo/qwen3"


def test_a_name_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ContractError, match="'sse9' is no instruction set"):
        measure_on("sse9", ZOO, ["bfloat16"])


def test_what_the_processor_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isa, "host_machine", lambda: "x86_64")
    monkeypatch.setattr(isa, "host_flags", lambda: frozenset({"avx2"}))
    with pytest.raises(ContractError, match="amx cannot be measured: this processor has no amx"):
        measure_on("amx", ZOO, ["bfloat16"])
    with pytest.raises(ContractError, match="neon cannot be measured"):
        measure_on("neon", ZOO, ["bfloat16"])


def test_a_build_without_a_backend_for_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(isa, "host_machine", lambda: "x86_64")
    monkeypatch.setattr(isa, "host_flags", lambda: frozenset({"avx2"}))
    (tmp_path / "libggml-cpu-skylakex.so").touch()
    said = CliRunner().invoke(command, [str(ZOO), "--isa", "avx2", "--quant", "Q8_0", "--ggml", str(tmp_path)])
    assert isinstance(said.exception, ContractError) and said.exception.exit_code == 2
    assert "no " in str(said.exception) and "libggml-cpu-haswell.so (libggml-cpu-skylakex.so there)" in str(said.exception)
    assert "make isa" in str(said.exception)
