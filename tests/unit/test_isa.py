"""Which instructions ran: what is asked for, what proves it, and what is no proof."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import BASIS, Project, as_dict
from logitproof import catalog
from logitproof.contract import isa
from logitproof.errors import ContractError

HELD = ["env"]
"""An emulator that emulates nothing, so that any machine may try."""


def claims(source: str = "isa.kernel", pattern: str = "amx", **more: Any) -> dict[str, Any]:
    return {"emulator": HELD, "evidence": {source: pattern}, **more}


def asked(project: Project, changes: str, pin: dict[str, Any], isa_name: str = "amx", **more: Any) -> dict[str, Any]:
    """The verdict on an engine that is asked for an instruction set; the reference is the same engine, so its rows match."""
    candidate = {**project.engine(changes), "isa": {isa_name: pin}, "may_be_exact": "it is the same engine"}
    matrix = {"mode": ["prefill"], "isa": [isa_name]}
    report = project.check(
        **{"reference": project.engine(name="honest.py"), "candidates": {"it": candidate}, "matrix": matrix, **more}
    )
    return as_dict(report)


SAYS = """
plain_score = score
def score(p):
    return {**plain_score(p), "isa": {"kernel": KERNEL}}
"""


def test_an_engine_that_claims_amx_and_gives_no_evidence_is_a_set_up_error(project: Project) -> None:
    verdict = asked(project, "", claims())
    assert (verdict["status"], verdict["exit_code"]) == ("ERROR", 2)
    assert verdict["cells"][0]["status"] == "SET-UP ERROR"
    assert "asked for amx, no evidence: it says no isa.kernel" in verdict["cells"][0]["reason"]
    assert verdict["cells"][0]["evidence"] == {}


def test_an_engine_that_only_repeats_its_wish_is_a_set_up_error(project: Project) -> None:
    wish = """
    def hello(p):
        return {"protocol": 1, "engine": "fake", "isa": {"asked": "amx"}, "generate": True, "tokenize": True}
    """
    assert "no evidence" in asked(project, wish, claims())["cells"][0]["reason"]


def test_another_instruction_set_than_asked_for_never_passes(project: Project) -> None:
    verdict = asked(project, SAYS.replace("KERNEL", "'avx512_bf16'"), claims())
    assert verdict["status"] == "ERROR"
    assert "asked for amx, dispatched something else: isa.kernel is 'avx512_bf16'" in verdict["cells"][0]["reason"]


def test_evidence_beside_that_of_a_wider_instruction_set_never_passes(project: Project) -> None:
    pin = claims(pattern="avx2", never={"isa.kernel": "avx512"})
    verdict = asked(project, SAYS.replace("KERNEL", "'avx2 for short rows, avx512 else'"), pin, "avx2")
    assert verdict["cells"][0]["status"] == "SET-UP ERROR"
    assert "with 'avx512'" in verdict["cells"][0]["reason"]


def test_evidence_is_kept_with_the_cell(project: Project) -> None:
    verdict = asked(project, SAYS.replace("KERNEL", "'amx_int8 tiles'"), claims())
    assert verdict["status"] == "PASS"
    assert verdict["cells"][0]["id"] == "it/m/original/prefill/amx"
    assert verdict["cells"][0]["evidence"] == {"amx": {"isa.kernel": ["amx_int8 tiles"]}}


def test_a_line_of_stderr_is_evidence(project: Project) -> None:
    prints = 'print("backend: 3 amx tiles", file=sys.stderr, flush=True)'
    verdict = asked(project, prints, claims("stderr", r"\d+ amx tiles"))
    assert verdict["cells"][0]["evidence"]["amx"]["stderr"] == ["backend: 3 amx tiles"]
    silent = asked(project, "", claims("stderr", r"\d+ amx tiles"))
    assert "no line of its stderr matches" in silent["cells"][0]["reason"]


def test_a_counter_in_the_details_of_load_is_evidence(project: Project) -> None:
    counts = 'def load(p):\n    return {"vocab_size": V, "details": {"counters": {"amx": 12, "avx512": 0}}}'
    pin = claims("details.counters", r'"amx": [1-9]')
    assert asked(project, counts, pin)["status"] == "PASS"
    assert asked(project, counts.replace("12", "0"), pin)["cells"][0]["status"] == "SET-UP ERROR"


def test_a_greedy_continuation_needs_evidence_too(project: Project) -> None:
    matrix = {"mode": ["greedy"], "isa": ["amx"]}
    verdict = asked(project, SAYS.replace("KERNEL", "'amx'"), claims(), matrix=matrix)
    assert verdict["cells"][0]["status"] == "SET-UP ERROR"
    says = SAYS.replace("score", "generate").replace("KERNEL", "'amx'")
    assert asked(project, says, claims(), matrix=matrix)["cells"][0]["evidence"]["amx"] == {"isa.kernel": ["amx"]}


def test_the_emulator_stands_before_the_program_of_a_foreign_engine(project: Project) -> None:
    changes = SAYS.replace("KERNEL", "os.environ['UNDER']")
    verdict = asked(project, changes, claims(pattern="^a machine$", emulator=["env", "UNDER=a machine"]))
    assert verdict["status"] == "PASS"


@pytest.mark.parametrize("allowed", [True, False])
def test_what_a_machine_cannot_run_is_not_measured_and_an_error_unless_the_contract_allows_it(
    project: Project, allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isa, "host_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(isa, "host_machine", lambda: "x86_64")
    candidate = {
        **project.engine(SAYS.replace("KERNEL", "'avx2'")),
        "isa": {name: {"evidence": {"isa.kernel": name}} for name in ("amx", "avx2", "neon")},
        "may_be_exact": "both compute the same formula in the same order",
    }
    report = project.check(
        reference=project.engine(name="honest.py"),
        candidates={"it": candidate},
        matrix={"mode": ["prefill"], "isa": ["amx", "avx2", "neon", "sve"]},
        may_be_unmeasured=["*/amx", "*/neon", "*/sve"] if allowed else ["*/sve"],
    )
    reasons = {one.cell.rpartition("/")[2]: one.reason for one in report.verdict.unmeasured}
    assert report.verdict.status == ("PASS" if allowed else "ERROR")
    assert "no amx_tile among its flags" in reasons["amx"]
    assert "this machine is x86_64, neon is of aarch64" in reasons["neon"]
    assert "does not say how it is pinned to sve" in reasons["sve"]


def test_an_emulator_that_is_not_installed_leaves_its_cell_unmeasured(project: Project) -> None:
    pin = claims(emulator=["no-such-emulator"])
    verdict = asked(project, "", pin)
    assert (verdict["status"], verdict["exit_code"]) == ("ERROR", 3)
    assert verdict["unmeasured"][0]["reason"] == "the emulator no-such-emulator is not on this machine"


def pair(project: Project, kernel: str, **more: Any) -> dict[str, Any]:
    """The verdict on an engine whose rows shift by what an environment variable says of its instruction set."""
    changes = f"""
    plain_score = score
    def row(seed):
        step = float(os.environ.get("STEP", 0)) * (seed % 3)
        return [((seed * 31 + n * 7) % 97) / 10 + (step if n == 3 else 0.0) for n in range(V)]
    def score(p):
        return {{**plain_score(p), "isa": {{"kernel": {kernel}}}}}
    """
    pins = {
        "avx512": claims(pattern="^wide", environment={"KIND": "wide", "STEP": "0.0005"}),
        "avx2": claims(pattern="^short", environment={"KIND": "short", "STEP": "-0.0005"}),
    }
    wide, narrow = ({"match": 0.01, "wrong": 1.0, "basis": BASIS}, {"match": 1e-6, "wrong": 1e-5, "basis": BASIS})
    report = project.check(
        reference=project.engine(name="honest.py"),
        candidates={"it": {**project.engine(changes), "isa": pins}},
        matrix={"mode": ["prefill"], "isa": ["avx512", "avx2"], "isa_pairs": [["avx512", "avx2"]]},
        **{"bands": [wide, {**narrow, "where": {"isa": "avx512~avx2"}}], **more},
    )
    return as_dict(report)


def test_two_instruction_sets_of_one_engine_are_one_more_pair_with_its_own_band(project: Project) -> None:
    cells = {cell["isa"]: cell for cell in pair(project, "os.environ['KIND'] + ' rows'")["cells"]}
    assert {isa: cell["status"] for isa, cell in cells.items()} == {
        "avx512": "MATCH",
        "avx2": "MATCH",
        "avx512~avx2": "WRONG",
    }
    between = cells["avx512~avx2"]
    assert (between["reference"], between["band"]["match"]) == ("it on avx512", 1e-6)
    assert between["evidence"] == {"avx512": {"isa.kernel": ["wide rows"]}, "avx2": {"isa.kernel": ["short rows"]}}
    assert between["metrics"]["rms_delta_logit"]["max"] > cells["avx2"]["metrics"]["rms_delta_logit"]["max"]


def test_a_pair_has_no_verdict_where_one_side_lacks_evidence(project: Project) -> None:
    cells = {cell["isa"]: cell["status"] for cell in pair(project, "'wide'")["cells"]}
    assert cells == {"avx512": "MATCH", "avx2": "SET-UP ERROR", "avx512~avx2": "SET-UP ERROR"}


def test_a_pair_without_a_band_of_its_own_is_refused(project: Project) -> None:
    with pytest.raises(ContractError, match="no band is of the pair avx512~avx2 alone"):
        pair(project, "'wide'", bands=[{"match": 0.01, "wrong": 1.0, "basis": BASIS}])


def test_a_calculated_band_is_the_pair_s_own(project: Project) -> None:
    cells = pair(project, "os.environ['KIND']", bands=[{"bound": "calibrated", "basis": BASIS}])["cells"]
    assert all("say `arithmetic:`" in cell["reason"] for cell in cells), "it is asked for, and this engine's is not known"


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        ({"emulator": HELD}, "nothing proves that command uses amx"),
        (claims(pattern=".*"), "matches an empty text, so it proves nothing"),
        (claims("environment", "amx"), "'environment' is no source"),
        (claims(pattern="(amx"), "is no pattern"),
        (claims(options={"arg": 1}), "no option 'arg'"),
    ],
)
def test_a_pin_that_could_prove_nothing_is_refused_with_its_place(project: Project, pin: dict[str, Any], said: str) -> None:
    with pytest.raises(ContractError, match=r"candidates\.it\.isa\.amx") as error:
        asked(project, "", pin)
    assert said in str(error.value)


def test_an_unknown_instruction_set_is_refused_with_the_nearest(project: Project) -> None:
    with pytest.raises(ContractError, match="did you mean 'avx512'"):
        project.check(matrix={"isa": ["avx521"]})


def test_a_contract_can_ask_a_real_engine_for_more_evidence_and_not_for_less() -> None:
    added = isa.Pin(evidence={"isa.aten": "AVX"})
    found = isa.pinned("transformers", added, "avx512")
    own = isa.pinned("transformers", None, "avx512")
    assert found is not None and own is not None
    assert found.proof.must == (*own.proof.must, ("isa.aten", "AVX"))


def test_the_pins_of_every_engine_are_whole_and_prove_something() -> None:
    pinned = [(name, one) for name, entry in catalog.entries("engines").items() for one in entry.pins]
    assert {name for name, _ in pinned} >= {"llamacpp", "transformers"}
    for name, one in pinned:
        found = isa.pinned(name, None, one)
        assert one in isa.INSTRUCTION_SETS and found is not None and found.proof.must
        assert set(found.options) <= set(catalog.find("engines", name).option_names)


@pytest.mark.parametrize(
    ("name", "said", "proven"),
    [
        ("amx", {"isa.matmul": "oneDNN brg_matmul:avx10_1_512_amx on Intel AVX-512"}, True),
        ("amx", {"isa.matmul": "oneDNN brg_matmul:avx512_core_bf16 on Intel AVX-512 and Intel AMX"}, False),
        ("avx512", {"isa.matmul": "oneDNN brg_matmul:avx512_core_bf16 on Intel AVX-512", "isa.aten": "AVX512"}, True),
        ("avx512", {"isa.matmul": "oneDNN brg_matmul:avx10_1_512_amx on Intel AVX-512", "isa.aten": "AVX512"}, False),
        ("avx512", {"isa.matmul": "ATen AVX512, none of oneDNN and none of MKL", "isa.aten": "AVX512"}, False),
        ("avx512", {"isa.matmul": "MKL SGEMM on Intel(R) Architecture processors", "isa.aten": "AVX512"}, False),
        ("avx2", {"isa.matmul": "ATen AVX2, none", "isa.aten": "AVX2", "isa.onednn": "Intel AVX2"}, True),
        ("avx2", {"isa.matmul": "ATen AVX2, none", "isa.aten": "AVX2", "isa.onednn": ""}, False),
        ("avx2", {"isa.matmul": "MKL SGEMM on Intel(R) Architecture", "isa.aten": "AVX2", "isa.onednn": "Intel AVX2"}, False),
    ],
)  # fmt: skip
def test_what_torch_libraries_print_proves_what_it_names_and_no_more(name: str, said: dict[str, str], proven: bool) -> None:
    found = isa.pinned("transformers", None, name)
    assert found is not None
    if proven:
        assert found.proof.read(said, {}, "hf")
    else:
        with pytest.raises(ContractError, match=f"asked for {name}"):
            found.proof.read(said, {}, "hf")
