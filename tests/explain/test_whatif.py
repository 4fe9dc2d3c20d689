"""What if: both courses start alike, differ by what was changed, and are what a training with that change does."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.explain.trainings import X, bits, fit, trainer, weights, y

import chainrule as cr
from chainrule.errors import DataError, IndexRangeError, SettingError, UnknownNameError
from chainrule.explain.whatif import Change, alternatives


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


@pytest.fixture(scope="module")
def run():
    return fit(trainer(dropout=0.3))


def test_without_a_change_both_are_the_recorded_training(run):
    found = run.what_if(3, 12)
    assert found.original.losses.tobytes() == found.changed.losses.tobytes() == run.losses[3:15].tobytes()
    assert bits(found.original.weights) == bits(found.changed.weights) == bits(run.weights(15))
    assert found.distance() == dict.fromkeys(found.original.weights, 0.0)
    assert str(found).startswith("what if from step 3 on: nothing changes\n")


def test_a_weight(run):
    found = run.what_if(3, 5, weights={"0.weight[3, 1]": 2.5}, follow=["0.bias[0]"])
    before = float(run.at(3).weights["0.weight"][3, 1])
    original, changed = found.original.followed, found.changed.followed
    assert (original["0.weight[3, 1]"][0], changed["0.weight[3, 1]"][0]) == (before, 2.5)
    assert original["0.weight[3, 1]"][-1] == run.at(8).weights["0.weight"][3, 1]
    assert original["0.bias[0]"][0] == changed["0.bias[0]"][0]
    assert len(original["0.bias[0]"]) == 6
    assert found.original.losses.tobytes() == run.losses[3:8].tobytes()
    assert (found.gap != 0).all()
    assert found.changes == ["0.weight[3, 1] = 2.5"]
    assert found.original.outputs.shape == found.changed.before.shape == (16, 2)


def test_the_gradient_of_a_followed_weight_at_the_first_step(run):
    address = "0.weight[3, 1]"
    found = run.what_if(3, 2, weights={address: 2.5}, follow=["3.bias[0]"])
    moment = run.at(3)
    for name, value in (("0.weight", moment.gradients["0.weight"][3, 1]), ("3.bias", moment.gradients["3.bias"][0])):
        shown = address if name == "0.weight" else "3.bias[0]"
        assert found.original.gradients[shown] == value
    # The changed one, by differences of the losses that a training from there would have.
    h = 2.0**-6
    higher, lower = (run.what_if(3, 1, weights={address: 2.5 + side * h}).changed.losses[0] for side in (1, -1))
    assert found.changed.gradients[address] == pytest.approx((higher - lower) / (2 * h), rel=2e-2)
    assert found.changed.gradients[address] != found.original.gradients[address]


def test_several_changes_from_one_start_are_what_each_is_alone(run):
    changes = [Change(weights={"0.weight[3, 1]": 2.5}), Change(lr=0.1), Change(labels={11: int(1 - y[11])})]
    together = list(alternatives(run.replay, 3, 5, changes))
    for change, found in zip(changes, together, strict=True):
        alone = run.what_if(3, 5, weights=change.weights, labels=change.labels, lr=change.lr)
        assert found.as_dict() == alone.as_dict()


def test_inputs_and_labels_against_a_training_on_changed_rows(run):
    X2, y2 = X.copy(), y.copy()
    X2[7, 2], y2[11] = 3.0, 1 - y2[11]
    other = trainer(dropout=0.3)
    other.fit(X2, y2, epochs=4, batch_size=16, progress=False)
    found = run.what_if(0, 20, inputs={(7, 2): 3.0}, labels={11: int(y2[11])})
    assert bits(found.changed.weights) == bits(weights(other))
    assert bits(found.original.weights) == bits(weights(run.trainer))
    assert found.changes == ["X[7, 2] = 3", f"y[11] = {y2[11]}"]


def test_a_learning_rate_against_a_training_with_it(run):
    other = trainer(dropout=0.3)
    other.optimizer.param_groups[0]["lr"] = 0.05
    fit(other, record=False)
    found = run.what_if(0, 20, lr=0.05)
    assert bits(found.changed.weights) == bits(weights(other))


def test_it_leaves_the_trainer_and_its_rows_as_they_were(run):
    before = bits(weights(run.trainer))
    run.what_if(3, 5, weights={"0.weight[3, 1]": 2.5}, inputs={(0, 0): 9.0}, labels={0: 1}, lr=1.0)
    assert bits(weights(run.trainer)) == before
    assert run.trainer.optimizer.param_groups[0]["lr"] == 0.01
    assert run.at(9).proved
    np.testing.assert_array_equal(run.at(9).x, X[run.at(9).rows])


def test_beyond_the_end_of_the_record(run):
    longer = fit(trainer(dropout=0.3), epochs=5)
    assert run.what_if(18, 6).original.losses.tobytes() == longer.losses[18:24].tobytes()


@pytest.mark.parametrize("by", ["a schedule", "hand"])
@pytest.mark.parametrize("size", [14, 16])  # batches alike, and a short one
def test_steps_in_one_call_are_those_taken_one_by_one(by, size):
    """Over rates that change, with every step or between epochs, and over the end of the record."""

    def slower(trainer, epoch, measured):
        trainer.optimizer.param_groups[0]["lr"] *= 0.5

    made = trainer(dropout=0.3)
    halve = cr.optim.lr_scheduler.StepLR(made.optimizer, step_size=2, gamma=0.5)
    scheduler, callbacks = ({"step": halve}, []) if by == "a schedule" else (None, [slower])
    scheduled = cr.Trainer(made.model, made.loss, made.optimizer, scheduler=scheduler)
    run = fit(scheduled, batch_size=size, callbacks=callbacks)
    labels = {11: int(1 - y[11])}
    found = run.what_if(3, 20, labels=labels)
    single = run.what_if(3, 20, labels=labels, follow=["0.bias[0]"])  # what is followed is seen after each step
    for one, other in ((found.original, single.original), (found.changed, single.changed)):
        assert one.losses.tobytes() == other.losses.tobytes()
        assert bits(one.weights) == bits(other.weights)
    assert found.original.losses[:17].tobytes() == run.losses[3:].tobytes()


def test_as_a_dict_and_in_print(run):
    found = run.trainer.what_if(3, 12, weights={"0.weight[3, 1]": 2.5})
    plain = found.as_dict()
    assert len(plain["changed"]["losses"]) == 12
    assert plain["distance"]["0.weight"] > 0
    text = str(found)
    assert text.startswith("what if from step 3 on: 0.weight[3, 1] = 2.5\n")
    assert "0.weight[3, 1] ends at" in text
    assert "0.weight[3, 1] has the gradient" in text


def test_what_cannot_be_changed(run):
    with pytest.raises(UnknownNameError, match="^unknown weight 'weight'"):
        run.what_if(3, weights={"weight[0, 0]": 1.0})
    with raises(SettingError, "what_if: name one number, such as '0.weight[0, 0]', got '0.weight'."):
        run.what_if(3, weights={"0.weight": 1.0})
    with raises(
        IndexRangeError,
        "what_if: X has the shape (70, 5), so its indices are 0 to 69, 0 to 4; got [70, 0]. Negative ones count from the "
        "end.",
    ):
        run.what_if(3, inputs={(70, 0): 1.0})
    with raises(IndexRangeError, "what_if: there are the rows 0 to 69, got 70. Name one of them."):
        run.what_if(3, labels={70: 1})
    with raises(SettingError, "what_if: steps must be a whole number, 1 or more, got 0."):
        run.what_if(3, 0)
    text = "what_if: y[7] must hold labels 0 to 1, because the model has 2 outputs, got 9. Give the model 10 outputs, or number the classes from 0."
    with raises(DataError, text):  # the row of the one target that was given
        run.what_if(3, labels={7: 9})
    with pytest.raises(
        DataError, match=r"^what_if: y\[7\] must hold integer class labels 0 to 1 for this loss, got float64"
    ):
        run.what_if(3, labels={7: 0.5})
    with raises(DataError, "what_if: X[0, 1] must be a finite number that float32 holds, got 1e+300."):
        run.what_if(3, inputs={(0, 1): 1e300})
    with raises(DataError, "what_if: the new value of 0.weight must be a finite number that float32 holds, got nan."):
        run.what_if(3, weights={"0.weight[0, 0]": np.nan})
    with raises(SettingError, "what_if: lr must be a number of 0 or more, got inf."):
        run.what_if(3, lr=np.inf)
    with raises(SettingError, "what_if: lr must be a number of 0 or more, got -1."):
        run.what_if(3, lr=-1)


# -- comparing and searching ------------------------------------------------------------------------------------


def test_the_difference_between_two_steps(run):
    found = run.diff(2, 9, count=3)
    before, after = run.weights(2), run.weights(9)
    for name in before:
        change = found[name]
        moved = after[name].astype(float) - before[name]
        assert change.distance == pytest.approx(np.linalg.norm(moved))
        assert change.relative == pytest.approx(np.linalg.norm(moved) / np.linalg.norm(before[name]))
        index, a, b = change.largest[0]
        assert abs(moved).max() == pytest.approx(abs(b - a)) == pytest.approx(abs(moved[index]))
        assert len(change.largest) == min(3, moved.size)
    assert [c.relative for c in found.changes] == sorted((c.relative for c in found.changes), reverse=True)
    assert str(found).startswith("from step 2 to step 9:\n")
    assert found.as_dict()["a"] == 2
    assert run.diff(5, 5)["0.weight"].distance == 0


def test_the_first_step_of_which_something_holds(run):
    low = float(np.sort(run.losses)[3])
    expected = int(np.argmax(run.losses <= low))
    assert run.first(lambda moment: moment.loss <= low).step == expected
    assert run.first(lambda moment: moment.loss < 0) is None
    assert run.first(lambda moment: True, start=4).step == 4
    assert run.first(lambda moment: moment.loss <= low, stop=expected) is None
    asked = []
    found = run.first(lambda moment: asked.append(moment.step) or moment.step >= 13, monotone=True)
    assert (found.step, len(asked) <= 6) == (13, True)
    assert run.first(lambda moment: False, monotone=True) is None


# -- the birth of what is not finite ------------------------------------------------------------------------------


def stopped(loss, lr=0.01, scale=1.0):
    model = trainer().model
    with cr.no_grad():
        model[0].weight.mul_(scale)
    made = cr.Trainer(model, loss, cr.optim.SGD(model.parameters(), lr=lr))
    with pytest.raises(cr.errors.NonFiniteError):
        fit(made)
    return made.run


def test_a_nan_born_in_the_forward_pass():
    def loss(output, target):
        return ((output[:, 0] - output[:, 0].detach().amax()) + 0.1).log().mean()  # the log of a negative number

    run = stopped(loss)
    found = run.birth()
    assert (found.step, found.stage, found.op) == (0, "forward pass", "log")
    assert np.isnan(found.value) and found.inputs[0] < 0
    moment = run.at(0)
    outputs = moment.output[:, 0]
    bad = np.flatnonzero(outputs - outputs.max() + np.float32(0.1) < 0)[0]
    assert (found.index, found.row) == ((bad,), moment.rows[bad])
    assert str(found).startswith(
        f"step 0, forward pass: log made nan from {found.inputs[0]:.9g}, element [{bad}], row "
    )
    assert found.as_dict()["op"] == "log"


def test_an_infinity_born_in_a_layer_after_some_steps():
    run = stopped(lambda output, target: -(output * output).mean(), lr=3.0)
    found = run.birth()
    assert found.step == len(run) > 1
    assert found.op in ("mul", "matmul", "sum", "add")
    assert not np.isfinite(found.value)


def test_a_nan_born_in_the_backward_pass():
    run = stopped(lambda output, target: (output * 0).sum().sqrt() + output.mean() * 0)
    found = run.birth()
    assert (found.step, found.stage) == (0, "backward pass")


def test_a_training_that_stays_finite(run):
    assert run.birth() is None
