"""The statistics, against planted truth and against scipy."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from regjax import comparison


def arms(rng: np.random.Generator, means: list[float], seeds: int) -> dict[str, np.ndarray]:
    """Scores with a planted mean an arm, an effect of each seed, and noise."""
    common = rng.normal(0, 1, seeds)
    return {f"arm {i}": m + common + rng.normal(0, 0.5, seeds) for i, m in enumerate(means)}


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_cover_the_planted_difference(seeds: int) -> None:
    """95 ± 2 % over 1,000 repetitions."""
    rng, covered = np.random.default_rng(seeds), 0
    for _ in range(1000):
        scores = arms(rng, [0.0, 0.7], seeds)
        pair = scores["arm 1"], scores["arm 0"]
        d = comparison.estimate(pair[0] - pair[1], resamples=800)
        covered += d.low <= 0.7 <= d.high
    assert 0.93 <= covered / 1000 <= 0.97


def test_no_difference_makes_no_winner() -> None:
    """Of 12 arms that are the same, one is called best alone in at most 5 % of studies."""
    rng = np.random.default_rng(0)
    wins = sum(len(comparison.tied_with_best(arms(rng, [0.0] * 12, 5))) == 1 for _ in range(100))
    assert wins <= 5


def test_a_large_difference_makes_a_winner() -> None:
    scores = arms(np.random.default_rng(0), [0.0, 0.2, 5.0], 10)
    assert comparison.tied_with_best(scores) == ["arm 2"]
    assert comparison.probability_best(scores)["arm 2"] > 0.99


def test_p_is_scipys_and_corrected_by_holm() -> None:
    scores = arms(np.random.default_rng(1), [0.0, 0.3, 0.6], 8)
    found = comparison.compare({n: (s, scores["arm 0"]) for n, s in scores.items() if n != "arm 0"})
    raw = [stats.ttest_rel(scores[n], scores["arm 0"]).pvalue for n in found]  # pyright: ignore
    corrected: Any = multipletests(raw, method="holm")[1]
    np.testing.assert_allclose([d.p for d in found.values()], corrected, rtol=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_statsmodels(p: list[float]) -> None:
    found = comparison.holm({str(i): value for i, value in enumerate(p)})
    expected: Any = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-12)


def test_probabilities_agree_with_the_t_distribution() -> None:
    """Of two arms, where all that differs between them is one paired difference."""
    scores = arms(np.random.default_rng(2), [0.0, 0.3], 6)
    d = scores["arm 1"] - scores["arm 0"]
    expected = stats.t.cdf(d.mean() / (d.std(ddof=1) / np.sqrt(6)), 5)
    assert comparison.probability_best(scores)["arm 1"] == pytest.approx(expected, abs=0.01)


def test_seeds_that_failed_leave_the_comparison() -> None:
    scores = {"a": np.array([1.0, np.nan, 1.2, 1.1]), "b": np.array([0.5, 0.6, 0.4, 0.45])}
    d = comparison.compare({"a": (scores["a"], scores["b"])})["a"]
    assert d.seeds == 3
    assert comparison.probability_best(scores) == {"a": 0.0, "b": 1.0}
    assert comparison.tied_with_best(scores) == ["b"]


def test_values_that_differ_by_rounding_have_no_spread() -> None:
    """Resamples of them are equal and would be divided by 0."""
    values = np.array([5.0, 5.0 + 1e-15, 5.0 - 1e-15])
    mean, low, high = comparison.estimate(values)
    assert low == mean == high == pytest.approx(5.0)


def test_differences_that_are_rounding_are_none() -> None:
    """The same three numbers summed in another order; and gaps that are one but for rounding."""
    terms = np.array([[0.1, 0.3], [0.2, 0.1], [0.3, 0.2]])
    first, second = terms.sum(0) / 3, terms[::-1].sum(0) / 3
    assert (first != second).any()
    d = comparison.compare({"a": (first, second)})["a"]
    assert (d.p, d.effect, d.told_apart) == (1.0, 0.0, False)
    assert comparison.tied_with_best({"a": first, "b": second}) == ["a", "b"]
    three = np.array([0.9, 0.8, 0.6]), np.array([0.8, 0.7, 0.5])
    assert np.ptp(three[0] - three[1]) > 0
    d = comparison.compare({"a": three})["a"]
    assert d.told_apart
    assert np.isnan(d.effect)


def test_of_two_pairs_hedges_correction_is_not_defined() -> None:
    d = comparison.compare({"a": (np.array([0.9, 0.8]), np.array([0.5, 0.6]))})["a"]
    assert np.isnan(d.effect)
    assert np.isfinite(d.p)


def test_equal_scores_and_single_seeds() -> None:
    same = np.array([0.9, 0.9, 0.9])
    d = comparison.compare({"a": (same, same)})["a"]
    assert (d.p, d.effect, d.told_apart) == (1.0, 0.0, False)
    one_seed = np.array([0.9])
    one = comparison.compare({"a": (one_seed, one_seed - 0.1)})["a"]
    assert np.isnan(one.p)
    assert np.isnan(
        list(comparison.probability_best({"a": one_seed, "b": one_seed}).values())
    ).all()
    assert not one.told_apart
    assert np.isnan(comparison.estimate(np.array([])).mean)


def test_trend_is_within_groups() -> None:
    """A group's own level, however strong, is no trend; Spearman's where there is one group."""
    rng = np.random.default_rng(0)
    groups = np.repeat(["a", "b"], 40)
    x = rng.normal(size=80) + 5 * (groups == "b")
    rho, p = comparison.trend(x, rng.normal(size=80) + 5 * (groups == "b"), groups)
    assert abs(rho) < 0.25
    assert p > 0.02
    y = x + rng.normal(size=80)
    rho, p = comparison.trend(x, y, np.zeros(80))
    expected = stats.spearmanr(x, y)
    np.testing.assert_allclose((rho, p), tuple(expected), rtol=1e-6)


@pytest.mark.parametrize(("groups", "points"), [(2, 2), (3, 2), (1, 5), (12, 8)])
def test_no_effect_makes_no_trend(groups: int, points: int) -> None:
    """However few trials: of p below .05 there are at most 5 %, but for the chance of 1,000."""
    rng = np.random.default_rng(groups)
    x, arm = np.tile(np.arange(points), groups), np.repeat(np.arange(groups), points)
    p = [comparison.trend(x, rng.normal(size=len(x)), arm, 499)[1] for _ in range(1000)]
    assert np.mean(np.array(p) < 0.05) <= 0.06


def test_a_trends_p_is_exact_on_few_points() -> None:
    """Of five in a row 2 of 120 orders are as clear; of two pairs, half."""
    x = np.arange(5.0)
    assert comparison.trend(x, x**2, np.zeros(5))[1] == pytest.approx(2 / 120, abs=0.005)
    pairs = np.array([1.0, 2.0, 1.0, 2.0])
    assert comparison.trend(pairs, pairs, np.repeat([0, 1], 2))[1] == pytest.approx(0.5, abs=0.02)
