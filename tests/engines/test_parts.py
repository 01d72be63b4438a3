"""A GGUF model in several files, by one command: engines read all of it, and it is the same model as in one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.engines.llamacpp import LlamaCpp
from logitproof.engines.transformers import Transformers
from parted import parted

ROOT = Path(__file__).parents[2]
WHOLE = ROOT / "zoo/gguf/qwen3-Q8_0.gguf"
IDS = [5, 17, 201, 44, 102, 8, 8, 77, 212, 240, 3, 99]


@pytest.mark.parametrize("kind", [LlamaCpp, Transformers])
def test_an_engine_computes_from_parts_what_it_computes_from_the_whole(kind: type, tmp_path: Path) -> None:
    first = parted(WHOLE, tmp_path, 3)[0]
    rows = []
    for file in (WHOLE, first):
        engine = kind()
        engine.load(file)
        rows.append(np.array(engine.score(IDS, "prefill").logits))
    assert np.array_equal(*rows)


def test_a_model_in_parts_is_named_by_its_first(tmp_path: Path) -> None:
    first = parted(WHOLE, tmp_path, 2)[0]
    done = CliRunner().invoke(
        main, ["localize", f"transformers:{WHOLE}", f"llamacpp:{first}", "--tokens", "5,17,201,44", "--json"]
    )
    assert done.exit_code == 0, done.output
