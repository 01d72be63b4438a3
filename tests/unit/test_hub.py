"""Models by their hub ids: found in a cache that the test makes, fetched from an endpoint on loopback, pinned to a commit."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from logitproof.contract.opened import open_contract
from logitproof.errors import EnvironmentFailed, ModelError
from logitproof.jobs.address import parse_address
from logitproof.lint import lint
from logitproof.weights import hub
from logitproof.weights.hub import absolute, asking, commit_of, find, located
from logitproof.weights.hub_id import HubId, hub_id
from logitproof.weights.model import open_model, weights_sha256

ROOT = Path(__file__).parents[2]
LLAMA = ROOT / "zoo/llama3"
FIRST, SECOND = "a" * 40, "b" * 40


class Cache:
    """The hub's cache as huggingface_hub lays it out: blobs by their hash, refs, and snapshots of links."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, repo: str, commit: str, files: dict[str, bytes], *refs: str) -> Path:
        place = self.folder / f"models--{repo.replace('/', '--')}"
        snapshot = place / "snapshots" / commit
        (place / "blobs").mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            blob = place / "blobs" / hashlib.sha256(content).hexdigest()
            blob.write_bytes(content)
            link = snapshot / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
        self.point(repo, commit, *refs)
        return snapshot

    def point(self, repo: str, commit: str, *refs: str) -> None:
        for ref in refs:
            path = self.folder / f"models--{repo.replace('/', '--')}/refs/{ref}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    folder = tmp_path / "hf/hub"
    folder.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    hub._RESOLVED.clear()
    yield Cache(folder)
    hub._RESOLVED.clear()


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("org/name", ("org/name", "", "")),
        ("org/name@v1.0", ("org/name", "v1.0", "")),
        ("org/name@refs/pr/3", ("org/name", "refs/pr/3", "")),
        ("Org-1/na.me_2@" + FIRST + ":sub/x.gguf", ("Org-1/na.me_2", FIRST, "sub/x.gguf")),
        ("org/name:Q4_K_M", ("org/name", "", "Q4_K_M")),
    ],
)
def test_an_id_has_a_name_a_revision_and_a_file(text: str, parts: tuple[str, str, str]) -> None:
    assert hub_id(text) == HubId(*parts)
    assert str(HubId(*parts)) == text


@pytest.mark.parametrize(
    "text",
    [
        "model.gguf", "models/x.gguf", "/org/name", "./name", "../name", "a/b/c", "org/name@../../etc", "org/name:../x.gguf",
        "org/name@", "org/name:", "org/na--me", "org/..", "~/name", "", "org/ name", "org/name@a//b", "x/suite.yaml",
    ],
)  # fmt: skip
def test_what_is_a_path_is_no_id(text: str) -> None:
    assert hub_id(text) is None


def test_a_folder_of_links_is_a_model_and_has_the_hash_of_its_files(cache: Cache) -> None:
    cache.add("org/llama", FIRST, files_of(LLAMA), "main")
    path = located("org/llama")
    assert commit_of(path) == FIRST
    assert open_model(path).sha256 == open_model(LLAMA).sha256 == weights_sha256(path)


def test_a_revision_is_a_branch_a_tag_or_a_commit(cache: Cache) -> None:
    cache.add("org/m", FIRST, {"config.json": b"{}"}, "v1", "refs/pr/3")
    cache.add("org/m", SECOND, {"config.json": b"{ }"}, "main")
    commits = {name: commit_of(located(f"org/m{name}")) for name in ("", "@main", "@v1", "@refs/pr/3", f"@{FIRST}")}
    assert commits == {"": SECOND, "@main": SECOND, "@v1": FIRST, "@refs/pr/3": FIRST, f"@{FIRST}": FIRST}


def test_a_gguf_file_is_named_whole_or_by_a_part(cache: Cache) -> None:
    names = ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "sub/m-IQ4_K_M.gguf"]
    snapshot = cache.add("org/m", FIRST, {name: b"GGUF" + name.encode() for name in names}, "main")
    assert located("org/m:m-Q8_0.gguf") == snapshot / "m-Q8_0.gguf"
    assert located("org/m:q4_k_m") == snapshot / "m-Q4_K_M.gguf"
    assert located("org/m:sub/m-IQ4_K_M.gguf").name == "m-IQ4_K_M.gguf"
    with pytest.raises(ModelError, match="2 files fit 'm'|3 files fit 'm'"):
        located("org/m:m")
    with pytest.raises(ModelError, match="no file is called 'Q5_0'; there is m-Q4_K_M.gguf"):
        located("org/m:Q5_0")
    with pytest.raises(ModelError, match=r"has no config.json.*\n  remedy: name the file, as in org/m:m-Q4_K_M.gguf"):
        located("org/m")


PUBLISHED = [
    *(f"L-3.2-1B-{kind}.gguf" for kind in ("f16", "Q4_0", "Q4_0_4_4", "Q4_K_L", "Q4_K_M", "UD-Q5_K_XL", "IQ4_XS")),
    "mmproj-L-3.2-1B-f16.gguf", "L-3.2-1B.imatrix.gguf", "config.json",
    *(f"{kind}/L-3.2-1B-{kind}-0000{number}-of-00002.gguf" for kind in ("BF16", "Q8_0") for number in (1, 2)),
    "Q6_K/L-3.2-1B-Q6_K-00002-of-00002.gguf",
]  # fmt: skip
"""Quantizations of a model as publishers lay them out, with what stands beside them; a part has no other."""


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ("Q4_0", "L-3.2-1B-Q4_0.gguf"),
        ("F16", "L-3.2-1B-f16.gguf"),
        ("Q5_K_XL", "L-3.2-1B-UD-Q5_K_XL.gguf"),
        ("Q4_0_4_4", "L-3.2-1B-Q4_0_4_4.gguf"),
        ("bf16", "BF16/L-3.2-1B-BF16-00001-of-00002.gguf"),
        ("mmproj-L-3.2-1B-f16.gguf", "mmproj-L-3.2-1B-f16.gguf"),
        ("Q4_K", "2 files fit 'Q4_K'; there is L-3.2-1B-Q4_K_L.gguf, L-3.2-1B-Q4_K_M.gguf"),
        ("Q6_K", f"has lost Q6_K/L-3.2-1B-Q6_K-00001-of-00002.gguf of org/m at commit {FIRST}"),
        ("imatrix", "no file is called 'imatrix'"),
        ("", "org/m has no safetensors file: it holds BF16/L-3.2-1B-BF16-00001-of-00002.gguf"),
    ],
)
def test_a_quantization_is_chosen_as_llama_cpp_does(cache: Cache, part: str, wanted: str) -> None:
    snapshot = cache.add("org/m", FIRST, {name: name.encode() for name in PUBLISHED}, "main")
    if " " not in wanted:
        assert located(f"org/m:{part}") == snapshot / wanted
        return
    with pytest.raises(ModelError, match=wanted):
        located(f"org/m:{part}" if part else "org/m")


def test_a_part_that_another_revision_has_is_not_taken_from_it(cache: Cache) -> None:
    names = [f"m-Q8_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    cache.add("org/m", FIRST, {name: name.encode() for name in names}, "v1")
    cache.add("org/m", SECOND, {names[0]: b"another"}, "main")
    assert located("org/m@v1:Q8_0").name == names[0]
    with pytest.raises(ModelError, match=f"has lost {names[1]} of org/m at commit {SECOND}"):
        located("org/m:Q8_0")


def test_what_git_and_the_hubs_client_keep_in_a_folder_is_no_part_of_the_model(tmp_path: Path) -> None:
    shutil.copytree(LLAMA, tmp_path / "m")
    for name in (".git/objects/pack", ".cache/huggingface/download/model.safetensors.metadata", ".gitattributes"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_text("another each time")
    assert open_model(tmp_path / "m").files == open_model(LLAMA).files


@pytest.mark.parametrize(("text", "what"), [("org/m", "org/m"), ("org/m@v2", "org/m at revision v2")])
def test_what_is_not_in_the_cache_is_one_error_with_its_remedy(cache: Cache, text: str, what: str) -> None:
    with pytest.raises(ModelError, match="--download") as raised:
        located(text, where="MODEL")
    assert f"no such file or folder: {text}, and the Hugging Face cache {cache.folder} has no {what}" in str(raised.value)
    assert not find(text).exists()


def test_a_folder_of_that_name_wins_and_that_is_told(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.add("org/m", FIRST, {"config.json": b"{}"}, "main")
    (tmp_path / "org/m").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    with asking(False, lines.append):
        assert located("org/m") == Path("org/m")
        assert commit_of(located("org/m@main")) == FIRST
    assert [line.partition(",")[0] for line in lines] == ["org/m is read from the disk", f"org/m: main is commit {FIRST}"]


def test_the_commit_is_told_once_and_stays_for_the_process(cache: Cache) -> None:
    cache.add("org/m", FIRST, {"config.json": b"{}"}, "main")
    lines: list[str] = []
    with asking(False, lines.append):
        located("org/m")
        cache.add("org/m", SECOND, {"config.json": b"{ }"}, "main")
        assert commit_of(located("org/m")) == FIRST
    assert lines == [f"org/m: main is commit {FIRST} (no revision is named)"]


def test_a_link_keeps_its_name_and_has_the_state_of_what_it_leads_to(cache: Cache) -> None:
    snapshot = cache.add("org/m", FIRST, {"m.gguf": (ROOT / "zoo/llama3/config.json").read_bytes()}, "main")
    path = absolute(located("org/m:m.gguf"))
    assert path == snapshot.resolve() / "m.gguf"
    assert path.name == "m.gguf"
    with pytest.raises(ModelError, match="m.gguf is not a GGUF file"):
        open_model(path)


@pytest.mark.parametrize("content", [b"", b"../..", b"..", b"\xff\xfe", FIRST.encode(), b"\n"], ids=repr)
def test_a_reference_that_leads_to_no_snapshot_is_a_model_that_is_not_there(cache: Cache, content: bytes) -> None:
    cache.add("org/m", SECOND, {"config.json": b"{}"})
    reference = cache.folder / "models--org--m/refs/main"
    reference.parent.mkdir()
    reference.write_bytes(content)
    with pytest.raises(ModelError, match="has no org/m"):
        located("org/m")
    assert find("org/m") == Path("org/m")


def test_a_file_that_the_cache_has_lost_is_one_error_with_its_remedy(cache: Cache) -> None:
    snapshot = cache.add("org/m", FIRST, {**files_of(LLAMA), "m-Q8_0.gguf": b"GGUF", "m-Q4_0.gguf": b"GGUF4"}, "main")
    (snapshot / "m-Q8_0.gguf").resolve().unlink()
    assert located("org/m:Q4_0").is_file()
    for name in ("org/m:Q8_0", "org/m"):
        with pytest.raises(ModelError, match=f"has lost m-Q8_0.gguf of org/m at commit {FIRST}") as raised:
            located(name)
        assert "--download" in raised.value.remedy
    assert not find("org/m").exists()


def test_a_snapshot_that_was_removed_is_looked_up_again(cache: Cache) -> None:
    cache.add("org/m", FIRST, {"config.json": b"{}"}, "main")
    with asking(False, lambda line: None):
        assert commit_of(located("org/m")) == FIRST
        shutil.rmtree(cache.folder / "models--org--m")
        with pytest.raises(ModelError, match="has no org/m"):
            located("org/m")


def test_a_branch_that_moves_while_it_is_fetched_is_one_commit(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(wanted: HubId, where: str) -> Path:
        asked.append(str(wanted))
        commit = wanted.revision if wanted.is_pinned else (FIRST, SECOND)[len(asked) - 1]
        file = f"m-{wanted.file}.gguf"
        return cache.add("org/m", commit, {file: f"GGUF {file}".encode()}, *([] if wanted.is_pinned else ["main"]))

    monkeypatch.setattr("logitproof.weights.hub_fetch.fetch", fetch)
    with asking(True, lambda line: None):
        paths = [located(f"org/m:{label}") for label in ("Q8_0", "Q4_0")]
        assert [find(f"org/m:{label}") for label in ("Q8_0", "Q4_0")] == paths
        cache.point("org/m", SECOND, "main")
        assert [find(f"org/m:{label}") for label in ("Q8_0", "Q4_0")] == paths
    assert asked == ["org/m:Q8_0", f"org/m@{FIRST}:Q4_0"]
    assert {commit_of(path) for path in paths} == {FIRST}


def test_where_the_hub_cannot_be_asked_what_the_cache_has_is_taken_and_told(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = cache.add("org/m", FIRST, {"m-Q8_0.gguf": b"GGUF"}, "main")
    lines: list[str] = []
    with asking(True, lines.append):
        assert located("org/m:Q8_0") == snapshot / "m-Q8_0.gguf"
        assert "HF_HUB_OFFLINE forbids" in lines[0] and "taken from the cache" in lines[0]
        for name in ("org/m:Q4_0", "org/m"):
            with pytest.raises(EnvironmentFailed, match="HF_HUB_OFFLINE forbids"):
                located(name)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/c/x.lock"), "kept in the Hugging Face cache: /c/x.lock: you"),
        (OSError(errno.EROFS, "Read-only file system", "/c/blobs"), "kept in the Hugging Face cache: /c/blobs: "),
        (OSError(errno.ENOSPC, "No space left on device"), "kept in the Hugging Face cache: "),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "cannot be fetched from "),
    ],
    ids=repr,
)
def test_a_cache_that_cannot_be_written_is_no_hub_that_does_not_answer(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, error: OSError, text: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("logitproof.weights.hub_fetch.snapshot_download", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with asking(True, lambda line: None), pytest.raises(EnvironmentFailed, match=text) as raised:
        located("org/m")
    assert ("HF_HUB_CACHE" in raised.value.remedy) == ("cache" in text)


def test_a_model_that_is_in_the_cache_in_part_says_how_to_get_the_rest(cache: Cache) -> None:
    config = {"config.json": (LLAMA / "config.json").read_bytes()}
    cache.add("org/m", FIRST, config, "main")
    cache.add("org/n", FIRST, {**config, "pytorch_model.bin": b"pickled"}, "main")
    for name, remedy in {"org/m": "--download", "org/n": "pickled checkpoints are never read"}.items():
        with pytest.raises(ModelError, match=r"has no \.safetensors file") as raised:
            open_model(located(name))
        assert remedy in raised.value.remedy


def test_an_address_is_named_by_its_commit(cache: Cache) -> None:
    cache.add("org/m", FIRST, files_of(LLAMA), "main")
    side = parse_address("transformers:org/m?dtype=float32")
    assert side.name == f"transformers:org/m@{FIRST}?dtype=float32"
    assert commit_of(side.model) == FIRST


def toy(cache: Cache, commit: str, seed: int, *refs: str) -> None:
    cache.add("org/toy", commit, {"toy.json": json.dumps({"vocab_size": 300, "seed": seed}).encode()}, *refs)


def test_a_verdict_and_its_report_name_the_commit(cache: Cache, project: Any) -> None:
    toy(cache, FIRST, 1, "main")
    report = project.check(models={"m": "org/toy:toy.json"})
    assert report.verdict.status == "PASS"
    pin = report.facts["pins"]["models"]["m"]["original"]
    assert (pin["path"], pin["commit"]) == ("org/toy:toy.json", FIRST)


def test_a_contract_without_a_commit_is_a_finding_and_with_one_is_none(cache: Cache, project: Any) -> None:
    toy(cache, FIRST, 1, "main", "v1")
    both = {"mode": ["prefill", "decode"]}
    for name, codes in {
        "org/toy:toy.json": ["LP064"],
        "org/toy@v1:toy.json": ["LP064"],
        f"org/toy@{FIRST}:toy.json": [],
    }.items():
        findings = lint(project.contract(models={"m": name}, matrix=both))
        assert [finding.code for finding in findings] == codes, name
        assert all(f"org/toy@{FIRST}:toy.json" in finding.remedy for finding in findings)
    findings = lint(project.contract(models={"m": "org/other"}, matrix=both))
    assert [finding.code for finding in findings] == ["LP070"]
    assert "neither a path nor in the Hugging Face cache" in findings[0].text


def test_pins_hold_a_commit_when_the_branch_moves(cache: Cache, project: Any) -> None:
    from logitproof.runs.pins import make_pins, verify_files

    toy(cache, FIRST, 1, "main")
    opened = open_contract(project.contract(models={"m": "org/toy:toy.json"}))
    pins = make_pins(opened, {})
    assert pins.models["m"]["original"].commit == FIRST
    assert not [difference for difference in verify_files(pins, opened.folder, opened) if difference.fault]
    toy(cache, SECOND, 2, "main")
    hub._RESOLVED.clear()
    faults = [difference for difference in verify_files(pins, opened.folder, opened) if difference.fault]
    assert [(fault.expected, fault.found) for fault in faults] == [(f"commit {FIRST}", f"commit {SECOND}")]
    assert f"org/toy@{FIRST}:toy.json" in faults[0].remedy


class Hub:
    """As much of the hub's interface as fetching asks for, on loopback."""

    def __init__(self, files: dict[str, bytes], commit: str) -> None:
        self.files, self.commit, self.asked = files, commit, list[str]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                outer.answer(self, with_body=False)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        path = unquote(request.path.partition("?")[0])
        self.asked.append(path)
        status, headers, body = self._page(path)
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if with_body:
            request.wfile.write(body)

    def _page(self, path: str) -> tuple[int, dict[str, str], bytes]:
        model = "/api/models/org/m"
        if path in (f"{model}/revision/main", f"{model}/revision/{self.commit}", model):
            siblings = [{"rfilename": name} for name in self.files]
            return 200, {}, json.dumps({"id": "org/m", "sha": self.commit, "siblings": siblings}).encode()
        if path.startswith(f"{model}/tree/"):
            rows = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in self.files.items()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(rows).encode()
        for revision in ("main", self.commit):
            name = path.removeprefix(f"/org/m/resolve/{revision}/")
            if name in self.files:
                etag = hashlib.sha256(self.files[name]).hexdigest()
                return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": self.commit}, self.files[name]
        code = "RevisionNotFound" if path.startswith((f"{model}/", "/org/m/")) else "RepoNotFound"
        return 404, {"X-Error-Code": code, "X-Error-Message": "not there"}, b""


@pytest.fixture
def online(tmp_path: Path) -> Iterator[Hub]:
    files = {**files_of(LLAMA), "pytorch_model.bin": b"pickled", "onnx/config.json": b"{}"}
    made = Hub({**files, "m-Q8_0.gguf": (ROOT / "zoo/gguf/llama3-Q8_0.gguf").read_bytes()}, FIRST)
    yield made
    made.server.shutdown()


def run(folder: Path, endpoint: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    outer = {name: text for name, text in os.environ.items() if not name.startswith("HF_")}
    made = {**outer, "HF_HOME": str(folder / "hf"), "HF_ENDPOINT": endpoint, **environment}
    command = [sys.executable, "-m", "logitproof", *words]
    return subprocess.run(command, cwd=folder, env=made, capture_output=True, text=True, timeout=240)


def needs_gguf() -> None:
    if not (ROOT / "zoo/gguf/llama3-Q8_0.gguf").is_file():
        pytest.skip("`make zoo` makes the GGUF files")


def test_a_command_fetches_what_it_needs_where_it_is_asked_and_nothing_else(online: Hub, tmp_path: Path) -> None:
    needs_gguf()
    words = ["capture", "transformers", "org/m", "suite.yaml", "--out"]
    suite = {"suite": "s", "max_new_tokens": 2, "prompts": [{"id": "p", "token_ids": [1, 5, 9]}]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    refused = run(tmp_path, online.url, *words, "a")
    assert (refused.returncode, online.asked) == (2, [])
    assert "--download" in refused.stderr and "Traceback" not in refused.stderr
    fetched = run(tmp_path, online.url, *words, "a", "--download")
    assert fetched.returncode == 0, fetched.stderr
    assert f"org/m: main is commit {FIRST} (no revision is named)" in fetched.stderr
    asked = " ".join(online.asked)
    assert "model.safetensors" in asked and "pytorch_model.bin" not in asked and "onnx" not in asked and "gguf" not in asked
    online.asked.clear()
    again = run(tmp_path, online.url, *words, "b")
    assert (again.returncode, online.asked) == (0, [])


def test_a_contract_fetches_a_file_of_a_repository(online: Hub, tmp_path: Path, project: Any) -> None:
    needs_gguf()
    engines = {"reference": {"engine": "transformers", "weights": "candidate"}, "candidates": {"mine": {"engine": "llamacpp"}}}
    project.write("suite.yaml", {"suite": "s", "max_new_tokens": 2, "prompts": [{"id": "p", "token_ids": [1, 5, 9]}]})
    bands = [{"match": 0.5, "wrong": 5.0, "basis": "eight-bit weights and activations"}]
    gates = [{"id": "kl", "metric": "kl_divergence", "at_most": 0.1, "basis": "eight-bit weights and activations"}]
    contract = project.contract(models={"m": "org/m:Q8_0"}, bands=bands, gates=gates, **engines)
    checked = run(tmp_path, online.url, "check", str(contract), "--download", "--out", "run")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    verdict = json.loads((tmp_path / "run/verdict.json").read_text())
    pin = verdict["pins"]["models"]["m"]["original"]
    assert (pin["commit"], list(pin["files"])) == (FIRST, ["m-Q8_0.gguf"])
    assert FIRST in (tmp_path / "run/report.md").read_text() and FIRST in (tmp_path / "run/report.html").read_text()


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("org/absent", 2, "the hub has no model org/absent"),
        ("org/m@v9", 2, "org/m has no revision v9"),
        ("org/m:absent.gguf", 2, "no file is called 'absent.gguf'; there is m-Q8_0.gguf"),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(online: Hub, tmp_path: Path, name: str, code: int, text: str) -> None:
    needs_gguf()
    refused = run(tmp_path, online.url, "kernels", name, "--download")
    assert refused.returncode == code, refused.stderr
    assert text in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("environment", "text"),
    [({}, "cannot be fetched from http://127.0.0.1:9"), ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids")],
)
def test_a_hub_that_does_not_answer_is_no_fault_of_the_contract(tmp_path: Path, environment: dict[str, str], text: str) -> None:
    refused = run(tmp_path, "http://127.0.0.1:9", "kernels", "org/m", "--download", **environment)
    assert refused.returncode == 3, refused.stderr
    assert text in refused.stderr and "Traceback" not in refused.stderr
