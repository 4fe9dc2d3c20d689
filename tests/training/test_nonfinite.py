"""A training that stops at NaN or infinity says which operation it was, why, and what to do about that cause."""

import functools
import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import NonFiniteError
from chainrule.graph import toposort
from chainrule.training.origin import origin

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


class Behind(nn.Module):
    """A Linear, and a function of its outputs."""

    def __init__(self, function, outputs=1):
        super().__init__()
        self.layer, self.function = nn.Linear(4, outputs), function

    def forward(self, x):
        return self.function(self.layer(x))


def stopped(model=None, loss=F.cross_entropy, targets=y, rows=X, lr=0.01, batch_size=16, **options):
    """What the training says when it stops, without its first and its last sentence."""
    cr.manual_seed(0)
    model = nn.Linear(4, 2) if model is None else model
    before = [p.detach().numpy().copy() for p in model.parameters()]
    trainer = cr.Trainer(model, loss, optim.SGD(model.parameters(), lr=lr), **options)
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(rows, targets, epochs=40, batch_size=batch_size, shuffle=False, progress=False)
    assert all(np.isfinite(p.detach().numpy()).all() for p in model.parameters())
    if " at step 1: " in str(caught.value) and "in epoch 1 " in str(caught.value):
        assert all((a == p.detach().numpy()).all() for a, p in zip(before, model.parameters(), strict=True))
    head = (
        r"training stopped in epoch \d+ at step \d+: (the loss became (nan|inf|-inf)|a weight stopped being finite)\. "
    )
    found = re.fullmatch(rf"{head}(.*) The model keeps the weights from before this step\.", str(caught.value))
    assert found is not None, str(caught.value)
    return re.sub(r" \(test_nonfinite\.py:\d+ in \S+\)", "", found.group(3))


FORWARD = "The first value that is not finite came in the forward pass: "


@pytest.mark.parametrize(
    "loss", [F.cross_entropy, functools.partial(F.cross_entropy, label_smoothing=0.1), nn.CrossEntropyLoss()]
)
def test_a_batch_whose_labels_are_all_ignored(loss):
    targets = y.copy()
    targets[32:48] = -100
    assert stopped(loss=loss, targets=targets) == (
        "Every label of this batch is -100, which the loss ignores (ignore_index), so that the mean of the loss is over "
        "nothing. Leave such rows out (keep = y != -100), or use larger batches."
    )


def test_a_batch_whose_classes_all_have_weight_0():
    targets = np.repeat([0, 1], 32)
    assert stopped(loss=nn.CrossEntropyLoss(cr.tensor([1.0, 0.0])), targets=targets) == (
        "The weight of the class of every label in this batch is 0, so that the mean of the loss is over nothing. Leave the "
        "rows of such classes out, or use larger batches."
    )


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda z: z.relu().log(), "It was the logarithm of 0."),
        (lambda z: (-z.abs() - 1).log(), r"It was the logarithm of a negative number, -\d\S*\."),
        (lambda z: (-z.abs() - 1).sqrt(), r"It was the square root of a negative number, -\d\S*\."),
        (lambda z: 1 / z.relu(), "It was the division of 1 by 0."),
        (lambda z: (z * 0).rsqrt(), "It was the inverse of the square root of 0."),
        (lambda z: (z * 1e4).exp(), r"It was the exponential of \d\S*\."),
        (lambda z: (-z.abs() - 1) ** 0.5, r"It was the (square root|power 0\.5) of a negative number, -\d\S*\."),
    ],
)
def test_arguments_that_have_no_finite_result(function, cause):
    said = stopped(Behind(function), F.mse_loss, X[:, :1])
    assert re.match(rf"{FORWARD}op '\w+' in layer 'Behind'\. {cause} ", said), said
    assert "learning rate" not in said
    assert said.endswith(("for example.", "logits).", "of any size."))


def test_a_derivative_that_is_infinite():
    said = stopped(Behind(lambda z: (z * 0).sqrt()), F.mse_loss, X[:, :1])
    assert re.fullmatch(
        r"The first value that is not finite came in the backward pass: op '\w+' in layer 'Behind', in the gradient of "
        r"'layer\.weight'\. A derivative is infinite there, as those of sqrt, norm, log and powers below 1 are at 0\. Keep "
        r"the argument away from 0: \(x \+ 1e-12\)\.sqrt\(\), for example\.",
        said,
    ), said


def test_a_learning_rate_that_is_too_high():
    said = stopped(loss=F.mse_loss, targets=np.eye(2)[y], lr=50.0)
    assert re.fullmatch(
        rf"{FORWARD}op '\w+'( in layer 'Linear')?\. The result is beyond float32\. The weights have grown to \S+\. Lower the "
        r"learning rate \(now 50\) or clip the gradients \(max_norm=1\.0\)\.",
        said,
    ), said


def test_inputs_that_are_too_large():
    said = stopped(loss=F.mse_loss, targets=np.eye(2)[y], rows=X * np.float32(1e25))
    assert re.fullmatch(
        rf"{FORWARD}op '\w+'\. The result is beyond float32\. The inputs of this batch reach \S+e\+25\. Scale them to mean 0 "
        r"and deviation 1\.",
        said,
    ), said


def test_targets_that_are_too_large():
    said = stopped(loss=F.mse_loss, targets=np.eye(2)[y] * 1e25)
    assert re.fullmatch(
        rf"{FORWARD}op '\w+'\. The result is beyond float32\. The targets of this batch reach 1e\+25\. Scale them to mean 0 "
        r"and deviation 1\.",
        said,
    ), said


def test_weights_that_were_too_large_from_the_start():
    model = nn.Linear(4, 2)
    with cr.no_grad():
        model.weight.fill_(3e38)
    said = stopped(model)
    assert re.fullmatch(
        rf"{FORWARD}op 'matmul' in layer 'Linear'\. The result is beyond float32\. The training began with weights of up to "
        r"3e\+38\. Draw them anew \(nn\.init\)\.",
        said,
    ), said


@pytest.mark.parametrize(("where", "whose"), [("weight", "'weight'"), ("scale", "'scale' of the loss")])
def test_a_weight_that_was_not_finite_before_the_step(where, whose):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(cr.ones(()))

        def forward(self, output, target):
            return F.cross_entropy(output * self.scale, target)

    model, loss = nn.Linear(4, 2), Scaled()
    model.register_buffer("mask", cr.tensor([0.0, -np.inf]))
    with cr.no_grad():
        (model if where == "weight" else loss)._parameters[where].fill_(np.nan)
    parameters = [*model.parameters(), *loss.parameters()]
    trainer = cr.Trainer(model, loss, optim.SGD(parameters, lr=0.1), output="logits")
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(X, y, epochs=1, progress=False)
    assert str(caught.value) == (
        f"training stopped in epoch 1 at step 1: the loss became nan. {whose} held NaN or infinity before the step began. "
        "Look at where it comes from (a file, a callback, an initialisation), or draw it anew (nn.init). "
        "The model keeps the weights from before this step."
    )


def test_an_update_that_is_too_large():
    said = stopped(loss=F.mse_loss, targets=np.eye(2)[y] * 1e10, lr=1e30)
    assert re.fullmatch(
        r"The first value that is not finite came in the optimizer: the update of 'weight' by SGD\. The new weight is beyond "
        r"float32\. Lower the learning rate \(now 1e\+30\) or clip the gradients \(max_norm=1\.0\)\.",
        said,
    ), said


def test_an_infinity_that_was_given_is_no_origin():
    x, mask = cr.tensor([1.0, 3.0], requires_grad=True), cr.tensor([0.0, -np.inf])
    made = (x + mask).exp()  # finite again: 0 where the mask is
    order = toposort([made.log()._node])
    found = origin(order, lambda node: node.value)
    assert (found.node.op.name, found.index, found.value, found.read) == ("log", (1,), -np.inf, [0.0])
    assert origin(toposort([made._node]), lambda node: node.value) is None
