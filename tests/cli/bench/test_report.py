"""The report's arithmetic, on rounds made up for it."""

import pytest
from rich.console import Console

from chainrule.cli.bench.report import disturbed, number, summarise, table


def result(**changes):
    peer = {"agreement": {"loss": 1e-7, "movement": 1e-6, "agrees": True}, "first_call": 0.5, "memory": 3_000_000}
    return {
        "workload": "made up", "network": "4-2", "sizes": [4, 2], "batch": 8, "threads": 2, "interrupted": False,
        "flops": 1_000_000, "bytes": 200_000, "peak_gflops": 100.0, "stream_gbytes": 10.0,
        "peers": {
            "chainrule": {**peer, "rounds": [40.0, 50.0, 100.0], "first_call_cached": 0.25},
            "chainrule call": {**peer, "rounds": [20.0, 20.0, 20.0]},
            "torch": {**peer, "rounds": [80.0, 500.0, 150.0]},
            "jax scan": {**peer, "rounds": [60.0, 100.0, 120.0], "note": "differs a little"},
            "numpy": {**peer, "rounds": [10.0], "skipped": "not the same work as ours"},
        },
        **changes,
    }  # fmt: skip


def test_a_ratio_is_the_median_of_the_ratios_of_each_round():
    peers = summarise(result())["peers"]
    assert peers["torch"]["ratio"] == 2.0  # 2, 10, 1.5; the ratio of the medians would be 3
    assert peers["jax scan"]["ratio"] == 1.5
    assert peers["chainrule"]["ratio"] == 1.0
    assert peers["torch"]["microseconds"] == 150.0
    assert peers["torch"]["spread"] == [80.0, 500.0]


def test_the_best_peer_is_the_fastest_that_is_not_ours_and_was_timed():
    summary = summarise(result())
    assert (summary["best_peer"], summary["best_ratio"]) == ("jax scan", 1.5)


def test_shares_of_the_machine():
    summary = summarise(result())
    assert summary["peers"]["chainrule"]["gflops"] == pytest.approx(20.0)  # 1e6 in 50 us
    assert summary["share_of_peak"] == pytest.approx(0.2)
    assert summary["gbytes_per_second"] == pytest.approx(4.0)  # 200 kB in 50 us
    assert summary["roofline_microseconds"] == pytest.approx(20.0)  # 10 us of arithmetic, 20 us of memory
    assert summary["roofline_bound"] == "memory"
    assert summary["share_of_roofline"] == pytest.approx(0.4)


def test_rounds_cut_short_are_compared_as_far_as_both_go():
    cut = result()
    cut["peers"]["torch"]["rounds"] = [80.0]
    assert summarise(cut)["peers"]["torch"]["ratio"] == 2.0


def test_without_ours_there_are_no_ratios():
    failed = result()
    failed["peers"]["chainrule"] = {"skipped": "its process ended (exit code 1)"}
    summary = summarise(failed)
    assert summary["best_peer"] is None
    assert "share_of_peak" not in summary
    assert not any("ratio" in peer for peer in summary["peers"].values())


def test_the_table_says_everything():
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        console.print(table(summarise(result())))
    text = captured.get()
    for said in (
        "made up: 4-2, batch 8, 2 cores", "best peer: jax scan, 1.50 x ours",
        "20% of the peak of 100 GFLOP/s, 40% of the roofline (20.0 µs, by memory; 10 GB/s at this size)",
        "numpy: not the same work as ours", "jax scan: differs a little",
    ):  # fmt: skip
        assert said in text
    row = next(line.split() for line in text.splitlines() if line.strip().startswith("chainrule  "))
    assert row == ["chainrule", "50.0", "120%", "1.00", "0.500", "0.250", "3.0", "1e-07"]


@pytest.mark.parametrize(("load", "warned"), [(1.0, False), (3.5, True)])
def test_a_run_on_a_busy_machine_says_so(load, warned):
    expected = ["The machine was busy with other work (3.5 processes for each core): do not trust these figures."]
    assert disturbed(summarise(result(load=load))) == (expected if warned else [])


@pytest.mark.parametrize(
    ("value", "text"), [(0.0512, "0.05"), (3.14159, "3.14"), (31.41, "31.4"), (314.1, "314"), (31415.9, "31,416")]
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text
