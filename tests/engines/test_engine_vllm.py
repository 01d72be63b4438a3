"""vLLM beside transformers: in process, and through its own OpenAI server by the engine `openai`."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from against_reference import ALONE, ZOO, beside, greedy_is_what_it_scores, log_probabilities, needs, reference

from logitproof.errors import ContractError
from logitproof.jobs import environments
from logitproof.jobs.worker import Spec, Worker

pytestmark = needs("vllm")
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR"}
START = 540
"""Seconds in which the server answers."""


@pytest.fixture(scope="module")
def engine() -> Iterator[Worker]:
    with Worker(Spec("vllm", {"max_model_len": 512}, ALONE | QUIET, timeout=600), name="vllm") as worker:
        yield worker


@pytest.mark.parametrize("family", ["qwen3", "llama3"])
def test_prefill_and_decode_are_the_reference_s(family: str, engine: Worker, tmp_path: Path) -> None:
    loaded = engine.load(ZOO / family, None)
    assert loaded.details["dtype"] == "float32" and loaded.context_length == 512
    found = beside(engine, family, tmp_path)
    assert set(found) == {"prefill", "decode"}
    for one in found.values():
        assert one.kl_divergence_mean < 1e-9 and one.top1 == 1.0
    greedy_is_what_it_scores(engine, family, tmp_path)


def test_what_does_not_fit_is_refused(engine: Worker, tmp_path: Path) -> None:
    engine.load(ZOO / "qwen3", None)
    with pytest.raises(ContractError, match="do not fit the context of 512"):
        engine.score([1] * 512, "prefill", tmp_path / "rows")
    with pytest.raises(ContractError, match="outside the vocabulary of 1540"):
        engine.score([5000], "prefill", tmp_path / "rows")
    with pytest.raises(ContractError, match="no model folder"):
        engine.load(tmp_path, None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """vLLM's own server with the zoo's qwen3, by its address."""
    found = environments.installed("vllm")
    assert found is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = [
        "--model", str(ZOO / "qwen3"), "--port", str(port), "--dtype", "float32", "--max-model-len", "512",
        "--max-logprobs", "-1", "--logprobs-mode", "raw_logprobs", "--enforce-eager", "--max-num-seqs", "1",
        "--no-enable-prefix-caching",
    ]  # fmt: skip
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
    log = (tmp_path / "server.log").open("wb")
    argv = [str(found.python), "-m", "vllm.entrypoints.openai.api_server", *settings]
    with log, subprocess.Popen(argv, stdout=log, stderr=log, env={**os.environ, **ALONE, **own}) as process:
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, tmp_path / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    pytest.fail(f"no answer within {START} s: {log.read_text('utf-8', 'replace')[-2000:]}")


def test_its_own_server_gives_the_same_through_the_engine_openai(server: str, tmp_path: Path) -> None:
    ids, truth = (one[:24] for one in reference("qwen3"))
    with Worker(Spec("openai", {"url": server, "logprobs": -1}, timeout=300), name="openai") as worker:
        assert "prompt_logprobs" in worker.hello().versions["dialect"]
        worker.load(ZOO / "qwen3", None)
        rows = np.array(worker.score(ids, "prefill", tmp_path / "rows").logits.open())
        assert np.abs(log_probabilities(rows) - truth).max() < 1e-3
        made = worker.generate(ids, 4, [], tmp_path / "made")
        assert made.token_ids[0] == truth[-1].argmax() and len(made.token_ids) == 4
