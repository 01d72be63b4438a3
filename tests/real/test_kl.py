"""`kl` on published files prints the digits of llama-perplexity: a vocabulary of 49,152, and one of 262,144 with a BOS."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from logitproof.divergence.measure import Asked, measure
from printed_digits import FLAGS, differences, printed_by

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools")


@pytest.mark.parametrize(("name", "bos"), [("smollm2", None), ("gemma3", 2)])
def test_kl_prints_the_digits_of_the_real_tool(
    name: str, bos: int | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The same file with its K cache in four bits against it in 32: a divergence of the size that people measure."""
    model: Path = request.getfixturevalue(name)
    program = next((path for path in (FOLDER / "bin/llama-perplexity", FOLDER / "llama-perplexity") if path.is_file()), None)
    if program is None:
        pytest.skip("NOT-MEASURED: llama-perplexity is not here (`make llama-tools`)")
    text, saved = ROOT / "zoo/corpus/en-1.txt", tmp_path / "saved.kld"
    tool = [str(program), "-m", str(model), *FLAGS, "-c", "64", "--kl-divergence-base", str(saved), "-ctv", "f32"]
    subprocess.run([*tool, "-ctk", "f32", "-f", str(text), "--chunks", "4"], check=True, capture_output=True, timeout=300)
    asked = [*tool, "-ctk", "q4_0", "--kl-divergence"]
    printed = printed_by(asked, timeout=300)
    divergence = measure(str(saved), [f"llamacpp:{model}?kv_type=q4_0&kv_type_v=f32"], Asked())
    (found,) = divergence.candidates
    assert divergence.bos == bos and divergence.positions == 124 and not found.failure
    assert found.figures["kl_mean"].value > 1e-3
    assert not differences(found, printed)
