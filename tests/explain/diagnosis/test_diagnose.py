"""Whole diagnoses: faulty runs are named, healthy ones left alone, the trainer stays as it was."""

import json

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DataError, NonFiniteError, SettingError

from .runs import X, X_val, bits, network, trained, y, y_val

pytestmark = pytest.mark.filterwarnings("ignore:fit. .* reads logits, makes probabilities")  # as these runs are to do


def constant(model):
    with cr.no_grad():
        for parameter in model.parameters():
            parameter.copy_(cr.full_like(parameter, 0.2))
    return model


def enlarged(model, factor):
    with cr.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter * factor)
    return model


def one_hot(labels):
    return np.eye(3, dtype=np.float32)[labels]


class FunctionalSoftmax(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = network()

    def forward(self, x):
        return self.layers(x).softmax(1)


def grouped(first, last, width=4):
    """Two groups, each with a rate of its own."""
    model = network(width=width)
    groups = [{"params": list(model[i].parameters()), "lr": rate} for i, rate in ((0, first), (2, last))]
    return fitted(model, optim.Adam(groups))


def scheduled(schedule, lr=0.01, epochs=8, **when):
    """A schedule, a step after every epoch or, with ``by="step"``, after every step."""
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=lr)
    made = schedule(optimizer)
    return fitted(model, optimizer, epochs, {"step": made} if when else made)


def fitted(model, optimizer, epochs=8, scheduler=None):
    trainer = cr.Trainer(model, F.cross_entropy, optimizer, scheduler=scheduler)
    return trainer.fit(X, y, epochs, 16, validation_data=(X_val, y_val), seed=3, progress=False) and trainer


def without_a_gradient():
    """The optimizer holds parameters that are frozen, and the others are not among its own."""
    model = network()
    optimizer = optim.Adam(model[2].parameters(), lr=0.01)
    model[2].requires_grad_(False)
    return fitted(model, optimizer)


def half_frozen():
    model = network(width=64)
    model[0].requires_grad_(False)
    return fitted(model, optim.Adam(model.parameters(), lr=1e-3))


schedules = optim.lr_scheduler
STILL = {
    "no rate": ("learning_rate_zero", lambda: trained(lr=0.0)),
    "no rate of SGD": ("learning_rate_zero", lambda: trained(lr=0.0, optimizer=optim.SGD)),
    "no rate under a schedule": ("learning_rate_zero", lambda: scheduled(lambda o: schedules.StepLR(o, 3), lr=0.0)),
    "every group": ("learning_rate_zero", lambda: grouped(0.0, 0.0)),
    "the last group": ("group_with_rate_zero", lambda: grouped(0.01, 0.0)),
    "the first group": ("group_with_rate_zero", lambda: grouped(0.0, 0.01)),
    "a factor of 0": ("schedule_at_zero", lambda: scheduled(lambda o: schedules.StepLR(o, 1, gamma=0.0))),
    "linear, too short": (
        "schedule_at_zero", lambda: scheduled(lambda o: schedules.LinearLR(o, 1.0, 0.0, total_iters=2), lr=2e-3),
    ),
    "by step, too short": (
        "schedule_at_zero",
        lambda: scheduled(lambda o: schedules.LinearLR(o, 1.0, 0.0, total_iters=20), by="step"),
    ),
    "a rule of one's own": (
        "schedule_at_zero", lambda: scheduled(lambda o: schedules.LambdaLR(o, lambda epoch: 0.2 * (epoch < 2))),
    ),
    "no gradient": ("frozen_parameters", without_a_gradient),
}  # fmt: skip


@pytest.mark.parametrize("run", STILL)
def test_what_does_not_move_is_named(run):
    cause, trainer = STILL[run][0], STILL[run][1]()
    before = bits(trainer)
    diagnosis = trainer.diagnose()
    assert [finding.name for finding in diagnosis.findings][:1] == [cause], str(diagnosis)
    assert diagnosis.findings[0].remedy.gain >= 0.1
    assert bits(trainer) == before
    assert "lr=0)" not in str(diagnosis)


def test_a_rate_of_0_is_reported_with_the_numbers_of_the_run():
    found = trained(lr=0.0).diagnose().findings[0]
    assert found.evidence == "the learning rate is 0 at all 120 steps, so no parameter moves"
    assert found.change == "optim.Adam(model.parameters(), lr=0.01)."
    assert found.remedy.remedy == "learning rate 0.01 wherever it is 0"
    found = grouped(0.01, 0.0).diagnose().findings[0]
    assert found.where == "2.weight"
    assert found.evidence == (
        "group 1 of 2, with 2 parameter(s) of the model, has learning rate 0 at all 120 steps; the largest rate of the "
        "others is 0.01"
    )
    assert found.change.startswith('Give the group of 2.weight a rate of its own: {"params": ..., "lr": 0.01}.')
    found = scheduled(lambda o: schedules.StepLR(o, 1, gamma=0.0)).diagnose().findings[0]
    assert found.evidence == "the learning rate is 0 at 105 of 120 steps, first at step 16; its largest is 0.01"
    assert found.step == 15
    assert "as long as fit (8 epochs: T_max, total_iters)" in found.change


shuffled = np.random.default_rng(0).permutation(y)
FAULTS = {
    "constant_inputs": lambda: trained(data=(np.full_like(X, 0.3), y), validation=(np.full_like(X_val, 0.3), y_val)),
    "clipping_too_tight": lambda: trained(lr=0.1, optimizer=optim.SGD, max_norm=1e-3),
    "learning_rate_too_high": lambda: trained(lr=3.0),
    "learning_rate_too_low": lambda: trained(lr=1e-5),
    "symmetric_initialisation": lambda: trained(constant(network())),
    "unnormalised_inputs": lambda: trained(data=(X * 1e-3, y), validation=(X_val * 1e-3, y_val)),
    "doubled_softmax": lambda: trained(FunctionalSoftmax()),
    "missing_softmax": lambda: trained(loss=F.nll_loss, lr=0.05),
    "squashed_output": lambda: trained(network(nn.Sigmoid()), epochs=6),
    "shuffled_labels": lambda: trained(data=(X, shuffled), validation=(X_val, np.roll(y_val, 7))),
    "train_eval_difference": lambda: trained(network(nn.Dropout(0.95)), epochs=4),
    "regularisation_too_strong": lambda: trained(weight_decay=3.0),
}


@pytest.mark.parametrize("cause", FAULTS)
def test_a_fault_is_found_and_named_first(cause):
    diagnosis = FAULTS[cause]().diagnose()
    assert diagnosis
    assert diagnosis.findings[0].name == cause
    remedy = diagnosis.findings[0].remedy
    assert remedy.replays == 3
    if not remedy.control:  # of which nothing may change: nothing may change
        assert remedy.gain >= 0.1


HEALTHY = {
    "plain": lambda: trained(),
    "a high learning rate that is good": lambda: trained(lr=0.05),
    "tanh": lambda: trained(nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))),
    "few rows": lambda: trained(data=(X[:48], y[:48]), epochs=40),
    "dropout": lambda: trained(network(width=64), epochs=10),
    "without validation data": lambda: trained(validation=None),
    "a cosine that ends at 0": lambda: scheduled(lambda o: schedules.CosineAnnealingLR(o, T_max=7)),
    "a cosine by step": lambda: scheduled(lambda o: schedules.CosineAnnealingLR(o, T_max=120), by="step"),
    "a warm-up from 0": lambda: scheduled(lambda o: schedules.LambdaLR(o, lambda epoch: min(1.0, epoch / 3))),
    "a layer that is frozen on purpose": half_frozen,
    "a group at 0 on purpose": lambda: grouped(0.0, 0.02, width=64),
}


@pytest.mark.parametrize("run", HEALTHY)
def test_a_healthy_run_raises_no_alarm(run):
    diagnosis = HEALTHY[run]().diagnose()
    assert not diagnosis, str(diagnosis)
    assert str(diagnosis).startswith("Nothing wrong was found. The run ends at loss ")


def test_the_replay_is_exact_and_the_trainer_stays_as_it_was():
    trainer = trained(lr=3.0)
    before, position = bits(trainer), trainer.position
    trainer.model.train()
    layers = list(trainer.model)
    diagnosis = trainer.diagnose()
    assert diagnosis.exact
    assert bits(trainer) == before
    assert trainer.position == position
    assert list(trainer.model) == layers
    assert trainer.optimizer.param_groups[0]["lr"] == 3.0


def test_a_run_can_be_resumed_after_its_diagnosis():
    whole, looked_at = trained(epochs=6), trained(epochs=3)
    looked_at.diagnose()
    looked_at.fit(X, y, epochs=6, batch_size=16, validation_data=(X_val, y_val), seed=3, progress=False, resume=True)
    assert bits(whole) == bits(looked_at)


def test_a_run_that_stopped_at_infinity_is_diagnosed():
    values = X[:, :1] * 40
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    trainer = cr.Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.5))
    with pytest.raises(NonFiniteError):
        trainer.fit(X, values, epochs=30, batch_size=16, progress=False)
    names = [finding.name for finding in trainer.diagnose().findings]
    assert names
    assert names[0] in ("unnormalised_targets", "learning_rate_too_high")


@pytest.mark.parametrize("many", [False, True], ids=["one label", "several labels"])
def test_binary_targets(many):
    targets = np.stack([X[:, 0] > 0, X[:, 1] > 0], axis=1)[:, : 2 if many else 1].astype(np.float32)
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, targets.shape[1]))
    ill = trained(model, F.binary_cross_entropy_with_logits, 1e-6, (X, targets), validation=None).diagnose()
    assert [finding.name for finding in ill.findings] == ["learning_rate_too_low"]
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, targets.shape[1]))
    assert not trained(model, F.binary_cross_entropy_with_logits, 0.02, (X, targets), 20, validation=None).diagnose()


def test_a_loss_of_ones_own():
    def focal(output, target):
        return F.cross_entropy(output, target) ** 2

    diagnosis = trained(loss=focal, lr=1e-6, output="logits").diagnose()
    assert [finding.name for finding in diagnosis.findings] == ["learning_rate_too_low"]


def test_a_loss_of_ones_own_that_reads_logits_is_held_to_it():
    class Focal(nn.CrossEntropyLoss):
        def forward(self, input, target):
            return F.cross_entropy(input, target) ** 2

    diagnosis = trained(FunctionalSoftmax(), Focal()).diagnose()
    assert "doubled_softmax" in diagnosis.suspected


def refused(loss, targets, outputs, **options):
    """What `diagnose` says of a run that it cannot score."""
    cr.manual_seed(1)
    model = nn.Linear(4, outputs)
    trainer = cr.Trainer(model, loss, optim.Adam(model.parameters()), **options)
    trainer.fit(X, targets, epochs=1, batch_size=16, progress=False)
    with pytest.raises(SettingError) as caught:
        trainer.diagnose()
    return str(caught.value)


def test_a_loss_that_cannot_be_scored():
    def loss(output, target):
        return (output.sum(1) - target[:, 0].float()).abs().mean()

    pairs = np.stack([y, y], axis=1)
    assert refused(loss, pairs, 3) == (
        "diagnose needs to know what the outputs mean, and the loss loss does not say. Build the trainer with "
        "Trainer(..., output='logits') or another of: logits, probabilities, log_probabilities, binary_logits, "
        "binary_probabilities, scores, values."
    )
    assert refused(loss, pairs, 3, output="values") == (
        "diagnose: the loss loss takes outputs of shape (240, 3) with targets of shape (240, 2), so there is no one target "
        "for each output to score it by. Use targets of the outputs' shape, or class numbers with Trainer(..., "
        "output='logits')."
    )


def test_a_loss_that_compares_every_row_with_every_other_is_named():
    def squared(output, target):
        return ((output - target) ** 2).mean()

    with pytest.warns(UserWarning, match=r"^fit: the loss squared makes a square of 240 x 240 of outputs of shape"):
        said = refused(squared, X[:, 0], 1)
    assert said == (
        "diagnose: the loss squared makes a square of 240 x 240 of outputs of shape (240, 1) and targets of shape (240,): "
        "it compares every row with every other, and not with its own target alone. Train on y.reshape(240, 1)."
    )


def test_wrong_loss_of_one_hot_targets():
    trainer = trained(loss=F.l1_loss, data=(X, one_hot(y)), validation=(X_val, one_hot(y_val)), lr=0.002, epochs=3)
    assert "wrong_loss" in [name for finding in [trainer.diagnose()] for name in finding.suspected]


def test_the_report_reads_as_sentences_and_as_data():
    diagnosis = trained(lr=1e-5).diagnose()
    text = str(diagnosis)
    assert text.startswith("1 finding, the likeliest first. The run ends at loss ")
    assert "1. The learning rate is too low." in text
    assert "Evidence, first seen before the first step: a typical update is" in " ".join(text.split())
    assert "Remedy, measured: learning rate 0.01 instead of 1e-05: loss " in text
    assert "Change: optim.Adam(model.parameters(), lr=0.01)." in text
    assert "Tried instead:" in text
    saved = json.loads(json.dumps(diagnosis.as_dict()))
    assert saved["findings"][0]["name"] == "learning_rate_too_low"
    assert saved["findings"][0]["remedy"]["gain"] == diagnosis.findings[0].remedy.gain
    assert saved["findings"][0]["alternatives"]
    curves = saved["findings"][0]["remedy"]["curves"]
    assert len(curves["at"]) == len(curves["before"]) == len(curves["after"]) == 100
    assert curves["after"][-1] < 0.5 * curves["before"][-1]


def test_nothing_to_diagnose():
    model = network()
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters()))
    with pytest.raises(SettingError) as caught:
        trainer.diagnose()
    assert str(caught.value) == (
        "diagnose: there is nothing to diagnose yet: this trainer has not fitted anything. Call fit first."
    )


def test_a_training_that_was_only_loaded(tmp_path):
    trained().save(tmp_path / "run.safetensors")
    model = network()
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.01), ["accuracy"])
    trainer.load(tmp_path / "run.safetensors")
    with pytest.raises(SettingError) as caught:
        trainer.diagnose()
    assert str(caught.value) == (
        "diagnose: this training was loaded from a file, which holds neither its data nor its first weights. "
        "Build the model and call fit with the same arguments: one seed repeats it to the bit."
    )


def test_a_run_far_too_short_is_bad_and_that_is_said():
    cr.manual_seed(0)
    rng = np.random.default_rng(1)
    centres, labels = rng.normal(size=(10, 6)), rng.integers(0, 10, 600)
    rows = (centres[labels] + rng.normal(size=(600, 6)) * 0.7).astype(np.float32)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 10))
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.01))
    trainer.fit(rows, labels, epochs=2, batch_size=32, progress=False)
    diagnosis = trainer.diagnose()
    assert diagnosis and not str(diagnosis).startswith("Nothing wrong was found")


@pytest.mark.parametrize("rows", [1, 2, 5, 8, 12])
def test_a_handful_of_rows_is_looked_at_too(rows):
    model = nn.Linear(8, 2)
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters()))
    inputs = np.random.default_rng(0).normal(size=(rows, 8)).astype("f")
    trainer.fit(inputs, np.arange(rows) % 2, epochs=3, progress=False)
    assert str(trainer.diagnose())


def test_a_short_run_is_called_short_and_not_broken():
    cr.manual_seed(0)
    digits = cr.data.load("digits")
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=1e-3))
    trainer.fit(*digits.train, epochs=1, batch_size=64, validation_data=digits.test, progress=False)
    assert "cannot_overfit_one_batch" not in [finding.name for finding in trainer.diagnose().findings]


def test_far_targets_are_not_said_to_have_nothing_to_do_with_the_inputs():
    rng = np.random.default_rng(0)
    values = X[:, :1] * 2
    values[rng.choice(len(values), 8, replace=False)] = rng.normal(size=(8, 1)) * 500
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1))
    trainer = cr.Trainer(model, F.mse_loss, optim.Adam(model.parameters(), lr=0.01))
    trainer.fit(X, values, epochs=10, batch_size=16, progress=False)
    diagnosis = trainer.diagnose()
    assert "shuffled_labels" not in [finding.name for finding in diagnosis.findings]
    assert diagnosis  # the loss is all in a few rows: the run is bad, known cause or not


@pytest.mark.parametrize("changed", ["X", "y"])
def test_rows_changed_since_the_fit_are_not_judged(changed):
    rng = np.random.default_rng(0)
    given = {"X": rng.normal(size=(40, 4)).astype("f"), "y": np.arange(40) % 2}
    model = nn.Linear(4, 2)
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters()))
    trainer.fit(**given, epochs=2, progress=False)
    before = given[changed].copy()
    given[changed][:] = before[::-1]
    with pytest.raises(DataError) as error:
        trainer.diagnose()
    assert str(error.value) == (
        "diagnose: the rows are not those that were trained on (their hash differs): X, y or weights were changed in place "
        "since fit. Put back what stood there, or call fit again, on copies: fit(X.copy(), y.copy())."
    )
    given[changed][:] = before
    assert str(trainer.diagnose())
