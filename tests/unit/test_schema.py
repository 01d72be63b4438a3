"""The published schemas are what the code says, and real files fit them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from logitproof.commands import _schemas as schemas
from logitproof.contract.contract import Contract
from logitproof.contract.suite import Suite, shipped_suites
from logitproof.errors import ContractError
from logitproof.files.yaml import read_yaml
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


REASON = "a reason of some length"
HASH = "0" * 64
WHOLE: dict[str, Any] = {
    "contract": "one", "version": "1.0.0",
    "reference": {"engine": "transformers", "options": {"dtype": "float32"}, "timeout": 5, "weights": "original"},
    "candidates": {
        "mine": {
            "engine": "llamacpp", "only": {"mode": "prefill"}, "isa": {"avx2": {"evidence": {"stderr": "x+"}}},
            "arithmetic": {"base": "float32", "lanes": 1},
        },
        "control": {"engine": "toy", "expect": "WRONG", "may_be_exact": REASON, "may_be_vacuous": REASON},
    },
    "models": {"m": {"original": "m", "Q4": "q"}, "n": "file"},
    "suites": ["smoke-10"],
    "matrix": {"mode": ["prefill"], "quantization": ["Q4"], "isa_pairs": [["avx2", "native"]]},
    "bands": [{"match": 1e-4, "wrong": 1e-2, "allow": 0.1, "basis": REASON}, {"bound": "calibrated", "basis": REASON}],
    "gates": [{**GATE, "at_most": 1e-6, "where": {"model": "m"}, "if_fails": "look", "scope": "first 3 tokens"}],
    "stages": [{"id": "s", "claim": "c", "gates": ["kl"], "evidence": {"verdict": "v", "sha256": HASH}}],
    "amendments": [
        {
            "date": "2026-01-01", "kind": "decided", "title": "t", "reason": REASON,
            "alternatives": [{"title": "t", "rejected": REASON}],
        }
    ],
    "falsification": [{"id": "f", "prediction": "p", "test": ["kl"], "if_fails": [{"when": ["kl"], "steps": ["a"]}]}],
    "references": [{"id": "r", "source": "s", "sha256": HASH}],
    "rests_on": [{"id": "other", "source": "s", "sha256": HASH, "mirror": "m"}],
    "waivers": [{"id": "w", "cell": "*", "prompt": HASH[:12], "issue": "a/b#1", "until": "2026-12-31", "reason": REASON}],
    "lint": [{"code": "LP001", "reason": REASON, "until": "2026-12-31"}],
    "preflight": {"skip": ["PF101"], "reason": REASON},
    "error_bar": {"vary": ["threads"], "prompts": 1, "builds": {"b": {"engine": "toy"}}},
    "witness": {"engine": "toy"}, "pins": "p", "may_be_unmeasured": ["x"], "bootstrap_seed": 1,
}  # fmt: skip
PROMPTS: list[dict[str, Any]] = [
    {"id": "a", "text": "t", "bucket": "b", "max_new_tokens": 3},
    {"id": "b", "token_ids": [1, 2]},
]
SUITE: dict[str, Any] = {"suite": "s", "about": "a", "max_new_tokens": 3, "prompts": PROMPTS}
VALUES: list[Any] = [
    True, False, None, 0, 1, -1, 1.5, 5.0, 10**20, "", "x", "1", "1e-6", "reference", "a/b", "calibrated", "prefill", "WRONG",
    "2026-12-31", "2026-02-30", "2026-12-31T00:00:00", "position 3", REASON, [], {}, [1], ["x"], ["prefill"], [["a"]], {"a": 1},
]  # fmt: skip
RELATIONS = ("must not exceed wrong", "stands twice", "is no pattern", "matches an empty text", "frozen as", "is no source")
"""What no JSON Schema can say: how two values of a file are related, and whether a regular expression is one."""
GONE = object()


def places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in nested lists and mappings but the whole."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in children for place in ((*at, key), *places(inner, (*at, key)))]


def changed(data: Any, at: tuple[str | int, ...], value: Any, *, beside: bool) -> Any:
    """The same with another value at a place, or with a key more beside it, or without it."""
    made = copy.deepcopy(data)
    parent = made
    for key in at[:-1]:
        parent = parent[key]
    if value is GONE:
        del parent[at[-1]]
    elif beside and isinstance(parent, dict):
        parent["reference" if value == "reference" else "a/b" if value == "a/b" else "unknown"] = value
    else:
        parent[at[-1]] = value
    return made


def refusal(data: Any, kind: type[BaseModel], folder: Path) -> str:
    """What the reader says against a file, or nothing."""
    path = folder / "read.yaml"
    # JSON is YAML, in which a text has its quotes
    path.write_text(json.dumps(data), "utf-8")
    try:
        read_yaml(path, kind)
    except ContractError as error:
        return str(error)
    return ""


anything = st.one_of(st.just(GONE), st.sampled_from(VALUES), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize(("name", "kind", "whole"), [("contract", Contract, WHOLE), ("suite", Suite, SUITE)])
def test_the_published_schema_and_the_reader_accept_the_same_files(
    name: str, kind: type[BaseModel], whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, checker = tmp_path_factory.mktemp(name), jsonschema.FormatChecker(["date"])
    fits = jsonschema.Draft202012Validator(json.loads(schema.path(name).read_text("utf-8")), format_checker=checker).is_valid
    assert fits(whole) and refusal(whole, kind, folder) == ""

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(places(whole)), anything, st.booleans())
    def same(at: tuple[str | int, ...], value: Any, beside: bool) -> None:
        data = changed(whole, at, value, beside=beside)
        said = refusal(data, kind, folder)
        if not any(words in said for words in RELATIONS):
            assert fits(data) == (said == ""), (at, value, said)

    same()


@pytest.mark.parametrize("value", [True, "1e-6", "1", [], {}])
def test_a_bound_that_is_no_number_is_refused_by_both(value: Any, tmp_path: Path) -> None:
    data = small_contract(at_most=value)
    assert not published("contract").is_valid(data)
    assert "gates.0.at_most" in refusal(data, Contract, tmp_path)


def test_a_number_is_one_however_yaml_may_write_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for text in ("1e-6", "1.0e-6", "1.0e-06", "0.000001", ".1e-5", "1.E-6"):
        path.write_text(yaml.safe_dump(small_contract(at_most="HERE")).replace("HERE", text), "utf-8")
        assert read_yaml(path, Contract)[0].gates[0].at_most == 1e-6, text
