"""Robust scaling and smooth clipping, by closed forms."""

import numpy as np
import pytest

from chainrule.data.scaling import RobustScaling, quantiles, smooth_clip

rng = np.random.default_rng(0)


def test_clipping_is_the_closed_form():
    z = np.array([0.0, 1.0, -2.0, 3.0, 1e6])
    np.testing.assert_allclose(smooth_clip(z), z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-14)
    assert abs(smooth_clip(np.array([1e200, -1e200]))).tolist() == [3.0, 3.0]
    slope = (smooth_clip(np.array([1e-6])) - smooth_clip(np.array([-1e-6]))) / 2e-6
    assert slope == pytest.approx(1, rel=1e-9)


def test_a_column_is_centred_on_its_median_and_divided_by_its_quartiles():
    X = rng.standard_normal((101, 2)) * [1.0, 1e-3] + [0.0, 5.0]
    found = RobustScaling.fit(X)
    np.testing.assert_array_equal(found.medians, np.median(X, axis=0))
    quartiles = np.quantile(X, 0.75, axis=0) - np.quantile(X, 0.25, axis=0)
    np.testing.assert_allclose(found.factors, 1 / quartiles, rtol=1e-12)
    np.testing.assert_allclose(found.transform(X), smooth_clip((X - np.median(X, axis=0)) / quartiles), rtol=1e-12)


def test_where_the_quartiles_are_equal_the_range_counts():
    X = np.array([[0.0]] * 9 + [[1.0]])  # a rare level, a column of its own
    assert RobustScaling.fit(X).factors.tolist() == [2.0]
    assert RobustScaling.fit(X).transform([[1.0]])[0, 0] == pytest.approx(2 / np.sqrt(1 + 4 / 9))


@pytest.mark.parametrize("value", [0.0, 7.0, -1e300, np.nan])
def test_a_constant_column_stays_constant_whatever_comes_later(value):
    found = RobustScaling.fit(np.full((5, 1), value))
    assert found.factors.tolist() == [0.0]
    assert np.nan_to_num(found.transform(np.array([[value], [1e308], [-3.0]]))).tolist() == [[0.0], [0.0], [0.0]]


def test_values_of_any_size_give_finite_ones():
    X = np.array([[-1.7e308, 1e-320], [1.7e308, 2e-320], [0.0, 3e-320], [1.0, 0.0]])
    with np.errstate(all="raise", under="ignore"):
        found = RobustScaling.fit(X)
    assert np.isfinite(found.transform(X)).all()
    assert abs(found.transform(X)).max() <= 3


def test_missing_values_stay_missing_and_do_not_count():
    X = np.array([[1.0], [np.nan], [3.0], [2.0]])
    found = RobustScaling.fit(X)
    assert found.medians.tolist() == [2.0]
    assert np.isnan(found.transform(X)).tolist() == [[False], [True], [False], [False]]


def test_a_row_of_weight_3_counts_as_three():
    X = rng.standard_normal((40, 3))
    X[rng.random(X.shape) < 0.1] = np.nan
    often = rng.integers(1, 5, 40)
    often[0] = 1
    shares = [0.0, 0.25, 0.5, 0.9, 1.0]
    expected = np.nanquantile(np.repeat(X, often, axis=0), shares, axis=0)
    np.testing.assert_allclose(quantiles(X, shares, often), expected, rtol=1e-12)
    np.testing.assert_allclose(quantiles(X, shares, often * 0.37), expected, rtol=1e-9)
    np.testing.assert_allclose(quantiles(X, shares, np.ones(40)), quantiles(X, shares), rtol=1e-12)


def test_no_rows_and_no_columns():
    assert RobustScaling.fit(np.zeros((0, 2))).transform(np.ones((1, 2))).tolist() == [[0.0, 0.0]]
    assert RobustScaling.fit(np.zeros((3, 0))).transform(np.zeros((3, 0))).shape == (3, 0)
    assert quantiles(np.zeros((3, 0)), [0.5], np.ones(3)).shape == (1, 0)
