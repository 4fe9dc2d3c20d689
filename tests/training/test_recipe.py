"""The tabular recipe, against the same written in PyTorch, and its parts by closed forms."""

import math

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule import nn
from chainrule.errors import SettingError, UnknownNameError
from chainrule.training.recipe import PRESETS, built, recipe

rng = np.random.default_rng(0)
X = rng.standard_normal((90, 5))
LABELS, VALUES = rng.integers(0, 3, 90), rng.standard_normal((90, 2))


def theirs(chosen, trainer):
    """The network of a trainer in PyTorch, and its optimizer, from the published description."""
    layers, groups = [], {"scale": [], "weight": [], "bias": []}
    for module in trainer.model:
        if isinstance(module, nn.Scale):
            scale = torch.ones(module.features, dtype=torch.float64, requires_grad=True)
            groups["scale"].append(scale)
            layers.append(lambda x, s=scale: x * s)
        elif isinstance(module, nn.NTKLinear):
            weight, bias = (
                torch.tensor(p.detach().numpy().copy(), requires_grad=True) for p in (module.weight, module.bias)
            )
            groups["weight"].append(weight)
            groups["bias"].append(bias)
            layers.append(lambda x, w=weight, b=bias: x @ w.T / math.sqrt(w.shape[1]) + b)
        else:
            layers.append(getattr(torch.nn.functional, chosen.activation))
    rates = {"scale": 6.0, "weight": 1.0, "bias": 0.1}
    listed = [{"params": groups[name], "lr": chosen.lr * rates[name]} for name in rates]
    optimizer = torch.optim.Adam(listed, betas=(0.9, 0.95))

    def network(x):
        for layer in layers:
            x = layer(x)
        return x

    return network, optimizer


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_it_trains_as_the_same_in_pytorch_does(task):
    epochs, batch = 6, 40
    chosen = recipe("tabular", task).changed(hidden=(8, 7), epochs=epochs, batch_size=batch)
    y = LABELS if task == "classification" else VALUES
    trainer = built(chosen, 5, 3 if task == "classification" else 2, len(X), 1, cr.float64)
    network, optimizer = theirs(chosen, trainer)
    steps, losses, rates = 2, [], []
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 - 0.5 * math.cos(2 * math.pi * math.log2(1 + 15 * step / (epochs * steps)))
    )
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1) if task == "classification" else torch.nn.MSELoss()
    for epoch in range(epochs):
        order = cr.data.shuffled_indices(len(X), 3, epoch)
        found = []
        for start in range(0, steps * batch, batch):
            rows = order[start : start + batch]
            optimizer.zero_grad()
            value = loss(network(torch.tensor(X[rows])), torch.tensor(y[rows]))
            value.backward()
            optimizer.step()
            rates.append([group["lr"] for group in optimizer.param_groups])
            schedule.step()
            found.append(value.item())
        losses.append(np.mean(found))
    history = trainer.fit(X, y, epochs=epochs, batch_size=batch, drop_last=True, seed=3, progress=False)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-9)
    for group, name in enumerate(["lr", "lr_1", "lr_2"]):
        np.testing.assert_allclose(history[name], [rate[group] for rate in rates[1::2]], rtol=1e-9)


def test_the_published_numbers():
    classes, values = (recipe("tabular", task) for task in ("classification", "regression"))
    assert (classes.lr, classes.activation, classes.label_smoothing) == (0.04, "selu", 0.1)
    assert (values.lr, values.activation, values.label_smoothing) == (0.07, "mish", 0.0)
    for one in (classes, values):
        assert (one.hidden, one.epochs, one.batch_size, one.betas) == ((256, 256, 256), 256, 256, (0.9, 0.95))
        assert (one.scale_rate, one.bias_rate, one.waves) == (6.0, 0.1, 4)
    probabilities = recipe("tabular_log_loss", "classification")
    assert (probabilities.label_smoothing, probabilities.monitor) == (0.0, "val_loss")


def test_it_begins_with_all_classes_alike():
    trainer = built(recipe("tabular", "classification"), 5, 4, 90, 0)
    np.testing.assert_allclose(trainer.predict_proba(X), 0.25)


def test_each_kind_of_parameters_has_its_rate():
    trainer = built(recipe("tabular", "classification").changed(hidden=(4, 4)), 5, 3, 90, 0)
    groups = [([p.shape for p in g["params"]], g["initial_lr"]) for g in trainer.optimizer.param_groups]
    weights, biases = [(4, 5), (4, 4), (3, 4)], [(4,), (4,), (3,)]
    assert [shapes for shapes, _ in groups] == [[(5,)], weights, biases]
    assert [rate for _, rate in groups] == pytest.approx([0.24, 0.04, 0.004])


@pytest.mark.parametrize(("rows", "steps"), [(10, 1), (255, 1), (256, 1), (512, 2), (1000, 3)])
def test_an_epoch_is_of_whole_batches(rows, steps):
    assert recipe("tabular", "regression").steps(rows) == steps


def test_it_may_end_with_each_wave_but_the_last():
    assert recipe("tabular", "regression").stopping(20).stop_at == [18, 52, 120]
    assert recipe("tabular", "regression").changed(epochs=15).stopping(20).stop_at == [1, 3, 7]
    assert recipe("tabular", "regression").stopping(20, early=False).stop_at == []


def test_one_more_right_answer_is_kept_and_goes_on_with_no_wave():
    stopping = recipe("tabular", "classification").changed(epochs=15).stopping(held_out=10)
    right = [5, 7, 7, 8, 8, 8, 8, 9]  # the waves end after 1, 3, 7 and 15 epochs
    for epoch, rows in enumerate(right, 1):
        stopping.judge(epoch, rows / 10, lambda: None)
        if stopping.stopped:
            break
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (0.8, 7, 7)
    assert recipe("tabular", "classification").stopping(10, early=False).monitor.min_delta == 0
    assert recipe("tabular", "regression").stopping(10).monitor.min_delta == 0


def test_settings_are_checked():
    chosen = recipe("tabular", "regression")
    with pytest.raises(UnknownNameError, match=r"^unknown preset 'tabulr'. Did you mean 'tabular'"):
        recipe("tabulr", "classification")
    with pytest.raises(UnknownNameError, match=r"unknown preset 'tabular_log_loss'"):
        recipe("tabular_log_loss", "regression")
    with pytest.raises(UnknownNameError, match=r"unknown task"):
        recipe("tabular", "ranking")
    with pytest.raises(SettingError, match=r"^preset: epochs must be a whole number, 1 or more, got 0."):
        chosen.changed(epochs=0)
    with pytest.raises(SettingError, match=r"^preset: lr must be a number of 0 or more, got -1."):
        chosen.changed(lr=-1)
    with pytest.raises(SettingError, match=r"^preset: label_smoothing is of classes, got 0.1 for regression."):
        chosen.changed(label_smoothing=0.1)
    with pytest.raises(UnknownNameError, match="activation"):
        chosen.changed(activation="rleu")
    assert set(PRESETS) == {"tabular", "tabular_log_loss"}
