"""logitproof: does your engine compute the same model as the reference?

    import logitproof
    report = logitproof.check(logitproof.open_contract(path), logitproof.Store(folder))
    report.verdict.status, report.verdict.exit_code

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Band": "bands.band",
    "Capture": "traces.capture",
    "Comparison": "comparison.compare",
    "Contract": "contract.contract",
    "ContractError": "errors",
    "EngineError": "errors",
    "Failure": "traces.trace",
    "LogitproofError": "errors",
    "Model": "weights.model",
    "Report": "report.report",
    "Store": "traces.store",
    "Suite": "contract.suite",
    "Trace": "traces.trace",
    "Verdict": "verdict.judge",
    "Workspace": "runs.workspace",
    "capture": "jobs.capture",
    "check": "runs.check",
    "compare": "comparison.compare",
    "judge": "verdict.judge",
    "open_contract": "contract.opened",
    "open_model": "weights.model",
    "open_suite": "contract.suite",
    "plan": "jobs.plan",
    "run": "jobs.run",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'logitproof' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"logitproof.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
