"""Single layers of a narrow model computed in float32: the option that `bisect layers` asks an engine for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from logitproof.engines.transformers import Transformers
from logitproof.errors import Refusal

MODEL = Path(__file__).parents[2] / "zoo/qwen3"
IDS = list(range(5, 29))


def rows(mode: str = "prefill", **options: object) -> np.ndarray:
    engine = Transformers(**options)  # type: ignore[arg-type]
    engine.load(MODEL)
    return np.asarray(engine.score(IDS, mode).logits, np.float64)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_every_layer_in_float32_brings_a_model_in_bfloat16_nearer(mode: str) -> None:
    right, narrow = rows(mode), rows(mode, dtype="bfloat16")
    half, whole = (rows(mode, dtype="bfloat16", float32_layers=numbers) for numbers in ([0], [0, 1]))
    far = [float(np.sqrt(((right - other) ** 2).mean())) for other in (narrow, half, whole)]
    assert far[2] < far[1] < far[0] and far[2] > 0, "the embedding and the head stay narrow"
    assert np.array_equal(rows(mode, float32_layers=[0, 1]), right)


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(Refusal, match="has 2 layers, no layer 2"):
        rows(float32_layers=[2])
    with pytest.raises(Refusal, match="offload"):
        rows(float32_layers=[0], offload="stream")
