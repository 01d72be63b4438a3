"""Whatever was pinned and is another now is told, all of it, before an engine runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.errors import ContractError
from logitproof.runs.pins import read_pins, verify_files


def pin(project: Any, name: str = "toys.pins.yaml", **changes: Any) -> Path:
    """A contract with pins of everything in it."""
    contract: Path = project.contract(**changes)
    done = CliRunner().invoke(main, ["pin", str(contract), "--out", str(project.folder / name)])
    assert done.exit_code == 0, done.output
    return project.contract(pins=name, **changes)


def verify(path: Path) -> Any:
    return CliRunner().invoke(main, ["verify", str(path)])


@pytest.mark.parametrize("name", ["toys.pins.yaml", "toys.pins.toml"])
def test_what_was_just_pinned_is_as_pinned(project: Any, name: str) -> None:
    done = verify(pin(project, name))
    assert done.exit_code == 0 and "all as pinned" in done.output
    assert project.check(pins=name).verdict.status == "PASS"
    assert verify(project.folder / name).exit_code == 0


def test_verify_right_after_pin_finds_the_pins_that_no_contract_names_yet(project: Any) -> None:
    contract: Path = project.contract()
    before = verify(contract)
    assert before.exit_code == 2 and "there is no toys.pins.yaml beside it" in before.output.replace("\n", " ")
    assert CliRunner().invoke(main, ["pin", str(contract)]).exit_code == 0
    done = verify(contract)
    assert done.exit_code == 0 and "all as pinned" in done.output and "1 suites" in done.output
    assert "next: write `pins: toys.pins.yaml` into" in done.output
    project.suite("suite.yaml", "quite another prompt")
    assert verify(contract).exit_code == 2, "suites are verified too"


def test_changed_weights_stop_the_run_before_it_begins(project: Any) -> None:
    contract = pin(project)
    project.model.write_text('{"vocab_size": 300, "seed": 2}')
    with pytest.raises(ContractError, match="toy.json: pinned sha256") as caught:
        project.check(pins="toys.pins.yaml")
    assert caught.value.exit_code == 2
    assert not list((project.folder / "store").glob("**/logits*"))
    assert verify(contract).exit_code == 2


def test_every_difference_is_told_not_the_first_only(project: Any) -> None:
    contract = pin(project)
    project.model.write_text('{"vocab_size": 300, "seed": 2, "more": 1}')
    project.suite("suite.yaml", "quite another prompt")
    said = verify(contract)
    assert "bytes" in said.output and "suite suite" in said.output and "2 differ" in said.output


def test_a_file_that_is_gone_is_told(project: Any) -> None:
    pins = read_pins(project.folder / pin(project).with_name("toys.pins.yaml").name)
    project.model.unlink()
    (one,) = [difference for difference in verify_files(pins, project.folder) if difference.fault]
    assert one.found == "no such file" and one.place.endswith("toy.json")


def test_another_program_of_an_engine_is_told(project: Any) -> None:
    contract = pin(project, candidates={"mine": project.engine()})
    (project.folder / "fake.py").write_text("print()")
    said = verify(contract)
    assert said.exit_code == 2 and "fake.py" in said.output


def test_another_version_of_an_engine_is_told_before_anything_is_measured(project: Any) -> None:
    pin(project)
    path = project.folder / "toys.pins.yaml"
    path.write_text(path.read_text().replace("toy: ", "toy: was-", 1) if "toy: " in path.read_text() else "")
    pins = read_pins(path)
    assert any("was-" in version for engine in pins.engines.values() for version in engine.versions.values())
    with pytest.raises(ContractError, match=r"versions\.toy: pinned was-"):
        project.check(pins="toys.pins.yaml")


def test_what_is_not_pinned_is_told(project: Any) -> None:
    pin(project)
    with pytest.raises(ContractError, match="engine more"):
        project.check(pins="toys.pins.yaml", candidates={**project.data()["candidates"], "more": project.toy(noise=1e-8)})


def test_another_option_is_not_what_was_pinned(project: Any) -> None:
    pin(project)
    with pytest.raises(ContractError, match="engine good.*noise"):
        project.check(pins="toys.pins.yaml", candidates={"good": project.toy(noise=1e-6)})


def test_another_machine_is_a_note_and_no_fault(project: Any) -> None:
    contract = pin(project)
    path = project.folder / "toys.pins.yaml"
    pins = read_pins(path)
    path.write_text(path.read_text().replace(pins.platform["machine"], "riscv128"))
    said = verify(contract)
    assert said.exit_code == 0 and "note: platform.machine: pinned riscv128" in said.output


def test_what_a_person_wrote_is_kept_when_pinned_again(project: Any) -> None:
    contract = pin(project)
    path = project.folder / "toys.pins.yaml"
    text = path.read_text().replace("path: toy.json", "path: toy.json\n      source: a shelf\n      license: MIT")
    (project.folder / "fixture.txt").write_text("x")
    path.write_text(text + f"fixtures: {{fixture.txt: '{'0' * 64}'}}\n")
    assert verify(contract).exit_code == 2
    assert CliRunner().invoke(main, ["pin", str(contract)]).exit_code == 0
    model = read_pins(path).models["m"]["original"]
    assert (model.source, model.license) == ("a shelf", "MIT")
    assert verify(contract).exit_code == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.pins.yaml", "pins: 1\nmodls: {}\n", "unknown key 'modls'; did you mean 'models'?"),
        ("x.pins.toml", "pins = 1\nmodls = 1\n", "unknown key 'modls'; did you mean 'models'?"),
        ("x.pins.toml", "pins = ", "not valid TOML"),
        ("x.pins.yaml", "pins: 1\nmodels: {}\nsuites: {a: short}\n", "must be a sha256"),
        ("x.pins.ini", "", "neither YAML nor TOML"),
    ],
)
def test_a_broken_pins_file_is_one_clear_error(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ContractError, match=said.replace("?", r"\?").replace("'", ".")):
        read_pins(tmp_path / name)


def test_a_contract_without_pins_cannot_be_verified(project: Any) -> None:
    said = verify(project.contract())
    assert said.exit_code == 2 and "logitproof pin" in said.output
