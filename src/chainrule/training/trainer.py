"""Trainer: arrays in, a trained model out; the steps of an epoch run natively."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import IO, Any, Generic, TypeVar, overload

import numpy as np

from chainrule.data.batches import train_test_split
from chainrule.data.checks import check_batch_size, counter
from chainrule.errors import DataError, SettingError
from chainrule.names import refuses, renamed_keywords
from chainrule.nn import Module
from chainrule.nn.meaning import VALUES, Meaning, name_of, option_of
from chainrule.optim import Optimizer
from chainrule.training import given, resuming, saved, several, steps
from chainrule.training.callbacks import (
    Callback,
    Checkpoint,
    EpochFunction,
    as_callbacks,
    begin,
    riders,
    with_checkpoints,
)
from chainrule.training.checked import Checked
from chainrule.training.chosen import chosen_loss, chosen_optimizer
from chainrule.training.exact import confusion_matrix
from chainrule.training.explained import Explained
from chainrule.training.fitting import Fitting
from chainrule.training.history import History
from chainrule.training.keywords import FIT, MEASURE, TRAINER
from chainrule.training.metrics import Metric, told
from chainrule.training.named import Named, taken
from chainrule.training.optimized import check_optimizer
from chainrule.training.position import Position
from chainrule.training.predict import Predictor
from chainrule.training.progress import Silent, report
from chainrule.training.record import Recorder, describe
from chainrule.training.scheduling import Given
from chainrule.training.session import Rows, Session
from chainrule.training.sound import check_outputs
from chainrule.training.source_rows import Epochs, SourceRows
from chainrule.training.weights import Classes

Array = np.ndarray[Any, Any]
T = TypeVar("T")
HELD_OUT = "validation X", "validation y"  # as errors call them


class Shared(Generic[T]):
    """An attribute of the trainer that is its session's."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, trainer: None, owner: type) -> Shared[T]: ...

    @overload
    def __get__(self, trainer: Trainer, owner: type) -> T: ...

    def __get__(self, trainer: Trainer | None, owner: type) -> Any:
        return self if trainer is None else getattr(trainer.session, self.name)

    def __set__(self, trainer: Trainer, value: T) -> None:
        setattr(trainer.session, self.name, value)


@refuses("Trainer")
class Trainer(Explained):
    """Trains a model on arrays: each epoch's steps (gather, forward, backward, update) run as native calls.

    Args:
        model: an ``nn.Module`` that gives one row of output for each row of input.
        loss: ``(output, target) -> Tensor`` without axes, the mean over the batch (``F.cross_entropy``,
            ``nn.MSELoss()``, your own); or the name of one of ``nn.functional`` (``"cross_entropy"``, ``"mse"``). For
            several outputs a loss of your own takes them as they are, or there is one for each: a dict by name or a
            tuple by position, which are added up; each of them is measured too, as ``"name_loss"``.
        optimizer: an optimizer over ``model.parameters()``; or the name of one, which is then made over them.
        metrics: names (``"accuracy"``, ``"f1_macro"``, ``"roc_auc"``, ``"r2"`` ...: `chainrule.training.METRICS`, and
            ``"top_5_accuracy"`` for any number), exact over the rows of an epoch; functions like the loss, whose mean over the
            batches is taken; or objects with `statistics` and `result` (`chainrule.training.exact.Exact`). What puts the
            rows in order (``roc_auc``, ``average_precision``) is measured of validation and by `evaluate`.
        output: what the model's outputs mean, where the loss is your own and has no attribute ``reads`` that says it:
            ``"logits"``, ``"probabilities"`` or ``"log_probabilities"`` of the classes along axis 1,
            ``"binary_logits"`` or ``"binary_probabilities"`` of yes-or-no questions, or ``"values"``. Accuracy,
            probabilities and classes follow from it; the losses of this library say it themselves.
        max_norm: clip the gradients of each step to this norm (``nn.utils.clip_grad_norm_``); None leaves them.
        scheduler: a schedule of ``optim.lr_scheduler``, or a list of them, which take a step after every epoch
            (``ReduceLROnPlateau`` by ``val_loss``, or ``loss`` where nothing is validated); or a dict that says when:
            ``{"step": warmup, "epoch": [plateau]}``. Rates of schedules of every step are worked out ahead. A schedule
            given here is saved, recorded, resumed and replayed; one that a callback steps is not.
        lr: the learning rate of an optimizer given by name; None for its own default.
        loss_weights: by what the losses of several outputs are multiplied before they are added; 1 where not named.

    Attributes:
        history: the `History` of the latest `fit`.
        session: everything the training is made of; the attributes that share a name with an argument are its own.
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

    @renamed_keywords(TRAINER)
    def __init__(
        self,
        model: Module,
        loss: Metric | str | Mapping[str, Metric | str] | tuple[Metric | str, ...],
        optimizer: Optimizer | str,
        metrics: Iterable[str | Metric] = (),
        max_norm: float | None = None,
        output: str | None = None,
        scheduler: Given = None,
        lr: float | None = None,
        loss_weights: Mapping[str, float] | Sequence[float] | None = None,
    ) -> None:
        loss = chosen_loss(loss, loss_weights)
        optimizer = chosen_optimizer(optimizer, model, lr)
        self.session = Session(model, loss, optimizer, metrics, max_norm, output, scheduler)
        check_optimizer(self.session, "Trainer", warn=False)  # `fit` does: until then layers may still be exchanged
        self.recorder: Recorder | None = None
        self._fitting: Fitting | None = None
        self.predictor = Predictor(self.session)
        self.checked = Checked(self.session)

    def __getstate__(self) -> dict[str, Any]:
        """Without the `fit` that runs: a copy that a callback takes stands where this training stood, and is not in it."""
        return {**self.__dict__, "_fitting": None}

    model = Shared[Module]()
    loss = Shared[Metric]()
    optimizer = Shared[Optimizer]()
    max_norm = Shared[float | None]()
    history = Shared[History]()
    position = Shared[Position | None]()

    def __repr__(self) -> str:
        named = {"loss": name_of(self.loss), "optimizer": type(self.optimizer).__name__}
        rates = [f"{group['lr']:g}" for group in self.optimizer.param_groups]
        parts = [
            type(self.model).__name__,
            *(f"{key}={value}" for key, value in named.items()),
            f"lr={', '.join(rates)}",
        ]
        parts += [f"metrics=[{', '.join(self.metrics)}]"] if self.metrics else []
        return f"<Trainer: {', '.join(parts)}; {self.history.epochs} epochs>"

    @property
    def meaning(self) -> Meaning | None:
        """What the model's outputs mean: as ``output=`` says, else as the loss says; None where neither does."""
        return self.session.meaning

    @property
    def metrics(self) -> dict[str, Metric]:
        """What is measured beside the loss, by the name it has in the history."""
        return self.session.metrics

    # ---------------------------------------------------------------- training

    @renamed_keywords(FIT)
    def fit(
        self,
        X: object,
        y: object = None,
        epochs: int = 10,
        batch_size: int | None = None,
        validation_data: object = None,
        validation_split: float | None = None,
        seed: int = 0,
        shuffle: bool = True,
        progress: bool | IO[str] | Silent = True,
        callbacks: Callback | EpochFunction | Sequence[Callback | EpochFunction] = (),
        resume: bool = False,
        record: bool | str | os.PathLike[str] = False,
        sample_weight: object = None,
        class_weight: Classes | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        drop_last: bool = False,
        steps_per_epoch: int | None = None,
        micro_batches: int = 1,
    ) -> History:
        """Train for `epochs` passes over the rows, and return what each measured.

        Every row is used once an epoch; the last batch of an epoch may be short (``drop_last``). Ctrl-C stops after the native
        call that runs (within about 0.1 s): the model keeps the weights of that step, a line says so, and the history so
        far comes back with ``interrupted`` set. A second Ctrl-C raises. With a `Checkpoint`, SIGTERM is heard too where the
        program does not handle it: the training is written, and then the signal ends the process.

        Args:
            X: rows of features, shape (N, ...): floating values take the model's dtype, integers stay. Several arrays of
                N rows as a tuple go to the model as ``model(*X)``, as a dict ``model(**X)``. Or what holds more than fits into
                memory, read window by window: whatever `chainrule.data.as_source` takes (a Parquet file or folder, a loader, a
                function that gives batches ...), or its source. A batch is then x, ``(x, y)`` or ``(x, y, weight)``. Where columns
                have names, the trainer remembers them: later data is taken by name, whatever its order.
            y: a target for each row: class numbers (N,) for losses over classes, values of the output's shape else.
                Several as a tuple or dict; None where the loss is one of the outputs alone, ``loss(output)``. Of data with
                named columns (files, tables, frames) the name of one, which gives (N,), or a list of names, which gives
                (N, number of names): ``["price"]`` under a model with one output.
            epochs: how many passes, 0 or more (with ``resume``, counted from the very first).
            batch_size: rows a step; all of them where there are fewer. Default: 64; of a stream, the size of its batches.
            validation_data: ``(X, y)`` to evaluate after each epoch, or ``(X, y, sample_weight)``; or a source.
            validation_split: or a share of the rows to set aside for that; None or 0: none. What looks at single rows later (``trainer.run``,
                ``what_if``, a ledger) numbers those that are left, in their order, from 0 on.
            seed: of everything random: the rows' order, the validation split, and the training's own stream, which
                dropout draws from. One seed gives one result, to the bit; ``cr.manual_seed``'s stream stays as it is.
            shuffle: a new order each epoch (`chainrule.data.shuffled_indices`), or the rows as they come.
            progress: a live bar on a terminal, lines elsewhere; False for silence; or a stream to write to.
            callbacks: one or several `Callback`, or functions ``(trainer, epoch, measured)`` run after each epoch, which may
                change anything, modes too. A function that returns True ends the training.
            resume: go on where the latest `fit`, or the one that `load` brought back, stopped - to the bit, in the modes
                that it trained in: ``part.eval()`` counts in a callback, and between two calls is warned of.
            record: a folder, to keep what brings back any step exactly (``trainer.run``, ``cr.load_run``); True
                keeps it in a temporary folder, which goes with the trainer.
            sample_weight: how much each row weighs in the loss, shape (N,), 0 or more. The loss of a batch is then
                ``sum(w l) / sum(w)`` over its rows; a loss of your own must give a number for each row.
            class_weight: how much the rows of each class weigh, by class number (1 where it is not named), or
                ``"balanced"``: ``n / (k n_c)``. Both together are multiplied. Metrics count every row once.
            checkpoint: a folder for checkpoints (every ten seconds, and at the end). Where there are some already, the
                training goes on from the newest: so the same call, made again after any death of the process, ends
                with the same bits. Rows that have changed meanwhile are refused.
            drop_last: leave the last batch of an epoch out where it has fewer rows than the others (PyTorch's DataLoader's
                name). With shuffling, other rows are left out each epoch.
            steps_per_epoch: how many batches of a stream (a generator, a function, a loader) are an epoch. A stream that does not
                say how long it is, is gone through once to count its rows where this is None.
            micro_batches: in how many parts, a power of two, a step goes over its batch, forwards and back one after the other,
                with the memory of one: the update is that of the whole batch (Keras's and Lightning's accumulation of gradients,
                whose batches are the parts). Equal parts of 64 rows and more give its bits, others its numbers to rounding; see
                `cr.backward_in_micro_batches`. Batch normalization in training is refused, dropout draws anew for each part.

        Raises:
            DataError: data that cannot be trained on (empty, not finite, mismatched, labels out of range).
            ShapeError: rows that do not fit the model, by layer.
            NonFiniteError: the loss or a weight became NaN or infinite. The model keeps the last good weights.
            SettingError: an argument that cannot be.
        """
        with self.session.held("fit", nested=False):
            return self._fit(
                X, y, epochs, batch_size, validation_data, validation_split, seed, shuffle, progress, callbacks, resume,
                record, sample_weight, class_weight, checkpoint, drop_last, steps_per_epoch, micro_batches,
            )  # fmt: skip

    def _fit(
        self, X: object, y: object, epochs: int, batch_size: int | None, validation_data: object,
        validation_split: float | None, seed: int, shuffle: bool, progress: bool | IO[str] | Silent,
        callbacks: Callback | EpochFunction | Sequence[Callback | EpochFunction], resume: bool, record: bool | str | os.PathLike[str],
        sample_weight: object, class_weight: Classes | None, checkpoint: str | os.PathLike[str] | None,
        drop_last: bool, steps_per_epoch: int | None, micro_batches: int,
    ) -> History:  # fmt: skip
        session = self.session
        session.check()
        check_optimizer(session, "fit")
        counter("seed", seed)
        asked = Epochs(batch_size, steps_per_epoch, seed, bool(resume or checkpoint is not None), session.fed)
        shown, listening = report(progress), with_checkpoints(as_callbacks(callbacks), checkpoint)
        found = None if checkpoint is None else resuming.newest(session, os.fspath(checkpoint))
        known = session.columns if found is None else found.columns
        goes_on = bool(resume) or found is not None
        rows = self._data(X, y, asked, sample_weight, class_weight, validation_data, validation_split, known, goes_on)
        held_out = rows.held_out
        position = given.beginning(rows, batch_size, int(seed), bool(shuffle), drop_last, micro_batches)
        if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
            raise SettingError(f"fit: epochs must be a whole number, 0 or more, got {epochs!r}.")
        if record == "" or (not isinstance(record, (bool, str, os.PathLike)) and record is not None):
            raise SettingError(
                f"fit: record must be True, False or the path of a folder, got {record!r}. Pass record=True to keep one in "
                f"a temporary folder, or record='runs/mine'."
            )
        if record and position.micro_batches > 1:
            raise SettingError(
                f"fit: record= explains steps that go over their batch at once, got micro_batches={micro_batches}. Leave one of "
                f"the two out."
            )
        if record and isinstance(rows, SourceRows):
            raise SettingError(
                "fit: record= keeps what brings back any step, which takes rows in memory, and X is read window by window. Leave "
                "it out; checkpoint= goes on to the bit after any stop."
            )
        if checkpoint is not None and found is not None:
            resuming.go_on(session, found, position, rows, os.fspath(checkpoint))
            session.fed, resume = None, True
        self.checked.alone(rows, position.batching, resuming.modes(session, bool(resume)))
        kind = "recorded" if record else "training"
        training = session.program(kind, rows.x, rows.y, rows.weight, rows.window, position.micro_batches)
        validation = None
        if held_out is not None and held_out.window is None:
            validation = session.program("validation", held_out.x, held_out.y, held_out.weight)
        with session.beginning():
            self._begin(position, resume, rows)
            session.data = self._data_name(listening, rows)
            session.columns = rows.named or (session.columns if resume else None)
            begin(listening, session.carried)
            for callback in listening:
                callback.prepare(self)
            session.listen(listening, riders(listening))
            self.recorder = self._recorder(record, rows, resume) if record else None
        session.rows = session.fed = rows
        self._fitting = Fitting(
            self,
            session,
            training,
            validation,
            listening,
            shown,
            self.recorder,
            *given.by_windows(session, self.checked, rows, position),
        )
        try:
            return self._fitting.to(int(epochs))
        finally:
            self._fitting = None
            session.listened()

    @staticmethod
    def _data_name(listening: list[Callback], rows: Rows) -> str | None:
        """A name for the contents of the rows, where checkpoints are to tell it."""
        return resuming.of_rows(rows) if any(isinstance(c, Checkpoint) for c in listening) else None

    @property
    def stop(self) -> Callable[[], None]:
        """``trainer.stop()`` ends the running `fit` after the current epoch (for callbacks); so does ``stop = True``."""
        return partial(setattr, self, "stop", True)

    @stop.setter
    def stop(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise SettingError(
                f"Trainer: stop must be True or False, got {value!r}. Call trainer.stop() in a callback."
            )
        if self._fitting is not None:
            self._fitting.stopped = value

    def _data(
        self, X: object, y: object, asked: Epochs, sample_weight: object, class_weight: Classes | None,
        held_out: object, split: float | None, known: Named | None, goes_on: bool,
    ) -> Rows:  # fmt: skip
        split = given.share(split)
        if held_out is not None and split is not None:
            raise SettingError("fit: validation_data and validation_split were both given. Leave one of them out.")
        rows = given.rows(self.checked, X, y, asked, sample_weight, class_weight, named=known, strict=goes_on)
        if split is not None:
            return self._split(rows, split, asked.seed)
        if held_out is None:
            return rows
        return replace(rows, held_out=self._held_out(held_out, y, rows.named))

    def _held_out(self, data: Any, y: object, named: Named | None) -> Rows:
        """The rows to validate on.

        Args:
            y: the targets to train on, which may be names of columns.
            named: the columns to train on.
        """
        x, target, weight = given.pair(data, y)
        return given.rows(self.checked, x, target, sample_weight=weight, names=HELD_OUT, named=named)

    def _split(self, rows: Rows, share: float, seed: int) -> Rows:
        if isinstance(rows, SourceRows):
            raise SettingError(
                "fit: validation_split draws rows in memory, and X is read window by window. Give rows to validate on: "
                "validation_data=(X, y), or another source."
            )
        if not 0 < round(share * rows.count) < rows.count:
            raise DataError(
                f"fit: validation_split={share!r} of {rows.count} rows leaves none to train on or none to validate on. "
                f"Choose another share, or leave it out."
            )
        numbers = np.arange(rows.count)
        train, held_out, _, _ = train_test_split(numbers, numbers, share, seed)
        (x, y, weight), rest = (several.taken((rows.x, rows.y, rows.weight), some) for some in (train, held_out))
        return Rows(x, y, Rows(rest[0], rest[1], weight=rest[2]), weight, rows.named)

    def _begin(self, new: Position, resume: bool, rows: Rows) -> None:
        session, contents = self.session, resuming.contents(rows)
        if not resume:
            session.begin(new)
            session.contents = contents
            return
        if session.position is None:
            raise SettingError("fit: resume=True needs an earlier fit or load, got a new Trainer. Leave resume out.")
        resuming.check_same(session.position, new, "resume=True")
        resuming.check_rows(session, rows, contents)
        session.contents, session.history.interrupted, session.standing = contents, False, None

    def _recorder(self, record: bool | str | os.PathLike[str], rows: Rows, resume: bool) -> Recorder:
        """The record of the training that begins or goes on now."""
        session, kept = self.session, self.recorder if resume else None
        if session.position is None:
            raise SettingError("fit: a record begins with a position; this is a bug in chainrule.")
        folder = None if isinstance(record, bool) else os.fspath(record)
        if folder is None and kept is not None:
            folder = os.fspath(kept.folder)
        save = partial(saved.save, session, durable=False, recorded=True)
        recorder = Recorder(folder, describe(session, rows.parts), save, session.position.done, resume)
        recorder.temporary = recorder.temporary or (kept.temporary if kept is not None else None)
        recorder.data = rows.parts
        return recorder

    # ---------------------------------------------------------------- using the model

    @renamed_keywords(MEASURE)
    def evaluate(
        self, X: object, y: object = None, batch_size: int = 256, sample_weight: object = None
    ) -> dict[str, float]:
        """The loss and the metrics on these rows, in evaluation mode: ``{"loss": ..., "accuracy": ...}``.

        The loss and metrics given by name are of all rows, whatever the batches: also where labels are ignored, and classes or
        rows weighted. A metric that is a function, and a loss that is a sum of means over different rows, is the mean over
        the batches, weighted by their rows; one batch of all rows (``batch_size=len(X)``) gives it over all.

        Args:
            X, y: as for `fit`, sources too.
            batch_size: rows a step (cut to the number of rows).
            sample_weight: how much each row weighs in the loss, as for `fit`.

        Raises:
            DataError, ShapeError: as `fit`.
            BusyError: another thread trains or evaluates with this trainer.
        """
        session = self.session
        session.check()
        source = None if type(X) is np.ndarray else given.source_of(X, y, "evaluate: X", session.columns)
        if source is not None:
            with given.by_name(y):
                return given.evaluated(session, self.checked, source, batch_size, sample_weight)
        (X, y), _ = taken({"X": X, "y": y}, session.columns, "evaluate")
        rows = self.checked.rows(X, y, "evaluate", sample_weight)
        with session.held("evaluate"), session.mode(False):
            size = min(check_batch_size(batch_size, "evaluate"), rows.count)
            return steps.evaluate(session.program("evaluation", rows.x, rows.y, rows.weight), rows.count, size)

    @renamed_keywords(MEASURE)
    def predict(self, X: object, batch_size: int = 256) -> Any:
        """The model's output for each row, in evaluation mode, as a NumPy array: logits under ``F.cross_entropy``.

        Args:
            X: rows as for `fit`, sources too (of which the targets are left alone); after a `fit` that took columns by name, those
                columns of a file or frame. One row of a table is ``X[i:i+1]``. Several outputs come as the model gives them, in a
                tuple or dict of arrays.
            batch_size: rows a native call works on at once.

        Raises:
            DataError, ShapeError: as `fit`.
        """
        if type(X) is np.ndarray:
            return self.predictor(X, batch_size)
        known = self.session.columns
        source = given.source_of(X, None, "predict: X", known, labelled=False)
        if source is None:
            (X,), _ = taken({"X": X}, known, "predict")
            return self.predictor(X, batch_size)
        return given.predicted(source, self.predictor, batch_size)

    @renamed_keywords(MEASURE)
    def predict_proba(self, X: object, batch_size: int = 256) -> Array:
        """The probability of each class (axis 1) for each row, or of yes for outputs to yes-or-no questions.

        What the loss reads tells how they follow from the outputs: by ``softmax`` or ``sigmoid`` from logits, by
        ``exp`` from log-probabilities; probabilities are given as they are.

        Raises:
            SettingError: the outputs are values, it is not known what they mean, or they are not what the loss reads.
            NonFiniteError: the model gives numbers that are not finite.
            DataError, ShapeError: as `fit`.
        """
        meaning = self._classifying("predict_proba")
        found = meaning.probabilities(outputs := self.predict(X, batch_size))
        wrong = meaning.broken(found)
        if wrong:
            check_outputs("predict_proba", self.model, outputs)
            raise SettingError(
                f"predict_proba: under {name_of(self.loss)} the outputs are {meaning.words}, but of the probabilities "
                f"{wrong}. Give the model the last layer that this loss needs, or take a loss of logits."
            )
        return found

    @renamed_keywords(MEASURE)
    def predict_classes(self, X: object, batch_size: int = 256) -> Array:
        """The class of each row, int64: the likeliest along axis 1, or whether yes is likelier than no.

        Shape (N,) where a row has one answer, else that of the answers.

        Raises:
            SettingError: the outputs are values, or it is not known what they mean.
            DataError, ShapeError: as `fit`.
        """
        found = self._classifying("predict_classes").classes(self.predict(X, batch_size))
        return found.reshape(len(found)) if found.size == len(found) else found

    @renamed_keywords(MEASURE)
    def confusion_matrix(self, X: object, y: object, batch_size: int = 256, sample_weight: object = None) -> Array:
        """How many rows of class i (first axis) were said to be of class j (second axis), as scikit-learn's function of the name.

        Args:
            X, y: as for `fit`; every target is one class.
            batch_size: rows a native call works on at once.
            sample_weight: how much each row counts.

        Returns:
            (C, C), int64; float64 with weights. Two classes, no and yes, for answers to yes-or-no questions.

        Raises:
            SettingError: the outputs are values, or it is not known what they mean.
            DataError, ShapeError: as `fit`; or a target is a probability.

        Example:
            >>> import chainrule as cr
            >>> trainer = cr.Trainer(cr.nn.Identity(), "cross_entropy", cr.optim.SGD([cr.ones(1)], lr=0.1))
            >>> trainer.confusion_matrix([[2.0, 1.0], [1.0, 2.0], [0.0, 3.0]], [0, 0, 1]).tolist()
            [[1, 1], [0, 1]]
        """
        meaning = self._classifying("confusion_matrix")
        (X, y), _ = taken({"X": X, "y": y}, self.session.columns, "confusion_matrix")
        rows = self.checked.rows(X, y, "confusion_matrix", sample_weight)
        weight = None if sample_weight is None else np.asarray(sample_weight, np.float64)
        output = self.predict(X, batch_size)
        return confusion_matrix(meaning, output, rows.y, weight, option_of(self.loss, "ignore_index"))

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
        """Write everything the training is made of to one safetensors file: weights (the loss's too), optimizer,
        schedules, random streams, what is frozen, modes and settings of the modules, position and history.

        ``load`` of it followed by ``fit(resume=True)`` gives the bits that a training without a stop gives.

        Args:
            path: the file; replaced only once the new one is complete.
            durable: wait until the disk has it.

        Raises:
            UnwritableFileError: the folder or the disk does not take it.
            NonFiniteError: somebody put NaN or infinity into a weight since the latest step, from where no training
                goes on; what stood at `path` still stands.
        """
        saved.save(self.session, path, durable)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over everything `save` wrote; model, loss, optimizer and schedules must be built as they were then.

        Raises:
            DamagedFileError: the file is missing, cut off, changed, of another kind, or holds what no training comes to.
            StateDictError: it does not fit this model, loss or optimizer.
            SettingError: it is of another optimizer, or of other schedules.
        """
        saved.load(self.session, path)
        self.session.fed = None  # a file has a name for the rows it was trained on, and not the rows
