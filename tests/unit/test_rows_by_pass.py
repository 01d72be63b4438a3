"""Models whose rows depend on the length of the pass: LongRoPE and dynamic NTK beyond their original length are no fault."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from logitproof.contract.opened import open_contract
from logitproof.contract.suite import Prompt
from logitproof.jobs.passes import may_cross
from logitproof.reference.model import load
from logitproof.runs.workspace import Workspace
from logitproof.weights.passes import Crossing, crossing_of

pytestmark = pytest.mark.usefixtures("born")
ROOT = Path(__file__).parents[2]
PROBES = ROOT / "src/logitproof/acid/probes"
LENGTH = 16
LONG = [5 + number * 7 % 200 for number in range(40)]
SHORT = LONG[:6]


def phi3(config: dict[str, Any]) -> None:
    config["original_max_position_embeddings"] = LENGTH
    config["rope_parameters"]["original_max_position_embeddings"] = LENGTH


def dynamic(config: dict[str, Any]) -> None:
    config["max_position_embeddings"] = LENGTH
    config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}


MODELS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {"longrope": ("phi3", phi3), "dynamic": ("qwen3", dynamic)}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return made(str(request.param), tmp_path)


def made(kind: str, tmp_path: Path) -> Path:
    source, change = MODELS[kind]
    shutil.copytree(PROBES / source, tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    change(config)
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    return tmp_path / "m"


def contract(model: Path, candidate: dict[str, Any], vary: tuple[str, ...] = (), **more: Any) -> Path:
    """A contract beside the model, of one short prompt and one that crosses."""
    prompts = [{"id": "short", "token_ids": SHORT}, {"id": "long", "token_ids": LONG}]
    (model.parent / "s.yaml").write_text(json.dumps({"suite": "s", "max_new_tokens": 4, "prompts": prompts}))
    written = {
        "contract": "passes",
        "version": "1.0.0",
        "reference": {"engine": "transformers", "options": {"threads": 1}},
        "candidates": {"mine": candidate},
        "models": {"m": {"original": "m"}},
        "suites": ["s.yaml"],
        "matrix": {"mode": ["prefill", "decode"]},
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": "two float32 engines on one machine"}],
        "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": "rounding of float32"}],
        "error_bar": {"vary": list(vary)},
        **more,
    }
    (model.parent / "c.parity.yaml").write_text(json.dumps(written))
    return model.parent / "c.parity.yaml"


def statuses(path: Path) -> dict[str, str]:
    report = Workspace(path.parent / "run").check(open_contract(path))
    return {cell.cell.mode: str(cell.status) for cell in report.verdict.cells}


SDPA = {"engine": "transformers", "options": {"threads": 1, "attention": "sdpa"}}


def test_a_right_engine_is_right_on_both_sides_of_the_crossing(model: Path) -> None:
    path = contract(model, SDPA, vary=("decode",))
    report = Workspace(path.parent / "run").check(open_contract(path))
    assert {cell.cell.mode: str(cell.status) for cell in report.verdict.cells} == {"prefill": "MATCH", "decode": "MATCH"}
    errors = [row for row in report.facts["reference_error"] if "kl_divergence" in row["metrics"]]
    assert errors and max(row["metrics"]["kl_divergence"]["max"] for row in errors) < 1e-9
    settings = report.facts["preflight"]["pairs"][0]["settings"]
    (told,) = [row for row in settings if row["name"] == "rows by the length of the pass"]
    assert "as the functions that they are" in told["note"] and str(LENGTH) in told["reference"]


def test_a_decode_that_is_another_function_than_the_references_decode_is_wrong(tmp_path: Path) -> None:
    """An engine that answers decode by a prefill gives the reference's prefill, which is another function."""
    model = made("longrope", tmp_path)
    engine = model.parent / "engine.py"
    engine.write_text(
        "import sys\n"
        "from logitproof import serve\n"
        "from logitproof.engines.transformers import Transformers\n"
        "passes = Transformers._passes\n"
        "Transformers._passes = lambda self, ids, mode: passes(self, ids, 'prefill')\n"
        'sys.exit(serve.main([\'transformers\', \'{"threads": 1, "attention": "sdpa"}\']))\n'
    )
    found = statuses(contract(model, {"engine": "command", "options": {"argv": [sys.executable, str(engine)]}}))
    assert found == {"prefill": "MATCH", "decode": "WRONG"}


def test_a_planted_bug_is_still_wrong(tmp_path: Path) -> None:
    model = made("dynamic", tmp_path)
    candidate = {"engine": "transformers", "options": {"threads": 1, "mutation": "norm.one_added"}}
    assert set(statuses(contract(model, candidate)).values()) == {"WRONG"}


def test_what_an_engine_gives_by_itself_cannot_be_compared_where_it_is_two_functions(tmp_path: Path) -> None:
    model = made("longrope", tmp_path)
    path = contract(model, SDPA, matrix={"mode": ["prefill", "self"]})
    report = Workspace(path.parent / "run").check(open_contract(path))
    (row,) = [unmeasured for unmeasured in report.verdict.unmeasured if "/self" in unmeasured.cell]
    assert "two functions" in row.reason


def test_rows_do_not_depend_on_what_was_computed_before_them(model: Path) -> None:
    reference = load(model)
    ids = [LONG[:20], LONG]
    first = [scored(reference, tokens) for tokens in ids]
    assert all(np.array_equal(scored(reference, tokens), rows) for tokens, rows in zip(ids, first, strict=True))
    assert np.array_equal(scored(load(model), ids[0]), first[0])


def scored(reference: Any, tokens: list[int]) -> np.ndarray:
    import torch

    with torch.inference_mode():
        return np.asarray(reference.model(torch.tensor([tokens]), use_cache=False).logits[0])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"rope_parameters": {"rope_type": "default"}, "max_position_embeddings": 64}, None),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 64}}, None),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096}, Crossing("longrope", 4096)),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, Crossing("dynamic", 2048)),
        (
            {"rope_parameters": {"full": {"rope_type": "longrope", "original_max_position_embeddings": 8}, "local": {}}},
            Crossing("longrope", 8),
        ),
        (
            {"text_config": {"rope_parameters": {"rope_type": "dynamic"}, "max_position_embeddings": 32}},
            Crossing("dynamic", 32),
        ),
        ({"rope_parameters": {"rope_type": "dynamic"}}, None),
        ({}, None),
    ],
)
def test_where_rows_begin_to_depend_on_the_pass_is_read_from_the_config(
    config: dict[str, Any], expected: Crossing | None
) -> None:
    assert crossing_of(config) == expected


def test_prompts_that_cannot_reach_the_crossing_are_compared_as_ever() -> None:
    crossing = Crossing("longrope", 32)
    assert not may_cross(None, Prompt(id="a", text="x" * 1000), 1000)
    assert not may_cross(crossing, Prompt(id="a", token_ids=[1] * 20), 12)
    assert may_cross(crossing, Prompt(id="a", token_ids=[1] * 20), 13)
    assert may_cross(crossing, Prompt(id="a", text="ü" * 15), 4)
