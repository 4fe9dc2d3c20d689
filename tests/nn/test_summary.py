"""The table of a model."""

from __future__ import annotations

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import SettingError


def build():
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.5)), nn.Linear(8, 3))
    model[2].bias.requires_grad_(False)
    model.register_buffer("mean", cr.zeros(10))
    return model


def test_the_table():
    table = nn.summary(build(), (5, 3, 4))
    assert str(table) == (
        "\n"
        "  layer             output shape   parameters\n"
        " ─────────────────────────────────────────────\n"
        "  Sequential        (5, 3)\n"
        "    0: Flatten      (5, 12)\n"
        "    1: Sequential   (5, 8)\n"
        "      0: Linear     (5, 8)                104\n"
        "      1: ReLU       (5, 8)\n"
        "      2: Dropout    (5, 8)\n"
        "    2: Linear       (5, 3)                 27\n"
        "\n"
        "131 parameters, 128 of them trainable, 0.000564 MB\n"
        "600 multiply-adds in one forward pass"
    )
    assert (table.parameters, table.trainable, table.multiply_adds) == (131, 128, 5 * (12 * 8 + 8 * 3))
    assert table.megabytes == pytest.approx((131 + 10) * 4 / 1e6)
    assert [(row.name, row.output, row.parameters) for row in table.rows][3] == ("1.0", "(5, 8)", 104)


def test_it_leaves_no_trace():
    model = build()
    model[1].eval()
    state = cr.default_generator.get_state().tolist()
    nn.summary(model, cr.zeros(5, 3, 4))
    assert model.training
    assert not model[1].training
    assert "forward" not in model[0].__dict__
    assert model[2].weight.grad is None
    assert cr.default_generator.get_state().tolist() == state


def test_models_of_several_inputs_and_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.unused = nn.Linear(2, 2, dtype=cr.float64), nn.ReLU()

        def forward(self, x, y):
            return self.a(x), {"sum": x + y}

    table = nn.summary(Two(), (3, 2), cr.ones(3, 2, dtype=cr.float64))
    assert [row.output for row in table.rows] == ["(3, 2), dict", "(3, 2)", "-"]
    assert table.multiply_adds == 12


def test_refusals():
    for model, text in (
        (cr.Trainer(build(), "mse", "adam"), "Trainer. Pass its model"),
        (nn.Linear, "type. Pass the module"),
    ):
        with pytest.raises(SettingError) as error:
            nn.summary(model, (1, 4))
        assert str(error.value) == f"summary: model must be an nn.Module, got {text}."
    with pytest.raises(SettingError) as error:
        nn.summary(build())
    assert str(error.value) == "summary: needs an input or its shape, got none. Write summary(model, (1, 784))."
    with pytest.raises(SettingError) as error:
        nn.summary(build(), "x")
    assert str(error.value) == "summary: an input must be a tensor or a shape, got 'x'."
