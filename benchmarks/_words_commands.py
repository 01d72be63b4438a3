"""Mistakes at the command line."""

from __future__ import annotations

from collections.abc import Iterator

from _vacuous_project import Project
from _words_mistakes import Mistake, command, runs, written

PLAIN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a command with a typo": (("chekc", "{contract}"), ("no command is called 'chekc'; did you mean 'check'",)),
    "an option with a typo": (("check", "{contract}", "--fresch"), ("--fresch", "--fresh")),
    "a contract that is not there": (("check", "tosy.parity.yaml"), ("tosy.parity.yaml", "no such file", "logitproof new")),
    "a folder for a contract": (("check", "."), ("folder|no regular file",)),
    "cells that are not there": (
        ("check", "{contract}", "--only", "nothing/*"),
        ("no cell matches 'nothing/\\*'", "mine/m/original/prefill"),
    ),
    "no processes": (("check", "{contract}", "--parallel", "0"), ("--parallel", "0")),
    "a run that is not there": (("judge", "runs/nothing"), ("runs/nothing", "logitproof check")),
    "a folder that is no run": (("judge", "."), ("run.json", "logitproof check")),
    "a dump that is not there": (("compare", "a.npz", "b.npz"), ("a.npz",)),
    "one dump twice": (("compare", "weights.json", "weights.json"), ("weights.json",)),
    "a format with a typo": (("convert", "weights.json", "out.npz", "--to", "nzp"), ("nzp",)),
    "an address without weights": (("protocol", "test", "toy"), ("toy",)),
    "an engine with a typo in an address": (("protocol", "test", "toi:weights.json"), ("toi", "toy")),
    "weights that are not there in an address": (("protocol", "test", "toy:gone.json"), ("gone.json",)),
    "pins that nobody wrote": (("verify", "{contract}"), ("pin",)),
    "pins under a name that says no format": (("pin", "{contract}", "--out", "pins.txt"), ("pins.txt", "yaml", "toml")),
    "a folder that is no adapter": (("lora", ".", ".", "out.gguf"), ("adapter_config.json",)),
    "a run that history does not know": (("history", "compare", "20200101", "20200102"), ("history",)),
    "a catalogue with a typo": (("list", "metriks"), ("metriks", "metrics")),
    "a bug with a typo": (("mutations", "show", "rope.bsae"), ("rope.bsae", "rope.base")),
    "a diagnosis of nothing": (("diagnose", "."), ("run.json",)),
    "a localization of nothing": (("localize", "."), ("run.json|run",)),
    "an unknown engine to install": (("engines", "install", "vlm"), ("vlm", "vllm")),
    "an acid test of no probe": (("acid", "toy", "--arch", "nothing"), ("nothing",)),
    "a task that is not there": (("evaluate", "toy:weights.json", "--tasks", "gone.jsonl"), ("gone.jsonl|tasks",)),
    "a suite to pick from that is not there": (("suite", "pick", "gone.yaml"), ("gone.yaml|pick",)),
    "windows of no text": (("kl", "toy:weights.json", "toy:weights.json", "--text", "gone.txt"), ("gone.txt",)),
    "an option that is no YAML": (("acid", "toy", "-o", "noise=[1"), ("noise",)),
    "a threshold that is a text": (("calibrate", "{contract}", "--runs", "many"), ("--runs", "many")),
}


def mistakes() -> Iterator[Mistake]:
    """All of them."""
    for name, (words, expected) in PLAIN.items():
        yield Mistake(f"command: {name}", runs(*words), 2, expected)
    yield Mistake("command: another contract into one folder", _taken, 2, ("holds a run of the contract 'toys'", "--out"))
    yield Mistake("command: a damaged record of a run", _damaged, 2, (r"run\.json", "check"))
    yield Mistake("command: a new contract where one is", _new, 2, ("exists|there", r"toys\.parity\.yaml"))
    text = "question: not JSON\n"
    run = written("tasks.jsonl", text, "evaluate", "toy:weights.json", "--tasks", "tasks.jsonl")
    yield Mistake("command: tasks that are no JSON", run, 2, (r"tasks\.jsonl",))


def _taken(project: Project) -> tuple[int, str]:
    project.check()
    path = project.contract(contract="others")
    other = path.with_name("others.parity.yaml")
    path.rename(other)
    project.contract()
    return command(project, "check", other.name, "--out", "run")


def _damaged(project: Project) -> tuple[int, str]:
    project.check()
    record = project.folder / "run/run.json"
    record.write_text(record.read_text("utf-8")[:200], "utf-8")
    return command(project, "judge", "run")


def _new(project: Project) -> tuple[int, str]:
    project.contract()
    return command(project, "new", "toys.parity.yaml")
