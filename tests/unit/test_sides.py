"""Who reads what in a cell is worked out in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

from logitproof.contract.opened import OpenContract, open_contract
from logitproof.errors import ContractError
from logitproof.jobs.cell import Cell
from logitproof.jobs.plan import matrix_cells
from logitproof.jobs.sides import config_of, first_side, label_read, path_of, sides

PACKAGE = Path(__file__).parents[2] / "src/logitproof"
CONTRACT = {
    "contract": "sides",
    "reference": {"engine": "toy"},
    "candidates": {"other": {"engine": "toy", "isa": {"avx2": {"environment": {"A": "1"}, "evidence": {"isa.x": "avx2"}}}}},
    "models": {"m": {"original": "folder", "Q8_0": "file.gguf"}},
    "suites": ["one.yaml"],
    "matrix": {"quantization": ["original", "Q8_0"], "mode": ["prefill"]},
    "bands": [{"match": 0.001, "wrong": 0.01, "basis": "one model in float32 on both sides"}],
    "gates": [{"id": "kl", "metric": "kl_divergence", "at_most": 0.01, "basis": "far below any bug"}],
}
SUITE = {"suite": "one", "max_new_tokens": 2, "prompts": [{"id": "a", "token_ids": [1, 2]}]}


def opened(folder: Path, weights: str = "original", original: str = "folder") -> OpenContract:
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "one.yaml").write_text(yaml.safe_dump(SUITE), "utf-8")
    models = {"m": {"original": original, "Q8_0": "file.gguf"}}
    contract = {**CONTRACT, "models": models, "reference": {"engine": "toy", "weights": weights}}
    (folder / "a.parity.yaml").write_text(yaml.safe_dump(contract), "utf-8")
    return open_contract(folder / "a.parity.yaml")


def cell_of(contract: OpenContract, quantization: str) -> Cell:
    return next(cell for cell in matrix_cells(contract) if cell.quantization == quantization)


@pytest.mark.parametrize(("weights", "read"), [("original", "folder"), ("candidate", "file.gguf")])
def test_the_reference_reads_what_the_contract_says(weights: str, read: str, tmp_path: Path) -> None:
    contract = opened(tmp_path, weights)
    reference, candidate = sides(contract, cell_of(contract, "Q8_0"))
    assert (reference.model, candidate.model) == (tmp_path / read, tmp_path / "file.gguf")
    assert reference.config == candidate.config == tmp_path / "folder"
    assert (reference.name, candidate.name) == ("reference", "other")
    assert path_of(contract, "m", label_read(contract.contract, "Q8_0")) == reference.model


def test_an_original_that_is_no_folder_is_nobodys_config(tmp_path: Path) -> None:
    contract = opened(tmp_path, original="original.gguf")
    assert config_of(contract, "m") is None
    assert [side.config for side in sides(contract, cell_of(contract, "Q8_0"))] == [None, None]


def test_two_instruction_sets_are_two_sides_of_one_candidate(tmp_path: Path) -> None:
    contract = opened(tmp_path)
    cell = Cell("other", "m", "Q8_0", "prefill", "native~avx2", "", "")
    second = sides(contract, cell)[1]
    assert (first_side(contract, cell).name, second.name) == ("other", "other on avx2")
    assert "A" not in first_side(contract, cell).spec.environment
    assert second.spec.environment["A"] == "1"


def test_a_label_without_a_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="no file for the quantization 'Q4_0'"):
        path_of(opened(tmp_path), "m", "Q4_0")


def test_nobody_else_works_out_the_path_of_a_label_or_what_the_reference_reads() -> None:
    """`absolute(find(files[label], …))` and `weights == "candidate"` are written in one module, each."""
    joined, decided = set(), set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.IfExp | ast.Call) else ""
            by_hand = text.endswith(".resolve()") and ".folder / " in text and "[" in text
            if by_hand or (text.startswith("absolute(find(") and "[" in text.partition(",")[0]):
                joined.add(str(path.relative_to(PACKAGE)))
            if isinstance(node, ast.IfExp) and ".weights == 'candidate'" in text:
                decided.add(str(path.relative_to(PACKAGE)))
    assert joined == decided == {"jobs/sides.py"}
