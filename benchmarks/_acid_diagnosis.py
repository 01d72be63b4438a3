"""Does the diagnosis name the bug? Every mutation in bfloat16, bugs planted in llama.cpp's files, bugs that it has not got."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from logitproof import catalog
from logitproof.diagnosis.diagnose import diagnose_logits
from logitproof.diagnosis.found import Diagnosis, Mode
from logitproof.diagnosis.noise import NOISE
from logitproof.gguf.write import to_gguf
from logitproof.jobs.worker import Spec, Worker
from logitproof.reference.cache import through_cache
from logitproof.reference.planted import DECODE_NEEDS, PREFILL_NEEDS

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"
FAMILIES = ("qwen3", "llama3", "qwen2.5", "qwen3-moe", "qwen3.5")
HELD_OUT = 5
Edit = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def measure() -> dict[str, Any]:
    """All three counts, and the seconds of one diagnosis."""
    torch.set_num_threads(2)
    begin = time.monotonic()
    spent: list[float] = []
    named, held = _in_bfloat16(spent), _held_out(spent)
    planted = list(_in_llama_cpp(spent))
    told = [row for row in named if not row["below_noise"]]
    return {
        "diagnosed": len(told),
        "named_right": sum(row["right"] for row in told),
        "named_wrong": sum(row["verdict"] == "named" and not row["right"] for row in named),
        "below_noise": len(named) - len(told),
        "planted_in_llamacpp": len(planted),
        "planted_right": sum(row["right"] for row in planted),
        "held_out": len(held),
        "held_out_misnamed": sum(row["misnamed"] for row in held),
        "diagnose_seconds": round(float(np.median(spent)), 2),
        "diagnose_seconds_max": round(max(spent), 2),
        "diagnosis_seconds_in_all": round(time.monotonic() - begin, 1),
        "diagnoses": {"bfloat16": named, "llamacpp": planted, "held_out": held},
    }


def sequences(vocabulary: int) -> list[list[int]]:
    """Two sequences of ordinary ids; one is long enough for rotations to tell."""
    rng = np.random.default_rng(6)
    return [rng.integers(3, min(vocabulary, 1000), length).tolist() for length in (64, 48)]


def _in_bfloat16(spent: list[float]) -> list[dict[str, Any]]:
    """Each mutation on the first family that it applies to, in bfloat16, against that family's float32 model.

    A bug that moves the float32 logits by no more than bfloat16's own noise, as the diagnosis counts it, cannot be told
    from none; it is counted apart, and naming another one for it is wrong all the same.
    """
    rows = []
    for name, family in _cases():
        kind = catalog.load("mutations", name)
        mode: Mode = "decode" if kind.needs == "decode" else "prefill"
        found = _diagnosed(family, _candidate(family, {name: {}}, mode), mode, spent)
        moved = _apart(_candidate(family, {name: {}}, mode, narrow=False), _candidate(family, {}, mode, narrow=False))
        rows.append({**_row(name, family, found, {name}), "moved": moved, "below_noise": moved <= NOISE * found.noise})
        print(f"{'  ' if rows[-1]['right'] else '!!'} {name} on {family}: {found.verdict} {found.names}", flush=True)
    return rows


def _held_out(spent: list[float]) -> list[dict[str, Any]]:
    """Mutations that the diagnosis may not use, five at a time: naming another one alone is a wrong answer.

    A bug whose float32 logits are those of others that are left (with some value, or of two together) is no stranger to
    the library, and what names it by them is not wrong.
    """
    rows = []
    cases = [(name, family) for name, family in _cases() if catalog.load("mutations", name).needs in PREFILL_NEEDS][::4]
    for start in range(0, len(cases), HELD_OUT):
        group = cases[start : start + HELD_OUT]
        left_out = [one for one, _ in group]
        for name, family in group:
            candidate = _candidate(family, {name: {}}, "prefill")
            whole = _diagnosed(family, candidate, "prefill", spent)
            if whole.verdict != "named":
                continue
            found = _diagnosed(family, candidate, "prefill", spent, leave_out=left_out)
            alone = found.verdict in ("named", "two bugs", "several bugs")
            misnamed = alone and not _same_function(family, name, found, left_out)
            row = {"mutation": name, "family": family, "verdict": found.verdict, "names": found.names}
            rows.append({**row, "misnamed": misnamed})
            print(f"{'!!' if misnamed else '  '} without {name} on {family}: {found.verdict} {found.names}", flush=True)
    return rows


def _same_function(family: str, name: str, found: Diagnosis, left_out: list[str]) -> bool:
    """Whether what was named gives the float32 logits of `name`, up to float32's own noise.

    Logits in bfloat16 give a value no finer than their noise. So a value that is not yet the same is asked for again, from
    the float32 logits, which must give the same names.
    """
    ours = _candidate(family, {name: {}}, "prefill", narrow=False)
    allowed = 1e-3 * _apart(ours, _candidate(family, {}, "prefill", narrow=False))

    def same(one: Diagnosis) -> bool:
        bugs = {bug.name: bug.options for bug in one.together or one.mutants[:1]}
        return _apart(ours, _candidate(family, bugs, "prefill", narrow=False)) <= allowed

    if same(found):
        return True
    again = _diagnosed(family, ours, "prefill", [], noise=1e-3, leave_out=left_out)
    return again.names == found.names and same(again)


def _apart(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """RMS difference of logits, the mean difference of each row taken off."""
    deltas = [a.astype(np.float64) - b for a, b in zip(ours, theirs, strict=True)]
    return float(np.sqrt(np.mean(np.concatenate([(one - one.mean(-1, keepdims=True)) ** 2 for one in deltas]))))


def _in_llama_cpp(spent: list[float]) -> Iterator[dict[str, Any]]:
    """Bugs that live in a GGUF file, run by the real llama.cpp."""
    for family, bug, wanted, edit in planted_files():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            logits = _llama_cpp(family, edit, folder)
        found = _diagnosed(family, logits, "prefill", spent, noise=1e-3)
        row = _row(bug, family, found, wanted)
        print(f"{'  ' if row['right'] else '!!'} llama.cpp {bug} on {family}: {found.verdict} {found.names}", flush=True)
        yield row


def planted_files() -> Iterator[tuple[str, str, set[str], Edit]]:
    """Family, what is wrong in the file, the mutations that mean it, and the edit."""
    for family in ("qwen3", "llama3", "qwen2.5", "qwen3-moe"):
        for base in (1e4, 3e5):
            yield family, f"rope base {base:g}", {"rope.base"}, _base(base)
        yield family, "norm epsilon 1e-2", {"norm.eps_value"}, lambda config, _: config.update(rms_norm_eps=1e-2)
        yield family, "first two layers swapped", {"weights.layers_swapped"}, _layers_swapped
        yield family, "last layer skipped", {"weights.last_layer_skipped"}, _last_layer_skipped
    for family in ("qwen3", "llama3", "qwen2.5"):
        yield family, "gate and up swapped", {"weights.gate_up_swapped"}, _gate_up_swapped
    yield "qwen2.5", "biases dropped", {"weights.bias_dropped"}, _biases_dropped
    yield "llama3", "rope scaling missing", {"rope.scaling.llama3_missing"}, _scaling_missing
    yield "llama3", "Q and K not permuted", {"weights.qk_unpermuted", "rope.pairing.interleaved"}, _unpermuted
    yield "qwen3-moe", "one expert a token", {"moe.wrong_k", "moe.top1_only"}, _one_expert


def _base(value: float) -> Edit:
    def edit(config: dict[str, Any], _: dict[str, np.ndarray]) -> None:
        config["rope_theta"] = value
        for key in ("rope_parameters", "rope_scaling"):
            if config.get(key):
                config[key]["rope_theta"] = value

    return edit


def _layers_swapped(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    for name in [one for one in tensors if ".layers.0." in one]:
        other = name.replace(".layers.0.", ".layers.1.")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def _last_layer_skipped(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    last = config["num_hidden_layers"] = config["num_hidden_layers"] - 1
    for key in [one for one in config if one == "layer_types"]:
        config[key] = config[key][:last]
    for name in [one for one in tensors if f".layers.{last}." in one]:
        del tensors[name]


def _gate_up_swapped(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    for name in [one for one in tensors if one.endswith("gate_proj.weight")]:
        other = name.replace("gate_proj", "up_proj")
        tensors[name], tensors[other] = tensors[other], tensors[name]


def _biases_dropped(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    for name in [one for one in tensors if one.endswith("_proj.bias")]:
        tensors[name] = np.zeros_like(tensors[name])


def _one_expert(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    config["num_experts_per_tok"] = 1


def _scaling_missing(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    base = (config.get("rope_parameters") or config.get("rope_scaling"))["rope_theta"]
    config.pop("rope_scaling", None)
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": base}


def _unpermuted(config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """The inverse of the permutation that the converter will make."""
    for letter, heads in (("q", config["num_attention_heads"]), ("k", config["num_key_value_heads"])):
        for name in [one for one in tensors if one.endswith(f"{letter}_proj.weight")]:
            whole = tensors[name]
            pairs = whole.reshape(heads, whole.shape[0] // heads // 2, 2, whole.shape[1])
            tensors[name] = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(whole.shape))


def _llama_cpp(family: str, edit: Edit, folder: Path) -> list[np.ndarray]:
    """Logits of llama.cpp on a file that was converted from the edited model."""
    file, copy = _llama_cpp_file(family, edit, folder)
    with Worker(Spec("llamacpp", {"threads": 2}, timeout=120), name="llamacpp") as worker:
        worker.hello()
        size = worker.load(file, copy).vocab_size
        return [np.array(worker.score(ids, "prefill", folder / "l.bin").logits.open()) for ids in sequences(size)]


def _llama_cpp_file(family: str, edit: Edit, folder: Path) -> tuple[Path, Path]:
    """The GGUF file of the edited model, and the edited model."""
    copy = folder / "model"
    shutil.copytree(ZOO / family, copy)
    config = json.loads((copy / "config.json").read_text("utf-8"))
    tensors = _float32(copy / "model.safetensors")
    edit(config, tensors)
    (copy / "config.json").write_text(json.dumps(config))
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return to_gguf(copy, folder / "model.gguf", "F32"), copy


def _float32(path: Path) -> dict[str, np.ndarray]:
    from safetensors.torch import load_file as load_torch

    try:
        return {name: one.astype(np.float32) for name, one in load_file(path).items()}
    except TypeError:  # NumPy has no bfloat16
        return {name: one.float().numpy() for name, one in load_torch(path).items()}


def _cases() -> list[tuple[str, str]]:
    """Every mutation that logits can show, with the first family that it applies to."""
    configs = {family: transformers.AutoConfig.from_pretrained(ZOO / family, trust_remote_code=False) for family in FAMILIES}
    cases = []
    for name in catalog.entries("mutations"):
        kind = catalog.load("mutations", name)
        if kind.equivalent or kind.needs not in DECODE_NEEDS or kind.needs in ("outliers", "more than 256 positions"):
            continue
        family = next((one for one, config in configs.items() if kind().applies(config)), None)
        if family is not None:
            cases.append((name, family))
    return cases


def _candidate(family: str, bugs: Mapping[str, Mapping[str, Any]], mode: Mode, *, narrow: bool = True) -> list[np.ndarray]:
    """Logits of the family's model with the bugs planted: in float32, or weights and matrix products in bfloat16."""
    model, weights = _model(family)
    with ExitStack() as stack, torch.no_grad():
        if narrow:
            for parameter in weights:
                parameter.copy_(parameter.bfloat16())
            stack.callback(_restore, weights)
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        for name, options in bugs.items():
            stack.enter_context(catalog.load("mutations", name)(**options).applied_to(model))
        return [_run(model, ids, mode) for ids in sequences(model.config.vocab_size)]


@functools.cache
def _model(family: str) -> tuple[Any, dict[Any, torch.Tensor]]:
    """The float32 model, and a copy of each of its parameters."""
    options: dict[str, Any] = {"attn_implementation": "eager", "experts_implementation": "eager", "dtype": torch.float32}
    model = transformers.AutoModelForCausalLM.from_pretrained(ZOO / family, trust_remote_code=False, **options).eval()
    return model, {parameter: parameter.detach().clone() for parameter in model.parameters()}


def _restore(weights: dict[Any, torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, values in weights.items():
            parameter.copy_(values)


def _run(model: Any, ids: Sequence[int], mode: Mode) -> np.ndarray:
    fed = torch.tensor([list(ids)])
    if mode == "prefill":
        return np.asarray(model(fed, use_cache=False).logits[0].float().numpy())
    cache, rows = None, []
    for part in fed.split(1, dim=1):
        out, cache = through_cache(model, part, cache)
        rows.append(out.logits[0].float().numpy())
    return np.concatenate(rows)


def _diagnosed(family: str, logits: list[np.ndarray], mode: Mode, spent: list[float], **more: Any) -> Diagnosis:
    size = logits[0].shape[1]
    found = diagnose_logits(ZOO / family, sequences(size), logits, mode=mode, **more)
    spent.append(found.seconds)
    return found


def _row(bug: str, family: str, found: Diagnosis, wanted: set[str]) -> dict[str, Any]:
    right = bool(wanted & set(found.names)) and found.verdict in ("named", "ambiguous")
    return {
        "mutation": bug,
        "family": family,
        "verdict": found.verdict,
        "names": found.names,
        "right": right,
        "to_reference": round(found.to_reference, 6),
        "noise": round(found.noise, 6),
    }


if __name__ == "__main__":
    counts = {key: value for key, value in measure().items() if key != "diagnoses"}
    print(json.dumps(counts, indent=1))
