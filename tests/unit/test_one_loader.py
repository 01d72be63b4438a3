"""Models of transformers are loaded in one place, offline, without remote code, and nobody reaches into another's model."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "src/logitproof"
LOCAL = {"local_files_only", "trust_remote_code"}


def test_every_load_is_local_and_without_remote_code() -> None:
    calls = [
        (path, call)
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"
    ]
    assert len(calls) >= 5
    assert not [f"{path.relative_to(PACKAGE)}:{call.lineno}" for path, call in calls if not _is_local(call)]


def test_nobody_reads_the_model_of_another_object() -> None:
    reached = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "_model"
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]
    assert not reached


def test_the_hub_is_offline_once_the_engine_is_imported() -> None:
    """Hugging Face's libraries read the variable when they are imported, so whoever imports them first decides."""
    code = "import logitproof.engines.transformers, huggingface_hub.constants as hub; print(hub.HF_HUB_OFFLINE)"
    environment = {"PATH": "", "PYTHONPATH": str(PACKAGE.parent)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.strip() == "True"


def _is_local(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    spread = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
    written = set(given) >= LOCAL and ast.unparse(given["local_files_only"]) == "True"
    return (written and ast.unparse(given["trust_remote_code"]) == "False") or any(text.endswith("LOCAL") for text in spread)
