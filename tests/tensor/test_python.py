"""Tensors among Python's and NumPy's own objects, how they print, and the options of backward."""

import pickle
import re
from copy import deepcopy

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule import nn
from chainrule.errors import DataError, DtypeError, GradientError, SettingError, ShapeError, TraceError

x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])


def test_numpy_reads_a_tensor():
    assert np.asarray(x).tolist() == [[1, 2], [3, 4]]
    assert np.asarray(x, dtype="float64").dtype == np.float64
    assert not np.asarray(x).flags.writeable
    copy = np.array(x)
    copy[0, 0] = 9
    assert x[0, 0].item() == 1
    with pytest.raises(ValueError, match="^__array__: float32 becomes float64 only in a copy"):
        x.__array__("float64", copy=False)
    with pytest.raises(GradientError, match="^numpy\\(\\): this tensor requires grad"):
        np.asarray(cr.ones(2, requires_grad=True))


def test_numpy_functions_take_a_tensor():
    assert np.exp(x).dtype == np.float32
    assert np.sum(x).item() == 10
    assert np.mean(x, axis=0).tolist() == [2, 3]
    assert np.concatenate([x, x]).shape == (4, 2)


def test_arithmetic_with_numpy_gives_tensors():
    for result, dtype in (
        (np.float64(2) * x, "float32"), (x * np.float64(2), "float32"), (np.ones((2, 2)) + x, "float64"),
        (x - np.ones((2, 2), "float32"), "float32"), (np.arange(2) * x, "float32"),
    ):  # fmt: skip
        assert isinstance(result, cr.Tensor)
        assert result.dtype.name == dtype


def test_arrays_of_any_byte_order_and_layout_come_in():
    array = np.arange(6.0).reshape(2, 3)
    for form in (array.astype(">f8"), np.asfortranarray(array), array[::-1][::-1]):
        assert cr.tensor(form).tolist() == array.tolist()


def test_python_numbers():
    assert (int(cr.tensor(3.7)), float(cr.tensor([2.5])), bool(cr.tensor(0)), [5, 6][cr.tensor(1)]) == (
        3,
        2.5,
        False,
        6,
    )
    assert f"{cr.tensor(3.14159):.2f}" == "3.14"
    assert len({x, x}) == 1
    assert (x == None) is False  # noqa: E711  comparing with None is what is tested


def test_copies():
    w = cr.ones(2, requires_grad=True)
    for other in (pickle.loads(pickle.dumps(w)), deepcopy(w)):
        assert other is not w
        assert other.requires_grad
        assert other.tolist() == [1, 1]


@pytest.mark.parametrize(
    "values",
    [
        [[1.0, 2.0], [3.5, -4.0]], [1, 200, -3], [True, False], [True, True], 3.0, [], [0.1, 1000.0], [1e-10, 1.0], [1e9, 1.0],
        [[[0.0], [1.0]], [[2.0], [3.0]]], list(range(2000)),
    ],
)  # fmt: skip
def test_printing_is_pytorchs(values):
    assert " ".join(repr(cr.tensor(values)).split()) == " ".join(repr(torch.tensor(values)).split())


@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2}, {"precision": 7, "linewidth": 40}, {"sci_mode": False}, {"sci_mode": True, "precision": 1},
        {"threshold": 5, "edgeitems": 1}, {"threshold": float("inf")}, {"profile": "short"}, {"profile": "full", "precision": 1},
    ],
)  # fmt: skip
def test_options_of_printing_are_pytorchs(options):
    rows = [[1e-6, 2.5, -3.25], [1234.5, 0.0, 7.0]]
    try:
        for lib in (cr, torch):
            lib.set_printoptions(**options)
        for values in (rows, [[1.0, 2.0, 300.0]], [[1, 2, 3]] * 4, list(range(1200)), [True] * 9, 1e-6):
            assert repr(cr.tensor(values)).split() == repr(torch.tensor(values)).split()
        for lib in (cr, torch):
            lib.set_printoptions(precision=3)  # what was set before stays, but for sci_mode
        assert repr(cr.tensor(rows)).split() == repr(torch.tensor(rows)).split()
    finally:
        for lib in (cr, torch):
            lib.set_printoptions(profile="default")
    for given, text in (
        ({"precision": -1}, "precision must be a number of 0 or more, got -1"),
        ({"profile": "x"}, "profile must be"),
    ):
        with pytest.raises(SettingError, match=f"^set_printoptions: {text}"):
            cr.set_printoptions(**given)


def test_what_a_print_adds():
    assert repr(cr.tensor([float("nan"), 1.0])) == "tensor([nan,  1.])"  # in columns, where PyTorch's do not line up
    assert repr(cr.tensor([1], dtype=cr.uint8)) == "tensor([1], dtype=chainrule.uint8)"
    assert repr(cr.ones(1, requires_grad=True)) == "tensor([1.], requires_grad=True)"
    assert repr(cr.ones(1, requires_grad=True) * 2) == "tensor([2.], grad_fn=<mul>)"


def test_the_history_can_be_walked_as_pytorchs():
    names = []
    for lib in (cr, torch):
        w, x = lib.ones(2, 2, requires_grad=True), lib.ones(2)
        y = (x * w).exp().sum()
        assert w.grad_fn is None and x.grad_fn is None and (x * 2).grad_fn is None and y.detach().grad_fn is None
        assert y.grad_fn == y.grad_fn and hash(y.grad_fn) == hash(y.grad_fn) and y.grad_fn != w.exp().grad_fn
        names.append([])
        fn = y.grad_fn
        while fn is not None:
            names[-1].append(fn.name().rpartition("::")[2].removesuffix("Backward0").lower())
            *others, (following, number) = fn.next_functions or ((None, 0),)
            assert number == 0 and all(other == (None, 0) for other in others)
            fn, last = following, fn
        assert last.variable is w
        y.backward()
        assert y.grad_fn is not None
    assert names[0] == names[1] == ["sum", "exp", "mul", "accumulategrad"]
    assert repr((cr.ones(1, requires_grad=True) * 2).grad_fn) == "<mul>"
    with pytest.raises(AttributeError, match="<mul> is an operation, and only AccumulateGrad has a leaf"):
        (cr.ones(1, requires_grad=True) * 2).grad_fn.variable  # noqa: B018
    with cr.eager(False):  # of what waits, too
        assert (cr.ones(1, requires_grad=True) * 2).sum().grad_fn.name() == "sum"


def cube(create_graph=False, retain_graph=None):
    w = cr.tensor(2.0, requires_grad=True)
    y = w * w * w
    y.backward(create_graph=create_graph, retain_graph=retain_graph)
    return w, y


def test_the_options_of_backward():
    w, y = cube(retain_graph=True)
    y.backward()
    assert w.grad.item() == 24
    w, _ = cube(create_graph=True)
    first, w.grad = w.grad, None
    first.backward()
    assert w.grad.item() == 12
    w, v = cr.tensor([1.0, 2.0], requires_grad=True), cr.ones(2, requires_grad=True)
    (w * w * v).backward(gradient=cr.tensor([1.0, 10.0]), inputs=[w])
    assert (w.grad.tolist(), v.grad) == ([2, 40], None)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: (cr.ones(2, requires_grad=True) * 2).backward(np.ones(2)), DtypeError, r"backward .*: gradient must be a tensor of shape \(2,\), got ndarray\. Convert it with cr\.tensor\(\.\.\.\)\."),
        (lambda: cr.zeros(2.5), DtypeError, r"size .*: sizes and axes must be integers, got 2\.5\. Use int\(\.\.\.\)\."),
        (lambda: cr.rand(-1), ShapeError, r"size .*: the sizes of a tensor must not be negative, got \(-1,\)\. Check them\."),
        (lambda: cr.bernoulli(cr.tensor([2.0])), DataError, r"bernoulli .*: the probabilities must be in \[0, 1\]\. Clamp them, or use \.sigmoid\(\)\."),
        (lambda: cr.empty(2).uniform_(2, 1), SettingError, r"uniform_: low must not exceed high, got 2 and 1\. Swap them\."),
        (lambda: cr.empty(2).normal_(0, -1), SettingError, r"normal_: std must be 0 or more, got -1\. Use its absolute value\."),
        (lambda: cr.manual_seed("a"), SettingError, r"manual_seed: the seed must be an integer, got 'a'\. Use a fixed one such as 0\."),
        (lambda: cr.ones(2).to("cuda"), SettingError, r"device='cuda': there is only the CPU here\. Leave the device out, or say 'cpu' \(cr\.cuda\.is_available\(\) is False\)\."),
        (lambda: cr.ones(2, dtype=cr.int64).add(1, alpha=0.5), DtypeError, r"add .*: alpha must be an integer where the result is int64, got 0\.5\. Convert the tensor with \.float\(\)\."),
        (lambda: cr.ones(2).mm(cr.ones(2)), ShapeError, r"mm .*: both factors must have 2 axes, got \(2,\) and \(2,\)\. Reshape them, or use @, which takes any number of axes\."),
    ],
)  # fmt: skip
def test_the_full_text(call, kind, text):
    with pytest.raises(kind, match=f"^{text}$"):
        call()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("number", [np.float64(2.1), np.float32(2.5), np.int64(2), 2.1, 2])
def test_a_number_of_numpys_makes_the_dtype_that_pythons_makes(number, dtype):
    """Also as the first argument of a function, where it keeps all its digits beside float64."""
    forms = [
        lambda L, x: x + number, lambda L, x: x * number, lambda L, x: x / number, lambda L, x: L.where(x > 0, x, number),
        lambda L, x: L.pow(number, x), lambda L, x: L.xlogy(number, x), lambda L, x: L.mul(number, x), lambda L, x: L.true_divide(number, x + 1),
    ]  # fmt: skip
    for form in forms:
        ours, theirs = (form(L, L.tensor([0, 1]).to(getattr(L, dtype))) for L in (cr, torch))
        assert str(ours.dtype).rpartition(".")[2] == str(theirs.dtype).rpartition(".")[2]
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-15 if dtype == "float64" else 1e-6)


@pytest.mark.parametrize(
    ("values", "dtype", "spec"), [(1.5, "float32", ""), (1.5, "float32", ".4f"), (0.1, "float32", "e"), (7, "int64", ""), (7, "int64", "05d"), (True, "bool", ""), (1.5, "bfloat16", ">8")]
)  # fmt: skip
def test_a_tensor_of_no_axes_is_formatted_as_its_number(values, dtype, spec):
    ours, theirs = (format(L.tensor(values, dtype=getattr(L, dtype)), spec) for L in (cr, torch))
    assert ours == theirs
    assert f"{cr.tensor(1.5, requires_grad=True)}" == "1.5"


def test_other_tensors_are_formatted_as_they_print():
    x, p = cr.tensor([1.5]), nn.Parameter(cr.tensor(1.5))
    assert (f"{x}", f"{p}", f"{p:.2f}") == (repr(x), repr(p), "1.50")
    with pytest.raises(TypeError, match=r"format .*: only a tensor of no axes takes a format, got '\.2f' for one of shape \(1,\)\. Format its numbers: x\.tolist\(\), or x\.item\(\) of one\.$"):  # fmt: skip
        f"{x:.2f}"
    with pytest.raises(TypeError):
        f"{torch.tensor([1.5]):.2f}"


@pytest.mark.parametrize("spec", ["", ".3f"])
def test_formatting_in_a_trace_asks_for_a_value(spec):
    with pytest.raises(TraceError) as asked:
        cr.compile(lambda x: x.sum().item())(cr.ones(2))
    with pytest.raises(TraceError) as formatted:
        cr.compile(lambda x: format(x.sum(), spec))(cr.ones(2))
    assert re.sub(r"\d+", "", str(formatted.value)) == re.sub(r"\d+", "", str(asked.value))
