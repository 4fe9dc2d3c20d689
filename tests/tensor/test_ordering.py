"""Orders, counts, diagonals, running folds, stacks, grids and named products: as PyTorch's, eager and compiled."""

import math
import re

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule.errors import DataError, SettingError, ShapeError

RNG = np.random.default_rng(0)
X = RNG.integers(-3, 4, (3, 5, 4)).astype(np.float32)
X[0, 1, 2], X[2, 1, :] = np.nan, -np.inf
Y = RNG.standard_normal((5, 4)).astype(np.float32)


def flat(result):
    return [part for r in result for part in flat(r)] if isinstance(result, (tuple, list)) else [result]


def arrays(result):
    return [part.detach().numpy() if hasattr(part, "detach") else np.asarray(part) for part in flat(result)]


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


CASES = {
    "sort": lambda L, x, y: [x.sort(dim=d, descending=down, stable=True) for d in (0, 1, -1) for down in (False, True)],
    "argsort": lambda L, x, y: x.argsort(dim=1, stable=True),
    "topk": lambda L, x, y: (x.topk(3, dim=1).values, x.topk(2, largest=False).values, y.topk(2), x.topk(0)),
    "kthvalue": lambda L, x, y: (x.kthvalue(2, 1).values, y.kthvalue(3, 0, True)),
    "median": lambda L, x, y: (x.median(1).values, x.median(), y.median(1), y.median()),
    "quantile": lambda L, x, y: (y.quantile(0.3, 0, True), y.quantile(0.77), y.quantile(0.77, interpolation="nearest"), y.quantile(0.4, 1, interpolation="midpoint")),
    "counts": lambda L, x, y: (x.count_nonzero(), x.count_nonzero(1), y.histc(5, -2, 2), y.histc(4)),
    "cumprod": lambda L, x, y: y.cumprod(1),
    "cummax": lambda L, x, y: (x.cummax(1), x.cummin(2)),
    "logcumsumexp": lambda L, x, y: y.logcumsumexp(1),
    "roll": lambda L, x, y: (x.roll(1), x.roll((1, -2), (0, 2)), x.roll(0, 1)),
    "rot90": lambda L, x, y: [*(x.rot90(k, (0, 2)) for k in (0, 1, 2, 3, -1)), x.fliplr(), x.flipud()],
    "repeat_interleave": lambda L, x, y: (x.repeat_interleave(2, 1), x.repeat_interleave(3)),
    "diff": lambda L, x, y: (y.diff(), y.diff(2, 0)),
    "diag": lambda L, x, y: (y.diag(), y.diag(-2), y.diag(1), y[0].diag(1), y[0].diag(-1), y[0].diagflat(), y.trace()),
    "diagonal": lambda L, x, y: (x.diagonal(1, 2, 0), x.diagonal(-1), x.diagonal(7), x.diagonal(-9, 1, 2)),
    "diag_embed": lambda L, x, y: (y.diag_embed(), y.diag_embed(1, 0, 2), y.diag_embed(-1)),
    "tensor_split": lambda L, x, y: (x.tensor_split(3, 1), x.tensor_split((1, 3), 1), x.tensor_split((-1,), 2), x.tensor_split((4, 1), 1)),
    "splits": lambda L, x, y: (x.vsplit(3), x.hsplit(5), x.dsplit(2), y[0].hsplit(2)),
    "nansum": lambda L, x, y: (x.nansum(1), x[:2].nanmean(2)),
    "index": lambda L, x, y: (x.index_fill(1, L.tensor([0, 3]), 7.0), x.index_copy(1, L.tensor([0, 2]), x[:, 3:]), x.take(L.tensor([0, 5, 7]))),
    "masked_scatter": lambda L, x, y: x.masked_scatter(x > 0, L.arange(60.0)),
    "products": lambda L, x, y: (y.kron(y[0]), y.inner(y), y.mv(y[0]), y.addmm(y[:, :2], y[:2], beta=0.5, alpha=2), y[:, 0].addmv(y, y[0]), y.addr(y[:, 0], y[0])),
    "cross": lambda L, x, y: L.cross(y[:3], y[1:4], dim=0),
    "batches": lambda L, x, y: (L.baddbmm(y[:3, :3], y.view(5, 2, 2)[:1].expand(3, 2, 2)[:, :, :1].expand(3, 2, 3).mT, y.view(5, 2, 2)[:1, :, :1].expand(3, 2, 3)), L.addbmm(y[:2, :2], y.view(5, 2, 2), y.view(5, 2, 2))),
    "stacks": lambda L, x, y: (L.vstack((y[0], y[1])), L.hstack((y, y)), L.dstack((y, y)), L.column_stack((y, y[:, 0])), L.hstack((y[0], y[1]))),
    "meshgrid": lambda L, x, y: (L.meshgrid(y[0], y[:2, 1], indexing="ij"), L.meshgrid(y[0], y[:2, 1], y[1], indexing="xy"), L.meshgrid([y[0]], indexing="xy")),
    "blocks": lambda L, x, y: (L.block_diag(y, y[0]), L.cartesian_prod(y[0], y[1]), L.combinations(y[0]), L.combinations(y[0], 3, True)),
    "searchsorted": lambda L, x, y: (L.searchsorted(L.tensor([-1.0, 0, 2]), x), L.searchsorted(L.tensor([-1.0, 0, 2]), x, right=True), L.searchsorted(y.sort(1).values, y, side="right"), L.bucketize(x, L.tensor([0.0, 1])), L.bucketize(x, L.tensor([0.0, 1]), right=True, out_int32=True)),
    "tensordot": lambda L, x, y: (L.tensordot(y, y, ([0], [0])), L.tensordot(y, y.T, 1), L.tensordot(y, y, 0)),
    "distances": lambda L, x, y: (L.cdist(y, y + 0.5), L.cdist(y, y + 0.5, 1.0), y.dist(y + 1)),
    "statistics": lambda L, x, y: (L.cov(y), L.corrcoef(y), L.var_mean(y, 1), L.std_mean(y), y.aminmax(dim=1)),
    "broadcast": lambda L, x, y: (L.broadcast_tensors(y, y[0]), L.atleast_2d(y[0]), L.atleast_3d(y[0]), L.atleast_1d(y[0, 0]), list(L.broadcast_shapes((2, 1), (3,)))),
    "indices": lambda L, x, y: (L.tril_indices(3, 4), L.triu_indices(3, 3, 1), L.logspace(-1, 1, 3)),
    "cat": lambda L, x, y: (L.cat([y, y], axis=1), L.cat((y, y), axis=0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_pytorchs_eager_and_compiled(name):
    case = CASES[name]
    eager = arrays(case(cr, cr.tensor(X), cr.tensor(Y)))
    same(eager, arrays(case(torch, torch.tensor(X), torch.tensor(Y))))
    compiled = cr.compile(lambda x, y: tuple(part for part in flat(case(cr, x, y)) if hasattr(part, "detach")))
    same(arrays(compiled(cr.tensor(X), cr.tensor(Y))), eager[: len(eager) - 2 * (name == "broadcast")])


KNOWN_ONLY = {
    "unique": lambda L, x, y: (x[1].unique(return_inverse=True, return_counts=True), x[1].unique(dim=0, return_inverse=True), L.unique(x[1])),
    "unique_consecutive": lambda L, x, y: (x[1].unique_consecutive(return_inverse=True, return_counts=True), x[1].unique_consecutive(dim=1)),
    "nonzero": lambda L, x, y: (x.nonzero(), x.nonzero(as_tuple=True), L.argwhere(x > 0), L.where(x > 0), L.tensor(3.0).nonzero()),
    "bincount": lambda L, x, y: (L.tensor([1, 3, 1]).bincount(minlength=6), L.tensor([1, 3, 1]).bincount(L.tensor([0.5, 1.0, 2.0]))),
    "repeats": lambda L, x, y: y.repeat_interleave(L.tensor([1, 0, 2, 0, 1]), 0),
    "histogram": lambda L, x, y: (tuple(L.tensor([1.0, 2, 1, 5]).histogram(L.tensor([0.0, 1, 2, 3]), weight=L.tensor([1.0, 2, 3, 4]))), tuple(L.histogram(y, 5, range=(-1.0, 1.0), density=True))),
    "quantiles": lambda L, x, y: (y.quantile(L.tensor([0.1, 0.5]), 1), y.quantile(L.tensor([0.1, 0.5]), 1, True), x[1].quantile(0.5, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN_ONLY)
def test_where_a_size_is_data(name):
    same(*(arrays(KNOWN_ONLY[name](L, L.tensor(X), L.tensor(Y))) for L in (cr, torch)))


SLOPES = {
    "sort": lambda L, a: a.sort(1).values, "topk": lambda L, a: a.topk(2).values, "cumprod": lambda L, a: a.cumprod(1),
    "cummax": lambda L, a: a.cummax(1).values, "roll": lambda L, a: a.roll(1, 0), "diag_embed": lambda L, a: a.diag_embed(1),
    "diagonal": lambda L, a: a.diagonal(1), "quantile": lambda L, a: a.quantile(0.3, 1), "median": lambda L, a: a.median(1).values,
    "logcumsumexp": lambda L, a: a.logcumsumexp(0), "repeat_interleave": lambda L, a: a.repeat_interleave(2, 0),
    "masked_scatter": lambda L, a: a.masked_scatter(a > 0, a * 2), "cdist": lambda L, a: L.cdist(a, a.flip(0) + 1),
    "kron": lambda L, a: a.kron(a), "meshgrid": lambda L, a: L.meshgrid(a[0], a[:, 0], indexing="xy")[1],
    "einsum": lambda L, a: L.einsum("ij,kj,jl->ikl", a, a * 2, a.mT),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOPES)
def test_derivatives(name):
    values, found = RNG.standard_normal((5, 4)), []
    for L in (cr, torch):
        x = L.tensor(values, requires_grad=True)
        y = SLOPES[name](L, x)
        (y * L.arange(float(y.numel())).reshape(y.shape)).sum().backward()
        found.append(x.grad.numpy())
    np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)


EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("ii->i", (3, 3)), ("ii", (3, 3)),
    ("ij->", (2, 3)), ("i,j->ij", (2,), (3,)), ("...ij,...jk->...ik", (2, 2, 3), (3, 4)), ("ba", (2, 3)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("i,i->i", (3,), (3,)),
    ("bi,ij,bj->b", (2, 3), (3, 4), (2, 4)), ("ij,kl->", (2, 3), (4, 5)), ("iij,jk->ki", (3, 3, 2), (2, 4)),
    ("...,...->...", (2, 3), (3,)), ("ij,ij->ij", (2, 3), (1, 3)), ("i...->...", (2, 3)), ("ij , jk -> ik", (1, 2), (2, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes"), [(e, s) for e, *s in EQUATIONS], ids=lambda v: str(v))
def test_einsum(equation, shapes):
    values = [RNG.standard_normal(shape) for shape in shapes]
    ours, theirs = ([L.tensor(v) for v in values] for L in (cr, torch))
    expected = torch.einsum(equation, *theirs).numpy()
    np.testing.assert_allclose(cr.einsum(equation, ours).numpy(), expected, rtol=1e-12, atol=1e-12)
    compiled = cr.compile(lambda *t: cr.einsum(equation, *t))
    np.testing.assert_allclose(compiled(*ours).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_the_few_largest_where_only_the_worst_are_left():
    """A compiled topk finds them one after the other, and none twice."""
    x = cr.tensor([[-np.inf, 1.0, -np.inf], [np.nan, np.inf, 2.0], [np.inf, np.inf, np.nan]])
    for largest in (True, False):
        find = cr.compile(lambda x, largest=largest: x.topk(3, largest=largest).indices)
        assert find(x).tolist() == x.topk(3, largest=largest).indices.tolist()


def test_a_write_to_a_diagonal_reaches_its_matrix():
    x, stacked = cr.zeros(2, 3), cr.zeros(2, 2, 2)
    x.diagonal(1).copy_(cr.tensor([1.0, 2.0]))
    stacked.diagonal(0, 1, 2).fill_(4.0)
    assert x.tolist() == [[0, 1, 0], [0, 0, 2]]
    assert stacked.tolist() == [[[4, 0], [0, 4]]] * 2
    assert cr.zeros(2, 2).fill_diagonal_(3).tolist() == [[3, 0], [0, 3]]


def said(raised):
    return re.sub(r" \([^ ]*test_\w+\.py:\d+ in [^)]*\)", "", str(raised.value))


REFUSED = {
    "einsum: the equation must name the axes of 1 operands, got 'ij,jk'.": (SettingError, lambda x: cr.einsum("ij,jk", x)),
    "einsum: 'i' must name 2 axes with letters in 'i->i'. Use ... for some of them.": (SettingError, lambda x: cr.einsum("i->i", x)),
    "einsum: 'k' of the result is at no operand in 'ij->k'.": (SettingError, lambda x: cr.einsum("ij->k", x)),
    "einsum: a name must stand once in the result, got 'ij->ii'.": (SettingError, lambda x: cr.einsum("ij->ii", x)),
    "kthvalue: k must be in [1, 3], the axis's length, got 4.": (SettingError, lambda x: x.kthvalue(4)),
    "quantile: q must be in [0, 1], got 2.": (SettingError, lambda x: x.quantile(2)),
    "diagonal: needs two different axes, got 0 and 0 of shape (2, 3).": (ShapeError, lambda x: x.diagonal(0, 0, 0)),
    "trace: needs a matrix, got shape (3,).": (ShapeError, lambda x: x[0].trace()),
    "meshgrid: indexing must be 'ij' or 'xy', got 'yx'.": (SettingError, lambda x: cr.meshgrid(x[0], indexing="yx")),
    "histogram: the range must go up, got 1 and 0. Swap them.": (SettingError, lambda x: x.histogram(2, range=(1, 0))),
    "median: nothing has no middle, got shape (0,). Check the size first.": (DataError, lambda x: x[:0].reshape(-1).median()),
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text):
    kind, call = REFUSED[text]
    with pytest.raises(kind) as raised:
        call(cr.ones(2, 3))
    assert said(raised) == text


# -- draws ---------------------------------------------------------------------------------------------


def test_multinomial_draws_with_the_weights_probabilities():
    cr.manual_seed(0)
    weights = cr.tensor([[1.0, 0.0, 6.0, 3.0], [0.0, 0.0, 1.0, 1.0]])
    drawn = cr.multinomial(weights, 20_000, replacement=True).numpy()
    shares = [np.bincount(row, minlength=4) / 20_000 for row in drawn]
    np.testing.assert_allclose(shares, [[0.1, 0, 0.6, 0.3], [0, 0, 0.5, 0.5]], atol=0.02)
    assert shares[0][1] == shares[1][0] == 0
    first = cr.multinomial(weights[:1].expand(20_000, 4), 2).numpy()
    np.testing.assert_allclose(np.bincount(first[:, 0], minlength=4) / 20_000, [0.1, 0, 0.6, 0.3], atol=0.02)
    assert (first[:, 0] != first[:, 1]).all() and (first != 1).all()


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial_compiled_draws_the_same(replacement):
    weights = cr.rand(3, 7)
    draw = cr.compile(lambda w: cr.multinomial(w, 5, replacement))
    cr.manual_seed(1)
    eager = cr.multinomial(weights, 5, replacement)
    cr.manual_seed(1)
    assert draw(weights).equal(eager)


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_are_no_probabilities(weights):
    with pytest.raises(DataError) as raised:
        cr.multinomial(cr.tensor(weights), 1)
    assert said(raised) == (
        "multinomial: the weights must be finite, none negative, and at least 1 of each row more than 0. Clamp them, or use .softmax(-1)."
    )


def test_normal_and_poisson_numbers():
    cr.manual_seed(0)
    x = cr.normal(cr.tensor([0.0, 100.0]), cr.tensor([1.0, 2.0]).expand(20_000, 2)).numpy()
    np.testing.assert_allclose([x.mean(0), x.std(0)], [[0, 100], [1, 2]], atol=0.05)
    assert cr.normal(2.0, 0.0, (2,)).tolist() == cr.normal(mean=2.0, std=cr.zeros(2)).tolist() == [2, 2]
    counts = cr.poisson(cr.full((20_000,), 11.5)).numpy()
    np.testing.assert_allclose([counts.mean(), counts.var()], [11.5, 11.5], rtol=0.05)
    assert cr.randint_like(cr.zeros(1000), 3).unique().tolist() == [0, 1, 2]
    drawn = cr.zeros(20_000).exponential_(2.0)
    np.testing.assert_allclose([drawn.mean().item(), drawn.var().item()], [0.5, 0.25], rtol=0.05)
    assert cr.zeros(1000, dtype=cr.int64).random_(3, 5).unique().tolist() == [3, 4]
    with pytest.raises(DataError) as raised:
        cr.normal(0.0, -1.0, (2,))
    assert said(raised) == "normal: std must be 0 or more everywhere, got -1.0."
    with pytest.raises(SettingError) as raised:
        cr.normal(0.0, 1.0)
    assert said(raised) == "normal: needs a size where mean and std are numbers. Give size=(...)."


# -- what scripts ask of dtypes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16"])
def test_finfo(name):
    ours, theirs = cr.finfo(getattr(cr, name)), torch.finfo(getattr(torch, name))
    for what in ("max", "min", "eps", "tiny", "bits", "smallest_normal", "resolution", "dtype"):
        assert (
            getattr(ours, what) == pytest.approx(getattr(theirs, what))
            if what != "dtype"
            else ours.dtype == theirs.dtype
        )


def test_iinfo_and_promotion():
    for name in ("uint8", "int32", "int64"):
        ours, theirs = cr.iinfo(getattr(cr, name)), torch.iinfo(getattr(torch, name))
        assert (ours.max, ours.min, ours.bits, ours.dtype) == (theirs.max, theirs.min, theirs.bits, theirs.dtype)
    assert cr.result_type(cr.ones(1, dtype=cr.int32), 1.0) is cr.promote_types(cr.int32, cr.float32) is cr.float32
    assert cr.can_cast(cr.int64, cr.float32) and not cr.can_cast(cr.float32, cr.int64)
    assert cr.get_default_dtype() is cr.float32
    cr.set_default_dtype(cr.float32)
    with pytest.raises(SettingError) as raised:
        cr.set_default_dtype(cr.float64)
    assert str(raised.value) == (
        "set_default_dtype: Python's floats become float32 here, got float64. Give dtype= to what makes tensors, and call "
        "model.to(dtype)."
    )


@pytest.mark.parametrize("values", [[1, 2, 2, 2, 5], [3, 1, 2], [np.inf, np.inf, 1, np.inf]])
def test_equal_elements_share_the_gradient_of_a_median(values):
    torch = pytest.importorskip("torch")
    found = []
    for lib in (cr, torch):
        x = lib.tensor(np.array(values, np.float32), requires_grad=True)
        (x.median() * 3).backward()
        found.append((x.median().item(), x.grad.tolist()))
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_array_equal(found[0][0], found[1][0])
    x = cr.tensor(np.array(values, np.float32), requires_grad=True)
    cr.compile(lambda: (x.median() * 3).backward())()
    np.testing.assert_array_equal(x.grad.tolist(), found[1][1])


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(
    ("elements", "test"),
    [
        ([[1, 2], [3, 4]], [4, 1]), ([1.0, math.nan, -0.0], [math.nan, 0.0]), ([1, 2], 2), (2, [1, 2]), ([1, 2], []), ([], [1]), ([1, 2], [[1.5], [2.0]]),
    ],
)  # fmt: skip
def test_isin_is_pytorchs(elements, test, invert):
    def on(lib):
        return [lib.tensor(each) if isinstance(each, list) else each for each in (elements, test)]

    theirs = torch.isin(*on(torch), invert=invert)
    ours = cr.isin(*on(cr), invert=invert)
    assert (ours.dtype, ours.shape, ours.tolist()) == (cr.bool, tuple(theirs.shape), theirs.tolist())
    if isinstance(elements, list):
        compiled = cr.compile(lambda a: cr.isin(a, on(cr)[1], invert=invert))
        assert compiled(on(cr)[0]).tolist() == theirs.tolist()


def test_isin_of_bfloat16_and_of_what_waits():
    assert cr.isin(cr.tensor([1.5, 2.5]).bfloat16(), cr.tensor([2.5])).tolist() == [False, True]
    with cr.eager(False):
        assert cr.isin(cr.ones(2) + 1, cr.tensor([2.0])).tolist() == [True, True]
