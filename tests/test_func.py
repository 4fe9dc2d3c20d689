"""``cr.func`` against ``torch.func``: over rows, over parameters, over models."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import SettingError, ShapeError
from tests.optional import torch

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit.script. is deprecated"
)  # PyTorch's own, of its forward derivatives
RNG = np.random.default_rng(0)
X, W, V = RNG.normal(size=(5, 3)), RNG.normal(size=(3,)), RNG.normal(size=(4, 3))
WAYS = pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["at once", "compiled"])


def energy(w, x):
    return ((w * x).sum()).tanh() + (w * w).sum()


CASES = {
    "dot": lambda lib: (lib.vmap(lib.dot), (X, X + 1)),
    "one axis for all": lambda lib: (lib.vmap(lambda x: x * x.sum(), in_dims=1), (X,)),
    "one argument for all": lambda lib: (lib.vmap(energy, in_dims=(None, 0)), (W, X)),
    "another place": lambda lib: (lib.vmap(lambda x: x.exp(), in_dims=-1, out_dims=1), (X,)),
    "several results": lambda lib: (lib.vmap(lambda x: (x.sum(), x * 2), out_dims=(0, 1)), (X,)),
    "nested": lambda lib: (lib.vmap(lib.vmap(lib.dot, in_dims=(None, 0)), in_dims=(0, None)), (X, V)),
    "gradients of rows": lambda lib: (lib.vmap(lib.func.grad(energy), in_dims=(None, 0)), (W, X)),
    "gradient of rows": lambda lib: (lib.func.grad(lambda w, x: lib.vmap(energy, (None, 0))(w, x).sum()), (W, X)),
    "jacobians": lambda lib: (lib.vmap(lib.func.jacrev(lambda x: x * x.sum())), (X,)),
    "forwards": lambda lib: (lib.func.jacfwd(lambda x: x.exp() * x.sum()), (W,)),
    "hessian": lambda lib: (lib.func.hessian(lambda x: (x**3).sum() * x[0]), (W,)),
    "hessians": lambda lib: (lib.vmap(lib.func.hessian(lambda x: (x**3).sum())), (X,)),
    "both": lambda lib: (lib.func.grad_and_value(energy, argnums=(0, 1)), (W, X[0])),
    "aux": lambda lib: (lib.func.grad_and_value(lambda w, x: (energy(w, x), w + x), has_aux=True), (W, X[0])),
    "of a dict": lambda lib: (lib.vmap(lambda p: p["a"] * p["b"][0]), ({"a": X, "b": [X[:, 0]]},)),
    "keywords": lambda lib: (lambda x: lib.vmap(lambda x, y: x * y)(x, y=x), (X,)),
    "pushed": lambda lib: (lambda x, v: lib.func.jvp(lambda x: x.sin(), (x,), (v,)), (X, X + 1)),
    "pulled": lambda lib: (lambda x, v: lib.func.vjp(lambda x: x.sin(), x)[1](v), (X, X + 1)),
}  # fmt: skip


def flat(found):
    if isinstance(found, dict):
        return [x for key in sorted(found) for x in flat(found[key])]
    return [x for part in found for x in flat(part)] if isinstance(found, (tuple, list)) else [found.detach().numpy()]


def tensors(lib, value):
    if isinstance(value, dict):
        return {name: tensors(lib, part) for name, part in value.items()}
    return [tensors(lib, part) for part in value] if isinstance(value, list) else lib.tensor(value)


@WAYS
@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_values_are_pytorchs(make, wrap):
    function, args = make(cr)
    found = flat(wrap(function)(*[tensors(cr, value) for value in args]))
    function, args = make(torch)
    expected = flat(function(*[tensors(torch, value) for value in args]))
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_a_row_has_the_bits_of_a_call_for_itself():
    x = cr.tensor(X)
    many = cr.vmap(energy, in_dims=(None, 0))(cr.tensor(W), x)
    assert many.tolist() == [energy(cr.tensor(W), row).item() for row in x]


def test_each_row_draws_its_own_numbers():
    cr.manual_seed(0)
    drawn = cr.vmap(lambda x: x + cr.rand(()), randomness="different")(cr.zeros(6))
    assert len(set(drawn.tolist())) == 6


# -- modules ---------------------------------------------------------------------------------------


def network(lib):
    return lib.nn.Sequential(lib.nn.Linear(3, 4), lib.nn.BatchNorm1d(4), lib.nn.Tanh(), lib.nn.Linear(4, 2)).double()


def twins():
    theirs = network(torch)
    ours = network(cr)
    ours.load_state_dict({name: cr.tensor(value.numpy()) for name, value in theirs.state_dict().items()})
    return ours, theirs


@WAYS
def test_a_gradient_for_each_sample_is_pytorchs(wrap):
    """The tutorial on gradients of samples."""
    torch.manual_seed(0)
    ours, theirs = twins()

    def gradients(lib, model, wrap):
        model.eval()
        params = {name: value.detach() for name, value in model.named_parameters()}
        buffers = {name: value.detach() for name, value in model.named_buffers()}

        def loss(params, buffers, sample, target):
            output = lib.func.functional_call(model, (params, buffers), (sample.unsqueeze(0),))
            return lib.nn.functional.cross_entropy(output, target.unsqueeze(0))

        found = lib.vmap(lib.func.grad(loss), in_dims=(None, None, 0, 0))
        return wrap(found)(params, buffers, lib.tensor(X), lib.tensor([0, 1, 1, 0, 1]))

    found, expected = gradients(cr, ours, wrap), gradients(torch, theirs, lambda f: f)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), rtol=1e-8, atol=1e-12)


def test_models_run_together_as_pytorchs():
    torch.manual_seed(0)
    pairs = [twins() for _ in range(3)]

    def run(lib, models):
        models = [model.eval() for model in models]
        params, buffers = lib.func.stack_module_state(models)
        assert all(p.is_leaf and p.requires_grad for p in params.values())
        call = lambda p, b, x: lib.func.functional_call(models[0], (p, b), (x,))  # noqa: E731
        return lib.vmap(call, in_dims=(0, 0, None))(params, buffers, lib.tensor(X))

    found, expected = (run(lib, [pair[i] for pair in pairs]) for i, lib in enumerate((cr, torch)))
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-9)


def test_a_call_leaves_the_module_as_it_was():
    model = network(cr)
    before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    held = before["1.running_mean"].tolist()
    others = {name: value.detach() + 1 for name, value in before.items()}
    cr.func.functional_call(model, others, cr.tensor(X))
    assert all(value is before[name] for name, value in [*model.named_parameters(), *model.named_buffers()])
    assert (
        before["1.running_mean"].tolist() == held != others["1.running_mean"].tolist()
    )  # the one given was written to
    with pytest.raises(ShapeError):
        cr.func.functional_call(model, {"3.bias": cr.zeros(5)}, cr.tensor(X))
    assert "bias" not in vars(model[3])


@pytest.mark.parametrize("tie", [True, False])
def test_tied_weights_are_replaced_together(tie):
    def run(lib):
        class Tied(lib.nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = lib.nn.Linear(2, 2, bias=False), lib.nn.Linear(2, 2, bias=False)
                self.b.weight = self.a.weight

            def forward(self, x):
                return self.b(self.a(x))

        model = Tied()
        with lib.no_grad():
            model.a.weight.copy_(lib.tensor([[1.0, 2.0], [3.0, 4.0]]))
        return lib.func.functional_call(model, {"a.weight": lib.eye(2) * 2}, lib.ones(1, 2), tie_weights=tie).tolist()

    assert run(cr) == run(torch)


def test_a_compiled_call_is_traced_once():
    model, calls = network(cr).eval(), []

    @cr.compile
    def step(params, x):
        calls.append(1)
        return cr.func.functional_call(model, params, x).sum()

    values = [step({"3.bias": cr.tensor([float(i), 0.0], dtype=cr.float64)}, cr.tensor(X)).item() for i in range(4)]
    assert np.diff(values) == pytest.approx([5.0] * 3)
    assert len(calls) == 1


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return re.sub(r" \(test_func.py.*?\)", "", str(error.value))


def test_refusals():
    x, model = cr.tensor(X), cr.nn.Linear(3, 1)
    for function, text in (
        (lambda: cr.vmap(cr.dot, in_dims=(0,))(x, x), "vmap: in_dims must be an axis, or one for each of the 2 arguments, got (0,)."),
        (lambda: cr.vmap(lambda x: x, in_dims=None)(x),
         "vmap: no argument has rows: in_dims is None for all of them. Give an axis for one at least."),
        (lambda: cr.vmap(cr.dot, randomness="same"),
         "vmap: randomness must be 'different' (each row draws its own numbers), got 'same'."),
        (lambda: cr.vmap(lambda x: (x, x), out_dims=(0,))(x), "vmap: out_dims must be an axis, or one for each of the 2 results, got (0,)."),
        (lambda: cr.func.functional_call(model, {"wait": x}, x),
         "functional_call: Linear has no parameter or buffer 'wait'. It has weight, bias."),
        (lambda: cr.func.functional_call(model, [{"bias": x}, {"bias": x}], x),
         "functional_call: a name stands in two of the dicts. Give each tensor once."),
        (lambda: cr.func.functional_call(model, {"bias": x}, x, strict=True),
         "functional_call: strict=True, and there is no tensor for 'weight'."),
        (lambda: cr.func.stack_module_state([]), "stack_module_state: needs modules of one class, got none."),
    ):  # fmt: skip
        assert text_of(SettingError, function) == text
    assert text_of(ShapeError, lambda: cr.vmap(cr.dot)(x, x[:2])) == (
        "vmap: all tensors that have rows must have as many, got shapes (5, 3), (2, 3) with the rows in front. Set in_dims to None "
        "for those that are the same for all rows."
    )
    with pytest.raises(AttributeError, match=r"torch.func.linearize of PyTorch is not in chainrule yet"):
        cr.func.linearize  # noqa: B018
