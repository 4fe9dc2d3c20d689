"""What a compiled function asked of Python, and was told that it is not there, or how it is: another answer traces anew."""

import types

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import InPlaceError
from chainrule.training import Trainer


class Options:
    pass


def asked(o):
    def by_hasattr(x):
        return x * 2 if hasattr(o, "on") else x

    def by_getattr(x):
        return x * getattr(o, "on", 1.0)

    def by_error(x):
        try:
            return x * o.on
        except AttributeError:
            return x * 5

    return [by_hasattr, by_getattr, by_error]


@pytest.mark.parametrize("kind", [Options, types.SimpleNamespace])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_attribute_that_comes_and_goes(kind, which):
    o = kind()
    plain = asked(o)[which]
    compiled, x = cr.compile(plain), cr.tensor([1.0, 2.0])
    for change in (
        lambda: None,
        lambda: setattr(o, "on", 3.0),
        lambda: setattr(o, "on", 4.0),
        lambda: delattr(o, "on"),
    ):
        change()
        assert compiled(x).tolist() == plain(x).tolist()


def test_whether_a_tensor_from_outside_requires_grad():
    w, model = cr.ones(2), nn.Linear(2, 2)

    def of_one(x):
        return x * 2 if w.requires_grad else x

    def of_many(x):
        return x * sum(p.requires_grad for p in model.parameters())

    x = cr.tensor([1.0, 2.0])
    for plain in (of_one, of_many):
        compiled = cr.compile(plain)
        for asks in (True, False, True):
            w.requires_grad_(asks)
            model.bias.requires_grad_(asks)
            assert compiled(x).tolist() == plain(x).tolist()


def test_a_module_that_gets_a_forward_of_its_own():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    compiled = [cr.compile(model), cr.compile(lambda x: model[1](x)), cr.compile(lambda x: model(x))]
    x = cr.tensor([[1.0, -2.0]])
    for change in (
        lambda: None,
        lambda: setattr(model[1], "forward", lambda z: z * 100),
        lambda: setattr(model[1], "forward", lambda z: z * 7),
        lambda: delattr(model[1], "forward"),
    ):
        change()
        assert [f(x).tolist() for f in compiled] == [model(x).tolist(), model[1](x).tolist(), model(x).tolist()]


def test_a_trainer_sees_it_too():
    X = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    found = []
    for swapped in (False, True):
        cr.manual_seed(0)
        model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
        trainer = Trainer(model, F.cross_entropy, "sgd", lr=0.1)
        trainer.fit(X, y, 1, 8, progress=False)
        if swapped:
            model[1].forward = lambda z: z.tanh()
        trainer.fit(X, y, 1, 8, progress=False)
        found.append(trainer.predict(X))
    assert not np.array_equal(*found)


@pytest.mark.parametrize(
    "arguments",
    [lambda x: (x, x[1:]), lambda x: (x[1:], x), lambda x: (x[:2], x[1:]), lambda x: (x, x.reshape(3, 1))],
    ids=["base and view", "view and base", "two views", "reshaped"],
)
def test_arguments_that_share_what_is_changed_are_refused(arguments):
    def f(a, b):
        a.add_(1)
        return b * 1

    compiled = cr.compile(f)
    with pytest.raises(
        InPlaceError, match=r"changes an argument of shape \(\d,?.*\) in place, and another, of shape .*, is a view"
    ):
        compiled(*arguments(cr.zeros(3)))
    x = cr.zeros(3)
    assert compiled(x, x).tolist() == [1, 1, 1]
    assert compiled(cr.zeros(3), cr.ones(2)).tolist() == [1, 1]
