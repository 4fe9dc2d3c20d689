"""The figures of the README and of the page of benchmarks are those of the latest run, and of nothing else."""

import importlib.util
import json
from pathlib import Path

import pytest

from chainrule.cli.bench.report import summarise

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def readme():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))  # it imports its neighbours
        yield loaded()


def loaded():
    spec = importlib.util.spec_from_file_location("benchmarks_readme", ROOT / "benchmarks" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_stands_between_the_markers_is_the_latest_run(readme):
    for path, measured in readme.published().items():
        text = path.read_text(encoding="utf-8")
        assert text == readme.rewrite(text, measured), "run: python benchmarks/readme.py"


def test_the_page_has_all_tables_and_the_readme_the_first(readme):
    tables = [text.count("\n|---|") for text in readme.published().values()]
    assert tables[0] == 1
    assert tables[1] >= 6


def test_the_headline_is_the_best_peers_ratio(readme):
    workload = {"network": "4-2", "batch": 8}
    results = [{**workload, "threads": 1, "best_ratio": 1.5}, {**workload, "threads": 2, "best_ratio": None}]
    assert readme.headline(results).endswith(
        "| network, batch | 1 core | 2 cores |\n|---|---|---|\n| 4-2, 8 | **1.50** |  |"
    )


def test_only_what_is_between_the_markers_changes(readme):
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    new = readme.rewrite(text, "new")
    assert new == f"before\n{readme.BEGIN}\n\nnew\n\n{readme.END}\nafter\n"
    assert readme.rewrite(new, "new") == new
    with pytest.raises(SystemExit, match="lacks the markers"):
        readme.rewrite("no markers", "new")


def test_figures(readme):
    peer = {"agreement": {"loss": 0.0, "movement": 0.0, "agrees": True}, "first_call": 0.5, "memory": 3_000_000}
    result = summarise({
        "workload": "made up", "network": "4-2", "batch": 8, "threads": 2, "flops": 1_000_000, "bytes": 1,
        "peak_gflops": 100.0, "stream_gbytes": 10.0,
        "peers": {
            "chainrule": {**peer, "rounds": [50.0], "first_call_cached": 0.25},
            "torch": {**peer, "rounds": [100.0]},
            "torch.compile": {"skipped": "no compiler"},
            "numpy": {**peer, "rounds": [75.0]},
        },
    })  # fmt: skip
    assert readme.steps([result]).endswith(
        "| network, batch | cores | chainrule | torch | numpy | best peer / ours | GEMM peak |\n"
        "|---|---|---|---|---|---|---|\n"
        "| 4-2, 8 | 2 | **50.0** | 100 (2.00) | 75.0 (1.50) | **1.50** | 20% |"
    )
    assert readme.latency([result]).endswith(
        "| network | chainrule | torch |\n|---|---|---|\n| 4-2 | 0.50 (0.25); 3 MB | 0.50; 3 MB |"
    )
    found = {"seconds": 0.5, "ratio": 1.0, "epochs": 23, "accuracy": 0.9722, "memory": 97_000_000, "import": 0.2}
    whole = {"threads": 2, "contenders": {"chainrule": found, "jax": None}}
    assert readme.whole_process(whole).endswith(
        "|---|---|---|---|---|---|---|\n| chainrule | 0.50 | 1.00 | 23 | 97.22% | 97 | 0.20 |"
    )
    point = {**result, "size": 8, "workload": "width 8"}
    assert readme.scaling({"width": [point]}).endswith(
        "1 interleaved rounds:\n\n"
        "| width n (64-n-n-10, batch 64) | chainrule | torch | numpy | best peer / ours |\n|---|---|---|---|---|\n"
        "| 8 | **50.0** | 100 (2.00) | 75.0 (1.50) | **1.50** |\n\n"
        "Not timed: torch.compile at width 8: no compiler."
    )
    forms = [{"case": "65", "gflops": {"ours": 10.0 * i}, "share": 0.1 * i, "ratio": {"MKL": float(i)}} for i in (1, 2)]
    assert readme.contraction({"peers": ["MKL"], "results": forms}).endswith(
        "| 65 x 65 x 65 | 10 - 20 | 10% - 20% | 1.00 - 2.00 |"
    )


def test_other_cpus_stand_there_in_short(readme, tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(readme, "ELSEWHERE", tmp_path / "elsewhere")
    workload = {"network": "4-2", "batch": 8, "threads": 2, "best_ratio": 1.5, "code": "old"}
    large = {"shape": [1000, 1000, 1000], "share": 0.875, "ratio": {"MKL": 1.0625}}
    run = {
        "machine": {"cpu": "elder"}, "results": [{**workload, "threads": 1, "best_ratio": 3.0}, workload],
        "contraction": {"peers": ["MKL"], "results": [large, {**large, "shape": [9, 9, 9], "share": 0.1}], "code": "old"},
    }  # fmt: skip
    readme.RESULTS.write_text(json.dumps(run))
    readme.make_room("elder")
    assert readme.RESULTS.exists()  # it is measured anew where it is
    readme.make_room("younger")
    assert not readme.RESULTS.exists()
    assert json.loads((readme.ELSEWHERE / "elder.json").read_text()) == run
    assert readme.others([run], {"new"}).endswith(
        "|  | 4-2, 8 | products of 1000 and more | MKL takes |\n|---|---|---|---|\n"
        "| elder, 2 cores, an earlier version | 1.50 | 88% - 88% of the peak | 1.06 - 1.06 |"
    )
    assert "elder, 2 cores, this version" in readme.others([run], {"old"})
    readme.make_room("elder")
    assert not list(readme.ELSEWHERE.glob("*.json"))
