"""transformers with its own loader of GGUF files, beside the reference on the same file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from against_reference import ALONE, ZOO

from logitproof.errors import ContractError
from logitproof.gguf.write import to_gguf
from logitproof.jobs.worker import Spec, Worker
from logitproof.rows.distance import distances

IDS = list(range(5, 45))


def rows(engine: str, file: Path, config: Path, scratch: Path) -> np.ndarray:
    """Logits [T, V] of one prompt."""
    with Worker(Spec(engine, {"threads": 1}, ALONE), name=engine) as worker:
        worker.load(file, config)
        return np.array(worker.score(IDS, "prefill", scratch / f"{engine}.raw").logits.open())


@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
def test_a_family_that_it_reads_right_is_the_reference_s_model(kind: str, tmp_path: Path) -> None:
    file = to_gguf(ZOO / "qwen2.5", tmp_path / "m.gguf", kind)
    theirs, right = (rows(engine, file, ZOO / "qwen2.5", tmp_path) for engine in ("transformers_gguf", "transformers"))
    assert distances(right, theirs).max() < 1e-4


def test_it_loses_the_scaling_of_a_rotation(tmp_path: Path) -> None:
    """docs/findings.md: a Llama 3 without its scaling is another model, whatever its file says."""
    file = to_gguf(ZOO / "llama3", tmp_path / "m.gguf", "F32")
    theirs, right = (rows(engine, file, ZOO / "llama3", tmp_path) for engine in ("transformers_gguf", "transformers"))
    plain = tmp_path / "plain"
    plain.mkdir()
    for path in (ZOO / "llama3").iterdir():
        (plain / path.name).symlink_to(path)
    config = json.loads((ZOO / "llama3/config.json").read_text("utf-8"))
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": config["rope_parameters"]["rope_theta"]}
    (plain / "config.json").unlink()
    (plain / "config.json").write_text(json.dumps(config), "utf-8")
    unscaled = rows("transformers", plain, plain, tmp_path)
    assert distances(right, theirs).max() > 1e-2 > 1e-4 > distances(unscaled, theirs).max()


def test_what_it_does_not_load_is_refused_in_its_own_words(tmp_path: Path) -> None:
    file = to_gguf(ZOO / "qwen3", tmp_path / "m.gguf", "F32")
    with Worker(Spec("transformers_gguf", {}, ALONE), name="gguf") as worker:
        with pytest.raises(ContractError, match="transformers does not load m.gguf"):
            worker.load(file, ZOO / "qwen3")
        with pytest.raises(ContractError, match="no GGUF file"):
            worker.load(ZOO / "qwen3", None)
