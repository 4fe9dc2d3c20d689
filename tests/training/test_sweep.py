"""Many trainings at once have the bits of as many one by one, whatever shares their steps."""

import io
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.callbacks import EarlyStopping
from chainrule.errors import DataError, SettingError, UnknownNameError
from chainrule.training import Trainer, pools

rng = np.random.default_rng(0)
X = rng.normal(size=(70, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)
GRID = {"lr": [0.01, 0.1], "p": [0.0, 0.3], "seed": [0, 1]}


def build(lr=0.01, p=0.2, seed=0, width=8, optimizer="adam", act=nn.Tanh):
    cr.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, width), act(), nn.Dropout(p), nn.BatchNorm1d(width), nn.Linear(width, 2))
    return Trainer(model, "cross_entropy", optimizer, ["accuracy"], lr=lr)


def bits(trainer):
    named = trainer.session.named().values()
    moments = [value for slots in trainer.optimizer.state.values() for value in slots.values()]
    return b"".join(t.detach().numpy().tobytes() for t in [*named, *moments])


def alone(config, build=build, epochs=3, **options):
    trainer = build(**config)
    seed = config.get("seed", 0)
    trainer.fit(X, y, **{"epochs": epochs, "batch_size": 32, "seed": seed, "progress": False, **options})
    return trainer


def sweep(configs, build=build, epochs=3, **options):
    return cr.sweep(build, configs, X, y, epochs=epochs, batch_size=32, **options)


def same(found, build=build, **options):
    for config, trainer in zip(found.configs, found, strict=True):
        expected = alone(config, build, **options)
        assert bits(trainer) == bits(expected), config
        shown = [{k: v for k, v in t.history.items() if k != "seconds"} for t in (trainer, expected)]
        assert shown[0] == shown[1]


def test_what_builds_a_training_is_a_function():
    with pytest.raises(SettingError) as caught:
        cr.sweep(build(lr=0.01), {"lr": [0.1]}, X, y)
    assert str(caught.value) == (
        "sweep: build must be a function that makes a new Trainer of a configuration, such as lambda lr: "
        "cr.Trainer(nn.Linear(4, 3), 'cross_entropy', 'adam', lr=lr), got Trainer. Write one."
    )


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_grid_is_its_trainings_one_by_one(threads):
    found = sweep(GRID, threads=threads)
    assert len(found) == 8 and found.configs[1] == {"lr": 0.01, "p": 0.0, "seed": 1}
    same(found)


def test_other_networks_optimizers_and_losses_do_not_share_steps():
    class Own(nn.Module):
        def __init__(self, f):
            super().__init__()
            self.f, self.a = f, nn.Linear(4, 2)

        def forward(self, x):
            return self.f(self.a(x))

    def made(kind, seed=0):
        cr.manual_seed(seed)
        functions = {"double": lambda h: h * 2, "triple": lambda h: h * 3}
        if kind in functions:
            model = Own(functions[kind])
            return Trainer(model, "cross_entropy", "sgd", lr=0.1)
        if kind == "frozen":
            trainer = build(seed=seed)
            trainer.model[0].requires_grad_(False)
            return trainer
        if kind == "clipped":
            trainer = build(seed=seed)
            trainer.max_norm = 0.1
            return trainer
        if kind == "smoothed":
            trainer = build(seed=seed)
            trainer.loss = nn.CrossEntropyLoss(label_smoothing=0.2)
            return trainer
        if kind == "scheduled":
            trainer = build(seed=seed)
            schedule = optim.lr_scheduler.StepLR(trainer.optimizer, 1, 0.5)
            return Trainer(trainer.model, "cross_entropy", trainer.optimizer, scheduler=schedule)
        kinds = {
            "wide": {"width": 9},
            "relu": {"act": nn.ReLU},
            "sgd": {"optimizer": "sgd"},
            "plain": {},
            "rms": {"optimizer": "rmsprop"},
        }
        return build(seed=seed, **kinds[kind])

    kinds = ["plain", "wide", "double", "relu", "sgd", "triple", "rms", "frozen", "clipped", "smoothed", "scheduled"]
    found = sweep({"seed": [0, 1], "kind": kinds}, made, threads=2)
    assert not found.errors
    same(found, made)


def test_one_program_serves_all_twins(monkeypatch):
    from chainrule.compiler.frontend import specialization

    made = []
    original = specialization.Specialization.__init__

    def counted(self, *args):
        made.append(1)
        original(self, *args)

    monkeypatch.setattr(specialization.Specialization, "__init__", counted)
    sweep({"lr": np.linspace(0.001, 0.1, 12).tolist(), "seed": [0, 1]}, threads=1)
    assert len(made) <= 6  # whole and short batches, and what checks the rows


def test_what_fit_takes_may_differ_from_training_to_training():
    configs = [
        {"epochs": 1, "batch_size": 16},
        {"epochs": 4, "shuffle": False},
        {"class_weight": "balanced", "epochs": 2},
    ]
    found = cr.sweep(build, configs, X, y, threads=2)
    for config, trainer in zip(configs, found, strict=True):
        expected = build()
        expected.fit(X, y, progress=False, **config)
        assert bits(trainer) == bits(expected)


def test_what_build_draws_does_not_depend_on_threads():
    def drawn(lr):
        return Trainer(nn.Linear(4, 2), "cross_entropy", "sgd", lr=lr)

    found = []
    for threads in (1, 3):
        cr.manual_seed(5)
        found.append([bits(t) for t in sweep({"lr": [0.1] * 5}, drawn, threads=threads)])
    assert found[0] == found[1] and len(set(found[0])) == 5


def test_the_best_and_the_table():
    found = sweep(GRID, validation_data=(X, y))
    rows = found.table()
    assert (
        rows[3]["training"] == 3 and rows[3]["lr"] == 0.01 and rows[3]["val_loss"] == found[3].history["val_loss"][-1]
    )
    assert found.best() == min(range(8), key=lambda i: rows[i]["val_loss"])
    assert rows[found.best("val_accuracy")]["val_accuracy"] == max(row["val_accuracy"] for row in rows)
    with pytest.raises(UnknownNameError, match="unknown measure 'accurate'"):
        found.best("accurate")
    with pytest.raises(SettingError, match="mode must be 'auto', 'min' or 'max', got 'up'"):
        found.best(mode="up")


def test_one_that_fails_ends_alone():
    found = sweep({"lr": [0.01, 1e30, 0.02]}, threads=2)
    assert list(found.errors) == [1] and "training stopped in epoch 1" in str(found.errors[1])
    with pytest.raises(DataError, match="sweep: training 1 ended with: training stopped"):
        _ = found[1]
    assert repr(found) == "<Sweep: 2 of 3 trainings, 1 failed>"
    assert bits(found[2]) == bits(alone({"lr": 0.02}))


def test_a_folder_goes_on_where_it_stopped(tmp_path):
    whole = sweep(GRID, folder=tmp_path / "runs")
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == [*(f"{i:06d}.safetensors" for i in range(8)), "sweep.json"]
    for i in (2, 5):
        (tmp_path / "runs" / f"{i:06d}.safetensors").unlink()
    calls = []
    again = sweep(GRID, folder=tmp_path / "runs", progress=lambda done, of: calls.append((done, of)))
    assert [bits(t) for t in again] == [bits(t) for t in whole] and calls[-1] == (8, 8)
    assert again[1].history["loss"] == whole[1].history["loss"]
    with pytest.raises(SettingError, match="is of other configurations"):
        sweep({"lr": [0.5]}, folder=tmp_path / "runs")


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"validation_data": (X[:20], y[:20])}, {"validation_data": (X[20:40], y[20:40])}),
        ({"validation_data": (X[:2].tolist(), [0, 1])}, {"validation_data": (X[:2].tolist(), [1, 0])}),
        ({"sample_weight": np.ones(70)}, {"sample_weight": np.arange(70.0)}),
    ],
)
def test_a_folder_is_of_all_rows_that_it_was_given(first, then, tmp_path):
    sweep({"lr": [0.1]}, folder=tmp_path / "runs", epochs=1, **first)
    sweep({"lr": [0.1]}, folder=tmp_path / "runs", epochs=1, **first)
    with pytest.raises(SettingError, match="is of other configurations, arguments of fit or rows"):
        sweep({"lr": [0.1]}, folder=tmp_path / "runs", epochs=1, **then)


def test_a_folder_is_of_all_values_in_its_configurations(tmp_path):
    weights, other = np.ones(2000), np.ones(2000)
    other[1000] = 5.0  # which Python does not write

    def weighed(weights):
        return build(float(weights.mean()) / 100)

    found = cr.sweep(weighed, [{"weights": weights}], X, y, epochs=1, folder=tmp_path / "runs")
    again = cr.sweep(weighed, [{"weights": weights.copy()}], X, y, epochs=1, folder=tmp_path / "runs")
    assert again.histories[0]["loss"] == found.histories[0]["loss"]
    with pytest.raises(SettingError, match="is of other configurations"):
        cr.sweep(weighed, [{"weights": other}], X, y, epochs=1, folder=tmp_path / "runs")


def test_a_folder_is_of_the_rows_of_its_table(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "d": X[:, 3]})
    cr.sweep(build, {"lr": [0.1]}, frame, y, epochs=1, folder=tmp_path / "runs")
    with pytest.raises(SettingError, match="is of other configurations, arguments of fit or rows"):
        cr.sweep(build, {"lr": [0.1]}, frame[::-1], y, epochs=1, folder=tmp_path / "runs")


@pytest.mark.parametrize("workers", [{"threads": 2}, {"processes": 2}])
def test_ctrl_c_gives_back_what_is_done(workers):
    def progress(done, of):
        if done == 2:
            raise KeyboardInterrupt

    found = sweep(GRID, progress=progress, **workers)
    assert found.interrupted and not sweep({"lr": [0.1]}).interrupted
    assert 2 <= sum(h is not None for h in found.histories) <= 4


def test_a_training_goes_on_after_its_sweep():
    found = sweep({"lr": [0.01, 0.02]}, threads=1)
    expected = alone({"lr": 0.02})
    for trainer in (found[1], expected):
        trainer.fit(X, y, 6, 32, resume=True, progress=False)
    assert bits(found[1]) == bits(expected)


def test_no_other_thread_changes_and_the_limit_ends_with_it():
    before = cr.get_num_threads()
    sweep({"lr": [0.1]}, threads=1)
    assert cr.get_num_threads() == before and threading.active_count() < 50


@pytest.mark.parametrize(
    ("configs", "text"),
    [
        ({"lr": 0.1}, "sweep: configs must have a list of values for each key, got 0.1 for 'lr'. Write {'lr': [0.1]}."),
        ([{"lr": 0.1}, 3], "sweep: configs must be a dict of lists, or a list of dicts, got 3 in it."),
        (
            {"rate": [0.1]},
            "sweep: a configuration has 'rate', which build(lr, p, seed, width, optimizer, act) does not take",
        ),
    ],
)
def test_configurations_that_cannot_be(configs, text):
    with pytest.raises(SettingError) as raised:
        sweep(configs)
    assert str(raised.value).startswith(text)


def test_a_trainer_that_has_trained_is_refused():
    trainer = alone({})
    with pytest.raises(
        SettingError, match="build must give a new Trainer for each configuration, got one that has trained"
    ):
        sweep([{}], lambda: trainer)
    with pytest.raises(SettingError, match="threads must be a whole number, 1 or more, got 0"):
        sweep([{}], threads=0)


def test_nothing_to_do():
    assert sweep([]).table() == [] and len(sweep({"lr": []})) == 0


def test_losses_with_state_and_several_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 1)

        def forward(self, x):
            return {"a": self.a(x), "b": self.b(x)}

    def two(seed):
        cr.manual_seed(seed)
        return Trainer(Two(), {"a": F.cross_entropy, "b": "mse"}, "adam")

    target = {"a": y, "b": X[:, 1:2]}
    found = cr.sweep(two, {"seed": [0, 1, 2]}, X, target, epochs=2, threads=2)
    for seed, trainer in enumerate(found):
        expected = two(seed)
        expected.fit(X, target, 2, seed=seed, progress=False)
        assert bits(trainer) == bits(expected)


class Odd(nn.Module):
    """What shapes its steps stands in a tensor that is no buffer, or in whether it has an attribute at all."""

    def __init__(self, scale, extra):
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 2), cr.tensor(scale)
        if extra is not None:
            self.extra = extra

    def forward(self, x):
        x = x * self.scale
        if self.training:
            self.seen = x.mean(0).detach()
        return self.layer(x * self.extra if hasattr(self, "extra") else x)


class Halving(optim.SGD):
    """An optimizer with a setting of its own."""

    def __init__(self, params, lr, part):
        super().__init__(params, lr=lr)
        self.part = part

    def settings(self, group, step):
        found = super().settings(group, step)
        return {**found, "lr": found["lr"] * self.part}


@pytest.mark.parametrize("threads", [1, 2])
def test_what_stands_beside_parameters_and_settings_is_of_each_training(threads):
    def odd(scale, extra, part):
        cr.manual_seed(0)
        model = Odd(scale, extra)
        return Trainer(model, "cross_entropy", Halving(model.parameters(), 0.1, part))

    found = sweep({"scale": [1.0, 3.0], "extra": [None, 2.0, 5.0], "part": [0.5, 1.0]}, odd, threads=threads)
    assert not found.errors
    same(found, odd)
    for config, trainer in zip(found.configs, found, strict=True):
        assert trainer.model.scale.item() == config["scale"]
        assert trainer.model.seen.tolist() == alone(config, odd).model.seen.tolist()


def test_classes_and_functions_that_build_makes_are_those_of_each_configuration():
    def made(power, factor):
        class Net(nn.Module):  # another class of the same name each time
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 2)

            def forward(self, x):
                return self.layer(x**power)

        cr.manual_seed(0)
        model = Net()
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor**step)
        return Trainer(model, "cross_entropy", optimizer, scheduler={"step": schedule})

    found = sweep({"power": [1, 2, 3], "factor": [0.9, 0.5]}, made, threads=1)
    assert not found.errors
    same(found, made)


def test_rates_by_functions_of_one_s_own_over_one_class():
    def made(factor):
        trainer = build()
        schedule = optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda step: factor**step)
        return Trainer(trainer.model, "cross_entropy", trainer.optimizer, ["accuracy"], scheduler={"step": schedule})

    found = sweep({"factor": [0.9, 0.5, 0.1]}, made, threads=1)
    same(found, made)


def test_processes_give_the_bits_of_threads():
    found = sweep(GRID, processes=2)
    assert not found.errors and repr(found) == "<Sweep: 8 of 8 trainings>"
    same(found)
    assert found.table() == [
        {**row, "seconds": h["seconds"][-1]} for row, h in zip(sweep(GRID).table(), found.histories, strict=True)
    ]


def test_a_training_goes_on_after_its_process():
    found = sweep({"lr": [0.01, 0.02]}, processes=2)
    expected = alone({"lr": 0.02})
    for trainer in (found[1], expected):
        trainer.fit(X, y, 6, 32, resume=True, progress=False)
    assert bits(found[1]) == bits(expected)


def test_an_error_of_who_watches_begins_no_training_that_waits(tmp_path):
    def progress(done, of):
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        sweep(GRID, slow, epochs=1, processes=1, progress=progress, folder=tmp_path / "runs")
    assert len(list((tmp_path / "runs").glob("*.safetensors"))) <= 2  # the first, and the one that ran when it came


def slow(**config):
    time.sleep(0.1)
    return build(**config)


def test_processes_that_start_afresh(monkeypatch):
    """As they do on Windows and macOS: all that they get is sent."""
    afresh = multiprocessing.get_context("spawn")
    monkeypatch.setattr(pools.multiprocessing, "get_context", lambda: afresh)
    floats, labels = X.copy(), y.astype(np.int64)
    found = cr.sweep(build, {"lr": [0.02], "seed": [3]}, floats, labels, epochs=3, batch_size=32, processes=1)
    same(found)
    assert found[0].session.rows.x is floats


def test_trainings_of_processes_hold_the_rows_once():
    """As those of threads do: a thousand copies would not fit into memory."""
    floats, labels = X.copy(), y.astype(np.int64)
    found = cr.sweep(build, {"seed": [0, 1]}, floats, labels, epochs=1, batch_size=32, processes=2)
    for trainer in found:
        assert trainer.session.rows.x is floats and trainer.session.rows.y is labels


def drawn(lr):
    """Its weights are drawn from whatever stands before."""
    return Trainer(nn.Linear(4, 2), "cross_entropy", "sgd", lr=lr)


def test_what_build_draws_does_not_depend_on_processes():
    found = []
    for workers in ({"threads": 1}, {"threads": 3}, {"processes": 2}):
        cr.manual_seed(5)
        found.append([bits(t) for t in sweep({"lr": [0.1] * 5}, drawn, **workers)])
        after = cr.rand(1).item()
    assert found[0] == found[1] == found[2] and len(set(found[0])) == 5
    cr.manual_seed(5)
    sweep({"lr": [0.1]}, drawn)
    assert cr.rand(1).item() == after  # the stream goes on in the same way, whatever was drawn


def test_processes_and_a_folder(tmp_path):
    folder = tmp_path / "runs"
    whole = sweep(GRID, folder=folder, processes=2)
    (folder / "000003.safetensors").unlink()
    again = sweep(GRID, folder=folder, processes=2)
    assert [bits(t) for t in again] == [bits(t) for t in whole]
    same(again)


def killed(lr):
    if lr == 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return build(lr)


def test_a_process_that_dies_costs_one_training():
    found = sweep({"lr": [0.01, 0.02, 0.5, 0.03, 0.04]}, killed, processes=2)
    assert list(found.errors) == [2] and "the process that ran it was killed" in str(found.errors[2])
    assert [bits(found[i]) for i in (0, 1, 3, 4)] == [bits(alone({"lr": lr})) for lr in (0.01, 0.02, 0.03, 0.04)]


def test_errors_come_back_from_processes():
    found = sweep({"lr": [0.01, 1e30]}, processes=2)
    assert list(found.errors) == [1] and "training stopped in epoch 1" in str(found.errors[1])


def test_what_cannot_be_sent_back_is_said():
    def local(seed):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(4, 2)

            def forward(self, x):
                return self.a(x)

        return Trainer(Net(), "cross_entropy", "sgd")

    with pytest.raises(
        SettingError, match=r"a training cannot be sent back by its process .* keep the trainings in a folder"
    ):
        sweep({"seed": [0, 1]}, local, processes=2)


def test_threads_or_processes():
    with pytest.raises(SettingError, match="Leave one out"):
        sweep(GRID, threads=2, processes=2)
    with pytest.raises(SettingError, match="processes must be a whole number, 1 or more, got 0"):
        sweep(GRID, processes=0)


@pytest.mark.parametrize("workers", [{"threads": 2}, {"processes": 2}])
def test_each_training_has_callbacks_of_its_own(workers):
    stopping = EarlyStopping("loss", patience=1, min_delta=0.02, restore_best_weights=True)
    found = sweep({"lr": [0.0001, 0.05, 0.0002, 0.06]}, epochs=30, callbacks=[stopping], **workers)
    for config, trainer in zip(found.configs, found, strict=True):
        own = EarlyStopping("loss", patience=1, min_delta=0.02, restore_best_weights=True)
        expected = alone(config, epochs=30, callbacks=[own])
        assert trainer.history["loss"] == expected.history["loss"] and bits(trainer) == bits(expected)
    assert stopping.best is None and len({len(h["loss"]) for h in found.histories}) > 1


def test_progress_is_what_fit_takes_and_functions(capsys):
    for quiet in (False, None):
        sweep({"lr": [0.01, 0.02]}, progress=quiet)
        assert capsys.readouterr().out == ""
    sweep({"lr": [0.01, 0.02]}, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["training 1/2", "training 2/2"] and "loss" in lines[0]
    stream = io.StringIO()
    sweep({"lr": [0.01, 1e30]}, progress=stream, threads=1)
    last = stream.getvalue().splitlines()[1]
    assert last.startswith("training 2/2  number 1 ended with: training stopped in epoch 1 at step")


def test_a_wrong_progress_is_refused():
    with pytest.raises(SettingError) as error:
        sweep({"lr": [0.01]}, progress=3)
    assert str(error.value) == (
        "sweep: progress must be True, False or a stream to write to, or a function of (done, of), got 3."
    )
