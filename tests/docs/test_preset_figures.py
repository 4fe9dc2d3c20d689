"""The figures of the tabular preset can be looked at while they are measured."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")

FILE = Path(__file__).parents[2] / "benchmarks" / "tabular_preset.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmarks_tabular_preset", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def splits(*errors):
    return [{"error": error, "rows": 100, "seconds": 2.0} for error in errors]


def test_sets_and_splits_that_are_not_done_are_left_out(benchmark, capsys):
    found = {
        "wine": {"preset": splits(0.1, 0.2, 0.3), "boosting": splits(0.2, 0.4)},
        "digits": {"preset": splits(0.1), "boosting": splits(0.2, 0.9)},
        "breast_cancer": {"preset": splits(0.1), "boosting": []},
        "diabetes": {"preset": [], "boosting": splits(0.1)},
        "abalone": {},
    }
    benchmark.show(found)
    shown = capsys.readouterr().out.splitlines()
    assert shown[:5] == [
        "| set | rows in test | preset: error | s | boosting: error (t) | times as long |",
        "|---|---|---|---|---|---|",
        "| wine | 100 | 0.2 | 2.00 | 0.3 (-3.0) | 1.0 |",  # its own error is that of all its splits
        "| digits | 100 | 0.1 | 2.00 | 0.2 (+0.0) | 1.0 |",
        "| breast_cancer | 100 | 0.1 | 2.00 |  |  |",
    ]
    assert shown[6].endswith("2 sets")
    assert shown[-1] == "  CPU time in all 6 s against 6 s: 1.00 times; least on wine: 1.00"
