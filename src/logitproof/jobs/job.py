"""A job: what one engine is to compute for one prompt, under a key of everything that can change its trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from logitproof.contract.suite import Prompt
from logitproof.files.atomic import content_key
from logitproof.files.hashes import file_sha256, folder_sha256
from logitproof.jobs.adapter import adapter_identity, strings_in
from logitproof.jobs.spec import Spec
from logitproof.protocol.messages import HelloResult
from logitproof.weights.model import Model, weights_sha256

TRACE_FORMAT = 2
JobKind = Literal["tokenize", "generate", "score"]


@dataclass(frozen=True)
class Job:
    """One request to one engine. `after` is the generate job whose tokens this one is fed with.

    `model_sha256` and `config_sha256` are what the weights must still be when the engine has loaded them. The trace of a job
    that `is_kept` is used again by its key alone; any other only while all that its engine executed is unchanged. With
    `routing` the engine is asked which experts it chose, too.
    """

    key: str
    spec: Spec
    model: Path
    config: Path | None
    kind: JobKind
    mode: str
    prompt: Prompt
    max_new_tokens: int = 0
    after: str | None = None
    model_sha256: str = ""
    config_sha256: str = ""
    is_kept: bool = False
    routing: bool = False


def make_job(
    spec: Spec,
    hello: HelloResult | None,
    models: Mapping[str, Model],
    model: Path,
    config: Path | None,
    kind: JobKind,
    mode: str,
    prompt: Prompt,
    max_new_tokens: int = 0,
    after: str | None = None,
    routing: bool = False,
    engine: Mapping[str, Any] | None = None,
) -> Job:
    """A job whose key is the hash of everything that can change its trace.

    The machine is the one that the engine computes on, as its `hello` says: the same library dispatches other kernels on
    another processor.
    `hello` is None for an engine that could not say what it is: the job will fail too, and is kept so that
    the failure stands where the trace would. `engine` is its `engine_facts`, which whoever makes many jobs asks for once.
    """
    weights = models[str(model)].sha256, _config_sha256(models, config)
    key = content_key(
        {
            "format": TRACE_FORMAT,
            **(engine_facts(spec) if engine is None else engine),
            "versions": hello.versions if hello else {},
            "isa": hello.isa if hello else {},
            "machine": hello.machine.model_dump() if hello and hello.machine else {},
            "model": weights[0],
            "config": weights[1],
            "kind": kind,
            "mode": mode,
            "prompt": [prompt.text, prompt.token_ids],
            "max_new_tokens": max_new_tokens,
            "after": after,
            **({"routing": True} if routing else {}),
        }
    )
    return Job(key, spec, model, config, kind, mode, prompt, max_new_tokens, after, *weights, routing=routing)


def engine_facts(spec: Spec) -> dict[str, Any]:
    """What a key holds of an engine by itself: its options, the files that they name, and our own source."""
    return {"spec": spec.identity(), "files": option_files(spec), "adapter": adapter_identity(spec)}


def _config_sha256(models: Mapping[str, Model], config: Path | None) -> str:
    """The hash of the folder that was opened with the models, or of one that was made of a GGUF file's metadata."""
    if config is None:
        return ""
    if str(config) in models:
        return models[str(config)].sha256
    return weights_sha256(config)


def option_files(spec: Spec) -> dict[str, str]:
    """sha256 of every file and folder that an option names: a rebuilt binary must not reuse the old one's traces.

    Raises ContractError of a folder with too many files to be meant, EnvironmentFailed of a file that is being written.
    """
    hashes: dict[str, str] = {}
    folder = Path(spec.directory or ".")
    for text in strings_in([spec.options, spec.environment, spec.python, spec.tokenizer]):
        path = folder / text
        try:
            if path.is_file():
                hashes[text] = file_sha256(path)
            elif path.is_dir() and text not in ("", ".", "/"):
                hashes[text] = folder_sha256(path)
        except (OSError, ValueError):
            continue  # a long or odd string that is no path
    return hashes
