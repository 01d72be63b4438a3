"""Published models, as `make real` unpacks them; one that the index does not have is NOT-MEASURED, by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("LOGITPROOF_REAL") or Path(__file__).parents[2] / ".cache/real")
SMOLLM2 = "SmolLM2-135M-Instruct-Q4_1.gguf"
GEMMA3 = "gemma-3-270m-Q4_K_M.gguf"


def published(name: str) -> Path:
    """The file of a published model; skips the test that asks for one that is not there."""
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"NOT-MEASURED: {name} is not here (`make real`)")
    return path


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct in Q4_1: 30 layers, a vocabulary of 49,152."""
    return published(SMOLLM2)


@pytest.fixture(scope="session")
def gemma3() -> Path:
    """Gemma 3 270M in Q4_K_M: 18 layers, a vocabulary of 262,144."""
    return published(GEMMA3)
