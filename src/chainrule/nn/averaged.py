"""The average of a model's weights on their way: stochastic weight averaging, and exponential moving averages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

from chainrule.devices import on_cpu
from chainrule.dtypes import int64
from chainrule.errors import SettingError
from chainrule.nn.module import Module
from chainrule.nn.normalization import BatchNorm1d
from chainrule.tensor import Tensor
from chainrule.tensor.creation import zeros
from chainrule.tensor.functions import no_grad, where

Average = Callable[[Tensor, Tensor, Tensor], Tensor]
Averages = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor], None]


def get_swa_avg_fn() -> Average:
    """For ``AveragedModel(avg_fn=)``: the plain mean, ``average + (parameter - average) / (n + 1)``."""

    def averaged(average: Tensor, parameter: Tensor, number: Tensor) -> Tensor:
        return average + (parameter - average) / (number + 1).to(average.dtype)

    return averaged


def get_ema_avg_fn(decay: float = 0.999) -> Average:
    """For ``AveragedModel(avg_fn=)``: the exponential moving average, ``decay * average + (1 - decay) * parameter``.

    Raises:
        SettingError: decay is not from 0 to 1.
    """
    if not 0 <= decay <= 1:
        raise SettingError(f"get_ema_avg_fn: decay must be from 0 to 1, got {decay!r}.")

    def averaged(average: Tensor, parameter: Tensor, number: Tensor) -> Tensor:
        return average * decay + parameter * (1 - decay)

    return averaged


def get_swa_multi_avg_fn() -> Averages:
    """For ``AveragedModel(multi_avg_fn=)``: the plain mean of all tensors at once."""
    return _each(get_swa_avg_fn())


def get_ema_multi_avg_fn(decay: float = 0.999) -> Averages:
    """For ``AveragedModel(multi_avg_fn=)``: the exponential moving average of all tensors at once.

    Raises:
        SettingError: decay is not from 0 to 1.
    """
    return _each(get_ema_avg_fn(decay))


def _each(average: Average) -> Averages:
    def averaged(averages: Sequence[Tensor], parameters: Sequence[Tensor], number: Tensor) -> None:
        with no_grad():
            for held, parameter in zip(averages, parameters, strict=True):
                held.copy_(average(held, parameter, number))

    return averaged


class AveragedModel(Module):
    """A copy of a model that holds the average of its parameters, over all calls of ``update_parameters``.

    The first call copies; each later one goes on as ``avg_fn`` says. Inside ``cr.compile`` it is a part of the step.
    `chainrule.callbacks.EMA` does the same for a `Trainer`.

    Args:
        model: whose parameters to average; it is copied.
        device: ``"cpu"``, where everything is.
        avg_fn: from the average, the parameter and the number of earlier calls to the new average; their mean where None.
        multi_avg_fn: instead of it, a function that writes the new averages of all tensors: of a list of averages, a list
            of parameters and that number.
        use_buffers: average buffers, too; else they are copied.

    Attributes:
        module: the copy.
        n_averaged: int64 (): how often parameters were taken.

    Raises:
        SettingError: both functions were given, or (of a call) the model has other parameters than the copy.

    Source: Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018.

    Example:
        >>> import chainrule as cr
        >>> model = cr.nn.Linear(1, 1, bias=False)
        >>> mean = cr.optim.swa_utils.AveragedModel(model)
        >>> for value in (1.0, 2.0, 6.0):
        ...     with cr.no_grad():
        ...         _ = model.weight.fill_(value)
        ...     mean.update_parameters(model)
        >>> mean.module.weight.item(), mean.n_averaged.item()
        (3.0, 3)
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Average | None = None,
        multi_avg_fn: Averages | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        on_cpu(device)
        if avg_fn is not None and multi_avg_fn is not None:
            raise SettingError("AveragedModel: give avg_fn or multi_avg_fn, not both.")
        self.module = deepcopy(model)
        self.register_buffer("n_averaged", zeros(dtype=int64))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the model's parameters, as they are now, into the average."""
        with no_grad():
            mean, new = self._tensors(self.module), self._tensors(model)
            if [tensor.shape for tensor in mean] != [tensor.shape for tensor in new]:
                raise SettingError(
                    "AveragedModel: the model has other parameters than the one that was copied. Give that one."
                )
            first, counted = self.n_averaged == 0, self.n_averaged.clone()
            if self.multi_avg_fn is not None:
                self.multi_avg_fn(mean, new, counted)
                wanted: Iterable[Tensor] = mean
            else:
                average = self.avg_fn or get_swa_avg_fn()
                wanted = [average(held, tensor, counted) for held, tensor in zip(mean, new, strict=True)]
            for held, value, tensor in zip(mean, wanted, new, strict=True):
                held.copy_(where(first, tensor, value.to(held.dtype)))
            if not self.use_buffers:
                for held, tensor in zip(self.module.buffers(), model.buffers(), strict=True):
                    held.copy_(tensor)
            self.n_averaged.add_(1)

    def _tensors(self, model: Module) -> list[Tensor]:
        """What is averaged, each as a tensor that shares its elements and asks for no gradient."""
        found = [*model.parameters(), *(model.buffers() if self.use_buffers else ())]
        return [tensor.detach() for tensor in found]


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of a model's batch normalisations anew: averaged weights have none that fit.

    Args:
        loader: batches of inputs, or tuples that begin with one.
        model: runs on each batch, in training mode, without gradients.
        device: ``"cpu"``, where everything is.
    """
    on_cpu(device)
    layers = {module: module.momentum for module in model.modules() if isinstance(module, BatchNorm1d)}
    if not layers:
        return
    training = model.training
    model.train()
    try:
        for module in layers:
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
        with no_grad():
            for batch in loader:
                model(batch[0] if isinstance(batch, (list, tuple)) else batch)
    finally:
        for module, momentum in layers.items():
            module.momentum = momentum
        model.train(training)
