"""A trace is reused only while everything that made it is as it was: our own source is a part of that."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from logitproof.errors import ContractError
from logitproof.files import hashes
from logitproof.files.sources import import_closure
from logitproof.jobs.job import option_files
from logitproof.jobs.spec import Spec

PACKAGE = Path(__file__).parents[2] / "src/logitproof"
ZOO = Path(__file__).parents[2] / "zoo"
IDENTITY = """
import json, sys
from logitproof.jobs.adapter import adapter_identity
from logitproof.jobs.worker import Spec
print(json.dumps(adapter_identity(Spec(sys.argv[1], json.loads(sys.argv[2])))))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's source, to be changed."""
    ignored = shutil.ignore_patterns("__pycache__", "probes", "tasks")
    return Path(shutil.copytree(PACKAGE, tmp_path / "src/logitproof", ignore=ignored))


def python(package: Path, *argv: str, at: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *argv], env=environment, cwd=at, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def identity(package: Path, engine: str, **options: str) -> dict[str, str]:
    return json.loads(python(package, "-c", IDENTITY, engine, json.dumps(options)))


def change(file: Path) -> None:
    file.write_text(file.read_text("utf-8") + "\n# changed\n", "utf-8")


@pytest.mark.parametrize(
    ("engine", "options", "file"),
    [
        ("plain", {}, "weights/checkpoint.py"),
        ("plain", {}, "engines/_plain_layers.py"),
        ("plain", {}, "serve.py"),
        ("plain", {}, "protocol/sampler.py"),
        ("transformers", {}, "reference/checkpoint.py"),
        ("transformers", {}, "weights/adapter.py"),
        ("openai", {}, "gguf/tokenizer.py"),
        ("llamacpp", {}, "engines/_libllama.py"),
        ("dump", {}, "readers/npy.py"),
        ("dump", {}, "files/safetensors.py"),
    ],
)
def test_what_an_engine_imports_is_in_its_key(package: Path, engine: str, options: dict[str, str], file: str) -> None:
    before = identity(package, engine, **options)
    change(package / file)
    assert identity(package, engine, **options) != before


def test_the_bug_that_an_option_names_is_in_the_key(package: Path) -> None:
    named = next(path for path in sorted((package / "mutations/rope").glob("*.py")) if "rope.base" in _ids(package, path))
    plain, planted = identity(package, "transformers"), identity(package, "transformers", mutation="rope.base")
    change(named)
    assert identity(package, "transformers") == plain
    assert identity(package, "transformers", mutation="rope.base") != planted


@pytest.mark.parametrize(
    ("engine", "file"),
    [("plain", "readers/npy.py"), ("llamacpp", "kernels/ggml_deltanet.py"), ("transformers", "engines/llamacpp.py")],
)
def test_what_an_engine_does_not_import_leaves_its_traces_alone(package: Path, engine: str, file: str) -> None:
    before = identity(package, engine)
    change(package / file)
    assert identity(package, engine) == before


def test_a_loader_that_changed_never_reuses_a_trace(package: Path, tmp_path: Path) -> None:
    contract = {
        "contract": "stale",
        "reference": {"engine": "golden", "options": {"path": "reference.golden"}},
        "candidates": {"np": {"engine": "plain"}},
        "models": {"qwen3": {"original": str(ZOO / "qwen3")}},
        "suites": ["suite.yaml"],
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": "two float32 engines"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": "float32 rounding"}],
    }
    suite = {"suite": "s", "max_new_tokens": 0, "prompts": [{"id": "a", "token_ids": [3, 17, 5, 99, 23, 41]}]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    (tmp_path / "c.parity.yaml").write_text(yaml.safe_dump(contract))
    logitproof = ("-m", "logitproof")
    python(package, *logitproof, "capture", "plain", str(ZOO / "qwen3"), "suite.yaml", "--out", "captured", at=tmp_path)
    python(package, *logitproof, "freeze", "captured", "--out", "reference.golden", at=tmp_path)
    check = (*logitproof, "check", "c.parity.yaml", "--out", "run", "--json")
    assert json.loads(python(package, *check, at=tmp_path))["status"] == "PASS"
    loader = package / "weights/checkpoint.py"
    text = loader.read_text("utf-8")
    loader.write_text(text.replace("def read_checkpoint(", "def _read_as_it_was(") + WRONG_LOADER, "utf-8")
    assert json.loads(python(package, *check, at=tmp_path))["status"] == "FAIL"


WRONG_LOADER = '''

def read_checkpoint(folder: Path) -> dict[str, Array]:
    """The weights, a fifth too large."""
    return {name: 1.2 * tensor for name, tensor in _read_as_it_was(folder).items()}
'''


def _ids(package: Path, file: Path) -> str:
    """The text of a file, and its id where the id is the path."""
    return f"{file.read_text('utf-8')} {file.relative_to(package / 'mutations').with_suffix('').as_posix().replace('/', '.')}"


def test_a_folder_that_an_option_names_is_its_files_wherever_they_lie(tmp_path: Path) -> None:
    def known(name: str) -> dict[str, str]:
        return option_files(Spec("toy", {"path": name}, directory=str(tmp_path)))

    for name in ("a", "b"):
        (tmp_path / name / "deep/er").mkdir(parents=True)
        (tmp_path / name / "deep/er/rows").write_bytes(b"1234")
    os.utime(tmp_path / "b/deep/er/rows", (1, 1))
    before = known("a")["a"]
    assert before == known("b")["b"]
    state = (tmp_path / "a/deep/er/rows").stat()
    (tmp_path / "a/deep/er/rows").write_bytes(b"1235")
    os.utime(tmp_path / "a/deep/er/rows", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert known("a")["a"] != before
    (tmp_path / "b/deep/loop").symlink_to(tmp_path / "b", target_is_directory=True)
    assert known("b")["b"] == before


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "FILES_LIMIT", 2)
    for name in "abc":
        (tmp_path / name).touch()
    with pytest.raises(ContractError, match="more than 2 files"):
        option_files(Spec("toy", {"path": str(tmp_path)}))


def test_every_import_counts_wherever_it_stands(tmp_path: Path) -> None:
    """One that was not seen would let a change go by, and an old trace pass for a new one."""
    places = (
        "import logitproof.errors",
        "def f():\n    from logitproof import catalog",
        "async def f():\n    import logitproof.files.hashes",
        "class C:\n    from logitproof.files import mapped",
        "try:\n    pass\nexcept OSError:\n    import logitproof.files.atomic\nelse:\n    import logitproof.files.ended",
        "try:\n    pass\nfinally:\n    import logitproof.files.lock",
        "for n in ():\n    pass\nelse:\n    import logitproof.files.nearest",
        "with open('x') as f:\n    if f:\n        pass\n    else:\n        import logitproof.files.system",
        "match 1:\n    case 1:\n        import logitproof.files.worded",
    )
    files = ("hashes", "mapped", "atomic", "ended", "lock", "nearest", "system", "worded")
    wanted = ["errors", "catalog", *(f"files/{name}" for name in files)]
    (file := tmp_path / "module.py").write_text("\n".join(places))
    closure = set(import_closure(file))
    assert {PACKAGE / f"{name}.py" for name in wanted} <= closure
    every = {node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)}
    assert len(every) == len(wanted)
