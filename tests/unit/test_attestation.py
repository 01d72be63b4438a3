"""Evidence of a run: it verifies without an engine, no byte can be changed, and what is signed must follow from itself."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import BASIS, Project
from logitproof.attestation.derive import contract_of, derived, terms_of
from logitproof.attestation.keys import private_key, public_key, signed
from logitproof.attestation.make import _cell, payload_of, plain, statement_of
from logitproof.attestation.seals import parts_of, sealed
from logitproof.attestation.statement import PAYLOAD, Statement
from logitproof.attestation.verify import Verified, verify
from logitproof.bands.calculated import CalculatedBand, tokens_sha256
from logitproof.cli import main
from logitproof.contract.opened import open_contract, read_contract
from logitproof.errors import ContractError
from logitproof.runs.workspace import Workspace
from logitproof.verdict.judge import judge

ROOT = Path(__file__).parents[2]
SECRET = "a value that nobody should read"
GATES = [
    {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6, "basis": BASIS},
    {"id": "tied", "metric": "top1_outside_ties", "at_least": 1, "statistic": "min", "basis": BASIS},
    {"id": "free", "metric": "first_divergence", "at_least": 6, "statistic": "min", "basis": BASIS},
    {"id": "far", "metric": "max_delta_logit", "at_most": 1e-3, "statistic": "p99", "scope": "continuation", "basis": BASIS},
]


class Evidence:
    """A run, its evidence and both halves of a key."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.project = Project(folder)
        good = {"engine": "toy", "options": {"noise": 1e-7}, "environment": {"TOY_TOKEN": SECRET}}
        self.contract = self.project.contract(
            **{"candidates": {"good": good}, "matrix": {"mode": ["prefill", "decode", "greedy"]}, "gates": GATES, **changes}
        )
        self.space = Workspace(folder / "run")
        self.report = self.space.check(open_contract(self.contract))
        self.key, self.public = keys(folder)
        self.file = folder / "evidence.json"
        done = cli("attest", self.space.folder, "--key", self.key, "--out", self.file)
        assert done.exit_code == 0, done.output

    @property
    def statement(self) -> dict[str, Any]:
        return json.loads(base64.b64decode(json.loads(self.file.read_text())["payload"]))

    def verify(self, data: bytes | None = None, contract: Path | None = None) -> Verified:
        """Verify the evidence, or other bytes in its place."""
        path = self.file
        if data is not None:
            path = self.file.with_name("other.json")
            path.write_bytes(data)
        return verify(path, public_key(self.public), contract)

    def signed(self, statement: dict[str, Any]) -> bytes:
        """A statement signed with the right key, every seal renewed: what its own team could sign."""
        whole = copy.deepcopy(statement)
        whole["predicate"]["seals"] = sealed(parts_of(whole))
        payload = json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()
        return signed(payload, PAYLOAD, private_key(self.key))

    def unsigned(self, statement: dict[str, Any]) -> bytes:
        """A statement that somebody without the key put in the place of the signed one."""
        record = json.loads(self.file.read_text())
        payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
        record["payload"] = base64.b64encode(payload).decode()
        return (json.dumps(record, indent=1) + "\n").encode()


def keys(folder: Path) -> tuple[Path, Path]:
    """The lines of the documentation, with openssl itself."""
    key, public = folder / "key.pem", folder / "key.pub.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True, capture_output=True)
    return key, public


def cli(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return Evidence(tmp_path_factory.mktemp("evidence"))


def refused(evidence: Evidence, data: bytes, *places: str) -> str:
    with pytest.raises(ContractError) as raised:
        evidence.verify(data)
    assert raised.value.remedy
    text = str(raised.value)
    for place in places:
        assert place in text, text
    return text


# What is genuine


def test_evidence_of_a_pass_verifies_without_engine_store_or_run(evidence: Evidence, tmp_path: Path) -> None:
    for path in (evidence.file, evidence.public, evidence.contract):
        shutil.copy(path, tmp_path / path.name)
    words = ("verify-evidence", tmp_path / evidence.file.name, "--key", tmp_path / evidence.public.name)
    done = cli(*words, "--contract", tmp_path / evidence.contract.name)
    assert (done.exit_code, "GENUINE: PASS" in done.output) == (0, True), done.output
    told = json.loads(cli(*words, "--json").output)
    assert (told["status"], told["exit_code"], told["contract_checked"]) == ("PASS", 0, False)
    assert len(told["gates"]) == len(evidence.report.verdict.gates) >= 7
    assert all(cell["planned"] == cell["judged"] > 0 for cell in told["coverage"].values())


def test_the_envelope_is_that_of_the_specification(evidence: Evidence, tmp_path: Path) -> None:
    """By the words of DSSE v1 and openssl, without the library that wrote it."""
    record = json.loads(evidence.file.read_text())
    payload, kind = base64.b64decode(record["payload"]), record["payloadType"].encode()
    assert kind == b"application/vnd.in-toto+json"
    encoded = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    (tmp_path / "signed").write_bytes(encoded)
    (tmp_path / "sig").write_bytes(base64.b64decode(record["signatures"][0]["sig"]))
    argv = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(evidence.public), "-rawin"]
    done = subprocess.run(
        [*argv, "-in", str(tmp_path / "signed"), "-sigfile", str(tmp_path / "sig")], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert all(set(subject) == {"name", "digest"} for subject in statement["subject"])


def test_subjects_are_the_weights_the_contract_the_suite_and_the_engines(evidence: Evidence) -> None:
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in evidence.statement["subject"]}
    assert set(subjects) == {"contract/toys", "weights/m/original/toy.json", "suite/suite", "engine/reference", "engine/good"}
    for name, path in {"contract/toys": evidence.contract, "weights/m/original/toy.json": evidence.project.model}.items():
        assert subjects[name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert subjects["engine/good"] != subjects["engine/reference"]
    files = evidence.statement["predicate"]["engines"]["good"]["files"]
    assert any(line.endswith(f"  {Path(sys.executable).resolve().name}") for line in files)


def test_what_an_environment_holds_is_not_signed(evidence: Evidence) -> None:
    payload = base64.b64decode(json.loads(evidence.file.read_text())["payload"])
    assert b"TOY_TOKEN" in payload and SECRET.encode() not in payload


WAIVED = {"id": "w", "cell": "bad/*", "issue": "#123", "until": str(date.today() + timedelta(9)), "reason": BASIS}
RUNS: dict[str, dict[str, Any]] = {
    "FAIL": {"candidates": {"bad": {"engine": "toy", "options": {"noise": 0.5}}}},
    "ERROR": {"candidates": {"bad": {"engine": "toy", "options": {"fault": "nan", "fault_at": 1}}}},
    "PASS": {
        "candidates": {
            "good": {"engine": "toy", "options": {"noise": 1e-7}},
            "control": {"engine": "toy", "options": {"noise": 0.5}, "expect": "WRONG"},
        },
        "may_be_unmeasured": ["nothing/*"],
    },
}


@pytest.mark.parametrize("status", RUNS)
def test_every_verdict_can_be_signed_and_its_exit_code_is_that_of_the_verdict(tmp_path: Path, status: str) -> None:
    made = Evidence(tmp_path / "x", **RUNS[status], gates=GATES[:1], matrix={"mode": ["prefill"]})
    assert made.report.verdict.status == status
    done = cli("verify-evidence", made.file, "--key", made.public, "--contract", made.contract)
    assert (done.exit_code, f"GENUINE: {status}" in done.output) == (made.report.verdict.exit_code, True), done.output
    verified = made.verify().verdict
    assert verified.gates and verified.reason == made.report.verdict.reason


def test_a_waiver_counts_on_the_day_of_the_statement(tmp_path: Path) -> None:
    first = Evidence(tmp_path / "a", **RUNS["FAIL"], gates=GATES[:1], matrix={"mode": ["prefill"]})
    prompts = [prompt["prompt_sha256"] for prompt in first.report.as_json()["cells"][0]["prompts"]]
    waivers = [{**WAIVED, "id": f"w{n}", "prompt": sha256} for n, sha256 in enumerate(prompts[:1])]
    made = Evidence(tmp_path / "b", **RUNS["FAIL"], gates=GATES[:1], matrix={"mode": ["prefill"]}, waivers=waivers)
    cell = made.report.verdict.cells[0]
    assert cell.coverage.judged < cell.coverage.measured
    statement = made.statement
    assert made.verify().verdict.waivers[0].status == "KNOWN-DIVERGENT"
    statement["predicate"]["judged_on"] = str(date.today() + timedelta(99))
    refused(made, made.signed(statement), "the statement says")


def test_a_calculated_band_is_derived_position_by_position(evidence: Evidence) -> None:
    judged = evidence.space.judged()
    case = judged.cases[0]
    size = {tokens_sha256(row.token_ids): row.comparison.positions + row.start for row in case.rows if row.comparison}
    match = {name: np.linspace(1e-9, 1e-6, count) for name, count in size.items()}
    band = CalculatedBand(match, 0.0, 1.0, "calculated", {name: values / 4 for name, values in match.items()})
    cases = [replace(case, band=band, same_arithmetic=False)]
    contract = judged.report.opened.contract.model_copy(update={"gates": judged.report.opened.contract.gates[:1]})
    verdict = judge(cases, contract)
    statuses = {status for prompt in verdict.cells[0].prompts for status in prompt.statuses}
    assert {"WRONG", "MATCH"} <= statuses
    columns = ["kl_divergence", "max_delta_logit", "regret", "rms_delta_logit", "top1"]
    signed = statement_of(evidence.space).predicate
    signed.contract.terms["bands"] = [{"bound": "calibrated", "basis": "it was calculated"}]
    predicate = signed.model_copy(update={"cells": [_cell(cases[0], verdict.cells[0], columns)], "unmeasured": []})
    again = derived(predicate)
    assert again.cells[0].counts == verdict.cells[0].counts
    assert [prompt.statuses for prompt in again.cells[0].prompts] == [prompt.statuses for prompt in verdict.cells[0].prompts]


# What was edited


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_no_byte_of_the_file_can_be_changed(evidence: Evidence, place: float, mask: int) -> None:
    data = bytearray(evidence.file.read_bytes())
    at = int(place * len(data))
    data[at] ^= mask
    with pytest.raises(ContractError) as raised:
        evidence.verify(bytes(data))
    where = raised.value.where
    assert where.startswith(str(evidence.file.parent)), "no file is named"
    assert raised.value.text and raised.value.remedy


@pytest.mark.parametrize("part", ["payloadType", "keyid", "sig"])
def test_every_byte_outside_of_the_payload_is_guarded(evidence: Evidence, part: str) -> None:
    data = evidence.file.read_bytes()
    start = data.index(f'"{part}"'.encode())
    for at in range(start, data.index(b"\n", start)):
        changed = bytearray(data)
        changed[at] ^= 1
        refused(evidence, bytes(changed))


@pytest.mark.parametrize("change", [lambda data: data + b"\n", lambda data: b" " + data, lambda data: data[:-1]])
def test_no_byte_can_be_added_or_taken_away(evidence: Evidence, change: Callable[[bytes], bytes]) -> None:
    refused(evidence, change(evidence.file.read_bytes()), "not laid out")


def leaves(value: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every number, text, truth and null."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, *path, key)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, *path, index)
    else:
        yield path


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    """The same with another value in one place, of the same type where there is one."""
    whole = copy.deepcopy(value)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    old = inner[path[-1]]
    if isinstance(old, bool) or old is None:
        inner[path[-1]] = not old
    elif isinstance(old, str):
        inner[path[-1]] = ("1" if old[:1] == "0" else "0") + old[1:]
    else:
        inner[path[-1]] = old + 1
    return whole


def test_an_edited_field_is_named(evidence: Evidence) -> None:
    """By somebody without the key; a sample of all fields of every part."""
    statement, chance = evidence.statement, random.Random(5)
    by_part: dict[str, list[tuple[Any, ...]]] = {}
    for path in leaves(statement):
        if "seals" not in path:
            depth = 6 if "rows" in path and path[1] == "cells" else 4
            by_part.setdefault(str(path[:depth]), []).append(path)
    assert len(by_part) > 60
    for paths in by_part.values():
        path = chance.choice(paths)
        other = changed(statement, path)
        text = refused(evidence, evidence.unsigned(other))
        words = {"subject", *(str(key) for key in path if isinstance(key, str))}
        assert any(word in text for word in words), (path, text)


def test_an_edited_hash_is_named_by_its_subject(evidence: Evidence) -> None:
    for index, subject in enumerate(evidence.statement["subject"]):
        statement = changed(evidence.statement, ("subject", index, "digest", "sha256"))
        refused(evidence, evidence.unsigned(statement), f"subject {subject['name']}")


def test_a_statement_that_is_sealed_again_lacks_the_signature(evidence: Evidence) -> None:
    statement = evidence.statement
    statement["predicate"]["host"]["cores"] = 1234
    statement["predicate"]["seals"] = sealed(parts_of(statement))
    refused(evidence, evidence.unsigned(statement), "signatures.0.sig")


def test_another_key_is_named(evidence: Evidence, tmp_path: Path) -> None:
    _, other = keys(tmp_path)
    done = cli("verify-evidence", evidence.file, "--key", other)
    assert done.exit_code == 2 and "signatures.0.keyid" in done.output


# What is signed and does not follow


def at(statement: dict[str, Any], *path: Any) -> Any:
    for key in path:
        statement = statement[key]
    return statement


LIES: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "a verdict": (("predicate", "verdict", "status"), "FAIL", "verdict.status"),
    "an exit code": (("predicate", "verdict", "exit_code"), 1, "verdict.exit_code"),
    "a gate's verdict": (("predicate", "gates", 0, "status"), "FAIL", "gates.kl.status"),
    "an observed value": (("predicate", "gates", 0, "observed"), 1e-20, "gates.kl.observed"),
    "a bound": (("predicate", "gates", 0, "bound"), 1e-3, "gates.kl.bound"),
    "a gate's positions": (("predicate", "gates", 0, "positions"), 9999, "gates.kl.positions"),
    "a cell's status": (("predicate", "cells", 0, "status"), "DRIFT", ".status"),
    "a coverage": (("predicate", "cells", 0, "coverage", "judged"), 9999, ".coverage.judged"),
    "a count": (("predicate", "cells", 0, "counts", "MATCH"), 1, ".counts.MATCH"),
    "a mean": (("predicate", "cells", 0, "metrics", "kl_divergence", "mean"), 0.0, ".metrics.kl_divergence.mean"),
    "more planned": (("predicate", "cells", 0, "rows", 0, "planned"), 9999, "the statement says"),
    "a bound of the contract": (("predicate", "contract", "terms", "gates", 0, "at_most"), 1e-9, "gates.kl.bound"),
    "a wider band": (("predicate", "cells", 0, "band", "match"), 1e6, ".band"),
    "no band": (("predicate", "cells", 0, "band"), None, ".band"),
    "a bound that nobody calculates": (("predicate", "cells", 0, "bounds"), {"kl": {"value": 1e6, "basis": "x"}}, ".bounds.kl"),
    "a subject": (("subject", 1, "digest", "sha256"), "0" * 64, "subject weights/m/original/toy.json"),
    "weights": (("predicate", "models", "m", "original", "files", "toy.json"), "0" * 64, "subject weights"),
    "an engine's version": (("predicate", "engines", "good", "versions", "x"), "9", "subject engine/good"),
    "a statistic": (("predicate", "cells", 0, "rows", 0, "values", "kl_divergence", 0), 0.5, "the statement says"),
    "a metric that nobody knows": (("predicate", "contract", "terms", "gates", 0, "metric"), "magic", "magic"),
    "no column of the band": (("predicate", "cells", 0, "rows", 0, "values"), {}, "rows.0"),
    "another candidate": (("predicate", "cells", 0, "candidate"), "nobody", "no such candidate"),
    "another mode": (("predicate", "cells", 0, "mode"), "decode", "its axes"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_does_not_follow_from_the_statistics_is_named_though_it_is_signed(evidence: Evidence, lie: str) -> None:
    path, value, place = LIES[lie]
    statement = evidence.statement
    at(statement, *path[:-1])[path[-1]] = value
    refused(evidence, evidence.signed(statement), place)


def test_nothing_may_be_left_out_though_it_is_signed(evidence: Evidence) -> None:
    whole = evidence.statement
    for name in ("cells", "gates", "subject"):
        statement = copy.deepcopy(whole)
        (statement if name == "subject" else statement["predicate"])[name].pop()
        refused(evidence, evidence.signed(statement), name)
    statement = copy.deepcopy(whole)
    statement["predicate"]["cells"][1]["rows"].pop()
    refused(evidence, evidence.signed(statement), "its prompts are not those of the other cells")
    statement = copy.deepcopy(whole)
    statement["predicate"]["cells"].append(statement["predicate"]["cells"][0])
    refused(evidence, evidence.signed(statement), "stands twice")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_signed_statement_of_any_content_is_verified_or_refused_and_never_a_traceback(evidence: Evidence, data: Any) -> None:
    statement = evidence.statement
    paths = list(leaves(statement["predicate"]))
    odd = st.sampled_from([None, True, -1, 2**40, 1e308, "", "inf", "nan", [], {}, [[]], {"a": 1}, "x" * 50])
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(paths))
        path = path[: data.draw(st.integers(1, len(path)))]
        try:
            at(statement["predicate"], *path[:-1])[path[-1]] = copy.deepcopy(data.draw(odd))
        except (KeyError, TypeError, IndexError):
            continue
    try:
        payload = evidence.signed(statement)
    except (KeyError, TypeError, AttributeError):
        return  # it has no parts that could be sealed
    with contextlib.suppress(ContractError):
        evidence.verify(payload)


# The contract that was agreed


def test_another_contract_is_refused_by_its_terms_or_its_bytes(evidence: Evidence, tmp_path: Path) -> None:
    agreed = yaml.safe_load(evidence.contract.read_text())
    agreed["gates"][0]["at_most"] = 1e-9
    other = tmp_path / "other.parity.yaml"
    other.write_text(yaml.safe_dump(agreed))
    with pytest.raises(ContractError, match=r"gates.kl.at_most: the contract has 1e-09, the evidence 1e-06"):
        evidence.verify(contract=other)
    other.write_text(evidence.contract.read_text() + "# a word more\n")
    with pytest.raises(ContractError, match=r"contract.sha256"):
        evidence.verify(contract=other)
    done = cli("verify-evidence", evidence.file, "--key", evidence.public, "--contract", other)
    assert done.exit_code == 2


CONTRACTS = sorted((ROOT / "examples").rglob("*.parity.yaml"))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_terms_of_every_example_are_its_contract(path: Path) -> None:
    contract, _ = read_contract(path)
    terms = json.loads(json.dumps(terms_of(contract), allow_nan=False))
    assert terms_of(contract_of(terms)) == terms
    again = contract_of(terms)
    for name in ("gates", "bands", "waivers", "matrix", "models", "may_be_unmeasured", "stages", "error_bar"):
        assert getattr(again, name) == getattr(contract, name)
    assert list(again.candidates) == list(contract.candidates)


# What is not attested


def test_a_folder_without_a_verdict_is_not_attested(tmp_path: Path) -> None:
    key, _ = keys(tmp_path)
    for folder, told in ((tmp_path / "nothing", "no such file or folder"), (tmp_path, "holds no verdict.json")):
        done = cli("attest", folder, "--key", key)
        assert done.exit_code == 2 and told in done.output


def edited_verdict(project: Project) -> None:
    path = project.folder / "run/verdict.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "FAIL", "exit_code": 1}))


def edited_gate(project: Project) -> None:
    path = project.folder / "run/verdict.json"
    record = json.loads(path.read_text())
    record["gates"][0]["observed"] = 1e-9
    path.write_text(json.dumps(record))


def damaged_traces(project: Project) -> None:
    """Every trace: those of the reference's own error are read by `check` alone, and all are of one size."""
    for path in (project.folder / "run/store/traces").rglob("logits.bin"):
        if data := bytearray(path.read_bytes()):
            data[40] ^= 1
            path.write_bytes(bytes(data))


def other_bound(project: Project) -> None:
    path = project.folder / "toys.parity.yaml"
    path.write_text(path.read_text().replace("at_most: 1.0e-06", "at_most: 2.0e-06"))


SPOILED: dict[str, tuple[Callable[[Project], object], str]] = {
    "an edited verdict": (edited_verdict, "verdict.json: status"),
    "an edited gate": (edited_gate, "gates.kl.observed"),
    "damaged traces": (damaged_traces, "verdict.json"),
    "another bound": (other_bound, "gates.kl.bound"),
    "other weights": (lambda project: project.model.write_text('{"vocab_size": 300, "seed": 2}'), "weights"),
    "another suite": (lambda project: project.suite("suite.yaml", "hello", "another"), "suite"),
    "another engine": (lambda project: project.engine("V = 300", "fake.py"), "fake.py"),
    "a run that goes on": (lambda project: project.write("run/begun.json", "{}"), "not ended"),
    "no contract": (lambda project: (project.folder / "toys.parity.yaml").unlink(), "toys.parity.yaml"),
}


@pytest.fixture(scope="module")
def fitting(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run of two programs, which passed."""
    project = Project(tmp_path_factory.mktemp("fitting"))
    use = {**project.engine(), "may_be_exact": BASIS}
    contract = project.contract(reference=project.engine("V = 300  # the same", "reference.py"), candidates={"mine": use})
    assert Workspace(project.folder / "run").check(open_contract(contract)).verdict.status == "PASS"
    keys(project.folder)
    return project


@pytest.mark.parametrize("name", SPOILED)
def test_a_run_whose_files_no_longer_fit_is_not_attested(fitting: Project, name: str) -> None:
    spoil, place = SPOILED[name]
    words = ("attest", fitting.folder / "run", "--key", fitting.folder / "key.pem")
    out = fitting.folder / "run/evidence.dsse.json"
    assert cli(*words).exit_code == 0
    out.unlink()
    before = {path: path.read_bytes() for path in fitting.folder.rglob("*") if path.is_file()}
    spoil(fitting)
    done = cli(*words)
    kept = out.exists()
    for path in [path for path in fitting.folder.rglob("*") if path.is_file() and path not in before]:
        path.unlink()
    for path, data in before.items():
        path.write_bytes(data)
    assert (done.exit_code, place in done.output, kept) == (2, True, False), done.output


def test_attesting_changes_nothing_in_the_run(evidence: Evidence) -> None:
    files = {path: path.read_bytes() for path in evidence.space.folder.rglob("*") if path.is_file()}
    assert cli("attest", evidence.space.folder, "--key", evidence.key, "--out", evidence.file).exit_code == 0
    assert files == {path: path.read_bytes() for path in evidence.space.folder.rglob("*") if path.is_file()}


def test_a_statement_is_read_as_it_was_written(evidence: Evidence) -> None:
    statement = statement_of(evidence.space)
    again = Statement.model_validate(json.loads(payload_of(statement)))
    assert plain(again) == plain(statement) and payload_of(again) == payload_of(statement)


# Keys


def test_a_key_that_is_none_is_refused_with_a_remedy(evidence: Evidence, tmp_path: Path) -> None:
    private = serialization.load_pem_private_key(evidence.key.read_bytes(), None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, pkcs8, serialization.NoEncryption())
    locked = private.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x"))
    cases = {
        "is a public key": evidence.public.read_bytes(),
        "is no Ed25519 key": other,
        "is encrypted": locked,
        "holds no private key": b"nothing",
        "holds no private key in PEM": evidence.key.read_bytes()[:60],
    }
    for text, data in cases.items():
        path = tmp_path / "key.pem"
        path.write_bytes(data)
        done = cli("attest", evidence.space.folder, "--key", path)
        assert done.exit_code == 2 and text in done.output and "remedy" in done.output, (text, done.output)
    done = cli("verify-evidence", evidence.file, "--key", evidence.key)
    assert done.exit_code == 2 and "is a private key" in done.output
    done = cli("attest", evidence.space.folder, "--key", tmp_path / "none.pem")
    assert done.exit_code == 2 and "none.pem" in done.output


def test_without_the_library_the_remedy_is_its_extra(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "securesystemslib.dsse", None)
    done = cli("verify-evidence", evidence.file, "--key", evidence.public)
    assert done.exit_code == 2 and "logitproof[attest]" in done.output


def test_a_disk_that_is_full_leaves_no_evidence(evidence: Evidence, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("attest", evidence.space.folder, "--key", evidence.key, "--out", tmp_path / "file" / "x.json")
    assert done.exit_code == 3 and "cannot write" in done.output
