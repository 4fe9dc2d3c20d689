"""One training is one world: its own stream, whole steps, and everything that shapes them saved, resumed, replayed."""

import shutil
import threading

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import BusyError, SettingError
from chainrule.training import Callback, Trainer

rng = np.random.default_rng(0)
X = rng.standard_normal((103, 6)).astype(np.float32)
y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def make(dropout=0.3, loss=F.cross_entropy, **options):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 2))
    return Trainer(model, loss, optim.Adam(model.parameters(), lr=0.01), ["accuracy"], output="logits", **options)


def fit(trainer, epochs=6, **options):
    return trainer.fit(X, y, epochs, 16, progress=False, **options)


def bits(trainer):
    return b"".join(handle._node.value.tobytes() for handle in trainer.session.handles())


# -- a stream of its own --------------------------------------------------------------------------------


def test_fit_leaves_the_global_generator_as_it_was():
    trainer = make()
    before = cr.default_generator.get_state().tolist()
    fit(trainer, validation_data=(X, y))
    trainer.evaluate(X, y)
    trainer.predict(X)
    assert cr.default_generator.get_state().tolist() == before


def test_models_made_after_a_fit_differ():
    first = nn.Linear(6, 2)
    fit(make())
    second = nn.Linear(6, 2)
    fit(Trainer(second, F.cross_entropy, optim.SGD(second.parameters(), lr=0.1)))
    third = nn.Linear(6, 2)
    values = {layer.weight.detach().numpy().tobytes() for layer in (first, nn.Linear(6, 2), third)}
    assert len(values) == 3


def test_two_trainings_in_two_threads_are_two_in_a_row():
    alone = [make(0.3), make(0.5)]
    for seed, trainer in enumerate(alone):
        fit(trainer, 30, seed=seed)
    together = [make(0.3), make(0.5)]
    threads = [threading.Thread(target=fit, args=(t, 30), kwargs={"seed": i}) for i, t in enumerate(together)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        cr.randn(3)
    for thread in threads:
        thread.join()
    assert [bits(t) for t in together] == [bits(t) for t in alone]


def test_neither_validation_nor_what_a_callback_draws_moves_the_steps_stream():
    class Sampling(nn.Module):
        """Draws in evaluation, too."""

        def forward(self, x):
            return F.dropout(x, 0.2, training=True)

    def training():
        trainer = make()
        trainer.model[2] = Sampling()
        return trainer

    plain, watched = training(), training()
    fit(plain)
    seen = []
    fit(watched, validation_data=(X, y), callbacks=[lambda *_: seen.append(cr.rand(2).tolist())])
    for a, b in zip(plain.model.parameters(), watched.model.parameters(), strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    assert len({tuple(pair) for pair in seen}) == 6


# -- whole or not at all --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit, ValueError, MemoryError])
@pytest.mark.parametrize(
    "place", ["chainrule.training.stretch.Stretch.measured", "chainrule.training.state.all_finite"]
)
def test_an_error_in_the_middle_of_a_stretch_goes_back_to_its_start(monkeypatch, error, place):
    whole, stopped = make(), make()
    fit(whole)
    fit(stopped, 2)
    before = bits(stopped), stopped.position, stopped.history.as_dict()

    def broken(*arguments):
        raise error("on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(place, broken)
        with pytest.raises(error, match="on purpose"):
            fit(stopped, resume=True)
    assert (bits(stopped), stopped.position, stopped.history.as_dict()) == before
    fit(stopped, resume=True)
    assert bits(stopped) == bits(whole)
    assert stopped.history["loss"] == whole.history["loss"]


def test_a_callback_that_raises_is_told_again_and_those_before_it_are_not():
    told = []

    class Once(Callback):
        def __init__(self, name, fails=False):
            self.name, self.fails = name, fails

        def on_epoch_end(self, trainer, epoch, measured):
            with cr.no_grad():
                trainer.model[0].bias.add_(1.0)
            if self.fails and epoch == 2:
                self.fails = False
                raise ValueError(self.name)
            told.append((self.name, epoch))

    whole, stopped = make(), make()
    fit(whole, 4, callbacks=[Once("a"), Once("b"), Once("c")])
    expected, told[:] = list(told), []
    callbacks = [Once("a"), Once("b", fails=True), Once("c")]
    with pytest.raises(ValueError, match="b"):
        fit(stopped, 4, callbacks=callbacks)
    assert told == [("a", 1), ("b", 1), ("c", 1), ("a", 2)]
    fit(stopped, 4, callbacks=callbacks, resume=True)
    assert told == expected
    assert bits(stopped) == bits(whole)


def test_a_record_whose_folder_goes_ends_with_a_warning_and_training_goes_on(tmp_path):
    whole, other = make(), make()
    fit(whole)

    def remove(trainer, epoch, measured):
        if epoch == 3:
            shutil.rmtree(tmp_path / "run")

    with pytest.warns(UserWarning, match=r"the record in .*run ends at step 21, because it can no longer be written"):
        fit(other, record=tmp_path / "run", callbacks=[remove])
    assert bits(other) == bits(whole)


def test_the_user_s_own_error_arrives_where_the_record_cannot_be_closed(tmp_path):
    def fail(trainer, epoch, measured):
        shutil.rmtree(tmp_path / "run")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        fit(make(), record=tmp_path / "run", callbacks=[fail])


def test_a_fit_that_cannot_begin_leaves_the_one_before(tmp_path):
    trainer = make()
    fit(trainer, 2, record=tmp_path / "run")
    before = bits(trainer), trainer.position, trainer.history
    with pytest.raises(SettingError, match="holds the record of another training already"):
        fit(trainer, 2, seed=5, record=tmp_path / "run")
    assert (bits(trainer), trainer.position) == before[:2]
    assert trainer.history is before[2] and trainer.history.epochs == 2


# -- schedules ------------------------------------------------------------------------------------------


def scheduled(kind):
    trainer = make()
    opt, s = trainer.optimizer, optim.lr_scheduler
    made = {
        "epoch": lambda: s.StepLR(opt, 1, 0.5),
        "both": lambda: {"step": s.LinearLR(opt, 0.1, total_iters=10), "epoch": [s.ExponentialLR(opt, 0.9)]},
        "step": lambda: {"step": [s.ExponentialLR(opt, 0.99), s.StepLR(opt, 5, 0.9)]},
        "plateau": lambda: s.ReduceLROnPlateau(opt, patience=0, threshold=0.3),
    }[kind]()
    return Trainer(trainer.model, trainer.loss, opt, ["accuracy"], scheduler=made)


def test_lists_that_a_callback_changes_in_place_go_back_with_everything_else():
    model = nn.Sequential(nn.Linear(6, 2))
    model.widths = [6, [2]]
    optimizer = optim.Adam([{"params": model.parameters(), "marks": [1]}])
    trainer = Trainer(model, F.cross_entropy, optimizer)

    def change(trainer, epoch, measured):
        model.widths[1].append(epoch)
        optimizer.param_groups[0]["marks"].append(epoch)
        if epoch == 2:
            raise ValueError("on purpose")

    for _ in range(2):  # what was given back once is not the list that stands
        model.widths, optimizer.param_groups[0]["marks"] = [6, [2]], [1]
        with pytest.raises(ValueError, match="on purpose"):
            trainer.fit(X, y, 3, 50, callbacks=change, progress=False)
        assert (model.widths, optimizer.param_groups[0]["marks"]) == ([6, [2, 1]], [1, 1])
        with pytest.raises(ValueError, match="on purpose"):
            trainer.fit(X, y, 3, 50, callbacks=change, progress=False, resume=True)
        assert (model.widths, optimizer.param_groups[0]["marks"]) == ([6, [2, 1]], [1, 1])


@pytest.mark.parametrize("kind", ["epoch", "both", "step", "plateau"])
def test_a_schedule_s_steps_are_those_written_out(kind):
    native, written = scheduled(kind), scheduled(kind)
    if kind == "plateau":
        written.session.schedules.by_epoch[0].step = lambda metrics: None  # below, by hand
    fit(native, 3, shuffle=False)
    schedules = native.session.schedules
    rates = []
    hand = scheduled(kind)
    for epoch in range(3):
        for _ in range(7):
            rates.append(hand.optimizer.param_groups[0]["lr"])
            for schedule in hand.session.schedules.by_step:
                schedule.step()
        for schedule in hand.session.schedules.by_epoch:
            arguments = [native.history["loss"][epoch]] if kind == "plateau" else []
            schedule.step(*arguments)
    assert native.history["lr"] == rates[6::7]
    assert native.optimizer.param_groups[0]["lr"] == hand.optimizer.param_groups[0]["lr"]
    assert schedules.state() == hand.session.schedules.state()


@pytest.mark.parametrize("kind", ["epoch", "both", "step", "plateau"])
def test_a_schedule_is_saved_recorded_and_resumed(tmp_path, kind):
    whole, part, fresh = scheduled(kind), scheduled(kind), scheduled(kind)
    fit(whole, record=tmp_path / "run")
    fit(part, 2)
    part.save(tmp_path / "saved")
    fresh.load(tmp_path / "saved")
    fit(fresh, resume=True)
    assert bits(fresh) == bits(whole)
    assert fresh.history["lr"] == whole.history["lr"]
    run = cr.load_run(tmp_path / "run", scheduled(kind), X, y)
    for step in (0, 6, 7, 13, 30, 41):
        assert run.at(step).proved
    assert run.what_if(5, 10, follow=["0.bias[0]"]).gap.tolist() == [0.0] * 10


def test_a_schedule_by_steps_needs_no_step_of_its_own():
    """Steps under a schedule of every step are taken many at a time."""
    trainer = scheduled("step")
    fit(trainer, 40)
    assert trainer.session.programs["training"].chunk > 20


def test_a_checkpoint_of_other_schedules_is_refused(tmp_path):
    trainer = scheduled("epoch")
    trainer.save(tmp_path / "saved")
    with pytest.raises(SettingError, match="holds the schedules StepLR, this trainer has none"):
        make().load(tmp_path / "saved")


def test_what_is_no_schedule_is_refused():
    trainer = make()
    with pytest.raises(SettingError, match="scheduler must be a schedule of optim.lr_scheduler"):
        make(scheduler="cosine")
    with pytest.raises(SettingError, match="by 'epoch' or 'step', got 'batch'"):
        make(scheduler={"batch": None})
    with pytest.raises(SettingError, match="of another optimizer"):
        make(scheduler=optim.lr_scheduler.StepLR(trainer.optimizer, 1))
    plateau = optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer)
    with pytest.raises(SettingError, match="cannot take a step after every step"):
        Trainer(trainer.model, trainer.loss, trainer.optimizer, scheduler={"step": plateau})


# -- everything that shapes a step ----------------------------------------------------------------------


class Learned(nn.Module):
    """A loss with a parameter and a running mean."""

    reads = "logits"

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(cr.ones(()))
        self.register_buffer("mean", cr.zeros(()))
        self.register_buffer("seen", cr.zeros(()), persistent=False)
        self.weight = 1.0

    def forward(self, output, target):
        loss = F.cross_entropy(output, target)
        if self.training:
            with cr.no_grad():
                self.mean.mul_(0.9).add_(loss.detach() * 0.1)
                self.seen.add_(1.0)
        return self.weight * loss * self.scale.exp() - self.scale + self.mean


def learned(**options):
    loss = Learned()
    trainer = make(loss=loss, **options)
    trainer.optimizer.add_param_group({"params": list(loss.parameters()), "lr": 0.1})
    return trainer


def meddle(trainer, epoch, measured):
    trainer.model[0].weight.requires_grad_(epoch % 2 == 0)
    trainer.model[2].p = 0.1 * epoch
    trainer.model[2].train(epoch != 3)
    trainer.max_norm = 1.0 / epoch
    trainer.loss.weight = 1.0 + epoch
    if epoch == 2:
        trainer.loss(trainer.model(cr.tensor(X[:9])), cr.tensor(y[:9])).backward()


def test_what_a_callback_changes_is_saved_recorded_and_resumed(tmp_path):
    whole, fresh = learned(max_norm=0.5), learned()
    fit(whole, record=tmp_path / "run", callbacks=[meddle])
    for epochs in (1, 2, 3, 4):
        part = learned(max_norm=0.5)
        fit(part, epochs, callbacks=[meddle])
        part.save(tmp_path / "saved")
        fresh.load(tmp_path / "saved")
        fit(fresh, callbacks=[meddle], resume=True)
        assert bits(fresh) == bits(whole), epochs
        assert fresh.history["loss"] == whole.history["loss"]
    run = cr.load_run(tmp_path / "run", learned(), X, y)
    assert all(run.at(step).proved for step in (3, 8, 14, 15, 22, 29, 36, 41))


def test_evaluate_is_in_evaluation_mode_and_moves_nothing():
    trainer = learned()
    before = bits(trainer)
    first = trainer.evaluate(X, y)
    trainer.predict(X)
    assert trainer.evaluate(X, y) == first
    assert bits(trainer) == before
    assert trainer.loss.training and trainer.loss.seen.item() == 0
    fit(trainer, 2, validation_data=(X, y))
    assert trainer.loss.seen.item() == 14  # the steps, and nothing else


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", lambda output, target: F.cross_entropy(output, target) * 3),
        ("max_norm", 1e-6),
        ("model", nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))),
    ],
)
def test_what_the_trainer_is_made_of_may_be_replaced(name, value):
    trainer = make(0.0)
    fit(trainer, 1)
    before = [p.detach().numpy().copy() for p in trainer.model.parameters()]
    measured = trainer.evaluate(X, y)["loss"]
    setattr(trainer, name, value)
    if name == "loss":
        assert trainer.evaluate(X, y)["loss"] == pytest.approx(3 * measured, rel=1e-5)
    if name == "max_norm":
        trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=1.0)
        fit(trainer, 1)
        moved = [
            np.abs(p.detach().numpy() - old).max() for p, old in zip(trainer.model.parameters(), before, strict=True)
        ]
        assert 0 < max(moved) < 1e-4
    if name == "model":
        trainer.model.eval()
        with cr.no_grad():
            expected = value(cr.tensor(X)).numpy()
        np.testing.assert_allclose(trainer.predict(X), expected, rtol=1e-5, atol=1e-6)


def test_a_loss_weight_annealed_in_a_callback_counts():
    class Scaled:
        output = "logits"
        factor = 1.0

        def __call__(self, output, target):
            return F.cross_entropy(output, target) * self.factor

    loss = Scaled()
    trainer = make(0.0, loss=loss)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0

    def anneal(trainer, epoch, measured):
        loss.factor = 10.0**epoch

    losses = fit(trainer, 3, callbacks=[anneal])["loss"]
    np.testing.assert_allclose(losses, losses[0] * np.array([1, 10, 100]), rtol=1e-5)


def test_a_layer_swapped_in_a_callback_counts():
    trainer = make(0.0)
    for group in trainer.optimizer.param_groups:
        group["lr"] = 0.0
    other = nn.Linear(16, 2)

    def swap(trainer, epoch, measured):
        trainer.model[3] = other

    losses = fit(trainer, 2, callbacks=[swap])["loss"]
    assert losses[1] == pytest.approx(trainer.evaluate(X, y)["loss"], rel=1e-6)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_a_gradient_that_a_callback_left_enters_no_step():
    def leave(t, epoch, measured):
        (t.model(cr.tensor(X)) ** 2).sum().backward()

    plain, watched = make(), make()
    assert fit(watched, 3, callbacks=[leave])["loss"] == fit(plain, 3)["loss"]
    for a, b in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert a.equal(b)
    assert all(p.grad is not None for p in watched.model.parameters())  # the last one stands


def test_the_diagnosis_replays_a_clipped_training_exactly():
    from chainrule.explain.diagnosis.experiment import Laboratory

    def training(**options):
        trainer = make(0.2, **options)
        trainer.fit(X, y, 6, 16, validation_data=(X[:40], y[:40]), progress=False)
        return trainer

    for options in ({"max_norm": 0.05}, {}):
        trainer = training(**options)
        final = [p.detach().numpy().tobytes() for p in trainer.model.parameters()]
        with Laboratory(trainer) as lab:
            assert [w.tobytes() for w in lab.replay().weights] == final
    trainer = scheduled("both")
    trainer.fit(X, y, 6, 16, validation_data=(X[:40], y[:40]), progress=False)
    final = [p.detach().numpy().tobytes() for p in trainer.model.parameters()]
    with Laboratory(trainer) as lab:
        assert [w.tobytes() for w in lab.replay().weights] == final


def test_a_row_is_predicted_as_many_are():
    trainer = make()
    many = trainer.predict(X)
    for _ in range(3):  # the long way first, then the short one
        one = trainer.predict(X[:1])
        np.testing.assert_allclose(one, many[:1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(trainer.predict(X[:3]), many[:3], rtol=1e-5, atol=1e-6)
    trainer.model.double()
    assert trainer.predict(X[:1]).dtype == np.float64
    trainer.model.float()
    trainer.model[3] = nn.Linear(16, 2)
    trainer.model.eval()
    with cr.no_grad():
        expected = trainer.model(cr.tensor(X[:1])).numpy()
    np.testing.assert_allclose(trainer.predict(X[:1]), expected, rtol=1e-5, atol=1e-6)
    bad = X[:1].copy()
    bad[0, 2] = np.nan
    with pytest.raises(cr.errors.DataError, match="row 0, column 2"):
        trainer.predict(bad)
    with pytest.raises(cr.errors.ShapeError):
        trainer.predict(X[:1, :5])


def test_another_thread_cannot_evaluate_while_one_does():
    """The rows that a program reads are the trainer's: two at once would measure each other's."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)).astype("f"), rng.integers(0, 2, 40)
    model = nn.Linear(4, 2)
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    expected = trainer.evaluate(X, y)
    with trainer.session.held("evaluate"):
        failed: list[BaseException] = []

        def other():
            try:
                trainer.evaluate(X, y)
            except BusyError as error:
                failed.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(failed) == 1
    assert trainer.evaluate(X, y) == expected


def test_the_rates_of_a_frozen_group_do_not_depend_on_where_fit_stopped():
    found = []
    for stops in ((4,), (1, 4)):
        cr.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2))
        groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.02}]
        optimizer = optim.Adam(groups, lr=0.01)
        schedule = optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=7)
        trainer = Trainer(model, F.cross_entropy, optimizer, scheduler={"step": schedule})
        model[0].requires_grad_(False)
        for epochs in stops:
            trainer.fit(X, y, epochs, 50, progress=False, resume=epochs != stops[0])
        found.append((trainer.history["lr"], trainer.history["lr_1"]))
    assert found[0] == found[1] and found[0][0] == pytest.approx([0.5 * rate for rate in found[0][1]])
