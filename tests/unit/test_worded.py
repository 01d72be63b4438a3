"""No text of pydantic, NumPy or the operating system reaches a person as it is."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from logitproof.contract.opened import open_contract
from logitproof.errors import ContractError
from logitproof.files.worded import UNKNOWN, in_words, worded

SOURCE = Path(__file__).parents[2] / "src"
FOREIGN = re.compile(
    r"Input should|valid dictionary|Field required|validation error|Value error|Extra inputs|after validation|unable to parse"
    r"|type=|input_value|instance of|pydantic"
)
"""What only pydantic says."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    count: Annotated[int, Field(ge=0, le=9)] = 0
    share: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = 0.5
    name: Annotated[str, Field(min_length=2, max_length=5, pattern="^[a-z]+$")] = "ab"
    names: Annotated[list[str], Field(min_length=1, max_length=2)] = ["a"]
    table: dict[str, int] = {}
    pair: tuple[str, str] = ("a", "b")
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    until: date = date(2026, 1, 1)
    either: float | Literal["calibrated"] = 1.0
    inner: Strict | None = None


WRONG: list[Any] = [True, None, -1, 11, 0.5, 2.0, float("inf"), "", "A", "abcdefg", [], ["a", "b", "c"], {}, {"a": "b"}]
GATE = {"id": "kl", "metric": "kl_divergence", "basis": "a reason of letters"}


@pytest.mark.parametrize("field", Strict.model_fields)
def test_every_fault_of_every_type_of_field_has_words_of_ours(field: str) -> None:
    errors = [error for value in WRONG if (error := refused({field: value})) is not None]
    assert errors
    for error in errors:
        assert not [fault["type"] for fault in error.errors() if worded(fault) == UNKNOWN]
        assert not FOREIGN.search(in_words(error)) and in_words(error).startswith(f"`{field}")


def refused(value: Any) -> ValidationError | None:
    """What pydantic says against a value, if it says something."""
    try:
        Strict.model_validate(value)
    except ValidationError as error:
        return error
    return None


def test_a_fault_that_has_no_words_yet_is_not_told_in_foreign_ones() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(complex).validate_python("x")
    assert not FOREIGN.search(in_words(raised.value))


def test_nothing_prints_the_text_of_pydantic() -> None:
    taken = re.compile(r"""\[["']msg["']\]|str\(error\)\.replace""")
    files = [path for path in SOURCE.rglob("*.py") if taken.search(path.read_text("utf-8"))]
    assert files == []


CONTRACTS: dict[str, dict[str, Any]] = {
    "a name for an engine": {"reference": "transformers"},
    "a list for a mapping": {"models": []},
    "a number for a mapping": {"candidates": 3},
    "nothing where something must be": {"bands": None},
    "no entry": {"suites": []},
    "a text for a number": {"gates": [{**GATE, "at_most": "small"}]},
    "a truth for a number": {"gates": [{**GATE, "at_most": True}]},
    "a date that is none": {"lint": [{"code": "LP001", "reason": "a reason of letters", "until": "soon"}]},
    "a mode that is none": {"matrix": {"mode": ["prefil"]}},
    "a pair of one": {"matrix": {"isa_pairs": [["avx2"]]}},
    "references that are a text": {"references": "file"},
    "a reference without its source": {"references": [{"id": "r"}]},
    "an engine called float": {"candidates": {"float": {"engine": "toy", "timeout": -1}}},
    "a short reason": {"bands": [{"match": 1e-4, "wrong": 1e-2, "basis": "because"}]},
    "a key twice in words": {"gatse": [], "bnads": []},
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_is_complained_about_in_our_words_at_its_line(project: Any, name: str) -> None:
    with pytest.raises(ContractError) as raised:
        open_contract(project.contract(**CONTRACTS[name]))
    for error in (raised.value, *raised.value.others):
        assert not FOREIGN.search(str(error)), str(error)
        assert re.search(r"\.yaml:\d+: [\w.]+$", error.where), error.where
        assert error.remedy and "[" not in error.where.rpartition(": ")[2]


def test_what_may_be_one_of_several_is_one_fault(project: Any) -> None:
    with pytest.raises(ContractError) as raised:
        open_contract(project.contract(**CONTRACTS["a truth for a number"]))
    assert raised.value.others == () and "must be a number or 'calibrated', got true" in raised.value.text
    assert raised.value.where.endswith("gates.0.at_most")
