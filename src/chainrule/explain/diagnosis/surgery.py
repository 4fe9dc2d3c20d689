"""The changes a remedy makes to model, loss, optimizer and data, and how everything is put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.errors import DataError, SettingError
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.meaning import LOGITS, PROBABILITIES, name_of, option_of
from chainrule.nn.module import Module
from chainrule.nn.summary import recorded
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.training.resuming import contents, unchanged
from chainrule.training.session import Session

Array = np.ndarray[Any, Any]
Loss = Callable[[Tensor, Tensor], Tensor]
ACTIVATIONS = (nn.ReLU, nn.Sigmoid, nn.Tanh)
OUTPUTS = (*ACTIVATIONS, nn.Softmax, nn.LogSoftmax, nn.Softplus)


@contextmanager
def preserved(session: Session) -> Iterator[None]:
    """Everything a replay changes is afterwards as it was, which layers there are among it."""
    layers = [(module, dict(module._modules)) for module in session.model.modules()]
    with session.lent():
        try:
            yield
        finally:
            for module, children in layers:
                module._modules.update(children)


@contextmanager
def altered(model: Module, remedy: Remedy, output: Module | None) -> Iterator[None]:
    """The model with the layers of a remedy inside the block: activations exchanged, one left out, dropout set."""
    undo: list[Callable[[], object]] = []
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            other = _instead(child, remedy, child is output)
            if other is not child:
                parent._modules[name] = other
                undo.append(partial(parent._modules.__setitem__, name, child))
    if remedy.dropout >= 0:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                undo.append(partial(setattr, module, "p", module.p))
                module.p = remedy.dropout
    for parameter in model.parameters() if remedy.thaw else ():
        if not parameter.requires_grad:
            undo.append(partial(parameter.requires_grad_, False))
            parameter.requires_grad_(True)
    try:
        yield
    finally:
        for step in undo:
            step()


def _instead(child: Module | None, remedy: Remedy, is_output: bool) -> Module | None:
    if is_output and remedy.bare:
        return nn.Identity()
    if remedy.activation and isinstance(child, ACTIVATIONS) and not is_output:
        return nn.activation_by_name(remedy.activation)()
    return child


def output_layer(model: Module, x: Array) -> Module | None:
    """The activation whose result is the model's output, if that is a layer of its own."""
    outputs: dict[Module, Any] = {}
    with no_grad(), recorded(model, outputs):
        result = model(tensor(x))
    return next((m for m, out in outputs.items() if out is result and isinstance(m, OUTPUTS)), None)


# What the outputs mean to the loss of a remedy.
READ = {"log_softmax": LOGITS, "of_probabilities": PROBABILITIES, "cross_entropy": LOGITS}


def loss_of(loss: Loss, remedy: Remedy) -> Loss:
    """The loss of a remedy."""
    if remedy.loss == "log_softmax":
        return lambda output, target: loss(output.log_softmax(1), target)
    if remedy.loss == "of_probabilities":
        return lambda output, target: F.nll_loss((output + 1e-9).log(), target)
    if remedy.loss == "cross_entropy":
        return F.cross_entropy
    return loss


def draw_weights(model: Module, activation: str) -> None:
    """Every weight of two or more axes anew, every bias 0; vectors that scale (a norm's weight) stay.

    The standard deviation is gain / sqrt(fan_in), gain being sqrt(2) where rectifiers follow.
    """
    rectified = activation in ("relu", "leakyrelu") or (
        not activation
        and any(isinstance(m, (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU)) for m in model.modules())
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "weight" in name.rpartition(".")[2]:
            init.kaiming_normal_(parameter, nonlinearity="relu" if rectified else "linear")
        elif parameter.ndim == 1 and "bias" in name.rpartition(".")[2]:
            init.zeros_(parameter)


def set_decay(optimizer: Optimizer, decay: float) -> None:
    """This weight decay in every group that has one."""
    for group in optimizer.param_groups:
        if "weight_decay" in group:
            group["weight_decay"] = decay


def whole_optimizer(model: Module, optimizer: Optimizer) -> Optimizer:
    """An optimizer of the same kind and settings over all parameters of the model."""
    settings = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    kind: Any = type(optimizer)
    made: Optimizer = kind([{"params": list(model.parameters()), **settings}])
    return made


def standardised(x: Array, reference: Array) -> Array:
    """Each feature with the reference rows' mean 0 and standard deviation 1; constant features become 0."""
    if reference.dtype.kind != "f":
        return x
    wide = reference.astype(np.float64)
    mean, deviation = wide.mean(axis=0), wide.std(axis=0)
    scale = np.where(deviation > 1e-6 * np.abs(mean) + np.finfo(np.float64).tiny, deviation, np.inf)
    return np.asarray(((x.astype(np.float64) - mean) / scale).astype(x.dtype))


def check_fitted(trainer: Any) -> None:
    """Raise unless the trainer has a fit of its own to look at.

    Raises:
        SettingError: nothing was fitted, or the training was only loaded.
        DataError: the rows were changed since.
    """
    if trainer.session.position is None:
        raise SettingError(
            "diagnose: there is nothing to diagnose yet: this trainer has not fitted anything. Call fit first."
        )
    if trainer.session.start is None or trainer.session.rows is None:
        raise SettingError(
            "diagnose: this training was loaded from a file, which holds neither its data nor its first weights. "
            "Build the model and call fit with the same arguments: one seed repeats it to the bit."
        )
    trainer.session.rows.check_single("diagnose")
    if not unchanged(trainer.session, contents(trainer.session.rows)):
        raise DataError(
            "diagnose: the rows are not those that were trained on (their hash differs): X, y or weights were changed in "
            "place since fit. Put back what stood there, or call fit again, on copies: fit(X.copy(), y.copy())."
        )
    if trainer.session.rows.weight is not None and not option_of(trainer.loss, "weighs_rows", False):
        raise SettingError(
            f"diagnose: with weights of rows, it cannot compare outputs under a loss of your own yet, got "
            f"{name_of(trainer.loss)}. Fit without weights, or with a loss of chainrule, to have the training diagnosed."
        )
