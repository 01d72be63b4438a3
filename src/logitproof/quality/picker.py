"""Prompts whose greedy continuation hangs on a tie of the reference, and what takes their place.

Where the reference's two best logits lie closer together than rounding moves them, an engine that is right may choose
the other one. Such a prompt says nothing about an engine, so a suite that is frozen for a reference leaves it out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from logitproof.contract.suite import Prompt, Suite, open_suite
from logitproof.errors import ContractError
from logitproof.files.atomic import write_atomically
from logitproof.jobs.worker import Worker
from logitproof.protocol.messages import LoadResult


@dataclass(frozen=True)
class Least:
    """The smallest margin between the reference's two best logits along a continuation, and at which new token."""

    margin: float
    at: int


@dataclass(frozen=True)
class Hanging:
    """A prompt that hangs on a tie, and the reserve that takes its place; None where no reserve was better."""

    prompt: Prompt
    least: Least
    reserve: Prompt | None = None
    reserve_least: Least | None = None

    def __str__(self) -> str:
        text = f"{self.prompt.id}: margin {self.least.margin:.3g} logits at new token {self.least.at}"
        if self.reserve is None or self.reserve_least is None:
            return f"{text}; stays, no {self.prompt.bucket} reserve is free of ties"
        return f"{text}; replaced by {self.reserve.id}, least margin {self.reserve_least.margin:.3g}"


@dataclass(frozen=True)
class Picked:
    """The suite after picking, every prompt that hung on a tie, and how many reserves were tried."""

    suite: Suite
    hanging: tuple[Hanging, ...]
    tried: int

    @property
    def replaced(self) -> list[Hanging]:
        return [hanging for hanging in self.hanging if hanging.reserve is not None]

    @property
    def left(self) -> list[Hanging]:
        """Prompts that still hang on a tie."""
        return [hanging for hanging in self.hanging if hanging.reserve is None]


Measure = Callable[[Prompt, int], Least]


def least_margin(logits: np.ndarray) -> Least:
    """The least margin of the rows [N, V] that new tokens were chosen from. Raises ContractError where there is none."""
    if not len(logits):
        raise ContractError("the reference continues it by no token, so no margin can be measured", remedy="ask for tokens")
    best = np.partition(np.asarray(logits, np.float64), -2, axis=1)
    margins = best[:, -1] - best[:, -2]
    at = int(margins.argmin())
    return Least(float(margins[at]), at)


def measured_by(worker: Worker, loaded: LoadResult, folder: Path) -> Measure:
    """Margins along the greedy continuation of a loaded reference."""

    def measure(prompt: Prompt, tokens: int) -> Least:
        ids = prompt.token_ids or worker.tokenize(prompt.text or "")
        made = worker.generate(ids, tokens, loaded.eos_token_ids, folder / "logits.bin")
        return least_margin(made.logits.open() if made.token_ids else np.empty((0, 2)))

    return measure


def pick(
    suite: Suite,
    reserve: Suite,
    measure: Measure,
    *,
    tie: float,
    tokens: int,
    on_prompt: Callable[[str], None] = lambda text: None,
) -> Picked:
    """Replace every prompt whose least margin over its first `tokens` new tokens is below `tie` logits.

    A reserve has the same bucket, takes over how far the prompt is continued, and is used once.
    """
    own = {prompt.sha256 for prompt in suite.prompts} | {prompt.id for prompt in suite.prompts}
    stock = [spare for spare in reserve.prompts if spare.sha256 not in own and spare.id not in own]
    prompts: list[Prompt] = []
    hanging: list[Hanging] = []
    tried = 0
    for prompt in suite.prompts:
        length = min(tokens, suite.continuation(prompt))
        least = measure(prompt, length)
        entry = Hanging(prompt, least)
        while least.margin < tie and entry.reserve is None:
            replacement = next((spare for spare in stock if spare.bucket == prompt.bucket), None)
            if replacement is None:
                break
            stock.remove(replacement)
            tried += 1
            if (new := measure(replacement, length)).margin >= tie:
                entry = Hanging(prompt, least, replacement, new)
        if least.margin < tie:
            hanging.append(entry)
            on_prompt(str(entry))
        taken = entry.reserve and entry.reserve.model_copy(update={"max_new_tokens": suite.continuation(prompt)})
        prompts.append(taken or prompt)
    return Picked(suite.model_copy(update={"prompts": prompts, "frozen": None}), tuple(hanging), tried)


def pick_for(
    worker: Worker,
    loaded: LoadResult,
    suite: Suite,
    reserve: Suite,
    *,
    tie: float,
    tokens: int,
    on_prompt: Callable[[str], None],
) -> Picked:
    """`pick` with a loaded reference."""
    with tempfile.TemporaryDirectory() as folder:
        return pick(suite, reserve, measured_by(worker, loaded, Path(folder)), tie=tie, tokens=tokens, on_prompt=on_prompt)


def check_new(path: Path) -> None:
    """Refuse a file that is no suite file or is there already: a frozen suite is never written over."""
    if path.suffix not in (".yaml", ".yml"):
        raise ContractError(f"{path.name!r} is no name of a suite file", where="--out", remedy="give a .yaml file")
    if path.exists():
        raise ContractError("exists already, and a frozen suite is not written over", where=str(path), remedy="another --out")


def write_picked(picked: Picked, path: Path, reference: str, tie: float, tokens: int) -> Suite:
    """Freeze the suite in a new YAML file under the file's name, and read it back; raises what `check_new` raises."""
    check_new(path)
    about = f"{picked.suite.about}; picked for {reference}: margins of the first {tokens} tokens at least {tie:g} logits"
    suite = picked.suite.model_copy(update={"suite": path.stem, "about": about})
    suite = suite.model_copy(update={"frozen": suite.sha256})
    notes = "".join(f"# {hanging}\n" for hanging in picked.hanging)
    data = suite.model_dump(exclude_none=True)
    data["prompts"] = data.pop("prompts")  # the prompts stand last, where a reader looks for them
    write_atomically(path, notes + yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=120))
    return open_suite(path.name, path.parent)
