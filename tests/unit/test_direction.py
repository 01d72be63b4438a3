"""A direction is told from noise: what is there is found below the noise, and noise alone, or a likeness, is no name."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from logitproof.comparison.chance import normal_of_student
from logitproof.diagnosis.direction import Direction, direction_of
from logitproof.diagnosis.found import Mutant

POSITIONS, SUMS, HIDDEN, TRIED = 96, 64, 24, 250
BUG = Mutant("rope.base", {}, 0.0)


def rows(seed: int, positions: int = POSITIONS) -> np.ndarray:
    """What hidden states that err give: of far fewer dimensions than there are sums, and larger in some positions."""
    chance = np.random.default_rng(seed)
    head = np.random.default_rng(0).normal(size=(HIDDEN, SUMS)) * np.geomspace(1, 0.1, HIDDEN)[:, None]
    made = chance.normal(size=(positions, HIDDEN)) * chance.uniform(0.5, 2, (positions, 1)) @ head
    return np.asarray(made / np.sqrt((made**2).mean()))


def along(wanted: np.ndarray, changed: np.ndarray) -> Direction:
    return direction_of(BUG, wanted, changed)


def is_named(direction: Direction) -> bool:
    return direction.is_there(TRIED) and direction.is_whole()


@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_a_bug_below_the_noise_is_there_as_it_is(noise: float) -> None:
    named = [is_named(along(rows(seed) + noise * rows(1000 + seed), rows(seed))) for seed in range(40)]
    assert np.mean(named) > 0.9


def test_noise_alone_points_along_no_bug() -> None:
    assert not any(along(rows(seed), rows(1000 + seed)).is_there(TRIED) for seed in range(200))


@pytest.mark.parametrize("strength", [0.5, 0.8, 1.25, 2.0, -1.0])
def test_a_bug_of_another_strength_is_another_bug(strength: float) -> None:
    assert not any(is_named(along(strength * rows(seed) + 0.3 * rows(1000 + seed), rows(seed))) for seed in range(20))


def test_what_is_alike_in_some_directions_only_is_another_bug() -> None:
    for seed in range(20):
        bug, strengths = rows(seed), np.random.default_rng(seed).uniform(0, 2, HIDDEN)
        directions = np.linalg.svd(bug)[2][:HIDDEN]
        direction = along(bug @ directions.T @ np.diag(strengths) @ directions + 0.3 * rows(1000 + seed), bug)
        assert direction.is_there(TRIED) and not direction.is_whole()


def test_what_is_alike_at_some_positions_only_is_another_bug() -> None:
    for seed in range(20):
        bug = rows(seed)
        growing = bug * np.linspace(0, 2, POSITIONS)[:, None]
        assert not is_named(along(growing + 0.3 * rows(1000 + seed), bug))


def test_one_position_is_no_direction() -> None:
    bug = rows(1) * (np.arange(POSITIONS) == 40)[:, None]
    assert not is_named(along(bug + 0.01 * rows(2), bug))


@pytest.mark.parametrize("positions", [2, 8, 20])
def test_few_positions_tell_nothing(positions: int) -> None:
    assert not is_named(along(rows(1, positions), rows(1, positions)))


def test_a_bug_that_changes_nothing_or_is_not_finite_is_no_direction() -> None:
    for value in (0.0, np.inf):
        with np.errstate(invalid="ignore", over="ignore"):
            assert not along(rows(1), np.full((POSITIONS, SUMS), value)).is_there(TRIED)


@pytest.mark.parametrize("t", [0.0, 0.5, 2.0, 5.0, 10.0])
@pytest.mark.parametrize("degrees", [11, 15, 31])
def test_a_deviate_is_as_likely_as_that_of_student(t: float, degrees: int) -> None:
    exact = stats.norm.isf(stats.t.sf(t, degrees))
    assert normal_of_student(t, degrees) == pytest.approx(exact, abs=0.02)


def test_nothing_is_as_unlikely_as_an_infinite_deviate() -> None:
    assert normal_of_student(np.inf, 3) == np.inf
