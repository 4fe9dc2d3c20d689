"""Rules about the output and the loss that reads it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from chainrule.explain.diagnosis.evidence import Evidence
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.rules.rule import Remedies, Suspicion, first, room, rule
from chainrule.nn.meaning import BINARY_LOGITS, CLASSES, LOG_PROBABILITIES, LOGITS


def _bare_or(remedy: Remedy) -> Remedies:
    """The output layer taken out where there is one; else the loss that undoes it."""

    def remedies(e: Evidence) -> Iterable[Remedy]:
        return (Remedy(bare=True),) if e.lab.output_layer is not None else (remedy,)

    return remedies


def _named(e: Evidence) -> str:
    return _NAMES.get(e.task.loss, "the loss")


_NAMES = {"cross_entropy": "cross_entropy", "nll": "nll_loss", "bce_logits": "binary_cross_entropy_with_logits"}


@rule(
    "doubled_softmax",
    "The loss applies softmax to outputs that are probabilities already",
    _bare_or(Remedy(loss="of_probabilities")),
    rank=0,
    why="The softmax of probabilities is nearly the same for every class, so the loss can never become small and its gradient is weak.",
    change="Take the Softmax out of the model: {loss} expects logits.",
)
def doubled_softmax(e: Evidence) -> Suspicion | None:
    """Outputs that are never negative and sum to 1, read by a loss of logits over classes, such as cross_entropy.

    Source: the documentation of PyTorch's CrossEntropyLoss ("unnormalized logits"); Karpathy, "A recipe for
    training neural networks", 2019, names it among the most common mistakes.
    """
    output = e.lab.sample
    if e.task.output != LOGITS or output.shape[CLASSES] < 2:
        return None
    if (output < 0).any() or np.abs(output.sum(axis=1) - 1).max() > 1e-5:
        return None
    return Suspicion(
        f"every row of outputs is positive and sums to 1, and {_named(e)} applies softmax again", "the output"
    )


@rule(
    "missing_softmax",
    "The loss expects log-probabilities, and the outputs are not",
    Remedy(loss="log_softmax"),
    rank=0,
    why="Without it the loss has no lower bound: it falls by making outputs larger, not better.",
    change="End the model with nn.LogSoftmax(dim=1), or take F.cross_entropy in place of {loss}.",
)
def missing_softmax(e: Evidence) -> Suspicion | None:
    """Outputs read as log-probabilities whose exponentials do not sum to 1: the loss then has no lower bound.

    Source: the documentation of PyTorch's NLLLoss ("log-probabilities").
    """
    output = e.lab.sample.astype(np.float64)
    if e.task.output != LOG_PROBABILITIES:
        return None
    with np.errstate(all="ignore"):
        off = float(np.abs(np.exp(output).sum(axis=1) - 1).max())
    if off < 1e-2:
        return None
    return Suspicion(
        f"the exponentials of a row of outputs sum to 1 only within {off:.3g}; {_named(e)} needs 0", "the output"
    )


@rule(
    "squashed_output",
    "An activation at the output keeps the loss from what it needs",
    Remedy(bare=True),
    0,
    "either",
    why="What the last activation cannot give, the network cannot learn, and where it is flat no gradient passes.",
    change="Take the last activation out of the model.",
)
def squashed_output(e: Evidence) -> Suspicion | None:
    """A ReLU, sigmoid or tanh as the last layer, before a loss that takes logits or beyond whose range targets lie.

    Source: Goodfellow, Bengio, Courville, "Deep learning", 2016, section 6.2.2 (linear units for means and logits).
    """
    layer = e.lab.output_layer
    kind = type(layer).__name__ if layer is not None else ""
    if kind not in ("ReLU", "Sigmoid", "Tanh", "Softplus"):
        return None
    if e.task.kind == "values":
        low, high = {"ReLU": (0, np.inf), "Softplus": (0, np.inf), "Sigmoid": (0, 1), "Tanh": (-1, 1)}[kind]
        outside = float(((e.lab.y < low) | (e.lab.y > high)).mean())
        if outside < 0.02:
            return None
        return Suspicion(f"{outside:.1%} of the targets lie outside of what {kind} can give", "the output")
    if e.task.output not in (LOGITS, BINARY_LOGITS):
        return None
    return Suspicion(f"the logits that {_named(e)} reads come out of a {kind}", "the output")


@rule(
    "wrong_loss",
    "The loss is made for values, and the targets are classes",
    lambda e: (Remedy(loss="cross_entropy", bare=e.lab.output_layer is not None),),
    rank=0,
    measure="right",
    why="A squared error between scores and ones and zeros hardly tells a wrong class from an unsure one.",
    change="loss=F.cross_entropy, with class numbers (y.argmax(1)) for targets, and logits for outputs.",
)
def wrong_loss(e: Evidence) -> Suspicion | None:
    """One-hot targets under a squared or absolute loss.

    Source: Golik, Doetsch, Ney, "Cross-entropy vs. squared error training", Interspeech 2013.
    """
    if e.task.kind != "one_hot" or e.task.loss not in ("mse", "l1", "huber") or not room(e):
        return None
    return Suspicion(f"the targets are one-hot rows of {e.task.classes} classes, the loss is {e.task.loss}", "the loss")


@rule(
    "output_independent_of_input",
    "The output does not depend on the input",
    (Remedy(init=True, inputs=True), Remedy(init=True, inputs=True, lr=0.1)),
    rank=5,
    why="Somewhere on the way the signal is lost: units that are dead or saturated, or inputs of a size that drowns it.",
    change="Draw the weights anew and standardise the inputs; then look where activations stop to vary.",
)
def output_independent_of_input(e: Evidence) -> Suspicion | None:
    """Outputs that are the same for every row.

    Source: Karpathy, "A recipe for training neural networks", 2019 (input-independent baseline).
    """
    found = first(e, lambda m: m.step > 0 and m.output_spread < 1e-3)
    if found is None or not room(e):
        return None
    return Suspicion(
        f"over the rows the outputs vary by {found.output_spread:.1g} of their size", "the output", found.step
    )
