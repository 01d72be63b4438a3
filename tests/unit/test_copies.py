"""A quantized file that is a copy of the original proves nothing of the quantization, whatever it is called."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from logitproof.errors import ContractError

MATRIX = {"matrix": {"mode": ["prefill"], "quantization": ["Q4"]}}


def models(**files: str) -> dict[str, Any]:
    return {"models": {"m": files}, **MATRIX}


def test_a_copy_of_the_original_is_no_quantization_of_it(project: Any) -> None:
    shutil.copy(project.folder / "toy.json", project.folder / "q4.json")
    with pytest.raises(
        ContractError, match=r"q4\.json is a copy of .*toy\.json, byte for byte|toy\.json is a copy of"
    ) as raised:
        project.check(**models(original="toy.json", Q4="q4.json"))
    assert "toys.parity.yaml" in raised.value.where and raised.value.remedy


def test_one_file_under_two_names_is_what_the_contract_says(project: Any) -> None:
    assert project.check(**models(original="toy.json", Q4="toy.json")).verdict.exit_code == 0


def test_a_file_of_its_own_is_taken(project: Any) -> None:
    project.write("q4.json", '{"vocab_size": 300, "seed": 1, "bits": 4}')
    uses = {"good": project.toy(noise=1e-7)}
    assert project.check(candidates=uses, **models(original="toy.json", Q4="q4.json")).verdict.exit_code == 0
