"""llama.cpp's stock programs as subprocesses: what they choose is the model's, and how they fail is told.

The real ones are found in the folder that LOGITPROOF_LLAMA_TOOLS names, or where `make llama-tools` builds
them; without them the tests of real programs are skipped. The others play a program that misbehaves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from logitproof.divergence.measure import Asked, measure
from logitproof.divergence.windows import text_of
from logitproof.engines.llama_cli import LlamaCli
from logitproof.engines.llama_perplexity import LlamaPerplexity
from logitproof.engines.llama_server import LlamaServer
from logitproof.engines.openai import Openai
from logitproof.engines.plain import Plain
from logitproof.errors import Refusal
from logitproof.gguf.vocabulary import token_texts
from logitproof.readers import open_dump
from logitproof.readers.llamacpp_kl_base import LlamacppKlBase
from printed_digits import FLAGS, differences, printed_by

ROOT = Path(__file__).parents[2]
GGUF = ROOT / "zoo/gguf/qwen3-F32.gguf"
FOLDER = Path(os.environ.get("LOGITPROOF_LLAMA_TOOLS") or ROOT / ".cache/llama-tools")
IDS = [701, 1163, 863, 83, 540, 1414, 442, 282, 659]
"""The begin of a sentence as the zoo's tokenizer splits it."""
STEP = 16 / 65535
"""Nats between two values of a saved logits file, at most."""


def tool(name: str) -> str:
    found = next((path for path in (FOLDER / "bin" / name, FOLDER / name) if path.is_file()), None)
    if found is None or not GGUF.is_file():
        pytest.skip(f"{name} is not built: `make llama-tools zoo`, or name its folder in LOGITPROOF_LLAMA_TOOLS")
    return str(found)


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    """float64 [T, V]: log-probabilities of IDS by the engine `plain`."""
    plain = Plain()
    plain.load(ROOT / "zoo/qwen3")
    logits = plain.score(IDS, "prefill").logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def fake(folder: Path, body: str) -> str:
    """A program in Python whose `--help` names every flag; `body` is what it does otherwise."""
    path = folder / "llama-fake"
    flags = "-no-cnv --no-display-prompt --no-escape --verbose-prompt --special -n --temp --kl-divergence-base --chunks -f"
    text = f"#!{sys.executable}\nimport sys, os, time\nif '--help' in sys.argv: print({flags!r}); sys.exit()\n"
    path.write_text(text + "if '--version' in sys.argv: print('version: fake'); sys.exit()\n" + textwrap.dedent(body), "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def cli(binary: str, **options: float) -> LlamaCli:
    one = LlamaCli(binary, **options)  # type: ignore[arg-type]
    one.hello()
    one.load(ROOT / "zoo/qwen3")
    return one


def test_the_real_tool_chooses_the_model_s_own_tokens(true: np.ndarray) -> None:
    one = LlamaCli(tool("llama-completion"))
    assert one.hello().modes == ("prefill",)
    one.load(GGUF)
    rows = one.score(IDS, "prefill").logits
    assert rows["id"][:, 0].tolist() == true.argmax(axis=1).tolist()
    assert np.isnan(rows["log_probability"]).all()
    assert one.generate(IDS[:5], 2, []).token_ids[0] == int(true[4].argmax())


def test_the_real_tool_s_saved_logits_are_the_model_s_own(true: np.ndarray) -> None:
    one = LlamaPerplexity(tool("llama-perplexity"))
    one.hello()
    one.load(GGUF)
    rows = one.score(IDS, "prefill").logits
    assert (rows["id"][0] == -1).all()
    for row, truth in zip(rows[1:], true[1:], strict=True):
        near = row[row["log_probability"] > row["log_probability"].max() - 15]
        assert len(near) > 100
        np.testing.assert_allclose(near["log_probability"], truth[near["id"]], atol=STEP)


def test_what_is_written_in_the_tool_s_format_is_what_the_tool_writes(tmp_path: Path) -> None:
    """The tool's file, read and written again, is the same file: headers, tokens, and every number but for rounding."""
    saved, text, again = tmp_path / "kl.bin", tmp_path / "text.txt", tmp_path / "again.bin"
    text.write_text("The old captain said that the ship was not ready. " * 12, "utf-8")
    sizes = ["-c", "32", "-b", "32", "--chunks", "2", "-t", "1", "--no-warmup"]
    command = [tool("llama-perplexity"), "-m", str(GGUF), "-f", str(text), "--kl-divergence-base", str(saved), *sizes]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
    dump = open_dump(saved)
    LlamacppKlBase().write(dump, again)
    ours, theirs = again.read_bytes(), saved.read_bytes()
    header = 20 + 2 * 32 * 4
    assert len(ours) == len(theirs) and ours[:header] == theirs[:header]
    for a, b in zip(open_dump(again).prompts, dump.prompts, strict=True):
        assert a.token_ids == b.token_ids and a.logits is not None and b.logits is not None
        np.testing.assert_allclose(a.logits[:], b.logits[:], atol=STEP)


@contextlib.contextmanager
def running(binary: str) -> Iterator[str]:
    """A real llama-server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kv = ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    command = [binary, "-m", str(GGUF), "--host", "127.0.0.1", "--port", str(port), "-c", "128", "-np", "1", "-t", "1", *kv]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def test_the_real_server_gives_the_model_s_own_rows_in_every_way(true: np.ndarray) -> None:
    with running(tool("llama-server")) as url:
        one = LlamaServer(url, retries=7)
        assert one.hello().modes == ("prefill", "decode")
        assert one.load(GGUF).details["weights"].startswith("proven")
        for mode in ("prefill", "decode"):
            np.testing.assert_allclose(one.score(IDS, mode).logits, true, atol=1e-4)  # type: ignore[arg-type]
        assert one.tokenize(token_texts(GGUF).text(IDS)) == IDS
        best = true[-1].argmax()
        assert one.generate(IDS, 1, []).token_ids == [best]
        with pytest.raises(Refusal, match="exceeds the available context size"):
            one.score([1] * 300, "prefill")
        other = Openai(url, logprobs=7)
        assert other.hello().versions["dialect"] == "content"
        other.load(GGUF)
        rows = other.score(IDS, "prefill").logits
        np.testing.assert_array_equal(rows["id"][:, 0], true.argmax(axis=1))
        np.testing.assert_allclose(rows["log_probability"], np.take_along_axis(true, rows["id"].astype(int), 1), atol=1e-4)


FAULTS = [
    ("print('loading', file=sys.stderr, flush=True); time.sleep(60)", RuntimeError, "did not end within 1 s.*: loading"),
    ("print('GGML_ASSERT failed', file=sys.stderr, flush=True); os.abort()", RuntimeError, "killed by SIGABRT: GGML_ASSERT"),
    ("print('error: invalid argument: -fa', file=sys.stderr); sys.exit(1)", RuntimeError, "exit code 1: error: invalid"),
    ("sys.exit(0)", RuntimeError, r"ended 25 times with exit code 0 and without its text, last with b''"),
    ("sys.stdin.read(); print('> ', end='')", RuntimeError, "without its text, last with b'> '"),
    ("print('x number of tokens in prompt = 1\\n9 -> \\'o\\'', file=sys.stderr); print('a\\n')", Refusal, r"otherwise: \[9\]"),
    ("print('number of tokens in prompt\\n40 -> \\'o\\'', file=sys.stderr); print('ab \\xe9\\n')", RuntimeError, "of 0 tokens"),
]


@pytest.mark.parametrize(("body", "kind", "text"), FAULTS, ids=["hang", "crash", "flag", "lost", "asks", "tokens", "piece"])
def test_every_fault_of_a_tool_is_told_in_its_own_words(tmp_path: Path, body: str, kind: type[Exception], text: str) -> None:
    one = cli(fake(tmp_path, body), timeout_s=1.0 if "sleep" in body else 20.0)
    with pytest.raises(kind, match=text):
        one.score([40], "prefill")


def test_output_that_was_lost_once_is_asked_for_again(tmp_path: Path) -> None:
    body = f"""
    if not os.path.exists({str(tmp_path / "once")!r}):
        open({str(tmp_path / "once")!r}, "w").close()
        sys.exit(0)
    print("number of tokens in prompt = 1\\n40 -> 'I'", file=sys.stderr)
    print("A\\n")
    """
    rows = cli(fake(tmp_path, body)).score([40], "prefill").logits
    assert rows["id"].tolist() == [[32]]


def test_a_program_without_the_flags_is_refused(tmp_path: Path) -> None:
    path = Path(fake(tmp_path, ""))
    path.write_text(path.read_text("utf-8").replace("-no-cnv ", ""), "utf-8")
    with pytest.raises(Refusal, match="llama-fake knows no -no-cnv") as caught:
        LlamaCli(str(path)).hello()
    assert "llama-completion" in caught.value.remedy
    with pytest.raises(Refusal, match="is no program"):
        LlamaCli(str(tmp_path / "nothing")).hello()


def test_a_perplexity_tool_that_saves_nothing_or_other_tokens_is_an_error(tmp_path: Path) -> None:
    one = LlamaPerplexity(fake(tmp_path, "print('you need at least 8 tokens', file=sys.stderr)"))
    one.load(ROOT / "zoo/qwen3")
    with pytest.raises(RuntimeError, match="saved no logits: you need at least 8 tokens"):
        one.score([40, 72, 69], "prefill")
    body = """
    import struct
    path = sys.argv[sys.argv.index("--kl-divergence-base") + 1]
    rows = b"".join(struct.pack("<ff", 1e-4, -8.0) + struct.pack("<1540H", *range(1540)) for _ in range(1))
    open(path, "wb").write(b"_logits_" + struct.pack("<iii", 4, 1540, 1) + struct.pack("<4i", 1, 2, 3, 4) + rows)
    """
    other = LlamaPerplexity(fake(tmp_path, body))
    other.load(ROOT / "zoo/qwen3")
    with pytest.raises(Refusal, match=r"tokenizes this text otherwise: \[1, 2, 3\], asked are \[40, 72, 69\]"):
        other.score([40, 72, 69], "prefill")


def test_a_tool_that_hangs_is_ended(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    one = cli(fake(tmp_path, f"time.sleep(2); open({str(marker)!r}, 'w')"), timeout_s=0.5)
    with pytest.raises(RuntimeError, match="did not end"):
        one.score([40], "prefill")
    time.sleep(2.5)
    assert not marker.exists()


@pytest.mark.parametrize("ours", [False, True], ids=["a base file of the tool", "a base file of ours"])
def test_kl_prints_the_digits_of_the_real_tool(tmp_path: Path, ours: bool) -> None:
    """All 34 figures; the text and the windows are the tool's, and so is the base file, or it reads ours."""
    program, candidate = tool("llama-perplexity"), GGUF.with_name("qwen3-Q4_K_M.gguf")
    (text := tmp_path / "text.txt").write_text((ROOT / "zoo/corpus/en-1.txt").read_text("utf-8"), "utf-8")
    saved = tmp_path / "saved.kld"
    flags = [*FLAGS, "-ctk", "f32", "-ctv", "f32", "-c", "256"]
    if ours:
        asked = Asked(text_of(text), context=256, windows=3, save=saved)
        measure(str(GGUF), [str(candidate)], asked)
    else:
        making = ["-m", str(GGUF), "-f", str(text), "--kl-divergence-base", str(saved), "--chunks", "3"]
        subprocess.run([program, *making, *flags], check=True, capture_output=True, timeout=120)
    asking = ["-m", str(candidate), "--kl-divergence-base", str(saved), "--kl-divergence"]
    printed = printed_by([program, *asking, *flags], timeout=120)
    (found,) = measure(str(saved), [str(candidate)], Asked()).candidates
    assert len(found.figures) == 34 and not differences(found, printed)
