"""Models of transformers are loaded in one place, offline, without remote code, and nobody reaches into another's model."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

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


LOADERS = frozenset(
    {"from_pretrained", "from_config", "pipeline", "LLM", "TransformersConverter", "load_model", "load_tokenizer"}
)
"""Functions of transformers, vLLM, CTranslate2 and mlx-lm that would run a model's own code if they were told to."""


def loads(tree: ast.AST) -> list[ast.Call]:
    """Calls of what loads a model, by whatever name it is reached."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in LOADERS]


def refuses_remote_code(call: ast.Call) -> bool:
    """Whether it says False, as an argument, in a dictionary that is one, or by `LOCAL`."""
    given = [value for name, value in _named(call) if name == "trust_remote_code"]
    return _is_local(call) or any(ast.unparse(value) == "False" for value in given)


def _named(call: ast.Call) -> list[tuple[str, ast.expr]]:
    found = [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg]
    for argument in call.args:
        if isinstance(argument, ast.Dict):
            found += [(ast.literal_eval(key), value) for key, value in zip(argument.keys, argument.values, strict=True) if key]
    return found


SOURCES = [path for folder in ("src", "benchmarks", "zoo") for path in sorted((PACKAGE.parents[1] / folder).rglob("*.py"))]


def test_every_load_says_that_no_remote_code_runs() -> None:
    calls = [(path, call) for path in SOURCES for call in loads(ast.parse(path.read_text("utf-8")))]
    engines = {path.stem for path, _ in calls}
    assert len(calls) >= 15 and {"vllm", "ctranslate2", "mlx", "_export_onnx", "checkpoint", "parts", "train"} <= engines
    assert not [f"{path.name}:{call.lineno}" for path, call in calls if not refuses_remote_code(call)]


def test_nothing_turns_remote_code_on() -> None:
    """No option does; were there one, its value would stand in a name, which is not False either."""
    for path in SOURCES:
        tree = ast.parse(path.read_text("utf-8"))
        given: list[ast.expr] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                given.append(node.value)
            if isinstance(node, ast.Dict):
                given += [
                    value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant) and key.value == "trust_remote_code"
                ]
            assert not (isinstance(node, ast.Constant) and node.value == "--trust-remote-code"), path
        assert all(ast.unparse(value) == "False" for value in given), path
    genai = (PACKAGE / "engines/onnxruntime_genai.py").read_text("utf-8")
    assert '"--extra_options", "hf_remote=false"' in genai


@pytest.mark.parametrize(
    ("code", "fine"),
    [
        ("AutoModel.from_pretrained(x)", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=option)", False),
        ("AutoModel.from_pretrained(x, **options)", False),
        ("LLM(model=x)", False),
        ("load_tokenizer(x, {'trust_remote_code': True})", False),
        ("AutoModel.from_pretrained(x, trust_remote_code=False)", True),
        ("load_tokenizer(x, {'trust_remote_code': False})", True),
        ("vllm.LLM(model=x, trust_remote_code=False)", True),
        ("AutoConfig.from_pretrained(x, **checkpoint.LOCAL)", True),
    ],
)
def test_the_test_of_loads_can_fail(code: str, fine: bool) -> None:
    (call,) = loads(ast.parse(code))
    assert refuses_remote_code(call) is fine


def test_code_that_a_model_folder_brings_does_not_run(tmp_path: Path) -> None:
    from logitproof.errors import Refusal
    from logitproof.reference.checkpoint import read_config

    ran = tmp_path / "ran"
    lines = ["from transformers import PretrainedConfig", "class Own(PretrainedConfig):", "    pass"]
    (tmp_path / "own.py").write_text("\n".join([f"open({str(ran)!r}, 'w')", *lines]))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}))
    with pytest.raises(Refusal, match="cannot read") as refused:
        read_config(tmp_path)
    assert "without remote code" in refused.value.remedy
    assert not ran.exists()


def _is_local(call: ast.Call) -> bool:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    spread = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
    written = set(given) >= LOCAL and ast.unparse(given["local_files_only"]) == "True"
    return (written and ast.unparse(given["trust_remote_code"]) == "False") or any(text.endswith("LOCAL") for text in spread)
