"""The planted set-up faults and the correct set-ups of `benchmarks/contract.py`, each as a folder and a command."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _set_up_faults import edit_folder
from _set_up_models import BASIS, ZOO, Case, checkpoints, contract, metadata, tensors, tokenizers

from logitproof.contract.opened import open_contract
from logitproof.jobs.capture import capture
from logitproof.runs.pins import make_pins, write_pins
from logitproof.traces.trace import sealed

PATCHED = """\
import sys
import numpy as np
from logitproof.engines.{module} import {name} as Engine
from logitproof.engines import Generated
{body}
from logitproof.serve import main
sys.exit(main([{module!r}, {options!r}]))
"""


def planted() -> Iterator[Case]:
    """Every fault, in the order of what it is a fault of."""
    yield from metadata()
    yield from tokenizers()
    yield from tensors()
    yield from checkpoints()
    yield from settings()
    yield from programs()
    yield from dumps()
    yield from frozen()
    yield from written()


def clean() -> Iterator[Case]:
    """Correct set-ups over the families of the zoo: nothing may be said of them."""
    for family in ("llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5"):
        for label, gate in (("F32", 1e-6), ("Q4_K_M", 0.5)):
            gates = [{"id": "kl", "metric": "kl_divergence", "at_most": gate, "basis": BASIS}]
            yield Case(f"{family} {label}", _clean(family, label, gates))
    yield Case("llama3 F16, a second engine as witness", lambda f: contract(
        f, "llama3", "F16", witness={"engine": "llamacpp", "weights": "F16"}, error_bar={}))  # fmt: skip
    own = {"engine": "transformers", "options": {"threads": 1}, "weights": "candidate"}
    yield Case("qwen3 Q8_0, the reference on the same file", lambda f: contract(f, "qwen3", "Q8_0", reference=own))
    yield Case("llama3, logits of a dump", lambda f: dump(f, lambda rows: rows))
    yield Case("qwen3.5, bfloat16 against float32", lambda f: contract(
        f, "qwen3.5", "bf16", ZOO / "qwen3.5",
        candidates={"mine": {"engine": "transformers", "options": {"threads": 1, "dtype": "bfloat16"}}}))  # fmt: skip


def _clean(family: str, label: str, gates: list[dict[str, Any]]) -> Callable[[Path], list[str]]:
    return lambda folder: contract(folder, family, label, gates=gates, error_bar={}, matrix={
        "quantization": [label], "mode": ["prefill", "decode", "greedy"]})  # fmt: skip


def settings() -> Iterator[Case]:
    bf16 = {"engine": "transformers", "options": {"threads": 1, "dtype": "bfloat16"}}
    llama = {"engine": "llamacpp", "options": {"threads": 2}}
    tight = [{"id": "tight", "metric": "max_delta_logit", "statistic": "max", "at_most": 1e-9, "basis": BASIS}]
    bos = [{"id": "doubled", "text": "<|begin_of_text|>The moon"}]
    yield Case("an f16 KV cache where float32 was asked for", lambda f: contract(
        f, "llama3", candidates={"mine": {"engine": "llamacpp", "options": {"threads": 1, "kv_type": "f16"}}}),
        "PF401 KV cache type")  # fmt: skip
    yield Case("the reference in bfloat16", lambda f: contract(f, "llama3", reference=bf16), "PF402 activation type")
    yield Case("a reference whose kernels quantize activations", lambda f: contract(
        f, "llama3", "F32", original=ZOO / "gguf" / "llama3-Q8_0.gguf", reference=llama,
        candidates={"mine": {"engine": "transformers", "options": {"threads": 1}}}), "PF402 activation type")  # fmt: skip
    yield Case("a reference with an f16 KV cache", lambda f: contract(
        f, "llama3", "Q8_0", original=ZOO / "gguf" / "llama3-F32.gguf",
        reference={"engine": "llamacpp", "options": {"threads": 2, "kv_type": "f16"}}), "PF401 KV cache type")  # fmt: skip
    yield Case("a gate tighter than float32 rounding", lambda f: contract(
        f, "llama3", gates=tight, error_bar={}), "tighter than the reference's own error")  # fmt: skip
    yield Case("a gate tighter than eager against SDPA in bfloat16", lambda f: contract(
        f, "qwen3", "bf16", ZOO / "qwen3", reference=bf16, error_bar={"vary": ["attention"]},
        candidates={"mine": {"engine": "transformers", "options": {"threads": 1, "dtype": "bfloat16", "chunk": 4}}},
        gates=[{"id": "tight", "metric": "kl_divergence", "statistic": "max", "at_most": 1e-7, "basis": BASIS}]),
        "tighter than the reference's own error.*sdpa")  # fmt: skip
    yield Case("an adapter that is never applied", lambda f: contract(f, "llama3", reference={
        "engine": "transformers", "options": {"threads": 1, "adapter": "adapters/french"}}), "PF405 adapter")  # fmt: skip
    yield Case("BOS written into the prompt as well", lambda f: contract(f, "llama3", prompts=bos), "PF309 ")
    yield Case("token ids of another vocabulary", lambda f: contract(
        f, "llama3", prompts=[{"id": "ids", "token_ids": [1495, 128000]}]), "PF308 ")  # fmt: skip


def program(folder: Path, module: str, name: str, body: str, options: dict[str, Any]) -> dict[str, Any]:
    """A real engine as a program of its own, with one of its methods replaced."""
    file = folder / "program.py"
    file.write_text(PATCHED.format(module=module, name=name, body=body, options=json.dumps(options)))
    return {"engine": "command", "options": {"argv": [sys.executable, str(file)]}}


FED_TWICE = """
first = Engine.generate
Engine.generate = lambda self, ids, count, stop: first(self, [*ids, ids[-1]], count, stop)
"""
PENALTY = """
def generate(self, token_ids, count, stop):
    ids, rows = list(token_ids), []
    while len(rows) < count and not (rows and ids[-1] in stop):
        row = self.score(ids, "prefill").logits[-1].copy()
        used = np.unique(ids)
        row[used] = np.where(row[used] > 0, row[used] / 1.1, row[used] * 1.1)
        rows.append(row)
        ids.append(int(row.argmax()))
    return Generated(ids[len(token_ids):], np.stack(rows), "stop" if ids[-1] in stop else "length")
Engine.generate = generate
"""
TWO_BOS = """
one = Engine.tokenize
Engine.tokenize = lambda self, text: [1495, *one(self, text)]
"""
TEMPERATURE = """
plain = Engine.generate
def generate(self, ids, count, stop):
    made = plain(self, ids, count, stop)
    return Generated(made.token_ids, made.logits / np.float32(0.7), made.finish)
Engine.generate = generate
"""


def programs() -> Iterator[Case]:
    def reference(body: str) -> Callable[[Path], list[str]]:
        return lambda f: contract(f, "llama3", reference=program(f, "transformers", "Transformers", body, {"threads": 1}))

    def candidate(body: str, options: dict[str, Any]) -> Callable[[Path], list[str]]:
        return lambda f: contract(f, "llama3", candidates={"mine": program(f, "llamacpp", "LlamaCpp", body, options)})

    def stale(folder: Path) -> list[str]:
        made = program(folder, "llamacpp", "LlamaCpp", "", {"threads": 1})
        return contract(folder, "llama3", candidates={"mine": {**made, "options": {**made["options"], "sha256": "0" * 64}}})

    def sampling(folder: Path) -> list[str]:
        made = program(folder, "llamacpp", "LlamaCpp", "", {"threads": 1})
        argv = [*made["options"]["argv"], "--repeat-penalty", "1.1", "--temp", "0"]
        return contract(folder, "llama3", candidates={"mine": {"engine": "command", "options": {"argv": argv}}})

    yield Case("a repetition penalty in the reference", reference(PENALTY), "PF403 sampler.*penalty")
    yield Case("a temperature in the reference", reference(TEMPERATURE), "PF403 sampler.*temperature of 0.7")
    yield Case("the last prompt token fed twice by the reference", reference(FED_TWICE), "PF404 generation")
    yield Case("a program that doubles BOS", candidate(TWO_BOS, {"threads": 1}), "tokenizes the prompt otherwise")
    yield Case("a program whose KV cache is f16 by itself", candidate("", {"threads": 1, "kv_type": "f16"}), "PF401 KV cache")
    yield Case("a flag for a repetition penalty", sampling, "PF403 sampler: repeat_penalty")
    yield Case("a stale executable", stale, "sha256")


def dump(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> list[str]:
    """A dump of the reference's own logits, changed, as the candidate."""
    argv = contract(folder, "llama3", "dump", ZOO / "llama3")
    made = capture("transformers", ZOO / "llama3", str(folder / "small.yaml"), folder / "dump", options={"threads": 1})
    for prompt in made.prompts:
        (record,) = (folder / "dump").rglob(f"{prompt['key'] if isinstance(prompt, dict) else prompt.key}/trace.json")
        trace = {name: value for name, value in json.loads(record.read_text()).items() if name != "sha256"}
        rows = np.fromfile(record.parent / "logits.bin", "<f4").reshape(trace["logits"]["shape"])
        change(rows).astype("<f4").tofile(record.parent / "logits.bin")
        # the fault is in what was dumped, not in a file that was damaged later
        record.write_text(json.dumps(sealed(trace, record.parent)))
    data = yaml.safe_load((folder / "planted.parity.yaml").read_text())
    exact = "the dump is of the reference itself"
    data["candidates"] = {"mine": {"engine": "dump", "options": {"path": str(folder / "dump")}, "may_be_exact": exact}}
    (folder / "planted.parity.yaml").write_text(yaml.safe_dump(data))
    return argv


def dumps() -> Iterator[Case]:
    def set_to(rows: np.ndarray, at: int, value: Any) -> np.ndarray:
        changed = rows.copy()
        changed[at] = value
        return changed

    yield Case("a dump shifted by one row", lambda f: dump(f, lambda rows: np.roll(rows, 1, axis=0)), "PF504 logits")
    yield Case("a dump with one row of zeros", lambda f: dump(f, lambda rows: set_to(rows, 4, 0.0)), "PF502 logits")
    yield Case("a dump with a row written twice", lambda f: dump(f, lambda rows: set_to(rows, 5, rows[4])), "PF503 logits")
    yield Case("a dump with NaN", lambda f: dump(f, lambda rows: set_to(rows, 3, np.nan)), "(?i)nan")


def frozen() -> Iterator[Case]:
    def pinned(folder: Path, change: Callable[[Path], None]) -> list[str]:
        original = edit_folder(ZOO / "qwen3", folder / "model")
        argv = contract(folder, "qwen3", original=original, pins="planted.pins.yaml")
        opened = open_contract(folder / "planted.parity.yaml")
        write_pins(make_pins(opened, {}, None), folder / "planted.pins.yaml")
        change(folder)
        return argv

    def other_config(folder: Path) -> None:
        file = folder / "model" / "config.json"
        file.write_text(file.read_text().replace("1e-06", "1e-05"))

    def other_suite(folder: Path) -> None:
        file = folder / "small.yaml"
        file.write_text(file.read_text().replace("moon", "sun"))

    def other_engine(folder: Path) -> None:
        file = folder / "planted.pins.yaml"
        pins = yaml.safe_load(file.read_text())
        pins["engines"]["mine"]["versions"] = {"llama.cpp": "0"}
        file.write_text(yaml.safe_dump(pins, sort_keys=False))

    yield Case("a pinned file that has changed", lambda f: ["verify", pinned(f, other_config)[1]], "config.json")
    yield Case("a run on a pinned file that has changed", lambda f: pinned(f, other_config), "config.json")
    yield Case("a pinned suite that has changed", lambda f: ["verify", pinned(f, other_suite)[1]], "small")
    yield Case("another build than was pinned", lambda f: pinned(f, other_engine), "llama.cpp")


def written() -> Iterator[Case]:
    """Faults of the contract's own text, which `lint` reads."""
    greedy = [{"id": "free", "metric": "greedy_match_10", "at_least": 0.98, "basis": BASIS}]
    proven = [{"id": "parity", "claim": "the engines agree", "gates": ["kl"], "status": "proven"}]
    prompt = {"cell": "*", "prompt": "a" * 12, "until": "2030-01-01", "reason": "a known difference of kernels"}
    texts: list[tuple[str, str, dict[str, Any]]] = [
        ("a gate that no cell measures", "LP013 ", {"gates": greedy}),
        ("a stage called proven without evidence", "LP001 ", {"stages": proven}),
        ("a waiver that leads to no issue", "LP050 ", {"waivers": [{"id": "known", "issue": "none", **prompt}]}),
        ("no cell that decodes", "LP021 ", {}),
    ]
    for name, says, changes in texts:
        yield Case(name, functools.partial(_linted, changes), says)


def _linted(changes: dict[str, Any], folder: Path) -> list[str]:
    return ["lint", contract(folder, "llama3", **changes)[1]]
