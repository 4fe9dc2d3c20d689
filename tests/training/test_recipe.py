"""The tabular recipe, against the same written in PyTorch, and its parts by closed forms."""

import math

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule import nn
from chainrule.errors import SettingError, UnknownNameError
from chainrule.training.realmlp import Blend, FadingDropout, Inputs, faded, initialize
from chainrule.training.recipe import PRESETS, Layout, built, recipe

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
    trainer = built(chosen, Layout(5), 3 if task == "classification" else 2, X, 1, cr.float64)
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
    trainer = built(recipe("tabular", "classification"), Layout(5), 4, X, 0)
    np.testing.assert_allclose(trainer.predict_proba(X), 0.25)


def test_each_kind_of_parameters_has_its_rate():
    trainer = built(recipe("tabular", "classification").changed(hidden=(4, 4)), Layout(5), 3, X, 0)
    groups = [([p.shape for p in g["params"]], g["initial_lr"]) for g in trainer.optimizer.param_groups]
    weights, biases = [(4, 5), (4, 4), (3, 4)], [(4,), (4,), (3,)]
    assert [shapes for shapes, _ in groups] == [[(5,)], weights, biases]
    assert [rate for _, rate in groups] == pytest.approx([0.24, 0.04, 0.004])


@pytest.mark.parametrize(("rows", "steps"), [(10, 1), (255, 1), (256, 1), (512, 2), (1000, 3)])
def test_an_epoch_is_of_whole_batches(rows, steps):
    assert recipe("tabular", "regression").steps(rows) == steps


def test_it_may_end_with_each_wave_but_the_last():
    assert recipe("tabular", "regression").stopping(20).stop_at == [18, 52, 120]
    assert recipe("tabular", "regression").changed(epochs=512).stopping(20).stop_at == [35, 103, 239]
    assert recipe("tabular", "regression").changed(epochs=255).stopping(20).stop_at == []
    assert recipe("tabular", "regression").stopping(20, early=False).stop_at == []


def test_one_more_right_answer_is_kept_and_goes_on_with_no_wave():
    stopping = recipe("tabular", "classification").stopping(held_out=10)
    right = [5] * 18 + [7] * 34 + [8] * 68 + [9]  # the waves end after 18, 52, 120 and 256 epochs
    for epoch, rows in enumerate(right, 1):
        stopping.judge(epoch, rows / 10, lambda: None)
        if stopping.stopped:
            break
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (0.8, 120, 120)
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
    assert set(PRESETS) == {"tabular", "tabular_full", "tabular_log_loss"}


# ---------------------------------------------------------------- the full recipe

LAYOUT = Layout(numbers=2, plain=2, sizes=(4,))
FULL_X = np.column_stack([X[:, :2], rng.integers(0, 2, (90, 2)), rng.integers(0, 4, 90)])


def full_in_pytorch(model):
    """The full network from its description, on the parameters of `model`, by name."""
    p = {
        name: torch.tensor(value.detach().numpy().copy(), requires_grad=True)
        for name, value in model.named_parameters()
    }

    def forward(x):
        numbers = x[:, :2]
        waves = torch.cos(2 * math.pi * numbers[:, :, None] * p["0.frequency"] + p["0.phase"])
        mixed = torch.einsum("bnh,nho->bno", waves, p["0.weight"]) + p["0.shift"]
        vectors = p["0.vectors.0.weight"][x[:, 4].long()]
        x = torch.cat([mixed.flatten(1), x[:, :4], vectors], 1) * p["1.weight"]
        for linear, blend in ((2, 3), (5, 6)):
            x = x @ p[f"{linear}.weight"].T / math.sqrt(x.shape[1]) + p[f"{linear}.bias"]
            x = x + (torch.nn.functional.mish(x) - x) * p[f"{blend}.share"]
        return x @ p["8.weight"].T / math.sqrt(x.shape[1]) + p["8.bias"]

    return p, forward


def test_the_full_recipe_trains_as_the_same_in_pytorch_does():
    epochs, batch, steps = 8, 45, 2
    chosen = recipe("tabular_full", "regression").changed(hidden=(8, 7), epochs=epochs, batch_size=batch, dropout=0.0)
    trainer = built(chosen, LAYOUT, 2, FULL_X, 1, cr.float64)
    parameters, forward = full_in_pytorch(trainer.model)
    rate = {"1.weight": 6.0}  # of the rest: waves and blending 0.1, biases 0.1, weights and vectors 1
    slow = ("0.frequency", "0.phase", "0.weight", "0.shift", "3.share", "6.share", "2.bias", "5.bias", "8.bias")
    groups = [
        {
            "params": [value],
            "factor": rate.get(name, 0.1 if name in slow else 1.0),
            "weight_decay": 0.02 * (0.0 if name.endswith("bias") else rate.get(name, 0.1 if name in slow else 1.0)),
        }
        for name, value in parameters.items()
    ]
    heights = [group["weight_decay"] for group in groups]
    optimizer, losses = torch.optim.AdamW(groups, lr=0.2, betas=(0.9, 0.95)), []
    for epoch in range(epochs):
        order, found = cr.data.shuffled_indices(len(X), 3, epoch), []
        for number in range(steps):
            done = (epoch * steps + number) / (epochs * steps)
            flat = 1.0 if done <= 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * done - 1)))
            for group, height in zip(optimizer.param_groups, heights, strict=True):
                group["lr"] = 0.2 * group["factor"] * (0.5 - 0.5 * math.cos(2 * math.pi * math.log2(1 + 15 * done)))
                group["weight_decay"] = height * flat
            rows = order[number * batch :][:batch]
            optimizer.zero_grad()
            value = torch.nn.functional.mse_loss(forward(torch.tensor(FULL_X[rows])), torch.tensor(VALUES[rows]))
            value.backward()
            optimizer.step()
            found.append(value.item())
        losses.append(np.mean(found))
    history = trainer.fit(FULL_X, VALUES, epochs=epochs, batch_size=batch, drop_last=True, seed=3, progress=False)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-8)


def test_layers_begin_as_the_rows_say():
    trainer = built(recipe("tabular_full", "classification").changed(hidden=(50, 50)), LAYOUT, 3, FULL_X, 1, cr.float64)
    x = cr.tensor(FULL_X)
    for layer in trainer.model:
        if isinstance(layer, FadingDropout):
            continue
        out = layer(x).detach().numpy()
        if isinstance(layer, nn.NTKLinear):
            before = out - layer.bias.detach().numpy()
            np.testing.assert_allclose(before.std(axis=0), 1, rtol=1e-9)
            bends = -layer.bias.detach().numpy()
            assert ((before.min(axis=0) <= bends) & (bends <= before.max(axis=0))).all()
        x = cr.tensor(out)


def test_a_unit_that_is_the_same_for_all_rows_begins_finite():
    model = nn.Sequential(nn.NTKLinear(2, 3), nn.NTKLinear(3, 1))
    initialize(model, np.zeros((4, 2), np.float32), 0)
    assert all(np.isfinite(p.detach().numpy()).all() for p in model.parameters())


def test_what_fades_is_whole_in_the_first_half():
    done = cr.tensor([0.0, 0.3, 0.5, 0.75, 1.0, 2.0], dtype=cr.float64)
    np.testing.assert_allclose(faded(done).numpy(), [1, 1, 1, 0.5, 0, 0], atol=1e-12)


def test_dropout_fades():
    layer, x = FadingDropout(0.4, steps=4), cr.ones(20_000)
    shares = [(layer(x).numpy() == 0).mean() for _ in range(5)]
    assert shares == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.0], abs=0.02)
    assert layer.done.item() == 5
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), x.numpy())
    assert layer.done.item() == 5


def test_a_blend_is_its_activation_at_first():
    x = cr.tensor([[-1.0, 2.0]])
    blend = Blend(nn.Mish(), 2)
    np.testing.assert_allclose(blend(x).detach().numpy(), nn.Mish()(x).numpy(), rtol=1e-6)
    blend.load_state_dict({"share": cr.zeros(2)})
    np.testing.assert_array_equal(blend(x).detach().numpy(), x.numpy())


def test_inputs_without_numbers_or_categories():
    assert Inputs(0, 3)(cr.ones(4, 3)).shape == (4, 3)
    assert Inputs(2, 0)(cr.ones(4, 2)).shape == (4, 8)
    assert Inputs(0, 0, (3,))(cr.ones(4, 1)).shape == (4, 8)
