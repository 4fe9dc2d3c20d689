"""Derivations: the terms are the derivatives, they add up to the stored bits, and the paths to the whole."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from tests.explain.trainings import fit, trainer

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import GradientError, IndexRangeError, SettingError, UnknownNameError
from chainrule.explain.addresses import parse


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def random_weights(run, count, seed=0):
    """Addresses and steps, in the order of the steps, since each is brought back once."""
    rng = np.random.default_rng(seed)
    parameters = list(run.trainer.model.named_parameters())
    for step in sorted(rng.integers(0, len(run), count)):
        name, p = parameters[rng.integers(len(parameters))]
        yield f"{name}[{', '.join(str(rng.integers(size)) for size in p.shape)}]", int(step)


DEEP = (5, *[6] * 49, 2)


ADAM, SGD = partial(optim.Adam, lr=0.01), partial(optim.SGD, lr=0.1)
NETWORKS = {
    "3 layers, Adam": ((5, 16, 16, 2), ADAM), "3 layers, SGD": ((5, 16, 16, 2), SGD), "50 layers, Adam": (DEEP, ADAM),
}  # fmt: skip


@pytest.mark.parametrize(("sizes", "optimizer"), NETWORKS.values(), ids=NETWORKS)
def test_a_hundred_random_weights_add_up_to_the_stored_bits(sizes, optimizer):
    run = fit(trainer(sizes, optimizer), epochs=2, batch_size=16)
    for address, step in random_weights(run, 100):
        found = run.explain(address, step)
        moment = run.at(step)
        name, position = parse(address, {n: p.shape for n, p in run.trainer.model.named_parameters()})
        assert moment.proved
        assert found.gradient.tobytes() == moment.gradients[name].reshape(-1)[position].tobytes()
        assert found.order is not None and found.adds_up, address
        total = sum((term.exact for term in found.terms), Fraction(0)) + found.rounding
        assert total == Fraction(float(found.gradient))


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("sizes", "batch"), [((5, 1), 32), ((5, 12, 1), 64), ((40, 33, 20), 7), ((3, 2, 2), 1)])
def test_layers_of_every_form_add_up(sizes, batch, dtype):
    """One output unit, a batch of one, odd sizes, both dtypes, a smooth activation: other tiles, other orders."""
    cr.manual_seed(0)
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*layers[:-1]).to(dtype)
    made = cr.Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.05))
    rows = np.random.default_rng(1).standard_normal((128, sizes[0] + sizes[-1]))
    made.fit(rows[:, : sizes[0]], rows[:, sizes[0] :], epochs=1, batch_size=batch, progress=False, record=True)
    for address, step in random_weights(made.run, 8):
        d = made.run.explain(address, step)
        assert d.adds_up and d.node.dtype is dtype, (address, step)


def test_another_order_of_adding_would_be_noticed():
    """The check has teeth: the terms backwards give other bits for some weights."""
    run = fit(trainer((5, 16, 16, 2)), epochs=1)
    different = 0
    for address, step in random_weights(run, 40):
        d = run.explain(address, step)
        backwards = d.order.total([t.local for t in d.terms[::-1]], [t.upstream for t in d.terms[::-1]])
        different += backwards.tobytes() != d.gradient.tobytes()
    assert different > 10


def test_each_step_further_is_a_derivation_of_its_own():
    run = fit(trainer((5, 16, 16, 2)), epochs=1)
    d = run.explain("0.weight[3, 1]", step=2)
    for term in d.terms:
        assert term.derivation().gradient == term.upstream
        inner = term.derivation()
        assert float(sum((t.exact for t in inner.terms), Fraction(0))) == pytest.approx(
            float(term.upstream), rel=1e-5, abs=1e-9
        )


def test_every_path_of_a_small_network_adds_up():
    run = fit(trainer((5, 3, 2)), epochs=1, batch_size=4)
    for address in ("0.weight[1, 2]", "2.weight[0, 1]", "0.bias[2]"):
        d = run.explain(address, step=3)
        paths = d.every_path()
        assert float(d.rest(paths)) == pytest.approx(0, abs=1e-6 * max(abs(p.product) for p in paths))
        strongest = d.strongest(3)
        assert [p.product for p in strongest] == [p.product for p in paths[:3]]
        assert d.rest(strongest) + sum(p.exact for p in strongest) == Fraction(float(d.gradient))


def test_a_deep_network_has_strongest_paths():
    run = fit(trainer(DEEP), epochs=1)
    (path, *_) = run.explain("0.weight", step=1).strongest(1)
    assert sum(step.node.op.name == "matmul" for step in path.steps) == 50


# -- eager graphs: the terms against finite differences -----------------------------------------------------

rng = np.random.default_rng(4)
P, Q = rng.uniform(0.3, 2.0, (3, 4)), rng.standard_normal((3, 4))

GRAPHS = {
    "elementwise": lambda x: ((x * x.exp() + x.sin() / x).tanh() * x.log()).sum(),
    "broadcast": lambda x: (x[0] * x[:, :1] + x.sum(0) * cr.tensor(Q)).mean(),
    "maxima": lambda x: (x.amax(1) * x.amin(0).sum()).sum() + x.maximum(cr.tensor(Q)).sum(),
    "views": lambda x: (x.T.reshape(2, 6).flip(1)[:, 1:5:2] ** 2).sum() + x.expand(2, 3, 4).sum(),
    "products": lambda x: (x @ cr.tensor(Q).T @ x).sum() + (x.unsqueeze(0).expand(2, 3, 4) @ x.T).exp().mean(),
    "softmax": lambda x: (x.softmax(1) * cr.tensor(Q)).sum() + F.cross_entropy(x, cr.tensor([1, 0, 3])),
    "indexing": lambda x: (
        (x[cr.tensor([0, 2, 2]), cr.tensor([3, 1, 1])] * x[0, 0]).sum() + cr.cat([x, x * x], 1).sum(1).prod()
    ),
    "scatter": lambda x: (x.scatter_add(0, cr.tensor([[0, 1, 2, 0]]), x[1:2]) ** 2).sum(),
    "pad": lambda x: (F.relu(x - 1)[1:] * x[:-1]).sum(),
}


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_terms_and_paths_of_every_kind_of_op(graph):
    x = cr.tensor(P, requires_grad=True)
    loss = GRAPHS[graph](x)
    (gradient,) = (cr.grad(GRAPHS[graph])(cr.tensor(P)).numpy(),)
    for i, j in [(0, 0), (1, 2), (2, 3)]:
        d = cr.explain(loss, x, (i, j))
        assert float(d.gradient) == pytest.approx(gradient[i, j], rel=1e-12)
        size = max((abs(t.product) for t in d.terms), default=1)
        assert abs(float(d.rounding)) <= 1e-13 * size * max(1, len(d.terms))
        paths = d.every_path()
        assert abs(float(d.rest(paths))) <= 1e-11 * max([1, *(abs(p.product) for p in paths)])
        for term in d.terms:
            inner = term.derivation()
            if term.node is not d.scene.loss:
                assert abs(float(inner.rounding)) <= 1e-13 * max([1, *(abs(t.product) for t in inner.terms)]) * 10


def test_as_a_dict_and_in_print():
    run = fit(trainer((5, 16, 16, 2)), epochs=1)
    d = run.explain("0.weight[3, 1]", step=2)
    found = d.as_dict(terms=4, paths=2)
    assert (found["name"], found["where"], found["count"], found["adds_up"]) == ("0.weight[3, 1]", "step 2", 16, True)
    assert np.uint32(int(found["bits"], 16)).view(np.float32) == d.gradient
    assert sum(t["product"] for t in found["terms"]) + found["others"] == pytest.approx(found["gradient"], rel=1e-5)
    assert sum(p["product"] for p in found["paths"]) + found["other_paths"] == pytest.approx(
        found["gradient"], rel=1e-12
    )
    text = str(d)
    assert text.startswith(f"dL/d 0.weight[3, 1] = {float(d.gradient):.9g}  (step 2, float32)")
    assert "one after the other, each product and addition rounded once" in " ".join(text.split())
    assert repr(d).startswith("<Derivation of 0.weight[3, 1]: ")


def test_a_gradient_of_nothing():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    d = cr.explain(x[:1].sum(), x, 1)
    assert (float(d.gradient), d.terms) == (0.0, [])
    assert "Nothing that the loss depends on reads it" in str(d)


# -- bad input ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    return fit(trainer(), epochs=1)


def test_unknown_names_and_indices(run):
    with raises(
        UnknownNameError,
        "unknown weight '0.wight'. Did you mean '0.weight' or '2.weight'? Known: 0.bias, 0.weight, 2.bias, 2.weight.",
    ):
        run.explain("0.wight[3, 1]")
    for address in ("0.weight[8, 0]", "0.weight[-9, 0]", "0.weight[1]", "0.weight[1, 2, 3]", "0.weight[]"):
        with raises(
            IndexRangeError,
            f"explain: 0.weight has the shape (8, 5), so its indices are 0 to 7, 0 to 4; got "
            f"[{address[9:-1]}]. Negative ones count from the end.",
        ):
            run.explain(address)
    assert run.explain("0.weight[-1, -1]").name == "0.weight[7, 4]"


def test_a_weight_and_its_index_are_one_text(run):
    parameter = run.trainer.model[0].weight
    for name in ("explain", "ledger"):
        with raises(
            TypeError,
            f"{name}: takes a weight, its name and index in one text, and a step: trainer.{name}('0.weight[3, 7]', step=0).",
        ):
            getattr(run.trainer, name)(parameter, (0, 0), step=0)
    for given in (parameter, 7):
        with raises(
            SettingError,
            f"explain: an address is a name and an index such as '0.weight[3, 7]', got {type(given).__name__}.",
        ):
            run.explain(given)


@pytest.mark.parametrize("address", ["", "[1]", "a[1]b", "0.weight[1, 2"])
def test_what_is_no_address(run, address):
    with raises(SettingError, f"explain: an address is a name and an index such as '0.weight[3, 7]', got {address!r}."):
        run.explain(address)


def test_an_index_that_is_no_number(run):
    with raises(SettingError, "explain: an index is made of whole numbers, got [a, 2] in '0.weight[a, 2]'."):
        run.explain("0.weight[a, 2]")


def test_a_weight_that_is_not_used():
    model = trainer().model
    model[2].bias.requires_grad_(False)
    frozen = cr.Trainer(model, F.cross_entropy, optim.SGD(model[0].parameters(), lr=0.1))
    with raises(
        GradientError,
        "explain: the loss does not depend on 2.bias at step 0, or it does not require grad, so it has no gradient to "
        "derive. Name another weight.",
    ):
        fit(frozen, epochs=1).explain("2.bias[0]", step=0)


def test_a_loss_without_history_or_with_several_elements():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    with raises(
        GradientError,
        "explain: the loss must be one number that depends on a tensor with requires_grad=True, got shape (2,). Reduce it "
        "(.sum(), .mean()), before backward() frees its history.",
    ):
        cr.explain(x * 2, x, 0)
    with raises(
        GradientError,
        "explain: the loss must be one number that depends on a tensor with requires_grad=True, got shape () without a "
        "history. Reduce it (.sum(), .mean()), before backward() frees its history.",
    ):
        cr.explain(cr.tensor(1.0), x, 0)


def test_a_tensor_the_loss_does_not_read():
    x, z = cr.tensor([1.0], requires_grad=True), cr.tensor([1.0], requires_grad=True)
    with raises(
        GradientError,
        "explain: the loss does not depend on this tensor, or it does not require grad. Name a tensor with "
        "requires_grad=True that the loss was computed from.",
    ):
        cr.explain(x.sum(), z, 0)


def test_a_derivative_of_ones_own():
    double = cr.custom_vjp(lambda x: x * 2, lambda dY, Y, x: dY * 2)
    x = cr.tensor([1.0], requires_grad=True)
    with raises(
        GradientError,
        "explain: custom has a derivative of its own (cr.custom_vjp, a compiled function, an op of several results), which "
        "says nothing about single elements. Explain a tensor behind it, or write it with chainrule's ops.",
    ):
        _ = cr.explain(double(x).sum(), x, 0).terms


def test_too_many_paths(run):
    with raises(
        GradientError,
        "explain: there are more than 5 paths from here to the loss. Ask for the strongest ones (derivation.strongest(10)), "
        "or raise limit.",
    ):
        run.explain("0.weight").every_path(5)
