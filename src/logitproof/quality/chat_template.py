"""Chat templates of two models, compared byte by byte as written and as rendered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from logitproof.errors import ModelError
from logitproof.files.gguf import GgufFile
from logitproof.files.untrusted import read_object, read_text
from logitproof.rows.distance import first_difference

CONVERSATIONS: dict[str, list[dict[str, str]]] = {
    "one question": [{"role": "user", "content": "Hello!"}],
    "with a system prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}],
    "three turns": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": " Hello. \n"},
        {"role": "user", "content": "  And now?\n"},
    ],
}


@dataclass(frozen=True)
class Rendered:
    """One conversation under both templates; an error of a template stands as its text."""

    name: str
    reference: str
    candidate: str

    @property
    def first(self) -> int:
        """Index of the first character that differs; the common length where none does."""
        return first_difference(self.reference, self.candidate)


def template_of(path: Path) -> str:
    """The chat template of an HF folder or a GGUF file, empty where there is none."""
    if path.is_dir():
        separate = path / "chat_template.jinja"
        if separate.is_file():
            return read_text(separate, kind=ModelError)
        settings = path / "tokenizer_config.json"
        named = read_object(settings, kind=ModelError).get("chat_template") if settings.is_file() else ""
        return named if isinstance(named, str) else ""
    return str(GgufFile(path).value("tokenizer.chat_template", ""))


def compare_templates(reference: str, candidate: str) -> list[Rendered]:
    """Conversations that the two templates render differently, with and without the prompt for an answer."""
    if reference == candidate:
        return []
    differences = []
    for name, messages in CONVERSATIONS.items():
        for prompted in (True, False):
            reference_text, candidate_text = (render(template, messages, prompted) for template in (reference, candidate))
            if reference_text != candidate_text:
                differences.append(Rendered(f"{name}{', prompted' if prompted else ''}", reference_text, candidate_text))
    return differences


def render(template: str, messages: list[dict[str, str]], prompted: bool) -> str:
    """The text of a conversation, in a sandbox with the settings that transformers renders with."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    try:
        compiled = environment.from_string(template)
        return compiled.render(messages=messages, add_generation_prompt=prompted, bos_token="", eos_token="")
    except TemplateError as error:
        return f"(the template fails: {error})"


def _refuse(message: Any) -> None:
    raise TemplateError(str(message))
