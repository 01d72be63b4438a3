"""A published GGUF file and nothing else: are faults planted in it named and located, good engines left alone, bands right?

* gguf_only: commands that run from the file alone, with their processor seconds and peaks.
* planted: faults of all layers in the bytes of the file, named by a diagnosis of the logits alone.
* located: faults of one tensor, located by a localization.
* good: good variants (threads, batches, decode, attention kernels) judged by calculated bands.
* bands: the predicted RMS error of llama.cpp's arithmetic over the observed one; positions within the band.
* tokenizer: the tokenizer made of the file beside llama.cpp's, and one of a file with a wrong entry.
* kl: KL of a faulty file by the bare library and NumPy, beside `compare`.
* digits: the figures of the command `kl`, digit for digit beside llama-perplexity's.
* cost: a diagnosis, a calibration and a localization, in processor seconds and megabytes.

    python benchmarks/real.py [--part planted ...] [--model SmolLM2 ...] [--out benchmarks/results/real.json]

Each part is written into the results as it ends, so that a long measurement may be made in pieces; without `--part` all are.
`figures` are those of a model over its parts: a fault is named by a diagnosis, a localization or the tokenizer's comparison,
whichever it is planted for. They are null until their parts are there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import _real_parts as parts
from _peak import Peaks
from _real_faults import GEMMA3, LLAMA
from _real_parts import Subject

from logitproof.files.atomic import write_atomically

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("LOGITPROOF_REAL") or ROOT / ".cache/real")
SMOLLM2_FILE, GEMMA3_FILE = "SmolLM2-135M-Instruct-Q4_1.gguf", "gemma-3-270m-Q4_K_M.gguf"
TEXT = (
    "The lighthouse stood at the end of the pier, and every evening at six the keeper climbed its 129 steps to light the lamp. "
    "He had done so for thirty years. The capital of France is Paris, the capital of Germany is Berlin, that of Italy is Rome. "
    "def add(a, b):\n    return a + b\n"
)
NO_BIAS = "NOT-MEASURED: the model has no bias"
SUBJECTS = {
    SMOLLM2_FILE: Subject(
        FOLDER / SMOLLM2_FILE, LLAMA, TEXT, 64, {"dropped_bias": NO_BIAS, "window": "NOT-MEASURED: the model has no window"}
    ),
    GEMMA3_FILE: Subject(FOLDER / GEMMA3_FILE, GEMMA3, TEXT, 32, {"dropped_bias": NO_BIAS}),
}
Part = Callable[[Subject, Path], dict[str, Any]]
PARTS: Mapping[str, Part] = {
    "gguf_only": parts.gguf_only,
    "planted": parts.planted,
    "located": parts.located,
    "good": parts.good,
    "bands": parts.bands,
    "tokenizer": parts.tokenizers,
    "kl": parts.kl,
    "digits": parts.digits,
    "cost": parts.cost,
}


FIGURES: Mapping[str, Sequence[tuple[str, str]]] = {
    "gguf_only": [("gguf_only", "gguf_only")],
    "gguf_only_of": [("gguf_only", "asked")],
    "kl_vs_independent": [("kl", "kl_vs_independent")],
    "planted": [
        ("planted", "planted_in_all_layers"),
        ("located", "planted_in_one_tensor"),
        ("tokenizer", "tokenizer_faults_planted"),
    ],
    "named": [("planted", "named"), ("located", "located"), ("tokenizer", "tokenizer_faults_found")],
    "located": [("located", "located")],
    "located_of": [("located", "planted_in_one_tensor")],
    "good_variants": [("good", "good")],
    "false_alarms": [("good", "false_alarms")],
    "band_ratio": [("bands", "band_ratio")],
    "coverage": [("bands", "coverage")],
    "tokenizer_differences_explained": [("tokenizer", "tokenizer_differences_explained")],
    "kl_command_digits_equal": [("digits", "kl_command_digits_equal")],
}
"""The figures of a model, each by the parts and their keys that it is read from, or summed up from."""


def figures_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a model from those of its parts; null where a part is not measured yet."""
    figures = {}
    for name, sources in FIGURES.items():
        values = [found.get(part, {}).get(key) for part, key in sources]
        figures[name] = None if None in values else values[0] if len(values) == 1 else sum(values)
    return figures


def measured(part: str, subject: Subject) -> dict[str, Any]:
    """The figures of one part, with the largest peak of a process, and when it ended."""
    with tempfile.TemporaryDirectory() as scratch, Peaks() as peaks:
        answer = PARTS[part](subject, Path(scratch))
    return answer | {"largest_process_mb": round(peaks.largest), "ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M}"}


def kept(out: Path) -> dict[str, Any]:
    """The results so far, by model and part."""
    models: dict[str, Any] = json.loads(out.read_text("utf-8"))["models"] if out.is_file() else {}
    return models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/real.json")
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--model", action="append", help="the beginning of a file's name")
    asked = parser.parse_args()
    for name, subject in SUBJECTS.items():
        if asked.model and not name.lower().startswith(tuple(model.lower() for model in asked.model)):
            continue
        if not subject.file.is_file():
            _write(asked.out, name, {}, f"NOT-MEASURED: {name} is not here (`make real`)")
            continue
        for part in asked.part or PARTS:
            if asked.part and len(asked.part) == 1:
                figures = measured(part, subject)
                _write(asked.out, name, {part: figures})
                print(f"{name} {part}: {figures}", flush=True)
            else:  # each in a process of its own, whose peak begins anew
                argv = [sys.executable, __file__, "--part", part, "--model", name, "--out", str(asked.out)]
                subprocess.run(argv, check=True)


def _write(out: Path, name: str, figures: Mapping[str, Any], missing: str = "") -> None:
    models = kept(out)
    before = models.get(name, {})
    found = {**(before if isinstance(before, dict) else {}), **figures}
    models[name] = missing or {"figures": figures_of(found)} | {part: found[part] for part in PARTS if part in found}
    write_atomically(out, json.dumps({"models": models}, indent=1) + "\n")


if __name__ == "__main__":
    main()
