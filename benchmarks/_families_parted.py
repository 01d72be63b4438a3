"""Models on which the witnesses part: llama.cpp's own converter on what transformers saved, and both on what it made."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import make
import numpy as np
import torch
import transformers
from shapes_disputed import AS_PUBLISHED, BY_OUR_LAYOUT, FLAGS, REFUSED, SILENT

from logitproof.engines.llamacpp import LlamaCpp
from logitproof.errors import Refusal
from logitproof.gguf.write import to_gguf
from logitproof.rows.distance import distances

DRIVER = Path(__file__).parents[1] / "tests" / "engines" / "llama_cpp_converter.py"
LENGTH = 110
"""Positions that are compared."""


def parted(converter: Path) -> dict[str, Any]:
    """How far llama.cpp is from transformers on the file of its own converter, or what the converter or it says."""
    silent, refused = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, shape in {**SILENT, **REFUSED}.items():
            folder = Path(scratch) / name
            make.build(shape, folder)
            config = json.loads((folder / "config.json").read_text("utf-8")) | AS_PUBLISHED.get(name, {})
            (folder / "config.json").write_text(json.dumps(config), "utf-8")
            told = _apart(folder, converter)
            (silent if name in SILENT else refused)[name] = told
            print(f"{name}: {told}", flush=True)
    return {
        "witness_disagreements": len(silent),
        "silently_other": silent,
        "not_taken": refused,
        "findings": len(silent) + len(refused),
    }


def _apart(folder: Path, converter: Path) -> float | str:
    """The largest distance of a row over the spread of the logits; or the last line of what went wrong."""
    file = folder / "converted.gguf"
    command = [
        sys.executable,
        str(DRIVER),
        str(converter),
        "llama-bpe",
        str(folder),
        "--outfile",
        str(file),
        "--outtype",
        "f32",
        *FLAGS.get(folder.name, []),
    ]
    if folder.name in BY_OUR_LAYOUT:
        to_gguf(folder, file, "F32")
    elif (ran := subprocess.run(command, capture_output=True, text=True)).returncode:
        return ran.stderr.strip().splitlines()[-1]
    ids = [int(one) for one in np.random.default_rng(5).integers(0, 280, LENGTH)]
    options: dict[str, Any] = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": torch.float32}
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False, **options).eval()
    with torch.inference_mode():
        right = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    rows = folder / "rows"
    bare = [sys.executable, str(Path(__file__).with_name("_bare_rows.py")), str(file), ",".join(map(str, ids)), str(rows)]
    ran = subprocess.run(bare, capture_output=True, text=True)
    ended = [line for line in ran.stderr.splitlines() if "GGML_ASSERT" in line]
    if ended:
        return f"ends the process: {ended[0].rpartition('/')[2]}"
    if ran.returncode:
        return _why_not_loaded(file)
    logits = np.fromfile(rows, np.float32).reshape(right.shape)
    spread = float(distances(np.zeros_like(right), right).mean())
    return float(f"{distances(right, logits).max() / spread:.3g}")


def _why_not_loaded(file: Path) -> str:
    """What llama.cpp says of a file that it does not take."""
    try:
        LlamaCpp().load(file)
    except Refusal as error:
        return str(error).replace(f"{file.parent}/", "")
    return "loaded, and gives no rows"
