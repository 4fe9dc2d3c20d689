"""`cr.autograd`: gradients by name, functions with derivatives of one's own, hooks; values as PyTorch's."""

import gc
import re
import weakref

import pytest

import chainrule as cr
from chainrule.errors import GradientError
from tests.optional import torch

BOTH = pytest.mark.parametrize("library", [cr, torch], ids=["chainrule", "torch"])


def said(raised):
    """The text of an error, without the line of the test that it names."""
    return re.sub(r" \([^ ]*test_\w+\.py:\d+ in [^)]*\)", "", str(raised.value))


def leaves(library):
    x = library.tensor([1.0, 2.0], requires_grad=True)
    return x, library.tensor([0.5, 0.25], requires_grad=True)


# -- grad ------------------------------------------------------------------------------------------


def test_grad_is_pytorchs():
    def run(library):
        x, w = leaves(library)
        y = x * w
        z = (y.exp() * x).sum()
        first = library.autograd.grad(z, (x, y), create_graph=True)
        second = library.autograd.grad(first[0].sum(), [w, x])
        return [t.tolist() for t in (*first, *second)], x.grad

    for ours, theirs in zip(*(run(library)[0] for library in (cr, torch)), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    assert run(cr)[1] is None


def test_grad_of_several_outputs_with_their_gradients():
    def run(library):
        x, w = leaves(library)
        given = (library.tensor([1.0, 10.0]), library.tensor(3.0))
        return library.autograd.grad((x * w, (x * x).sum()), (x,), given)[0].tolist()

    assert run(cr) == run(torch)


@BOTH
def test_an_input_that_nothing_depends_on(library):
    x, w = leaves(library)
    with pytest.raises(RuntimeError):
        library.autograd.grad(x.sum(), w)
    assert library.autograd.grad(x.sum(), (w, x), allow_unused=True)[0] is None
    assert library.autograd.grad(x.sum(), (w, x), materialize_grads=True)[0].tolist() == [0, 0]


def test_the_history_is_freed_unless_it_is_retained():
    x, _ = leaves(cr)
    y = (x * x).sum()
    assert cr.autograd.grad(y, x, retain_graph=True)[0].tolist() == [2, 4]
    cr.autograd.grad(y, x)
    with pytest.raises(GradientError, match="freed by an earlier backward"):
        cr.autograd.grad(y, x)


def test_grad_inside_a_compiled_function():
    @cr.compile
    def force(x):
        x = x.detach().requires_grad_()
        energy = (x**4).sum()
        (slope,) = cr.autograd.grad(energy, x, create_graph=True)
        return cr.autograd.grad(slope.sum(), x)[0]

    for _ in range(2):
        assert force(cr.tensor([1.0, 2.0])).tolist() == [12, 48]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: cr.autograd.grad(cr.ones(()), x), "autograd.grad: an output does not require grad and has no history. Compute it from a tensor with requires_grad=True, outside no_grad."),
        (lambda x: cr.autograd.grad(x.sum(), cr.ones(2)), "autograd.grad: an input does not require grad. Call .requires_grad_() on it before the outputs are computed from it."),
        (lambda x: cr.autograd.grad(x.sum(), cr.ones(2, requires_grad=True)), "autograd.grad: no output depends on one of the inputs, of shape (2,). Pass allow_unused=True, and None stands for its gradient."),
        (lambda x: cr.autograd.grad(x.sum(), x, [None, None]), "autograd.grad: grad_outputs must have one for each of the 1 outputs, got 2."),
        (lambda x: cr.autograd.grad(x * 2, x), "autograd.grad: only a tensor with one element has an implied gradient of 1, got shape (2,). Reduce it first (.sum(), .mean()), or pass gradient=."),
    ],
)  # fmt: skip
def test_what_grad_refuses(call, text):
    with pytest.raises(GradientError) as raised:
        call(cr.ones(2, requires_grad=True))
    assert said(raised) == text


def test_backward_of_several_and_variables():
    x, w = (cr.autograd.Variable(cr.ones(2), requires_grad=True) for _ in range(2))
    y = x * w
    cr.autograd.backward([y.sum(), (y * 2).sum()])
    assert (x.grad.tolist(), w.grad.tolist()) == ([3, 3], [3, 3])
    assert cr.autograd.Variable(y) is y


# -- functions -------------------------------------------------------------------------------------


def scaled(library):
    class Scaled(library.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, k, flag=None):
            z = x * w
            ctx.k, ctx.z = k, z
            ctx.save_for_backward(x, w)
            return z.sum(), (z * k).tanh()

        @staticmethod
        def backward(ctx, a, b):
            x, w = ctx.saved_tensors
            slope = 1 - (ctx.z * ctx.k).tanh() ** 2
            return a * w + b * slope * ctx.k * w, a * x + b * slope * ctx.k * x, None

    return Scaled


def through(library, x, w, function):
    total, each = function.apply(x * 1, w, 2)
    return total * 3 + (each * each).sum()


def test_a_function_of_several_results_is_pytorchs_twice_differentiable():
    def run(library):
        x, w = leaves(library)
        first = library.autograd.grad(through(library, x, w, scaled(library)), (x, w), create_graph=True)
        return [t.tolist() for t in (*first, *library.autograd.grad(first[0].sum(), (w,)))]

    for ours, theirs in zip(run(cr), run(torch), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_a_function_in_compiled_steps_and_behind_them():
    function = scaled(cr)
    x, w = leaves(cr)
    through(cr, x, w, function).backward()
    step = cr.compile(lambda x, w: through(cr, x, w, function))
    a, b = leaves(cr)
    for _ in range(2):
        a.grad = b.grad = None
        step(a, b).backward()
        assert a.grad.tolist() == pytest.approx(x.grad.tolist(), rel=1e-6)
        assert b.grad.tolist() == pytest.approx(w.grad.tolist(), rel=1e-6)


@BOTH
def test_setup_context_and_outputs_without_gradients(library):
    class Top(library.autograd.Function):
        @staticmethod
        def forward(x):
            return x.max(0)

        @staticmethod
        def setup_context(ctx, inputs, output):
            (x,), (_, at) = inputs, output
            ctx.mark_non_differentiable(at)
            ctx.shape = x.shape
            ctx.save_for_backward(at)

        @staticmethod
        def backward(ctx, dY, _):
            (at,) = ctx.saved_tensors
            return library.zeros(ctx.shape).scatter(0, at.reshape(1), dY.reshape(1)) * 7

    class Pair(Top):
        @staticmethod
        def forward(x):
            return tuple(x.max(0))

    x = library.tensor([1.0, 5.0, 2.0], requires_grad=True)
    value, at = Pair.apply(x)
    assert (at.item(), at.requires_grad) == (1, False)
    value.backward()
    assert x.grad.tolist() == [0, 7, 0]


@BOTH
def test_what_a_function_needs_and_that_it_records_nothing_under_no_grad(library):
    seen = []

    class Same(library.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            seen.append(ctx.needs_input_grad)
            return x + y

        @staticmethod
        def backward(ctx, dY):
            return dY, None

    x = library.ones(2, requires_grad=True)
    Same.apply(x, library.ones(2)).sum().backward()
    assert seen == [(True, False)]
    assert x.grad.tolist() == [1, 1]
    with library.no_grad():
        assert not Same.apply(x, library.ones(2)).requires_grad


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (lambda dY: (dY, dY), "backward must return one gradient for each of the 1 arguments of forward, got 2. Return None for arguments without one."),
        (lambda dY: dY[:1], "backward must return a gradient of the shape of each argument, (2,), got shape (1,). Sum or reshape it, or return None."),
    ],
)  # fmt: skip
def test_gradients_that_do_not_fit(found, text):
    class Odd(cr.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, dY):
            return found(dY)

    with pytest.raises(GradientError) as raised:
        Odd.apply(cr.ones(2, requires_grad=True)).sum().backward()
    assert said(raised) == f"Odd: {text}"


def test_what_a_function_computed_goes_when_nobody_holds_it():
    function = scaled(cr)
    gc.collect()
    gc.disable()
    try:
        x, w = leaves(cr)
        y = through(cr, x, w, function)
        gone = weakref.ref(y._node)
        del y
        assert gone() is None
    finally:
        gc.enable()


# -- hooks of tensors --------------------------------------------------------------------------------


def hooked(library):
    seen = []
    x = library.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    before = y * 1  # a reader from before the hook
    y.register_hook(lambda grad: seen.append(grad.tolist()))
    y.register_hook(lambda grad: grad * 2)
    handle = x.register_hook(lambda grad: grad + 1)
    x.register_post_accumulate_grad_hook(lambda leaf: seen.append(leaf.grad.tolist()))
    (y * y + before).sum().backward()
    handle.remove()
    handle.remove()
    (x * 5).sum().backward()
    return seen, x.grad.tolist()


def test_hooks_are_called_as_pytorchs():
    assert hooked(cr) == hooked(torch)


def test_a_hook_of_a_leaf_goes_with_it_through_an_optimizers_steps():
    x = cr.ones(2, requires_grad=True)
    optimizer = cr.optim.SGD([x], lr=1.0)
    x.register_hook(lambda grad: grad * 0)
    for _ in range(2):
        x.sum().backward()
        optimizer.step()
    assert x.tolist() == [1, 1]


def test_a_compiled_step_is_traced_anew_when_a_leaf_has_other_hooks():
    weight = cr.nn.Parameter(cr.ones(2))

    @cr.compile
    def step(x):
        weight.grad = None
        (weight * x).sum().backward()
        return weight.grad * 1

    found = [step(cr.ones(2)).tolist()]
    with weight.register_hook(lambda grad: grad * 5):
        found.append(step(cr.ones(2)).tolist())
    found.append(step(cr.ones(2)).tolist())
    assert found == [[1, 1], [5, 5], [1, 1]]


def test_a_hook_of_a_result_inside_a_compiled_step_and_behind_one():
    def forward(x):
        y = x * 2
        y.register_hook(lambda grad: grad * 7)
        return (y * y).sum()

    @cr.compile
    def step(x):
        forward(x).backward()
        return x.grad

    assert step(cr.ones(2, requires_grad=True)).tolist() == [56, 56]
    x = cr.ones(2, requires_grad=True)
    cr.compile(forward)(x).backward()
    assert x.grad.tolist() == [56, 56]


def test_what_a_hook_may_return():
    x = cr.ones(2, requires_grad=True)
    x.register_hook(lambda grad: grad[:1])
    with pytest.raises(GradientError) as raised:
        x.sum().backward()
    assert said(raised) == (
        "register_hook: a hook must return None, or a gradient of the same type, f32[2], got f32[1]. Reshape or convert it."
    )
    with pytest.raises(GradientError) as raised:
        cr.ones(2).register_hook(print)
    assert said(raised) == (
        "register_hook: only a tensor that requires grad gets a gradient. Call .requires_grad_() on it before, or compute "
        "it from one that does."
    )
    with pytest.raises(GradientError) as raised:
        (x * 2).register_post_accumulate_grad_hook(print)
    assert said(raised) == "register_post_accumulate_grad_hook: only a leaf has a .grad of its own. Use register_hook."
