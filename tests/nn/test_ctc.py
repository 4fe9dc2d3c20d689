"""F.ctc_loss and nn.CTCLoss against PyTorch's, and against all placements of the labels."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import SettingError, ShapeError
from tests.optional import torch

RNG = np.random.default_rng(0)
T, N, C, S = 9, 5, 6, 4
LOGITS, TARGETS = RNG.normal(size=(T, N, C)), RNG.integers(1, C, (N, S))
TARGETS[1] = 2  # one label, repeated: a blank must stand between
INPUTS, COUNTS = [9, 9, 7, 3, 5], [4, 4, 2, 0, 4]
CASES = {
    "mean": {},
    "none": {"reduction": "none"},
    "sum": {"reduction": "sum"},
    "another blank": {"blank": 5, "reduction": "none"},
    "too few steps": {"reduction": "none", "zero_infinity": True},
}


def run(lib, kind, options, wrap=lambda f: f):
    """The losses, and the gradient by the logits."""
    targets = TARGETS % 5 if "blank" in options else TARGETS.copy()
    inputs = [9, 4, 7, 3, 3] if "zero_infinity" in options else INPUTS
    if kind == "behind":
        targets = np.concatenate([row[:n] for row, n in zip(targets, COUNTS, strict=True)])
    else:
        for row, n in zip(targets, COUNTS, strict=True):
            row[n:] = -3  # padding is not read
    if "blank" in options and kind == "rows":
        targets[targets < 0] = 0  # PyTorch's reads some of it
    counts = lib.tensor(COUNTS)
    x = lib.tensor(LOGITS, requires_grad=True)

    def losses(x):
        found = lib.nn.CTCLoss(**options)(x.log_softmax(-1), lib.tensor(targets), lib.tensor(inputs), counts)
        (found * lib.arange(1, 6).double() if found.ndim else found).sum().backward()
        return found

    found = wrap(losses)(x)
    return found.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("kind", ["rows", "behind"])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_losses_and_gradients_are_pytorchs(options, kind):
    for a, b in zip(run(cr, kind, options), run(torch, kind, options), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_compiled_function_computes_the_same(options):
    for a, b in zip(run(cr, "rows", options, cr.compile), run(cr, "rows", options), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_it_is_the_sum_over_all_placements():
    logits = RNG.normal(size=(4, 3))
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for labels in ([], [1], [1, 2], [2, 2], [1, 2, 1]):
        whole = 0.0
        for way in itertools.product(range(3), repeat=4):
            if [k for k, _ in itertools.groupby(way) if k] == labels:
                whole += np.prod([chances[t, k] for t, k in enumerate(way)])
        loss = F.ctc_loss(
            cr.tensor(logits).log_softmax(-1), cr.tensor(labels, dtype=cr.int64), [4], [len(labels)], reduction="sum"
        )
        assert loss.item() == pytest.approx(-np.log(whole), rel=1e-12)


def test_the_gradient_is_the_one_by_log_probs():
    x = cr.tensor(LOGITS, dtype=cr.float64).log_softmax(-1)
    cr.check_gradients(lambda x: F.ctc_loss(x, cr.tensor(TARGETS), INPUTS, COUNTS), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_too_few_steps_are_infinitely_unlikely_and_have_no_gradient(dtype):
    x = cr.tensor(LOGITS[:3, :1], dtype=dtype, requires_grad=True)
    loss = F.ctc_loss(x.log_softmax(-1), cr.tensor([[2, 2, 3]]), [3], [3])
    loss.backward()
    assert (loss.item(), loss.dtype) == (np.inf, getattr(cr, dtype))
    assert not x.grad.any()


def test_a_class_without_any_chance():
    x = cr.tensor(LOGITS).log_softmax(-1)
    x[2, :, 0] = float("-inf")
    found = F.ctc_loss(x.requires_grad_(), cr.tensor(TARGETS), INPUTS, COUNTS, reduction="none")
    y = torch.tensor(x.detach().numpy())
    expected = torch.nn.functional.ctc_loss(
        y, torch.tensor(TARGETS), torch.tensor(INPUTS), torch.tensor(COUNTS), reduction="none"
    )
    np.testing.assert_allclose(found.detach().numpy(), expected.numpy(), rtol=1e-12)
    found[0].backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_one_sequence_alone():
    options = {"reduction": "none"}
    found, expected = (
        lib.nn.functional.ctc_loss(
            lib.tensor(LOGITS[:, 0]).log_softmax(-1),
            lib.tensor(TARGETS[0]),
            lib.tensor([T]),
            lib.tensor([S]),
            **options,
        )
        for lib in (cr, torch)
    )
    assert found.shape == tuple(expected.shape) == ()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return re.sub(r" \(test_ctc.py.*?\)", "", str(error.value))


def test_refusals():
    x, labels = cr.tensor(LOGITS).log_softmax(-1), cr.tensor(TARGETS)
    assert text_of(SettingError, lambda: F.ctc_loss(x, labels, INPUTS, COUNTS, blank=6)) == (
        "ctc_loss: blank must be a class, 0 to 5, got 6."
    )
    assert text_of(SettingError, lambda: F.ctc_loss(x, labels, [10, 9, 9, 9, 9], COUNTS)) == (
        "ctc_loss: input_lengths must be from 0 to 9, got [10, 9, 9, 9, 9]."
    )
    assert text_of(SettingError, lambda: F.ctc_loss(x, labels, INPUTS, [5, 4, 4, 4, 4])) == (
        "ctc_loss: target_lengths must be from 0 to 4, got [5, 4, 4, 4, 4]."
    )
    assert text_of(ShapeError, lambda: F.ctc_loss(x, labels, INPUTS[1:], COUNTS)) == (
        "ctc_loss: input_lengths must have one for each of 5 sequences, got (4,). Give as many."
    )
    assert text_of(ShapeError, lambda: F.ctc_loss(x, labels[0], INPUTS, COUNTS)) == (
        "ctc_loss: targets must be (N, S) with N = 5, or all labels one behind the other, as many as target_lengths say, got shape "
        "(4,). Give one of them."
    )
    compiled = cr.compile(lambda lengths: nn.CTCLoss(reduction="none")(x, labels, lengths, cr.tensor(COUNTS)))
    assert np.isnan(compiled(cr.tensor([10, 9, 9, 9, 9])).numpy()).tolist() == [True, False, False, False, False]
