"""cross_entropy and nll_loss against PyTorch in every option, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DataError, DtypeError, IndexRangeError, SettingError, ShapeError

from .peers import assert_same, torch

TF = torch.nn.functional
RNG = np.random.default_rng(0)
REDUCTIONS = ["mean", "sum", "none"]
LAYOUTS = [(5,), (6, 5), (4, 5, 3), (2, 5, 3, 2)]
WEIGHT = np.array([1.0, 0.5, 2.0, 0.1, 3.0])


def labels_for(shape, ignore=None):
    size = shape[:1] + shape[2:] if len(shape) > 1 else ()
    labels = np.asarray(RNG.integers(0, 5, size=size))
    if ignore is not None and labels.ndim:
        labels.reshape(-1)[::3] = ignore
    return labels


@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, -100, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_of_class_numbers(shape, reduction, weighted, ignore, smoothing):
    def run(fn, tensor):
        options = {"reduction": reduction, "label_smoothing": smoothing}
        if weighted:
            options["weight"] = tensor(WEIGHT)
        if ignore is not None:
            options["ignore_index"] = ignore
        return lambda x, y: fn(x, y, **options)

    ours, theirs = run(F.cross_entropy, cr.tensor), run(TF.cross_entropy, torch.tensor)
    assert_same(ours, theirs, RNG.normal(size=shape) * 3, labels_for(shape, ignore))


@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities(shape, reduction, weighted, smoothing):
    def run(fn, tensor):
        weight = tensor(WEIGHT) if weighted else None
        return lambda x, y: fn(x, y, weight=weight, reduction=reduction, label_smoothing=smoothing)

    target = RNG.uniform(size=shape)
    target /= target.sum(0 if len(shape) == 1 else 1, keepdims=True)
    ours, theirs = run(F.cross_entropy, cr.tensor), run(TF.cross_entropy, torch.tensor)
    assert_same(ours, theirs, RNG.normal(size=shape) * 3, target)


@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, 2])
def test_nll_loss(shape, reduction, weighted, ignore):
    def run(fn, tensor):
        options = {"weight": tensor(WEIGHT) if weighted else None, "reduction": reduction}
        if ignore is not None:
            options["ignore_index"] = ignore
        return lambda x, y: fn(x, y, **options)

    assert_same(run(F.nll_loss, cr.tensor), run(TF.nll_loss, torch.tensor), -RNG.uniform(size=shape), labels_for(shape))


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_logits_of_any_size(scale):
    x = np.eye(5)[:4] * scale
    assert_same(F.cross_entropy, TF.cross_entropy, x, np.array([0, 2, 4, 3]))


def test_all_ignored_is_nan_like_pytorch():
    assert_same(F.cross_entropy, TF.cross_entropy, np.zeros((2, 5)), np.array([-100, -100]))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
def test_other_integers_are_class_numbers_too(dtype):
    x = cr.tensor(RNG.normal(size=(3, 5)))
    y = np.array([0, 1, 4])
    assert F.cross_entropy(x, cr.tensor(y.astype(dtype))).item() == F.cross_entropy(x, cr.tensor(y)).item()


def test_modules_print_like_pytorch_and_keep_the_weight():
    ours = nn.CrossEntropyLoss(cr.tensor(WEIGHT), ignore_index=1, reduction="sum", label_smoothing=0.1)
    theirs = torch.nn.CrossEntropyLoss(torch.tensor(WEIGHT), ignore_index=1, reduction="sum", label_smoothing=0.1)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x, y = RNG.normal(size=(6, 5)), labels_for((6, 5))
    assert_same(ours, theirs, x, y)
    assert_same(nn.NLLLoss(cr.tensor(WEIGHT)), torch.nn.NLLLoss(torch.tensor(WEIGHT)), -abs(x), y)


def full_text(kind, *arguments, name="cross_entropy", **options):
    def call():
        getattr(F, name)(*arguments, **options)

    with pytest.raises(kind) as error:
        call()
    where = f"{name} (test_classification.py:{call.__code__.co_firstlineno + 1} in call): "
    text = str(error.value)
    return text.removeprefix(where)


def test_labels_out_of_range():
    x = cr.zeros(3, 5)
    assert full_text(DataError, x, cr.tensor([0, 5, 7])) == (
        "label 5 at position 1 is not in [0, 4]: there are 5 classes. "
        "Number the classes from 0, or widen the last layer."
    )
    assert full_text(DataError, x, cr.tensor([0, 1, -1]), name="nll_loss") == (
        "label -1 at position 2 is not in [0, 4]: there are 5 classes. "
        "Number the classes from 0, or widen the last layer."
    )
    assert full_text(DataError, cr.zeros(2, 5, 2), cr.tensor([[0, 1], [2, 9]])) == (
        "label 9 at position (1, 1) is not in [0, 4]: there are 5 classes. "
        "Number the classes from 0, or widen the last layer."
    )


@pytest.mark.parametrize("wrong", [-1, 5])
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_a_compiled_step_refuses_labels_out_of_range(loss, wrong):
    """-1 is no class, and not the last one as it would be of a list."""
    with pytest.raises(
        IndexRangeError, match=r"an index is out of range for an axis of size 5: it must be in \[0, 4\]"
    ):
        cr.compile(lambda x, y: loss(x, y))(cr.zeros(3, 5), cr.tensor([0, 1, wrong]))
    assert cr.compile(lambda x, y: loss(x, y))(cr.zeros(2, 5), cr.tensor([0, -100])).isfinite()


def test_an_ignored_label_beside_a_wrong_one():
    text = full_text(DataError, cr.zeros(3, 5), cr.tensor([-100, 9, 0]))
    assert text.startswith("label 9 at position 1 is not in [0, 4]")


def test_targets_of_the_wrong_kind():
    x = cr.zeros(3, 5)
    assert full_text(DtypeError, x, cr.zeros(3)) == (
        "the target must be class numbers (integers of shape (3,)) or class probabilities (floating, shape (3, 5)), "
        "got float32 of shape (3,). For class numbers convert the target with .long(); for a single regression "
        "output use mse_loss."
    )
    assert full_text(DtypeError, x, cr.tensor([True, False, True])) == (
        "class numbers must be integers, got bool. Convert with .long()."
    )
    assert full_text(DtypeError, x, cr.zeros(3), name="nll_loss") == (
        "class numbers must be integers, got float32. Convert with .long()."
    )


def test_targets_of_the_wrong_shape():
    x = cr.zeros(3, 5)
    start = "for an input of shape (3, 5) the target must have shape (3,), got shape "
    assert full_text(ShapeError, x, cr.tensor([0, 1])) == (f"{start}(2,). Check that both come from the same batch.")
    assert full_text(ShapeError, x, cr.tensor([[0], [1], [2]])) == (
        f"{start}(3, 1). Drop the axis of length 1: target.squeeze(1)."
    )
    assert full_text(ShapeError, x, cr.zeros(3, 5).long()) == (
        f"{start}(3, 5). For one-hot targets use target.argmax(1), or target.float() as probabilities."
    )


def test_inputs_and_weights_of_the_wrong_shape():
    assert full_text(ShapeError, cr.tensor(1.0), cr.tensor(0)) == (
        "the input must be floating of shape (N, C), (N, C, d1, ...) or (C,), got float32 of shape (). "
        "Give one number for each class."
    )
    assert full_text(ShapeError, cr.zeros(3, 5), cr.tensor([0, 1, 2]), weight=cr.ones(3)) == (
        "weight must have shape (5,), a factor for each class, got shape (3,). "
        "Give as many factors as the input has classes."
    )


def test_label_smoothing_out_of_range():
    with pytest.raises(SettingError) as error:
        F.cross_entropy(cr.zeros(3, 5), cr.tensor([0, 1, 2]), label_smoothing=1.5)
    assert str(error.value) == "cross_entropy: label_smoothing must be in [0, 1], got 1.5."
    with pytest.raises(SettingError) as error:
        nn.CrossEntropyLoss(label_smoothing=-0.5)
    assert str(error.value) == "CrossEntropyLoss: label_smoothing must be in [0, 1], got -0.5."


def test_gradient_in_a_compiled_step_is_the_eager_one():
    x = cr.tensor(RNG.normal(size=(6, 5)), requires_grad=True)
    y = cr.tensor(labels_for((6, 5), ignore=-100))

    def loss(x, y):
        return F.cross_entropy(x, y, label_smoothing=0.1, weight=cr.as_tensor(WEIGHT))

    eager, eager_gradient = cr.value_and_grad(loss)(x, y)
    compiled, compiled_gradient = cr.compile(cr.value_and_grad(loss))(x, y)
    np.testing.assert_allclose(compiled.item(), eager.item(), rtol=1e-12)
    np.testing.assert_allclose(
        compiled_gradient.detach().numpy(), eager_gradient.detach().numpy(), rtol=1e-10, atol=1e-14
    )
