"""logitproof: does your engine compute the same model as the reference?

    import logitproof
    report = logitproof.check(logitproof.open_contract(path), logitproof.Store(folder))
    report.verdict.status, report.verdict.exit_code

Names are imported when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_HOME = {
    "Band": "band",
    "Capture": "capture",
    "Comparison": "compare",
    "Contract": "contract",
    "ContractError": "errors",
    "EngineError": "errors",
    "Failure": "trace",
    "LogitproofError": "errors",
    "Model": "model",
    "Report": "report",
    "Store": "store",
    "Suite": "suite",
    "Trace": "trace",
    "Verdict": "judge",
    "Workspace": "workspace",
    "capture": "capture",
    "check": "check",
    "compare": "compare",
    "judge": "judge",
    "open_contract": "contract",
    "open_model": "model",
    "open_suite": "suite",
    "plan": "plan",
    "run": "run",
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


class _Face(ModuleType):
    """The import system binds a submodule's name on its package; here `check` is to stay the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
