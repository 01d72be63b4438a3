"""A published GGUF file and nothing else: are faults planted in it named and located, good engines left alone, bands right?

* planted: faults in the bytes of the file, against the file as it was published. A fault of all layers must be named by a
  diagnosis, one of a single tensor located by a localization. Good variants (threads, batches, decode, attention kernels) must
  be neither.
* kl_vs_independent: KL of a faulty file by the bare library and ten lines of NumPy, beside `compare` on rows of the engine.
* band_ratio, coverage: the predicted RMS error of llama.cpp's arithmetic over the observed one; positions within the band.
* gguf_only: commands that run from the file alone, each in a folder with a contract of one prompt and nothing else.

    python benchmarks/real.py [--out benchmarks/results/real.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _peak import Peaks
from _real_faults import FAULTS, plant

from logitproof.bands.calculated import METRIC, calculated_band, scale
from logitproof.bands.kept import Sides
from logitproof.calibration.repeat import calibration_of
from logitproof.comparison.compare import compare
from logitproof.contract.arithmetic import arithmetic_of
from logitproof.diagnosis.diagnose import Asked, diagnose_cells
from logitproof.diagnosis.found import Known
from logitproof.divergence.measure import Asked as Windows
from logitproof.divergence.measure import measure
from logitproof.gguf.folder import folder_of
from logitproof.jobs.address import parse_address
from logitproof.jobs.session import Session
from logitproof.localization.engines import Asked as Located
from logitproof.localization.engines import localize_engines
from logitproof.reference.planted import Planted
from logitproof.reference.predict import Predictor
from logitproof.rows.distance import distances, rms
from printed_digits import FLAGS, differences

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("LOGITPROOF_REAL") or ROOT / ".cache/real")
TOOLS = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools")
SMOLLM2, GEMMA3 = "SmolLM2-135M-Instruct-Q4_1.gguf", "gemma-3-270m-Q4_K_M.gguf"
TEXT = "The capital of France is Paris. The capital of Germany is Berlin, and that of Italy is"
GOOD = ("", "?threads=2", "?batch_size=4", "?flash_attention=true&kv_type=f16", "?kv_type=f16", "decode")
"""Options of llama.cpp that change no more than rounding; `decode` is token by token through the cache."""
WRONG = 0.35
"""RMS in logits above which a candidate is called wrong: what 8-bit activations and a cache in 16 bits make stays below."""
RUNS = 4


def scored(address: str, ids: list[int] | None, mode: str = "prefill") -> tuple[list[int], np.ndarray]:
    """Token ids of `TEXT`, or those given, and the engine's logits [T, V] on them."""
    side = parse_address(address)
    with tempfile.TemporaryDirectory() as scratch, Session(side.spec, "engine") as session:
        worker, _ = session.loaded(side.model, side.config)
        ids = ids or worker.tokenize(TEXT)
        rows = worker.score(ids, "decode" if mode == "decode" else "prefill", Path(scratch) / "rows.bin").logits
        return ids, np.array(rows.open(), np.float32)


def options_of(variant: str) -> tuple[str, str]:
    """What follows the file in an address, and the mode."""
    return ("", "decode") if variant == "decode" else (variant, "prefill")


def faults(file: Path, scratch: Path) -> tuple[dict[str, Any], list[int], np.ndarray]:
    """Faults of all layers are diagnosed together with the good variants; those of one tensor are localized."""
    ids, right = scored(f"llamacpp:{file}", None)
    variants = {variant or "as published": scored(f"llamacpp:{file}{options_of(variant)[0]}", ids, options_of(variant)[1])[1]
                for variant in GOOD}  # fmt: skip
    everywhere = [fault for fault in FAULTS if fault.named]
    wrong = {fault.name: scored(f"llamacpp:{plant(fault, file, scratch)}", ids)[1] for fault in everywhere}
    planted = Planted.opened(folder_of(file), [ids], file)
    reference = planted.logits()[0]
    apart = {name: rms(distances(reference, rows)) for name, rows in (variants | wrong).items()}
    asked = [Asked([rows], "prefill", Known(apart["as published"], "calculated band", wrong=True)) for rows in wrong.values()]
    diagnoses = dict(zip(wrong, diagnose_cells(planted, asked), strict=True))
    named = {fault.name: diagnoses[fault.name].names for fault in everywhere}
    single = [fault for fault in FAULTS if fault.located]
    sides = {fault.name: parse_address(f"llamacpp:{plant(fault, file, scratch)}") for fault in single}
    found = localize_engines(parse_address(f"transformers:{file}"), sides, ids, asked=Located(explain=False))
    first = dict(zip(sides, (located.localization.first for located in found.located), strict=True))
    return {
        "planted": len(FAULTS),
        "called_wrong": sum(apart[name] > WRONG for name in wrong),
        "named": sum(bool(set(named[fault.name]) & set(fault.named)) for fault in everywhere),
        "names": named,
        "to_be_named": len(everywhere),
        "located": sum(first[fault.name] == fault.located for fault in single),
        "first_wrong": first,
        "to_be_located": len(single),
        "good": len(GOOD),
        "false_alarms": sum(apart[name] > WRONG for name in variants),
        "rms_apart": apart,
    }, ids, right  # fmt: skip


def independent(file: Path, faulty: Path, ids: Sequence[int], right: np.ndarray) -> float:
    """The largest relative difference of KL at a position: the bare library and NumPy beside an engine and `compare`."""
    logs = []
    for path in (file, faulty):
        out = faulty.with_suffix(".rows")
        argv = [sys.executable, str(Path(__file__).with_name("_bare_rows.py")), str(path), ",".join(map(str, ids)), str(out)]
        subprocess.run(argv, check=True)
        rows = np.fromfile(out, np.float32).astype(np.float64).reshape(len(ids), -1)
        rows -= rows.max(1, keepdims=True)
        logs.append(rows - np.log(np.exp(rows).sum(1, keepdims=True)))
    own = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(1)
    tool = compare(right, scored(f"llamacpp:{faulty}", list(ids))[1], labels=np.array([*ids[1:], -1])).metrics["kl_divergence"]
    return float(np.max(np.abs(tool - own) / own))


def bands(file: Path, ids: list[int]) -> dict[str, float]:
    """The error that is predicted of llama.cpp's default arithmetic on this file, and what it is observed to make."""
    predictor = Predictor(file, folder_of(file))
    reference, candidate = arithmetic_of("transformers", {}), arithmetic_of("llamacpp", {})
    assert reference is not None and candidate is not None
    sides = Sides("m", "published", "published", reference, candidate)
    calibration = calibration_of((predictor, predictor), sides, [tuple(ids)], None, (RUNS, 0), "real")
    band = calculated_band(calibration)
    observed = distances(scored(f"transformers:{file}", ids)[1], scored(f"llamacpp:{file}", ids)[1])
    (repeated,), (match,) = calibration.sequences.values(), band.match.values()
    return {
        "positions": len(ids),
        "predicted": rms(scale(repeated.fixed[METRIC])),
        "observed": rms(observed),
        "band_ratio": rms(scale(repeated.fixed[METRIC])) / rms(observed),
        "coverage": float(np.mean(observed <= match)),
    }


def digits_equal(file: Path, scratch: Path) -> bool | str:
    """Whether `kl` prints what llama-perplexity prints, of a K cache in four bits against one in 32."""
    program = next((path for path in (TOOLS / "bin/llama-perplexity", TOOLS / "llama-perplexity") if path.is_file()), None)
    if program is None:
        return "NOT-MEASURED: llama-perplexity is not here (`make llama-tools`)"
    saved, text = scratch / "saved.kld", ROOT / "zoo/corpus/en-1.txt"
    tool = [str(program), "-m", str(file), *FLAGS, "-c", "64", "--kl-divergence-base", str(saved), "-ctv", "f32"]
    subprocess.run([*tool, "-ctk", "f32", "-f", str(text), "--chunks", "2"], check=True, capture_output=True)
    printed = subprocess.run([*tool, "-ctk", "q4_0", "--kl-divergence"], check=True, capture_output=True).stdout.decode()
    (measured,) = measure(str(saved), [f"llamacpp:{file}?kv_type=q4_0&kv_type_v=f32"], Windows()).candidates
    return not differences(measured, printed)


def commands(file: Path, folder: Path) -> dict[str, int]:
    """The exit code of every command, run from the file alone; 0 and 1 are answers, everything else is none."""
    suite = {"suite": "s", "max_new_tokens": 2, "prompts": [{"id": "paris", "text": TEXT}]}
    contract = {
        "contract": "alone",
        "reference": {"engine": "transformers"},
        "candidates": {"llama": {"engine": "llamacpp"}},
        "models": {"m": str(file)},
        "matrix": {"mode": ["prefill"]},
        "suites": ["suite.yaml"],
        "bands": [{"match": 0.0001, "wrong": 0.0002, "basis": "so tight that the cell is WRONG and can be looked into"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 0.02, "basis": "ggml rounds activations to 8 bits"}],
        "error_bar": {"vary": []},
    }
    folder.mkdir()
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    (folder / "alone.parity.yaml").write_text(yaml.safe_dump(contract))
    asked = {
        "check": ["check", "alone.parity.yaml"],
        "diagnose": ["diagnose", "runs/alone"],
        "localize": ["localize", "runs/alone", "--no-hypotheses"],
        "calibrate": ["calibrate", "alone.parity.yaml", "--runs", "2"],
        "decompose": ["decompose", "runs/alone", "--runs", "0"],
        "quality": ["quality", "alone.parity.yaml"],
        "tokenizer": ["tokenizer", f"transformers:{file}", f"llamacpp:{file}", "--fuzzed", "60"],
        "kernels": ["kernels", str(file), "--dtype", "float32"],
        "freeze": ["freeze", "alone.parity.yaml", "--out", "golden.safetensors", "--no-determinism"],
        "evaluate": ["evaluate", f"llamacpp:{file}", "--limit", "1"],
        "gguf export": ["gguf", "export", str(file), "exported"],
    }
    codes = {}
    for name, arguments in asked.items():
        argv = [sys.executable, "-m", "logitproof", *arguments]
        codes[name] = subprocess.run(argv, cwd=folder, capture_output=True).returncode
    return codes


def measured(file: Path, scratch: Path) -> dict[str, Any]:
    """Everything that is asked of one model; faults are written for the family of the first alone."""
    codes = commands(file, scratch / "alone")
    answer: dict[str, Any] = {
        "gguf_only": sum(code in (0, 1) for code in codes.values()),
        "commands": codes,
        "tokenizer_differences_explained": codes["tokenizer"] == 0,
        "kl_command_digits_equal": digits_equal(file, scratch),
    }
    if file.name == SMOLLM2:
        planted, ids, right = faults(file, scratch)
        answer |= planted
        answer["kl_vs_independent"] = independent(file, scratch / f"{FAULTS[0].name}.gguf", ids, right)
        answer |= bands(file, ids)
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/real.json")
    out = parser.parse_args().out
    models: dict[str, Any] = {}
    for name in (SMOLLM2, GEMMA3):
        if not (FOLDER / name).is_file():
            models[name] = f"NOT-MEASURED: {name} is not here (`make real`)"
            continue
        with tempfile.TemporaryDirectory() as scratch:
            with Peaks() as peaks:
                answer = measured(FOLDER / name, Path(scratch))
            models[name] = answer | {"peak_mb": peaks.largest}
    out.write_text(json.dumps({"models": models}, indent=1) + "\n")
    print(f"{out}: {models}")


if __name__ == "__main__":
    main()
