"""Kinds with dumps and goldens: one file for two, rows that are missing, rows that were changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from _vacuous_kinds import Kind, Outcome
from _vacuous_project import Project

from logitproof.files.safetensors import Tensors, write_tensors


def files() -> Iterator[Kind]:
    """Comparisons of files, and goldens that are not what was frozen."""
    yield from _compared()
    yield from _goldens()


def _dump(project: Project, name: str, prompts: dict[str, list[int]], kept: int = 99, shift: float = 0.0) -> str:
    """A dump of logits in ndjson, of the first `kept` positions of each prompt."""
    random = np.random.default_rng(1)
    lines = [f"@@meta {json.dumps({'vocab_size': 12})}"]
    for prompt, tokens in prompts.items():
        lines.append(f"@@prompt {json.dumps({'id': prompt, 'token_ids': tokens})}")
        for position, row in enumerate(random.normal(size=(len(tokens), 12)) * 3 + shift * np.arange(12)):
            if position < kept:
                row = {"prompt": prompt, "position": position, "logits": row.tolist()}
                lines.append(f"@@logits {json.dumps(row)}")
    project.write(name, "\n".join(lines) + "\n")
    return name


ALL = {"a": list(range(8)), "b": list(range(3, 11))}


def _compared() -> Iterator[Kind]:
    def pair(make: Callable[[Project], tuple[str, str]]) -> Callable[[Project], Outcome]:
        return lambda project: project.command("compare", *make(project))

    def whole(project: Project) -> str:
        return _dump(project, "a.ndjson", ALL)

    def linked(project: Project, link: Callable[[str, str], None]) -> tuple[str, str]:
        with project.inside():
            link(whole(project), "link.ndjson")
        return "a.ndjson", "link.ndjson"

    def copied(project: Project) -> tuple[str, str]:
        shutil.copy(project.folder / whole(project), project.folder / "c.ndjson")
        return "a.ndjson", "c.ndjson"

    def other(project: Project, prompts: dict[str, list[int]], kept: int = 99) -> str:
        return _dump(project, "b.ndjson", prompts, kept, 1e-4)

    few = {"a": ALL["a"]}
    yield Kind("compare: one row of each prompt", pair(lambda p: (whole(p), other(p, ALL, 1))))
    yield Kind("compare: the same, the other way", pair(lambda p: (other(p, ALL, 1), whole(p))))
    yield Kind("compare: the last row missing", pair(lambda p: (whole(p), other(p, ALL, 7))))
    yield Kind("compare: a prompt missing", pair(lambda p: (whole(p), other(p, few))))
    yield Kind("compare: a prompt that only the candidate has", pair(lambda p: (other(p, few), whole(p))))
    yield Kind("compare: other tokens", pair(lambda p: (whole(p), other(p, {"a": ALL["b"], "b": ALL["a"][:3]}))))
    yield Kind("compare: a file with itself", pair(lambda p: (whole(p), "a.ndjson")))
    yield Kind("compare: a file with a copy of it", pair(copied))
    yield Kind("compare: a file with a link to it", pair(lambda p: linked(p, os.symlink)))
    yield Kind("compare: a file with its other name", pair(lambda p: linked(p, os.link)))
    yield Kind("compare: an empty file", pair(lambda p: (whole(p), p.write("b.ndjson", "").name)))


def _frozen(project: Project) -> Path:
    """A golden of the toy engine."""
    project.write("toy.json", '{"vocab_size": 300, "seed": 1}')
    for words in (
        ("capture", "toy", "toy.json", "suite.yaml", "--out", "captured"),
        ("freeze", "captured", "--out", "toy.golden"),
    ):
        code, said = project.command(*words)
        if code:
            raise RuntimeError(said)
    return project.folder / "toy.golden"


def _goldens() -> Iterator[Kind]:
    def spoilt(change: Callable[[dict[str, np.ndarray], dict[str, str]], None]) -> Callable[[Project], Outcome]:
        def run(project: Project) -> Outcome:
            golden = _frozen(project)
            file = Tensors(golden)
            arrays, metadata = {name: np.array(file.array(name)) for name in file.names}, dict(file.metadata)
            change(arrays, metadata)
            write_tensors(golden, arrays, metadata)
            return project.command("compare", "toy.golden", "captured", "--missing", "only the golden is looked at")

        return run

    def scaled(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        for name in arrays:
            if name.endswith((".top_logits", ".scale")):
                arrays[name] = (arrays[name] * 1.3).astype(arrays[name].dtype)

    def floor(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
        metadata["header"] = metadata["header"].replace('"margin_floor":', '"margin_floor":1')

    yield Kind("golden: every logit by 1.3", spoilt(scaled))
    yield Kind("golden: other tokens", spoilt(lambda a, m: a["0.token_ids"].__setitem__(0, 7)))
    yield Kind("golden: a tensor less", spoilt(lambda arrays, metadata: arrays.__delitem__("1.rest")))
    yield Kind("golden: a header that says more", spoilt(floor))
    yield Kind("golden: no checksums", spoilt(lambda arrays, metadata: metadata.__delitem__("sha256")))
