"""Replays: exact without a remedy, changed by nothing else with one, and everything put back."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.explain.diagnosis import evidence
from chainrule.explain.diagnosis.experiment import AS_IT_WAS, Laboratory
from chainrule.explain.diagnosis.labels import cross_fit, related
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.surgery import standardised

from .runs import X, X_val, bits, network, trained, y, y_val

pytestmark = pytest.mark.filterwarnings("ignore:fit. .* reads logits, makes probabilities")  # as these runs are to do


def losses(trainer, remedy=AS_IT_WAS, seed=0):
    with Laboratory(trainer) as lab:
        return lab.replay(remedy, seed).losses


def test_the_replay_of_a_run_with_dropout_and_a_schedule_ends_in_its_bits():
    model = network(nn.Dropout(0.3))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = cr.Trainer(model, F.cross_entropy, optimizer)
    halve = optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    trainer.fit(
        X, y, epochs=4, batch_size=50, validation_data=(X_val, y_val), seed=9, progress=False,
        callbacks=[lambda trainer, epoch, measured: halve.step()],
    )  # fmt: skip
    final = [p.detach().numpy() for p in model.parameters()]
    with Laboratory(trainer) as lab:
        replay = lab.replay()
    assert len(replay.losses) == 4 * 5
    assert all(map(np.array_equal, final, replay.weights))


def test_looks_into_the_model_on_the_way_do_not_change_the_replay():
    trainer = trained(network(nn.Dropout(0.3)))
    with Laboratory(trainer) as lab:
        found = evidence.gather(lab)
    assert found.exact
    assert [m.step for m in found.moments] == sorted({m.step for m in found.moments})
    assert found.start.activities[0].kind == "relu"
    assert found.start.movements[0].scale == pytest.approx(0.577, abs=0.1)


def test_the_score_on_rows_held_out_is_followed_through_the_run():
    with Laboratory(trained()) as lab:
        found = evidence.gather(lab)
    steps = [step for step, _ in found.course]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1], len(steps)) == (0, lab.steps, len(set(steps)))
    assert found.course[-1][1] == found.replay.val
    assert {m.step: m.val for m in found.moments}.items() <= dict(found.course).items()


def test_a_run_without_validation_data_is_judged_on_rows_that_its_replay_has_not_seen():
    with Laboratory(trained(validation=None, epochs=4)) as lab:
        found = evidence.gather(lab)
    assert found.tested == found.replay.val


REMEDIES = [
    Remedy(lr=0.5), Remedy(batch=24), Remedy(init=True), Remedy(inputs=True), Remedy(activation="tanh"),
    Remedy(dropout=0.0), Remedy(clip=0.01), Remedy(balance=True), Remedy(decay=0.5), Remedy(stop=0.5),
    Remedy(permute=True), Remedy(loss="of_probabilities"), Remedy(thaw=True), Remedy(lr=0.1) | Remedy(inputs=True),
]  # fmt: skip


@pytest.mark.parametrize("remedy", REMEDIES, ids=str)
def test_a_remedy_leaves_the_trainer_as_it_was(remedy):
    cr.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3), nn.Softmax(1))
    trainer = trained(model, epochs=2)
    before, layers, groups = bits(trainer), list(model), [dict(g) for g in trainer.optimizer.param_groups]
    with Laboratory(trainer) as lab:
        plain, changed = lab.replay(), lab.replay(remedy)
        again = lab.replay(Remedy(), 1)
    assert plain.losses.tobytes() != again.losses.tobytes()
    assert plain.losses.tobytes() != changed.losses.tobytes() or remedy == Remedy(thaw=True)
    assert (bits(trainer), list(model), trainer.optimizer.param_groups) == (before, layers, groups)
    assert model[2].p == 0.2


def test_frozen_parameters_are_frozen_again_afterwards():
    model = network()
    model[0].weight.requires_grad_(False)
    trainer = trained(model, epochs=2)
    with Laboratory(trainer) as lab:
        before = model[0].weight.detach().numpy().copy()
        moved = lab.replay(Remedy(thaw=True)).weights[0]
    assert not model[0].weight.requires_grad
    assert np.abs(moved - before).max() > 1e-3


def test_a_lower_rate_takes_smaller_steps():
    trainer = trained(epochs=2)
    assert losses(trainer, Remedy(lr=1e-6)).std() < losses(trainer).std()


def test_remedies_combine_and_read_as_words():
    both = Remedy(lr=0.1) | Remedy(lr=0.1, inputs=True)
    assert both == Remedy(lr=0.1 * 0.1, inputs=True)
    assert str(both) == "learning rate times 0.01, inputs standardised"
    assert str(Remedy()) == "nothing changed"


def test_rows_are_held_out_of_a_run_without_validation_data():
    with Laboratory(trained(validation=None, epochs=2)) as lab:
        assert len(lab.rows) + len(lab.x_val) == len(X)
        assert not {row.tobytes() for row in lab.x_val} & {row.tobytes() for row in lab.x[lab.rows]}


def test_standardised_features():
    x = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    np.testing.assert_allclose(standardised(x, x), [[-1, 0], [1, 0]])
    tiny = np.array([[1e-30], [3e-30]], np.float32)
    np.testing.assert_allclose(standardised(tiny, tiny), [[-1], [1]])
    numbers = np.array([[1], [2]])
    assert standardised(numbers, numbers) is numbers


def test_cross_fitting_finds_the_labels_that_were_changed():
    wrong = np.random.default_rng(1).permutation(len(y))[:50]
    noisy = y.copy()
    noisy[wrong] = (noisy[wrong] + 1) % 3
    with Laboratory(trained(data=(X, noisy), epochs=10)) as lab:
        found = cross_fit(lab)
    changed = np.isin(np.arange(len(y)), wrong)
    assert (changed & found.suspicious).sum() / changed.sum() > 0.9
    assert (changed & found.suspicious).sum() / found.suspicious.sum() > 0.8
    assert found.related > 10
    assert found.trusted.mean() > 0.8


def test_shuffled_targets_are_not_related_to_inputs():
    rng = np.random.default_rng(2)
    with Laboratory(trained(epochs=1)) as lab:
        assert related(lab, y) > 20
        assert abs(related(lab, rng.permutation(y))) < 4
