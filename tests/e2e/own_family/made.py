"""Makes the probe of the family and asks of it what is asked of every other: run in a process that sees the package."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "probes"), str(ROOT / "benchmarks")]
# ruff: noqa: E402  what follows lies in these folders

import make
import own_family
import witnesses
from shape import Shape

from logitproof import catalog
from logitproof.acid.acid import Request, acid
from logitproof.acid.probe import open_probes
from logitproof.acid.subject import gguf_of
from logitproof.engines.llamacpp import LlamaCpp
from logitproof.engines.transformers import Transformers

NEMOTRON = Shape(
    "NemotronConfig",
    {
        "norm_eps": 1e-5, "hidden_act": "relu2", "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 112,
        "num_hidden_layers": 2, "partial_rotary_factor": 0.5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    },
    "llama",
    "LayerNorm whose weight is stored less one, squared ReLU, positions on half of each head",
    seed=201,
)  # fmt: skip
RUNS = [run for run in witnesses.RUNS if run[0] in ("transformers", "llamacpp") and run[2] in ("folder", "F32")][:1]
RUNS += [("llamacpp", {}, "F32")]


def main() -> None:
    """Prints what was found as JSON."""
    witnesses.RUNS[:] = RUNS
    home = Path(own_family.__file__).parent
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "nemotron"
        record, truth = make.make(NEMOTRON, folder)
        made = make.finish(folder, record, truth, witnesses.witnesses([folder])["nemotron"], home)
    probe = open_probes(["nemotron"])[0]
    report = acid(Request("llamacpp", {}, ["nemotron"]))
    kind = catalog.load("mutations", "norm.layer_norm_one_not_added")
    from _acid_kill import Bench

    bench = Bench(probe)
    ids = list(probe.case("short").token_ids)
    with tempfile.TemporaryDirectory() as scratch:
        reference, candidate = Transformers(), LlamaCpp()
        reference.load(probe.folder)
        candidate.load(gguf_of(probe, Path(scratch)))
        own, other = (engine.taps(ids, "prefill", ["layers.*.own.up"], {}) for engine in (reference, candidate))
    found = {
        "made": made,
        "agreed": sorted({one["engine"] for one in probe.witnesses if "distances" in one}),
        "acid": [row.status for row in report.rows if row.check == "nemotron"],
        "killed": bench.kill(kind()).ratio,
        "taps": sorted(set(own) & set(other)),
        "apart": max(float(np.abs(own[tap] - other[tap]).max() / np.abs(own[tap]).max()) for tap in own),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
