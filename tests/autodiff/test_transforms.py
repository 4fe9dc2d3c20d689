"""vjp, jvp, grad, jacobian and hessian: what they depend on, what they take, what they refuse."""

import re
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule.errors import GradientError, ShapeError

x = cr.tensor([1.0, 2.0])
v = cr.tensor([3.0, 5.0])
p = cr.tensor([0.5, 4.0], requires_grad=True)


def cube(t):
    return (t * t * t).sum()


def raises(kind, text):
    return pytest.raises(kind, match=re.escape(text))


# -- what a derivative depends on beside its variables ---------------------------------------------


def test_a_directional_derivative_can_be_differentiated_by_its_direction():
    assert cr.grad(lambda t: cr.jvp(cube, [x], [t])[1])(v).tolist() == [3, 12]


def test_a_pullback_can_be_differentiated_by_its_cotangent():
    _, pullback = cr.vjp(lambda t: t * t * t, x)
    assert cr.grad(lambda t: pullback(t)[0].sum())(v).tolist() == [3, 12]


def test_a_pullback_keeps_the_history_of_its_cotangent():
    u = cr.tensor([1.0, 1.0], requires_grad=True)
    _, pullback = cr.vjp(lambda t: t * t * t, x)
    (pullback(u * u)[0].sum()).backward()
    assert u.grad.tolist() == [6, 24]


def test_a_directional_derivative_keeps_the_parameters_of_its_closure():
    found = cr.grad(lambda weight: cr.jvp(lambda t: (weight * t * t).sum(), [x], [v])[1])(p.detach())
    assert found.tolist() == [6, 20]  # of the sum of 2 w x v
    w = p.detach().clone().requires_grad_()
    cr.jvp(lambda t: (w * t * t).sum(), [x], [v])[1].backward()
    assert w.grad.tolist() == [6, 20]


@pytest.mark.parametrize("transform", [cr.grad, cr.jacobian], ids=["grad", "jacobian"])
def test_a_gradient_keeps_the_parameters_of_its_closure(transform):
    w = p.detach().clone().requires_grad_()
    transform(lambda t: (w * t * t).sum())(x).sum().backward()
    assert w.grad.tolist() == [2, 4]


def test_what_depends_on_nothing_outside_has_no_history():
    values = [
        cr.grad(cube)(x), *cr.jvp(cube, (x,), (v,)), cr.hessian(cube)(x), cr.jacobian(lambda t: t * t)(x),
        cr.vjp(cube, x)[0], cr.vjp(cube, x)[1](cr.tensor(1.0))[0], cr.grad(cr.grad(lambda t: t**3))(cr.tensor(2.0)),
        cr.grad(lambda t: cr.jvp(cube, [t], [v])[1])(x),
    ]  # fmt: skip
    assert not any(value.requires_grad for value in values)


def test_each_result_keeps_its_own_history_only():
    plain, held = cr.vjp(lambda t: (t * t, t * p), x)[0]
    assert (plain.requires_grad, held.requires_grad) == (False, True)


def test_nothing_is_recorded_under_no_grad():
    with cr.no_grad():
        assert not cr.jvp(lambda t: (p * t * t).sum(), [x], [v])[1].requires_grad
        assert cr.grad(lambda t: (p * t * t).sum())(x).tolist() == [1, 16]


def test_a_variable_that_the_function_writes_to():
    def doubled(t):
        t.mul_(2)
        return (t * t).sum()

    assert cr.grad(lambda t: cr.grad(doubled)(t * 1).sum())(x).tolist() == [8, 8]


def test_a_transform_inside_a_compiled_function():
    @cr.compile
    def step(t, direction):
        loss = (cr.jvp(lambda z: (w * z * z).sum(), [t], [direction])[1]) ** 2
        w.grad = None
        loss.backward()
        return loss

    w = p.detach().clone().requires_grad_()
    for _ in range(2):
        step(x, v)
        assert w.grad.tolist() == [2 * 83 * 6, 2 * 83 * 20]


def slope_and_value(library, u, points):
    """u(t) and u'(t): by a jvp here, by PyTorch's double backward there."""
    if library is cr:
        return cr.jvp(u, (points,), (cr.ones_like(points),))
    points.requires_grad_()
    value = u(points)
    return value, torch.autograd.grad(value.sum(), points, create_graph=True)[0]


def physics_loss(library, weight, points):
    """u' + u - sin for u(t) = w0 tanh(w1 t) + w2."""
    value, slope = slope_and_value(library, lambda t: weight[0] * (weight[1] * t).tanh() + weight[2], points)
    return ((slope + value - points.detach().sin()) ** 2).mean()


def test_a_physics_informed_loss_trains_as_in_pytorch():
    results = []
    for library in (cr, torch):
        weight = library.tensor([0.5, -0.4, 0.1], dtype=library.float64, requires_grad=True)
        points = library.linspace(0, 2, 5, dtype=library.float64)
        optimizer = library.optim.Adam([weight], lr=0.05)
        for _ in range(60):
            optimizer.zero_grad()
            physics_loss(library, weight, points).backward()
            optimizer.step()
        results.append(weight.detach().numpy())
    np.testing.assert_allclose(*results, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_compositions_three_deep_against_jax(seed):
    pytest.importorskip("jax")
    from tests.autodiff import compositions

    assert compositions.worst(seed, compositions.Theirs()) < 1e-11


# -- arguments and results -------------------------------------------------------------------------


def product(a, b, c=1.0):
    return (a * b * c).sum()


@pytest.mark.parametrize(
    ("argnums", "right"),
    [(-1, [1.0, 2.0]), (np.int64(1), [1.0, 2.0]), (0, [3.0, 5.0]), ((1, -2), ([1.0, 2.0], [3.0, 5.0])), ((0,), ([3.0, 5.0],))],
)  # fmt: skip
def test_argnums_as_jax_has_them(argnums, right):
    found = cr.grad(product, argnums)(x, v)
    plain = tuple(g.tolist() for g in found) if isinstance(found, tuple) else found.tolist()
    assert plain == right
    jacobian = cr.jacobian(product, argnums)(x, v)
    assert str(jacobian) == str(found)
    assert str(cr.hessian(product, argnums)(x, v)).count("tensor") == (
        len(right) ** 2 if isinstance(right, tuple) else 1
    )


def test_hessian_of_two_arguments_has_all_four_blocks():
    blocks = cr.hessian(lambda a, b: (a * b * b).sum(), argnums=(0, 1))(x, v)
    flat = [[block.tolist() for block in row] for row in blocks]
    assert flat == [[[[0, 0], [0, 0]], [[6, 0], [0, 10]]], [[[6, 0], [0, 10]], [[2, 0], [0, 4]]]]


def test_keyword_arguments_are_handed_on():
    assert cr.grad(product)(x, v, c=2.0).tolist() == [6, 10]
    assert cr.jacobian(product)(x, b=v, c=2.0).tolist() == [6, 10]


@pytest.mark.parametrize("value", [2.0, np.float32(2), np.array(2.0, "f4"), cr.tensor(2.0)])
def test_numbers_and_arrays_are_points(value):
    assert cr.grad(lambda t: t * t * t)(value).item() == 12
    assert cr.hessian(lambda t: t * t * t)(value).item() == 12
    assert [y.item() for y in cr.jvp(lambda t: t * t, (value,), (value,))] == [4, 8]


def test_a_float64_point_gives_a_float64_gradient():
    assert cr.grad(lambda t: (t * t).sum())(np.ones(2)).dtype is cr.float64


Layer = namedtuple("Layer", "weight bias")


def test_trees_as_arguments_and_results():
    layers = OrderedDict(first=Layer(v, cr.tensor(1.0)), rest=[cr.tensor([1.0, 1.0]), None])

    def model(layers, t):
        hidden = t * layers["first"].weight + layers["first"].bias
        return {"sum": (hidden * layers["rest"][0]).sum(), "all": (hidden,)}

    found = cr.grad(lambda tree, t: model(tree, t)["sum"])(layers, x)
    assert isinstance(found, OrderedDict)
    assert found["first"].weight.tolist() == [1, 2]
    assert found["first"].bias.item() == 2
    assert [found["rest"][0].tolist(), found["rest"][1]] == [[4, 11], None]
    value, moved = cr.jvp(lambda t: model(layers, t), (x,), (cr.ones(2),))
    assert (value["sum"].item(), moved["sum"].item(), moved["all"][0].tolist()) == (15, 8, [3, 5])
    _, pullback = cr.vjp(model, layers, x)
    tree, dx = pullback({"all": (cr.zeros(2),), "sum": cr.tensor(1.0)})  # keys in another order
    assert (tree["first"].weight.tolist(), dx.tolist()) == ([1, 2], [3, 5])
    rows = cr.jacobian(model, argnums=1)(layers, x)
    assert (rows["sum"].tolist(), rows["all"][0].tolist()) == ([3, 5], [[3, 0], [0, 5]])


def test_aux_is_handed_through_without_the_history_of_the_variables():
    f = lambda t: ((t * t).sum(), {"twice": t * 2, "name": "f"})  # noqa: E731 - a formula
    gradient, aux = cr.grad(f, has_aux=True)(x)
    assert (gradient.tolist(), aux["twice"].tolist(), aux["name"]) == ([2, 4], [2, 4], "f")
    assert not aux["twice"].requires_grad
    (value, aux), gradient = cr.value_and_grad(f, has_aux=True)(x)
    assert (value.item(), aux["twice"].tolist()) == (5, [2, 4])
    assert [part.item() for part in cr.jvp(f, (x,), (v,), has_aux=True)[:2]] == [5, 26]
    assert cr.vjp(f, x, has_aux=True)[2]["name"] == "f"
    assert cr.jacobian(f, has_aux=True)(x)[0].tolist() == [2, 4]
    assert cr.hessian(f, has_aux=True)(x)[0].tolist() == [[2, 0], [0, 2]]


def test_results_that_do_not_depend_on_the_argument():
    assert cr.grad(lambda t: 3.0)(x).tolist() == [0, 0]
    assert cr.jvp(lambda t: v, (x,), (v,))[1].tolist() == [0, 0]
    value, moved = cr.jvp(lambda t: (t.argmax(), t * 2), (x,), (v,))
    assert (value[0].item(), moved[0].item(), moved[1].tolist()) == (1, 0, [6, 10])


def test_jacobians_of_nothing():
    assert cr.jacobian(lambda t: t[:0])(x).shape == (0, 2)
    assert cr.jacobian(lambda t: t.sum())(cr.zeros(0)).shape == (0,)
    assert cr.hessian(lambda t: t.sum())(cr.zeros(0, 3)).shape == (0, 3, 0, 3)


def test_a_pullback_takes_the_outputs_gradients_one_by_one_or_as_one_tree():
    _, pullback = cr.vjp(lambda t: (t, t * t), x)
    assert pullback(v, v)[0].tolist() == pullback((v, v))[0].tolist() == [9, 25]
    _, single = cr.vjp(lambda t: (t * t,), x)
    assert single(v)[0].tolist() == single((v,))[0].tolist() == [6, 20]


# -- refused ---------------------------------------------------------------------------------------


def test_errors_name_the_argument():
    with raises(GradientError, "got int64 in argument 1. Name the others out"):
        cr.grad(product, argnums=(0, 1))(x, cr.tensor([1, 2]))
    with raises(GradientError, "argument 0 must hold tensors, arrays or numbers to differentiate by, got str"):
        cr.grad(product)("text", v)
    with raises(GradientError, "argnums must name positional arguments, of which there are 1, got 1"):
        cr.grad(product, argnums=1)(x, b=v)
    with raises(GradientError, "argnums must be an integer or a tuple of integers, got 'b'"):
        cr.grad(product, argnums="b")(x, v)
    with raises(GradientError, "argnums must name each argument once, got (0, -2). Remove the repetition."):
        cr.jacobian(product, argnums=(0, -2))(x, v)


def test_errors_of_results():
    with raises(GradientError, "must return a floating-point tensor, got int64, which does not vary smoothly"):
        cr.grad(lambda x: (x > 0).long().sum())(cr.ones(2))
    with raises(GradientError, "must return a tensor with one element, got (2,)"):
        cr.grad(lambda t: t)(x)
    with raises(GradientError, "must return a tensor with one element, got (*, *)"):
        cr.grad(lambda t: (t.sum(), t))(x)
    with raises(GradientError, "the function must return tensors (alone, or in lists, tuples and dicts), got str"):
        cr.vjp(lambda t: "text", x)
    with raises(GradientError, "with has_aux the function must return a pair (output, aux), got Tensor"):
        cr.grad(lambda t: t.sum(), has_aux=True)(x)
    with raises(GradientError, "only floating-point results have derivatives, got int64"):
        cr.jacobian(lambda t: t.argmax())(x)


def test_errors_of_tangents_and_cotangents():
    with raises(GradientError, "must be tuples or lists with an entry for each argument, got Tensor"):
        cr.jvp(cube, x, v)
    with raises(GradientError, "built as the inputs are, (*,), got (*, *)"):
        cr.jvp(cube, (x,), (v, v))
    with raises(ShapeError, "each tangent must have the shape of its tensor, (2,), got (3,)"):
        cr.jvp(cube, (x,), (cr.zeros(3),))
    _, pullback = cr.vjp(lambda t: (t, t), x)
    with raises(GradientError, "built as the outputs are, (*, *), got *. Pass zeros"):
        pullback(v)
    with raises(ShapeError, "each gradient must have the shape of its tensor, (2,), got ()"):
        pullback(v, cr.tensor(1.0))
