"""Nothing to do: empty rows, axes, batches and sums give what PyTorch gives, eager and compiled, gradients too."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.errors import ShapeError
from tests.optional import torch

SHAPES = [(33, 0), (0, 33), (2, 0, 3), (0,), (0, 1)]

# Each takes the library, its functional module and x.
FOLDS = ("sum", "mean", "prod", "var", "std", "all", "any", "softmax", "log_softmax", "logsumexp", "cumsum")
OPS = {
    **{name: lambda L, G, x, name=name: getattr(x, name)() for name in ("sum", "mean", "prod", "std", "norm", "any", "all")},
    **{f"{name}({dim})": lambda L, G, x, name=name, dim=dim: getattr(x, name)(dim) for name in FOLDS for dim in (0, -1)},
    "sum(keepdim)": lambda L, G, x: x.sum(-1, keepdim=True),
    "norm(-1)": lambda L, G, x: x.norm(2, -1),
    "product over nothing": lambda L, G, x: x @ x.transpose(-1, -2) if x.ndim > 1 else x @ x,
    "product of nothing": lambda L, G, x: x.transpose(-1, -2) @ x if x.ndim > 1 else x,
    "large product over nothing": lambda L, G, x: (x.reshape(-1)[:0].reshape(0, 1).expand(0, 130).t() @ L.ones((0, 70))),
    "tanh": lambda L, G, x: (x * 2 + 1).tanh(),
    "cat": lambda L, G, x: L.cat([x, x]),
    "stack": lambda L, G, x: L.stack([x, x]),
    "where": lambda L, G, x: L.where(x > 0, x, x * 2),
    "slice": lambda L, G, x: x[..., :0],
    "gather": lambda L, G, x: x.gather(0, (x * 0).long()),
    "index": lambda L, G, x: x.index_select(0, L.tensor([], dtype=L.int64)),
    "scatter_add": lambda L, G, x: x.scatter_add(0, (x * 0).long(), x * 3),
    "expand": lambda L, G, x: x.unsqueeze(0).expand(3, *x.shape) * 2,
    **{
        f"{name}({reduction})": lambda L, G, x, name=name, reduction=reduction: getattr(G, name)(
            x, L.full(tuple(x.shape), 0.5), reduction=reduction
        )
        for name in ("mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy")
        for reduction in ("mean", "sum", "none")
    },
}  # fmt: skip


def test_cross_entropy_of_an_empty_batch_is_pytorchs():
    for target in (lambda L: L.zeros((0,), dtype=L.int64), lambda L: L.zeros((0, 3))):
        for reduction in ("mean", "sum"):
            right = torch.nn.functional.cross_entropy(torch.zeros(0, 3), target(torch), reduction=reduction)
            ours = F.cross_entropy(cr.zeros(0, 3), target(cr), reduction=reduction)
            np.testing.assert_array_equal(ours.numpy(), right.numpy())


def value(name, library, functional, x):
    try:
        return OPS[name](library, functional, x)
    except Exception as error:  # refused here as there
        return error


def values_and_gradients(library, functional, shape, names, compiled=False):
    """All results, and the gradient of their sum, from one function."""
    x = library.ones(shape, requires_grad=True)
    leave = lambda t: t.detach() if library is cr else t  # noqa: E731

    def function(x):
        return [value(name, library, functional, x) for name in names]

    results = (cr.compile(function) if compiled else function)(leave(x))
    total = sum((r.sum() for r in function(x) if r.requires_grad), library.zeros(()))
    total.backward()
    return [r.detach().numpy() for r in results], x.grad.numpy()


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, about degrees of freedom
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_empty_axes_give_what_pytorch_gives(shape):
    answers = {name: value(name, torch, torch.nn.functional, torch.ones(shape)) for name in OPS}
    for name, answer in answers.items():
        if isinstance(answer, Exception):
            assert isinstance(value(name, cr, F, cr.ones(shape)), cr.ChainruleError), name
    names = [name for name, answer in answers.items() if not isinstance(answer, Exception)]
    right, gradient = values_and_gradients(torch, torch.nn.functional, shape, names)
    for compiled in (False, True):
        ours, slope = values_and_gradients(cr, F, shape, names, compiled)
        for name, a, b in zip(names, ours, right, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), name
            np.testing.assert_array_equal(a, b, err_msg=name)
        assert slope.shape == gradient.shape


@pytest.mark.parametrize("name", ["softmax(-1)", "log_softmax(-1)", "logsumexp(-1)", "var(-1)", "std(-1)", "gather"])
def test_gradients_through_empty_rows_compile(name):
    x = cr.ones(33, 0, requires_grad=True)
    cr.compile(lambda x: OPS[name](cr, F, x))(x).sum().backward()
    assert x.grad.shape == (33, 0)


def test_a_sum_of_nothing_inside_a_larger_program():
    f = cr.compile(lambda x: (x.sum(1, keepdim=True) + 2) * cr.ones(3))
    assert f(cr.ones(2, 0)).tolist() == [[2, 2, 2], [2, 2, 2]]
    assert cr.compile(lambda x: x.long().sum(0))(cr.ones(0, 2)).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["amax", "amin", "argmax", "argmin", "max", "min"])
def test_an_extremum_of_nothing_is_refused(name):
    for function in (getattr(cr, name), cr.compile(getattr(cr, name))):
        with pytest.raises(ShapeError, match="the reduced axes must not be empty"):
            function(cr.ones(0, 3))


@pytest.mark.parametrize("name", ["amax", "argmax", "prod", "sum"])
def test_a_fold_of_one_is_that_one(name):
    for x in (cr.tensor([[3.0], [-1.0]]), cr.tensor([[3], [-1]])):
        fold = getattr(x, name)
        assert cr.compile(lambda x, name=name: getattr(x, name)(1))(x).tolist() == fold(1).tolist()
