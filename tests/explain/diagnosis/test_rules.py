"""Every rule on constructed evidence: what makes it suspect, what does not, and the sentence it says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import chainrule.nn.functional as F
from chainrule import nn
from chainrule.explain.diagnosis.evidence import Activity, Evidence, Look, Movement
from chainrule.explain.diagnosis.experiment import Rerun
from chainrule.explain.diagnosis.labels import Labels, cross_fit
from chainrule.explain.diagnosis.rules import RULES
from chainrule.explain.diagnosis.task import Score, Task
from chainrule.nn import meaning

rng = np.random.default_rng(0)


def score(learned=0.5, recall=None):
    return Score(learned, learned, learned if recall is None else recall, 1.0, 0.5, own=1.0)


def movement(name="0.weight", **changes):
    known = {
        "weight": True, "scale": 0.58, "gradient": 1e-3, "update": 5e-3, "alike": False, "denormal": 0.0, "trained": True,
    }  # fmt: skip
    return Movement(name, **{**known, **changes})


def moment(step=0, **changes):
    known = {
        "loss": 1.0, "activities": [], "movements": [movement(f"{i}.weight") for i in range(3)], "output_spread": 1.0,
        "turn": 0.9, "train": score(), "val": score(), "norm": 1.0, "train_mode_loss": 1.0, "eval_mode_loss": 1.0,
    }  # fmt: skip
    return Look(step, **{**known, **changes})


def clipped(norm):
    return SimpleNamespace(settings=SimpleNamespace(max_norm=norm))


def evidence(
    moments=None, task=None, trained=0.5, tested=0.5, losses=(1.0, 0.9), finite=True, recall=None, labels=None, **lab
):
    """A run that learned half of what there is to learn, and shows nothing strange."""
    known = {
        "x": rng.normal(0, 1, (400, 5)).astype(np.float32), "y": rng.integers(0, 3, 400), "x_val": np.zeros((100, 5)),
        "sample": rng.normal(0, 1, (8, 3)), "rows": np.arange(400), "output_layer": None, "cut": False, "steps": 100,
        "position": SimpleNamespace(batch_size=32), "model": nn.Linear(5, 3),
        "optimizer": SimpleNamespace(param_groups=[{"weight_decay": 0.0}]), "one_batch": lambda: score(1.0),
        "start": clipped(None), "used_rates": np.full((100, 1), 0.01),
    }  # fmt: skip
    replay = Rerun(np.array(losses), score(trained), score(tested), np.zeros((1, 3)), [], finite)
    moments = moments or [moment(), moment(50), moment(99, eval_mode_loss=0.7)]
    found = Evidence(
        task or CLASSES, moments, replay, score(trained), score(tested, recall), True,
        SimpleNamespace(**{**known, **lab}), [(m.step, m.val) for m in moments],
    )  # fmt: skip
    if labels is not None:
        found.labels = labels  # as cross-fitting would have found them
    return found


def doubt(**changes):
    known = {"related": 9.0, "power": 30.0, "neighbours": 0.8, "learned": 0.4, "doubtful": 0.3}
    return Labels(**{**known, **changes}, suspicious=np.zeros(1, bool), trusted=np.ones(1, bool))


def everywhere(**changes):
    return [moment(step, **changes) for step in (0, 50, 99)]


def weights(**changes):
    return everywhere(movements=[movement("0.weight", **changes), movement("2.weight"), movement("4.weight")])


probabilities = np.full((8, 3), 1 / 3)
x, y = rng.normal(0, 1, (400, 5)).astype(np.float32), np.arange(400) % 3
CLASSES = Task("classes", "cross_entropy", 3, meaning.LOGITS)
VALUES, ONE_HOT = Task("values", "mse", 0, meaning.VALUES), Task("one_hot", "l1", 3, meaning.VALUES)
relu, tanh = Activity("1", "relu", 0.9, 0.0, 1.0), Activity("1", "tanh", 0.0, 0.8, 1.0)
layer = nn.Linear(5, 3)
SUSPECT = {
    "unnormalised_inputs": ({"x": x * 100}, "the inputs", "the inputs have a root mean square of "),
    "unnormalised_targets": (
        {"task": VALUES, "y": rng.normal(0, 900, (400, 1))}, "the targets", "the targets have a root mean square of ",
    ),
    "constant_inputs": (
        {"x": np.full((400, 5), 3.0)}, "the inputs", "no feature differs between any two of the 400 rows",
    ),
    "constant_targets": ({"y": np.full(400, 2)}, "the targets", "the targets of all 400 rows are 2"),
    "class_imbalance": (
        {"y": np.array([0] * 390 + [1, 2] * 5), "recall": 0.2}, "the targets",
        "the most frequent class has 390 rows, the rarest 5; the mean recall of the classes, as a share between chance "
        "and perfect, is 0.20 on rows held out",
    ),
    "denormals": ({"x": x * 1e-39}, "the inputs", "100.0% of the inputs are denormal"),
    "symmetric_initialisation": (
        {"moments": weights(alike=True)}, "0.weight", "all rows of 1 weight(s) are equal before the first step",
    ),
    "initialisation_too_large": (
        {"moments": weights(scale=8.0)}, "0.weight",
        "its standard deviation is 8 / sqrt(fan_in) before the first step; 0.58 to 1.41 is usual",
    ),
    "initialisation_too_small": (
        {"moments": weights(scale=0.01)}, "0.weight",
        "its standard deviation is 0.01 / sqrt(fan_in) before the first step; 0.58 to 1.41 is usual",
    ),
    "loss_at_start": (
        {"moments": everywhere(eval_mode_loss=5.0)}, "", "the loss before the first step is 5; ln 3 = 1.1",
    ),
    "shuffled_labels": (
        {"tested": 0.0, "labels": doubt(related=0.5, learned=0.01)}, "the targets",
        "rows held out are predicted no better than by a constant (1% of its mistakes avoided), and neighbours agree no "
        "more than under shuffled targets (0.5 standard deviations; 30 with targets made of these inputs)",
    ),
    "label_noise": (
        {"labels": doubt()}, "the targets",
        "cross-fitted models contradict 30% of the labels among the half of the rows they are surest of",
    ),
    "doubled_softmax": (
        {"sample": probabilities}, "the output",
        "every row of outputs is positive and sums to 1, and cross_entropy applies softmax again",
    ),
    "missing_softmax": (
        {"task": Task("classes", "nll", 3, meaning.LOG_PROBABILITIES), "sample": np.zeros((8, 3))}, "the output",
        "the exponentials of a row of outputs sum to 1 only within 2; nll_loss needs 0",
    ),
    "squashed_output": (
        {"output_layer": nn.Sigmoid()}, "the output", "the logits that cross_entropy reads come out of a Sigmoid",
    ),
    "wrong_loss": ({"task": ONE_HOT}, "the loss", "the targets are one-hot rows of 3 classes, the loss is l1"),
    "output_independent_of_input": (
        {"moments": everywhere(output_spread=1e-5)}, "the output", "over the rows the outputs vary by 1e-05 of their size",
    ),
    "dead_units": ({"moments": everywhere(activities=[relu])}, "1", "90% of its units are 0 for every row"),
    "saturation": ({"moments": everywhere(activities=[tanh])}, "1", "80% of its values lie at an end of its range"),
    "vanishing_gradients": (
        {"moments": weights(gradient=1e-8)}, "0.weight", "its gradient is 1e-05 of the last weight's",
    ),
    "exploding_gradients": (
        {"moments": weights(gradient=1e4)}, "0.weight", "its gradient has a root mean square of 1e+04",
    ),
    "learning_rate_too_high": (
        {"moments": everywhere(movements=[movement(update=0.5)])}, "",
        "at step 1 an update is 0.5 of the weights (1e-3 is usual), and the loss 1 (before training 1)",
    ),
    "learning_rate_too_low": (
        {"moments": everywhere(movements=[movement(update=1e-6)])}, "",
        "a typical update is 1e-06 of the weights (1e-3 is usual) and 50% is left to learn",
    ),
    "update_to_weight_ratio": (
        {"moments": everywhere(movements=[movement(update=0.5)])}, "",
        "a typical update is 0.5 of the weights; about 1e-3 is usual",
    ),
    "gradient_oscillation": (
        {"moments": everywhere(turn=-0.8)}, "", "at 3 of 3 moments the next gradient points the other way (cosine -0.80)",
    ),
    "bad_batch_size": (
        {"position": SimpleNamespace(batch_size=400)}, "", "a batch has 400 of 400 rows, the run took 100 steps",
    ),
    "frozen_parameters": (
        {"moments": weights(trained=False)}, "0.weight",
        "1 weight(s) get no gradient or are not among the optimizer's parameters",
    ),
    "train_eval_difference": (
        {"moments": everywhere(train_mode_loss=2.0), "model": nn.Sequential(nn.Dropout(0.7))}, "",
        "dropout is 0.7; the loss of the same rows is 2 with it and 1 without",
    ),
    "regularisation_too_strong": (
        {"optimizer": SimpleNamespace(param_groups=[{"weight_decay": 0.5}])}, "",
        "weight decay is 0.5 and 50% is left to learn on the training rows",
    ),
    "overfitting": (
        {"moments": [moment(), moment(30, val=score(0.7)), moment(99, val=score(0.4))], "trained": 1.0, "tested": 0.4}, "",
        "the rows held out were at their best (loss 1, accuracy 50.0%) after step 30 and end at loss 1, accuracy 50.0%, "
        "while the training rows end at loss 1, accuracy 50.0%",
    ),
    "clipping_too_tight": (
        {"moments": everywhere(norm=5.0), "start": clipped(0.1)}, "", "gradients are clipped to norm 0.1; without, their norm is 5",
    ),
    "too_few_steps": (
        {"moments": [moment(), moment(50, train=score(0.1)), moment(99, train=score(0.3))], "trained": 0.3, "tested": 0.3,
         "labels": doubt()}, "", "in its second half the run still won 20% of what there is to learn",
    ),
    "poor_result": (
        {"trained": 0.3, "tested": 0.3, "labels": doubt()}, "",
        "on its training rows it avoids 30% of the mistakes of a constant guess; the nearest neighbours of each row, which "
        "need no training, avoid 80%, so there is more in these data",
    ),
    "learning_rate_zero": (
        {"used_rates": np.zeros((100, 2))}, "", "the learning rate is 0 at all 100 steps, so no parameter moves",
    ),
    "group_with_rate_zero": (
        {"used_rates": np.array([[0.02, 0.0]] * 100), "model": layer, "optimizer": SimpleNamespace(
            param_groups=[{"params": [layer.bias]}, {"params": [layer.weight]}])}, "weight",
        "group 1 of 2, with 1 parameter(s) of the model, has learning rate 0 at all 100 steps; the largest rate of the "
        "others is 0.02",
    ),
    "schedule_at_zero": (
        {"used_rates": np.array([[0.02]] * 40 + [[0.0]] * 60)}, "",
        "the learning rate is 0 at 60 of 100 steps, first at step 41; its largest is 0.02",
    ),
    "loss_not_falling": ({"moments": everywhere()}, "", "the loss of the same rows was 1 before and is 1 after training"),
    "cannot_overfit_one_batch": (
        {"one_batch": lambda: score(0.2)}, "", "trained on 16 rows alone it learns 20% of them",
    ),
}  # fmt: skip


def test_every_rule_has_a_case():
    assert set(SUSPECT) == set(RULES)


@pytest.mark.parametrize("name", SUSPECT)
def test_what_makes_a_rule_suspect(name):
    changes, where, says = SUSPECT[name]
    suspicion = RULES[name].suspects(evidence(**changes))
    assert suspicion is not None
    assert suspicion.where == where
    assert suspicion.says.startswith(says)


@pytest.mark.parametrize("name", SUSPECT)
def test_an_ordinary_run_is_not_suspect(name):
    assert RULES[name].suspects(evidence(labels=doubt(doubtful=0.02))) is None


# What is wrong in itself is asked for however well the run does; everything else needs something left to learn.
ALWAYS = {
    "constant_targets",
    "constant_inputs",
    "class_imbalance",
    "denormals",
    "doubled_softmax",
    "missing_softmax",
    "squashed_output",
    "overfitting",
}


@pytest.mark.parametrize("name", sorted(set(SUSPECT) - ALWAYS))
def test_a_run_that_learned_everything_is_not_suspect(name):
    changes = {**SUSPECT[name][0], "trained": 1.0, "tested": 1.0}
    assert RULES[name].suspects(evidence(**changes)) is None


def test_the_first_step_and_whether_it_came_late_are_told():
    moments = [moment(), moment(50, activities=[relu]), moment(99, activities=[relu])]
    suspicion = RULES["dead_units"].suspects(evidence(moments))
    assert suspicion is not None
    assert (suspicion.step, suspicion.late) == (50, True)


@pytest.mark.parametrize(("update", "suspect"), [(0.05, False), (0.5, True)])
def test_a_rate_may_be_too_high_for_rows_held_out_alone(update, suspect):
    moments = everywhere(movements=[movement(update=update)])
    suspicion = RULES["learning_rate_too_high"].suspects(evidence(moments, trained=1.0, tested=0.6))
    assert (suspicion is not None) is suspect


def test_overfitting_needs_a_fall_in_what_is_learned():
    def run(best, end, tested):
        return evidence([moment(), moment(30, val=score(best)), moment(99, val=score(end))], trained=1.0, tested=tested)

    overfitted = RULES["overfitting"].suspects
    assert overfitted(run(0.7, 0.5, 0.5)) is not None
    assert overfitted(run(0.7, 0.65, 0.65)) is None  # within a tenth
    assert overfitted(run(0.98, 0.85, 0.95)) is None  # no worse than the training rows


def test_a_run_that_stops_being_finite():
    suspicion = RULES["learning_rate_too_high"].suspects(evidence(losses=(1.0, 9.0, np.nan), finite=False))
    assert suspicion is not None
    assert suspicion.says == "the training stops being finite at step 3"


def test_every_rule_names_its_source_and_has_a_remedy():
    for rule in RULES.values():
        assert "Source:" in (rule.suspects.__doc__ or ""), rule.name
        changes = SUSPECT[rule.name][0]
        assert list(rule.remedies(evidence(**changes))), rule.name


def test_pixels_are_not_called_unequal():
    pixels = np.abs(x) * np.array([1, 1, 1, 0.01, 0.01]) * (rng.random(x.shape) < 0.5)
    assert RULES["unnormalised_inputs"].suspects(evidence(x=pixels.astype(np.float32))) is None


def test_squashed_values():
    e = evidence(task=VALUES, y=np.linspace(-3, 3, 400)[:, None], output_layer=nn.Tanh())
    suspicion = RULES["squashed_output"].suspects(e)
    assert suspicion is not None
    assert suspicion.says == "66.5% of the targets lie outside of what Tanh can give"
    assert RULES["squashed_output"].suspects(evidence(task=VALUES, y=y * 0.1, output_layer=nn.Tanh())) is None


def test_scores_are_shares_of_what_there_is_to_learn():
    labels = np.array([0, 1, 2, 2])
    perfect = CLASSES.score(np.eye(3)[labels] * 50, labels, labels)
    assert (perfect.right, perfect.recall, perfect.loss) == pytest.approx((1, 1, 1))
    constant = CLASSES.score(np.log(np.array([[0.25, 0.25, 0.5]] * 4)), labels, labels)
    assert constant.learned == pytest.approx(0, abs=1e-3)
    assert constant.recall == pytest.approx(0)
    assert CLASSES.score(np.full((4, 3), np.nan), labels, labels).learned == -1
    assert VALUES.score(np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]])).learned == 1
    assert replace(perfect, accuracy=np.nan).as_dict()["accuracy"] is None


def test_a_task_reads_outputs_as_their_loss_does():
    z = np.array([[2.0, 0.5, -1.0], [800.0, 0.0, -800.0]])
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    yes = np.array([[0.25], [0.875]])
    for means, output, expected in (
        (meaning.LOGITS, z, p), (meaning.PROBABILITIES, p, p), (meaning.LOG_PROBABILITIES, z - 5, p),  # unnormalised
        (meaning.BINARY_PROBABILITIES, yes, np.hstack([1 - yes, yes])),
        (meaning.BINARY_LOGITS, np.log(yes / (1 - yes)), np.hstack([1 - yes, yes])),
    ):  # fmt: skip
        task = Task("binary" if means.binary else "classes", "other", expected.shape[1], means)
        np.testing.assert_allclose(task.probabilities(output), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ONE_HOT.probabilities(np.array([[2.0, 1.0, -1.0]])), [[2 / 3, 1 / 3, 0]], atol=1e-9)


def test_a_task_follows_from_what_the_outputs_mean():
    def own(output, target):
        return ((output - target) ** 2).mean()

    def task(means, shape, y, loss=own):
        return Task.of(loss, means, shape, np.asarray(y))

    rows, unit = np.zeros((6, 3), np.float32), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    assert task(meaning.LOGITS, (6, 3), np.arange(6) % 3) == Task("classes", "other", 3, meaning.LOGITS)
    assert task(meaning.LOGITS, (6, 3), unit) == Task("classes", "other", 3, meaning.LOGITS)
    for y in (np.zeros((6, 2), int), np.zeros((6, 3, 2), np.float32)):  # two answers a row
        assert task(meaning.PROBABILITIES, (6, 3, 2), y) == Task("classes", "other", 3, meaning.PROBABILITIES, False)
    assert task(meaning.BINARY_LOGITS, (6, 1), rows[:, :1]) == Task("binary", "other", 2, meaning.BINARY_LOGITS)
    assert task(meaning.BINARY_LOGITS, (6, 3), rows) == Task("binary", "other", 2, meaning.BINARY_LOGITS, False)
    assert task(meaning.VALUES, (6, 3), rows) == Task("values", "other", 0, meaning.VALUES)
    assert task(meaning.VALUES, (6, 3), unit, F.mse_loss) == Task("one_hot", "mse", 3, meaning.VALUES)


def test_scores_are_the_means_of_what_each_row_says():
    labels = np.array([0, 1, 2, 2, 2])
    found = CLASSES.score(np.random.default_rng(0).normal(0, 1, (5, 3)), labels, labels)
    for name in ("learned", "right", "recall"):
        assert found.by_row[name].mean() == pytest.approx(getattr(found, name))
    lost = VALUES.score(np.array([[1e9], [0.0]]), np.array([[1.0], [3.0]]), np.array([[1.0], [3.0]]))
    assert lost.by_row["learned"].tolist() == [-1, -1]


# -- absence of evidence is no evidence ------------------------------------------------------------------------


def test_targets_are_not_called_unrelated_where_neighbours_could_not_tell():
    blind = {"tested": 0.0, "labels": doubt(related=0.5, learned=0.01, power=2.0)}
    assert RULES["shuffled_labels"].suspects(evidence(**blind)) is None


def judged(x, y):
    """What cross-fitting says of targets that are values, without a run."""
    lab = SimpleNamespace(x=x, y=y, rows=np.arange(len(x)), x_val=x[:10], task=VALUES)
    return cross_fit(lab)


def test_a_few_far_targets_do_not_hide_that_the_others_follow_from_the_inputs():
    values = x[:, :1] * 2 + x[:, 1:2]
    values[rng.choice(len(x), 12, replace=False)] = rng.normal(size=(12, 1)) * 500
    assert judged(x, values).related > 9 and judged(x, values).learned > 0.5
    assert abs(judged(x, rng.permutation(values)).related) < 5


def test_several_targets_are_judged_each_by_itself():
    both = np.concatenate([x[:, :1], -x[:, :1]], axis=1)  # their mean is 0 in every row
    assert judged(x, both).related > 9


def test_inputs_that_are_all_alike_can_tell_nothing():
    assert judged(np.ones_like(x), x[:, :1]).power == 0


@pytest.mark.parametrize("y", [np.zeros((400, 1)), np.zeros(400)], ids=["constant", "no axis"])
def test_targets_that_do_not_vary(y):
    assert judged(x, y).related == 0


def test_a_score_names_the_loss_of_the_user_and_the_measure_of_the_rule():
    found = Score(0.4, 0.4, 0.4, 1.2, 0.7, 0.55, 2.5)
    assert found.text() == "loss 2.5, accuracy 70.0%"
    assert found.text("recall") == "mean recall of the classes 55.0%, loss 2.5, accuracy 70.0%"
    assert replace(found, own=np.nan).text() == "accuracy 70.0%"
    assert Score(0.4, 0.4, 0.4, 1.2, np.nan, own=9.0).text() == "loss 9, R squared 0.400"


def test_no_recall_is_won_or_lost_where_there_is_one_class():
    assert CLASSES.score(np.eye(3)[[1, 0]], np.array([0, 0]), np.array([0, 1, 2])).recall == 0


def test_every_rule_says_why_and_what_to_change():
    for rule in RULES.values():
        assert rule.why.endswith(".") and rule.change.endswith((".", ")")), rule.name
