"""EMA: a moving average of the weights over the steps, which the model ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chainrule.errors import SettingError, StateDictError
from chainrule.tensor import Tensor
from chainrule.tensor.core import stored
from chainrule.tensor.functions import no_grad
from chainrule.training.callbacks.base import Callback
from chainrule.training.callbacks.kept import weights_or_none
from chainrule.training.monitor import as_number
from chainrule.training.snapshot import Weights, handles

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer


class EMA(Callback):
    r"""The exponential moving average of the parameters, :math:`m \leftarrow \beta m + (1 - \beta) w` after every step.

    The update is compiled into the step. When the training ends, the averages take the place of the parameters (unless
    Ctrl-C ended it); buffers stay as they are. ``fit(resume=True)`` goes on from the parameters themselves, so that the
    result is that of one longer training.

    Validation during the training is of the parameters themselves, or of the averages (`validate`), as after ``SwapEMAWeights(
    swap_on_epoch=True)`` of Keras and ``AveragedModel`` of PyTorch; `EarlyStopping` and `Checkpoint` then keep the averages of the
    best epoch. Give this one before an `EarlyStopping` that restores them: the last has the last word.

    Args:
        decay: :math:`\beta`, from 0 to below 1.
        validate: the averages stand in for the parameters in validation, and there alone.

    Attributes:
        averages: by the parameter's name, while and after a training.

    Source: B. T. Polyak, A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30
    (1992); with the weights of the beginning as the first average, as ``ema_momentum`` of Keras's optimizers has it.

    Example:
        >>> average = EMA(0.999)
    """

    def __init__(self, decay: float = 0.999, validate: bool = False) -> None:
        self.decay, self.validate = as_number(decay, "EMA", "decay"), bool(validate)
        if self.decay >= 1:
            raise SettingError(f"EMA: decay must be below 1, got {decay!r}.")
        self.reset()

    def reset(self) -> None:
        self.averages: dict[str, Tensor] = {}
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._last: Weights | None = None

    def prepare(self, trainer: Trainer) -> None:
        known = {name: p for name, p in trainer.model.named_parameters() if p.dtype.is_floating_point}
        if not self.averages:
            self.averages = {name: p.detach().clone() for name, p in known.items()}
        for name, p in known.items():
            if name not in self.averages or self.averages[name].shape != p.shape:
                raise StateDictError(
                    f"EMA: no average was kept of {name!r}. Build the model as it was when it was kept."
                )
        self._pairs = [(self.averages[name], p) for name, p in known.items()]

    def tensors(self) -> Sequence[Tensor]:
        return list(self.averages.values())

    def instead(self) -> Sequence[tuple[Tensor, Tensor]]:
        return self._pairs if self.validate else ()

    def after_step(self) -> None:
        with no_grad():
            for average, parameter in self._pairs:
                average.mul_(self.decay).add_(parameter.detach() * (1 - self.decay))

    def take_back(self, trainer: Trainer) -> None:
        """Where the training goes on: with the parameters of its last step, unless they were changed since."""
        last, self._last = self._last, None
        if last is not None and self._swapped(trainer):
            last.put(trainer.session)

    def _swapped(self, trainer: Trainer) -> bool:
        """Do the averages stand in the place of the parameters, to the bit?"""
        return all(stored(a).tobytes() == stored(p).tobytes() for a, p in self._pairs)

    def on_fit_end(self, trainer: Trainer) -> None:
        if trainer.history.interrupted:
            return
        self._last = Weights.of(handles(trainer.session))
        with no_grad():
            for average, parameter in self._pairs:
                parameter.copy_(average)

    def state_dict(self) -> dict[str, Any]:
        averages = {name: average.clone() for name, average in self.averages.items()}
        return {"averages": averages, "last": None if self._last is None else self._last.tensors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        found, self._last = weights_or_none(state, "averages", "EMA"), weights_or_none(state, "last", "EMA")
        tensors = found.tensors if found is not None else {}
        if self._pairs and tensors.keys() == self.averages.keys():
            with no_grad():
                for name, average in self.averages.items():  # the same tensors: the step is bound to them
                    average.copy_(tensors[name])
        else:
            self.averages = {name: value.clone() for name, value in tensors.items()}
