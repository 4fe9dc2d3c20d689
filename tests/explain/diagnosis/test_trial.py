"""What makes a suspicion a finding, and which of several comes first."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from chainrule.explain.diagnosis.experiment import Replay
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.report import Diagnosis, Experiment, finding
from chainrule.explain.diagnosis.rules import RULES, Suspicion
from chainrule.explain.diagnosis.task import Score
from chainrule.explain.diagnosis.trial import _GAINS, Case, Effect, ranked


def rows(mean, spread=0.0):
    return dict.fromkeys(("learned", "right", "recall"), mean + spread * np.resize([1.0, -1.0], 100))


def replay(train, val=None):
    val = train if val is None else val
    a, b = (Score(v, v, v, 1 - v, v, rows(v)) for v in (train, val))
    return Replay(np.zeros(1), a, b, np.zeros((100, 1)))


def effect(gains, reached=None, remedy=Remedy(lr=0.1), error=0.0):  # noqa: B008 - it is immutable
    return Effect(remedy, Remedy(), gains, reached or gains, replay(0.2), replay(0.2 + gains[0]), error)


def case(name, gains, late=False, **known):
    return Case(RULES[name], Suspicion("x is 3", "0.weight", 7, late), (effect(gains, **known),))


@pytest.mark.parametrize(
    ("gains", "reached", "certain"),
    [
        ((0.5, 0.4, 0.6), None, True),
        ((0.09, 0.4, 0.6), None, False),  # too little for the run itself
        ((0.2, 0.0, 0.0), (0.2, 0.2, 0.2), True),  # with other orders the run fares better, with the remedy it always does
        ((0.12, 0.0, 0.0), (0.12, 0.12, 0.12), False),  # too little on average
        ((0.12, 0.1, 0.1), (0.12, 0.07, 0.07), False),  # what it reaches is too little on average
        ((0.5, 0.5, 0.5), (0.5, 0.02, 0.5), False),  # one order of the rows in which the remedy does not help
        ((0.5, -0.1, 0.5), None, False),
    ],
)  # fmt: skip
def test_what_is_certain(gains, reached, certain):
    assert effect(gains, reached).certain(0.1) is certain


def test_a_gain_must_be_significant_over_the_rows():
    assert effect((0.15, 0.15, 0.15), error=0.09).certain(0.1)
    assert not effect((0.15, 0.15, 0.15), error=0.1).certain(0.1)


def gain(measure, before, after):
    return _GAINS[measure](before, after)[0]


def test_what_rows_held_out_lose_counts_against_a_remedy():
    assert gain("learned", replay(0.5, 0.5), replay(0.9, 0.6)) == pytest.approx(0.4)
    assert gain("learned", replay(0.5, 0.5), replay(0.9, 0.3)) == pytest.approx(-0.2)
    assert gain("either", replay(0.9, 0.3), replay(0.9, 0.6)) == pytest.approx(0.3)
    assert gain("either", replay(0.9, 0.3), replay(0.5, 0.6)) == pytest.approx(-0.4)
    assert gain("held_out", replay(0.9, 0.3), replay(0.5, 0.6)) == pytest.approx(0.3)


def test_rows_held_out_are_compared_row_by_row():
    before, after = replay(0.5, 0.3), replay(0.5, 0.6)
    before.val.by_row.update(rows(0.3, spread=9.0))
    assert _GAINS["held_out"](before, after) == pytest.approx((0.3, 0.9, True))
    after.val.by_row.update(rows(0.6, spread=9.0))  # rows that are hard before and after say nothing of the remedy
    assert _GAINS["held_out"](before, after) == pytest.approx((0.3, 0, True))


def order(*cases):
    return [c.rule.name for c in ranked(list(cases))]


def test_rank_decides_between_remedies_that_do_about_equally_well():
    rate, inputs = case("learning_rate_too_high", (0.6, 0.6)), case("unnormalised_inputs", (0.5, 0.5))
    assert order(rate, inputs) == ["unnormalised_inputs", "learning_rate_too_high"]
    assert order(rate, case("unnormalised_inputs", (0.3, 0.3)))[0] == "learning_rate_too_high"
    assert order(rate, case("dead_units", (0.6, 0.6), late=True))[0] == "learning_rate_too_high"
    assert order(rate, case("dead_units", (0.6, 0.6)))[0] == "dead_units"
    assert order(case("unnormalised_inputs", (0.05, 0.05))) == []


def test_a_control_is_confirmed_by_no_change():
    assert case("shuffled_labels", (0.01, -0.02)).confirmed
    assert not case("shuffled_labels", (-0.6, -0.5)).confirmed


def test_the_text_of_a_finding():
    cases = [case("initialisation_too_large", (0.5, 0.4)), case("learning_rate_too_high", (0.1, 0.1))]
    diagnosis = Diagnosis(
        [finding(cases[0], cases)], ["initialisation_too_large"], [], "It ends.", 4, True, ["A note."]
    )
    assert str(diagnosis) == (
        "1 finding, the likeliest first. It ends.\n"
        "\n"
        "1. The weights start too large (0.weight).\n"
        "   Evidence, first seen after step 7: x is 3.\n"
        "   Remedy, measured: learning rate times 0.1: loss 0.8, accuracy 20.0% -> loss 0.3, accuracy 70.0% (training\n"
        "   rows); over 2 seeds it changes what is learned by +45% (at least +40%).\n"
        "   Tried instead:\n"
        "   - learning rate too high: learning rate times 0.1: loss 0.8, accuracy 20.0% -> loss 0.7, accuracy 30.0%\n"
        "     (training rows), +10%\n"
        "\n"
        "Checked by 4 replays: initialisation too large.\n"
        "A note."
    )
    assert diagnosis.as_dict()["findings"][0]["alternatives"][0]["cause"] == "learning_rate_too_high"


def curves(before, after, remedy):
    a, b = (
        Replay(np.array(losses, float), *[Score(0, 0, 0, 1, 0)] * 2, np.zeros((1, 1))) for losses in (before, after)
    )
    return Experiment.of(Effect(remedy, Remedy(), (0.1,), (0.1,), a, b)).curves


def test_curves_are_over_the_same_share_of_the_rows():
    half = curves([4, 3, 2, 1], [4, 3], Remedy(stop=0.5))
    assert half == {"at": [1, 2, 3, 4], "before": [4, 3, 2, 1], "after": [4, 3, None, None]}
    assert curves([4, 3, 2, 1], [8, 6], Remedy(batch=64))["after"] == [8, 8, 6, 6]
    assert curves([8, 6], [4, 3, 2, 1], Remedy(batch=16))["after"] == pytest.approx([3.5, 1.5])
    assert curves([1, np.nan, 1], [1, 2, 3], Remedy(lr=0.1))["before"] == [1, None, None]


def test_a_long_curve_has_a_hundred_points():
    found = curves(np.arange(1000), np.arange(1000), Remedy(lr=0.1))
    assert (len(found["at"]), found["at"][0], found["at"][-1]) == (100, 10, 1000)
    assert found["before"] == found["after"] == pytest.approx(np.arange(4.5, 1000, 10))


def test_a_gain_on_rows_held_out_is_told_with_its_error():
    found = replace(case("overfitting", (0.5, 0.4)), effects=(replace(effect((0.5, 0.4)), error=0.04, held_out=True),))
    text = " ".join(str(Diagnosis([finding(found, [found])], [], [], "It ends.", 4, True)).split())
    assert "(rows held out); over 2 seeds it changes what is learned by +45% (at least +40%, standard error" in text
    assert "standard error over the rows 4%)." in text


def test_the_text_when_nothing_is_wrong():
    diagnosis = Diagnosis([], ["dead_units", "saturation"], ["dead_units"], "It ends.", 2, True)
    assert not diagnosis
    assert str(diagnosis) == (
        "Nothing wrong was found. It ends.\n"
        "\n"
        "Checked by 2 replays: dead units, saturation.\n"
        "Suspected, but no remedy helped: dead units."
    )


def test_nothing_is_tried_twice():
    from chainrule.explain.diagnosis.trial import tried

    calls = []

    def replayed(remedy, seed):
        calls.append((remedy, seed))
        return replay(0.9 if remedy.lr != 1 else 0.2)

    lab = SimpleNamespace(replay=replayed)
    found = tried(lab, None, RULES["learning_rate_too_high"], Suspicion("x"))
    assert found.confirmed
    assert [e.gain for e in found.effects] == pytest.approx([0.7] * 3)
    assert len(found.effects[0].gains) == 3


def test_where_the_best_remedy_is_not_certain_the_next_is_tried():
    from chainrule.explain.diagnosis.trial import tried

    def replayed(remedy, seed):
        best = 0.2 if seed else 0.95  # a tenth of the rate does best, but only in one order of the rows
        return replay({1: 0.2, 0.1: best}.get(remedy.lr, 0.8))

    found = tried(SimpleNamespace(replay=replayed), None, RULES["learning_rate_too_high"], Suspicion("x"))
    assert found.confirmed
    assert found.best.remedy == Remedy(lr=0.01)
    assert [e.remedy.lr for e in found.effects] == [0.01, 0.1, 0.001]
