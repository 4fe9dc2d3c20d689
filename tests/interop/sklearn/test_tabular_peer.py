"""The tabular preset beside pytabkit's own RealMLP: the same preprocessing, network and schedules."""

import math

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("pytabkit", reason="pytabkit is not installed")

import torch
from pytabkit.models.realmlp.model import RealMLP, RealMLPConfig
from pytabkit.models.realmlp.train import SCHEDULES, compute_input_stats
from pytabkit.models.sklearn.default_params import DefaultParams

import chainrule as cr
from chainrule import optim
from chainrule.data.scaling import RobustScaling
from chainrule.training.realmlp import faded
from chainrule.training.recipe import Layout, built, recipe

rng = np.random.default_rng(0)
X = np.column_stack([rng.standard_normal((200, 3)) * [1, 50, 1e-3], rng.random(200) < 0.1, np.full(200, 2.0)])


def test_columns_are_scaled_alike():
    medians, scales = compute_input_stats(torch.tensor(X), torch.arange(150)[None])
    ours = RobustScaling.fit(X[:150])
    np.testing.assert_allclose(ours.medians, medians[0, 0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.factors, scales[0, 0].numpy(), rtol=1e-6)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_settings_are_the_published_ones(task):
    theirs = DefaultParams.RealMLP_TD_S_CLASS if task == "classification" else DefaultParams.RealMLP_TD_S_REG
    ours = recipe("tabular", task)
    assert list(ours.hidden) == theirs["hidden_sizes"]
    assert (ours.activation, ours.lr, ours.epochs) == (theirs["act"], theirs["lr"], theirs["n_epochs"])
    assert (ours.bias_rate, ours.scale_rate) == (theirs["bias_lr_factor"], theirs["scale_lr_factor"])
    assert ours.betas[1] == theirs["sq_mom"]
    assert ours.label_smoothing == theirs.get("ls_eps", 0.0)
    full, td = (
        recipe("tabular_full", task),
        RealMLPConfig.td_class() if task == "classification" else RealMLPConfig.td_reg(),
    )
    assert (full.lr, full.dropout, full.decay, full.activation) == (td.lr, td.p_drop, td.wd, td.act)
    assert (full.wave_rate, full.blend_rate, full.one_hot) == (
        td.plr_lr_factor,
        td.act_lr_factor,
        td.max_one_hot_cat_size - 1,
    )


def test_schedules_are_alike():
    waves = optim.lr_scheduler.CosLogLR(optim.SGD([cr.ones(1, requires_grad=True)], lr=1.0), 50)
    for step in range(51):
        assert waves.get_last_lr()[0] == pytest.approx(SCHEDULES["coslog4"](step / 50), abs=1e-12)
        assert faded(cr.tensor(step / 50, dtype=cr.float64)).item() == pytest.approx(
            SCHEDULES["flat_cos"](step / 50), abs=1e-12
        )
        waves.step()


def test_the_full_network_gives_what_theirs_does():
    numbers, categories = rng.standard_normal((64, 3)), rng.integers(0, 12, (64, 1))
    config = RealMLPConfig.td_reg(hidden_sizes=[9, 8], p_drop=0.0, normalize_output=False, clamp_output=False)
    torch.manual_seed(0)
    theirs = RealMLP(3, [12], 2, 1, config, False).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter))
        theirs.num_missing.zero_()
    medians, scales = compute_input_stats(torch.tensor(numbers), torch.arange(64)[None])
    theirs.x_median.copy_(medians)
    theirs.x_scale.copy_(scales)
    scaled = RobustScaling.fit(numbers).transform(numbers)
    chosen = recipe("tabular_full", "regression").changed(hidden=(9, 8))
    ours = built(chosen, Layout(3, 0, (12,)), 2, np.column_stack([scaled, categories]), 0, cr.float64).model
    ours.load_state_dict({**ours.state_dict(), **_taken_over(theirs)})
    with torch.no_grad():
        expected = theirs(torch.tensor(numbers)[None], torch.tensor(categories)[None])[0].numpy()
    # Theirs have the numbers' waves and the numbers one behind the other, as here; then the vectors.
    found = ours.eval()(cr.tensor(np.column_stack([scaled, categories]))).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def _taken_over(theirs):
    """The parameters of pytabkit's network by the names of ours."""
    get = lambda value: cr.tensor(value.detach()[0].numpy().copy())  # noqa: E731
    layers = list(theirs.mlp)
    found = {
        "0.frequency": get(theirs.plr_weight_1)[:, 0], "0.phase": get(theirs.plr_bias_1)[:, 0],
        "0.weight": get(theirs.plr_weight_2), "0.shift": get(theirs.plr_bias_2)[:, 0],
        "0.vectors.0.weight": get(theirs.cat_emb), "1.weight": get(layers[0].scale)[0],
    }  # fmt: skip
    for number, place in enumerate((1, 5, 9)):
        weight = get(layers[place].weight)
        found[f"{2 + 3 * number}.weight"], found[f"{2 + 3 * number}.bias"] = weight.T, get(layers[place + 1].bias)[0]
    for number, place in enumerate((3, 7)):
        found[f"{3 + 3 * number}.share"] = get(layers[place].weight)[0]
    assert math.isclose(theirs.config.scale_lr_factor, 6.0)
    return found
