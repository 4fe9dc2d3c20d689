"""Trainings stopped at random moments and resumed have the bits of trainings without a stop; see stops.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("stops", Path(__file__).with_name("stops.py"))
stops = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stops)

known = {}


def whole(seed):
    if seed not in known:
        known[seed] = stops.whole(seed)
    return known[seed]


@pytest.mark.filterwarnings("ignore:.*traced .* times")
@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("kind", ["line", "error", "disk"])
def test_a_stopped_training_goes_on_to_the_same_bits(tmp_path, kind, seed):
    found, expected = stops.trial(tmp_path, seed, kind, whole(seed))
    assert found == expected


@pytest.mark.filterwarnings("ignore:.*traced .* times")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("kind", ["term", "kill", "death"])
def test_a_training_that_the_system_ends_goes_on_to_the_same_bits(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("PYTHONPATH", str(Path(stops.cr.__file__).parents[1]))
    found, expected = stops.trial(tmp_path, 7, kind, whole(7))
    assert found == expected


@pytest.mark.hunt
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(300))
def test_300_stops(tmp_path, monkeypatch, number):
    monkeypatch.setenv("PYTHONPATH", str(Path(stops.cr.__file__).parents[1]))
    found, expected = stops.trial(tmp_path, number // len(stops.KINDS), stops.KINDS[number % len(stops.KINDS)])
    assert found == expected
