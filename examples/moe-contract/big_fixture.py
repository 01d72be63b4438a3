"""Writes a fixture of one row of 151,936 logits, as a transformers script does: `python big_fixture.py OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

VOCABULARY = 151_936
TOKENS = [3838, 374, 220, 17, 10, 17, 30]


def main() -> int:
    """Write OUT/hf.json."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: big_fixture.py OUT, a folder that is there")
    row = np.random.default_rng(0).normal(size=VOCABULARY).astype(np.float16).astype(float)
    fixture = {
        "model_name": "Qwen/Qwen3-30B-A3B", "model_dtype": "float16", "prompt": "What is 2+2?", "tokens": TOKENS,
        "vocab_size": VOCABULARY, "position": 0, "logits": row.tolist(), "argmax_token": int(row.argmax()),
    }  # fmt: skip
    path = Path(sys.argv[1]) / "hf.json"
    path.write_text(json.dumps(fixture), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
