"""Layers of images, cells and transformers: PyTorch's parameters give PyTorch's values and gradients, eager and compiled."""

import copy
import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import SettingError, ShapeError
from tests.optional import torch

RNG = np.random.default_rng(0)
IMAGE, VOLUME, LINE = (2, 4, 7, 9), (2, 4, 5, 6, 7), (2, 4, 11)
LAYERS = {
    "BatchNorm2d": (lambda m: m.BatchNorm2d(4), IMAGE),
    "BatchNorm3d": (lambda m: m.BatchNorm3d(4, affine=False), VOLUME),
    "BatchNorm2d, in evaluation": (lambda m: m.BatchNorm2d(4).eval(), IMAGE),
    "InstanceNorm2d": (lambda m: m.InstanceNorm2d(4, affine=True, track_running_stats=True), IMAGE),
    "InstanceNorm2d, alone": (lambda m: m.InstanceNorm2d(4), IMAGE[1:]),
    "InstanceNorm3d": (lambda m: m.InstanceNorm3d(4), VOLUME),
    "AdaptiveAvgPool1d": (lambda m: m.AdaptiveAvgPool1d(4), LINE),
    "AdaptiveAvgPool2d": (lambda m: m.AdaptiveAvgPool2d((3, 4)), IMAGE),
    "AdaptiveAvgPool2d, to one": (lambda m: m.AdaptiveAvgPool2d(1), IMAGE),
    "AdaptiveAvgPool2d, larger": (lambda m: m.AdaptiveAvgPool2d((None, 12)), IMAGE),
    "AdaptiveAvgPool3d": (lambda m: m.AdaptiveAvgPool3d((2, 3, 4)), VOLUME),
    "AdaptiveMaxPool1d": (lambda m: m.AdaptiveMaxPool1d(4), LINE),
    "AdaptiveMaxPool2d": (lambda m: m.AdaptiveMaxPool2d((3, 4)), IMAGE),
    "AdaptiveMaxPool3d": (lambda m: m.AdaptiveMaxPool3d(2), VOLUME),
    "Upsample": (lambda m: m.Upsample(scale_factor=2), IMAGE),
    "Upsample, odd": (lambda m: m.Upsample(scale_factor=(1.7, 0.6)), IMAGE),
    "Upsample, exact": (lambda m: m.Upsample(size=(3, 20), mode="nearest-exact"), IMAGE),
    "Upsample, linear": (lambda m: m.Upsample(size=20, mode="linear"), LINE),
    "Upsample, bilinear": (lambda m: m.Upsample(scale_factor=2, mode="bilinear", align_corners=True), IMAGE),
    "Upsample, bilinear smaller": (lambda m: m.Upsample(scale_factor=0.6, mode="bilinear", align_corners=False), IMAGE),
    "Upsample, trilinear": (lambda m: m.Upsample((4, 9, 8), mode="trilinear"), VOLUME),
    "Upsample, area": (lambda m: m.Upsample((4, 5), mode="area"), IMAGE),
    "UpsamplingBilinear2d": (lambda m: m.UpsamplingBilinear2d(scale_factor=3), IMAGE),
    "UpsamplingNearest2d": (lambda m: m.UpsamplingNearest2d((3, 4)), IMAGE),
    "PixelShuffle": (lambda m: m.PixelShuffle(2), IMAGE),
    "PixelUnshuffle": (lambda m: m.PixelUnshuffle(3), (2, 4, 6, 9)),
    "ChannelShuffle": (lambda m: m.ChannelShuffle(2), IMAGE),
    "Softmax2d": (lambda m: m.Softmax2d(), IMAGE),
    "ConstantPad2d": (lambda m: m.ConstantPad2d((1, 2, 0, -1), 3.5), IMAGE),
    "ConstantPad3d": (lambda m: m.ConstantPad3d(1, 2.0), VOLUME),
    "ZeroPad2d": (lambda m: m.ZeroPad2d(2), IMAGE),
    "ZeroPad3d": (lambda m: m.ZeroPad3d(1), VOLUME),
    "ReflectionPad1d": (lambda m: m.ReflectionPad1d((3, 2)), LINE),
    "ReflectionPad2d": (lambda m: m.ReflectionPad2d((3, 0, 2, 6)), IMAGE),
    "ReflectionPad3d": (lambda m: m.ReflectionPad3d(2), VOLUME),
    "ReplicationPad1d": (lambda m: m.ReplicationPad1d((3, 20)), LINE),
    "ReplicationPad2d": (lambda m: m.ReplicationPad2d((3, 1, 2, 9)), IMAGE),
    "ReplicationPad3d": (lambda m: m.ReplicationPad3d(2), VOLUME),
    "CircularPad1d": (lambda m: m.CircularPad1d((3, 11)), LINE),
    "CircularPad2d": (lambda m: m.CircularPad2d((3, 1, 2, 7)), IMAGE),
    "CircularPad3d": (lambda m: m.CircularPad3d(2), VOLUME),
    "ConvTranspose1d": (lambda m: m.ConvTranspose1d(4, 3, 3, stride=2, output_padding=1), LINE),
    "ConvTranspose2d": (lambda m: m.ConvTranspose2d(4, 6, (3, 4), stride=(2, 3), padding=(1, 0), groups=2), IMAGE),
    "ConvTranspose2d, dilated": (lambda m: m.ConvTranspose2d(4, 2, 3, dilation=2, padding=5, bias=False), (2, 4, 8, 9)),
    "ConvTranspose3d": (lambda m: m.ConvTranspose3d(4, 2, 2, stride=2), (1, 4, 3, 2, 3)),
    "RNNCell": (lambda m: m.RNNCell(4, 5, nonlinearity="relu"), (3, 4)),
    "RNNCell, alone": (lambda m: m.RNNCell(4, 5, bias=False), (4,)),
    "GRUCell": (lambda m: m.GRUCell(4, 5), (3, 4)),
    "LSTMCell": (lambda m: m.LSTMCell(4, 5), (3, 4)),
    "TransformerEncoderLayer": (lambda m: m.TransformerEncoderLayer(8, 2, 16, 0.0), (5, 3, 8)),
    "TransformerEncoderLayer, norm first": (lambda m: m.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True, bias=False), (3, 5, 8)),
    "TransformerEncoder": (lambda m: m.TransformerEncoder(m.TransformerEncoderLayer(8, 2, 16, 0.0), 2, m.LayerNorm(8)), (5, 3, 8)),
}  # fmt: skip


# One of each kind: the others are made of the same.
COMPILED = {
    "BatchNorm2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "Upsample, bilinear", "PixelShuffle", "ReflectionPad2d", "ConvTranspose1d",
    "LSTMCell", "TransformerEncoderLayer",
}  # fmt: skip


def pair(make):
    """The layer here and in PyTorch, with PyTorch's parameters."""
    torch.manual_seed(0)
    theirs, ours = make(torch.nn), make(nn)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    return ours, theirs


def first(value):
    return value[0] if isinstance(value, tuple) else value


def outcome(library, layer, *inputs):
    """The output, the gradient of the inputs and of the parameters, and the buffers afterwards."""
    xs = [library.tensor(x, requires_grad=True) for x in inputs]
    y = first(layer(*xs))
    weights = library.tensor(np.random.default_rng(1).standard_normal(tuple(y.shape)).astype(np.float32))
    (y * weights).sum().backward()
    grads = [t.grad.numpy() for t in (*xs, *layer.parameters())]
    return [y.detach().numpy(), *grads, *(b.detach().numpy() for b in layer.buffers())]


def same(ours, theirs, tolerance=2e-5):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pytorchs(name):
    make, shape = LAYERS[name]
    ours, theirs = pair(make)
    again = copy.deepcopy(ours)
    x = RNG.standard_normal(shape).astype(np.float32)
    found = outcome(cr, ours, x)
    same(found, outcome(torch, theirs, x))
    if name in COMPILED:
        compiled = cr.compile(lambda x: first(again(x)))
        np.testing.assert_allclose(compiled(cr.tensor(x)).detach().numpy(), found[0], rtol=2e-5, atol=2e-5)


DECODERS = {
    "layer": lambda m: m.TransformerDecoderLayer(8, 2, 16, 0.0),
    "stack": lambda m: m.TransformerDecoder(m.TransformerDecoderLayer(8, 2, 16, 0.0, norm_first=True), 2, m.LayerNorm(8)),
    "whole": lambda m: m.Transformer(8, 2, 1, 1, 16, 0.0),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch's own
@pytest.mark.parametrize("name", DECODERS)
def test_decoders_and_masks_are_pytorchs(name):
    ours, theirs = pair(DECODERS[name])
    a, b = RNG.standard_normal((4, 2, 8)).astype(np.float32), RNG.standard_normal((5, 2, 8)).astype(np.float32)
    found = []
    for library, model, modules in ((cr, ours, nn), (torch, theirs, torch.nn)):
        causal = modules.Transformer.generate_square_subsequent_mask(4 if name != "whole" else 5)
        hidden = library.tensor(
            [[False] * (5 if name != "whole" else 4), [False] * 3 + [True] * (2 if name != "whole" else 1)]
        )
        masks = {"tgt_mask": causal, "memory_key_padding_mask": hidden}
        found.append(_run(library, model, a, b, masks))
    same(*found)


def _run(library, model, a, b, masks):
    x, y = library.tensor(a, requires_grad=True), library.tensor(b, requires_grad=True)
    (model(x, y, **masks) ** 2).sum().backward()
    return [t.grad.numpy() for t in (x, y, *model.parameters())]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_an_encoder_with_masks_is_pytorchs():
    ours, theirs = pair(lambda m: m.TransformerEncoder(m.TransformerEncoderLayer(8, 2, 16, 0.0), 2))
    x, found = RNG.standard_normal((4, 3, 8)).astype(np.float32), []
    for library, model, modules in ((cr, ours, nn), (torch, theirs, torch.nn)):
        mask = modules.Transformer.generate_square_subsequent_mask(4)
        hidden = library.zeros(3, 4).masked_fill(
            library.tensor([[False] * 4, [False] * 4, [False, False, False, True]]), -np.inf
        )
        found.append(
            [model(library.tensor(x), mask=mask, src_key_padding_mask=hidden, is_causal=True).detach().numpy()]
        )
    same(*found)


def test_cells_take_a_state():
    for name in ("RNNCell", "GRUCell", "LSTMCell"):
        ours, theirs = pair(lambda m, name=name: getattr(m, name)(3, 4))
        x, h, c = (RNG.standard_normal((2, n)).astype(np.float32) for n in (3, 4, 4))
        states = [(L.tensor(h), L.tensor(c)) if name == "LSTMCell" else L.tensor(h) for L in (cr, torch)]
        a, b = ours(cr.tensor(x), states[0]), theirs(torch.tensor(x), states[1])
        same(*([t.detach().numpy() for t in (v if isinstance(v, tuple) else (v,))] for v in (a, b)))


def test_heads_that_serve_several_queries():
    q, k, v = (RNG.standard_normal((2, heads, 5, 4)).astype(np.float32) for heads in (6, 2, 2))
    found = [
        L.nn.functional.scaled_dot_product_attention(*map(L.tensor, (q, k, v)), enable_gqa=True).numpy()
        for L in (cr, torch)
    ]
    same([found[0]], [found[1]])
    with pytest.raises(ShapeError, match="with enable_gqa the heads of the key must divide those of the query"):
        F.scaled_dot_product_attention(cr.tensor(q), cr.tensor(q[:, :4]), cr.tensor(v), enable_gqa=True)


def test_dropout_of_channels_of_volumes():
    layer, x = nn.Dropout3d(0.5), cr.ones(4, 50, 2, 3, 2)
    y = layer(x)
    assert set(y.reshape(200, 12).sum(1).tolist()) == {0.0, 24.0}
    assert layer.eval()(x) is x


@pytest.mark.parametrize(("name", "shape"), [("LazyConv1d", LINE), ("LazyConv2d", IMAGE), ("LazyConv3d", VOLUME)])
def test_lazy_convolutions_become_what_they_stand_for(name, shape):
    layer = getattr(nn, name)(6, 3, groups=2, padding=1)
    optimizer = cr.optim.SGD(layer.parameters(), lr=0.1)
    y = layer(cr.ones(shape))
    y.sum().backward()
    optimizer.step()
    assert type(layer) is getattr(nn, name.removeprefix("Lazy"))
    assert (layer.in_channels, layer.weight.shape[:2], y.shape) == (4, (6, 2), (shape[0], 6, *shape[2:]))


@pytest.mark.parametrize(("name", "shape"), [("LazyBatchNorm2d", IMAGE), ("LazyBatchNorm3d", VOLUME)])
def test_lazy_norms_become_what_they_stand_for(name, shape):
    layer = getattr(nn, name)()
    assert layer(cr.ones(shape)).shape == shape
    assert type(layer) is getattr(nn, name.removeprefix("Lazy"))
    assert layer.num_features == 4


def test_a_transposed_convolution_to_a_size():
    ours, theirs = pair(lambda m: m.ConvTranspose2d(4, 2, 3, stride=2))
    x = RNG.standard_normal(IMAGE).astype(np.float32)
    same(
        [ours(cr.tensor(x), output_size=(16, 19)).detach().numpy()],
        [theirs(torch.tensor(x), output_size=(16, 19)).detach().numpy()],
    )
    with pytest.raises(SettingError) as error:
        ours(cr.tensor(x), output_size=(17, 19))
    said = re.sub(r" \([^)]*\)", "", str(error.value))
    assert said == "ConvTranspose2d: output_size must be in [15, 16] for this input, got 17."


REFUSED = {
    "interpolate: give either size or scale_factor.": lambda x: F.interpolate(x),
    "interpolate: align_corners is of the linear modes, got mode='nearest'. Leave it out.": lambda x: F.interpolate(x, 2, align_corners=True),
    "interpolate: the mode must be 'nearest', 'nearest-exact', 'area' or, for 2 spatial axes, 'bilinear', got 'bicubic'.": lambda x: F.interpolate(x, 2, mode="bicubic"),
    "pad: with mode='reflect' axis 3 of (1, 1, 2, 2) has a border of 1 at most, got 2 and 0.": lambda x: F.pad(x, (2, 0), "reflect"),
    "ReflectionPad2d: padding must be one number, or 4, got (1, 2).": lambda x: nn.ReflectionPad2d((1, 2)),
    "TransformerEncoderLayer: activation must be 'relu', 'gelu' or a function, got 'tanh'.": lambda x: nn.TransformerEncoderLayer(4, 2, activation="tanh"),
    "conv_transpose2d: output_padding must be smaller than stride or dilation, got 1 with 1.": lambda x: F.conv_transpose2d(x, x, output_padding=1),
    "adaptive_avg_pool2d: output_size must be one number, or 2, got (1, 2, 3).": lambda x: F.adaptive_avg_pool2d(x, (1, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text):
    with pytest.raises(SettingError) as error:
        REFUSED[text](cr.ones(1, 1, 2, 2))
    assert str(error.value) == text
