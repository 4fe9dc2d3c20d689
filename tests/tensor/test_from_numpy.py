"""``from_numpy`` reads the caller's memory, and never writes to it."""

import gc
import re
from collections.abc import Callable
from copy import copy, deepcopy

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, DtypeError, GradientError

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "row-major": lambda a: a,
    "column-major": lambda a: np.asfortranarray(a),
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
}


def numbers() -> np.ndarray:
    return np.arange(12.0).reshape(3, 4)


@pytest.fixture(params=LAYOUTS)
def array(request: pytest.FixtureRequest) -> np.ndarray:
    return LAYOUTS[request.param](numbers())


def test_no_copy_of_any_layout(array):
    x = cr.from_numpy(array)
    assert np.shares_memory(x.numpy(), array)
    array[1, 2] = 100
    assert x[1, 2].item() == 100
    assert x.shape == (3, 4)
    assert x.dtype is cr.float64


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1,), (2, 3)])
def test_every_dtype_and_shape(dtype, shape):
    array = np.ones(shape, dtype)
    x = cr.from_numpy(array)
    assert (x.shape, x.dtype.name) == (shape, dtype)
    assert np.array_equal(x.numpy(), array)
    array[...] = 0
    assert np.array_equal(x.numpy(), array)


# What looks on when the array is written to, and what does not: as PyTorch has it.
DERIVED = {
    "itself": lambda x, _: x,
    "view": lambda x, _: x[1:],
    "picked": lambda x, _: x[0],
    "transposed": lambda x, _: x.T,
    "reshaped": lambda x, _: x.reshape(4, 3),
    "unbound": lambda x, _: x.unbind(0)[2],
    "detached": lambda x, _: x.detach(),
    "to the same dtype": lambda x, _: x.double(),
    "clone": lambda x, _: x.clone(),
    "clone of a view": lambda x, _: x.T.clone(),
    "to with copy": lambda x, _: x.to(x.dtype, copy=True),
    "deepcopy": lambda x, _: deepcopy(x),
    "copy_": lambda x, library: library.zeros(3, 4, dtype=library.float64).copy_(x),
    "copy_ of a view": lambda x, library: library.zeros(4, 3, dtype=library.float64).copy_(x.T),
    "copy_ of one row": lambda x, library: library.zeros(3, 4, dtype=library.float64).copy_(x[0]),
    "sum": lambda x, _: x + 0,
    "cast": lambda x, _: x.float(),
    "joined": lambda x, library: library.cat([x]),
    "gathered": lambda x, library: x[library.tensor([0, 1])],
}


def _written(x, library):
    y = library.zeros(3, 4, dtype=library.float64)
    y[:] = x
    return y


def _gradient(x, library):
    y = library.zeros(3, 4, dtype=library.float64, requires_grad=True)
    y.clone().backward(x)
    return y.grad


DERIVED |= {"assigned": _written, "data": lambda x, library: _data(x, library), "gradient": _gradient}


def _data(x, library):
    layer = (
        library.nn.Linear(4, 3, bias=False, dtype=library.float64) if library is torch else nn.Linear(4, 3, bias=False)
    )
    layer.weight.data.copy_(x)
    return layer.weight.detach()


@pytest.mark.parametrize("derive", DERIVED.values(), ids=DERIVED)
def test_who_sees_a_write_to_the_array_as_in_pytorch(derive):
    a, b = numbers(), numbers()
    ours, theirs = derive(cr.from_numpy(a), cr), derive(torch.from_numpy(b), torch)
    a[:], b[:] = 7, 7
    assert ours.numpy().tolist() == theirs.numpy().tolist()


IN_PLACE = {
    "add_": lambda x: x.add_(1),
    "a view": lambda x: x[0].mul_(2),
    "setitem": lambda x: x.__setitem__((slice(None), 1), 5),
    "all of it": lambda x: x.__setitem__(slice(None), 5),
    "zero_": lambda x: x.zero_(),
    "compiled": lambda x: cr.compile(lambda: x.add_(1))(),
    "compiled argument": cr.compile(lambda x: x.mul_(2)),
}


@pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE)
def test_an_in_place_operation_leaves_the_array_alone(array, change):
    before = array.copy()
    x = cr.from_numpy(array)
    for _ in range(3):  # a compiled program writes to its own buffer from the second call on
        change(x)
    assert np.array_equal(array, before)
    assert not np.array_equal(x.numpy(), before)
    after = x.numpy().copy()
    array[...] = -1  # and the tensor has gone its own way
    assert np.array_equal(x.numpy(), after)


def test_training_a_parameter_leaves_the_array_alone():
    array = numbers().astype(np.float32)
    before = array.copy()
    weight = nn.Parameter(cr.from_numpy(array))
    optimizer = optim.Adam([weight], lr=0.1)

    @cr.compile
    def step():
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()

    step(), step()
    assert np.array_equal(array, before)
    assert not np.array_equal(weight.detach().numpy(), before)


def test_a_compiled_function_sees_writes_to_what_it_captured_and_what_it_is_given(array):
    captured, given = cr.from_numpy(array), numbers()
    x = cr.from_numpy(given)
    add = cr.compile(lambda x: captured + x)
    for value in (1.0, 2.0, 3.0):
        array[...] = value
        given[...] = 10 * value
        assert add(x).tolist() == np.full((3, 4), 11 * value).tolist()


def test_a_native_loop_reads_the_array_where_it_lies():
    array = numbers()
    rows = cr.from_numpy(array)
    pick = cr.compile(lambda i: rows[i].sum())
    assert pick.loop(cr.arange(3)).tolist() == array.sum(1).tolist()
    array *= 2
    assert pick.loop(cr.arange(3)).tolist() == array.sum(1).tolist()
    state = rows._node.value
    assert np.shares_memory(state, array)


def test_inside_a_compiled_function_it_is_a_constant():
    array = np.ones(5000)  # larger than what is compared at every call
    add = cr.compile(lambda x: x + cr.from_numpy(array))
    assert add(cr.zeros(5000, dtype="float64")).tolist() == [1.0] * 5000
    array[:] = 7
    assert add(cr.zeros(5000, dtype="float64")).tolist() == [1.0] * 5000


def test_inside_a_compiled_function_a_small_array_that_changed_is_read_anew():
    array = numbers()
    add = cr.compile(lambda x: x + cr.from_numpy(array))
    assert add(cr.zeros(3, 4, dtype="float64")).tolist() == numbers().tolist()
    array[:] = 7
    assert add(cr.zeros(3, 4, dtype="float64")).tolist() == np.full((3, 4), 7.0).tolist()


def test_read_only_arrays():
    array = numbers()
    array.flags.writeable = False
    x = cr.from_numpy(array)
    assert cr.compile(lambda y: (y * 2).sum())(x).item() == 2 * array.sum()
    cr.compile(lambda: x.add_(1))()
    assert np.array_equal(array, numbers())
    assert np.array_equal(x.numpy(), numbers() + 1)


def test_the_tensor_keeps_the_memory_alive():
    x = cr.from_numpy(np.full(1000, 3.0))
    view = cr.from_numpy(np.full((10, 100), 4.0))[3]
    gc.collect()
    np.full(1000, 5.0)
    assert set(x.tolist()) == {3.0}
    assert set(view.tolist()) == {4.0}


def test_back_and_forth():
    x = cr.zeros(3)
    y = cr.from_numpy(x.numpy())  # read-only memory of x
    x.add_(1)
    cr.compile(lambda: x.add_(1))()
    assert (x.tolist(), y.tolist()) == ([2, 2, 2], [0, 0, 0])
    assert copy(y).tolist() == [0, 0, 0]


def test_subclasses_of_arrays_are_read_as_arrays():
    assert type(cr.from_numpy(np.ones((2, 2)).view(np.matrix)).numpy()) is np.ndarray


REFUSED = {
    "float16": lambda: np.ones(2, "float16"),
    "int16": lambda: np.ones(2, "int16"),
    "other byte order": lambda: np.ones(2, np.dtype("float32").newbyteorder()),
    "unaligned": lambda: np.zeros(9, "uint8")[1:].view("float32"),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_shared_is_refused(make):
    array = make()
    came = str(array.dtype) if array.flags.aligned else f"unaligned {array.dtype}"
    with pytest.raises(DtypeError) as error:
        cr.from_numpy(array)
    assert str(error.value).endswith(
        "can share the memory of aligned arrays in one of chainrule's dtypes and this machine's byte order, got "
        f"{came}. Use cr.tensor(array), which copies."
    )
    assert cr.tensor(array).shape == array.shape


def test_no_array():
    with pytest.raises(TypeError, match=r"must be a NumPy array, got list\. Use cr\.tensor\(data\)\.$"):
        cr.from_numpy([1.0])
    with pytest.raises(DtypeError, match="^unknown dtype dtype\\('complex128'\\)"):
        cr.from_numpy(np.ones(2, complex))


# -- other libraries' tensors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
def test_pytorch_takes_a_tensor_in_each_of_its_ways(dtype):
    values = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    x = cr.tensor(values)
    for take in (torch.tensor, torch.as_tensor, torch.from_dlpack, torch.utils.dlpack.from_dlpack):
        found = take(x)
        assert (str(found.dtype), found.tolist()) == (f"torch.{dtype}", values.tolist())
        found.zero_()  # it is a copy
        assert x.tolist() == values.tolist()
    np.testing.assert_array_equal(np.from_dlpack(x), values)


def test_a_tensor_of_pytorchs_is_taken_where_it_lies():
    theirs = torch.arange(6.0).reshape(2, 3).T
    ours, own = cr.from_dlpack(theirs, device="cpu"), cr.from_dlpack(theirs, copy=True)
    theirs[0, 0] = 9
    assert own[0, 0].item() == 0
    assert ours.tolist() == theirs.tolist()
    step = cr.compile(lambda: (ours * 2).sum())
    assert step().item() == 2 * theirs.sum().item()
    del theirs
    assert ours[0, 0].item() == 9
    assert cr.from_dlpack(cr.ones(2)).tolist() == [1, 1]


def test_what_cannot_be_handed_over_is_refused():
    with pytest.raises(BufferError, match=r"^__dlpack__: a tensor is given in a copy"):
        np.from_dlpack(cr.ones(2), copy=False)
    with pytest.raises(GradientError, match=r"Use t\.detach\(\)\.numpy\(\)"):
        torch.from_dlpack(cr.ones(2, requires_grad=True))
    for given, kind in (
        (torch.ones(2, requires_grad=True), "torch.Tensor"),
        (torch.ones(2, dtype=torch.bfloat16), "torch.Tensor"),
        ([1.0], "list"),
    ):
        text = r"from_dlpack \(.*\): needs values on the CPU that are handed over by DLPack, got " + re.escape(kind)
        with pytest.raises(DataError, match=f"^{text} .* Use cr.tensor"):
            cr.from_dlpack(given)
    with pytest.raises(DtypeError, match="from_numpy"):
        cr.from_dlpack(torch.ones(2, dtype=torch.float16))
