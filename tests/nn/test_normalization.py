"""The normalisations against PyTorch: values, gradients, running statistics; eager and compiled, training and evaluation."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DataError, SettingError, ShapeError

from .peers import assert_same, assert_same_layer, same, torch, twins

RNG = np.random.default_rng(0)
BOTH = pytest.mark.parametrize("native", [False, True], ids=["eager", "compiled"])


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


LAYERS = [
    ("LayerNorm", (4,), {}, (5, 4)), ("LayerNorm", (4,), {}, (2, 3, 4)), ("LayerNorm", ((3, 4),), {}, (2, 3, 4)),
    ("LayerNorm", (4,), {"eps": 0.1, "bias": False}, (5, 4)), ("LayerNorm", (4,), {"elementwise_affine": False}, (5, 4)),
    ("LayerNorm", (4,), {}, (4,)), ("LayerNorm", (4,), {}, (0, 4)), ("LayerNorm", ([4],), {}, (1, 4)),
    ("RMSNorm", (4,), {}, (5, 4)), ("RMSNorm", ((3, 4),), {"eps": 0.1}, (2, 3, 4)),
    ("RMSNorm", (4,), {"elementwise_affine": False}, (5, 4)),
    ("GroupNorm", (2, 6), {}, (3, 6)), ("GroupNorm", (3, 6), {"eps": 0.1}, (2, 6, 5)),
    ("GroupNorm", (1, 6), {"affine": False}, (2, 6, 2, 2)), ("GroupNorm", (6, 6), {"bias": False}, (2, 6, 3)),
    ("BatchNorm1d", (4,), {}, (5, 4)), ("BatchNorm1d", (4,), {}, (3, 4, 2)), ("BatchNorm1d", (4,), {}, (1, 4, 2)),
    ("BatchNorm1d", (4,), {"momentum": None}, (5, 4)), ("BatchNorm1d", (4,), {"affine": False}, (5, 4)),
    ("BatchNorm1d", (4,), {"track_running_stats": False}, (5, 4)), ("BatchNorm1d", (4,), {"bias": False}, (5, 4)),
    ("BatchNorm1d", (4,), {"momentum": 0.7, "eps": 0.2}, (5, 4)), ("BatchNorm1d", (4,), {}, (0, 4)),
    ("InstanceNorm1d", (4,), {}, (2, 4, 5)), ("InstanceNorm1d", (4,), {"affine": True}, (4, 5)),
    ("InstanceNorm1d", (4,), {"track_running_stats": True, "affine": True}, (2, 4, 5)),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("name", "arguments", "options", "shape"), LAYERS)
def test_layers_are_those_of_pytorch(name, arguments, options, shape, training, native):
    ours, theirs = twins(name, *arguments, **options)
    ours.train(training)
    theirs.train(training)
    for _ in range(3):  # running statistics go on from batch to batch
        assert_same_layer(ours, theirs, RNG.normal(size=shape) * 2 + 1, native=native and bool(np.prod(shape)))


@pytest.mark.parametrize(("name", "arguments", "options", "shape"), LAYERS)
def test_layers_start_like_pytorchs(name, arguments, options, shape):
    ours, theirs = getattr(nn, name)(*arguments, **options), getattr(torch.nn, name)(*arguments, **options)
    for (key, mine), (other, peer) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert (key, mine.dtype.name) == (other, str(peer.dtype).removeprefix("torch."))
        assert mine.tolist() == peer.tolist()
    changed, _ = twins(name, *arguments, **options)
    changed.reset_parameters()
    assert {k: v.tolist() for k, v in changed.state_dict().items()} == {
        k: v.tolist() for k, v in ours.state_dict().items()
    }


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "arguments", "options", "shape"), LAYERS)
def test_gradients_are_those_of_finite_differences(name, arguments, options, shape, training):
    if not np.prod(shape):
        return
    layer = twins(name, *arguments, **options)[0].train(training)
    x = cr.tensor(RNG.normal(size=shape))
    assert cr.check_gradients(lambda x: layer(x).sin(), x)
    parameters = list(layer.parameters())
    for parameter in parameters:
        held = parameter.detach().clone()

        def of_one(values, parameter=parameter, held=held):
            others = {n: (values if p is parameter else p) for n, p in layer.named_parameters()}
            return _applied(layer, others, x).sin()

        assert cr.check_gradients(of_one, held)


def _applied(layer, parameters, x):
    weight, bias = parameters.get("weight"), parameters.get("bias")
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return F.rms_norm(x, layer.normalized_shape, weight, layer.eps)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    if isinstance(layer, nn.BatchNorm1d):
        return F.batch_norm(x, None, None, weight, bias, True, eps=layer.eps)
    return F.instance_norm(x if x.ndim == 3 else x.unsqueeze(0), None, None, weight, bias, eps=layer.eps)


def test_functions_without_parameters():
    x, mean, var = RNG.normal(size=(5, 3)), RNG.normal(size=3), RNG.uniform(1, 2, size=3)
    tf = torch.nn.functional
    assert_same(lambda x: F.layer_norm(x, (3,)), lambda x: tf.layer_norm(x, (3,)), x)
    assert_same(lambda x: F.rms_norm(x, (3,)), lambda x: tf.rms_norm(x, (3,)), x)
    assert_same(lambda x: F.group_norm(x, 3), lambda x: tf.group_norm(x, 3), x)
    assert_same(
        lambda x: F.batch_norm(x, cr.tensor(mean), cr.tensor(var)),
        lambda x: tf.batch_norm(x, torch.tensor(mean), torch.tensor(var)),
        x,
    )
    assert_same(F.instance_norm, tf.instance_norm, RNG.normal(size=(2, 3, 4)))


@BOTH
@pytest.mark.parametrize("dtype", [cr.float32, cr.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("normalise", [
    lambda x: F.layer_norm(x, (64,), eps=0.0), lambda x: F.group_norm(x, 1, eps=0.0),
    lambda x: F.batch_norm(x.T, None, None, training=True, eps=0.0).T,
])  # fmt: skip
def test_an_offset_costs_no_digits(normalise, dtype, native):
    """Integers far from 0 have exact differences: what comes out must be right to some units in the last place.

    The difference of the mean square and the squared mean would have no digit left.
    """
    shape = (3, 64)
    offset = {cr.float32: 2.0**20, cr.float64: 2.0**45}[dtype]
    rows = np.random.default_rng(1).integers(-8, 9, size=shape) + offset
    exact = np.array([(r - r.mean()) / r.std() for r in (rows - offset)])
    found = (cr.compile(normalise) if native else normalise)(cr.tensor(rows, dtype=dtype))
    eps = np.finfo(dtype.numpy).eps
    np.testing.assert_allclose(found.numpy(), exact, rtol=64 * eps, atol=offset * eps)


@BOTH
@pytest.mark.parametrize("normalise", [
    lambda x: F.layer_norm(x, (4,)), lambda x: F.rms_norm(x, (4,)), lambda x: F.group_norm(x, 1),
    lambda x: F.batch_norm(x.T, None, None, training=True).T, lambda x: F.instance_norm(x.reshape(1, 2, 4)).reshape(2, 4),
])  # fmt: skip
def test_squares_beyond_the_dtype_are_not_nothing(normalise, native):
    rows = cr.tensor([[1e30, -1e30, 1e30, 0.0], [1.0, 2.0, 3.0, 4.0]])
    found = (cr.compile(normalise) if native else normalise)(rows).numpy()
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_a_constant_feature_has_a_finite_gradient():
    x = np.ones((5, 4)) * 3.0
    assert_same_layer(*twins("BatchNorm1d", 4), x)
    assert_same_layer(*twins("LayerNorm", 4), x)


@BOTH
def test_the_running_mean_over_all_batches(native):
    layer = nn.BatchNorm1d(3, momentum=None).double()
    call = cr.compile(lambda x: layer(x)) if native else layer
    batches = [RNG.normal(size=(n, 3)) for n in (4, 4, 4)]
    for batch in batches:
        call(cr.tensor(batch))
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean([b.mean(0) for b in batches], 0), rtol=1e-13)
    np.testing.assert_allclose(layer.running_var.numpy(), np.mean([b.var(0, ddof=1) for b in batches], 0), rtol=1e-13)
    assert layer.num_batches_tracked.item() == 3
    layer.reset_running_stats()
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.running_var.tolist() == [1, 1, 1]
    assert layer.num_batches_tracked.item() == 0


def test_statistics_that_are_no_longer_tracked_stay():
    ours, theirs = twins("BatchNorm1d", 4)
    ours.track_running_stats = theirs.track_running_stats = False
    before = ours.running_mean.tolist()
    assert_same_layer(ours, theirs, RNG.normal(size=(5, 4)))
    assert ours.running_mean.tolist() == before
    assert_same_layer(ours.eval(), theirs.eval(), RNG.normal(size=(5, 4)))


def test_a_float32_batch_moves_float32_statistics():
    x = RNG.normal(size=(6, 3)).astype(np.float32)
    ours, theirs = nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)
    ours(cr.tensor(x))
    theirs(torch.tensor(x))
    for mine, peer in zip(ours.buffers(), theirs.buffers(), strict=True):
        np.testing.assert_allclose(mine.numpy(), peer.numpy(), rtol=1e-6)


def line_of(function):
    return f"(test_normalization.py:{function.__code__.co_firstlineno + 1} in {function.__name__})"


@BOTH
def test_a_batch_of_one_row(native):
    layer = nn.BatchNorm1d(3)

    def call(x):
        return layer(x)

    with raises(
        DataError,
        f"batch_norm in layer 'BatchNorm1d' {line_of(call)}: in training it needs more than one value for each "
        "channel, got an input of shape (1, 3). Choose a batch size that leaves no batch of one row, or call "
        "model.eval() first.",
    ):
        (cr.compile(call) if native else call)(cr.zeros(1, 3))
    assert layer.running_mean.tolist() == [0, 0, 0]
    assert layer.num_batches_tracked.item() == 0
    same(layer.eval()(cr.zeros(1, 3)), torch.nn.BatchNorm1d(3).eval()(torch.zeros(1, 3)))


WRONG = [
    (ShapeError, lambda: nn.BatchNorm1d(3)(cr.zeros(2, 4)),
     "BatchNorm1d in layer 'BatchNorm1d' {}: axis 1 of the input must be num_features=3, got shape (2, 4). "
     "Make num_features=4, or change what comes before this layer."),
    (ShapeError, lambda: nn.BatchNorm1d(3)(cr.zeros(3)),
     "BatchNorm1d in layer 'BatchNorm1d' {}: the input must have 2 or 3 axes, got shape (3,). Reshape the input."),
    (ShapeError, lambda: nn.LayerNorm(3)(cr.zeros(2, 4)),
     "layer_norm in layer 'LayerNorm' {}: the input must be floating and its last axes must be (3,), got float32 of "
     "shape (2, 4). Change normalized_shape, or reshape the input."),
    (ShapeError, lambda: F.layer_norm(cr.zeros(2, 4), (4,), cr.zeros(1)),
     "layer_norm {}: weight must have the shape (4,) that is normalised over, got shape (1,). Give one value for each "
     "element."),
    (ShapeError, lambda: F.batch_norm(cr.zeros(2, 4), cr.zeros(3), None, training=True),
     "batch_norm {}: running_mean must have shape (4,), one value for each channel of the input (2, 4), got shape (3,). "
     "Give as many values as axis 1 of the input has."),
    (SettingError, lambda: F.batch_norm(cr.zeros(2, 4), None, None),
     "batch_norm {}: without the statistics of the input it needs running_mean and running_var, got None. Give both, or "
     "normalise by the input (training=True)."),
    (DataError, lambda: nn.InstanceNorm1d(3)(cr.zeros(2, 3, 1)),
     "instance_norm in layer 'InstanceNorm1d' {}: it needs more than one value for each channel of a row, got an input of "
     "shape (2, 3, 1). Use batch_norm, which normalises over the rows."),
    (ShapeError, lambda: F.group_norm(cr.zeros(2, 4), 3),
     "group_norm {}: num_groups must divide the 4 channels of the input, got 3 groups. Choose another number of groups."),
    (SettingError, lambda: nn.GroupNorm(3, 4),
     "GroupNorm: num_groups must divide num_channels, got 3 groups of 4 channels."),
    (SettingError, lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape must name one axis or more, got ()."),
    (SettingError, lambda: nn.BatchNorm1d(2.5), "BatchNorm1d: num_features must be a whole number of 0 or more, got 2.5."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "text"), WRONG)
def test_what_does_not_fit(kind, call, text):
    with raises(kind, text.format(f"(test_normalization.py:{call.__code__.co_firstlineno} in <lambda>)")):
        call()
