"""What `real.py` asks of one published file: each function is a part, and gives its figures."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from _peak import Peaks
from _real_faults import Fault, plant

from logitproof.bands.calculated import METRIC, calculated_band, scale
from logitproof.calibration.repeat import calibration_of
from logitproof.comparison.compare import compare
from logitproof.contract.arithmetic import arithmetic_of
from logitproof.diagnosis.diagnose import Asked, diagnose_cells
from logitproof.diagnosis.found import Diagnosis, Known
from logitproof.diagnosis.text import sentence
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
from logitproof.runs.calibrations import Sides
from printed_digits import FLAGS, differences, printed_by

ROOT = Path(__file__).parents[1]
TOOLS = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools")
SHORT = "The capital of France is Paris. The capital of Germany is Berlin, and that of Italy is"
GOOD: Mapping[str, dict[str, Any]] = {
    "default": {},
    "two_threads": {"threads": 2},
    "batches_of_4": {"batch_size": 4},
    "cache_in_f16": {"kv_type": "f16"},
    "flash_attention": {"flash_attention": True, "kv_type": "f16"},
}
"""Options of llama.cpp that change no more than rounding, each judged in one pass and token by token."""
RUNS = 4
ROUNDING = 1e-12
"""KL in nats that float64 itself makes of rows of logits."""
CALIBRATED = {"bound": "calibrated", "basis": "what the arithmetic of the engine makes"}
GATE = {"id": "kl", "metric": "kl_divergence", "at_most": 0.02, "basis": "ggml rounds activations to 8 bits"}
ANSWERS = {"evaluate": (0,), "freeze": (0,), "gguf export": (0,), "kernels": (0,), "calibrate": (0,), "tokenizer": (0,)}
"""Exit codes that say that a command has answered, where 1 (a fault was found) is no answer of a right file; else 0 and 1."""

CHUNKS = "4"
"""Windows of 64 tokens of which the latter half counts: below 100 positions the tool prints no figures."""
COST_EXITS = {"diagnose": 1, "calibrate": 0, "localize": 1}
"""Of a base that is named, of an arithmetic that is known, of a tensor that is found."""


@dataclass(frozen=True)
class Subject:
    """A published file, the faults that are planted in it, and how many positions of `text` are looked at."""

    file: Path
    faults: tuple[Fault, ...]
    text: str
    positions: int
    missing: Mapping[str, str]
    """Faults that this model cannot have, and why."""


def scored(address: str, ids: Sequence[int], mode: str = "prefill") -> np.ndarray:
    """The engine's logits float32 [T, V] of the tokens."""
    with opened(address) as worker, tempfile.TemporaryDirectory() as scratch:
        rows = worker.score(list(ids), "decode" if mode == "decode" else "prefill", Path(scratch) / "rows.bin").logits
        return np.array(rows.open(), np.float32)


def tokens(subject: Subject) -> list[int]:
    """The first tokens of the subject's text, as llama.cpp cuts it."""
    with opened(f"llamacpp:{subject.file}") as worker:
        return list(worker.tokenize(subject.text))[: subject.positions]


@contextmanager
def opened(address: str) -> Iterator[Any]:
    """The worker of an engine that has loaded the model of an address."""
    side = parse_address(address)
    with Session(side.spec, "engine") as session:
        yield session.loaded(side.model, side.config)[0]


def planted(subject: Subject, scratch: Path) -> dict[str, Any]:
    """Faults of all layers are named by one diagnosis from the logits alone; beside them the file as it was published."""
    ids = tokens(subject)
    everywhere = [fault for fault in subject.faults if fault.named]
    rows = {"as published": scored(f"llamacpp:{subject.file}", ids)}
    for fault in everywhere:
        faulty = plant(fault, subject.file, scratch)
        rows[fault.name] = scored(f"llamacpp:{faulty}", ids)
        faulty.unlink()
    found = _diagnosed(subject.file, ids, rows)
    named = {fault.name: found[fault.name].names for fault in everywhere}
    published = found["as published"]
    return {
        "planted_in_all_layers": len(everywhere),
        "named": sum(bool(named[fault.name]) and set(named[fault.name]) <= set(fault.named) for fault in everywhere),
        "names": named,
        "not_planted": dict(subject.missing),
        "as_published": {"verdict": published.verdict, "apart": published.to_reference, "noise": published.noise},
    }


def _diagnosed(file: Path, ids: Sequence[int], rows: Mapping[str, np.ndarray]) -> dict[str, Diagnosis]:
    """Diagnoses of logits that a verdict has called wrong, by what the engine declares of its arithmetic and nothing else."""
    arithmetic = arithmetic_of("llamacpp", {})
    assert arithmetic is not None
    known = Known(source="arithmetic", wrong=True, bits=arithmetic.bits, arithmetic=arithmetic)
    reference = Planted.opened(folder_of(file), [list(ids)], file)
    asked = [Asked([values], "prefill", known) for values in rows.values()]
    found = {}
    for name, diagnosis in zip(rows, diagnose_cells(reference, asked), strict=True):
        print(f"{file.name} {name}: {sentence(diagnosis)}", file=sys.stderr, flush=True)
        found[name] = diagnosis
    return found


def located(subject: Subject, scratch: Path) -> dict[str, Any]:
    """Faults of one tensor are located at the operation that reads it, beside a file without a fault."""
    ids = tokens(subject)
    single = [fault for fault in subject.faults if fault.located]
    sides = {fault.name: parse_address(f"llamacpp:{plant(fault, subject.file, scratch)}") for fault in single}
    sides["as published"] = parse_address(f"llamacpp:{subject.file}")
    answer = localize_engines(parse_address(f"transformers:{subject.file}"), sides, ids, asked=Located(explain=False))
    first = dict(zip(sides, (side.localization.first for side in answer.located), strict=True))
    return {
        "planted_in_one_tensor": len(single),
        "located": sum(first[fault.name] == fault.located for fault in single),
        "first_wrong": first,
        "first_wrong_as_published": first["as published"],
    }


def good(subject: Subject, scratch: Path) -> dict[str, Any]:
    """Good variants judged by calculated bands of `calibrate`: a cell of `check` that is no MATCH or TIE-FLIP is an alarm."""
    contract = _contract(subject.file) | {
        "candidates": {name: {"engine": "llamacpp", "options": options} for name, options in GOOD.items()},
        "matrix": {"mode": ["prefill", "decode"]},
        "bands": [CALIBRATED],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": "calibrated", "basis": CALIBRATED["basis"]}],
    }
    _written(contract, _prompts(subject), scratch)
    calibrated = _run(scratch, "calibrate", "alone.parity.yaml", "--runs", str(RUNS))
    assert calibrated.returncode == 0, calibrated.stderr.decode()[-2000:]
    judged = _run(scratch, "check", "alone.parity.yaml", "--json")
    statuses = {_name(cell): cell["status"] for cell in json.loads(judged.stdout)["cells"]}
    alarms = {name: status for name, status in statuses.items() if status not in ("MATCH", "TIE-FLIP")}
    return {"good": len(statuses), "false_alarms": len(alarms), "alarms": alarms, "check_exits": judged.returncode}


def _name(cell: Mapping[str, Any]) -> str:
    return str(cell.get("id") or "/".join(str(cell[axis]) for axis in ("candidate", "model", "quantization", "mode")))


def bands(subject: Subject, _: Path) -> dict[str, Any]:
    """The error that is predicted of llama.cpp's default arithmetic on this file, and what it is observed to make."""
    ids = tokens(subject)
    predictor = Predictor(subject.file, folder_of(subject.file))
    reference, candidate = arithmetic_of("transformers", {}), arithmetic_of("llamacpp", {})
    assert reference is not None and candidate is not None
    sides = Sides("m", "published", "published", reference, candidate)
    calibration = calibration_of((predictor, predictor), sides, [tuple(ids)], None, (RUNS, 0), "real")
    band = calculated_band(calibration)
    observed = distances(scored(f"transformers:{subject.file}", ids), scored(f"llamacpp:{subject.file}", ids))
    (repeated,), (match,) = calibration.sequences.values(), band.match.values()
    predicted = scale(repeated.fixed[METRIC])
    return {
        "positions": len(ids),
        "predicted": rms(predicted),
        "observed": rms(observed),
        "band_ratio": rms(predicted) / rms(observed),
        "band_ratio_median_position": float(np.median(predicted / observed)),
        "coverage": float(np.mean(observed <= match)),
    }


def tokenizers(subject: Subject, scratch: Path) -> dict[str, Any]:
    """The tokenizer made of the file beside llama.cpp's on hard and random text; then one whose file has another entry."""
    (fault,) = (fault for fault in subject.faults if fault.tokenizer)
    right = _tokenizer(scratch, subject.file, subject.file)
    wrong = _tokenizer(scratch, subject.file, plant(fault, subject.file, scratch))
    causes = sum(cause["texts"] for cause in right["causes"])
    return {
        "texts": right["tried"],
        "tokenizer_differences": len(right["differences"]),
        "tokenizer_differences_explained": causes == len(right["differences"]),
        "tokenizer_fault": fault.name,
        "tokenizer_faults_planted": 1,
        "tokenizer_faults_found": int(bool(wrong["differences"])),
        "tokenizer_fault_causes": [cause["text"] for cause in wrong["causes"]],
    }


def _tokenizer(folder: Path, right: Path, candidate: Path) -> dict[str, Any]:
    done = _run(folder, "tokenizer", f"transformers:{right}", f"llamacpp:{candidate}", "--fuzzed", "100", "--json")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def kl(subject: Subject, scratch: Path) -> dict[str, Any]:
    """KL of a faulty file by `compare` on rows of the engine, and by a script that uses neither."""
    fault = subject.faults[0]
    faulty, ids = plant(fault, subject.file, scratch), tokens(subject)
    logs = [_bare(path, ids, scratch / "rows.bin") for path in (subject.file, faulty)]
    own = (np.exp(logs[0]) * (logs[0] - logs[1])).sum(1)
    right, wrong = (scored(f"llamacpp:{path}", ids) for path in (subject.file, faulty))
    tool = compare(right, wrong, labels=np.array([*ids[1:], -1])).metrics["kl_divergence"]
    differs = own > ROUNDING  # the first position of a rotation by another base is the same to the last bit
    assert differs.any() and np.all(np.abs(tool - own)[~differs] <= ROUNDING)
    relative = np.abs(tool - own)[differs] / own[differs]
    return {"kl_vs_independent": float(relative.max()), "kl_positions": int(differs.sum())}


def digits(subject: Subject, scratch: Path) -> dict[str, Any]:
    """The digits of `kl` beside those that llama-perplexity prints."""
    return {"kl_command_digits_equal": _digits_equal(subject.file, scratch)}


def _bare(file: Path, ids: Sequence[int], out: Path) -> np.ndarray:
    """Log-probabilities float64 [T, V] by the bare library and NumPy."""
    argv = [sys.executable, str(Path(__file__).with_name("_bare_rows.py")), str(file), ",".join(map(str, ids)), str(out)]
    subprocess.run(argv, check=True)
    rows = np.fromfile(out, np.float32).astype(np.float64).reshape(len(ids), -1)
    rows -= rows.max(1, keepdims=True)
    return np.asarray(rows - np.log(np.exp(rows).sum(1, keepdims=True)))


def _digits_equal(file: Path, scratch: Path) -> bool | str:
    """Whether `kl` prints what llama-perplexity prints, of a K cache in four bits against one in 32."""
    program = next((path for path in (TOOLS / "bin/llama-perplexity", TOOLS / "llama-perplexity") if path.is_file()), None)
    if program is None:
        return "NOT-MEASURED: llama-perplexity is not here (`make llama-tools`)"
    saved, text = scratch / "saved.kld", ROOT / "zoo/corpus/en-1.txt"
    tool = [str(program), "-m", str(file), *FLAGS, "-c", "64", "--kl-divergence-base", str(saved), "-ctv", "f32"]
    subprocess.run([*tool, "-ctk", "f32", "-f", str(text), "--chunks", CHUNKS], check=True, capture_output=True)
    printed = printed_by([*tool, "-ctk", "q4_0", "--kl-divergence"], 300)
    (measured,) = measure(str(saved), [f"llamacpp:{file}?kv_type=q4_0&kv_type_v=f32"], Windows()).candidates
    return not differences(measured, printed)


def gguf_only(subject: Subject, scratch: Path) -> dict[str, Any]:
    """Every command from the file alone, on one short prompt; a decode is held against its own prefill besides."""
    contract = _contract(subject.file) | {
        "bands": [{"match": 0.0001, "wrong": 0.0002, "basis": "so tight that the cell is WRONG and can be looked into"}],
        "gates": [GATE],
    }
    _written(contract, [{"id": "paris", "text": SHORT}], scratch)
    own = contract | {
        "contract": "self",
        "reference": {"engine": "llamacpp", "weights": "candidate"},
        "matrix": {"mode": ["self"]},
        "bands": [{"match": 0.5, "wrong": 5.0, "basis": "decode and prefill have kernels of their own"}],
    }
    (scratch / "self.parity.yaml").write_text(yaml.safe_dump(own))
    file = str(subject.file)
    asked = {
        "check": ["check", "alone.parity.yaml"],
        "diagnose": ["diagnose", "runs/alone"],
        "localize": ["localize", "runs/alone", "--no-hypotheses"],
        "calibrate": ["calibrate", "alone.parity.yaml", "--runs", "2"],
        "decompose": ["decompose", "runs/alone", "--runs", "0"],
        "quality": ["quality", "alone.parity.yaml"],
        "tokenizer": ["tokenizer", f"transformers:{file}", f"llamacpp:{file}", "--fuzzed", "60"],
        "kernels": ["kernels", file, "--dtype", "float32"],
        "freeze": ["freeze", "alone.parity.yaml", "--out", "golden.safetensors", "--no-determinism"],
        "evaluate": ["evaluate", f"llamacpp:{file}", "--limit", "1"],
        "self-consistency": ["check", "self.parity.yaml"],
        "gguf export": ["gguf", "export", file, "exported"],
    }
    codes, costs = {}, {}
    for name, arguments in asked.items():
        codes[name], costs[name] = _cost(lambda words=arguments: _run(scratch, *words).returncode)
    answered = {name: code in ANSWERS.get(name, (0, 1)) for name, code in codes.items()}
    return {"gguf_only": sum(answered.values()), "asked": len(asked), "exits": codes, "costs": costs}


def cost(subject: Subject, scratch: Path) -> dict[str, Any]:
    """A diagnosis, a calibration and a localization of `positions` tokens on two processors, engines and all."""
    faults = {fault.name: fault for fault in subject.faults}
    bad = plant(faults["rope_base"], subject.file, scratch)
    contract = _contract(subject.file) | {
        "models": {"m": {"original": str(subject.file), "bad": str(bad)}},
        "matrix": {"mode": ["prefill"], "quantization": ["bad"]},
        "bands": [{"match": 0.4, "wrong": 0.7, "basis": "ggml rounds activations to 8 bits"}],
        "gates": [GATE],
        "preflight": {"skip": ["PF201"], "reason": "the changed base is what is to be found"},
    }
    _written(contract, _prompts(subject), scratch)
    checked = _run(scratch, "check", "alone.parity.yaml")
    assert checked.returncode == 1, checked.stderr.decode()[-2000:]
    plain = contract | {"contract": "good", "models": {"m": str(subject.file)}, "matrix": {"mode": ["prefill"]}}
    (scratch / "good.parity.yaml").write_text(yaml.safe_dump({**plain, "bands": [CALIBRATED]}))
    ids = ",".join(map(str, tokens(subject)))
    wrong = plant(faults["v_dropped"], subject.file, scratch)
    sides = [f"transformers:{subject.file}", f"llamacpp:{wrong}"]
    asked = {
        "diagnose": ["diagnose", "runs/alone"],
        "calibrate": ["calibrate", "good.parity.yaml"],
        "localize": ["localize", *sides, "--tokens", ids, "--no-hypotheses"],
    }
    figures = {}
    for name, arguments in asked.items():
        code, figures[name] = _cost(lambda words=arguments: _run(scratch, *words).returncode)
        figures[name]["exit"] = code
        assert code == COST_EXITS[name], f"{name}: exit {code}"
    return {"cost_positions": ids.count(",") + 1, "cost": figures}


def _cost(run: Callable[[], int]) -> tuple[int, dict[str, float]]:
    """What it gives, the processor seconds of all processes that it started, and the peak of the largest."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Peaks(own=False) as peaks:
        code = run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return code, {"cpu_s": round(seconds, 1), "peak_mb": round(peaks.largest)}


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "logitproof", *arguments], cwd=folder, capture_output=True)


def _prompts(subject: Subject) -> list[dict[str, Any]]:
    return [{"id": "text", "token_ids": tokens(subject)}]


def _contract(file: Path) -> dict[str, Any]:
    return {
        "contract": "alone",
        "reference": {"engine": "transformers"},
        "candidates": {"llama": {"engine": "llamacpp"}},
        "models": {"m": str(file)},
        "matrix": {"mode": ["prefill"]},
        "suites": ["suite.yaml"],
        "error_bar": {"vary": []},
    }


def _written(contract: Mapping[str, Any], prompts: Sequence[Mapping[str, Any]], folder: Path) -> None:
    suite = {"suite": "s", "max_new_tokens": 2 if "text" in prompts[0] else 0, "prompts": list(prompts)}
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    (folder / "alone.parity.yaml").write_text(yaml.safe_dump(dict(contract)))
