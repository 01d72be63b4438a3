"""Chat templates of two models, compared byte by byte as written and as rendered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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

SECONDS = 20.0
"""For all conversations of one template; templates that are published take some milliseconds."""
STARTS = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
"""Variables without which Python may not start; no other is a template's business."""
FAILS = "(the template fails:"


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
    """Conversations that the two templates render differently, with and without the prompt for an answer.

    Two templates of which neither renders any conversation differ in all of them: nothing says that they are alike.
    """
    if reference == candidate:
        return []
    asked = [(messages, prompted) for messages in CONVERSATIONS.values() for prompted in (True, False)]
    names = [f"{name}{', prompted' if prompted else ''}" for name in CONVERSATIONS for prompted in (True, False)]
    sides = rendered(reference, asked), rendered(candidate, asked)
    pairs = [Rendered(name, *texts) for name, *texts in zip(names, *sides, strict=True)]
    if all(text.startswith(FAILS) for side in sides for text in side):
        return pairs
    return [pair for pair in pairs if pair.reference != pair.candidate]


def rendered(template: str, asked: Sequence[tuple[list[dict[str, str]], bool]]) -> list[str]:
    """The text of each conversation, with or without the prompt for an answer, by the settings of transformers.

    A template is a program of whoever wrote the model: it runs in a sandbox, in a process that ends after `SECONDS`. What
    goes wrong stands in the place of the text.
    """
    argv = [sys.executable, "-I", str(Path(__file__).with_name("_rendering.py"))]
    environment = {name: os.environ[name] for name in STARTS if name in os.environ}
    words = json.dumps([template, asked])
    try:
        done = subprocess.run(argv, input=words, capture_output=True, encoding="utf-8", timeout=SECONDS, env=environment)
        texts: list[tuple[str | None, str]] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return [f"{FAILS} it does not end within {SECONDS:g} s)"] * len(asked)
    except ValueError:
        return [f"{FAILS} its process ended: {(done.stderr.strip().splitlines() or ['no word'])[-1][:200]})"] * len(asked)
    return [text if text is not None else f"{FAILS} {why})" for text, why in texts]


def render(template: str, messages: list[dict[str, str]], prompted: bool) -> str:
    """`rendered` of one conversation."""
    return rendered(template, [(messages, prompted)])[0]
