"""HTTP engines against a real server in a thread: what they give is the model's, and every fault is one clear error."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from http_server import CONTEXT, Body, Kind, Zoo, served

from logitproof import catalog
from logitproof.contract.opened import open_contract
from logitproof.engines import Engine
from logitproof.engines._http import PAUSE, ServerError
from logitproof.engines.llama_server import LlamaServer, _same_weights
from logitproof.engines.openai import Openai
from logitproof.errors import Refusal
from logitproof.report.report import Report
from logitproof.runs.check import check
from logitproof.traces.store import Store

ZOO = Path(__file__).parents[2] / "zoo"
MODEL = ZOO / "qwen3"
IDS = [40, 72, 69, 0, 75, 68, 79]
"""Seven letters: tokens of one character each."""
BASIS = "two computations in float32 of the same weights"
Fault = Callable[[Zoo, str, Body], Any]


def engine(zoo: Zoo, **options: Any) -> Engine:
    kind = LlamaServer if zoo.kind == "llama-server" else Openai
    return kind(zoo.url, **{"timeout_s": 20.0, "retries": 0, **options})  # type: ignore[no-any-return]


def zoo(kind: Kind, **changes: Any) -> Zoo:
    return Zoo(MODEL, kind, model_path=str(MODEL.name), **changes)


def loaded(server: Zoo, **options: Any) -> Engine:
    one = engine(server, **options)
    one.hello()
    one.load(MODEL)
    return one


@pytest.mark.parametrize(("kind", "mode"), [("llama-server", "prefill"), ("llama-server", "decode"), ("vllm", "prefill")])
def test_the_whole_vocabulary_is_the_model_s_own(kind: Kind, mode: Any) -> None:
    with served(zoo(kind)) as server:
        one = loaded(server, logprobs=-1)
        rows = one.score(IDS, mode).logits
        np.testing.assert_allclose(rows, server.log_probabilities(IDS), atol=1e-5)
        assert rows.shape == (len(IDS), server.vocab_size) and rows.dtype == np.float32
        made = one.generate(IDS, 4, [])
        np.testing.assert_array_equal(made.logits.argmax(axis=1), made.token_ids)
        assert made.finish == "length" and len(made.token_ids) == 4
        assert one.generate(IDS, 4, [made.token_ids[1]]).token_ids == made.token_ids[:2]


@pytest.mark.parametrize("kind", ["llama-server", "vllm", "classic"])
def test_the_best_entries_are_the_model_s_own(kind: Kind) -> None:
    with served(zoo(kind)) as server:
        one = loaded(server, logprobs=6)
        assert one.hello().modes == (("prefill", "decode") if kind == "llama-server" else ("prefill",))
        rows, true = one.score(IDS, "prefill").logits, server.log_probabilities(IDS)
        assert len(rows) == len(IDS) and (rows["id"][:, 0] == true.argmax(axis=1)).all()
        for row, truth in zip(rows, true, strict=True):
            kept = row[row["id"] >= 0]
            np.testing.assert_array_equal(kept["id"], np.argsort(-truth, kind="stable")[: len(kept)])
            np.testing.assert_allclose(kept["log_probability"], truth[kept["id"]], atol=1e-5)
        made = one.generate(IDS, 3, [])
        assert made.logits["id"][:, 0].tolist() == made.token_ids


def test_a_server_that_takes_text_only_is_sent_text_and_held_to_the_tokens() -> None:
    with served(zoo("classic", text_only=True)) as server:
        one = loaded(server, logprobs=6)
        rows = one.score(IDS, "prefill").logits
        assert (rows["id"][:, 0] == server.log_probabilities(IDS).argmax(axis=1)).all()
        assert isinstance(server.requests[-1][1]["prompt"], str)
        server.fault = merged
        with pytest.raises(ServerError, match="6 tokens, 7 were sent"):
            one.score(IDS, "prefill")


def merged(server: Zoo, path: str, said: Body) -> Any:
    if "usage" in said:
        said["usage"]["prompt_tokens"] -= 1


def test_a_busy_server_is_asked_again_and_a_broken_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitproof.engines._http.PAUSE", PAUSE / 50)
    left = [503, 429]

    def busy(server: Zoo, path: str, said: Body) -> Any:
        return (left.pop(), {"error": "loading"}) if left and path == "/completion" else None

    with served(zoo("llama-server")) as server:
        one = loaded(server, retries=2, logprobs=5)
        server.fault = busy
        assert len(one.score(IDS[:1], "prefill").logits) == 1 and not left
        left[:] = [500]
        with pytest.raises(ServerError, match="HTTP 500: loading"):
            one.score(IDS[:1], "prefill")
        left[:] = [500]
        patient = loaded(server, retries=2, logprobs=5, retry_on=[429, 500, 503])
        assert len(patient.score(IDS[:1], "prefill").logits) == 1 and not left
        left[:] = [503, 503, 503]
        with pytest.raises(ServerError, match="HTTP 503: loading"):
            one.score(IDS[:1], "prefill")


def test_a_key_comes_from_the_environment_and_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with served(zoo("llama-server", key="sk-secret-1")) as server:
        with pytest.raises(Refusal, match="refuses no key") as caught:
            engine(server).hello()
        assert caught.value.field == "api_key_env"
        with pytest.raises(Refusal, match="MY_SERVER_KEY is not set"):
            engine(server, api_key_env="MY_SERVER_KEY")
        monkeypatch.setenv("MY_SERVER_KEY", "sk-wrong-2")
        with pytest.raises(
            Refusal, match=r"refuses the key in MY_SERVER_KEY \(HTTP 401\): Invalid API Key Bearer \*\*\*"
        ) as caught:
            engine(server, api_key_env="MY_SERVER_KEY").hello()
        assert "sk-" not in str(caught.value) + caught.value.remedy
        monkeypatch.setenv("MY_SERVER_KEY", "sk-secret-1")
        hello = engine(server, api_key_env="MY_SERVER_KEY").hello()
        assert "sk-" not in repr(hello) + repr(engine(server, api_key_env="MY_SERVER_KEY"))


def first_top(said: Body) -> Any:
    """Where the answers of the two dialects hold the first position's log-probabilities."""
    if "completion_probabilities" in said:
        return said["completion_probabilities"][0]["top_logprobs"]
    return said["choices"][0]["prompt_logprobs"][1] if "choices" in said else None


def change(native: Callable[[Any], Any], vllm: Callable[[Any], Any]) -> Fault:
    def fault(server: Zoo, path: str, said: Body) -> Any:
        if "choices" in said or "completion_probabilities" in said:
            (native if "completion_probabilities" in said else vllm)(first_top(said))

    return fault


def set_first(key: str, value: Any) -> Fault:
    return change(lambda top: top[0].__setitem__(key, value), lambda top: top[next(iter(top))].__setitem__(key, value))


FAULTS: list[tuple[str, Fault, str]] = [
    ("garbage", lambda zoo, path, said: (200, b"<html>Bad gateway</html>"), "not JSON: '<html>Bad gateway"),
    ("cut off", lambda zoo, path, said: (200, json.dumps(said).encode()[:-5]), "not JSON"),
    ("closed", lambda zoo, path, said: "close", "RemoteProtocolError|ReadError"),
    ("hang", lambda zoo, path, said: "hang", r"did not answer within 3 s"),
    ("500", lambda zoo, path, said: (500, {"error": {"message": "CUDA error 719"}}), "HTTP 500: CUDA error 719"),
    ("null", set_first("logprob", None), "log-probability of token .* is None"),
    ("nan", set_first("logprob", float("nan")), "log-probability of token .* is nan"),
    ("text", set_first("logprob", "-1.5"), "log-probability of token .* is '-1.5'"),
    ("positive", set_first("logprob", 0.5), "log-probability of token .* is 0.5"),
    (
        "too few",
        change(lambda top: top.__delitem__(slice(2, None)), lambda top: [top.pop(key) for key in list(top)[2:]]),
        "2 log-probabilities, 5 were asked for",
    ),
    (
        "foreign id",
        change(lambda top: top[0].__setitem__("id", 99999), lambda top: top.__setitem__("99999", top.pop(next(iter(top))))),
        "token 99999 is outside the vocabulary of 1540",
    ),
    ("nothing", lambda zoo, path, said: (200, {"object": "error"}), "its answer has no"),
    ("fed more", merged, "tokens, 2 were sent|tokens, 3 were sent"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["llama-server", "vllm"])
@pytest.mark.parametrize(("fault", "text"), [one[1:] for one in FAULTS], ids=[one[0] for one in FAULTS])
def test_every_fault_of_a_server_is_one_clear_error(kind: Kind, fault: Fault, text: str) -> None:
    if fault is merged and kind == "llama-server":

        def fault(zoo: Zoo, path: str, said: Body) -> Any:
            if "tokens_evaluated" in said:
                said["tokens_evaluated"] += 1

        text = "the server fed 2 tokens, 1 were sent"
    with served(zoo(kind)) as server:
        one = loaded(server, logprobs=5, timeout_s=3.0 if "within 3 s" in text else 20.0)
        server.fault = fault
        with pytest.raises(ServerError, match=text):
            one.score(IDS[:2], "prefill")


def test_a_decode_that_is_none_is_refused() -> None:
    def forgets(server: Zoo, path: str, said: Body) -> Any:
        if "timings" in said:
            said["timings"]["cache_n"] = 0

    with served(zoo("llama-server")) as server:
        one = loaded(server, logprobs=5)
        server.fault = forgets
        with pytest.raises(ServerError, match="decode needs 1 tokens from the KV cache, the server took 0"):
            one.score(IDS, "decode")
        with pytest.raises(Refusal, match="no decode"), served(zoo("vllm")) as other:
            loaded(other).score(IDS, "decode")


def test_a_prompt_beyond_the_context_is_refused_in_the_server_s_own_words() -> None:
    for kind in ("llama-server", "vllm"):
        with served(zoo(kind)) as server, pytest.raises(Refusal, match=rf"exceeds the context size \({CONTEXT} tokens\)"):
            loaded(server, logprobs=5).score([40] * (CONTEXT + 1), "prefill")


def test_a_server_of_another_model_is_refused() -> None:
    with served(zoo("llama-server")) as server:
        server.vocab_size = 1541
        with pytest.raises(Refusal, match="vocabulary has 1541 tokens, qwen3 has 1540"):
            engine(server).load(MODEL)
        server.vocab_size, server.model_path = 1540, "/models/llama3.gguf"
        with pytest.raises(Refusal, match="has loaded /models/llama3.gguf, the contract names qwen3"):
            engine(server).load(MODEL)


def test_weights_are_proven_by_their_hash_where_the_server_s_file_can_be_read(tmp_path: Path) -> None:
    for name, text in (("a.gguf", "one"), ("b.gguf", "two"), ("c.gguf", "one")):
        (tmp_path / name).write_text(text)
    assert _same_weights(str(tmp_path / "c.gguf"), tmp_path / "a.gguf").startswith("proven")
    assert _same_weights("/elsewhere/a.gguf", tmp_path / "a.gguf").startswith("not proven")
    with pytest.raises(Refusal, match="another file"):
        _same_weights(str(tmp_path / "b.gguf"), tmp_path / "a.gguf")


def test_a_server_without_log_probabilities_is_refused() -> None:
    def silent(server: Zoo, path: str, said: Body) -> Any:
        if "choices" in said:
            said["choices"][0].update(logprobs=None, prompt_logprobs=None)

    with served(zoo("vllm", fault=silent)) as server, pytest.raises(Refusal, match="gives no log-probabilities"):
        engine(server).hello()


@pytest.mark.parametrize("kind", ["llama-server", "vllm"])
def test_a_server_that_samples_when_it_should_not_is_an_error(kind: Kind) -> None:
    def samples(server: Zoo, path: str, said: Body) -> Any:
        for one in said.get("completion_probabilities", []):
            one["id"] = one["top_logprobs"][1]["id"]
        for choice in said.get("choices", []):
            choice["logprobs"]["tokens"] = [list(top)[1] for top in choice["logprobs"]["top_logprobs"]]

    with served(zoo(kind)) as server:
        one = loaded(server, logprobs=5)
        server.fault = samples
        with pytest.raises(ServerError, match="it does not decode greedily"):
            one.generate(IDS, 3, [])


def test_logits_are_not_taken_for_log_probabilities() -> None:
    def raw(server: Zoo, path: str, said: Body) -> Any:
        for one in said.get("completion_probabilities", []):
            for top in one["top_logprobs"]:
                top["logprob"] -= 3.0

    with served(zoo("llama-server")) as server:
        one = loaded(server, logprobs=-1)
        server.fault = raw
        with pytest.raises(ServerError, match=r"position 0: the probabilities of the whole vocabulary sum to 0.0497"):
            one.score(IDS, "prefill")


def test_answers_that_overtake_each_other_stay_in_their_places() -> None:
    def slow(server: Zoo, path: str, said: Body) -> Any:
        time.sleep(0.3 / said.get("tokens_evaluated", 100))

    with served(zoo("llama-server")) as server:
        one = loaded(server, logprobs=5, concurrency=len(IDS))
        server.fault = slow
        rows = one.score(IDS, "prefill").logits
        np.testing.assert_array_equal(rows["id"][:, 0], server.log_probabilities(IDS).argmax(axis=1))
        sent = [len(body["prompt"]) for path, body, _ in server.requests[-len(IDS) :] if path == "/completion"]
        assert sorted(sent) == list(range(1, len(IDS) + 1))


def test_a_restarted_server_is_known_by_its_numbers() -> None:
    with served(zoo("vllm")) as server:
        first = engine(server).hello()
        assert engine(server).hello() == first
        server.fault = lambda zoo, path, said: (
            said["choices"][0]["logprobs"]["top_logprobs"].append(1) if "choices" in said else None
        )
        assert engine(server).hello().versions["fingerprint"] != first.versions["fingerprint"]


@pytest.mark.parametrize(
    ("options", "text"),
    [({"logprobs": 0}, "prove nothing"), ({"url": "localhost:80"}, "no http"), ({"retries": -1}, "negative")],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], text: str) -> None:
    for kind in (LlamaServer, Openai):
        with pytest.raises(Refusal, match=text):
            kind(**{"url": "http://127.0.0.1:1", **options})


def checked(folder: Path, server: Zoo, gates: list[Any], **options: Any) -> Report:
    prompts = [{"id": f"p{n}", "token_ids": IDS[n:]} for n in range(2)]
    name = "llama_server" if server.kind == "llama-server" else "openai"
    data = {
        "contract": "served",
        "reference": {"engine": "plain"},
        "candidates": {"served": {"engine": name, "options": {"url": server.url, **options}}},
        "models": {"m": {"original": str(MODEL)}},
        "suites": ["suite.yaml"],
        "matrix": {"mode": ["prefill", "greedy"]},
        "bands": [{"match": 1e-3, "wrong": 1e-2, "basis": BASIS}],
        "gates": [{"basis": BASIS, **gate} for gate in gates],
        "error_bar": {"vary": ["threads"]},
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump({"suite": "s", "max_new_tokens": 3, "prompts": prompts}), "utf-8")
    (folder / "c.parity.yaml").write_text(yaml.safe_dump(data), "utf-8")
    return check(open_contract(folder / "c.parity.yaml"), Store(folder / "store"))


KL = {"id": "kl", "metric": "kl_divergence", "at_most": 1e-6}


@pytest.mark.parametrize("kind", ["llama-server", "vllm"])
def test_a_server_that_gives_its_whole_vocabulary_gets_a_verdict(tmp_path: Path, kind: Kind) -> None:
    with served(zoo(kind)) as server:
        report = checked(tmp_path, server, [KL], logprobs=-1)
    assert report.verdict.status == "PASS", report.verdict
    assert all(cell.status == "MATCH" and cell.positions for cell in report.verdict.cells)


def test_a_server_that_computes_another_model_fails(tmp_path: Path) -> None:
    def other(server: Zoo, path: str, said: Body) -> Any:
        for one in said.get("completion_probabilities", []):
            values = 1.05 * np.array([top["logprob"] for top in one["top_logprobs"]])
            for top, value in zip(one["top_logprobs"], values - np.logaddexp.reduce(values), strict=True):
                top["logprob"] = float(value)

    with served(zoo("llama-server", fault=other)) as server:
        report = checked(tmp_path, server, [KL], logprobs=-1)
    assert report.verdict.status == "FAIL"


def test_the_best_entries_of_a_server_bound_kl_and_pass_no_gate_on_the_rest(tmp_path: Path) -> None:
    least = {"id": "least", "metric": "kl_divergence_lower", "at_most": 1e-6}
    top1 = {"id": "top1", "metric": "top1", "at_least": 1.0}
    with served(zoo("llama-server")) as server:
        report = checked(tmp_path, server, [least, top1, KL], logprobs=10)
    statuses = {(gate.id, gate.status) for gate in report.verdict.gates}
    assert statuses == {("least", "PASS"), ("top1", "PASS"), ("kl", "ERROR")}
    assert report.verdict.status == "ERROR"


def test_the_page_on_servers_names_the_options_and_metrics_that_there_are() -> None:
    page = (ZOO.parent / "docs/http.md").read_text("utf-8")
    rows = page.partition("## Options")[2].partition("Every failure")[0]
    named = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows.splitlines() if row.startswith("| `"))))
    known = {name: set(catalog.find("engines", name).option_names) for name in ("llama_server", "openai")}
    assert named == known["openai"] | {"openai"} and known["llama_server"] == known["openai"] - {"model"}
    for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL):
        for use in yaml.safe_load(text)["candidates"].values():
            assert set(use["options"]) <= set(catalog.find("engines", use["engine"]).option_names)
    for metric in ("kl_divergence_lower", "kl_divergence_upper", "known_mass", "rms_delta_known", "total_variation"):
        assert f"`{metric}`" in page and catalog.find("metrics", metric)
