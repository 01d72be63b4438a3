"""The kernels of one library on several instruction sets: each measured in a process that is pinned to it, with the proof."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitproof.errors import ContractError, EnvironmentFailed
from logitproof.isa import INSTRUCTION_SETS, pinned, unavailable
from logitproof.worker import Spec, Worker

IDS = list(range(3, 19))


def measure_on(isa: str, model: Path, dtypes: Sequence[str]) -> dict[str, Any]:
    """`measure_kernels` of torch on one instruction set, with the `evidence`: what a bfloat16 pass of the model said.

    Raises ContractError of a name that is not known, of a processor that lacks it, and where nothing proves it.
    """
    if isa not in INSTRUCTION_SETS:
        raise ContractError(f"{isa!r} is no instruction set", where="--isa", remedy=f"known: {', '.join(INSTRUCTION_SETS)}")
    pin = pinned("transformers", None, isa)
    reason = "transformers does not say how it is pinned to it" if pin is None else unavailable(pin, Path())
    if pin is None or reason:
        raise ContractError(f"{isa} cannot be measured: {reason}", where="--isa", remedy="leave it out on this machine")
    with tempfile.TemporaryDirectory(prefix="logitproof-kernels-") as name:
        spec = Spec("transformers", {"dtype": "bfloat16", "threads": 1}, dict(pin.environment), proof=pin.proof)
        with Worker(spec, name=f"transformers on {isa}") as worker:
            worker.hello()
            worker.load(model, None)
            evidence = worker.score(IDS, "prefill", Path(name) / "logits.bin").isa
        out = Path(name) / "kernels.json"
        chosen = [part for dtype in dtypes for part in ("--dtype", dtype)]
        argv = [sys.executable, "-m", "logitproof", "kernels", str(model), "--out", str(out), *chosen]
        # what the libraries print of every call is for the proof only, and would drown the console
        quiet = {key: value for key, value in pin.environment.items() if not key.endswith("VERBOSE")}
        done = subprocess.run(argv, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EnvironmentFailed(f"kernels on {isa}: {done.stderr.strip()[-500:]}", remedy="measure without --isa")
        measured: dict[str, Any] = json.loads(out.read_text("utf-8"))
    return {**measured, "pinned_to": isa, "evidence": evidence}
