"""What comes in is converted or refused alike everywhere: whole numbers, numbers and tensors of any kind."""

import re
from fractions import Fraction

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DtypeError

X = cr.tensor([[1.0, -2.0, 3.0], [0.5, 5.0, -6.0]])
V = cr.tensor([0.25, 0.5, 0.75])
SQUARE = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
B = cr.tensor([[True, False, True], [False, True, True]])
I1 = cr.tensor([1, 0])
I2 = cr.tensor([[1, 0, 1], [0, 1, 1]])

# -- whole numbers ---------------------------------------------------------------------------------

COUNTS = {
    "narrow": lambda n: X.narrow(n(1), n(1), n(2)),
    "select": lambda n: X.select(n(1), n(-1)),
    "index": lambda n: X[n(1)],
    "index pair": lambda n: X[n(1), n(0)],
    "slice": lambda n: X[:, n(0) : n(3) : n(2)],
    "sum": lambda n: X.sum(n(1)),
    "sum of two": lambda n: X.sum((n(0), n(1))),
    "mean": lambda n: X.mean(dim=n(-1)),
    "amax": lambda n: X.amax(n(0)),
    "argmax": lambda n: X.argmax(n(1)),
    "prod": lambda n: X.prod(n(0), keepdim=True),
    "cumsum": lambda n: X.cumsum(n(1)),
    "var": lambda n: X.var(n(1), correction=n(0)),
    "norm": lambda n: X.norm(n(2), n(1)),
    "softmax": lambda n: X.softmax(n(1)),
    "logsumexp": lambda n: X.logsumexp(n(0)),
    "split": lambda n: X.split(n(2), n(1))[0],
    "split sizes": lambda n: X.split([n(1), n(2)], 1)[1],
    "chunk": lambda n: X.chunk(n(2), n(0))[1],
    "unbind": lambda n: X.unbind(n(1))[2],
    "reshape": lambda n: X.reshape(n(3), n(-1)),
    "reshape tuple": lambda n: X.reshape((n(3), n(2))),
    "expand": lambda n: V.expand(n(2), n(3)),
    "repeat": lambda n: V.repeat(n(2)),
    "permute": lambda n: X.permute(n(1), n(0)),
    "transpose": lambda n: X.transpose(n(0), n(1)),
    "movedim": lambda n: X.movedim(n(0), n(1)),
    "flip": lambda n: X.flip(n(1)),
    "squeeze": lambda n: X[:1].squeeze(n(0)),
    "unsqueeze": lambda n: X.unsqueeze(n(-1)),
    "flatten": lambda n: X.flatten(n(0), n(1)),
    "unflatten": lambda n: X.unflatten(n(1), (n(3), n(1))),
    "tril": lambda n: X.tril(n(-1)),
    "triu": lambda n: X.triu(n(1)),
    "round": lambda n: (X / 3).round(decimals=n(2)),
    "gather": lambda n: X.gather(n(1), I2),
    "index_select": lambda n: X.index_select(n(0), I1),
    "scatter": lambda n: X.scatter(n(1), I2, 0.0),
    "cat": lambda n: cr.cat([X, X], n(1)),
    "stack": lambda n: cr.stack([X, X], n(2)),
    "roll": lambda n: X.roll(n(1), n(1)),
    "roll of all": lambda n: X.roll(n(2)),
    "rot90": lambda n: X.rot90(n(1), (n(0), n(1))),
    "zeros": lambda n: cr.zeros(n(2), n(3)),
    "zeros of one": lambda n: cr.zeros(n(2)),
    "ones": lambda n: cr.ones((n(2), n(3))),
    "full": lambda n: cr.full((n(2),), n(7)),
    "arange": lambda n: cr.arange(n(1), n(7), n(2)),
    "arange of one": lambda n: cr.arange(n(3)),
    "eye": lambda n: cr.eye(n(2), n(3)),
    "linspace": lambda n: cr.linspace(n(0), n(1), n(5)),
    "new_zeros": lambda n: X.new_zeros(n(2)),
    "randperm": lambda n: cr.randperm(n(3), generator=cr.Generator(n(1))),
    "randint": lambda n: cr.randint(n(1), n(5), (n(4),), generator=cr.Generator(0)),
    "one_hot": lambda n: F.one_hot(I1, n(3)),
    "cross_entropy": lambda n: F.cross_entropy(X, I1, ignore_index=n(0)),
    "F.softmax": lambda n: F.softmax(X, n(1)),
    "Linear": lambda n: nn.Linear(n(3), n(2)).weight * 0,
    "Flatten": lambda n: nn.Flatten(n(1), n(1))(X),
    "Softmax": lambda n: nn.Softmax(n(1))(X),
    "item": lambda n: cr.tensor(list(range(5))[n(3)]),
}
KINDS = {
    "np.int64": np.int64, "np.int32": np.int32, "np.int8": np.int8, "tensor": cr.tensor, "0-d array": np.asarray,
    "int32 tensor": lambda n: cr.tensor(n, dtype=cr.int32),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COUNTS)
def test_whole_numbers_of_any_kind(name, kind):
    right, found = COUNTS[name](int), COUNTS[name](KINDS[kind])
    assert (found.tolist(), found.shape) == (right.tolist(), right.shape)


@pytest.mark.parametrize("wrong", [True, 1.0, "1", None, cr.tensor(1.0), cr.tensor([1, 2])], ids=repr)
def test_what_is_no_whole_number_is_refused_alike(wrong):
    for call in (
        lambda: X.narrow(0, wrong, 1),
        lambda: X.chunk(wrong),
        lambda: X.unsqueeze(wrong),
        lambda: X.tril(wrong),
    ):
        with pytest.raises(DtypeError, match=rf"must be an integer, got {re.escape(repr(wrong))}\. Use int\(...\)"):
            call()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_slice_at_a_tensor_has_a_derivative(compiled):
    x = X.clone().requires_grad_()
    f = lambda x: x.narrow(1, start, 2).sum()  # noqa: E731 - a formula
    start = cr.tensor(1)
    if compiled:
        start = np.int64(1)  # a tensor has no value in a trace
        f = cr.compile(f)
    f(x).backward()
    assert x.grad.tolist() == [[0, 1, 1], [0, 1, 1]]


# -- numbers ---------------------------------------------------------------------------------------


def trained(kind, **settings):
    w = cr.ones(2, requires_grad=True)
    optimizer = kind([w], **settings)
    for _ in range(3):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    assert all(
        type(v) in (float, int, bool, tuple) for v in optimizer.state_dict()["param_groups"][0].values() if v != [0]
    )
    return w.detach()


MEASURES = {
    "SGD": lambda n: trained(optim.SGD, lr=n(0.125), momentum=n(0.5), weight_decay=n(0.25)),
    "Adam": lambda n: trained(optim.Adam, lr=n(0.125), betas=(n(0.5), n(0.75)), eps=n(0.25)),
    "AdamW": lambda n: trained(optim.AdamW, lr=n(0.125), weight_decay=n(0.5)),
    "RMSprop": lambda n: trained(optim.RMSprop, lr=n(0.125), alpha=n(0.5), momentum=n(0.5)),
    "leaky_relu": lambda n: F.leaky_relu(X, n(0.25)),
    "elu": lambda n: F.elu(X, n(0.5)),
    "softplus": lambda n: F.softplus(X, n(0.5), n(2.5)),
    "LeakyReLU": lambda n: nn.LeakyReLU(n(0.25))(X),
    "ELU": lambda n: nn.ELU(n(0.5))(X),
    "Softplus": lambda n: nn.Softplus(n(0.5))(X),
    "dropout": lambda n: F.dropout(X, n(0.5), False),
    "Dropout": lambda n: nn.Dropout(n(0.5)).eval()(X),
    "smooth_l1_loss": lambda n: F.smooth_l1_loss(X, X * 0, beta=n(0.5)),
    "huber_loss": lambda n: F.huber_loss(X, X * 0, delta=n(0.5)),
    "HuberLoss": lambda n: nn.HuberLoss(delta=n(0.5))(X, X * 0),
    "SmoothL1Loss": lambda n: nn.SmoothL1Loss(beta=n(0.5))(X, X * 0),
    "label_smoothing": lambda n: F.cross_entropy(X, I1, label_smoothing=n(0.25)),
    "CrossEntropyLoss": lambda n: nn.CrossEntropyLoss(label_smoothing=n(0.25))(X, I1),
    "add": lambda n: X.add(X, alpha=n(0.5)),
    "operators": lambda n: (X + n(0.5)) * n(0.25) / n(0.5) - n(2.5) ** X,
    "pow": lambda n: X ** n(2.5),
    "lerp": lambda n: X.lerp(X * 2, n(0.25)),
    "clamp": lambda n: X.clamp(n(-0.5), n(0.5)),
    "full": lambda n: cr.full((2,), n(0.5), dtype=cr.float32),
    "fill_": lambda n: cr.zeros(2).fill_(n(0.5)),
    "linspace": lambda n: cr.linspace(n(0.5), n(2.5), 3),
    "masked_fill": lambda n: X.masked_fill(B, n(0.5)),
    "setitem": lambda n: setitem(n(0.5)),
    "where": lambda n: cr.where(B, X, n(0.5)),
    "norm": lambda n: X.norm(n(2.5)),
    "clip_grad_norm_": lambda n: clipped(n(0.5)),
    "uniform_": lambda n: nn.init.constant_(cr.zeros(2), n(0.5)),
}  # fmt: skip
NUMBERS = {
    "np.float32": np.float32,
    "np.float64": np.float64,
    "tensor": cr.tensor,
    "0-d array": np.asarray,
    "Fraction": Fraction,
}


def setitem(value):
    x = X.clone()
    x[0] = value
    return x


def clipped(bound):
    w = cr.ones(2, requires_grad=True)
    w.grad = cr.tensor([3.0, 4.0])
    nn.utils.clip_grad_norm_([w], bound)
    return w.grad


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("name", MEASURES)
def test_numbers_of_any_kind(name, kind):
    right, found = MEASURES[name](float), MEASURES[name](NUMBERS[kind])
    np.testing.assert_array_equal(found.to(right.dtype).numpy(), right.numpy())


def test_a_rate_given_as_float32_may_be_set_again_and_saved():
    optimizer = optim.SGD([cr.ones(1, requires_grad=True)], lr=np.float32(0.1))
    optimizer.param_groups[0]["lr"] = np.float32(0.2)
    assert type(optimizer.state_dict()["param_groups"][0]["lr"]) is float


# -- tensors ---------------------------------------------------------------------------------------

TENSORS = {
    "Linear": lambda t: nn.Linear(3, 1, bias=False)(t(X)) * 0,
    "Flatten": lambda t: nn.Flatten()(t(X)),
    "Dropout": lambda t: nn.Dropout(0.5).eval()(t(X)),
    "ReLU": lambda t: nn.ReLU()(t(X)),
    **{name: lambda t, name=name: getattr(F, name)(t(X)) for name in
       ("relu", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "logsigmoid")},
    **{name: lambda t, name=name: getattr(F, name)(t(X), 1) for name in ("softmax", "log_softmax")},
    **{name: lambda t, name=name: getattr(F, name)(t(X), t(X * 2)) for name in
       ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")},
    "binary_cross_entropy": lambda t: F.binary_cross_entropy(t(V), t(V), weight=t(V)),
    "with_logits": lambda t: F.binary_cross_entropy_with_logits(t(V), t(V), weight=t(V), pos_weight=t(V)),
    "cross_entropy": lambda t: F.cross_entropy(t(X), t(I1), weight=t(V)),
    "nll_loss": lambda t: F.nll_loss(t(X), t(I1)),
    "one_hot": lambda t: F.one_hot(t(I1)),
    "linear": lambda t: F.linear(t(X), t(X), t(cr.ones(2))),
    "exp": lambda t: cr.exp(t(X)),
    "operators": lambda t: X + t(X) - t(X) * X,
    "matmul": lambda t: X @ t(X.T) @ t(SQUARE),
    "mm": lambda t: cr.mm(t(SQUARE), t(SQUARE)),
    "dot": lambda t: cr.dot(t(V), t(V)),
    "outer": lambda t: cr.outer(t(V), t(V)),
    "bmm": lambda t: cr.bmm(t(SQUARE[None]), t(SQUARE[None])),
    "maximum": lambda t: X.maximum(t(-X)),
    "where": lambda t: cr.where(t(B), t(X), t(-X)),
    "masked_fill": lambda t: X.masked_fill(t(B), 1.0),
    "masked_select": lambda t: X.masked_select(t(B)),
    "gather": lambda t: cr.gather(t(X), 1, t(I2)),
    "take_along_dim": lambda t: cr.take_along_dim(t(X), t(I2), 1),
    "scatter": lambda t: X.scatter(1, t(I2), t(X)),
    "scatter_add": lambda t: X.scatter_add(1, t(I2), t(X)),
    "index_select": lambda t: X.index_select(0, t(I1)),
    "index_add": lambda t: X.index_add(0, t(I1), t(X)),
    "index": lambda t: X[t(I1)],
    "mask": lambda t: X[t(B)],
    "setitem": lambda t: setitem(t(V)),
    "logical_and": lambda t: cr.logical_and(t(B), t(~B)),
    "logical_xor": lambda t: cr.logical_xor(t(B), t(~B)),
    "bitwise_and": lambda t: cr.bitwise_and(t(B), t(~B)),
    "lerp": lambda t: cr.lerp(t(X), t(X * 2), 0.5),
    "addcmul": lambda t: cr.addcmul(t(X), t(X), t(X)),
    "addcdiv": lambda t: cr.addcdiv(t(X), t(X), t(X)),
    "isclose": lambda t: cr.isclose(t(X), t(X)),
    "equal": lambda t: cr.tensor(cr.equal(t(X), t(X))),
    "cat": lambda t: cr.cat([t(X), t(X)]),
    "stack": lambda t: cr.stack([t(X), X]),
    "copy_": lambda t: cr.zeros(2, 3).copy_(t(X)),
    "clamp": lambda t: X.clamp(t(V), t(V + 1)),
    "custom_vjp": lambda t: cr.custom_vjp(lambda x: x * 2, lambda dY, Y, x: dY)(t(X)),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_arrays_are_taken_wherever_tensors_are(name):
    right, found = TENSORS[name](lambda t: t), TENSORS[name](lambda t: t.numpy())
    assert found.dtype is right.dtype
    np.testing.assert_array_equal(found.detach().numpy(), right.detach().numpy())


@pytest.mark.parametrize("wrong", [None, "text", {}, {1.0}, object(), nn.ReLU()], ids=lambda w: type(w).__name__)
def test_what_is_no_tensor_is_refused_alike(wrong):
    calls = {
        "relu": lambda: F.relu(wrong), "Linear": lambda: nn.Linear(2, 1)(wrong), "exp": lambda: cr.exp(wrong),
        "mse_loss": lambda: F.mse_loss(X, wrong), "gather": lambda: X.gather(0, wrong), "cat": lambda: cr.cat([X, wrong]),
        "where": lambda: cr.where(wrong, X, X),
    }  # fmt: skip
    for name, call in calls.items():
        with pytest.raises(
            DtypeError, match=rf"^{name} .*must be a tensor, an array or numbers, got {type(wrong).__name__}\."
        ):
            call()


def test_the_remedy_for_a_dtype_is_one_that_arrays_and_tensors_can_follow():
    model = nn.Linear(4, 1)
    for given, name in (
        (np.ones((2, 4)), "float64"),
        (np.ones((2, 4), "u1"), "uint8"),
        (cr.ones(2, 4).double(), "float64"),
    ):
        with pytest.raises(DtypeError, match=f"got {name} and float32") as error:
            model(given)
        assert "cr.as_tensor(input, dtype=cr.float32)" in str(error.value)
        assert model(cr.as_tensor(given, dtype=cr.float32)).shape == (2, 1)


# -- making tensors --------------------------------------------------------------------------------

DATA = [
    [np.float64(1)], [np.float32(1), 2.5], [np.float64(1), 2.5], [2.5, np.float64(1)], [np.uint8(1)], [np.int32(3), np.int64(4)],
    [np.ones(2), np.ones(2)], [[np.float64(1)], [2]], [np.int64(1), 2.5], [True, 1], [1, 2.0], [np.bool_(True)], [], [[]],
    [np.float32(1), np.float64(2)], [True, 2.5], ((1, 2), [3, 4]), [np.ones(2, "u1")], [[1.5], (np.float32(2),)],
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Creating a tensor")
@pytest.mark.parametrize("data", DATA, ids=repr)
def test_lists_of_numpys_values_keep_their_dtype(data):
    ours, theirs = cr.tensor(data), torch.tensor(data)
    assert str(theirs.dtype) == f"torch.{ours.dtype.name}"
    assert (ours.tolist(), ours.shape) == (theirs.tolist(), tuple(theirs.shape))


def test_lists_of_tensors_keep_their_dtype():
    assert cr.tensor([cr.tensor(1.0), cr.tensor(2.0, dtype=cr.float64)]).dtype is cr.float64
    assert cr.tensor([cr.tensor(1), 2]).dtype is cr.int64


@pytest.mark.parametrize(
    "args",
    [([1, 2],), (np.ones(2),), (2, 3), (), (5,), ((2, 3),), (np.int64(3),), ([[1, 2], [3, 4]],), ([],)],
    ids=repr,
)
def test_the_constructor_is_pytorchs(args):
    ours, theirs = cr.Tensor(*args), torch.Tensor(*args)
    assert (ours.shape, ours.dtype) == (tuple(theirs.shape), cr.float32)
    if not all(isinstance(a, (int, np.integer)) for a in args):  # there, sizes give whatever lay in memory
        assert ours.tolist() == theirs.tolist()


def test_the_constructor_takes_a_tensor_and_refuses_a_number():
    assert cr.Tensor(cr.tensor([1, 2])).tolist() == [1, 2]
    for wrong in (2.5, "text", np.float32(3)):
        with pytest.raises(DtypeError, match="must be called with sizes, or with a list, array or tensor"):
            cr.Tensor(wrong)


# -- tensors without axes --------------------------------------------------------------------------

NO_AXES = {
    "gather": lambda L, t: t(2.0).gather(0, t(0)),
    "gather one": lambda L, t: t(2.0).gather(0, t([0])),
    "gather two": lambda L, t: t(2.0).gather(-1, t([0, 0])),
    "gather at": lambda L, t: t([1.0, 2.0]).gather(0, t(1)),
    "scatter": lambda L, t: t(2.0).scatter(0, t(0), t(5.0)),
    "scatter number": lambda L, t: t(2.0).scatter(0, t(0), 5.0),
    "scatter at": lambda L, t: t([1.0, 2.0]).scatter(0, t(1), 5.0),
    "scatter one": lambda L, t: t(2.0).scatter(0, t([0]), t([5.0])),
    "scatter_add": lambda L, t: t(2.0).scatter_add(0, t(0), t(5.0)),
    "scatter_add at": lambda L, t: t([1.0, 2.0]).scatter_add(0, t(1), t(5.0)),
    "index_select": lambda L, t: t(2.0).index_select(0, t([0])),
    "index_select at": lambda L, t: t([1.0, 2.0]).index_select(0, t(1)),
    "index_add": lambda L, t: t(2.0).index_add(0, t(0), t(3.0)),
    "index_add one": lambda L, t: t(2.0).index_add(0, t([0]), t(3.0)),
    "take_along_dim": lambda L, t: t(2.0).take_along_dim(t([0])),
    "masked_select": lambda L, t: t(2.0).masked_select(t(True)),
    "masked_fill": lambda L, t: t(2.0).masked_fill(t(True), t(1.0)),
    "ellipsis": lambda L, t: t(2.0)[...],
    "none": lambda L, t: t(2.0)[None],
    "empty key": lambda L, t: t(2.0)[()],
    "true": lambda L, t: t(2.0)[True],
    "false": lambda L, t: t([2.0, 3.0])[False],
    "mask": lambda L, t: t(2.0)[t(True)],
    "mask of none": lambda L, t: t([2.0, 3.0])[t(False)],
    **{name: lambda L, t, name=name: getattr(t(3.0), name)(0) for name in
       ("sum", "cumsum", "softmax", "squeeze", "prod", "amax", "argmax", "log_softmax", "flip", "mean", "all", "any")},
    "transpose": lambda L, t: t(3.0).transpose(0, -1),
    "max": lambda L, t: t(3.0).max(0).values,
}  # fmt: skip


@pytest.mark.parametrize("name", NO_AXES)
def test_tensors_without_axes_do_what_they_do_in_pytorch(name):
    right = NO_AXES[name](torch, torch.tensor)
    found = NO_AXES[name](cr, cr.tensor)
    compiled = cr.compile(lambda: NO_AXES[name](cr, cr.tensor)) if not name.startswith("mask") else None
    for ours in (found, *([compiled()] if compiled else [])):
        assert (ours.shape, ours.tolist()) == (tuple(right.shape), right.tolist())


def test_writing_where_one_truth_says():
    x = cr.zeros(2)
    x[True] = 1.0
    assert x.tolist() == [1, 1]
    x[cr.tensor(False)] = 5.0
    assert x.tolist() == [1, 1]


def test_tensors_of_another_library_are_named_as_such():
    class Tensor:
        """Stands for another library's."""

    Tensor.__module__ = "other.core"
    for call in (lambda x: cr.ones(2) + x, cr.exp, cr.utils.data.default_collate):
        with pytest.raises(DtypeError, match=r"got other\.Tensor\. "):
            call([Tensor()] if call is cr.utils.data.default_collate else Tensor())
