"""tinygrad beside transformers: right where it reads all of the file, wrong in the known way where it does not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from against_reference import ALONE, ZOO, beside, greedy_is_what_it_scores, needs

from logitproof.errors import ContractError
from logitproof.jobs import environments
from logitproof.jobs.worker import Spec, Worker

pytestmark = needs("tinygrad")


def gguf(family: str) -> Path:
    file = ZOO / "gguf" / f"{family}-F32.gguf"
    if not file.is_file():
        pytest.skip(f"{file.name} is missing: make zoo")
    return file


@pytest.fixture
def engine() -> Iterator[Worker]:
    with Worker(Spec("tinygrad", {"max_context": 512}, ALONE, timeout=300), name="tinygrad") as worker:
        yield worker


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3", "qwen3-moe"])
def test_prefill_and_decode_are_the_reference_s(family: str, engine: Worker, tmp_path: Path) -> None:
    loaded = engine.load(gguf(family), None)
    assert loaded.details["unused"] == [] and loaded.details["dtype"] == "float32"
    found = beside(engine, family, tmp_path)
    assert set(found) == {"prefill", "decode"}
    for one in found.values():
        assert one.kl_divergence_mean < 1e-9 and one.top1 == 1.0
    greedy_is_what_it_scores(engine, family, tmp_path)


def test_factors_of_the_rotation_are_not_read_and_it_is_recorded(engine: Worker, tmp_path: Path) -> None:
    loaded = engine.load(gguf("llama3"), None)
    assert loaded.details["unused"] == ["rope_freqs.weight"]
    found = beside(engine, "llama3", tmp_path)
    assert found["prefill"].kl_divergence_mean > 0.1, "if it is less, tinygrad has mended it: see docs/findings.md"


@pytest.mark.parametrize(("blocks", "ends_with"), [("Q4_K", 1), ("Q5_K", 1), ("Q8_0", 0)])
def test_products_with_q4_k_and_q5_k_are_wrong_where_they_are_unpacked_in_the_same_kernel(blocks: str, ends_with: int) -> None:
    """If they are right, tinygrad has mended it: see docs/findings.md."""
    environment = environments.installed("tinygrad")
    assert environment is not None
    script = Path(__file__).with_name("tinygrad_blocks.py")
    ran = subprocess.run([environment.python, script, "CPU:X86", blocks], capture_output=True, text=True, check=False)
    assert ran.returncode == ends_with and f"{blocks} on CPU:X86" in ran.stdout, ran.stderr


def test_what_it_does_not_read_is_refused(engine: Worker, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no GGUF file"):
        engine.load(ZOO / "qwen3", None)
    engine.load(gguf("qwen3"), None)
    with pytest.raises(ContractError, match="outside the vocabulary of 1540"):
        engine.score([5000], "prefill", tmp_path / "logits")
    with pytest.raises(ContractError, match="do not fit the context of 512"):
        engine.score([1] * 513, "decode", tmp_path / "logits")
