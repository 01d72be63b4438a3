"""A suite: a frozen list of prompts, hashed as a whole."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, Field, model_validator

from logitproof.contract.typed import STRICT, Count
from logitproof.errors import ContractError, did_you_mean
from logitproof.files.nearest import meant
from logitproof.files.system import is_there
from logitproof.files.yaml import read_yaml


class Prompt(BaseModel):
    """One prompt: text, or token ids for engines without a tokenizer.

    `max_new_tokens` is how far the reference continues it greedily; every engine is then scored on the
    prompt and that continuation.
    """

    model_config = STRICT

    id: str
    bucket: str = "default"
    text: str | None = None
    token_ids: list[Count] | None = None
    max_new_tokens: Count | None = None

    @property
    def sha256(self) -> str:
        """Hash of the content alone: the id and the bucket are only names."""
        text = json.dumps([self.text, self.token_ids, self.max_new_tokens], ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @model_validator(mode="after")
    def _has_one_source(self) -> Prompt:
        if (self.text is None) == (self.token_ids is None):
            raise ValueError("a prompt has either `text` or `token_ids`")
        if not (self.text or self.token_ids):
            raise ValueError("the prompt is empty, so no engine could be compared on it")
        return self


class Suite(BaseModel):
    """A named list of prompts. `max_new_tokens` is the continuation of prompts that name none.

    `frozen` is the sha256 that the suite had when it was frozen; one that was changed since is refused.
    """

    model_config = STRICT

    suite: str
    about: str = ""
    max_new_tokens: Count = 32
    prompts: list[Prompt] = Field(min_length=1)
    frozen: str | None = None

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Suite:
        ids = [prompt.id for prompt in self.prompts]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"the prompt id {twice[0]!r} stands twice")
        return self

    @model_validator(mode="after")
    def _is_as_frozen(self) -> Suite:
        if self.frozen is not None and self.frozen != self.sha256:
            raise ValueError(
                f"frozen as {self.frozen[:12]}…, and now it is {self.sha256[:12]}…: a changed suite is another one; "
                "take the change back, or give it another name and leave `frozen` out"
            )
        return self

    @property
    def sha256(self) -> str:
        """Hash of everything that decides what is fed to an engine."""
        text = json.dumps(self.model_dump(mode="json", exclude={"frozen"}), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def continuation(self, prompt: Prompt) -> int:
        """How many tokens the reference continues `prompt` by."""
        return self.max_new_tokens if prompt.max_new_tokens is None else prompt.max_new_tokens


def shipped_suites() -> dict[str, Path]:
    """The suites that come with the package, by name."""
    folder = Path(str(resources.files("logitproof.contract"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def suite_file(name: str, folder: Path) -> Path:
    """Where a suite lies: a shipped one by its name, or a file relative to `folder`; it may not be there."""
    return shipped_suites().get(name) or (folder / name).resolve()


def open_suite(name: str, folder: Path, *, where: str = "") -> Suite:
    """A shipped suite by its name, or a suite file relative to `folder`."""
    shipped = shipped_suites()
    if name in shipped:
        return read_yaml(shipped[name], Suite, "suite")[0]
    if not name.endswith((".yaml", ".yml")):
        files = [f"{name}{end}" for end in (".yaml", ".yml", ".suite.yaml") if name]
        near = next((file for file in files if is_there(folder / file)), "")
        hint = f"; did you mean the file {near!r}?" if near else did_you_mean(name, list(shipped))
        raise ContractError(
            f"no shipped suite is called {name!r}{hint}",
            where=where,
            remedy="name a shipped suite or a .yaml file",
        )
    path = folder / name
    if where and not is_there(path):
        remedy = "correct the path, which is relative to the contract"
        raise ContractError(f"no suite file is at {path}{meant(path)}", where=where, remedy=remedy)
    return read_yaml(path, Suite, "suite")[0]
