"""JSON Schemas of all files and answers; `python -m logitproof.commands._schemas` writes them again.

Beside those of `report.schema` there is one for every kind of answer, with the envelope at its top.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from logitproof.acid.row import Measured
from logitproof.acid.row import Row as AcidRow
from logitproof.calibration.decompose import Parts
from logitproof.calibration.text import CalibratedCell
from logitproof.conformance.conformance import Row as Kept
from logitproof.contract.history import Unblocked
from logitproof.diagnosis.found import Diagnosis
from logitproof.divergence.statistics import Figure
from logitproof.documents.refused import Fault
from logitproof.documents.schema import Shape, answer_schema, record
from logitproof.files.atomic import write_atomically
from logitproof.jobs.amx_trap import Trap
from logitproof.jobs.doctor import EngineState
from logitproof.kernels.kernel import Kernel
from logitproof.lint import Finding
from logitproof.localization.hypotheses import Hypothesis
from logitproof.localization.localize import Localization, Stage
from logitproof.localization.patching import Patched
from logitproof.protocol.precision import Precision
from logitproof.quality.accuracy import Paired
from logitproof.quality.causes import Cause
from logitproof.quality.chat_template import Rendered
from logitproof.quality.picker import Hanging
from logitproof.quality.section import Bar, Section
from logitproof.quality.synchronized import Synchronized
from logitproof.quality.tokenizers import Difference as Cut
from logitproof.quality.tokenizers import Trip
from logitproof.report import schema
from logitproof.runs.bisect import Tried
from logitproof.runs.pins import Difference
from logitproof.runs.recorded import Change, Recorded
from logitproof.sensitivity.measure import Group

LOCATED = record(
    "Located",
    Localization,
    name=str,
    precision=Precision,
    first=str | None,
    broken=list[str],
    hypotheses=list[Hypothesis],
    patched=list[Patched],
)
COST = record(
    "Cost",
    None,
    group=Group,
    name=str,
    type=str,
    all_but=bool,
    bytes=int,
    kl=float,
    interval=tuple[float, float] | None,
    largest=float,
)
PLAN = record(
    "SensitivityPlan",
    None,
    budget=int,
    bytes=int,
    bits_per_weight=float,
    predicted_kl=float,
    kl=float,
    interval=tuple[float, float] | None,
    types=dict[str, str],
)
LOCATIONS: dict[str, Any] = {
    "reference": str,
    "token_ids": list[int],
    "mode": str,
    "bytes_at_most": int,
    "notes": list[str],
    "generated_from": int | None,
    "located": list[LOCATED],  # type: ignore[valid-type]
    "stages": list[Stage],
}
MEASURED = record("Measured", Measured, held=bool | None)
ACID_ROW = record("Row", AcidRow, measured=list[MEASURED])  # type: ignore[valid-type]
QUALITY = record("Quality", None, candidate=str, model=str, quantization=str, bar=Bar, meets_bar=bool, sections=list[Section])
PARTS = record("Parts", Parts, share=float, inside=bool | None)
CANDIDATE = record(
    "Candidate", None, name=str, sha256=str, bytes=int, retokenized=bool, failure=str, statistics=dict[str, Figure]
)
ENGINE = record("Engine", None, name=str, state=str, python=str | None, requirements=list[str])
ENTRY = record("Entry", None, name=str, help=str, options=list[dict[str, Any]])
HANGING = record("Hanging", Hanging, prompt=str, reserve=str | None)
FACTS = ("preflight", "reference_error", "pins", "engines", "versions", "host", "commands", "jobs", "seconds")
"""What stands in verdict.json too, whose schema says more of it."""
ANSWERS: dict[str, Shape] = {
    "acid": Shape(
        {
            "engine": str,
            "options": dict[str, Any],
            "versions": dict[str, str],
            "weights": str,
            "rows": list[ACID_ROW],  # type: ignore[valid-type]
            "seconds": float,
            "band_factor": float,
        }
    ),
    "bisect": Shape({"tried": list[Tried], "first": str, "subject": str}),
    "calibrate": Shape({"cells": list[CalibratedCell]}),
    "history": Shape({"runs": list[Recorded]}),
    "history-bisect": Shape({"tried": list[Tried], "first": str, "subject": str}),
    "history-compare": Shape({"before": str, "after": str, "changes": list[Change]}),
    "compare": Shape(
        {"reference": str, "candidate": str, "positions": int, "missing": dict[str, int], "metrics": dict[str, dict[str, Any]]},
        {"kl_basis": str, "not_measured": list[str], "notes": list[str]},
    ),
    "conformance": Shape({"engine": str, "rows": list[Kept]}),
    "decompose": Shape({"cells": list[PARTS]}),  # type: ignore[valid-type]
    "diagnose": Shape(others=record("Diagnosis", Diagnosis, names=list[str], remainder=float)),
    "doctor": Shape({"host": dict[str, Any], "engines": list[EngineState], "amx_trap": Trap}),
    "engines": Shape({"engines": list[ENGINE]}),  # type: ignore[valid-type]
    "error": Shape({"faults": list[Fault]}),
    "evaluate": Shape(
        {"accuracy": float, "interval": tuple[float, float], "questions": int, "answers": list[int], "paired": Paired | None}
    ),
    "freeze": Shape(
        {
            "path": str,
            "size": int,
            "positions": int,
            "bytes_per_token": float,
            "form": str,
            "error": dict[str, Any],
            "determinism": dict[str, Any],
            "uncertain": list[dict[str, Any]],
        }
    ),
    "kernels": Shape(
        {
            "model": str,
            "sha256": str,
            "tokens": int,
            "machine": str,
            "versions": dict[str, str],
            "isa": dict[str, Any],
            "kernels": list[Kernel],
            "not_measured": list[dict[str, str]],
        },
        {"pinned_to": str, "evidence": dict[str, str]},
    ),
    "sensitivity": Shape(
        {
            "model": str,
            "sha256": str,
            "types": list[str],
            "text": str,
            "windows": int,
            "tokens": int,
            "positions": int,
            "weights": int,
            "fixed_bytes": int,
            "costs": list[COST],  # type: ignore[valid-type]
            "plan": PLAN | None,
        }
    ),
    "kl": Shape(
        {
            "base": str,
            "base_sha256": str,
            "text": str,
            "context": int,
            "windows": int,
            "positions": int,
            "vocabulary": int,
            "bos": int | None,
            "candidates": list[CANDIDATE],  # type: ignore[valid-type]
        }
    ),
    "lint": Shape({"findings": list[Finding], "unblocks": list[Unblocked]}),
    "list": Shape({"entries": list[ENTRY]}),  # type: ignore[valid-type]
    "lm-eval": Shape(others=dict[str, Any]),
    "localize": Shape(LOCATIONS),
    "localizations": Shape(others=record("Locations", None, **LOCATIONS)),
    "mutation": Shape({"name": str, "options": list[dict[str, Any]]}, others=Any),
    "quality": Shape({"contract": str, "cells": list[QUALITY]}, dict.fromkeys(FACTS, Any)),  # type: ignore[valid-type]
    "sample": Shape(
        {
            "mmd": float,
            "p_value": float,
            "prompts": int,
            "completions": int,
            "permutations": int,
            "alpha": float,
            "differs": bool,
            "power": float,
            "replay": Synchronized | str,
        }
    ),
    "suite-pick": Shape({"out": str, "sha256": str, "hanging": list[HANGING], "tried": int}),  # type: ignore[valid-type]
    "tokenizer": Shape(
        {
            "tried": int,
            "differences": list[Cut],
            "trips": list[Trip],
            "causes": list[Cause],
            "templates": list[Rendered],
            "differs": bool,
        }
    ),
    "verify": Shape({"differences": list[Difference]}),
    "verify-evidence": Shape(
        {
            "status": str,
            "reason": str,
            "keyid": str,
            "run_id": str,
            "attested_at": str,
            "contract": str,
            "contract_checked": bool,
            "subjects": dict[str, str],
            "gates": list[dict[str, Any]],
            "coverage": dict[str, dict[str, int]],
        }
    ),
}
SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    **schema.SCHEMAS,
    **{kind: functools.partial(answer_schema, kind, shape) for kind, shape in ANSWERS.items()},
}


def as_text(name: str) -> str:
    """The file of one schema, as it stands in the package."""
    return json.dumps(SCHEMAS[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in SCHEMAS:
        write_atomically(schema.path(name), as_text(name))
