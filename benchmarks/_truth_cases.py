"""What public reports came to, as tests of this project: each case is right where all its tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES, PASSES, LORA = "tests/unit/test_set_up_files.py", "tests/unit/test_rows_by_pass.py", "tests/engines/test_lora.py"
DUMPS, TOKENS = "tests/unit/test_dumps_as_they_come.py", "tests/unit/test_tokenizer_causes.py"
ACID = "tests/unit/test_acid_faults.py"
CASES: dict[str, Sequence[str]] = {
    "lora-alpha-pattern": (f"{LORA}::test_the_scale_of_every_matrix_is_the_one_that_peft_gives_it",),
    "lora-rslora-ignored": (f"{LORA}::test_preflight_compares_the_scale_of_every_matrix",),
    "lora-modules-to-save": (
        f"{LORA}::test_a_key_that_peft_acts_on_and_this_does_not_is_refused_by_name",
        f"{LORA}::test_a_tensor_beside_the_pairs_is_refused_by_name",
    ),
    "rope-positions-doubled": ("tests/power/test_foreign.py::test_positions_that_are_doubled_are_named",),
    "decode-sees-first-key": ("tests/power/test_foreign.py::test_a_cached_step_that_sees_the_first_key_alone_is_named",),
    "longrope-crossing, dynamic-ntk": (f"{PASSES}::test_a_right_engine_is_right_on_both_sides_of_the_crossing",),
    "spm-after-special": (f"{TOKENS}::test_a_space_is_put_after_a_special_token",),
    "ugm-byte-fallback": (f"{TOKENS}::test_two_causes_are_two_findings",),
    "tied-both-stored": (f"{FILES}::test_an_output_matrix_of_its_own_under_a_config_that_ties_it_is_named",),
    "chat-template-guess": (f"{FILES}::test_a_chat_template_that_is_not_the_models_is_named",),
    "stale-cached-prefix": (f"{ACID}::test_the_row_that_claims_to_see_a_fault_fails_for_it",),
    "dumps-padded": (f"{DUMPS}::test_padding_is_cut_off_and_told",),
    "dumps-containers": (
        f"{DUMPS}::test_a_container_is_recognized_by_its_content_and_read_exactly",
        f"{DUMPS}::test_a_pickle_is_refused_with_the_way_out",
    ),
    "gguf-rope-keys": (
        f"{FILES}::test_factors_that_a_converter_dropped_are_named",
        f"{FILES}::test_a_key_that_a_right_file_has_not_is_compared_with_what_an_engine_takes_without_it",
        f"{FILES}::test_a_key_that_nothing_knows_is_told",
    ),
    "consolidated-beside-shards": (f"{FILES}::test_weights_beside_a_model_are_noted_and_are_no_finding_about_it",),
}


def cases() -> dict[str, bool]:
    """Whether every test of a case passes, by the case; a test that does not run is no pass."""
    passed = outcomes(sorted({name for names in CASES.values() for name in names}))
    return {case: all(_all(passed, name) for name in names) for case, names in CASES.items()}


def acid_rows() -> dict[str, bool]:
    """Rows of the acid test that need no reference, and whether a planted fault was seen to fail each."""
    sys.path.append(str(ROOT / "tests/unit"))
    from test_acid_faults import SEEN

    passed = outcomes([f"{ACID}::test_the_row_that_claims_to_see_a_fault_fails_for_it"])
    rows = {row for seen in SEEN.values() for row in seen}
    proven = {row for fault, seen in SEEN.items() for row in seen if _all(passed, f"{ACID}::{_name(fault)}")}
    return {row: row in proven for row in sorted(rows)}


def outcomes(names: Sequence[str]) -> dict[str, bool]:
    """Whether each test passed, by its name with its parameters."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        argv = [sys.executable, "-m", "pytest", "-q", "-n", "0", f"--junitxml={report}", *names]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(argv, cwd=ROOT, env=environment, check=False, stdout=subprocess.DEVNULL)
        return dict(_read(report)) if report.is_file() else {}


def _read(report: Path) -> Iterator[tuple[str, bool]]:
    for case in ElementTree.parse(report).iter("testcase"):
        file = f"{case.attrib['classname'].replace('.', '/')}.py"
        yield f"{file}::{case.attrib['name']}", all(child.tag == "properties" for child in case)


def _all(passed: Mapping[str, bool], name: str) -> bool:
    """All that have this name, with whatever parameters; nothing that ran is no pass."""
    found = [held for full, held in passed.items() if full == name or full.startswith(f"{name}[")]
    return bool(found) and all(found)


def _name(fault: str) -> str:
    return f"test_the_row_that_claims_to_see_a_fault_fails_for_it[{fault}]"
