"""NTKLinear and Scale against what a Linear and a product give."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, nn, optim
from chainrule.errors import DtypeError, SettingError, ShapeError

rng = np.random.default_rng(0)
X = rng.standard_normal((7, 5))


def test_it_is_a_linear_layer_of_smaller_weights():
    layer = nn.NTKLinear(5, 3, dtype=cr.float64)
    linear = nn.Linear(5, 3, dtype=cr.float64)
    linear.load_state_dict({"weight": layer.weight / math.sqrt(5), "bias": layer.bias})
    x = cr.tensor(X)
    np.testing.assert_allclose(layer(x).detach().numpy(), linear(x).detach().numpy(), rtol=1e-12)
    layer(x).pow(2).sum().backward()
    linear(x).pow(2).sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), linear.weight.grad.numpy() / math.sqrt(5), rtol=1e-12)
    np.testing.assert_allclose(layer.bias.grad.numpy(), linear.bias.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("width", [16, 256, 4096])
def test_one_step_of_adam_moves_the_output_alike_at_every_width(width):
    """Each weight moves by the rate; the output by rate * sum|x| / sqrt(width), where a Linear's goes with the width."""
    layer = nn.NTKLinear(width, 1, bias=False, dtype=cr.float64)
    x = cr.ones(1, width, dtype=cr.float64)
    optimizer = optim.Adam(layer.parameters(), lr=0.01, eps=0.0)
    before = layer(x)
    before.sum().backward()
    optimizer.step()
    assert (before - layer(x)).item() == pytest.approx(0.01 * math.sqrt(width), rel=1e-9)


def test_weights_begin_of_size_1_or_at_0():
    cr.manual_seed(0)
    layer = nn.NTKLinear(200, 100)
    assert layer.weight.detach().numpy().std() == pytest.approx(1, abs=0.02)
    assert abs(layer.weight.detach().numpy().mean()) < 0.02
    assert layer.bias.detach().numpy().std() == pytest.approx(1, abs=0.2)
    last = nn.NTKLinear(200, 100, zero=True)
    assert not last.weight.detach().numpy().any()
    assert not last.bias.detach().numpy().any()
    assert nn.NTKLinear(0, 2)(cr.zeros(3, 0)).shape == (3, 2)


def test_scale_multiplies_each_feature():
    layer = nn.Scale(5, dtype=cr.float64)
    x = cr.tensor(X)
    np.testing.assert_array_equal(layer(x).detach().numpy(), X)
    (layer(x) * 2).sum().backward()
    np.testing.assert_allclose(layer.weight.grad.numpy(), 2 * X.sum(0), rtol=1e-12)


@pytest.mark.parametrize(("layer", "name"), [(nn.NTKLinear(5, 2), "NTKLinear"), (nn.Scale(5), "Scale")])
def test_rows_of_another_width_are_refused(layer, name):
    with pytest.raises(
        ShapeError,
        match=rf"^{name}: the last axis of the input must be 5, got shape \(2, 4\). Pass rows of 5 features.",
    ):
        layer(cr.zeros(2, 4))
    with pytest.raises(ShapeError, match=r"got shape \(\)"):
        layer(cr.tensor(1.0))


def test_sizes_are_checked():
    with pytest.raises(SettingError, match=r"^Scale: features must be a whole number of 0 or more, got -1."):
        nn.Scale(-1)
    with pytest.raises(SettingError, match=r"^NTKLinear: out_features must be a whole number"):
        nn.NTKLinear(2, 2.5)


@pytest.mark.parametrize("kind", ["int64", "bool", "float64"])
def test_rows_of_another_dtype_are_refused(kind: str) -> None:
    with pytest.raises(DtypeError, match=f"^linear .*: input and weight must have one dtype, got {kind} and float32"):
        nn.NTKLinear(4, 1)(cr.ones(2, 4).to(getattr(cr, kind)))


def test_a_step_keeps_one_gradient_of_its_outputs() -> None:
    """That of the outputs, scaled, would be a second array as large."""
    model = nn.Sequential(nn.NTKLinear(7, 24), nn.Tanh(), nn.NTKLinear(24, 24), nn.Tanh(), nn.NTKLinear(24, 2))
    optimizer = optim.Adam(model.parameters())

    @cr.compile
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    step(cr.randn(11, 7))
    assert step._latest is not None
    stores = [store.node for kernel in step._latest.program.plan.kernels for store in kernel.stores]
    assert (
        sum(node.shape == (11, 24) for node in stores) == 2 * 3
    )  # of each hidden layer: z, its tanh, the gradient of z
