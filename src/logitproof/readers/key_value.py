"""The format `key_value`: golden text of `key=value` lines with `#` provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from logitproof.files.untrusted import refusal
from logitproof.readers import Peek, Reader
from logitproof.readers._files import ids_in, only_prompt, text_of, write_text
from logitproof.traces.dump import Dump, DumpedPrompt

TOKENS = "oracle_tokens"


@dataclass
class KeyValue(Reader):
    """`key=value` golden text: `prompt=`, `steps=`, `prompt_tokens=1,2,3`, `oracle_text=`, `oracle_tokens=`.

    Lines with `#` are kept as provenance. Holds tokens and text, no logits: greedy text can be compared, nothing else.
    """

    def recognizes(self, peek: Peek) -> bool:
        keys = {line.partition("=")[0].strip() for line in peek.lines if "=" in line and not line.startswith("#")}
        return "prompt_tokens" in keys

    def read(self, path: Path) -> Dump:
        values: dict[str, str] = {}
        notes = []
        for number, line in enumerate(text_of(path).splitlines(), start=1):
            if line.startswith("#"):
                notes.append(line[1:].strip())
            elif line.strip():
                key, equals, value = line.partition("=")
                if not equals or key.strip() in values:
                    what = "stands twice" if equals else "is no key=value line"
                    raise refusal(path, f"line {number}", f"{line[:60]!r} {what}", "write each key once, as key=value")
                values[key.strip()] = value
        if "prompt_tokens" not in values:
            raise refusal(path, "prompt_tokens", "is missing", "write prompt_tokens=1,2,3")
        prompt = ids_in(path, "prompt_tokens", values.pop("prompt_tokens"))
        continuation = ids_in(path, TOKENS, values.pop(TOKENS, ""))
        steps = values.get("steps")
        if continuation and steps is not None and steps.strip() != str(len(continuation)):
            raise refusal(path, "steps", f"is {steps}, there are {len(continuation)} oracle tokens", "correct one of them")
        dumped = DumpedPrompt(
            id=path.stem,
            token_ids=[*prompt, *continuation],
            prompt_length=len(prompt),
            positions=np.empty(0, np.int64),
            text=_unescaped(values.pop("prompt")) if "prompt" in values else None,
            continuation_text=_unescaped(values.pop("oracle_text", "")),
        )
        return Dump((dumped,), provenance={"notes": notes, **values})

    def write(self, dump: Dump, path: Path) -> None:
        prompt = only_prompt(dump, path)
        continuation = prompt.token_ids[prompt.prompt_length :]
        notes = [f"# {name} {version}" for name, version in dump.versions.items()]
        lines = [
            *(notes or [f"# {note}" for note in dump.provenance.get("notes", [])]),
            *([f"prompt={_escaped(prompt.text)}"] if prompt.text is not None else []),
            f"prompt_tokens={','.join(map(str, prompt.token_ids[: prompt.prompt_length]))}",
            f"steps={len(continuation)}",
            *([f"{TOKENS}={','.join(map(str, continuation))}"] if continuation else []),
            f"oracle_text={_escaped(prompt.continuation_text)}",
        ]
        write_text(path, "\n".join(lines) + "\n")


def _escaped(text: str) -> str:
    """One line of text: no end of a line that `str.splitlines` would find, no control character, as a binary file has."""
    text = text.replace("\\", "\\\\")
    return "".join(f"\\u{ord(char):04x}" if not char.isprintable() and ord(char) < 0x10000 else char for char in text)


def _unescaped(text: str) -> str:
    r"""Undo `\\`, `\n`, `\t` and `\uXXXX`; every other backslash stands for itself."""
    out, at = [], 0
    while at < len(text):
        pair, code = text[at : at + 2], text[at + 2 : at + 6]
        if pair == "\\u" and len(code) == 4 and all(c in "0123456789abcdefABCDEF" for c in code):
            out.append(chr(int(code, 16)))
            at += 6
        elif pair in ("\\\\", "\\n", "\\t"):
            out.append({"\\\\": "\\", "\\n": "\n", "\\t": "\t"}[pair])
            at += 2
        else:
            out.append(text[at])
            at += 1
    return "".join(out)
