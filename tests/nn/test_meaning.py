"""What outputs mean follows from the loss; probabilities and classes follow from that, exact in the tails."""

import functools
import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import ShapeError, UnknownNameError
from chainrule.nn import meaning
from chainrule.nn.meaning import (
    BINARY_LOGITS,
    BINARY_PROBABILITIES,
    LOG_PROBABILITIES,
    LOGITS,
    MEANINGS,
    PROBABILITIES,
    VALUES,
    meaning_of,
    option_of,
)
from tests.optional import torch


class Weighted(nn.CrossEntropyLoss):
    """A subclass without a word of its own."""


class Distance(nn.CrossEntropyLoss):
    reads = "values"


def plain(output, target):
    return (output - target).abs().mean()


def declared(output, target):
    return (output - target).abs().mean()


declared.reads = "binary_probabilities"
half = cr.tensor([0.5, 1.0])
TOLD = [
    (F.cross_entropy, LOGITS), (nn.CrossEntropyLoss(half, label_smoothing=0.1), LOGITS), (Weighted(), LOGITS),
    (functools.partial(F.cross_entropy, label_smoothing=0.1, weight=half), LOGITS), (cr.compile(F.cross_entropy), LOGITS),
    (functools.partial(functools.partial(nn.CrossEntropyLoss())), LOGITS), (cr.compile(nn.CrossEntropyLoss()), LOGITS),
    (F.nll_loss, LOG_PROBABILITIES), (nn.NLLLoss(), LOG_PROBABILITIES),
    (F.binary_cross_entropy, BINARY_PROBABILITIES), (nn.BCELoss(), BINARY_PROBABILITIES),
    (F.binary_cross_entropy_with_logits, BINARY_LOGITS), (nn.BCEWithLogitsLoss(pos_weight=half), BINARY_LOGITS),
    (F.mse_loss, VALUES), (nn.MSELoss(), VALUES), (F.l1_loss, VALUES), (nn.L1Loss(), VALUES), (F.huber_loss, VALUES),
    (nn.HuberLoss(), VALUES), (F.smooth_l1_loss, VALUES), (nn.SmoothL1Loss(), VALUES),
    (declared, BINARY_PROBABILITIES), (Distance(), VALUES), (plain, None), (lambda a, b: F.cross_entropy(a, b), None),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "means"), TOLD)
def test_the_loss_tells(loss, means):
    assert meaning_of(loss) is means


def test_every_loss_of_the_library_says_what_it_reads():
    functions = [f for name, f in vars(F).items() if name.endswith(("_loss", "entropy", "with_logits"))]
    modules = [m for name, m in vars(nn).items() if name.endswith("Loss")]
    assert len(functions) >= 8 and len(modules) >= 8
    assert all(meaning_of(loss) is not None for loss in [*functions, *modules])


def test_a_loss_may_have_a_layer_called_output():
    class Learned(nn.CrossEntropyLoss):
        def __init__(self):
            super().__init__()
            self.output = nn.Linear(2, 2)

    assert isinstance(Learned().output, nn.Linear)
    assert meaning_of(Learned()) is LOGITS


def test_a_meaning_that_does_not_exist():
    def loss(output, target):
        return plain(output, target)

    loss.reads = "logit"
    known = "binary_logits, binary_probabilities, log_probabilities, logits, probabilities, scores, values"
    text = f"unknown meaning of outputs in the loss's attribute reads 'logit'. Did you mean 'logits'? Known: {known}."
    with pytest.raises(UnknownNameError, match=f"^{re.escape(text)}$"):
        meaning_of(loss)


def only_by_name(output, target, *, ignore_index=7):
    return plain(output, target)


def test_options_of_a_loss():
    assert option_of(only_by_name, "ignore_index") == 7
    assert option_of(lambda output, target, weight=2: plain(output, target), "weight") == 2
    assert option_of(torch.nn.functional.cross_entropy, "ignore_index") == -100
    assert option_of(F.cross_entropy, "ignore_index") == -100
    assert option_of(functools.partial(F.cross_entropy, ignore_index=3), "ignore_index") == 3
    assert option_of(nn.CrossEntropyLoss(ignore_index=4), "ignore_index") == 4
    assert option_of(plain, "ignore_index") is None
    assert option_of(cr.compile(F.nll_loss), "ignore_index") == -100


# -- probabilities ---------------------------------------------------------------------------------------

EXTREME = [0.0, 1.0, -1.0, 30.0, -30.0, -69.0, 88.0, -88.0, -103.0, 700.0, -700.0, -745.0, 1e4, -1e4, 1e300, -1e300]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("error")
def test_a_sigmoid_keeps_its_digits_in_both_tails(dtype):
    x = np.array([v for v in EXTREME if dtype == "float64" or abs(v) < 1e38], dtype)
    p = BINARY_LOGITS.probabilities(x)
    assert p.dtype == x.dtype
    with np.errstate(all="ignore"):  # in long double, by the closed form on the side where it cannot cancel
        power = np.exp(-np.abs(x.astype(np.longdouble)))
        right = np.where(x >= 0, 1 / (1 + power), power / (1 + power))
    np.testing.assert_allclose(
        p, right.astype(dtype), rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).smallest_subnormal
    )
    assert BINARY_LOGITS.probabilities(np.array([-69.0]))[0] == pytest.approx(1.0814e-30, rel=1e-4)


def test_no_keeps_its_digits_where_yes_is_nearly_1():
    z = np.array([[40.0], [-40.0], [0.5]], np.float32)
    small, half = np.exp(-40.0), 1 / (1 + np.exp(-0.5))
    for logits in (z, z[:, 0]):
        found = BINARY_LOGITS.both(logits)
        np.testing.assert_allclose(found, [[small, 1], [1, small], [1 - half, half]], rtol=1e-6)
        assert found.dtype == np.float32
    np.testing.assert_allclose(BINARY_PROBABILITIES.both(np.array([0.25, 1.0])), [[0.75, 0.25], [0.0, 1.0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.filterwarnings("error")
def test_a_softmax_does_not_overflow_and_keeps_small_probabilities(dtype):
    x = np.array([[1e4, 1e4 - 80.0, -1e4], [0.0, -80.0, -80.0], [-1e30, -1e30, -1e30]], dtype)
    p = LOGITS.probabilities(x)
    small = np.exp(-80.0)
    right = np.array([[1, small, 0], [1, small, small], [1 / 3] * 3])
    np.testing.assert_allclose(p, right, rtol=2e-6 if dtype == "float32" else 1e-14)
    assert p.dtype == x.dtype


def test_probabilities_and_classes_are_those_of_torch():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 3, (7, 5, 2))
    t = torch.tensor(x)
    for means, theirs in (
        (LOGITS, t.softmax(1)), (LOG_PROBABILITIES, t.exp()), (BINARY_LOGITS, t.sigmoid()), (PROBABILITIES, t),
        (BINARY_PROBABILITIES, t),
    ):  # fmt: skip
        np.testing.assert_allclose(means.probabilities(x), theirs.numpy(), rtol=1e-13)
        classes = theirs.argmax(1) if means.over_classes else (theirs > 0.5).long()
        np.testing.assert_array_equal(means.classes(x), classes.numpy())


def test_labels_are_class_numbers_the_largest_probability_or_yes():
    soft = np.array([[0.2, 0.5, 0.3], [0.9, 0.0, 0.1]], np.float32)
    for means in (LOGITS, PROBABILITIES, LOG_PROBABILITIES):
        assert means.labels(np.array([2, 0])).tolist() == [2, 0]
        assert means.labels(soft).tolist() == [1, 0]
    assert BINARY_LOGITS.labels(np.array([0.0, 1.0, 0.7])).tolist() == [0, 1, 1]


def test_outputs_without_an_axis_of_classes():
    text = (
        "the outputs are logits over the classes of axis 1, so they must have the shape (N, C, ...), got (5,). Give the last "
        "layer an output for each class, or take a loss for yes or no (F.binary_cross_entropy_with_logits)."
    )
    for read in (LOGITS.probabilities, LOGITS.classes):
        with pytest.raises(ShapeError, match=f"^{re.escape(text)}$"):
            read(np.zeros(5))


def test_what_cannot_be_probabilities_is_seen():
    assert LOGITS.broken(np.array([[0.25, 0.75]])) == ""
    assert PROBABILITIES.broken(np.array([[0.25, 0.75], [0.5, 0.25]])) == "those of one row sum to 0.75"
    assert PROBABILITIES.broken(np.array([[1.25, -0.25]])) == "1.25 is not in [0, 1]"
    assert BINARY_PROBABILITIES.broken(np.array([0.5, 0.9])) == ""
    assert BINARY_PROBABILITIES.broken(np.array([0.5, np.nan])) == "nan is not in [0, 1]"


def test_the_names_are_those_of_the_table():
    assert all(MEANINGS[name].name == name for name in MEANINGS)
    assert meaning.named("values", "x") is VALUES


def test_infinite_logits_have_no_probabilities_and_say_nothing_on_the_way():
    assert np.isnan(LOGITS.probabilities(np.array([[np.inf, -np.inf]]))).any()
    assert BINARY_LOGITS.probabilities(np.array([[np.inf], [-np.inf]])).tolist() == [[1.0], [0.0]]
