"""EarlyStopping: the training ends once a measure has not become better for some epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from chainrule.errors import SettingError
from chainrule.names import renamed_keywords
from chainrule.training.callbacks.base import NEVER, Watching
from chainrule.training.callbacks.kept import number_or_none, weights_or_none, whole
from chainrule.training.keywords import STOPPING
from chainrule.training.monitor import Monitor, as_count, as_number
from chainrule.training.snapshot import Weights, handles

if TYPE_CHECKING:
    from chainrule.training.trainer import Trainer


class EarlyStopping(Watching):
    """Ends the training after `patience` epochs in a row in which the measure did not become better.

    Names and meaning are Keras's. It judges every epoch without making a pause in the native loop, and copies the
    weights only where an epoch is the best so far.

    With `restore_best_weights` the model ends with the weights of the best epoch, also where the epochs ran out first.
    ``fit(resume=True)`` goes on from those of the last epoch, as if they had not been restored, so that the result is
    that of one longer training. After Ctrl-C nothing is restored; `restore` does it.

    Args:
        monitor: a measure of the history.
        min_delta: what is better by no more than this is not better.
        patience: so many epochs without a better one are waited for.
        mode: ``"min"``, ``"max"``, or ``"auto"``: what the measure's name says.
        baseline: only what is better than this ends the waiting.
        restore_best_weights: end with the weights of the best epoch.
        start_from_epoch: so many first epochs are not judged.
        ties: an epoch as good as the best one takes its place, and so does one that is better by no more than `min_delta`;
            neither ends the waiting.
        stop_at: in place of `patience`: the training is ended only after one of these epochs (counted from 1), where none
            since the one before of them became better. For schedules that go in waves, ``CosLogLR.ends``: in the middle of
            a wave the rate is high and no epoch is good.

    Attributes:
        best, best_epoch: the best value, and its epoch (counted from 1); None before the first.
        wait: epochs since it was met.
        stopped_epoch: the epoch after which the training was ended; 0 where it was not.
        best_weights: those of the best epoch, where they are restored.

    Raises:
        SettingError: an argument that cannot be; at `fit`: the training does not measure that.

    Example:
        >>> stopping = EarlyStopping(patience=2)
        >>> for epoch, loss in enumerate([0.9, 0.7, 0.8, 0.7], start=1):
        ...     stopping.judge(epoch, loss, lambda: None)
        >>> stopping.stopped_epoch, stopping.best_epoch
        (4, 2)
    """

    @renamed_keywords(STOPPING)
    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        ties: bool = False,
        stop_at: Iterable[int] | None = None,
    ) -> None:
        who = "EarlyStopping"
        super().__init__(Monitor(monitor, mode, min_delta, who))
        self.patience = as_count(patience, who, "patience")
        self.baseline = None if baseline is None else as_number(baseline, who, "baseline", least=float("-inf"))
        self.restore_best_weights = bool(restore_best_weights)
        self.start_from_epoch = as_count(start_from_epoch, who, "start_from_epoch")
        self.ties = bool(ties)
        self.stop_at = None if stop_at is None else sorted({as_count(epoch, who, "stop_at", 1) for epoch in stop_at})
        if self.stop_at is not None and self.patience:
            raise SettingError(
                f"{who}: the end comes after `patience` epochs or at the epochs `stop_at`, got patience={patience!r} and "
                f"stop_at={self.stop_at!r}. Leave one of them out."
            )
        self.reset()

    def reset(self) -> None:
        self.best: float | None = None
        self.mark: float | None = None  # what an epoch must be better than to end the waiting: without ties, the best
        self.best_epoch = self.wait = self.stopped_epoch = 0
        self.best_weights: Weights | None = None
        self.stopped = False
        self._last: Weights | None = None  # what stood before the best were restored

    def judge(self, epoch: int, value: float, weights: Callable[[], Weights]) -> None:
        self.judge_all(epoch, [value], lambda _: weights())

    def judge_all(self, epoch: int, values: Sequence[float], weights: Callable[[int], Weights]) -> int:
        monitor, best, last = self.monitor, None, epoch - 1
        for last, value in enumerate(values, epoch):
            if monitor is None or last <= self.start_from_epoch:
                continue
            self.wait += 1
            better = monitor.better(value, self.mark)
            if better or (self.ties and monitor.no_worse(value, self.best)):
                self.best = value
                best = last
            if better:
                self.mark = value
                if self.baseline is None or monitor.better(value, self.baseline):
                    self.wait = 0
            elif self._due(last):
                self.stopped_epoch, self.stopped = last, True
                break
        if best is not None:
            self.best_epoch = best
            if self.restore_best_weights:
                self.best_weights = weights(best - epoch)
        return last + 1 - epoch

    def certain(self, epoch: int) -> int:
        if self.stop_at is not None:
            return next((end - epoch + 1 for end in self.stop_at if end >= epoch), NEVER)
        return max(0, self.start_from_epoch + 1 - epoch) + max(1, self.patience - self.wait)

    @property
    def keeps_weights(self) -> bool:
        return self.restore_best_weights

    def _due(self, epoch: int) -> bool:
        """Is it time to end after this epoch, which was not better?"""
        if self.stop_at is None:
            return self.wait >= self.patience and epoch > 1
        before = [start for start in (0, *self.stop_at) if start < epoch]
        return epoch in self.stop_at and self.wait >= epoch - before[-1]

    def take_back(self, trainer: Trainer) -> None:
        """Where the training goes on: with the weights of its last epoch, unless they were changed since."""
        last, best, self._last = self._last, self.best_weights, None
        if last is not None and best is not None and best.same(Weights.of(handles(trainer.session))):
            last.put(trainer.session)

    def on_fit_start(self, trainer: Trainer) -> None:
        self.stopped = self._ended()

    def _ended(self) -> bool:
        """Was it ended where these settings would end it, too?"""
        if self.stop_at is not None:
            return self.stopped_epoch in self.stop_at
        return bool(self.stopped_epoch) and self.wait >= self.patience

    def on_fit_end(self, trainer: Trainer) -> None:
        if self.best_weights is not None and not trainer.history.interrupted:
            self._last = Weights.of(handles(trainer.session))
            self.restore(trainer)

    def restore(self, trainer: Trainer) -> None:
        """The weights of the best epoch, if one was kept; here `fit` goes on from those."""
        if self.best_weights is not None:
            self.best_weights.put(trainer.session)

    def state_dict(self) -> dict[str, Any]:
        best, last = self.best_weights, self._last
        return {
            "best": self.best, "mark": self.mark, "best_epoch": self.best_epoch, "wait": self.wait, "stopped_epoch": self.stopped_epoch,
            "best_weights": None if best is None else best.tensors, "last": None if last is None else last.tensors,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        who = "EarlyStopping"
        self.best = number_or_none(state, "best", who)
        self.mark = number_or_none(state, "mark", who) if "mark" in state else self.best
        self.best_epoch, self.wait, self.stopped_epoch = (
            whole(state, name, who) for name in ("best_epoch", "wait", "stopped_epoch")
        )
        self.best_weights, self._last = (weights_or_none(state, name, who) for name in ("best_weights", "last"))
        self.stopped = self._ended()
