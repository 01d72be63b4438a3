"""The engine `llama_cli`: llama.cpp's stock `llama-completion` (or an older `llama-cli`), one greedy token a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from logitproof.engines import Engine, Hello, Loaded, Mode, Scored
from logitproof.engines._tool import Said, Tool, prompt_ids
from logitproof.errors import Refusal
from logitproof.gguf.vocabulary import Texts, token_texts
from logitproof.rows.top import top_rows

FIXED = ["-no-cnv", "--no-display-prompt", "--no-escape", "--verbose-prompt", "--special", "-n", "1", "--temp", "0"]
END = (b"\n\n", b" [end of text]\n")
"""What the tool writes behind the last token."""
ATTEMPTS = 25
"""Runs until the tool's text is whole: it loses it now and then, on a busy machine several times in a row."""


@dataclass
class LlamaCli(Engine):
    """llama.cpp's stock program, run once for each position: the token that it chooses, and nothing else.

    `binary` is the program; `arguments` are its flags beside those that make it one greedy token of a plain
    prompt (they are the pinned invocation). It takes text: what it makes of it is read from its own
    `--verbose-prompt` and must be the very tokens. Measures top-1 and regret; no log-probability leaves it.
    """

    binary: str
    arguments: list[str] = field(default_factory=lambda: ["-t", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"])
    timeout_s: float = 120.0
    _model: Path = field(default=Path(), init=False)
    _texts: Texts | None = field(default=None, init=False, repr=False)
    _tokens: dict[bytes, list[int]] = field(default_factory=dict, init=False, repr=False)

    def hello(self) -> Hello:
        tool = self._tool()
        tool.needs([flag for flag in FIXED if flag.startswith("-") and flag != "-n"], "newer builds call it llama-completion")
        return Hello({**tool.versions(), "arguments": " ".join(self.arguments)}, ("prefill",), generate=True, tokenize=False)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        self._model, self._texts = model, token_texts(model)
        self._tokens = {}
        for token, text in enumerate(self._texts.bytes):
            self._tokens.setdefault(text, []).append(token)
        return Loaded(len(self._texts.bytes), details={"invocation": self._arguments("PROMPT")})

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        if mode != "prefill":
            raise Refusal("each run begins with an empty cache: there is no decode", field="mode")
        chosen = [self._next(list(token_ids[: n + 1])) for n in range(len(token_ids))]
        return Scored(top_rows(np.array(chosen, np.int32)[:, None], None))

    def detokenize(self, token_ids: Sequence[int]) -> str:
        return self._known().text(token_ids)

    def _next(self, ids: list[int]) -> int:
        text = self._known().text(ids)
        output = self._heard(text)
        fed = prompt_ids(output.err)
        if fed != ids:
            raise Refusal(
                f"the tool tokenizes this text otherwise: {fed[:8]} ({len(fed)}), asked are {ids[:8]} ({len(ids)})",
                field="token_ids",
                remedy="give this engine prompts that its own tokenizer makes; a forced BOS is a fault of the file",
            )
        piece = output.out
        for end in END:
            piece = piece.removesuffix(end)
        tokens = self._tokens.get(piece, [])
        if len(tokens) != 1:
            raise RuntimeError(f"the tool wrote {output.out!r}, which is the text of {len(tokens)} tokens, not of one")
        return tokens[0]

    def _heard(self, text: str) -> Said:
        # It writes through a logger that nobody waits for, so that a run may end well and without its last lines.
        for _ in range(ATTEMPTS):
            output = self._tool().run(self._arguments(text), self.timeout_s)
            if output.out.endswith(END[0]):
                return output
        raise RuntimeError(f"the tool ended {ATTEMPTS} times with exit code 0 and without its text, last with {output.out!r}")

    def _arguments(self, text: str) -> list[str]:
        return ["-m", str(self._model), *FIXED, *self.arguments, "-p", text]

    def _tool(self) -> Tool:
        return Tool(self.binary)

    def _known(self) -> Texts:
        if self._texts is None:
            raise Refusal("nothing was loaded", remedy="send load first")
        return self._texts
