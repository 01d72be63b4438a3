"""Engines over quantized files: each against the reference on the same file, dequantized.

What is judged is the engine's kernels and not the quantization. Engines that multiply quantized weights with quantized
activations are judged by bands that are calculated for that arithmetic (docs/bands.md), those that dequantize and compute in
float32 by the bound that float32 has elsewhere on the page. The files are made of the trained zoo models, whose rows are whole
blocks of 256 in all but the experts and the delta-nets. A model that an engine gets wrong in whatever format tells nothing of
kernels: it is measured in FIRST alone.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from _engines_kept import Asked, Cell, Known, identity, main_version, said, versions_of, without_machine
from _engines_subjects import FAMILIES, FINDINGS, ZOO, Subject
from gguf.quants import dequantize

from logitproof.calibration.calibrate import calibrate_contract
from logitproof.contract.arithmetic import Arithmetic, arithmetic_of
from logitproof.contract.opened import open_contract
from logitproof.diagnosis.of_run import diagnose_run
from logitproof.diagnosis.text import sentence
from logitproof.errors import ContractError, EngineError, LogitproofError
from logitproof.files.gguf import GgufFile
from logitproof.files.hashes import file_sha256
from logitproof.gguf.write import to_gguf
from logitproof.localization.engines import Asked as Localizing
from logitproof.localization.targets import localize_run
from logitproof.report.report import Report
from logitproof.runs.workspace import Workspace
from logitproof.traces.store import Store

MODES = ("prefill", "decode")
QUANTIZATIONS = (
    *("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K"),
    *("IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"),
    *("TQ1_0", "TQ2_0", "MXFP4_MOE", "NVFP4", "Q1_0", "Q2_0"),
)
"""Every type of file that llama.cpp has a name for, but for other mixtures of the same tensor types."""
TYPED = "the engine dequantizes and multiplies in float32: only the order of sums may differ"
CALCULATED = "what activations in blocks of eight bits make of the same weights"
KL, TOP1 = 1e-6, 0.999
FIRST = "Q8_0"
"""The format in which models are measured, too, that an engine is known to get wrong in every one."""
RUNS = 4
"""Repetitions under noise of a calculated band."""
CALCULATED_FOR = ("llama3", "qwen3-moe", "qwen3.5")
"""Families whose bands are calculated: one that is dense, one with experts, one with delta-nets."""

_SAID: dict[str, dict[str, str]] = {}


@dataclass(frozen=True)
class Entrant:
    """A subject with what it takes to run it on the files of one format: options by family, its versions, their hash."""

    subject: Subject
    options: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    identity: str

    def candidate(self, family: str) -> str:
        """Its name in the contract: one for each family, since a server has one model."""
        return f"{self.subject.slug}.{family}"


def over_quantizations(
    subjects: Sequence[Subject], kinds: Sequence[str], known: Known, asked: Asked, place: Path
) -> Iterator[Cell]:
    """Measure what is not known yet and keep it, format by format, engines of one arithmetic together."""
    groups = [[subject for subject in subjects if in_blocks(subject) == blocks] for blocks in (True, False)]
    for kind in kinds:
        for group in filter(None, groups):
            if asked.is_over:
                return
            made = files_of(kind, known, place)
            files = {family: file for family, file in made.items() if family in CALCULATED_FOR or not in_blocks(group[0])}
            if files:
                yield from _of_format(group, kind, files, known, asked, place)


def files_of(kind: str, known: Known, place: Path) -> dict[str, Path]:
    """By family, the zoo's model in this format, where one can be made that has tensors of the type; the file keeps why not."""
    made, whys = {}, {}
    for family in FAMILIES:
        file = place / "gguf" / f"{family}-{kind}.gguf"
        try:
            types = types_in(file if file.is_file() else to_gguf(ZOO / family, file, kind))
        except LogitproofError as error:
            whys[family] = _last_words(error.text)
        except NotImplementedError as error:
            whys[family] = f"the reference does not read the file: {error}"
        else:
            made[family] = types
    of_type = kind.removesuffix("_S").removesuffix("_MOE") if kind.endswith(("K_S", "_MOE")) else kind
    used = {family: types for family, types in made.items() if of_type in types}
    whys |= {family: f"no tensor of it is {of_type}" for family in made if family not in used}
    known.change(formats={kind: used}, not_made={kind: whys} if whys else {})
    return {family: place / "gguf" / f"{family}-{kind}.gguf" for family in used}


def _last_words(text: str) -> str:
    """Why a file cannot be made or read, without where in this very file."""
    return re.sub(r" \(at byte \d+\)", "", " ".join(text.split())).rpartition(": ")[2]


def types_in(file: Path) -> dict[str, int]:
    """How many tensors of each type a file has; raises NotImplementedError of one that cannot be dequantized."""
    tensors = GgufFile(file).tensors
    for tensor in tensors:
        dequantize(tensor.data.reshape(-1, tensor.data.shape[-1])[:1], tensor.tensor_type)
    return dict(sorted(Counter(tensor.tensor_type.name for tensor in tensors).items()))


def _of_format(
    subjects: Sequence[Subject], kind: str, files: Mapping[str, Path], known: Known, asked: Asked, place: Path
) -> list[Cell]:
    with contextlib.ExitStack() as stack:
        entrants: list[Entrant] = []
        for subject in subjects:
            taken = {
                family: file for family, file in files.items() if kind == FIRST or (subject.label, family) not in FINDINGS
            }
            scratch = place / subject.slug
            scratch.mkdir(parents=True, exist_ok=True)
            try:
                subject.needs()
                options = {family: stack.enter_context(subject.serving(file, scratch)) for family, file in taken.items()}
                versions = _versions(subject, next(iter(options.values()), {}))
            except (EngineError, FileNotFoundError) as error:
                known.change(not_here={subject.label: without_machine(str(error).splitlines()[0])})
                continue
            of = identity(versions, subject.options, {family: file_sha256(file) for family, file in taken.items()}, RUNS)
            entrant = Entrant(subject, options, versions, of)
            if taken and (asked.again or not known.has(_name(entrant, kind), of, main_version(subject.engine, versions))):
                entrants.append(entrant)
        cells = _measured(entrants, kind, files, place) if entrants else {}
    for entrant in entrants:
        known.put(_name(entrant, kind), cells[entrant.subject.label])
    return [cell for entrant in entrants for cell in cells[entrant.subject.label]]


def _versions(subject: Subject, options: Mapping[str, Any]) -> dict[str, str]:
    """What an engine says of itself, asked once."""
    if subject.label not in _SAID:
        _SAID[subject.label] = versions_of(subject, options)
    return _SAID[subject.label]


def _name(entrant: Entrant, kind: str) -> dict[str, Any]:
    return {"engine": entrant.subject.label, "probe": None, "quantization": kind}


def arithmetic(subject: Subject) -> Arithmetic:
    """How it computes from a quantized file; float32 where nobody says otherwise."""
    return arithmetic_of(subject.arithmetic or subject.engine, {}) or Arithmetic()


def in_blocks(subject: Subject) -> bool:
    """Whether it multiplies quantized weights with quantized activations."""
    return arithmetic(subject).blocks


def contract(entrants: Sequence[Entrant], files: Mapping[str, Path], kind: str, place: Path) -> dict[str, Any]:
    """Every engine on every file; the reference reads the candidate's."""
    blocks = in_blocks(entrants[0].subject)
    judged_by = {"bound": "calibrated", "basis": CALCULATED} if blocks else {"match": 1e-4, "wrong": 1e-2, "basis": TYPED}
    bound = {"at_most": "calibrated", "basis": CALCULATED} if blocks else {"at_most": KL, "basis": TYPED}
    gates = [{"id": "kl", "metric": "kl_divergence", **bound}]
    if not blocks:
        gates.append({"id": "top1", "metric": "top1", "at_least": TOP1, "basis": TYPED})
    return {
        "contract": "bench-engines-quantized",
        "version": "1.0.0",
        "reference": {"engine": "transformers", "weights": "candidate", "options": {"dtype": "float32", "threads": 1}},
        "candidates": {entrant.candidate(family): _use(entrant, family) for entrant in entrants for family in entrant.options},
        "models": {family: {"original": str(ZOO / family), kind: str(file)} for family, file in files.items()},
        "suites": [str(place / "suite.yaml")],
        "matrix": {"quantization": [kind], "mode": [*MODES]},
        "error_bar": {"vary": []},
        "bands": [judged_by],
        "gates": gates,
    }


def _use(entrant: Entrant, family: str) -> dict[str, Any]:
    subject = entrant.subject
    use = {"engine": subject.engine, "options": dict(entrant.options[family]), "timeout": subject.timeout}
    use |= {"only": {"model": [family]}}
    use |= {"arithmetic": arithmetic(subject).model_dump(exclude_none=True)} if subject.arithmetic else {}
    return use | ({"may_be_exact": subject.may_be_exact} if subject.may_be_exact else {})


def _measured(entrants: Sequence[Entrant], kind: str, files: Mapping[str, Path], place: Path) -> dict[str, list[Cell]]:
    """By label, what `logitproof check` says of one contract; of what is WRONG, what `diagnose` says too."""
    folder = place / f"{kind}-{identity([entrant.subject.label for entrant in entrants])}"
    folder.mkdir(exist_ok=True)
    path = folder / "engine.parity.yaml"
    path.write_text(yaml.safe_dump(contract(entrants, files, kind, place), sort_keys=False), "utf-8")
    for shared in ("store", "bands"):
        (place / shared).mkdir(exist_ok=True)
    _linked(folder / "store", place / "store")  # the reference's traces are every engine's
    _linked(folder / f"{path.stem}.bands", place / "bands")  # as is what is calculated of weights and arithmetic
    cells: dict[str, list[Cell]] = {entrant.subject.label: [] for entrant in entrants}
    owners = {entrant.candidate(family): (entrant, family) for entrant in entrants for family in entrant.options}
    try:
        report = _judged(folder, path)
    except (ContractError, EngineError) as error:
        for entrant, family in owners.values():
            cells[entrant.subject.label] += [_of(entrant, family, kind, mode, "ERROR", said(error.text)) for mode in MODES]
        return cells
    causes = _diagnosed(folder, report, owners)
    gates = {gate.cell for gate in report.verdict.gates if gate.status == "FAIL"}
    for verdict in report.verdict.cells:
        entrant, _ = owners[verdict.cell.candidate]
        cells[entrant.subject.label].append(_of_verdict(entrant, verdict, verdict.cell.id in gates, causes))
    for gone in report.verdict.unmeasured:
        candidate, _, *rest = gone.cell.split("/")
        entrant, family = owners[candidate]
        mode = next(mode for mode in MODES if mode in rest)
        cells[entrant.subject.label].append(_of(entrant, family, kind, mode, "NOT-MEASURED", gone.reason))
    return cells


def _judged(folder: Path, path: Path) -> Report:
    """The run; the bands that it lacks are calculated, and it is judged by them."""
    report = Workspace(folder).check(open_contract(path))
    failures = [prompt.failure for verdict in report.verdict.cells for prompt in verdict.prompts if prompt.failure]
    if any("logitproof calibrate" in failure.remedy for failure in failures):
        calibrate_contract(open_contract(path), Store(folder / "store"), runs=RUNS)
        report = Workspace(folder).check(open_contract(path))
    return report


def _linked(link: Path, target: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)


def _diagnosed(folder: Path, report: Report, owners: Mapping[str, tuple[Entrant, str]]) -> dict[str, str]:
    """What `logitproof diagnose` says of every cell that is WRONG, but for those that docs/findings.md explains."""
    causes: dict[str, str] = {}
    wrong = [verdict.cell for verdict in report.verdict.cells if verdict.status == "WRONG"]
    unexplained = [cell for cell in wrong if (owners[cell.candidate][0].subject.label, cell.model) not in FINDINGS]
    for candidate in dict.fromkeys(cell.candidate for cell in unexplained):
        try:
            diagnoses = diagnose_run(folder, only=f"{candidate}/*")
            said_of = {name: f"diagnose: {sentence(diagnosis)}" for name, diagnosis in diagnoses.items()}
            causes |= {name: text + _of_experts(folder, name) for name, text in said_of.items()}
        except LogitproofError as error:
            causes |= {cell.id: f"diagnose: {said(error.text)}" for cell in wrong if cell.candidate == candidate}
    return causes


def _of_experts(folder: Path, cell: str) -> str:
    """How many experts it chose otherwise, and what is left with its choices replayed; nothing where it shows no choice."""
    asked = Localizing(replay_experts=True, explain=False)
    try:
        locations = localize_run(folder, cell=cell, prompt=None, asked=asked, say=lambda text: None)
    except LogitproofError:
        return ""
    return "".join(f"; {note}" for note in locations[cell].notes if "chooses other experts" in note)


def _of_verdict(entrant: Entrant, verdict: Any, has_failed: bool, causes: Mapping[str, str]) -> Cell:
    failed = next((prompt.failure for prompt in verdict.prompts if prompt.failure), None)
    kl, top1, far = (verdict.metrics.get(name, {}).get("mean") for name in ("kl_divergence", "top1", "rms_delta_logit"))
    status = "FAIL" if verdict.status in ("WRONG", "SUSPECT") or has_failed else "PASS"
    if verdict.status in ("ENGINE ERROR", "SET-UP ERROR"):
        status = "ERROR"
    elif verdict.status == "NOT-MEASURED" or kl is None:
        status = "NOT-MEASURED"
    cause = said(failed.text) if failed else causes.get(verdict.cell.id, "" if status == "PASS" else verdict.reason)
    at = verdict.cell
    cell = _of(entrant, at.model, at.quantization, at.mode, status, cause)
    return cell | {"kl_divergence_mean": kl, "top1": top1, "rms_delta_logit": far, "positions": verdict.positions}


def _of(entrant: Entrant, family: str, kind: str, mode: str, status: str, cause: str) -> Cell:
    version = main_version(entrant.subject.engine, entrant.versions)
    named = {"engine": entrant.subject.label, "version": version, "family": family, "probe": None, "quantization": kind}
    figures = {"kl_divergence_mean": None, "top1": None, "status": status, "cause": cause}
    return {**named, "mode": mode, **figures, "identity": entrant.identity}
