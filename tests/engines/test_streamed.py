"""`offload: stream` computes what the model in memory computes, to the last bit, without holding the model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.numpy import save_file  # noqa: E402

from logitproof.engines import Answered, Asked, Working  # noqa: E402
from logitproof.engines.transformers import Transformers  # noqa: E402
from logitproof.errors import Refusal  # noqa: E402
from logitproof.gguf.write import to_gguf  # noqa: E402
from logitproof.jobs.worker import Spec, Worker  # noqa: E402
from logitproof.protocol.sink import RowSink  # noqa: E402
from logitproof.reference import float64 as wide  # noqa: E402
from logitproof.reference.layerwise import Ended  # noqa: E402
from logitproof.reference.model import Loading, load  # noqa: E402
from logitproof.reference.on_disk import FolderOnDisk  # noqa: E402
from logitproof.reference.streamed import FAMILIES, Experts, Streamed  # noqa: E402
from logitproof.weights.checkpoint import read_checkpoint  # noqa: E402
from logitproof.weights.config import read_config  # noqa: E402

ROOT = Path(__file__).parents[2]
MODELS = [
    *(folder.parent for folder in sorted(ROOT.glob("zoo/*/config.json"))),
    *(folder.parent for folder in sorted(ROOT.glob("src/logitproof/acid/probes/*/config.json"))),
]
REFUSED = {"ernie4.5-moe", "gemma3n", "phi3.5-moe"}
"""transformers rebuilds tensors of the first when it loads a folder; nobody has compared the others part by part yet."""
RENAMED = ("ernie4.5-moe", "granite-hybrid", "kimi-linear", "minimax-m2", "nemotron-h", "gemma4")
"""Families whose tensors have other names in a checkpoint, or that have some in no other family."""
LENGTHS = ((9, 7), (17, 31), (1, 5))
every_model = pytest.mark.parametrize(
    "folder", MODELS, ids=lambda folder: folder.name if folder.parent.name == "zoo" else f"probe-{folder.name}"
)


def sequences(vocabulary: int) -> list[Any]:
    return [torch.arange(count) * factor % vocabulary for count, factor in LENGTHS]


def check_equal(model: Path, dtype: Any = "float32", config: Path | None = None) -> None:
    """Every logit of three sequences that went through the layers together is the one of a pass of its own in memory."""
    torch.set_num_threads(1)
    loading = Loading(dtype=dtype)
    whole, streamed = load(model, config, loading), Streamed(model, config, loading)
    asked = sequences(whole.vocabulary)
    with torch.inference_mode(), wide.float64() if dtype == "float64" else nullcontext():
        expected = [whole.model(input_ids=ids[None], use_cache=False).logits for ids in asked]
    ended = {news.sequence: news for news in streamed.passes(asked) if isinstance(news, Ended)}
    assert [ended[number].error for number in range(len(asked))] == [None] * len(asked)
    for number, rows in enumerate(expected):
        assert rows.dtype == ended[number].result.dtype and torch.equal(rows, ended[number].result)
    assert float(expected[1].std()) > 0.01


@every_model
def test_a_folder_gives_the_bits_of_the_model_in_memory(folder: Path) -> None:
    if folder.name in REFUSED:
        with pytest.raises(Refusal, match="is not known to be read right") as refusal:
            Streamed(folder, None, Loading())
        assert refusal.value.field == "offload" and "GGUF" in refusal.value.remedy
        return
    check_equal(folder)


def test_every_family_that_is_streamed_was_compared() -> None:
    compared = {read_config(folder)["model_type"] for folder in MODELS if folder.name not in REFUSED}
    assert compared == set(FAMILIES)


@pytest.mark.parametrize("name", ["llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5"])
def test_float64_gives_the_bits_of_the_model_in_memory(name: str) -> None:
    check_equal(ROOT / "zoo" / name, "float64")


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("name", ["llama3", "qwen2.5", "qwen3", "qwen3-moe", "qwen3.5"])
def test_a_gguf_file_gives_the_bits_of_the_model_in_memory(name: str, kind: str, tmp_path: Path) -> None:
    if kind == "Q4_K_M":
        pytest.importorskip("llama_cpp")
    file = to_gguf(ROOT / "zoo" / name, tmp_path / "model.gguf", kind)
    check_equal(file, config=ROOT / "zoo" / name)
    check_equal(file, "float64", config=ROOT / "zoo" / name)


@pytest.mark.parametrize("name", RENAMED)
def test_a_gguf_file_of_a_family_with_names_of_its_own_gives_the_bits_of_the_model_in_memory(name: str, tmp_path: Path) -> None:
    folder = ROOT / "src/logitproof/acid/probes" / name
    check_equal(to_gguf(folder, tmp_path / "model.gguf", "F32", tokenizer=False), config=folder)


def test_weights_are_read_once_for_all_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    whole = FolderOnDisk.parameter

    def counted(disk: FolderOnDisk, name: str, like: Any) -> Any:
        read[name] += 1
        return whole(disk, name, like)

    monkeypatch.setattr(FolderOnDisk, "parameter", counted)
    streamed = Streamed(ROOT / "zoo/qwen3", None, Loading())
    ended = [news for news in streamed.passes(sequences(1500) * 3) if isinstance(news, Ended)]
    assert len(ended) == 9 and not [news for news in ended if news.error]
    assert read and set(read.values()) == {1}
    # no weight is left behind: whoever uses one outside of its part computes with NaN
    assert all(parameter.isnan().all() for parameter in streamed.reference.model.parameters())


def test_of_experts_those_alone_are_read_that_a_token_is_routed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Experts] = []
    start = Experts.__init__
    monkeypatch.setattr(Experts, "__init__", lambda self, *rest: (made.append(self), start(self, *rest))[1])
    streamed = Streamed(ROOT / "zoo/qwen3-moe", None, Loading())
    list(streamed.passes([torch.tensor([3])]))
    # one token, two of six experts, two matrices of each of two layers
    assert [experts.read for experts in made] == [2, 2, 2, 2]


def test_a_sequence_that_fails_delays_no_other(tmp_path: Path) -> None:
    engine = Transformers(offload="stream")
    engine.load(ROOT / "zoo/qwen3")
    asked = [[5, 6, 7], [10**6], [], [8, 9]]
    sinks = [RowSink(tmp_path / str(number)) for number in range(len(asked))]
    news = list(engine.score_many([Asked(ids, rows) for ids, rows in zip(asked, sinks, strict=True)], "prefill"))
    answers = {answer.index: answer.error for answer in news if isinstance(answer, Answered)}
    assert [isinstance(answers[number], Refusal) for number in range(4)] == [False, True, True, False]
    assert [len(asked[number]) for number in (0, 3)] == [sinks[0].announce()["logits"]["shape"][0], sinks[3].count]
    assert any(isinstance(entry, Working) for entry in news)
    again = list(engine.score_many([Asked([8, 9], RowSink(tmp_path / "again"))], "prefill"))
    assert [answer.error for answer in again if isinstance(answer, Answered)] == [None]


def test_a_request_that_is_left_in_the_middle_leaves_no_thread_behind(tmp_path: Path) -> None:
    import threading

    engine = Transformers(offload="stream")
    engine.load(ROOT / "zoo/qwen3")
    before = threading.active_count()
    many = engine.score_many([Asked([5, 6], RowSink(tmp_path / str(number))) for number in range(4)], "prefill")
    next(many)
    many.close()
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(10)
    assert threading.active_count() <= before
    assert np.isfinite(engine.score([5, 6], "prefill").logits).all()


def test_the_worker_gets_the_rows_of_the_model_in_memory(tmp_path: Path) -> None:
    prompts = [[5, 6, 7, 8], [9, 10], [11]]
    rows = []
    for options in ({}, {"offload": "stream"}):
        with Worker(Spec("transformers", {**options, "threads": 1}), name="reference") as worker:
            hello = worker.hello()
            worker.load(ROOT / "zoo/qwen3", None)
            files = [(ids, tmp_path / f"{len(rows)}-{number}") for number, ids in enumerate(prompts)]
            results = dict(worker.score_many(files, "prefill"))
            rows.append([results[number].open() for number in range(len(prompts))])  # type: ignore[union-attr]
    assert list(hello.modes) == ["prefill"] and not hello.sample and not hello.taps
    assert all(np.array_equal(first, second) for first, second in zip(*rows, strict=True))


def test_generation_takes_a_pass_for_every_token_and_the_same_tokens() -> None:
    generated = []
    for options in ({}, {"offload": "stream"}):
        engine = Transformers(**options)  # type: ignore[arg-type]
        engine.load(ROOT / "zoo/qwen3")
        generated.append(engine.generate([5, 6, 7], 3, []).token_ids)
    assert generated[0] == generated[1] and len(generated[0]) == 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"mutation": "rope.base"}, "mutation"),
        ({"chunk": 4}, "chunk"),
        ({"batch": 2}, "batch"),
        ({"adapter": "somewhere"}, "adapter"),
        ({"device": "meta"}, "offload"),
    ],
)
def test_options_that_need_the_whole_model_are_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Transformers(offload="stream", **options).load(ROOT / "zoo/qwen3")
    assert refusal.value.field == named and refusal.value.remedy


def test_a_decode_is_refused() -> None:
    engine = Transformers(offload="stream")
    engine.load(ROOT / "zoo/qwen3")
    with pytest.raises(Refusal, match="one for every token"):
        engine.score([5, 6], "decode")


def damaged(tmp_path: Path, change: Any) -> Path:
    """The zoo's qwen3 with other tensors."""
    folder = Path(shutil.copytree(ROOT / "zoo/qwen3", tmp_path / "model"))
    save_file(change(read_checkpoint(folder)), folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda tensors: {name: tensors[name] for name in tensors if "1.mlp.up" not in name}, "does not fill .*up_proj"),
        (lambda tensors: tensors | {"model.layers.9.mlp.up_proj.weight": np.ones((2, 2), np.float32)}, "layers.9"),
        (lambda tensors: tensors | {"model.norm.weight": np.ones(7, np.float32)}, r"is \[7\], the model's is"),
        (lambda tensors: tensors | {"model.norm.weight": np.ones(256, np.int32)}, "has type I32"),
        (lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + 1}, "differs from the embedding"),
    ],
)
def test_what_is_not_this_model_is_refused_before_anything_is_computed(tmp_path: Path, change: Any, text: str) -> None:
    with pytest.raises(Refusal, match=text):
        Streamed(damaged(tmp_path, change), None, Loading())


def test_a_tied_matrix_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    folder = damaged(tmp_path, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].copy()})
    check_equal(folder)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ROOT / "zoo/qwen3", tmp_path / "model"))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((Refusal, Exception), match="cut off|cannot read"):
        Streamed(folder, None, Loading())
    file = to_gguf(ROOT / "zoo/qwen3", tmp_path / "model.gguf", "F32")
    file.write_bytes(file.read_bytes()[:-100_000])
    with pytest.raises(Refusal, match="cut off"):
        Streamed(file, ROOT / "zoo/qwen3", Loading())


MEASURED = """
import json, sys, torch
from pathlib import Path
from logitproof.reference.layerwise import Ended
from logitproof.reference.model import Loading, load
from logitproof.reference.streamed import Streamed
torch.set_num_threads(1)
ids = [torch.arange(12) * 37 % 2048, torch.arange(5) * 11 % 2048]
if sys.argv[2] == "stream":
    news = list(Streamed(Path(sys.argv[1]), None, Loading()).passes(ids))
    ended = {entry.sequence: entry for entry in news if isinstance(entry, Ended)}
    sums = [ended[number].result.double().abs().sum().item() for number in range(2)]
else:
    with torch.inference_mode():
        model = load(Path(sys.argv[1])).model
        sums = [model(input_ids=row[None]).logits.double().abs().sum().item() for row in ids]
# not ru_maxrss, which begins with the peak of the process that started this one
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"mib": int(peak.split()[1]) / 1024, "sums": sums}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux counts it")
def test_a_model_of_more_than_a_gibibyte_fits_into_700_mebibytes(tmp_path: Path) -> None:
    """Weights of 1.5 GiB in float32, 0.75 GiB on disk: all of the process, with its libraries, stays below half of that."""
    from logitproof.weights.fabricate import fabricate, parameters
    from logitproof.weights.shapes import shape

    config = shape("qwen3-0.6b", 25) | {"vocab_size": 2048}
    assert 4 * parameters(config) > 1.4 * 2**30
    fabricate(config, tmp_path / "model")
    measured = {}
    for way in ("stream", "memory"):
        command = [sys.executable, "-c", MEASURED, str(tmp_path / "model"), way]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
        measured[way] = json.loads(done.stdout.splitlines()[-1])
    assert measured["stream"]["mib"] < 700 < measured["memory"]["mib"]
    assert measured["stream"]["sums"] == measured["memory"]["sums"]
