"""The engine `llama_perplexity`: llama.cpp's stock `llama-perplexity`, through the logits file that it saves."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from logitproof.engines import Engine, Hello, Loaded, Mode, Scored
from logitproof.engines._tool import Tool, quoted
from logitproof.errors import Refusal
from logitproof.gguf.vocabulary import Texts, token_texts
from logitproof.readers.llamacpp_kl_base import LlamacppKlBase
from logitproof.rows.probability import log_softmax
from logitproof.rows.top import top_rows
from logitproof.traces.dump import checked

NEEDED = ["--kl-divergence-base", "--chunks", "--no-escape", "-f"]


@dataclass
class LlamaPerplexity(Engine):
    """llama.cpp's stock perplexity tool and the file of `--kl-divergence-base`.

    `binary` is the program, `arguments` its flags beside the window and the files. The tool saves the second
    half of a window, so that T tokens take log2(T) runs with ever smaller windows; the first position is in
    none of them and is not measured. The file holds 16 bits a log-probability and clamps 16 nats below the
    best: it costs about 5e-4 nats of KL, and nothing below that can be told. Where the model adds a BOS, the
    tool feeds it in place of the first token of a window.
    """

    binary: str
    arguments: list[str] = field(default_factory=lambda: ["-t", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"])
    timeout_s: float = 600.0
    _model: Path = field(default=Path(), init=False)
    _texts: Texts | None = field(default=None, init=False, repr=False)

    def hello(self) -> Hello:
        tool = Tool(self.binary)
        tool.needs(NEEDED, "name a llama-perplexity that saves its logits")
        return Hello({**tool.versions(), "arguments": " ".join(self.arguments)}, ("prefill",), generate=False, tokenize=False)

    def load(self, model: Path, config: Path | None = None) -> Loaded:
        self._model, self._texts = model, token_texts(model)
        return Loaded(len(self._texts.bytes), details={"arguments": self.arguments, "values": "16 bits, clamped at 16 nats"})

    def score(self, token_ids: Sequence[int], mode: Mode) -> Scored:
        ids = list(token_ids)
        if mode != "prefill" or len(ids) < 2:
            raise Refusal(
                "scores windows of two tokens and more in one pass", field="mode" if mode != "prefill" else "token_ids"
            )
        assert self._texts is not None
        vocab = len(self._texts.bytes)
        order, values = np.full((len(ids), vocab), -1, np.int32), np.full((len(ids), vocab), np.nan, np.float32)
        window = len(ids) + 1
        while window >= 3:
            positions, rows = self._window(ids, window)
            for position, row in zip(positions, rows, strict=True):
                order[position] = np.argsort(-row, kind="stable")
                values[position] = row[order[position]]
            window = window // 2 + 1
        return Scored(top_rows(order, values))

    def _window(self, ids: list[int], window: int) -> tuple[list[int], np.ndarray]:
        """Positions and normalized log-probabilities [n, V] of the second half of one window."""
        assert self._texts is not None
        text = self._texts.text(ids)
        with tempfile.TemporaryDirectory() as folder:
            prompt, saved = Path(folder) / "prompt.txt", Path(folder) / "logits.bin"
            # The tool wants two windows of text at least; nothing behind a position changes it.
            prompt.write_text(text + "\n" + text * (2 * window // len(ids) + 2), "utf-8", newline="")
            files = ["-m", str(self._model), "-f", str(prompt), "--kl-divergence-base", str(saved), "--no-escape"]
            sizes = ["-c", str(window), "-b", str(window), "--chunks", "1"]
            output = Tool(self.binary).run([*files, *sizes, *self.arguments], self.timeout_s)
            if not saved.is_file():
                raise RuntimeError(f"the tool saved no logits: {quoted(output.err)}")
            (held,) = checked(LlamacppKlBase().read(saved), saved).prompts
            fed = held.token_ids[: min(window, len(ids))]
            if fed != ids[: len(fed)] or held.logits is None or len(held.token_ids) != window:
                raise Refusal(
                    f"the tool tokenizes this text otherwise: {fed[:8]}, asked are {ids[:8]}",
                    field="token_ids",
                    remedy="give this engine prompts that its own tokenizer makes",
                )
            rows = log_softmax(np.asarray(held.logits[:]))
        return held.positions.tolist(), rows
