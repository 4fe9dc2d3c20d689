"""On how many threads: the choice against a machine that changes, its clock simulated."""

from types import SimpleNamespace

import pytest

from chainrule.compiler.plan import cost
from chainrule.compiler.runtime import thread_tuner
from chainrule.compiler.runtime.thread_tuner import ThreadTuner

ALONE, SHARED, DISTURBED = 850e-6, 480e-6, 1800e-6


class Machine:
    """A clock, and how long a step takes on so many threads at a time."""

    def __init__(self, monkeypatch, step):
        self.now, self.step, self.used = 100.0, step, {1: 0, 2: 0}
        monkeypatch.setattr(thread_tuner.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(thread_tuner, "available_cpus", lambda: 2)

    def run(self, pace, seconds):
        """Seconds a step over a run of about so many seconds."""
        return self.run_steps(pace, int(seconds / SHARED))

    def run_steps(self, pace, steps):
        began, left, self.used = self.now, steps, {1: 0, 2: 0}
        while left:
            threads, count = pace.choose(left, 2)
            pace.note(threads, count, self.advance(threads, count))
            self.used[threads] += count
            left -= count
        return (self.now - began) / steps

    def advance(self, threads, count):
        began = self.now
        for _ in range(count):
            self.now += self.step(threads, self.now)
        return self.now - began

    def rest(self, seconds):
        self.now += seconds


def division(shared=SHARED, alone=ALONE):
    return SimpleNamespace(
        threaded=True,
        total=alone * 1e9,
        best=lambda limit: limit,
        estimate=lambda threads: (shared if threads > 1 else alone) * 1e9,
    )


def quiet(threads, now):
    return SHARED if threads > 1 else ALONE


@pytest.mark.parametrize("estimate", [SHARED, ALONE], ids=["estimated well", "estimated badly"])
def test_a_quiet_machine_is_used_whole(monkeypatch, estimate):
    machine, chosen = Machine(monkeypatch, quiet), ThreadTuner(division(estimate))
    machine.run(chosen, 0.2)
    assert machine.run(chosen, 2.0) < 1.02 * SHARED


def test_a_machine_busy_with_other_work_is_soon_found_out(monkeypatch):
    machine = Machine(monkeypatch, lambda threads, now: DISTURBED if threads > 1 else ALONE)
    assert machine.run(ThreadTuner(division()), 0.2) < 1.1 * ALONE


def test_probes_of_a_machine_that_stays_busy_cost_little(monkeypatch):
    machine = Machine(monkeypatch, lambda threads, now: DISTURBED if threads > 1 else ALONE)
    chosen = ThreadTuner(division())
    machine.run(chosen, 0.2)
    assert machine.run(chosen, 5.0) < 1.015 * ALONE


@pytest.mark.parametrize("rounds", [1, 3, 20])
def test_a_disturbance_at_the_beginning_of_each_run_is_left_behind(monkeypatch, rounds):
    """As where another library's threads spin for a tenth of a second after their last work."""
    until = 0.0
    machine = Machine(monkeypatch, lambda threads, now: ALONE if threads == 1 else DISTURBED if now < until else SHARED)
    chosen = ThreadTuner(division())
    machine.run(chosen, 0.5)
    for _ in range(rounds):
        machine.rest(1.0)
        until = machine.now + 0.1
        began = machine.now
        machine.run(chosen, 1.0)
        # Nothing is better than one thread until then and two after.
        steps = int(1.0 / SHARED)
        best = 0.1 + (steps - 0.1 / ALONE) * SHARED
        assert machine.now - began < 1.15 * best


def test_after_a_pause_what_lost_before_it_is_tried_soon(monkeypatch):
    """As on a virtual machine whose cores move apart and together."""
    near = {"is": False}
    machine = Machine(
        monkeypatch, lambda threads, now: quiet(threads, now) if near["is"] else max(ALONE, threads * ALONE)
    )
    chosen = ThreadTuner(division())
    machine.run(chosen, 3.0)
    assert machine.used[1] > 0.9 * sum(machine.used.values())
    near["is"] = True
    machine.rest(1.0)
    machine.run(chosen, 0.3)
    assert machine.used[2] > 0.9 * sum(machine.used.values())


def test_a_single_slow_stretch_changes_nothing_for_long(monkeypatch):
    slow = {"left": 10}

    def step(threads, now):
        if threads > 1 and now > 101.0 and slow["left"]:
            slow["left"] -= 1
            return DISTURBED
        return quiet(threads, now)

    machine, chosen = Machine(monkeypatch, step), ThreadTuner(division())
    machine.run(chosen, 1.5)
    assert machine.run(chosen, 1.0) < 1.03 * SHARED


def test_long_steps_are_not_spent_on_probes(monkeypatch):
    """Runs of four steps with pauses between: a pause makes no probe cheaper."""
    machine = Machine(monkeypatch, lambda threads, now: 7e-3 if threads > 1 else 15e-3)
    chosen, used = ThreadTuner(division(7e-3, 15e-3)), 0
    for _ in range(50):
        machine.rest(3.0)
        machine.run_steps(chosen, 4)
        used += machine.used[1]
    assert used <= 3


def test_one_long_loop_on_a_busy_machine_is_not_lost(monkeypatch):
    """The estimate says two threads, the machine says a hundred times slower: a few steps tell."""
    machine = Machine(monkeypatch, lambda threads, now: 50e-3 if threads > 1 else ALONE)
    machine.run_steps(ThreadTuner(division()), 10_000)
    assert machine.used[2] <= 20


def test_a_run_that_ends_before_the_workers_wake_stays_alone(monkeypatch):
    monkeypatch.setattr(cost, "WAKE", 1e9)
    machine, chosen = Machine(monkeypatch, quiet), ThreadTuner(division())
    for _ in range(5):
        machine.run_steps(chosen, 10)
        assert machine.used == {1: 10, 2: 0}


def test_few_steps_do_not_wake_anyone(monkeypatch):
    machine, chosen = Machine(monkeypatch, quiet), ThreadTuner(division(SHARED / 100, ALONE / 100))
    assert chosen.choose(3, 2) == (1, 3)
    assert machine.now == 100.0


def test_the_number_of_threads_may_be_set_anew(monkeypatch):
    machine, chosen = Machine(monkeypatch, quiet), ThreadTuner(division())
    machine.run(chosen, 0.3)
    assert chosen.choose(1000, 1) == (1, 1000)
    assert chosen.choose(1000, 2)[0] == 2


def test_one_thread_is_enough_until_a_probe_is_due(monkeypatch):
    machine, chosen = Machine(monkeypatch, lambda threads, now: threads * ALONE), ThreadTuner(division())
    assert not chosen.alone(100, 2)  # two are said to be faster
    machine.run(chosen, 1.0)
    assert chosen.favourite == 1 and chosen.alone(100, 2)
    machine.run(chosen, 1.0)
    before = chosen.again
    assert chosen.ran < before
    chosen.note(1, 100, before - chosen.ran)  # what took them all at once says how long they took
    assert not chosen.alone(100, 2)
    assert chosen.alone(0, 2)  # too few to be shared
    machine.run(chosen, 0.1)
    assert chosen.alone(100, 2)
