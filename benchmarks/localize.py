"""Does localization find the operation? Every bug of the graph, in float32 and bfloat16, and planted in llama.cpp's files.

* planted in transformers: the first operation that is wrong by itself is the one that the mutation declares. Which
  operations a bug really changes is measured apart, on the reference's own input; any other that is flagged is false.
* two bugs: in different layers, both must be found.
* taps: transformers and llama.cpp in float32, every mapped tap of every zoo family and probe.
* overhead: a pass with all taps kept, over a plain pass; bytes of the taps of 32 layers of width 4096.

    python benchmarks/localize.py [--part float32 bfloat16 llamacpp "two bugs" taps overhead] [--out FILE]

A part that is not run keeps what the file holds, with its own date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "power"))
import _localize_page
import _page
from _acid_diagnosis import _llama_cpp_file, planted_files
from _acid_kill import CHUNK
from planted import LONG, TRAINED, build, config, tokens

from logitproof import catalog
from logitproof.acid.probe import open_probes
from logitproof.acid.subject import gguf_of
from logitproof.errors import LogitproofError
from logitproof.files.atomic import write_atomically
from logitproof.jobs.worker import Spec, Worker
from logitproof.localization.localize import LIMIT, Localization, Precision, expected, localize, relative
from logitproof.protocol import taps
from logitproof.reference.tap_values import Taps
from logitproof.reference.taps import Watch, pass_through, tapped

ROOT = Path(__file__).parents[1]
ZOO = ROOT / "zoo"
FAMILIES = (*TRAINED, "gemma2", "gpt-oss", "granite", "phi3", "mistral", "deepseek-v3", "qwen2-moe", "llama-gelu",
            "gemma3-scaled", "phi3-longrope", "smollm3", "qwen3.5-moe")  # fmt: skip
MAPPED = 1e-4
"""Taps of two float32 engines agree where they differ by less than this, relative."""
PARTS = ("float32", "bfloat16", "llamacpp", "two bugs", "taps", "overhead")
NO_TAPS: dict[str, Any] = {"count": 0, "max_relative": None, "narrower": 0, "families": [], "worst": []}
Arrays = dict[str, np.ndarray]


class Bench:
    """One family's model, its taps on one sequence, and what its operations make of another's."""

    def __init__(self, family: str, length: int = 48) -> None:
        self.model, self.ids = build(family), tokens(family, length=length)
        self.watch = Watch(self.model)
        self.right = self.read()

    def read(self, given: Arrays | None = None, *, narrow: bool = False, size: int = 0) -> Arrays:
        """Taps of a pass, in float32 or with matrix products in bfloat16; in pieces of `size` positions where it is given."""
        flow, length = Taps(["*"], given or {}), self.ids.shape[1]
        flow.whole = not size
        sizes = [len(part) for part in self.ids[0].split(size or length)]
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            pass_through(self.model, self.watch, flow, self.ids, sizes)
        return flow.kept()

    def locate(self, bugs: list[Any], *, narrow: bool = False) -> tuple[Localization, Arrays]:
        """The localization of a candidate with these bugs, and its taps."""
        with planted(self, bugs):
            candidate = self.read(narrow=narrow, size=piece(bugs))
        replayed = self.read(candidate)
        return localize(self.right, candidate, replayed, precision="bfloat16" if narrow else "float32"), candidate

    def changed(self, bugs: list[Any], precision: Precision) -> set[str]:
        """Taps whose operation makes something else of the reference's own input once the bugs are there."""
        with planted(self, bugs):
            wrong = self.read(self.right, size=piece(bugs))
        return {
            name
            for name, value in wrong.items()
            if name in self.right
            and (
                value.size != self.right[name].size
                or relative(value, self.right[name], taps.split(name)[1]) > LIMIT * expected(taps.split(name)[1], precision)
            )
        }


def piece(bugs: list[Any]) -> int:
    """Positions of a piece that shows these bugs; 0 where one pass does."""
    return CHUNK if any(bug.needs == "chunked prefill" for bug in bugs) else 0


class planted:
    """Several bugs in one model while open. The watch is the first hook, so that bugs of attention stand around it."""

    def __init__(self, bench: Bench, bugs: list[Any]) -> None:
        self._bench, self._bugs, self._open = bench, bugs, list[Any]()

    def __enter__(self) -> None:
        for bug in self._bugs:
            context = bug.applied_to(self._bench.model)
            context.__enter__()
            self._open.append(context)

    def __exit__(self, *error: object) -> None:
        while self._open:
            self._open.pop().__exit__(None, None, None)


def counted(result: dict[str, Any]) -> dict[str, Any]:
    """All counts, of what the parts have measured by now, this time or before."""
    rows, two, compared = result["rows"], result["two_bugs"], result["taps"]
    told = [row for row in rows if not row["below_noise"]]
    return {
        "planted": len(told),
        "located_right": sum(row["right"] for row in told),
        "false_flags": sum(len(row["false"]) for row in rows),
        "below_noise": len(rows) - len(told),
        "planted_in_llamacpp": sum(row["engine"] == "llamacpp" for row in told),
        "located_in_llamacpp": sum(row["engine"] == "llamacpp" and row["right"] for row in told),
        "two_bug_cases": len(two),
        "two_bug_found": sum(row["found"] for row in two),
        "taps_compared": compared["count"],
        "tap_max_relative": compared["max_relative"],
        "taps_of_narrower_arithmetic": compared["narrower"],
        "tap_families": compared["families"],
        **result["overhead"],
    }


def _rows_of(result: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    """The rows of planted bugs, those of this part measured anew."""
    fresh = _in_llama_cpp() if part == "llamacpp" else _planted("float32" if part == "float32" else "bfloat16")
    mine = [row for row in result["rows"] if (row["engine"] if part == "llamacpp" else _transformers(row)) == part]
    yield from (row for row in result["rows"] if row not in mine)
    yield from fresh


def _transformers(row: dict[str, Any]) -> str:
    """The precision of a bug planted in transformers."""
    return str(row["precision"]) if row["engine"] == "transformers" else ""


def measured(result: dict[str, Any], part: str) -> dict[str, Any]:
    """What a part puts in place of what it measured before."""
    if part == "taps":
        compared = list(_taps_compared())
        figures = {
            "count": len(compared),
            "max_relative": max((row["relative"] for row in compared if not row["narrower"]), default=None),
            "narrower": sum(row["narrower"] for row in compared),
            "families": sorted({row["family"] for row in compared}),
            "worst": sorted(compared, key=lambda row: -row["relative"])[:12],
        }
        return {"taps": figures}
    if part == "two bugs":
        return {"two_bugs": list(_two_bugs())}
    if part == "overhead":
        return {"overhead": _overhead()}
    return {"rows": list(_rows_of(result, part))}


def _planted(precision: Precision) -> Iterator[dict[str, Any]]:
    """Each bug of one pass, with its default, on the first family that can have it."""
    benches: dict[tuple[str, int], Bench] = {}
    for name in catalog.entries("mutations"):
        kind = catalog.load("mutations", name)
        if kind.needs not in ("", "small activations", "outliers", "chunked prefill", LONG) or kind.equivalent:
            continue
        if name.startswith("numerics.f16"):
            continue  # no model here leaves the range of float16, and with a lower limit it is another bug
        family = next((one for one in FAMILIES if kind().applies(config(one))), None)
        if family is None:
            continue
        key = (family, 320 if kind.needs == LONG or "growing with position" in kind.shows else 48)
        bench = benches.setdefault(key, Bench(*key))
        bug = kind()
        found, candidate = bench.locate([bug], narrow=precision == "bfloat16")
        yield _row(name, family, precision, found, candidate, bench.changed([bug], precision), kind.first_tap)


def _row(
    name: str, family: str, precision: Precision, found: Localization, candidate: Arrays, really: set[str], declared: str
) -> dict[str, Any]:
    """A bug that changes no operation by more than this arithmetic does cannot be told from none.

    A declared tap that the candidate has not got (the inside of fused experts) is answered by the next that it has.
    """
    flagged = {row.tap for row in found.rows if row.status == "differs"}
    first, wanted = found.first, taps.split(declared)[1]
    offered = any(taps.split(one)[1] == wanted for one in candidate)
    right = first is not None and (taps.split(first)[1] == wanted if offered else first in really)
    row = {
        "mutation": name,
        "engine": "transformers",
        "family": family,
        "precision": precision,
        "declared": declared,
        "first": first,
        "right": right,
        "below_noise": not really,
        "false": sorted(flagged - really),
    }
    if (not right and really) or row["false"]:
        print(f"!! {precision} {name} on {family}: declared {declared}, found {first}, false {row['false'][:4]}", flush=True)
    return row


def _in_llama_cpp() -> Iterator[dict[str, Any]]:
    """Bugs that live in a GGUF file, in the real llama.cpp, against transformers on the right model."""
    for family, bug, names, edit in planted_files():
        declared = {taps.split(catalog.load("mutations", name).first_tap)[1] for name in names}
        model = ZOO / family
        ids = tokens(family, length=32)[0].tolist()
        with tempfile.TemporaryDirectory() as scratch:
            file, copy = _llama_cpp_file(family, edit, Path(scratch))
            theirs = _taps_of("llamacpp", file, copy, ids)
            right = _taps_of("transformers", model, None, ids)
            replayed = _taps_of("transformers", model, None, ids, theirs)
        found = localize(right, theirs, replayed)
        first = found.first
        # what is not there cannot be seen: the next tap after it is then as fine as the candidate's taps are
        lost = [name for name in right if name not in theirs and taps.split(name)[1] in declared]
        after = [name for name in sorted(theirs, key=taps.order) if lost and taps.order(name) > taps.order(lost[0])]
        ok = first is not None and (taps.split(first)[1] in declared or first in after[:1])
        print(f"{'  ' if ok else '!!'} llama.cpp {bug} on {family}: {first} ({', '.join(declared)})", flush=True)
        yield {
            "mutation": bug, "engine": "llamacpp", "family": family, "precision": "float32", "declared": sorted(declared),
            "first": first, "right": ok, "below_noise": False, "false": [],
        }  # fmt: skip


def _two_bugs() -> Iterator[dict[str, Any]]:
    """A wrong tensor in the first layer and a wrong one of another kind in the last, in both precisions."""
    pairs = [("attn.q_proj", "mlp.up"), ("attn_norm", "attn.out"), ("mlp.out", "attn.v_proj"), ("ffn_norm", "mlp.gate")]
    for family in TRAINED:
        bench = Bench(family)
        last = bench.model.config.num_hidden_layers - 1
        for narrow in (False, True):
            for early, late in pairs:
                wanted = {f"layers.0.{early}", f"layers.{last}.{late}"}
                parameters = [_weight(bench.model, one) for one in sorted(wanted)]
                if any(one is None for one in parameters):
                    continue
                kept = [one.data for one in parameters]
                for one in parameters:
                    one.data = one.data.roll(1, dims=0)
                candidate = bench.read(narrow=narrow)
                for one, values in zip(parameters, kept, strict=True):
                    one.data = values
                found = localize(bench.right, candidate, bench.read(candidate), precision="bfloat16" if narrow else "float32")
                yield {"family": family, "bugs": sorted(wanted), "bfloat16": narrow, "broken": found.broken,
                       "found": set(found.broken) == wanted}  # fmt: skip


def _weight(model: Any, tap: str) -> Any:
    layer, leaf = taps.split(tap)
    names = {
        "attn.q_proj": "self_attn.q_proj", "attn.v_proj": "self_attn.v_proj", "attn.out": "self_attn.o_proj",
        "mlp.up": "mlp.up_proj", "mlp.gate": "mlp.gate_proj", "mlp.out": "mlp.down_proj", "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }  # fmt: skip
    wanted = f"layers.{layer}.{names[leaf]}.weight"
    return next((one for name, one in model.named_parameters() if name.endswith(wanted)), None)


def _taps_compared() -> Iterator[dict[str, Any]]:
    """Every tap that both engines have, zoo families and probes."""
    with tempfile.TemporaryDirectory() as scratch:
        models = [(family, ZOO / family, ZOO / "gguf" / f"{family}-F32.gguf") for family in TRAINED]
        for probe in open_probes():
            try:
                models.append((f"probe {probe.name}", probe.folder, gguf_of(probe, Path(scratch))))
            except LogitproofError as error:
                print(f"   {probe.name}: {error}", flush=True)
        for name, folder, file in models:
            ids = tokens("qwen3", length=40)[0].clamp(max=280).tolist()
            ours, theirs = _taps_of("transformers", folder, None, ids), _taps_of("llamacpp", file, folder, ids)
            narrower = "gemma" in name  # ggml looks GELU up in a table of float16
            for tap in sorted(set(ours) & set(theirs), key=taps.order):
                far = relative(theirs[tap], ours[tap], taps.split(tap)[1])
                yield {"family": name, "tap": tap, "relative": far, "narrower": narrower}


def _taps_of(engine: str, model: Path, config: Path | None, ids: list[int], given: Arrays | None = None) -> Arrays:
    from logitproof.protocol.messages import Tensor

    with tempfile.TemporaryDirectory() as name, Worker(Spec(engine, {"threads": 1}), name=engine) as worker:
        folder, tensors = Path(name), {}
        for tap, value in (given or {}).items():
            np.ascontiguousarray(value, "<f4").tofile(folder / f"given {tap}")
            tensors[tap] = Tensor(path=str(folder / f"given {tap}"), dtype="float32", shape=value.shape)
        worker.hello()
        worker.load(model, config)
        found = worker.taps(ids, "prefill", list(given) if given else ["*"], folder, tensors)
        return {tap: np.array(tensor.open()) for tap, tensor in found.items()}


def _overhead() -> dict[str, Any]:
    """A pass with all taps of all layers, over a plain pass beside it; and the bytes that 32 layers of width 4096 have."""
    bench = Bench("llama3", length=128)
    plain, with_taps = [], []
    for _ in range(15):
        begin = time.perf_counter()
        with torch.inference_mode():
            bench.model(bench.ids, use_cache=False)
        plain.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        bench.read()
        with_taps.append(time.perf_counter() - begin)
    settings = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=64
    )
    return {
        "overhead_ratio": round(float(np.median(with_taps) / np.median(plain)), 2),
        "bytes_of_one_layer_4096": _bytes_of_a_layer(settings, 128),
        "bytes_of_32_boundaries_4096": 34 * 128 * 4096 * 4,
    }


def _bytes_of_a_layer(settings: Any, positions: int) -> int:
    """What the taps of one layer take, measured on that one layer."""
    settings.num_hidden_layers = 1
    model = transformers.LlamaForCausalLM._from_config(settings, attn_implementation="eager", dtype=torch.bfloat16).eval()
    watch, flow = Watch(model), Taps(["layers.0.*"], {})
    flow.length = positions
    with torch.inference_mode(), tapped(model, watch, flow):
        model(torch.arange(positions)[None] % 64, use_cache=False)
    return sum(value.nbytes for value in flow.kept().values())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "localize.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.part:
        print(f"-- {part}", flush=True)
        # read again for each: another process may have measured other parts meanwhile
        before = {"rows": [], "two_bugs": [], "taps": NO_TAPS, "overhead": {}, "dates": {}}
        before |= json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
        fresh = measured(before, part)
        dates = before["dates"] | {part: datetime.datetime.now(datetime.UTC).date().isoformat()}
        parts = {name: (before | fresh)[name] for name in ("rows", "two_bugs", "taps", "overhead")} | {"dates": dates}
        result = counted(parts) | parts
        write_atomically(options.out, json.dumps(result, indent=1) + "\n")
    if set(dates) == set(PARTS):
        _page.write("localize.md", "measured", _localize_page.markdown(result))
    for key, value in result.items():
        if not isinstance(value, list | dict) or key == "tap_families":
            print(f"{key:32} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
