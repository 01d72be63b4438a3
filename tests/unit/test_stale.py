"""I edited, I ran, it measured: a candidate's trace is used again only while all that its engine executed is unchanged."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from logitproof.errors import ContractError

WIDE: dict[str, Any] = {"bands": [{"match": 1e3, "wrong": 1e4, "basis": "the fake engine is another model than the toy"}]}
WIDE["gates"] = [{"id": "kl", "metric": "kl_divergence", "at_most": 1e6, "basis": "the fake engine is another model"}]
COUNTED = """
def load(p):
    open("loads.txt", "a").write("x")
    {body}
    return {{"vocab_size": V}}
"""


EDITS = """
asked = []
def score(p):
    asked.append(p)
    if len(asked) == 2:
        os.replace("edited.py", "core.py")
    return {"logits": write(p["logits"], [row(t) for t in p["token_ids"]])}
"""


def loads(project: Any) -> int:
    """How often the candidate was loaded."""
    path = project.folder / "loads.txt"
    return len(path.read_text()) if path.exists() else 0


def again(project: Any, use: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Loads of a second run of the same contract, and what it says was measured again."""
    before = loads(project)
    report = project.check(candidates={"mine": use}, **WIDE)
    return loads(project) - before, report.facts["measured_again"]


def test_what_a_python_engine_imports_reads_or_lists_is_looked_at(project: Any) -> None:
    body = 'import core; open("table.txt").read(); return {"vocab_size": core.V}'
    use = project.engine(COUNTED.format(body=body))
    project.write("core.py", "V = 300\n")
    project.write("table.txt", "1")
    assert again(project, use) == (1, [])
    assert again(project, use) == (0, []), "nothing has changed"
    os.utime(project.folder / "core.py")
    assert again(project, use) == (0, []), "it was touched only"
    for name in ("core.py", "table.txt"):
        project.write(name, (project.folder / name).read_text() + " ")
        count, said = again(project, use)
        assert count == 1 and said[0]["engine"] == "mine" and said[0]["reason"] == f"{project.folder / name} has changed since"
        assert again(project, use) == (0, [])


def test_an_engine_behind_a_shell_is_measured_every_time(project: Any) -> None:
    inner = project.engine(COUNTED.format(body="pass"))
    script = project.write("run.sh", f"#!/bin/sh\n{inner['options']['argv'][0]} fake.py\nexit 0\n")
    script.chmod(0o755)
    use = {**inner, "options": {"argv": ["./run.sh"]}}
    assert again(project, use) == (1, [])
    count, said = again(project, use)
    assert count == 1 and "does not say what it reads" in said[0]["reason"]


def test_a_program_on_the_path_that_was_replaced_is_measured_again(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use = project.engine(COUNTED.format(body="pass"))
    program = tmp_path / "bin/myeng"
    program.parent.mkdir()
    text = f"#!{sys.executable}\n" + (project.folder / "fake.py").read_text()
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    use = {**use, "options": {"argv": ["myeng"]}}
    assert again(project, use) == (1, []) and again(project, use) == (0, [])
    program.write_text(text + "# another build\n")
    count, said = again(project, use)
    assert count == 1 and said[0]["reason"] == f"{program} has changed since"


def test_a_program_that_starts_others_which_end_is_measured_every_time(project: Any) -> None:
    use = project.engine(COUNTED.format(body='import subprocess; subprocess.run(["true"], check=True)'))
    assert again(project, use) == (1, [])
    count, said = again(project, use)
    assert count == 1 and "true" in said[0]["reason"]


def test_a_python_that_takes_no_notes_is_measured_every_time(project: Any) -> None:
    use = project.engine(COUNTED.format(body="pass"))
    use["options"]["argv"].insert(1, "-I")
    assert again(project, use) == (1, []) and again(project, use)[0] == 1


def test_a_build_id_that_the_contract_trusts_is_enough(project: Any) -> None:
    hello = (
        '{"protocol": 1, "engine": "fake", "versions": {"commit": open("id.txt").read()}, "generate": True, "tokenize": True}'
    )
    use = project.engine(COUNTED.format(body="import core") + f"\ndef hello(p):\n    return {hello}\n")
    project.write("core.py", "")
    project.write("id.txt", "abc")
    use = {**use, "build_id": "commit"}
    assert again(project, use) == (1, [])
    project.write("core.py", "X = 1")
    assert again(project, use) == (0, []), "the contract trusts the id"
    project.write("id.txt", "abd")
    assert again(project, use)[0] == 1
    assert again(project, {**use, "build_id": "nothing"})[0] == 0
    project.write("core.py", "X = 2")
    assert again(project, {**use, "build_id": "nothing"})[0] == 1, "its hello has no such version"


def test_an_engine_in_our_own_process_is_used_again(project: Any) -> None:
    assert project.check().facts["measured_again"] == []
    assert project.check().facts["measured_again"] == []


def test_a_program_that_is_replaced_in_the_middle_of_a_run_is_measured_by_nobody(project: Any) -> None:
    """An engine writes over the other's program while it loads: no verdict, and what that one gave is not kept."""
    spoils = """
    def load(p):
        open("other.py", "a").write("\\n")
        return {"vocab_size": V}
    """
    uses = {"mine": project.engine(spoils), "other": project.engine(name="other.py")}
    with pytest.raises(
        ContractError, match=r"other\.py: was replaced or written to while the run measured.*what other executed"
    ):
        project.check(candidates=uses, **WIDE)
    engines = {trace.engine for trace in project.store.every()}
    assert "mine" in engines and "reference" in engines and "other" not in engines
    log = project.engine('open("out.log", "a").write("a line that the engine itself writes")', name="logs.py")
    log["options"]["argv"].append("out.log")
    project.write("out.log", "")
    assert project.check(candidates={"mine": log}, **WIDE).verdict.exit_code == 0


def test_a_module_that_is_edited_after_it_was_loaded_is_measured_again(project: Any) -> None:
    """The engine goes on with what it has loaded; a trace that it then makes is not one of the new file."""
    use = project.engine(COUNTED.format(body="import core") + EDITS)
    project.write("core.py", "V = 300\n")
    project.write("edited.py", "V = 300  # edited\n")
    assert again(project, use) == (1, [])
    count, said = again(project, use)
    assert count == 1 and said[0]["reason"] == f"{project.folder / 'core.py'} has changed since"
    assert said[0]["traces"] == 4, "the last was made when the file was another already, by what was loaded before"


def test_a_link_that_leads_to_another_build_is_a_change(project: Any) -> None:
    use = project.engine(COUNTED.format(body='import sys; sys.path.insert(0, "current"); import core'))
    for build in ("first", "second"):
        (project.folder / build).mkdir()
        project.write(f"{build}/core.py", f"V = 300  # {build}\n")
    link = project.folder / "current"
    link.symlink_to("first")
    assert again(project, use) == (1, []) and again(project, use) == (0, [])
    link.unlink()
    link.symlink_to("second")
    count, said = again(project, use)
    assert count == 1 and said[0]["reason"] == f"{link / 'core.py'} has changed since"
