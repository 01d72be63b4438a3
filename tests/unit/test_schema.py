"""The published schemas are what the code says, and real files fit them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from logitproof.commands import _schemas as schemas
from logitproof.contract.suite import shipped_suites
from logitproof.protocol.messages import METHODS, VERSION
from logitproof.report import schema

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
SUITES = [file for file in EXAMPLES if file.name.endswith(".suite.yaml")]
GATE = {"id": "kl", "metric": "kl_divergence", "basis": "a reason of some length"}


def published(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(schema.path(name).read_text("utf-8")))


def small_contract(**gate: Any) -> dict[str, Any]:
    return {
        "contract": "one",
        "reference": {"engine": "transformers"},
        "candidates": {"mine": {"engine": "llamacpp", "only": {"mode": "prefill"}}},
        "models": {"m": {"original": "m"}},
        "suites": ["smoke-10"],
        "bands": [{"match": 1e-4, "wrong": 1e-2, "basis": "a reason of some length"}],
        "gates": [{**GATE, **gate}],
    }


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_committed_file_is_what_the_code_generates(name: str) -> None:
    assert schema.path(name).read_text("utf-8") == schemas.as_text(name), "run `python -m logitproof.commands._schemas`"
    jsonschema.Draft202012Validator.check_schema(json.loads(schemas.as_text(name)))


def test_nothing_else_lies_among_the_schemas() -> None:
    assert sorted(file.name for file in schema.FOLDER.glob("*.json")) == sorted(
        f"{name}.schema.json" for name in schemas.SCHEMAS
    )


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_fits_its_schema(file: Path) -> None:
    published("suite" if file in SUITES else "contract").validate(yaml.safe_load(file.read_text("utf-8")))


@pytest.mark.parametrize("name", shipped_suites())
def test_every_shipped_suite_fits_the_suite_schema(name: str) -> None:
    published("suite").validate(yaml.safe_load(shipped_suites()[name].read_text("utf-8")))


def test_a_gate_has_exactly_one_bound_and_no_unknown_key() -> None:
    fits = published("contract").is_valid
    assert fits(small_contract(at_most=1e-6))
    assert fits(small_contract(at_least=0.9, if_fails="look at the mask", where={"model": "m"}))
    assert not fits(small_contract())
    assert not fits(small_contract(at_most=1.0, at_least=0.5))
    assert not fits(small_contract(at_most=1.0, tolerance=0.5))
    assert not fits(small_contract(at_most=1.0, where={"mode": "prefil"}))


def test_the_protocol_schema_knows_every_method_and_the_version() -> None:
    found = copy.deepcopy(published("protocol").schema)
    assert set(found["methods"]) == set(METHODS)
    assert found["version"] == VERSION
