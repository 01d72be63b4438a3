"""Real engines pinned to an instruction set: what they say is what ran, and another one than asked for is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from logitproof.contract import isa
from logitproof.errors import ContractError
from logitproof.jobs.worker import Spec, Worker
from logitproof.protocol.messages import ScoreResult

ROOT = Path(__file__).parents[2]
BUILT = ROOT / ".cache/isa"
TOKENS = [5, 17, 33, 101, 7, 64, 9, 250]
BF16 = {"dtype": "bfloat16", "threads": 1}


def spec(engine: str, name: str, options: dict[str, object]) -> Spec:
    """An engine on an instruction set as its own pin says; skips where this processor lacks it."""
    if reason := isa.lacking(name):
        pytest.skip(reason)
    pin = isa.pinned(engine, None, name)
    assert pin is not None
    return Spec(engine, {**options, **pin.options}, pin.environment, proof=pin.proof)


def scored(one: Spec, model: Path, out: Path) -> ScoreResult:
    with Worker(one, name="it") as worker:
        worker.load(model, None)
        return worker.score(TOKENS, "decode", out)


def built(machine: str) -> Path:
    if not list((BUILT / machine).glob("libggml-cpu-*.so")):
        pytest.skip("`make isa` and `make neon` build llama.cpp for every instruction set, and were not run")
    return BUILT / machine


@pytest.fixture
def gguf() -> Path:
    path = ROOT / "zoo/gguf/qwen3-Q8_0.gguf"
    if not path.exists():
        pytest.skip("`make zoo` makes the GGUF files")
    return path


def test_bfloat16_limited_to_avx2_says_so_by_three_libraries(tmp_path: Path) -> None:
    said = scored(spec("transformers", "avx2", BF16), ROOT / "zoo/qwen3", tmp_path / "logits.bin").isa
    assert (said["isa.aten"], said["isa.onednn"]) == ("AVX2", "Intel AVX2")
    assert said["isa.matmul"].startswith("ATen AVX2")


def test_bfloat16_on_avx512_names_onednn_kernels(tmp_path: Path) -> None:
    said = scored(spec("transformers", "avx512", BF16), ROOT / "zoo/qwen3", tmp_path / "logits.bin").isa
    assert "oneDNN" in said["isa.matmul"] and "512" in said["isa.matmul"] and "amx" not in said["isa.matmul"]
    assert int(said["isa.matmul_calls"].split()[0]) >= len(TOKENS)


def test_an_environment_that_pins_another_one_than_asked_for_is_refused(tmp_path: Path) -> None:
    wide = spec("transformers", "avx512", BF16)
    narrow = replace(wide, environment=spec("transformers", "avx2", BF16).environment)
    with pytest.raises(ContractError, match="asked for avx512, dispatched something else"):
        scored(narrow, ROOT / "zoo/qwen3", tmp_path / "logits.bin")


@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_a_variant_of_llama_cpp_is_the_one_that_was_asked_for(name: str, gguf: Path, tmp_path: Path) -> None:
    one = spec("llamacpp", name, {"library": str(built("x86_64"))})
    said = scored(one, gguf, tmp_path / "logits.bin").isa
    assert said["isa.backend"] == f"libggml-cpu-{one.options['variant']}.so"
    assert ("AVX512" in said["isa.features of CPU"].split()) == (name == "avx512")


def test_another_variant_under_the_right_name_is_refused(gguf: Path, tmp_path: Path) -> None:
    one = spec("llamacpp", "avx2", {"library": str(built("x86_64"))})
    if "avx512f" not in isa.host_flags():
        pytest.skip("this processor has no AVX-512")
    with pytest.raises(ContractError, match="asked for avx2, dispatched something else"):
        scored(replace(one, options={**one.options, "variant": "skylakex"}), gguf, tmp_path / "logits.bin")


def test_neon_under_an_emulator_computes_what_this_machine_does(gguf: Path, tmp_path: Path) -> None:
    emulator, python = BUILT / "qemu-aarch64-static", BUILT / "python/usr/bin/python3.11"
    if not emulator.exists():
        pytest.skip("`make neon` gets the emulator")
    pin = isa.pinned("llamacpp", None, "neon")
    assert pin is not None
    options = {"library": str(built("aarch64")), **pin.options}
    neon = Spec("llamacpp", options, python=str(python), emulator=(str(emulator), "-L", str(BUILT / "python")), proof=pin.proof)
    said = scored(neon, gguf, tmp_path / "neon.bin")
    assert "NEON" in said.isa["isa.features of CPU"].split()
    here = scored(Spec("llamacpp", {}), gguf, tmp_path / "here.bin")
    ours, theirs = (np.array(one.open(), np.float64) for one in (here, said))
    assert 0 < np.sqrt(np.mean((ours - theirs) ** 2)) < 0.1
