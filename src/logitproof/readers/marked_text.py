"""The format `marked_text`: an engine's console output with marker lines and `Token IDs: [..]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.untrusted import refusal
from logitproof.readers import Peek, Reader
from logitproof.readers._files import ids_in, text_of, write_text
from logitproof.traces.dump import Dump, DumpedPrompt

IDS = re.compile(r"^\s*(?P<what>[A-Za-z ]*?)Token IDs\s*:\s*(?P<ids>\[.*)$", re.I)
MARKER = re.compile(r"^\s*([=\-#*~_<>])\1{2,}(\s*[\w :./-]*\s*[=\-#*~_<>]{3,})?\s*$")


@dataclass
class MarkedText(Reader):
    """Text between marker lines (`=====`, `--- output ---`), then `Token IDs: [1, 2]`; `Prompt Token IDs: [..]` may precede.

    Holds tokens and text, no logits. Each `Token IDs` line ends one prompt.
    """

    def recognizes(self, peek: Peek) -> bool:
        return any(IDS.match(line) for line in peek.lines)

    def read(self, path: Path) -> Dump:
        prompts, prompt_ids = list[DumpedPrompt](), list[int]()
        text, inside, last = list[str](), False, ""
        for number, line in enumerate(text_of(path).split("\n"), start=1):
            if MARKER.match(line):
                if inside:
                    last = "\n".join(text)
                inside, text = not inside, []
            elif match := IDS.match(line):
                if not match["ids"].rstrip().endswith("]"):
                    raise refusal(path, f"line {number}", "the list of ids is cut off", "print it in one line, with its ]")
                ids = ids_in(path, f"line {number}", match["ids"])
                if "prompt" in match["what"].lower():
                    prompt_ids = ids
                    continue
                prompts.append(_prompt(str(len(prompts)), prompt_ids, ids, last))
                prompt_ids, last = [], ""
            elif inside:
                text.append(line)
        if not prompts:
            raise refusal(path, "Token IDs", "no such line", "print `Token IDs: [1, 2, 3]` after the text")
        return Dump(tuple(prompts))

    def write(self, dump: Dump, path: Path) -> None:
        lines = []
        for prompt in dump.prompts:
            if any(MARKER.match(line) or IDS.match(line) for line in prompt.continuation_text.split("\n")):
                raise refusal(path, f"prompt {prompt.id}", "its text holds a marker line", "choose another format with --to")
            lines += [f"Prompt Token IDs: {prompt.token_ids[: prompt.prompt_length]}", "=" * 20]
            lines += [prompt.continuation_text, "=" * 20, f"Token IDs: {prompt.token_ids[prompt.prompt_length :]}"]
        write_text(path, "\n".join(lines) + "\n")


def _prompt(name: str, prompt: list[int], ids: list[int], text: str) -> DumpedPrompt:
    return DumpedPrompt(name, [*prompt, *ids], len(prompt), np.empty(0, np.int64), continuation_text=text)
