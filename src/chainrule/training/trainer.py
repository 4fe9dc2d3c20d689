"""Trainer: arrays in, a trained model out; the steps of an epoch run natively."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import IO, Any

import numpy as np

from chainrule.data.batches import shuffled_indices, train_test_split
from chainrule.data.checks import as_array, check_batch_size, check_same_length
from chainrule.errors import DamagedFileError, DataError, SettingError
from chainrule.nn import Module
from chainrule.nn.meaning import VALUES, Meaning, meaning_of, name_of, named
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.tensor.random import default_generator
from chainrule.training import checkpoints, inputs, state, steps
from chainrule.training.callbacks import Callback, EpochFunction, as_callback
from chainrule.training.explained import Explained
from chainrule.training.fitting import Fitting, Position
from chainrule.training.history import History
from chainrule.training.metrics import Metric, resolve, told
from chainrule.training.predict import Predictor
from chainrule.training.progress import report
from chainrule.training.record import Recorder, describe

Array = np.ndarray[Any, Any]
_FORMAT = "chainrule.trainer/1"


class Trainer(Explained):
    """Trains a model on arrays: each epoch's steps (gather, forward, backward, update) run as native calls.

    Args:
        model: an ``nn.Module`` that gives one row of output for each row of input.
        loss: ``(output, target) -> Tensor`` without axes, the mean over the batch (``F.cross_entropy``,
            ``nn.MSELoss()``, your own).
        optimizer: an optimizer over ``model.parameters()``.
        metrics: names (``"accuracy"``, ``"mse"``, ``"mae"``) or functions like the loss.
        output: what the model's outputs mean, where the loss is your own and has no attribute ``output`` that says it:
            ``"logits"``, ``"probabilities"`` or ``"log_probabilities"`` of the classes along axis 1,
            ``"binary_logits"`` or ``"binary_probabilities"`` of yes-or-no questions, or ``"values"``. Accuracy,
            probabilities and classes follow from it; the losses of this library say it themselves.
        max_norm: clip the gradients of each step to this norm (``nn.utils.clip_grad_norm_``); None leaves them.

    Attributes:
        history: the `History` of the latest `fit`.
        recorder: what the latest `fit` wrote its record with; None where it kept none.

    Raises:
        UnknownNameError: no metric or meaning of that name.
        SettingError: an argument of the wrong kind, or a metric that does not go with what the outputs mean.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn, optim
        >>> import chainrule.nn.functional as F
        >>> _ = cr.manual_seed(0)
        >>> X, y = cr.data.load("digits").train
        >>> model = nn.Linear(64, 10)
        >>> trainer = Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.01), metrics=["accuracy"])
        >>> history = trainer.fit(X, y, epochs=3, progress=False)
        >>> history["accuracy"][-1] > 0.9
        True
    """

    def __init__(
        self,
        model: Module,
        loss: Metric,
        optimizer: Optimizer,
        metrics: Iterable[str | Metric] = (),
        max_norm: float | None = None,
        output: str | None = None,
    ) -> None:
        for name, value, kind, example in (
            ("model", model, Module, "nn.Sequential(...)"),
            ("optimizer", optimizer, Optimizer, "optim.Adam(model.parameters())"),
        ):
            if not isinstance(value, kind):
                raise SettingError(
                    f"Trainer: {name} must be {'an nn.Module' if kind is Module else 'an Optimizer'}, "
                    f"got {type(value).__name__}. Pass an object such as {example}."
                )
        if not callable(loss) or isinstance(loss, type):
            raise SettingError(
                f"Trainer: loss must be a function (output, target) -> Tensor, got {loss!r}. "
                f"Pass F.cross_entropy or nn.CrossEntropyLoss(), for example."
            )
        self.model, self.loss, self.optimizer = model, loss, optimizer
        if max_norm is not None and not (isinstance(max_norm, (int, float)) and max_norm > 0):
            raise SettingError(f"Trainer: max_norm must be a number above 0, or None, got {max_norm!r}.")
        self.max_norm = max_norm
        self._output = named(output, "Trainer(output=)") if output is not None else None
        self._measured = [metrics] if isinstance(metrics, str) else list(metrics)
        resolve(self._measured, loss, self.meaning)  # complains at once about what does not go together
        self.history = History()
        self.position: Position | None = None
        self.start: state.Start | None = None  # of the latest fit; a loaded training has none
        self.recorder: Recorder | None = None
        self._programs: dict[str, steps.Program] = {}
        self._predictor = Predictor(model)
        self._stop = False

    @property
    def meaning(self) -> Meaning | None:
        """What the model's outputs mean: as ``output=`` says, else as the loss says; None where neither does."""
        return self._output or meaning_of(self.loss)

    @property
    def metrics(self) -> dict[str, Metric]:
        """What is measured beside the loss, by the name it has in the history."""
        return resolve(self._measured, self.loss, self.meaning)

    # ---------------------------------------------------------------- training

    def fit(
        self,
        X: object,
        y: object,
        epochs: int = 10,
        batch_size: int = 64,
        validation_data: tuple[object, object] | None = None,
        validation_split: float | None = None,
        seed: int = 0,
        shuffle: bool = True,
        progress: bool | IO[str] = True,
        callbacks: Sequence[Callback | EpochFunction] = (),
        resume: bool = False,
        record: bool | str | os.PathLike[str] = False,
    ) -> History:
        """Train for `epochs` passes over the rows, and return what each measured.

        Every row is used once an epoch; the last batch of an epoch may be short. Ctrl-C stops after the native
        call that runs (within about 0.1 s): the model keeps the weights of that step, a line says so, and the history so
        far comes back with ``interrupted`` set. A second Ctrl-C raises.

        Args:
            X: rows of features, shape (N, ...): floating values take the model's dtype, integers stay.
            y: a target for each row: class numbers (N,) for losses over classes, values of the output's shape else.
            epochs: how many passes, 0 or more (with ``resume``, counted from the very first).
            batch_size: rows a step; all of them where there are fewer.
            validation_data: ``(X, y)`` to evaluate after each epoch.
            validation_split: or a share of the rows to set aside for that.
            seed: of everything random: the rows' order, the validation split, and (through ``cr.manual_seed``)
                dropout. One seed gives one result, to the bit.
            shuffle: a new order each epoch (`chainrule.data.shuffled_indices`), or the rows as they come.
            progress: a live bar on a terminal, lines elsewhere; False for silence; or a stream to write to.
            callbacks: `Callback` objects, or functions ``(trainer, epoch, measured)`` run after each epoch.
            resume: go on where the latest `fit`, or the one that `load` brought back, stopped - to the bit.
            record: a folder, to keep what brings back any step exactly (``trainer.run``, ``cr.load_run``); True
                keeps it in a temporary folder, which goes with the trainer.

        Raises:
            DataError: data that cannot be trained on (empty, not finite, mismatched, labels out of range).
            ShapeError: rows that do not fit the model, by layer.
            NonFiniteError: the loss or a weight became NaN or infinite. The model keeps the last good weights.
            SettingError: an argument that cannot be.
        """
        x_array, y_array, held_out = self._data(X, y, validation_data, validation_split, seed)
        size = min(check_batch_size(batch_size, "fit"), len(x_array))
        position = self._begin(len(x_array), size, seed, shuffle, resume)
        if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
            raise SettingError(f"fit: epochs must be a whole number, 0 or more, got {epochs!r}.")
        training = self._program("recorded" if record else "training", x_array, y_array)
        validation = self._program("validation", *held_out) if held_out is not None else None
        if self.start is not None:
            self.start.fed(training.feed, validation.feed if validation is not None else None)
        self.recorder = self._recorder(record, x_array, y_array, resume) if record else None
        run = Fitting(self, position, training, validation, [as_callback(c) for c in callbacks], report(progress))
        return run.to(int(epochs))

    def stop(self) -> None:
        """End the running `fit` after the current epoch (for callbacks)."""
        self._stop = True

    def _data(
        self, X: object, y: object, held_out: tuple[object, object] | None, split: float | None, seed: int
    ) -> tuple[Array, Array, tuple[Array, Array] | None]:
        if held_out is not None and split is not None:
            raise SettingError("fit: validation_data and validation_split were both given. Leave one of them out.")
        if split is not None:
            if not 0 < split < 1:
                raise SettingError(f"fit: validation_split must be a share between 0 and 1, got {split!r}.")
            x_all, y_all = as_array(X, "fit: X"), as_array(y, "fit: y")
            check_same_length(x_all, y_all, "fit")
            if len(x_all) < 2:
                raise DataError("fit: validation_split needs at least 2 rows, got 1. Leave it out.")
            X, x_held, y, y_held = train_test_split(x_all, y_all, split, seed)
            held_out = (x_held, y_held)
        check = partial(inputs.rows, self.model, self.loss, self.metrics, meaning=self.meaning)
        x_array, y_array = check(X, y, "fit")
        if held_out is None:
            return x_array, y_array, None
        try:
            x_held_out, y_held_out = held_out
        except (TypeError, ValueError):
            raise DataError("fit: validation_data must be a pair (X, y). Pass a tuple of two arrays.") from None
        return x_array, y_array, check(x_held_out, y_held_out, "fit", names=("validation X", "validation y"))

    def _begin(self, rows: int, batch_size: int, seed: int, shuffle: bool, resume: bool) -> Position:
        shuffled_indices(0, seed)  # complains about a seed that cannot be
        new = Position(rows, batch_size, seed, bool(shuffle))
        if not resume:
            self.history, self.position = History(), new
            default_generator.manual_seed(seed)
            self.start = state.Start.of(self.model, self.optimizer)
            return new
        if self.position is None:
            raise SettingError("fit: resume=True needs an earlier fit or load, got a new Trainer. Leave resume out.")
        for name in ("rows", "batch_size", "seed", "shuffle"):
            before, now = getattr(self.position, name), getattr(new, name)
            if before != now:
                raise SettingError(
                    f"fit: resume=True goes on exactly, so {name} must be as before ({before}), got {now}. "
                    f"Use the same data and arguments, or leave resume out to start a new training of these weights."
                )
        self.history.interrupted = False
        return self.position

    def _recorder(self, record: bool | str | os.PathLike[str], x: Array, y: Array, resume: bool) -> Recorder:
        """The record of the training that begins or goes on now."""
        if self.position is None:
            raise SettingError("fit: a record begins with a position; this is a bug in chainrule.")
        folder = None if isinstance(record, bool) else os.fspath(record)
        if resume and folder is None and self.recorder is not None:
            folder = os.fspath(self.recorder.folder)
        kept = self.recorder.temporary if resume and self.recorder is not None else None
        recorder = Recorder(folder, describe(self, x, y), partial(self.save, durable=False), self.position.done, resume)
        recorder.temporary = recorder.temporary or kept
        recorder.data = x, y
        return recorder

    def _program(self, kind: str, x: Array, y: Array) -> steps.Program:
        """The compiled step of this kind, used again for data of the same shapes."""
        known = self._programs.get(kind)
        if known is not None and known.feed.take(x, y):
            return known
        if kind in ("training", "recorded"):
            program = steps.training_program(
                self.model, self.loss, self.optimizer, self.metrics, x, y, kind == "recorded", self.max_norm
            )
        else:
            program = steps.evaluation_program(self.model, self.loss, self.metrics, x, y)
        self._programs[kind] = program
        return program

    # ---------------------------------------------------------------- using the model

    def evaluate(self, X: object, y: object, batch_size: int = 256) -> dict[str, float]:
        """The loss and the metrics on these rows, in evaluation mode: ``{"loss": ..., "accuracy": ...}``.

        Args:
            X, y: as for `fit`.
            batch_size: rows a step (cut to the number of rows).

        Raises:
            DataError, ShapeError: as `fit`.
        """
        x_array, y_array = inputs.rows(self.model, self.loss, self.metrics, X, y, "evaluate", meaning=self.meaning)
        size = min(check_batch_size(batch_size, "evaluate"), len(x_array))
        return self._measures(self._program("evaluation", x_array, y_array), len(x_array), size)

    def _measures(self, program: steps.Program, rows: int, batch_size: int) -> dict[str, float]:
        with inputs.mode(self.model, False):
            values = steps.evaluate(program, rows, batch_size)
        return dict(zip(("loss", *self.metrics), map(float, values), strict=True))

    def predict(self, X: object, batch_size: int = 256) -> Array:
        """The model's output for each row, in evaluation mode, as a NumPy array: logits under ``F.cross_entropy``.

        Args:
            X: rows as for `fit`; one row of a table is ``X[i:i+1]``.
            batch_size: rows a native call works on at once.

        Raises:
            DataError, ShapeError: as `fit`.
        """
        return self._predictor(X, batch_size)

    def predict_proba(self, X: object, batch_size: int = 256) -> Array:
        """The probability of each class (axis 1) for each row, or of yes for outputs to yes-or-no questions.

        What the loss reads tells how they follow from the outputs: by ``softmax`` or ``sigmoid`` from logits, by
        ``exp`` from log-probabilities; probabilities are given as they are.

        Raises:
            SettingError: the outputs are values, it is not known what they mean, or they are not what the loss reads.
            DataError, ShapeError: as `fit`.
        """
        meaning = self._classifying("predict_proba")
        found = meaning.probabilities(self.predict(X, batch_size))
        wrong = meaning.broken(found)
        if wrong:
            raise SettingError(
                f"predict_proba: under {name_of(self.loss)} the outputs are {meaning.words}, but of the probabilities "
                f"{wrong}. Give the model the last layer that this loss needs, or take a loss of logits."
            )
        return found

    def predict_classes(self, X: object, batch_size: int = 256) -> Array:
        """The class of each row, int64: the likeliest along axis 1, or whether yes is likelier than no.

        Shape (N,) where a row has one answer, else that of the answers.

        Raises:
            SettingError: the outputs are values, or it is not known what they mean.
            DataError, ShapeError: as `fit`.
        """
        found = self._classifying("predict_classes").classes(self.predict(X, batch_size))
        return found.reshape(len(found)) if found.size == len(found) else found

    def _classifying(self, asker: str) -> Meaning:
        meaning = told(self.loss, self.meaning, asker)
        if meaning == VALUES:
            raise SettingError(
                f"{asker}: under {name_of(self.loss)} the outputs are values and no classes. "
                f"Use predict, or train with a loss for classes such as F.cross_entropy."
            )
        return meaning

    # ---------------------------------------------------------------- saving

    def save(self, path: str | os.PathLike[str], durable: bool = True) -> None:
        """Write weights, optimizer, random counter, position and history to one safetensors file.

        ``load`` of it followed by ``fit(resume=True)`` gives the bits that a training without a stop gives.

        Args:
            path: the file; replaced only once the new one is complete.
            durable: wait until the disk has it.
        """
        tensors: dict[str, Tensor] = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors["generator"] = default_generator.get_state()
        meta = {
            "format": _FORMAT,
            "optimizer": checkpoints.flatten(self.optimizer.state_dict(), "optimizer", tensors),
            "optimizer_name": type(self.optimizer).__name__,
            "position": asdict(self.position) if self.position is not None else None,
            "history": self.history.as_dict(),
        }
        checkpoints.save_file(tensors, path, meta, durable)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over everything `save` wrote; model and optimizer must be built as they were then.

        Raises:
            DamagedFileError: the file is missing, cut off, changed, or of another kind.
            StateDictError: it does not fit this model or optimizer.
        """
        tensors, meta = checkpoints.load_file(path)
        if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
            raise DamagedFileError(
                f"{path}: no training is saved in this file, only tensors. Load it with model.load_state_dict, "
                f"or name a file that Trainer.save wrote."
            )
        if meta["optimizer_name"] != type(self.optimizer).__name__:
            raise SettingError(
                f"load: {path} holds the state of {meta['optimizer_name']}, this trainer has "
                f"{type(self.optimizer).__name__}. Build the optimizer as it was when it was saved."
            )
        before = state.snapshot(self.model, self.optimizer)
        try:
            self.model.load_state_dict({k[6:]: t for k, t in tensors.items() if k.startswith("model.")})
            self.optimizer.load_state_dict(checkpoints.unflatten(meta["optimizer"], tensors))
        except BaseException:
            state.restore(before)  # all of it or nothing
            raise
        default_generator.set_state(tensors["generator"])
        self.position = Position(**meta["position"]) if meta["position"] is not None else None
        self.history = History.from_dict(meta["history"])
        self.start = None
