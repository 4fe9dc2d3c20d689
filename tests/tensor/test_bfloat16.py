"""bfloat16: two bytes a number, float32 arithmetic, each result rounded once, as PyTorch computes it on a CPU."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import dtypes, nn, ops, optim
from chainrule.errors import DtypeError, InPlaceError
from chainrule.graph import StoredOnlyError, const

rng = np.random.default_rng(3)
INF, NAN = float("inf"), float("nan")
SPREAD = (rng.standard_normal(4000) * np.exp(20 * rng.standard_normal(4000))).astype(np.float32)


def pair(values):
    """The same numbers here and in PyTorch."""
    array = np.asarray(values, np.float32)
    return cr.tensor(array, cr.bfloat16), torch.from_numpy(array.copy()).to(torch.bfloat16)


def numbers(t):
    """The values of a tensor of either, exactly, as float32."""
    return t.detach().float().numpy()


def same(ours, theirs):
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    np.testing.assert_array_equal(numbers(ours), numbers(theirs))


# -- rounding -----------------------------------------------------------------------------------------------


def test_rounding_is_pytorchs_over_all_kinds_of_float32():
    """Every exponent with both signs, halves and their neighbours, denormals, infinities, NaNs of few bits."""
    upper = np.arange(0, 1 << 16, 7, dtype=np.uint32)[:, None] << 16
    low = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    every = (upper | low).ravel().view(np.float32)
    same(*pair(every))
    lone = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(numbers(cr.tensor(lone, cr.bfloat16))).all()


def test_every_word_comes_back():
    words = np.arange(1 << 16, dtype=np.uint16)
    exact = dtypes.widened(words.view(dtypes.bfloat16.numpy))
    back = dtypes.narrowed(exact).view(np.uint16)
    quiet = np.where(np.isnan(exact), words | 0x40, words)
    np.testing.assert_array_equal(back, quiet)


@pytest.mark.parametrize("source", [cr.float64, cr.int64, cr.int32, cr.uint8, dtypes.bool_])
def test_conversions_are_pytorchs(source):
    array = (np.abs(SPREAD[:50]).clip(0, 200) if source is cr.uint8 else SPREAD[:50].clip(-1e6, 1e6)).astype(
        source.numpy
    )
    ours, theirs = cr.tensor(array).to(cr.bfloat16), torch.from_numpy(array).to(torch.bfloat16)
    same(ours, theirs)
    np.testing.assert_array_equal(ours.to(source).numpy(), theirs.to(getattr(torch, source.name)).numpy())
    native = cr.compile(lambda t: (t.to(cr.bfloat16), t.to(cr.bfloat16).to(source)))(cr.tensor(array))
    same(native[0], theirs)
    np.testing.assert_array_equal(native[1].numpy(), ours.to(source).numpy())


# -- what Python sees ---------------------------------------------------------------------------------------


def test_values_in_python():
    x = cr.tensor([1.1, -2.0, NAN], dtype="bfloat16")
    assert repr(x) == "tensor([ 1.1016, -2.0000,     nan], dtype=chainrule.bfloat16)"
    assert (x[0].item(), float(x[1]), x[:2].tolist()) == (1.1015625, -2.0, [1.1015625, -2.0])
    assert (repr(cr.bfloat16), cr.bfloat16.itemsize, str(x._node.type)) == ("chainrule.bfloat16", 2, "bf16[3]")
    assert x._node.value.nbytes == 6
    for back in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), cr.tensor(x), x.clone()):
        assert back.dtype is cr.bfloat16
        np.testing.assert_array_equal(numbers(back), numbers(x))
    weight = pickle.loads(pickle.dumps(nn.Parameter(cr.ones(2, dtype=cr.bfloat16))))
    assert (weight.dtype, weight.requires_grad, type(weight)) == (cr.bfloat16, True, nn.Parameter)


def test_numpy_has_no_such_numbers():
    with pytest.raises(TypeError, match=r"^numpy\(\): NumPy has no bfloat16. Use t.float\(\).numpy\(\).$"):
        cr.ones(2, dtype=cr.bfloat16).numpy()
    with pytest.raises(TypeError, match="NumPy has no bfloat16"):
        np.asarray(cr.ones(2, dtype=cr.bfloat16))
    for ufunc in (np.add, np.multiply, np.less, np.maximum):  # the words themselves have no arithmetic
        with pytest.raises(TypeError):
            ufunc(cr.ones(2, dtype=cr.bfloat16)._node.value, 1)


def test_arrays_of_ml_dtypes_are_taken():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = cr.tensor(SPREAD.astype(ml_dtypes.bfloat16))
    assert x.dtype is cr.as_dtype(np.dtype(ml_dtypes.bfloat16)) is cr.bfloat16
    np.testing.assert_array_equal(numbers(x), numbers(pair(SPREAD)[1]))


def test_pytorchs_numbers_are_taken_to_the_bit():
    theirs = pair(SPREAD)[1]
    for x in (cr.tensor(theirs), cr.as_tensor(theirs)):
        same(x, theirs)
    assert cr.tensor(theirs, dtype=cr.float64).dtype is cr.float64
    their_layer, layer = torch.nn.Linear(3, 2).bfloat16(), nn.Linear(3, 2).bfloat16()
    layer.load_state_dict(their_layer.state_dict())
    same(layer.weight, their_layer.weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda of, kind: of.zeros(3, dtype=kind), lambda of, kind: of.ones(2, 2, dtype=kind),
        lambda of, kind: of.full((2,), 0.1, dtype=kind), lambda of, kind: of.full((2,), -0.0, dtype=kind),
        lambda of, kind: of.arange(5, dtype=kind) / 3,
        lambda of, kind: of.eye(3, dtype=kind), lambda of, kind: of.tensor([1.1, 1e39, -1e-45], dtype=kind),
        lambda of, kind: of.ones(2, dtype=kind).fill_(0.3), lambda of, kind: of.zeros_like(of.ones(2, dtype=kind)),
    ],
)  # fmt: skip
def test_made_as_in_pytorch(make):
    same(make(cr, cr.bfloat16), make(torch, torch.bfloat16))


def test_random_numbers():
    cr.manual_seed(0)
    u, n = cr.rand(20_000, dtype=cr.bfloat16), cr.randn(20_000, dtype=cr.bfloat16)
    assert u.dtype is n.dtype is cr.bfloat16
    assert u.float().min().item() >= 0 and u.float().max().item() < 1
    assert abs(n.float().mean().item()) < 0.03 and abs(n.float().std().item() - 1) < 0.03
    assert 0.2 < cr.bernoulli(cr.full((9999,), 0.25, dtype=cr.bfloat16)).float().mean().item() < 0.3


# -- promotion ----------------------------------------------------------------------------------------------

OTHERS = [dtypes.bool_, cr.uint8, cr.int32, cr.int64, cr.bfloat16, cr.float32, cr.float64]


@pytest.mark.parametrize("other", OTHERS, ids=str)
@pytest.mark.parametrize("shapes", [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())])
def test_promotion_is_pytorchs(other, shapes):
    a, b = cr.ones(shapes[0], dtype=cr.bfloat16), cr.ones(shapes[1], dtype=other)
    x, y = torch.ones(shapes[0], dtype=torch.bfloat16), torch.ones(shapes[1], dtype=getattr(torch, other.name))
    same(a + b, x + y)
    same(b * a, y * x)
    same(cr.where(b.bool(), a, b), torch.where(y.bool(), x, y))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + 0.3, lambda x: 0.3 - x, lambda x: x * 0.3, lambda x: x / 0.3, lambda x: x % 0.3,
        lambda x: x.abs() ** 0.3, lambda x: x * 3, lambda x: x < 0.3, lambda x: x == 0.30078125, lambda x: x.clamp(-0.3, 0.3),
        lambda x: x.masked_fill(x > 0, 0.3), lambda x: x**2, lambda x: x.addcmul(x, x, value=0.3), lambda x: x.lerp(x * 2, 0.3),
    ],
)  # fmt: skip
def test_numbers_beside_it_are_rounded_where_pytorch_rounds_them(call):
    ours, theirs = pair(np.random.default_rng(0).standard_normal(3000))
    same(call(ours), call(theirs))


def test_another_floating_dtype_is_refused_where_pytorch_refuses_it():
    with pytest.raises(
        DtypeError, match=re.escape("the operands must have one dtype, got bfloat16 and float32. Convert")
    ):
        cr.ones(2, 2, dtype=cr.bfloat16) @ cr.ones(2, 2)
    with pytest.raises(DtypeError, match="input and weight must have one dtype, got float32 and bfloat16"):
        F.linear(cr.ones(1, 2), cr.ones(3, 2, dtype=cr.bfloat16))


# -- functions of several ops -------------------------------------------------------------------------------

X = rng.standard_normal((40, 30))
EXACT = [
    lambda of, x: x.mean(1), lambda of, x: x.var(1), lambda of, x: x.std(), lambda of, x: x.softmax(1), lambda of, x: x.cumsum(1),
    lambda of, x: x.norm(dim=1), lambda of, x: x.log2().nan_to_num(0.0) if hasattr(x, "nan_to_num") else x.log2().masked_fill(x <= 0, 0),
    lambda of, x: of.layer_norm(x, (30,)), lambda of, x: of.gelu(x), lambda of, x: of.silu(x), lambda of, x: of.elu(x),
    lambda of, x: of.softplus(x), lambda of, x: of.mish(x), lambda of, x: of.leaky_relu(x), lambda of, x: of.hardswish(x),
    lambda of, x: of.mse_loss(x, x.flip((0,))), lambda of, x: of.smooth_l1_loss(x, x.flip((0,))),
    lambda of, x: of.linear(x, x[:5], x[0, :5]), lambda of, x: x @ x.T,
]  # fmt: skip
CLOSE = [lambda of, x: x.log_softmax(1), lambda of, x: x.logsumexp(1)]  # PyTorch's own are an ulp off what they round


@pytest.mark.parametrize("call", EXACT)
def test_composed_functions_are_rounded_once(call):
    ours, theirs = pair(X)
    a, b = call(F, ours), call(torch.nn.functional, theirs)
    assert a.dtype is cr.bfloat16
    differ = numbers(a) != numbers(b)  # float32's own rounding decides where a result lies halfway
    assert differ.mean() < 0.01
    np.testing.assert_allclose(numbers(a), numbers(b), rtol=2**-7)


@pytest.mark.parametrize("call", CLOSE)
def test_composed_functions_within_an_ulp(call):
    ours, theirs = pair(X)
    np.testing.assert_allclose(numbers(call(F, ours)), numbers(call(torch.nn.functional, theirs)), rtol=2**-7)


IMAGES, SEQUENCE = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((2, 5, 8))


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (lambda x: F.conv2d(x, x[:1, :, :2, :2], x[0, 0, 0, :1]), IMAGES), (lambda x: F.avg_pool2d(x, 3), IMAGES),
        (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), SEQUENCE), (lambda x: F.glu(x), SEQUENCE),
        (lambda x: F.layer_norm(x, (8,), x[0, 0], x[0, 1]), SEQUENCE), (lambda x: F.cosine_similarity(x, x.flip((0,))), SEQUENCE),
        (lambda x: F.huber_loss(x, x.flip((0,))), SEQUENCE), (lambda x: F.normalize(x), SEQUENCE),
    ],
)  # fmt: skip
def test_they_are_float32s_values_rounded(call, given):
    x = cr.tensor(given, cr.bfloat16)
    expected = call(x.float()).bfloat16()
    found, native = call(x), cr.compile(call)(x)
    assert found.dtype is native.dtype is cr.bfloat16
    np.testing.assert_array_equal(numbers(found), numbers(expected))
    np.testing.assert_allclose(numbers(native), numbers(expected), rtol=2**-7)  # float32's last bit may decide


def test_cross_entropy_and_its_gradient():
    ours, theirs = pair(X)
    labels = np.random.default_rng(0).integers(0, 30, 40)  # whatever tests were run before
    ours.requires_grad_(), theirs.requires_grad_()
    a = F.cross_entropy(ours, cr.tensor(labels))
    b = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels))
    a.backward(), b.backward()
    np.testing.assert_allclose(numbers(a), numbers(b), rtol=2**-6)  # PyTorch rounds the log-probabilities, too
    np.testing.assert_allclose(numbers(ours.grad), numbers(theirs.grad), rtol=2**-4, atol=1e-5)


def test_written_in_place_through_a_function():
    x = cr.tensor([-1.0, 3.0], dtype=cr.bfloat16)
    assert F.leaky_relu(x, 0.5, inplace=True) is x
    assert x.tolist() == [-0.5, 3.0]
    with pytest.raises(InPlaceError):
        F.elu(cr.ones(2, dtype=cr.bfloat16).requires_grad_(), inplace=True)


def test_running_statistics():
    ours, theirs = nn.BatchNorm1d(30).bfloat16(), torch.nn.BatchNorm1d(30).bfloat16()
    x, y = pair(X)
    np.testing.assert_allclose(numbers(ours(x)), numbers(theirs(y)), rtol=2**-6, atol=2**-8)
    np.testing.assert_allclose(numbers(ours.running_var), numbers(theirs.running_var), rtol=2**-7)


# -- no op takes the words for numbers ----------------------------------------------------------------------


@pytest.mark.parametrize("op", [op for op in ops.ALL.values() if not op.moves], ids=str)
def test_an_op_that_computes_refuses_them(op):
    x = const(1.5, cr.bfloat16)
    given = [x] * (3 if op.name in ("where", "put_add") else 2 if callable(op.vjp) or len(op.vjp) == 2 else 1)
    params = {"size": 2, "dtype": cr.bfloat16} if op.name == "iota" else {}
    with pytest.raises(StoredOnlyError, match="computes with numbers, which bfloat16 only stores"):
        op.infer(*given[: 0 if op.name == "iota" else None], **params)


# -- networks -----------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(20, 32), nn.Linear(32, 3)
        self.middle = nn.Linear(32, 32, dtype=cr.bfloat16)

    def forward(self, x):
        return self.last(self.middle(self.first(x).relu().bfloat16()).relu().float())


def theirs_of(net):
    made = torch.nn.ModuleDict({
        "first": torch.nn.Linear(20, 32), "middle": torch.nn.Linear(32, 32, dtype=torch.bfloat16), "last": torch.nn.Linear(32, 3),
    })  # fmt: skip
    made.load_state_dict({name: torch.tensor(numbers(t)) for name, t in net.state_dict().items()})
    return made, lambda x: made.last(made.middle(made.first(x).relu().bfloat16()).relu().float())


@pytest.mark.parametrize(("name", "off"), [("SGD", 3e-4), ("Adam", 5e-3), ("Adagrad", 5e-3)])
def test_a_training_with_one_layer_in_bfloat16_follows_pytorchs(name, off):
    """SGD rounds once a step, as here, but of other float32 sums; of the others PyTorch rounds every op of the update."""
    own = np.random.default_rng(0)  # whatever tests were run before
    x, labels = own.standard_normal((64, 20)).astype(np.float32), own.integers(0, 3, 64)
    cr.manual_seed(0)
    net = Net()
    made, forward = theirs_of(net)
    eager = copy.deepcopy(net)
    steps = {}
    for kind, model in (("eager", eager), ("native", net)):
        opt = getattr(optim, name)(model.parameters(), lr=1e-2)

        def step(x, y, model=model, opt=opt):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        steps[kind] = cr.compile(step) if kind == "native" else step
        states = [t.dtype for own in opt.state.values() for slot, t in own.items() if slot != "step"]
        assert states.count(cr.bfloat16) * 3 == len(states)  # that of two of six parameters
    peer = getattr(torch.optim, name)(made.parameters(), lr=1e-2)
    for _ in range(20):
        ours = [step(cr.tensor(x), cr.tensor(labels)).item() for step in steps.values()]
        peer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        peer.step()
        assert ours[0] == pytest.approx(loss.item(), abs=off)
        assert ours[1] == pytest.approx(ours[0], abs=1e-3)


def test_a_whole_model_and_back():
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 1)).bfloat16()
    assert {p.dtype for p in model.parameters()} == {cr.bfloat16}
    before = {name: numbers(t) for name, t in model.state_dict().items()}
    model(cr.ones(2, 4, dtype=cr.bfloat16)).sum().backward()
    assert all(p.grad.dtype is cr.bfloat16 for p in model.parameters())
    model.float().bfloat16()
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(numbers(t), before[name])


def test_files_hold_two_bytes_a_number(tmp_path):
    net = Net()
    path = tmp_path / "net.safetensors"
    cr.save(net.state_dict(), path)
    loaded = cr.load(path)
    assert loaded["middle.weight"].dtype is cr.bfloat16
    Net().load_state_dict(loaded)
    safetensors = pytest.importorskip("safetensors.torch")
    for name, t in safetensors.load_file(path).items():
        same(loaded[name], t)
    safetensors.save_file({"w": pair(SPREAD)[1]}, tmp_path / "theirs.safetensors")
    same(cr.load(tmp_path / "theirs.safetensors")["w"], pair(SPREAD)[1])
