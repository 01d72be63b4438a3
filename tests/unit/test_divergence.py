"""`kl`: the figures of llama-perplexity, computed a second time in plain Python, over any engines, with nothing left behind."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from logitproof.cli import main
from logitproof.divergence import sides
from logitproof.divergence.ahead import Ahead, shared
from logitproof.divergence.measure import Asked, Divergence, measure
from logitproof.divergence.scores import Scores, of_kept, of_logits
from logitproof.divergence.statistics import figures
from logitproof.divergence.text import answer, document, label, shown
from logitproof.divergence.windows import Windows, cut
from logitproof.documents.chart import svg
from logitproof.documents.html import whole
from logitproof.documents.section import Chart, Series
from logitproof.engines.toy import Toy
from logitproof.errors import ContractError, EngineGarbage
from logitproof.jobs.spec import Side, Spec
from logitproof.readers import open_dump
from logitproof.report.schema import path as schema_path

TEXT = "".join(chr(97 + n * n % 26) for n in range(100))
V = 300


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (path := tmp_path / "toy.json").write_text(json.dumps({"vocab_size": V, "seed": 1}))
    return path


def plain_mean(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    variance = sum(value * value for value in values) / len(values) - mean * mean
    return mean, math.sqrt(max(variance, 0.0) / (len(values) - 1))


def test_the_figures_are_those_of_their_definitions() -> None:
    random = np.random.default_rng(3)
    windows = [
        Scores(random.exponential(0.1, 40), random.gamma(2, size=40), random.gamma(2, size=40), random.random(40) < 0.9)
        for _ in range(5)
    ]
    found = figures(windows)
    kl = [value for part in windows for value in part.kl_divergence.tolist()]
    nll = [value for part in windows for value in part.nll.tolist()]
    base = [value for part in windows for value in part.nll_base.tolist()]
    delta = [math.exp(-own) - math.exp(-other) for own, other in zip(nll, base, strict=True)]
    top = [float(value) for part in windows for value in part.same_top]
    close = {"kl_mean": plain_mean(kl), "delta_p_mean": plain_mean(delta)}
    (mean, error), (mean_base, error_base) = plain_mean(nll), plain_mean(base)
    both = sum(own * other for own, other in zip(nll, base, strict=True)) / len(nll)
    covariance = (both - mean * mean_base) / (len(nll) - 1)
    of_ratio = math.sqrt(error**2 + error_base**2 - 2 * covariance)
    ppl, ppl_base = math.exp(mean), math.exp(mean_base)
    difference = (ppl * error) ** 2 + (ppl_base * error_base) ** 2 - 2 * ppl * ppl_base * covariance
    square, square_error = plain_mean([value * value for value in delta])
    share = sum(top) / len(top)
    close |= {
        "ppl": (ppl, ppl * error),
        "ppl_base": (ppl_base, ppl_base * error_base),
        "log_ppl_ratio": (mean - mean_base, of_ratio),
        "ppl_ratio": (math.exp(mean - mean_base), math.exp(mean - mean_base) * of_ratio),
        "ppl_difference": (ppl - ppl_base, math.sqrt(difference)),
        "delta_p_rms": (math.sqrt(square), 0.5 / math.sqrt(square) * square_error),
        "same_top": (share, math.sqrt(share * (1 - share) / (len(top) - 1))),
    }
    for name, (value, deviation) in close.items():
        assert found[name].value == pytest.approx(value, rel=1e-12), name
        assert found[name].error == pytest.approx(deviation, rel=1e-9), name
    assert found["correlation"].value == pytest.approx(covariance / (error * error_base), rel=1e-9)
    assert found["kl_p99"].value == pytest.approx(np.percentile(kl, 99), rel=1e-5)
    assert found["kl_median"].value == pytest.approx(np.median(kl), rel=1e-6)
    assert found["delta_p_min"].value == pytest.approx(min(delta), rel=1e-6)
    for name in ("ppl", "ppl_base", "log_ppl_ratio", "ppl_ratio", "kl_mean", "delta_p_mean", "delta_p_rms", "same_top"):
        low, high = found[name].interval or (math.nan, math.nan)
        assert low <= found[name].value <= high, name
    assert figures(windows[:1])["kl_mean"].interval is None


def test_a_window_counts_its_second_half_without_the_last_row() -> None:
    windows = cut(range(27), 8, None, bos=99)
    assert len(windows) == 3 and windows.first == 4 and windows.rows == 3
    assert windows.fed(1) == [99, 9, 10, 11, 12, 13, 14, 15] and windows.labels(1).tolist() == [13, 14, 15]
    assert len(cut(range(27), 8, 2, None)) == 2
    with pytest.raises(ContractError, match="the text has 7 tokens, a window 8"):
        cut(range(7), 8, None, None)


def test_what_is_measured_is_what_a_script_computes_from_the_same_rows(model: Path) -> None:
    found = measure(f"toy:{model}", [f"toy:{model}?noise=0.05"], Asked(TEXT, context=20))
    base, candidate = Toy(), Toy(noise=0.05)
    ids = [1 + byte for byte in TEXT.encode()]
    expected: list[float] = []
    for engine in (base, candidate):
        engine.load(model)
    for start in range(0, 100, 20):
        p, q = (engine.score(ids[start : start + 20], "prefill").logits.astype(np.longdouble) for engine in (base, candidate))
        for row in range(10, 19):
            log_p, log_q = (one[row] - np.log(np.exp(one[row]).sum()) for one in (p, q))
            expected.append(float((np.exp(log_p) * (log_p - log_q)).sum()))
    (measured,) = found.candidates
    assert found.positions == len(expected) == 45 and found.windows == 5
    assert measured.figures["kl_mean"].value == pytest.approx(np.mean(expected), rel=1e-9)
    assert np.concatenate([part.kl_divergence for part in measured.scores]) == pytest.approx(expected, rel=1e-6)


def test_candidates_share_one_pass_of_the_base_and_nothing_is_left(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps: list[str] = []
    step = sides.EngineSide.step
    monkeypatch.setattr(sides.EngineSide, "step", lambda side, *given: steps.append(side.name) or step(side, *given))
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(sides, "SHARED_MEMORY", scratch / "not there")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    names = [f"toy:{model}?noise={noise}" for noise in (0.2, 0.01)]
    found = measure(f"toy:{model}", names, Asked(TEXT, context=20))
    assert steps.count(f"toy:{model}") == 5 and len(steps) == 15
    assert not [path for path in scratch.rglob("*") if path.is_file()]
    page = document(found)
    assert page.verdict.reason.startswith(f"nearest is {names[1]}")
    assert "<svg" in whole(page) and found.exit_code == 0


def test_a_candidate_that_fails_stands_in_its_place_and_the_others_go_on(model: Path, tmp_path: Path) -> None:
    (other := tmp_path / "other.json").write_text(json.dumps({"vocab_size": V + 1, "seed": 1}))
    names = [f"toy:{model}?fault=crash&fault_at=2", f"toy:{model}?noise=0.1", f"toy:{other}", f"toy:{model}?fault=nan"]
    found = measure(f"toy:{model}", names, Asked(TEXT, context=20))
    died, measured, foreign, broken = found.candidates
    assert "its process ended" in died.failure and not died.figures
    assert "a vocabulary of 301, the base one of 300" in foreign.failure
    assert "nan" in broken.failure
    assert measured.figures["kl_mean"].value > 0 and not measured.failure
    assert found.exit_code == 3
    shown_page = str(document(found).sections)
    assert all(name in shown_page for name in names) and "3 of 4 candidates failed" in document(found).verdict.reason


def test_where_every_candidate_fails_nothing_was_measured(model: Path) -> None:
    found = measure(f"toy:{model}", [f"toy:{model}?fault=crash"], Asked(TEXT, context=20))
    assert document(found).verdict.status == "NOT-MEASURED" and found.exit_code == 3


def test_a_base_file_stands_for_the_base_that_wrote_it(model: Path, tmp_path: Path) -> None:
    names, saved = [f"toy:{model}?noise=0.3"], tmp_path / "saved.kld"
    (exact,) = measure(f"toy:{model}", names, Asked(TEXT, context=20, save=saved)).candidates
    dump = open_dump(saved)
    assert [len(prompt.token_ids) for prompt in dump.prompts] == [20] * 5 and dump.format == "llamacpp_kl_base"
    found = measure(str(saved), names, Asked())
    (kept,) = found.candidates
    assert found.windows == 5 and found.context == 20
    for name in ("kl_mean", "ppl", "ppl_base", "delta_p_rms", "same_top"):
        assert kept.figures[name].value == pytest.approx(exact.figures[name].value, rel=2e-3), name


def test_a_base_file_is_whole_or_not_there(model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.kld"
    with pytest.raises(Exception, match="its process ended"):
        measure(f"toy:{model}?fault=crash&fault_at=2", [f"toy:{model}"], Asked(TEXT, context=20, save=saved))
    assert not saved.exists()


def test_entries_at_the_clamp_of_a_base_file_are_left_out() -> None:
    base = np.array([[-0.1, -2.4, -16.0, -16.5]], np.float32)
    candidate = np.array([[0.0, -2.0, -1.0, 5.0]], np.float32)
    log_q = candidate[0] - np.log(np.exp(candidate[0].astype(np.float64)).sum())
    expected = sum(math.exp(p) * (p - q) for p, q in zip([-0.1, -2.4], log_q[:2].tolist(), strict=True))
    found = of_kept(base, candidate, np.array([1]))
    assert found.kl_divergence[0] == pytest.approx(expected, rel=1e-5)
    assert found.nll_base[0] == pytest.approx(2.4) and not found.same_top[0]


def test_a_token_that_one_side_alone_masks_is_no_number() -> None:
    base, masked = np.zeros((3, 5), np.float32), np.zeros((3, 5), np.float32)
    masked[1, 2] = -np.inf
    with pytest.raises(EngineGarbage, match="not finite at row 1, and at 1 of 3 rows"):
        of_logits(base, masked, np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("base", "names", "asked", "text"),
    [
        ("toy:MODEL", ["toy:MODEL"], Asked(TEXT), "is the base itself"),
        ("toy:MODEL", ["toy:MODEL?noise=1"], Asked(None), "there is no text"),
        ("toy:MODEL", ["toy:MODEL?noise=1"], Asked("short"), "the text has 5 tokens"),
        ("toy:MODEL", ["not-there.gguf"], Asked(TEXT), "not-there.gguf"),
    ],
)
def test_what_cannot_be_measured_is_refused(model: Path, base: str, names: list[str], asked: Asked, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        measure(base.replace("MODEL", str(model)), [name.replace("MODEL", str(model)) for name in names], asked)


def test_the_command_writes_what_it_says(model: Path, tmp_path: Path) -> None:
    (text := tmp_path / "text.txt").write_text(TEXT + "\n")
    out = tmp_path / "out"
    candidates = [f"toy:{model}?noise=0.1", f"toy:{model}?noise=0.2"]
    arguments = ["kl", f"toy:{model}", *candidates, "--text", str(text), "--context", "20", "--out", str(out), "--json"]
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code == 0, ran.output
    made = json.loads((out / "kl.json").read_text("utf-8"))
    jsonschema.validate(made, json.loads(schema_path("kl").read_text("utf-8")))
    assert [one["name"] for one in made["candidates"]] == candidates and made["positions"] == 45
    assert (out / "kl.svg").read_text("utf-8").startswith("<svg") and "Same top p" in (out / "kl.html").read_text("utf-8")
    assert json.loads(ran.stdout)["candidates"] == made["candidates"]


def test_figures_have_the_names_and_digits_of_the_tool(model: Path) -> None:
    found: Divergence = measure(f"toy:{model}", [f"toy:{model}?noise=0.1"], Asked(TEXT, context=20, windows=1))
    names = {label(name) for name in found.candidates[0].figures}
    assert {"Mean PPL(Q)-PPL(base)", "99.9% KLD", "0.1% Δp", "RMS Δp", "Same top p"} < names and len(names) == 34
    assert (shown("kl_p99.9", 0.0123456), shown("same_top", 0.90079), shown("correlation", 0.99658)) == (
        "0.012346", "90.079%", "99.66%",
    )  # fmt: skip
    assert answer(found, "").data["windows"] == 1


def test_the_picture_has_a_place_for_every_size_and_power_of_ten() -> None:
    sizes = (Series("Q8_0", ((144.8, 5e-4), (144.8, 7e-4))), Series("Q4_1", ((98.3, 0.05), (98.3, 0.07))))
    drawn = svg(Chart("points", sizes, "MB", "nats", "two files", logarithmic=True))
    labels = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert {"0", "98.3", "145", "0.0001", "0.1", "Q8_0", "Q4_1"} <= set(labels)
    assert drawn.count("<circle") == 4


# Sides that compute at once


def given(count: int, *options: str, threads: int = 2) -> tuple[list[Side], list[str]]:
    names = [f"{Path(__file__).parent}", *([str(Path(__file__))] * (count - 1))]
    spec = Spec("llamacpp", {"threads": threads, **dict.fromkeys(options, "bf16")})
    return [Side(spec, Path(name).resolve(), None, name) for name in names], names


@pytest.mark.parametrize(("count", "threads", "each", "at_once"), [(2, 2, 1, 2), (3, 8, 2, 3), (3, 2, 1, 2), (2, 5, 2, 2)])
def test_weights_that_are_named_share_the_threads(count: int, threads: int, each: int, at_once: int) -> None:
    made, turns = shared(*given(count, threads=threads), threads)
    assert turns == at_once and [side.spec.options for side in made] == [{"threads": each}] * count


def test_one_side_or_one_thread_has_all_of_them() -> None:
    for count, threads in ((1, 8), (2, 1)):
        sides_of_text, names = given(count, threads=threads)
        assert shared(sides_of_text, names, threads) == (sides_of_text, 1)


def test_an_engine_that_is_named_with_its_options_keeps_them_and_takes_turns() -> None:
    sides_of_text, names = given(2)
    asked = [names[0], f"llamacpp:{names[1]}?threads=2"]
    assert shared(sides_of_text, asked, 2) == (sides_of_text, 1)
    folder = [sides_of_text[0], replace(sides_of_text[1], spec=Spec("transformers"))]
    assert shared(folder, names, 2) == (folder, 1)


class Stepped:
    """A side that notes who else computes while it does, and fails at a window where it is told to."""

    name, vocab_size = "stepped", 3

    def __init__(self, running: list[int], meet: threading.Barrier | None = None, fails_at: int = -1) -> None:
        self.running, self.meet, self.fails_at = running, meet, fails_at
        self.most = 0

    def step(self, windows: Windows, index: int) -> np.ndarray:
        self.running.append(index)
        if self.meet is not None:
            self.meet.wait(20)
        self.most = max(self.most, len(self.running))
        self.running.pop()
        if index == self.fails_at:
            raise EngineGarbage("no rows")
        return np.full((2, 3), float(index))

    def scores(self, base: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> Scores:
        raise AssertionError("nobody asks it")


WINDOWS = Windows(np.zeros((5, 6), np.int64))


def test_sides_compute_at_once_and_each_window_comes_in_its_turn() -> None:
    meet = threading.Barrier(2)
    both = [Stepped([], meet), Stepped([], meet)]  # neither gets past the other's step
    with Ahead(both[0], WINDOWS, threading.Semaphore(2)) as first, Ahead(both[1], WINDOWS, threading.Semaphore(2)) as second:
        for index in range(len(WINDOWS)):
            assert first.rows(index)[0, 0] == second.rows(index)[0, 0] == index


def test_sides_that_take_turns_never_compute_at_once() -> None:
    running: list[int] = []
    both, turns = [Stepped(running), Stepped(running)], threading.Semaphore(1)
    with Ahead(both[0], WINDOWS, turns) as first, Ahead(both[1], WINDOWS, turns) as second:
        for index in range(len(WINDOWS)):
            assert first.rows(index)[0, 0] == second.rows(index)[0, 0] == index
    assert [side.most for side in both] == [1, 1]


def test_what_an_engine_raises_is_raised_at_its_window_and_no_sooner() -> None:
    with Ahead(Stepped([], fails_at=2), WINDOWS, threading.Semaphore(1)) as side:
        assert [side.rows(index)[0, 0] for index in (0, 1)] == [0, 1]
        with pytest.raises(EngineGarbage):
            side.rows(2)


def test_a_base_file_loads_no_compiled_comparison(model: Path, tmp_path: Path) -> None:
    saved = tmp_path / "base.kld"
    measure(f"toy:{model}", [f"toy:{model}?noise=0.05"], Asked(TEXT, context=20, save=saved))
    program = "import sys; from logitproof.divergence.measure import Asked, measure"
    program += "; m = measure(sys.argv[1], [sys.argv[2]], Asked())"
    program += "; print(m.exit_code, 'numba' in sys.modules)"
    argv = [sys.executable, "-c", program, str(saved), f"toy:{model}?noise=0.05"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "False"]
