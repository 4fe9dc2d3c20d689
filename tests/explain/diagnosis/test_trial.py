"""What makes a suspicion a finding, and which of several comes first."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import optim
from chainrule.explain.diagnosis.experiment import Rerun
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.report import Diagnosis, Experiment, experiments, finding
from chainrule.explain.diagnosis.rules import RULES, Suspicion
from chainrule.explain.diagnosis.task import Score
from chainrule.explain.diagnosis.trial import _GAINS, Case, Effect, ranked, tried

LAB = SimpleNamespace(
    rate=0.5, optimizer=optim.SGD([cr.ones(1, requires_grad=True)], lr=0.5), loss=F.cross_entropy,
    position=SimpleNamespace(epoch=10),
)  # fmt: skip

EVIDENCE = SimpleNamespace(lab=SimpleNamespace(used_rates=np.full((1, 1), 0.5)))


def diagnosis(findings=(), bad="", tried=(), checked=(), suspected=(), replays=4, notes=()):
    return Diagnosis(
        list(findings), bad, list(tried), list(checked), list(suspected), "It ends.", replays, True, list(notes)
    )


def rows(mean, spread=0.0):
    return dict.fromkeys(("learned", "right", "recall"), mean + spread * np.resize([1.0, -1.0], 100))


def replay(train, val=None):
    val = train if val is None else val
    a, b = (Score(v, v, v, 1 - v, v, own=1 - v, by_row=rows(v)) for v in (train, val))
    return Rerun(np.zeros(1), a, b, np.zeros((100, 1)))


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
    cases = [
        case("initialisation_too_large", (0.5, 0.4), remedy=Remedy(init=True)),
        case("learning_rate_too_high", (0.1, 0.1)),
    ]
    found = diagnosis([finding(cases[0], cases, LAB)], "", [], list(RULES), ["dead_units"], notes=["A note."])
    assert str(found) == (
        "1 finding, the likeliest first. It ends.\n"
        "\n"
        "1. The weights start too large (0.weight).\n"
        "   Evidence, first seen after step 7: x is 3.\n"
        "   Why: Signals grow from layer to layer, activations run to their ends, and the first losses are far too\n"
        "   large.\n"
        "   Change: Leave 0.weight as the layer draws it, or draw it with nn.init.kaiming_uniform_ or xavier_uniform_.\n"
        "   Remedy, measured: weights drawn anew (He / Glorot), biases 0: loss 0.8, accuracy 20.0% -> loss 0.3,\n"
        "   accuracy 70.0% (training rows): a gain of 45% of what there is to learn (at least 40%), over 2 orders of\n"
        "   the rows.\n"
        "   Tried instead:\n"
        "   - learning rate too high: learning rate 0.05 instead of 0.5: loss 0.8, accuracy 20.0% -> loss 0.7, accuracy\n"
        "     30.0% (training rows), +10%\n"
        "\n"
        f"{len(RULES)} rules looked at the run; 1 raised a suspicion (dead units). 4 replays.\n"
        "A note."
    )
    assert found.as_dict()["findings"][0]["alternatives"][0]["cause"] == "learning_rate_too_high"


def test_the_change_names_the_users_optimizer_and_the_new_number():
    found = case("learning_rate_too_high", (0.5, 0.4))
    assert finding(found, [found], LAB).change == "optim.SGD(model.parameters(), lr=0.05)."
    clipped = case("clipping_too_tight", (0.5, 0.4), remedy=Remedy(clip=math.inf))
    assert finding(clipped, [clipped], LAB).change == "Trainer(..., max_norm=None)."
    short = case("too_few_steps", (0.5, 0.4), remedy=Remedy(stop=3.0))
    assert finding(short, [short], LAB).change == "fit(..., epochs=30)."
    assert finding(short, [short], LAB).remedy.remedy == "3 times as many steps"


def test_a_control_is_not_called_a_remedy():
    found = case("shuffled_labels", (0.01, -0.02), remedy=Remedy(permute=True))
    text = " ".join(str(diagnosis([finding(found, [found], LAB)])).split())
    assert "Measured by a control: targets shuffled once more: " in text
    assert (
        "over 2 orders of the rows nothing changes (-0%)" in text or "nothing changes (+0%)" in text or "(-0%)" in text
    )
    assert "Remedy" not in text


def test_a_run_that_is_bad_without_a_known_cause_says_what_was_tried():
    cases = [case("poor_result", (0.05, 0.01)), case("learning_rate_too_high", (0.05, 0.01))]
    found = diagnosis((), "it avoids 10%", experiments(cases, LAB), ["poor_result"], ["poor_result"])
    assert found and found.verdict == "unknown" == found.as_dict()["verdict"]
    assert str(found) == (
        "This run is bad, and the cause is not known: it avoids 10%. It ends.\n"
        "\n"
        "What was tried, and what it gains of what there is to learn:\n"
        "   - poor result: learning rate 0.05 instead of 0.5: loss 0.8, accuracy 20.0% -> loss 0.75, accuracy 25.0%\n"
        "     (training rows), +3%\n"
        "\n"
        "1 rules looked at the run; 1 raised a suspicion (poor result). 4 replays."
    )


def curves(before, after, remedy):
    a, b = (Rerun(np.array(losses, float), *[Score(0, 0, 0, 1, 0)] * 2, np.zeros((1, 1))) for losses in (before, after))
    return Experiment.of(Effect(remedy, Remedy(), (0.1,), (0.1,), a, b), RULES["dead_units"], 0.5).curves


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
    text = " ".join(str(diagnosis([finding(found, [found], LAB)])).split())
    assert (
        "(rows held out): a gain of 45% of what there is to learn (at least 40%, standard error 4%), over 2 orders"
        in text
    )


def test_the_text_when_nothing_is_wrong():
    found = diagnosis(checked=["dead_units", "saturation"], suspected=["dead_units"], replays=2)
    assert not found and found.verdict == "nothing"
    assert str(found) == (
        "Nothing wrong was found. It ends.\n\n2 rules looked at the run; 1 raised a suspicion (dead units). 2 replays."
    )


def test_a_gain_on_training_rows_has_an_error_too():
    before, after = replay(0.5), replay(0.7)
    before.train.by_row.update(rows(0.5, spread=9.0))
    assert _GAINS["learned"](before, after) == pytest.approx((0.2, 0.9, False))


def test_the_orders_of_the_rows_are_part_of_the_error():
    scores = {(1, 0): 0.2, (1, 1): 0.2, (1, 2): 0.2, (0.1, 0): 0.5, (0.1, 1): 0.4, (0.1, 2): 0.6}
    lab = SimpleNamespace(replay=lambda remedy, seed: replay(scores.get((remedy.lr, seed), 0.2)))
    found = tried(lab, EVIDENCE, RULES["learning_rate_too_high"], Suspicion("x"))
    assert found.best.error == pytest.approx(0.1 / 3**0.5)


def test_nothing_is_tried_twice():
    calls = []

    def replayed(remedy, seed):
        calls.append((remedy, seed))
        return replay(0.9 if remedy.lr != 1 else 0.2)

    lab = SimpleNamespace(replay=replayed)
    found = tried(lab, EVIDENCE, RULES["learning_rate_too_high"], Suspicion("x"))
    assert found.confirmed
    assert [e.gain for e in found.effects] == pytest.approx([0.7] * 3)
    assert len(found.effects[0].gains) == 3


def test_where_the_best_remedy_is_not_certain_the_next_is_tried():
    def replayed(remedy, seed):
        best = 0.2 if seed else 0.95  # a tenth of the rate does best, but only in one order of the rows
        return replay({1: 0.2, 0.1: best}.get(remedy.lr, 0.8))

    found = tried(SimpleNamespace(replay=replayed), EVIDENCE, RULES["learning_rate_too_high"], Suspicion("x"))
    assert found.confirmed
    assert found.best.remedy == Remedy(lr=0.01)
    assert [e.remedy.lr for e in found.effects] == [0.01, 0.1, 0.001]
