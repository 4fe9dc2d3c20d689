"""A file of figures grows, goes on, and takes in others, but never mixes what cannot be compared."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "figures.py"
MACHINE = {"cpu": "one", "cores": 2}
TIMED = {"rounds": [1.0, 2.0]}


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("benchmarks_figures", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def point(**changes):
    return {"workload": "w", "threads": 2, "interrupted": False, "peers": {"ours": TIMED, "torch": TIMED}, **changes}


def kept(path):
    return json.loads(path.read_text())


def test_every_figure_is_in_the_file_at_once_and_only_once(figures, tmp_path):
    path = tmp_path / "run.json"
    found = figures.Figures(MACHINE, "new", [path])
    found.add_point("width", 16, point())
    found.add_point("width", 8, point())
    assert [p["size"] for p in kept(path)["series"]["width"]] == [8, 16]
    found.add_point("width", 16, point(peers={}))
    assert [p["peers"] for p in kept(path)["series"]["width"]] == [point()["peers"], {}]
    for threads in (1, 2, 1):
        found.add_result(point(threads=threads))
    found.add("whole_process", {"threads": 2})
    assert [r["threads"] for r in kept(path)["results"]] == [1, 2]
    assert kept(path)["whole_process"] == {"threads": 2, "code": "new"}


def test_files_of_one_machine_become_one(figures, tmp_path):
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, size in zip(paths, (8, 16), strict=True):
        figures.Figures(MACHINE, path.name, [path]).add_point("width", size, point())
    whole = figures.Figures(MACHINE, "new", [tmp_path / "all.json"])
    for path in paths:
        whole.take(path)
    run = kept(tmp_path / "all.json")
    assert [(p["size"], p["code"]) for p in run["series"]["width"]] == [(8, "a.json"), (16, "b.json")]
    assert figures.codes(run) == {"a.json", "b.json"}


def test_another_machine_is_refused(figures, tmp_path):
    path = tmp_path / "other.json"
    figures.Figures({**MACHINE, "cpu": "other"}, "new", [path]).add_point("width", 8, point())
    text = (
        f"{path} holds figures that no others here can stand beside: its cpu is 'other', here it is 'one'. "
        "Measure all anew (without --add), or give another file."
    )
    with pytest.raises(figures.FiguresError, match=f"^{re.escape(text)}$"):
        figures.Figures(MACHINE, "new").take(path)


@pytest.mark.parametrize(
    ("changed", "asked", "there"),
    [
        ({}, {}, True),
        ({"peers": {"ours": TIMED, "torch": {"skipped": "no answer within 300 s"}}}, {}, True),
        ({"peers": {"ours": TIMED}}, {}, False),
        ({"interrupted": True}, {}, False),
        ({"threads": 1}, {}, False),
        ({}, {"rounds": 3}, False),
        ({}, {"size": 16}, False),
        ({}, {"name": "depth"}, False),
    ],
)
def test_only_what_is_measured_to_its_end_is_left_out(figures, changed, asked, there):
    found = figures.Figures(MACHINE, "new")
    found.add_point("width", 8, point(**changed))
    wanted = {"name": "width", "size": 8, "threads": 2, "peers": ["ours", "torch"], "rounds": 2, **asked}
    assert found.has_point(**wanted) is there
    found.code = "newer"
    assert not found.has_point(**wanted)
