"""Mistakes of somebody's first day: files, commands and engines that are nearly right."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from _vacuous_project import Project
from _words_mistakes import Mistake, command, contract, edited, engine, runs, written

LINE = r"toys\.parity\.yaml:\d+"
Run = Callable[[Project], tuple[int, str]]
CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "one suite without its list": ({"suites": "suite.yaml"}, (LINE, r"suites: must be a list, got 'suite\.yaml'")),
    "candidates as a list": ({"candidates": [{"engine": "toy"}]}, (LINE, "candidates: must be a mapping")),
    "a command without its argv": ({"candidates": {"mine": {"engine": "command"}}}, (LINE, "argv")),
    "an argv that is one text": (
        {"candidates": {"mine": {"engine": "command", "options": {"argv": "./engine --parity"}}}},
        (LINE, r"argv: must be a list, got '\./engine --parity'"),
    ),
    "a time with its unit": (
        {"candidates": {"mine": {"engine": "toy", "timeout": "30s"}}},
        (LINE, r"timeout: must be a number, got '30s'"),
    ),
    "one mode without its list": ({"matrix": {"mode": "prefill"}}, (LINE, r"matrix\.mode: must be a list, got 'prefill'")),
    "a number in the environment": (
        {"candidates": {"mine": {"engine": "toy", "environment": {"OMP_NUM_THREADS": 4}}}},
        (LINE, r"OMP_NUM_THREADS: must be a text, got 4"),
    ),
    "a status in small letters": (
        {"candidates": {"mine": {"engine": "toy", "expect": "wrong"}}},
        (LINE, r"expect: must be .*'WRONG'.*, got 'wrong'"),
    ),
    "an axis with a typo in where": (
        {
            "gates": [
                {"id": "k", "metric": "kl_divergence", "at_most": 1.0, "basis": "far above rounding", "where": {"modell": "m"}}
            ]
        },
        (LINE, "modell", "model"),
    ),
    "a folder that is no model": (
        {"reference": {"engine": "transformers"}, "models": {"m": {"original": "."}}},
        (r"models\.m\.original|config\.json", "config.json"),
    ),
    "weights of another engine's kind": (
        {"reference": {"engine": "llamacpp"}, "candidates": {"mine": {"engine": "toy"}}},
        ("weights.json", "GGUF|gguf"),
    ),
}
EDITS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a key that is not indented": ("  mode:", "mode:", (LINE, "unknown key 'mode'", "matrix")),
}
SUITES: dict[str, tuple[str, tuple[str, ...]]] = {
    "a suite without prompts": ("suite: s\nprompts: []\n", (r"suite\.yaml:2: prompts: needs at least 1",)),
    "no new tokens at all": (
        "suite: s\nmax_new_tokens: -1\nprompts: [{id: a, text: x}]\n",
        (r"suite\.yaml:2: max_new_tokens: must be at least 0|1", "got -1"),
    ),
}
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a contract without a command": (("{contract}",), (r"no command is called 'toys\.parity\.yaml'", "logitproof check toys")),
    "a check of nothing": (("check",), ("CONTRACT",)),
    "weights instead of a contract": (("check", "weights.json"), (r"weights\.json", "contract")),
    "a file as the folder of a run": (("check", "{contract}", "--out", "weights.json"), (r"weights\.json", "file")),
    "two contracts at once": (("check", "{contract}", "{contract}"), ("one|unexpected",)),
    "a protocol test without argv": (("protocol", "test", "command:weights.json"), ("argv",)),
    "a suite instead of a contract": (("check", "suite.yaml"), (r"suite\.yaml: is a suite of prompts, not a contract",)),
    "a contract without its middle name": (("check", "toys.yaml"), (r"no such file; did you mean 'toys\.parity\.yaml'\?",)),
    "a contract that has not been run": (("judge", "{contract}"), ("has not been run", "logitproof check")),
    "a run with a slip": (("diagnose", "rusn"), (r"no such file or folder: 'rusn'",)),
    "history of one run compared": (("history", "compare", "20200101"), ("RUN",)),
}
ENGINES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "a banner before anything": (
        "print('my engine 1.0', flush=True)",
        3,
        ("answered `hello` with something that is not the protocol: 'my engine 1.0'", "log to stderr"),
    ),
    "an answer on many lines": (
        "def send(m):\n    print(json.dumps(m, indent=1), flush=True)",
        3,
        ("not the protocol: '{'", "an answer is one line"),
    ),
    "an error that is a text": (
        "def score(p):\n    send({'id': number, 'error': 'no such layer'})",
        3,
        ("`score`", "error", "no such layer"),
    ),
    "numbers of twice the size": (
        "def score(p):\n    made = write(p['logits'], rows(p['token_ids']), 'd')\n"
        "    return {'logits': {**made, 'dtype': 'float32'}}",
        3,
        (r"is \d+ bytes, the file has \d+", "float64"),
    ),
    "a vocabulary larger than its rows": (
        "def load(p):\n    return {'vocab_size': 48}",
        3,
        ("vocabulary|vocab_size", "40", "48"),
    ),
    "a crash in C": (
        "def score(p):\n    import signal; sys.stderr.write('loading\\n'); sys.stderr.flush()\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)",
        3,
        ("killed by SIGSEGV", "last words: loading|loading"),
    ),
    "an engine that the system ends": (
        "def score(p):\n    import signal\n    os.kill(os.getpid(), signal.SIGKILL)",
        3,
        ("killed by SIGKILL", "when memory runs out"),
    ),
    "a build for another processor": (
        "def score(p):\n    import signal\n    os.kill(os.getpid(), signal.SIGILL)",
        3,
        ("killed by SIGILL", "instructions that this processor does not have"),
    ),
    "a panic in Rust": (
        "def score(p):\n    sys.stderr.write(\"thread 'main' panicked at src/main.rs:7:5:\\nindex out of bounds\\n\""
        " + '   at frame\\n' * 60); sys.stderr.flush(); os._exit(101)",
        3,
        (r"exit code 101", r"it gave up with: thread 'main' panicked at src/main\.rs:7:5: index out of bounds"),
    ),
    "a tokenizer of texts": (
        "def tokenize(p):\n    return {'token_ids': list(p['text'])}",
        3,
        ("`tokenize`", "token_ids", "whole number"),
    ),
}


def _server(status: int, body: str, kind: str = "application/json") -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _served(status: int, body: str, kind: str = "application/json", **options: Any) -> Run:
    """A contract whose candidate is a server that answers everything alike."""

    def run(project: Project) -> tuple[int, str]:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _server(status, body, kind))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            use = {"engine": "openai", "options": {"url": url, "retries": 0, "timeout_s": 5, **options}, "timeout": 20}
            return command(project, "check", project.contract(candidates={"mine": use}).name)
        finally:
            server.shutdown()
            server.server_close()

    return run


def _url(url: str) -> Run:
    options = {"url": url, "retries": 0, "timeout_s": 5}
    return contract(candidates={"mine": {"engine": "openai", "options": options, "timeout": 20}})


LISTED = json.dumps({"object": "list", "data": [{"id": "m"}]})
NONE = json.dumps({"object": "list", "data": [{"id": "m"}], "choices": [{"text": "x", "logprobs": None}]})
HTTP: dict[str, tuple[Run, int, tuple[str, ...]]] = {
    "a server that is not running": (_url("http://127.0.0.1:9"), 3, (r"127\.0\.0\.1:9", "nothing listens", "start")),
    "an address without http": (_url("127.0.0.1:8000"), 2, (r"url", "http://")),
    "a page instead of an API": (
        _served(200, "<html>Welcome to nginx!</html>", "text/html"),
        3,
        ("not JSON", "Welcome to nginx"),
    ),
    "a wrong path": (_served(404, '{"detail": "Not Found"}'), 2, ("404", "url|/v1")),
    "a key that is missing": (_served(401, '{"error": "Invalid API key"}'), 2, ("401", "api_key_env")),
    "a server that is still loading": (_served(503, '{"error": {"message": "Loading model"}}'), 3, ("503", "Loading model")),
    "a model that it does not serve": (
        _served(200, LISTED, model="other"),
        2,
        ("the server does not serve 'other': it serves m",),
    ),
    "a server without log-probabilities": (_served(200, NONE), 2, ("logprobs|log-probabilities",)),
}


def mistakes() -> Iterator[Mistake]:
    """All of them."""
    for name, (changes, words) in CHANGES.items():
        yield Mistake(f"new contract: {name}", contract(**changes), 2, words)
    for name, (old, new, words) in EDITS.items():
        yield Mistake(f"new contract: {name}", edited(old, new), 2, words)
    for name, (text, words) in SUITES.items():
        yield Mistake(f"new suite: {name}", written("suite.yaml", text, "check", "toys.parity.yaml"), 2, words)
    for name, (line, words) in COMMANDS.items():
        yield Mistake(f"new command: {name}", runs(*line), 2, words)
    for name, (change, code, words) in ENGINES.items():
        yield Mistake(f"new engine: {name}", engine(change, timeout=8), code, words)
    for name, (run, code, words) in HTTP.items():
        yield Mistake(f"new server: {name}", run, code, words)
    yield Mistake("new command: verify of weights that changed since pin", _changed, 2, ("DIFFERENT", r"weights\.json", "pin"))
    yield Mistake(
        "new command: a quality without greedy", _no_greedy, 1, ("greedy not measured: the contract has no greedy cell",)
    )
    yield Mistake("new command: a quality of a dead engine", _dead, 3, ("set-up missed: its process ended", "greedy|set-up"))
    yield Mistake("new command: a whole model for an adapter", _whole_model, 2, ("is a whole model and no PEFT adapter",))
    yield Mistake("new command: adapter and model exchanged", _exchanged, 2, ("stand the wrong way round", "lora ad model"))


def _changed(project: Project) -> tuple[int, str]:
    name = project.contract().name
    command(project, "pin", name)
    project.write("weights.json", '{"vocab_size": 41}')
    return command(project, "verify", name)


def _no_greedy(project: Project) -> tuple[int, str]:
    return command(project, "quality", project.contract().name, "--no-sampling")


def _dead(project: Project) -> tuple[int, str]:
    project.mine = project.engine("def score(p):\n    sys.stderr.write('no CUDA device\\n'); sys.stderr.flush(); os._exit(1)")
    return _no_greedy(project)


def _whole_model(project: Project) -> tuple[int, str]:
    _folders(project)
    return command(project, "lora", "model", "model", "out.gguf")


def _exchanged(project: Project) -> tuple[int, str]:
    _folders(project)
    return command(project, "lora", "model", "ad", "out.gguf")


def _folders(project: Project) -> None:
    for folder, name in (("model", "config.json"), ("ad", "adapter_config.json")):
        (project.folder / folder).mkdir()
        (project.folder / folder / name).write_text("{}", "utf-8")
