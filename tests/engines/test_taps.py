"""Taps of real engines: complete, harmless, in one layout, and enough to find a bug in llama.cpp's file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from logitproof import catalog
from logitproof.acid.probe import open_probes
from logitproof.engines.transformers import Transformers
from logitproof.errors import ContractError, Refusal
from logitproof.jobs.worker import Spec, Worker
from logitproof.localization.hypotheses import hypotheses
from logitproof.localization.localize import localize, relative
from logitproof.protocol import taps
from logitproof.protocol.messages import Mode, Tensor
from logitproof.reference.tap_values import Taps
from logitproof.reference.taps import Watch, tapped

sys.path.insert(0, str(Path(__file__).parents[1] / "power"))
from planted import FAMILIES, build, tokens

ROOT = Path(__file__).parents[2]
ZOO = ROOT / "zoo"
IDS = list(range(5, 29))


def read(model: Any, family: str, given: dict[str, np.ndarray] | None = None, mode: str = "prefill") -> dict[str, np.ndarray]:
    ids, watch = tokens(family, length=20), Watch(model)
    flow = Taps(["*"], given or {})
    flow.whole = mode == "prefill"
    cache = None
    with torch.inference_mode(), tapped(model, watch, flow):
        for part in ids.split(ids.shape[1] if flow.whole else 1, dim=1):
            flow.length = part.shape[1]
            out = model(part, past_key_values=cache, use_cache=not flow.whole)
            cache = out.past_key_values
            flow.at("logits", out.logits[0])
            flow.start += flow.length
    watch.close()
    return flow.kept()


@pytest.mark.parametrize("family", FAMILIES)
def test_taps_change_nothing_and_a_model_explains_itself(family: str) -> None:
    model, ids = build(family), tokens(family, length=20)
    with torch.inference_mode():
        clean = model(ids, use_cache=False).logits[0]
        found = read(model, family)
        assert np.array_equal(found["logits"], clean.float().numpy())
        replayed = read(model, family, found)
        assert torch.equal(model(ids, use_cache=False).logits[0], clean)
    assert all(taps.is_known(name) for name in found)
    assert localize(found, found, replayed).verdict == "same"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_experts_that_are_told_are_weighed_by_the_routers_own_rule(family: str, mode: str) -> None:
    """Told its own choice a model computes what it did; told another one it says what it would have chosen."""
    model = build(family)
    plain = read(model, family, mode=mode)
    chosen = {name: value for name, value in plain.items() if taps.split(name)[1] == "moe.index"}
    if not chosen:
        pytest.skip("a dense model")
    assert np.allclose(read(model, family, chosen, mode=mode)["logits"], plain["logits"], atol=1e-5)
    first = min(chosen, key=taps.order)
    experts = plain[first.replace("index", "router")].shape[-1]
    changed = read(model, family, {first: np.sort((chosen[first] + 1) % experts, axis=-1)}, mode=mode)
    assert np.array_equal(changed[first], plain[first]), "what it would have chosen"
    weights = first.replace("index", "weights")
    assert not np.allclose(changed[weights], plain[weights]) and np.isfinite(changed["logits"]).all()
    if family in ("qwen3-moe", "mixtral"):
        sums = plain[weights].sum(-1)
        assert np.allclose(changed[weights].sum(-1), sums, atol=1e-5) == np.allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize("family", ["llama3", "qwen3", "qwen3-moe", "qwen3.5"])
def test_decode_gives_the_taps_of_prefill(family: str) -> None:
    model = build(family)
    whole, steps = read(model, family), read(model, family, mode="decode")
    shared = [name for name in whole if name in steps]
    assert {taps.split(name)[1] for name in whole.keys() - steps.keys()} <= {"attn.scores"}
    for name in shared:
        assert steps[name].shape == whole[name].shape, name
        assert relative(steps[name], whole[name], taps.split(name)[1]) < 1e-4, name


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_probabilities_of_a_decode_are_compared_and_flow_on(family: str) -> None:
    """Also where a window lets keys go: those have no share."""
    model = build(family)
    steps, whole = read(model, family, mode="decode"), read(model, family)
    name = next(name for name in steps if name.endswith("attn.probs"))
    assert np.allclose(steps[name], whole[name], atol=1e-5) and np.allclose(steps[name].sum(-1), 1, atol=1e-5)
    replayed = read(model, family, steps, mode="decode")
    assert localize(steps, steps, replayed).verdict == "same"
    wrong = {**steps, name: np.roll(steps[name], 1, axis=0)}
    found = localize(steps, wrong, read(model, family, wrong, mode="decode"))
    assert name in found.broken


def worker_taps(
    engine: str, model: Path, config: Path | None, folder: Path, given: Any = None, mode: Mode = "prefill", **options: Any
) -> Any:
    folder.mkdir()
    with Worker(Spec(engine, {"threads": 1, **options}), name=engine) as worker:
        assert worker.hello().taps
        worker.load(model, config)
        return worker.taps(IDS, mode, list(given) if given else ["*"], folder, given)


def arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: np.array(one.open()) for name, one in tensors.items()}


@pytest.mark.parametrize("mode", ["prefill", "decode"])
@pytest.mark.parametrize("family", ["llama3", "qwen3-moe", "qwen3.5"])
def test_every_tap_of_llama_cpp_is_that_of_transformers(family: str, mode: Mode, tmp_path: Path) -> None:
    """The cache, too, whose keys and values llama.cpp stores in the type that is asked for."""
    file, cache = ZOO / "gguf" / f"{family}-F32.gguf", {"kv_type": "f32"}
    ours = arrays(worker_taps("transformers", ZOO / family, None, tmp_path / "a", mode=mode))
    theirs = arrays(worker_taps("llamacpp", file, ZOO / family, tmp_path / "b", mode=mode, **cache))
    cached = {name for name in theirs if taps.split(name)[1] in taps.CACHED}
    assert cached and set(ours) == set(theirs)
    for name, right in ours.items():
        assert relative(theirs[name], right, taps.split(name)[1]) < 1e-4, name


def test_a_replay_blames_the_broken_operation_alone(tmp_path: Path) -> None:
    right = worker_taps("transformers", ZOO / "qwen3", None, tmp_path / "a")
    wrong = worker_taps("transformers", ZOO / "qwen3", None, tmp_path / "b", mutation="norm.qk_missing")
    replayed = worker_taps("transformers", ZOO / "qwen3", None, tmp_path / "c", wrong)
    found = localize(arrays(right), arrays(wrong), arrays(replayed))
    assert {taps.split(one)[1] for one in found.broken} == {"attn.q", "attn.k"}
    assert found.first == "layers.0.attn.q"


def test_a_bug_between_pieces_of_a_prefill_is_located_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one pass it does not show: taps are of the same pieces as logits."""
    probe = open_probes(["falcon-h1"])[0]
    ids = probe.case("text").token_ids[:24]
    engines = [Transformers(), Transformers(chunk=7), Transformers(chunk=7, mutation="scan.chunk_state_lost")]
    for engine in engines:
        engine.load(probe.folder)
    right, pieces, wrong = (engine.taps(ids, "prefill", ["*"], {}) for engine in engines)
    healthy, lost = (localize(right, taken, engines[0].taps(ids, "prefill", ["*"], taken)) for taken in (pieces, wrong))
    assert healthy.verdict == "same" and "layers.0.scan.core" in pieces
    assert lost.first == "layers.0.scan.core"
    scans = {name: entry for name, entry in catalog.entries("mutations").items() if name.startswith(("scan.s", "scan.chunk"))}
    monkeypatch.setattr(catalog, "entries", lambda kind: scans)
    tried = (probe.folder, ids, wrong, lost.broken[:1], "float32")
    assert [bug.mutation for bug in hypotheses(*tried, piece=7) if bug.explains] == ["scan.chunk_state_lost"]
    assert not [bug for bug in hypotheses(*tried) if bug.explains]


def test_taps_of_a_batch_are_refused_and_not_those_of_another_pass() -> None:
    engine = Transformers(batch=3)
    engine.load(open_probes(["falcon-h1"])[0].folder)
    with pytest.raises(Refusal, match="taps are of one sequence"):
        engine.taps([1, 2, 3], "prefill", ["*"], {})


def test_llama_cpp_cannot_be_given_tensors_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    np.zeros((24, 4), "<f4").tofile(path)
    given = {"embedding": Tensor(path=str(path), dtype="float32", shape=(24, 4))}
    with pytest.raises(ContractError, match="cannot be given"):
        worker_taps("llamacpp", ZOO / "gguf" / "qwen3-F32.gguf", ZOO / "qwen3", tmp_path / "b", given)


def localized(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "logitproof", "localize", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def test_of_two_paths_the_one_that_reads_square_matrices_transposed_is_found(tmp_path: Path) -> None:
    """The logits differ by 6.7; RoPE, QK-norm and the scale are cleared on their own input."""
    subprocess.run([sys.executable, str(ROOT / "examples" / "two-paths" / "make.py"), str(tmp_path)], check=True, timeout=120)
    sides = [f"transformers:{tmp_path / 'model'}?threads=1", str(tmp_path / "fused"), str(tmp_path / "simple")]
    done = localized(*sides, "--out", str(tmp_path / "out"))
    assert done.returncode == 1, done.stderr
    assert "first wrong at layers.0.attn.q_proj" in done.stdout
    assert "known bug: weights.transposed" in done.stdout
    assert f"{tmp_path / 'fused'} stands apart" in done.stdout
    found = json.loads((tmp_path / "out" / "localization.json").read_text("utf-8"))
    fused, simple = found["located"]
    assert fused["broken"] == ["layers.0.attn.q_proj", "layers.0.attn.out"]
    assert simple["verdict"] == "same"
    rows = {row["tap"]: row for row in fused["rows"]}
    for cleared in ("attn.q", "attn.q_rope", "attn.scores", "attn.probs"):
        assert rows[f"layers.0.{cleared}"]["isolated"] < 1e-5
    assert "<table" in (tmp_path / "out" / "localization.html").read_text("utf-8")


def test_a_large_model_is_opened_one_layer_at_a_time(tmp_path: Path) -> None:
    from logitproof.jobs.spec import Side
    from logitproof.localization.engines import Asked, localize_engines

    def side(**options: Any) -> Side:
        return Side(Spec("transformers", {"threads": 1, **options}), ZOO / "qwen2.5", None, "side")

    candidate = {"wrong": side(mutation="weights.layer_duplicated")}
    whole = localize_engines(side(), candidate, IDS, asked=Asked(explain=False))
    small = localize_engines(side(), candidate, IDS, asked=Asked(explain=False, budget=1000))
    assert small.located[0].localization.broken == whole.located[0].localization.broken
    assert small.bytes_at_most < whole.bytes_at_most / 2


def test_a_candidate_without_taps_is_one_line_and_ends_nothing_for_the_others() -> None:
    from logitproof.jobs.session import Side
    from logitproof.localization.engines import Asked, localize_engines
    from logitproof.localization.tapped import NoTaps

    def side(engine: str, **options: Any) -> Side:
        return Side(Spec(engine, {"threads": 1, **options}), ZOO / "qwen3", None, engine)

    plain = Side(Spec("plain", {}), ZOO / "qwen3", None, "plain")
    candidates = {"plain": plain, "wrong": side("transformers", mutation="norm.one_added")}
    locations = localize_engines(side("transformers"), candidates, IDS, asked=Asked(explain=False))
    assert [located.name for located in locations.located] == ["wrong"] and locations.exit_code == 1
    (note,) = locations.notes
    assert note.startswith("plain offers no taps") and "logitproof diagnose" in note
    with pytest.raises(NoTaps, match="logitproof diagnose"):
        localize_engines(side("transformers"), {"plain": plain}, IDS, asked=Asked(explain=False))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["transformers:zoo/qwen3", "plain:zoo/qwen3", "--tokens", "1,2"], "offers no taps"),
        (["transformers:zoo/qwen3", "transformers:zoo/qwen3"], "nothing to feed"),
        (["transformers:zoo/qwen3", "transformers:zoo/qwen3", "--tokens", "1,x"], "no list of numbers"),
        (["transformers:zoo/qwen3", "transformers:zoo/qwen3", "--tokens", "1", "--layers", "3-1"], "no layer and no range"),
        (["nowhere"], "no such file or folder"),
    ],
)
def test_a_wrong_question_gets_one_clear_answer(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = localized(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_matrix_that_is_not_square_and_read_with_its_sides_exchanged_is_named(tmp_path: Path) -> None:
    """The same converter's fault on the twin: nothing is transposed there, the buffer is scrambled."""
    make = str(ROOT / "examples" / "two-paths" / "make.py")
    subprocess.run([sys.executable, make, str(tmp_path), "--twin"], check=True, timeout=120)
    done = localized(f"transformers:{tmp_path / 'model'}?threads=1", str(tmp_path / "fused"), "--out", str(tmp_path / "out"))
    assert done.returncode == 1, done.stderr
    (fused,) = json.loads((tmp_path / "out" / "localization.json").read_text("utf-8"))["located"]
    explaining = [entry for entry in fused["hypotheses"] if entry["explains"]]
    named = {(entry["tap"], entry["mutation"], tuple(entry["options"].values())) for entry in explaining}
    assert named == {
        ("layers.0.attn.q_proj", "weights.sides_exchanged", ()),
        ("layers.0.attn.out", "weights.sides_exchanged", ("o_proj",)),
    }
