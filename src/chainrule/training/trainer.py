"""Trainer: batches, epochs, validation and history around one compiled step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from chainrule.compiler.compile import Compiled, compile
from chainrule.data.batches import shuffled_indices
from chainrule.data.checks import as_array, as_labels, check_batch_size, check_finite, check_same_length
from chainrule.errors import NonFiniteError
from chainrule.nn import Module
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import manual_seed
from chainrule.training.callbacks import Callback, EpochFunction, as_callback
from chainrule.training.history import History
from chainrule.training.interrupt import Interrupt
from chainrule.training.metrics import Metric, resolve
from chainrule.training.nonfinite import find_origin
from chainrule.training.state import Snapshot, parameters_finite, restore, snapshot

Loss = Callable[[Tensor, Tensor], Tensor]
Report = Callable[[int, int, dict[str, float]], None]
CHUNK_SECONDS = 0.075  # how long a native call may last before Python has the floor


class Trainer:
    """Trains a model: the steps of an epoch run in native loops, Python has the floor every 50-100 ms.

    Args:
        model: the network; called with a batch of rows.
        loss: a function ``(output, target) -> scalar``.
        optimizer: holds the model's parameters.
        metrics: names ("accuracy", "mse", "mae") or functions ``(output, target) -> scalar``.

    Example:
        >>> import chainrule as cr, numpy as np
        >>> import chainrule.nn.functional as F
        >>> from chainrule import nn, optim
        >>> _ = cr.manual_seed(0)
        >>> model = nn.Linear(2, 2)
        >>> trainer = Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=1.0), ["accuracy"])
        >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 8, np.float32)
        >>> history = trainer.fit(X, X[:, 0].astype(int), epochs=30, batch_size=8, progress=False)
        >>> history["accuracy"][-1]
        1.0
    """

    def __init__(self, model: Module, loss: Loss, optimizer: Optimizer, metrics: Sequence[str | Metric] = ()) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.metrics = resolve(metrics)
        self._stopped = False

    def stop(self) -> None:
        """End the training after the current epoch; for callbacks."""
        self._stopped = True

    # -- training ---------------------------------------------------------------------------
    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 10,
        batch_size: int = 64,
        validation_data: tuple[Any, Any] | None = None,
        seed: int = 0,
        shuffle: bool = True,
        progress: bool = True,
        callbacks: Iterable[Callback | EpochFunction] = (),
    ) -> History:
        """Train for so many epochs; every row once an epoch, the short last batch included.

        Ctrl-C ends the training at a step boundary: the model is usable, the history so far is returned with
        ``interrupted`` set.

        Args:
            X: rows (N, ...), finite numbers.
            y: targets (N, ...); integers for classes.
            validation_data: (X, y) to measure after every epoch.
            seed: fixes the order of the rows and everything random in the model.
            progress: print one line an epoch.

        Raises:
            DataError: data that cannot be trained on, before the first step.
            NonFiniteError: the loss became NaN or infinite; the model then holds the last good weights.
        """
        rows, targets = self._checked(X, y, "fit")
        check_batch_size(batch_size, len(rows), "fit")
        validation = self._checked(*validation_data, "fit (validation_data)") if validation_data is not None else None
        manual_seed(seed)
        history, listeners = History(), [as_callback(callback) for callback in callbacks]
        data = (tensor(rows), tensor(targets))
        step = self._step(*data)
        self._stopped = False
        self.model.train()
        for listener in listeners:
            listener.on_fit_start(self)
        with Interrupt() as interrupt:
            try:
                for epoch in range(1, epochs + 1):
                    start = time.perf_counter()
                    order = shuffled_indices(len(rows), seed, epoch - 1) if shuffle else np.arange(len(rows))
                    measured = self._epoch(step, data, order, batch_size, history, interrupt, listeners)
                    if validation is not None:
                        measured |= {f"val_{k}": v for k, v in self._measure(*validation, 1024).items()}
                    measured["lr"] = float(self.optimizer.param_groups[0]["lr"])
                    measured["seconds"] = time.perf_counter() - start
                    history.add(measured)
                    for listener in listeners:
                        listener.on_epoch_end(self, epoch, measured)
                    if progress:
                        print(_line(epoch, epochs, measured))
                    if self._stopped:
                        break
            except KeyboardInterrupt:
                history.interrupted = True
                print(f"Interrupted after {history.steps} steps: the model is as the last step left it.")
        self.model.eval()
        for listener in listeners:
            listener.on_fit_end(self)
        return history

    def _step(self, X: Tensor, y: Tensor) -> Compiled:
        """One training step over row numbers; gathering is part of it."""

        def step(index: Tensor) -> Any:
            output, target = self.model(X[index]), y[index]
            loss = self.loss(output, target)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            return loss, [metric(output.detach(), target) for metric in self.metrics.values()]

        return compile(step)

    def _epoch(
        self, step: Compiled, data: tuple[Tensor, Tensor], order: Any, batch_size: int, history: History,
        interrupt: Interrupt, listeners: list[Callback],
    ) -> dict[str, float]:  # fmt: skip
        """All batches of one epoch; the mean of what they measured, weighted by their rows."""
        whole = len(order) // batch_size
        parts = [order[: whole * batch_size].reshape(whole, batch_size)]
        if len(order) % batch_size:
            parts.append(order[whole * batch_size :][None])
        sums, size = np.zeros(1 + len(self.metrics)), 1
        for part in parts:
            done = 0
            while done < len(part):
                chunk = part[done : done + size]
                before, start = snapshot(self.model, self.optimizer), time.perf_counter()
                loss, metrics = step.loop(tensor(chunk))
                took = time.perf_counter() - start
                self._refuse_nonfinite(loss.numpy(), step, chunk, before, data, history)
                columns = [loss, *metrics]
                sums += np.array([c.numpy().astype(np.float64).sum() for c in columns]) * part.shape[1]
                done += len(chunk)
                history.steps += len(chunk)
                for listener in listeners:
                    listener.on_steps(self, done, float(loss.numpy()[-1]))
                interrupt.check()
                size = max(1, min(4 * size, int(len(chunk) * CHUNK_SECONDS / max(took, 1e-6))))
        return dict(zip(["loss", *self.metrics], (sums / len(order)).tolist(), strict=True))

    def _refuse_nonfinite(
        self, losses: Any, step: Compiled, chunk: Any, before: Snapshot, data: tuple[Tensor, Tensor], history: History
    ) -> None:
        """If a loss or weight is not finite: go back, replay to the last good step, name the origin, raise."""
        finite = np.isfinite(losses)
        if finite.all() and parameters_finite(self.model):
            return
        restore(before)
        bad = 0
        good = before
        for bad in range(len(chunk)):  # the same steps again, one by one: they give the same bits
            good = snapshot(self.model, self.optimizer)
            loss, _ = step.loop(tensor(chunk[bad : bad + 1]))
            if not np.isfinite(loss.numpy()).all() or not parameters_finite(self.model):
                break
        restore(good)
        index = tensor(chunk[bad])
        origin = find_origin(self.model, self.loss, self.optimizer, data[0][index], data[1][index])
        self.optimizer.zero_grad()
        restore(good)
        where = f"first in the {origin.stage}, {origin.text}" if origin else "in the compiled step only"
        raise NonFiniteError(
            f"fit: the training stopped being finite at step {history.steps + bad + 1}, {where}. The model holds the "
            f"weights of the step before. Lower the learning rate, normalise the inputs, or clip the gradients."
        )

    # -- measuring ----------------------------------------------------------------------------
    def evaluate(self, X: Any, y: Any, batch_size: int = 1024) -> dict[str, float]:
        """The loss and the metrics over all rows, in evaluation mode.

        Raises:
            DataError: data that cannot be measured.
        """
        return self._measure(*self._checked(X, y, "evaluate"), batch_size)

    def _measure(self, X: Any, y: Any, batch_size: int) -> dict[str, float]:
        training = self.model.training
        self.model.eval()
        sums = np.zeros(1 + len(self.metrics))
        with no_grad():
            for start in range(0, len(X), batch_size):
                rows, target = tensor(X[start : start + batch_size]), tensor(y[start : start + batch_size])
                output = self.model(rows)
                values = [self.loss(output, target), *(metric(output, target) for metric in self.metrics.values())]
                sums += np.array([float(value.item()) for value in values]) * len(rows)
        self.model.train(training)
        return dict(zip(["loss", *self.metrics], (sums / len(X)).tolist(), strict=True))

    def predict(self, X: Any, batch_size: int = 1024) -> Any:
        """The model's outputs for all rows, as a NumPy array, in evaluation mode."""
        rows = as_array(X, "predict")
        check_finite(rows, "predict")
        training = self.model.training
        self.model.eval()
        with no_grad():
            parts = [self.model(tensor(rows[i : i + batch_size])).numpy() for i in range(0, len(rows), batch_size)]
        self.model.train(training)
        return np.concatenate(parts)

    def _checked(self, X: Any, y: Any, who: str) -> tuple[Any, Any]:
        """The data as arrays that can be trained on; labels within the model's classes."""
        rows, targets = as_array(X, who), as_array(y, who)
        check_same_length(rows, targets, who)
        check_finite(rows, f"{who}: X")
        check_finite(targets, f"{who}: y")
        rows = rows.astype(np.float32) if rows.dtype != np.float64 else rows
        if targets.dtype.kind in "iu" and targets.ndim == 1:
            with no_grad():
                output = self.model(tensor(rows[:1]))
            if output.ndim == 2:
                targets = as_labels(targets, output.shape[1], who)
        return rows, targets


def _line(epoch: int, epochs: int, measured: dict[str, float]) -> str:
    shown = "  ".join(f"{name} {value:.4f}" for name, value in measured.items() if name not in ("lr", "seconds"))
    return f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {shown}  {measured['seconds']:.2f} s"
