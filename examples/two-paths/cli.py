"""Stands in for the command line that Gradle runs: log lines, the text between two marker lines, then the ids.

    python examples/two-paths/cli.py OUT > cli.txt

It continues the ten ids of `ids.yaml` greedily by the simple path of `make.py`, whose weights it reads from OUT/model.
"""

from __future__ import annotations

import sys
from pathlib import Path

import make
import numpy as np
from safetensors.numpy import load_file

STEPS = 6


def main() -> int:
    """Print what such a program prints."""
    if len(sys.argv) != 2:
        sys.exit("usage: cli.py OUT")
    file = Path(sys.argv[1]) / "model" / "model.safetensors"
    if not file.is_file():
        sys.exit(f"{file} is not there: `python make.py {sys.argv[1]}` writes it")
    stored = load_file(file)
    weights = {name: value.astype(np.float64) for name, value in stored.items()}
    prompt = list(make.TOKENS)
    ids = list(prompt)
    print("> Task :parity\nINFO  loaded 1 layer in 3 ms")
    for _ in range(STEPS):
        make.TOKENS[:] = ids
        ids.append(int(make.forward(weights, make.SQUARE, "simple")["logits"][-1].argmax()))
    print(f"Prompt Token IDs: {prompt}\n{'=' * 20}")
    print(" ".join(f"<{token}>" for token in ids[len(prompt) :]))
    print(f"{'=' * 20}\nToken IDs: {ids[len(prompt) :]}\nBUILD SUCCESSFUL in 1s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
