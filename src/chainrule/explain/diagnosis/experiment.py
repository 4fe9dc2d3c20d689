"""The laboratory: a run replayed from its first weights on the same batches, as it was or with a remedy.

Replays are exact: the rows' order, dropout and everything else random follow from the seed, so the replay
without a remedy ends in the bits of the run. What a remedy changes is therefore all that differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from chainrule.data.batches import shuffled_indices
from chainrule.errors import SettingError
from chainrule.explain.diagnosis import surgery
from chainrule.explain.diagnosis.remedies import Remedy
from chainrule.explain.diagnosis.task import Score, Task
from chainrule.optim import Optimizer
from chainrule.tensor.core import numbers
from chainrule.tensor.creation import tensor
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import drawing_from
from chainrule.training import inputs, state
from chainrule.training import steps as compiled
from chainrule.training.predict import Predictor
from chainrule.training.session import Rows, Session
from chainrule.training.standing import Standing
from chainrule.training.stretch import Batching

Array = np.ndarray[Any, Any]
AS_IT_WAS = Remedy()
MULTIPLY_ADDS = 4e9  # of the forward passes of one replay; a longer run is replayed over its first part only
LEAST_STEPS = 200
MEASURED_ROWS = 1024  # of the training rows, for a score, and of the rows held out, for one on the way
STOPPED_EPOCHS = 5  # a run that stopped early is replayed over at least so many passes


@dataclass
class Rerun:
    """What one replay gave."""

    losses: Array  # of every step
    train: Score
    val: Score
    held_out: Array = field(repr=False)  # outputs for the rows held out
    weights: list[Array] = field(repr=False, default_factory=list)
    finite: bool = True


class Laboratory:
    """The run of a trainer, ready to be replayed; use it as a context: the trainer is left as it was.

    Args:
        trainer: one that has fitted.

    Attributes:
        task: what is to be learned.
        x, y: the training rows; x_val, y_val: rows held out (the run's validation data, or a fifth of the rows).
        rows: the training rows that replays use.
        steps: of a replay; `cut`: whether the run took more.
    """

    def __init__(self, trainer: Any) -> None:
        surgery.check_fitted(trainer)
        self.trainer, self.model, self.loss = trainer, trainer.model, trainer.loss
        self.session: Session = trainer.session
        self.optimizer: Optimizer = trainer.optimizer
        self.position, self.history = trainer.position, trainer.history
        self.start, rows = _began(self.session)
        self.x, self.y, self.weight = rows.x, rows.y, rows.weight
        self._hold_out(rows.held_out)
        with inputs.evaluating(self.model):
            self.output_layer = surgery.output_layer(self.model, self.x[:2])
        self.sample = trainer.predict(self.x[:64])  # outputs of the trained model
        self.task = Task.of(self.loss, trainer.meaning, self.sample.shape, self.y)
        self.suspicious = np.zeros(len(self.x), bool)  # rows whose labels look wrong
        self._worlds: dict[tuple[Any, ...], tuple[Session, Predictor, state.Snapshot]] = {}
        self._known: dict[tuple[Any, ...], Rerun] = {}
        self.replays = 0

    def _hold_out(self, validation: Rows | None) -> None:
        self.rows = np.arange(len(self.x))
        self.validated = validation is not None
        if validation is not None:
            self.x_val, self.y_val = validation.x, validation.y
            return
        order = shuffled_indices(len(self.x), seed=2**32)
        held = order[: max(1, len(order) // 5)]
        self.rows = np.sort(order[len(order) // 5 :]) if len(held) >= 10 else self.rows
        self.x_val, self.y_val = self.x[held], self.y[held]

    def __enter__(self) -> Laboratory:
        self._preserved = surgery.preserved(self.session)
        self._preserved.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._preserved.__exit__(*error)

    # ---------------------------------------------------------------- the plan of a replay

    @property
    def taken(self) -> int:
        """The steps that the run took."""
        return int(self.position.epoch * self.position.steps + self.position.step)

    @property
    def unfinished(self) -> bool:
        """It stopped within an epoch."""
        return bool(self.position.step or not self.position.epoch)

    @property
    def budget(self) -> int:
        """The rows that a replay goes through, each as often as it is visited."""
        epochs, rows = self.position.epoch, self._visited
        if self.unfinished:
            epochs = max(epochs + 1, STOPPED_EPOCHS)
        weights = sum(p.numel() for p in self.model.parameters())
        return int(min(epochs * rows, max(LEAST_STEPS * self.position.batch_size, MULTIPLY_ADDS / max(1, weights))))

    @property
    def rate(self) -> float:
        """The learning rate that the run began with, of its first group that has one; 0 where none ever has."""
        used = self.used_rates
        return float(next(iter(used[used != 0]), 0.0))

    @property
    def steps(self) -> int:
        """The steps of a replay without a remedy."""
        return sum(len(part) for _, part in self.batches(AS_IT_WAS, 0, self.rows))

    @property
    def cut(self) -> bool:
        """The run took more steps than a replay."""
        return bool(self.budget < self.position.epoch * self._visited)

    @property
    def _visited(self) -> int:
        """The rows of an epoch that are in a batch."""
        rows = len(self.rows)
        return Batching(rows, min(self.position.batch_size, rows) or 1, self.position.drop_last).visited

    def batches(self, remedy: Remedy, seed: int, rows: Array) -> Iterator[tuple[Array, Array]]:
        """The rates (steps, groups) and the row numbers (steps, batch) of each native call, in order."""
        size = min(remedy.batch or self.position.batch_size, len(rows))
        left = max(1, round(self.budget * remedy.stop)) if size else 0
        epoch = 0
        while left > 0:
            order = rows[self._order(len(rows), seed, epoch)]
            if remedy.balance:
                order = self._balanced(order, seed + epoch)
            cut, done = Batching(len(order), size, self.position.drop_last), 0
            for part in compiled.batches(order[: cut.visited], size):
                taken = part[: -(-left // size)]
                if len(taken):
                    shares = (done + np.arange(len(taken))) / cut.steps
                    yield self.rates(epoch, shares), taken
                    left -= taken.size
                    done += len(taken)
            epoch += 1

    def rates(self, epoch: int, shares: Array) -> Array:
        """The rates of the run after these shares of an epoch, (steps, groups); beyond its end, its last."""
        per_epoch = self.position.steps if self.session.schedules.by_step else 1
        places = epoch * per_epoch + np.floor(shares * per_epoch + 1e-9).astype(int)
        found: Array = self._course[np.minimum(places, len(self._course) - 1)]
        return found

    @cached_property
    def used_rates(self) -> Array:
        """The rates of every step of a replay without a remedy, (steps, groups)."""
        return np.concatenate([rates for rates, _ in self.batches(AS_IT_WAS, 0, self.rows)])

    @cached_property
    def _course(self) -> Array:
        """The rates of the run by epoch; with schedules of every step, by step."""
        first = np.array([[group["lr"] for group in self.start.settings.groups]], np.float64)
        schedules = self.session.schedules
        if schedules.by_step:
            return np.concatenate([first[:0], *self._scheduled()]) if self.taken else first
        columns = [self.history.get("lr" if i == 0 else f"lr_{i}", []) for i in range(first.shape[1])]
        used = np.array(columns, np.float64).T.reshape(-1, first.shape[1])
        if not len(used):
            return first
        # What steps use is what the optimizer makes of the rate in its group, which a replay sets.
        with np.errstate(all="ignore"):
            return np.asarray(np.where((used[0] == first[0]) | (used[0] == 0), used, first * (used / used[0])))

    def _scheduled(self) -> Iterator[Array]:
        """The rates of every step, epoch by epoch, as the schedules give them once more."""
        schedules = self.session.schedules
        with self.session.lent():
            self.session.put_settings(self.start.settings)
            for epoch in range(self.position.epoch + 1):
                yield schedules.rates(self.optimizer, [(self.position.steps, False)])
                if epoch < self.history.epochs:
                    schedules.epoch_ended(self.history.row(epoch))

    def _order(self, count: int, seed: int, epoch: int) -> Array:
        if not self.position.shuffle:
            return np.arange(count)
        return shuffled_indices(count, self.position.seed + seed * 7919, epoch)

    def _balanced(self, order: Array, seed: int) -> Array:
        """As many rows, each class drawn equally often."""
        labels = self.task.labels(self.y)[order]
        rng = np.random.default_rng(seed)
        members = [order[labels == k] for k in np.unique(labels)]
        drawn = [rng.choice(m, -(-len(order) // len(members))) for m in members]
        return np.asarray(rng.permutation(np.concatenate(drawn))[: len(order)])

    # ---------------------------------------------------------------- replaying

    def replay(self, remedy: Remedy = AS_IT_WAS, seed: int = 0, rows: Array | None = None) -> Rerun:
        """The run again, with a remedy. `seed` 0 is the run's own; others change the order and what is drawn."""
        key = (remedy, seed, None if rows is None else rows.tobytes())
        if key not in self._known:
            with self.prepared(remedy, seed) as run:
                losses = [run(rates, index) for rates, index in self.batches(remedy, seed, self._rows(remedy, rows))]
                self._known[key] = self._measured(remedy, np.concatenate(losses))
            self.replays += 1
        return self._known[key]

    def _rows(self, remedy: Remedy, rows: Array | None) -> Array:
        chosen = self.rows if rows is None else rows
        return chosen[~self.suspicious[chosen]] if remedy.clean else chosen

    @contextmanager
    def prepared(self, remedy: Remedy, seed: int = 0) -> Iterator[Callable[[Array, Array], Array]]:
        """The model at its first weights with the remedy applied; gives the function that runs batches.

        That function takes rates (steps, groups) and row numbers (steps, batch), and returns the losses.
        """
        with surgery.preserved(self.session):
            self.session.go_to(self.start)
            with surgery.altered(self.model, remedy, self.output_layer):
                world, predictor, fresh = self._world(remedy)
                state.restore(fresh)
                self._draw(remedy, seed)
                program = world.program(
                    "training", self.inputs(self.x, remedy), self.targets(self.y, remedy), self.weight
                )
                self.predictor = predictor
                with world.training():
                    yield partial(self._run, program, world.optimizer, remedy)

    def _run(
        self, program: compiled.StepProgram, optimizer: Optimizer, remedy: Remedy, rates: Array, index: Array
    ) -> Array:
        """Some steps at these rates; their losses."""
        rates = rates[:, : len(optimizer.param_groups)]
        scaled = np.where(rates == 0, remedy.rate, rates) * remedy.lr
        for group, rate in zip(optimizer.param_groups, scaled[0].tolist(), strict=True):
            group["lr"] = rate
        given = scaled if self.session.schedules.by_step else None
        with np.errstate(all="ignore"):
            return program.run(index, given).values[:, 0]

    def _draw(self, remedy: Remedy, seed: int) -> None:
        stream = self.session.random
        if seed or remedy.init or remedy.activation:
            stream.manual_seed(self.position.seed + seed * 7919 + 1)
        if remedy.init or remedy.activation:
            with drawing_from(stream):
                surgery.draw_weights(self.model, remedy.activation)
        if remedy.init or remedy.activation or seed:
            stream.manual_seed(self.position.seed + seed * 7919)

    def _world(self, remedy: Remedy) -> tuple[Session, Predictor, state.Snapshot]:
        """The training with this structure in place of its own, made once; its optimizer's first state, if it is new."""
        key = remedy.structure
        if key not in self._worlds:
            optimizer = surgery.whole_optimizer(self.model, self.optimizer) if remedy.thaw else self.optimizer
            norm = self.start.settings.max_norm if not remedy.clip else remedy.clip if remedy.clip < math.inf else None
            world = self.session.variation(surgery.loss_of(self.loss, remedy), optimizer, norm)
            own = {id(handle) for handle, _ in self.start.values}
            new = [handle for handle in world.handles() if id(handle) not in own]
            self._worlds[key] = world, Predictor(world), state.values(new) if remedy.thaw else []
        if remedy.decay >= 0:
            surgery.set_decay(self._worlds[key][0].optimizer, remedy.decay)
        return self._worlds[key]

    def inputs(self, x: Array, remedy: Remedy) -> Array:
        """Inputs as the remedy gives them to the model."""
        return surgery.standardised(x, self.x) if remedy.inputs else x

    def targets(self, y: Array, remedy: Remedy) -> Array:
        """Targets as the remedy gives them to the loss."""
        if remedy.permute:
            y = y[shuffled_indices(len(y), seed=2**33)] if len(y) == len(self.y) else y
        return surgery.standardised(y, self.y) if remedy.targets else y

    def one_batch(self) -> Score:
        """The score on 16 rows after steps on them alone, as many as it takes to learn so few by heart."""
        few = self.rows[:: max(1, len(self.rows) // 16)][:16]
        with self.prepared(AS_IT_WAS) as run:
            order = np.resize(few, (LEAST_STEPS * 4, min(self.position.batch_size, 16)))
            run(np.repeat(self.rates(0, np.zeros(1)), len(order), axis=0), order)
            return self.score(AS_IT_WAS, self.x[few], self.y[few])

    # ---------------------------------------------------------------- measuring

    @property
    def sampled(self) -> Array:
        """The training rows that scores are of."""
        return self.rows[:: -(-len(self.rows) // MEASURED_ROWS)]

    def _measured(self, remedy: Remedy, losses: Array) -> Rerun:
        weights = [np.array(numbers(p)) for p in self.model.parameters()]
        finite = all(np.isfinite(w).all() for w in weights) and bool(np.isfinite(losses).all())
        train = self.score(remedy, self.x[self.sampled], self.y[self.sampled])
        held_out = self.outputs(remedy, self.x_val)
        return Rerun(losses, train, self.scored(remedy, held_out, self.y_val), held_out, weights, finite)

    def glance(self) -> Score:
        """The score on rows held out (a sample where there are many) of the replay as it was, where it stands."""
        every = -(-len(self.x_val) // MEASURED_ROWS)
        return self.score(AS_IT_WAS, self.x_val[::every], self.y_val[::every])

    def score(self, remedy: Remedy, x: Array, y: Array) -> Score:
        """The model's score on these rows as it is now, in evaluation mode."""
        return self.scored(remedy, self.outputs(remedy, x), y)

    def scored(self, remedy: Remedy, output: Array, y: Array) -> Score:
        """The score of outputs that a replay with this remedy gave, against the user's targets."""
        plain = replace(remedy, permute=False)
        task = replace(self.task, loss=remedy.loss, output=surgery.READ[remedy.loss]) if remedy.loss else self.task
        score = task.score(output, self.targets(y, plain), self.targets(self.y, plain))
        another = remedy.loss or remedy.targets  # not to be compared with the user's own numbers
        return score if another else replace(score, own=self._own_loss(output, y))

    def _own_loss(self, output: Array, y: Array) -> float:
        """The user's loss of these outputs, in evaluation mode."""
        with self.session.mode(False), self.session.beside(), no_grad(), np.errstate(all="ignore"):
            return float(self.loss(tensor(output), tensor(y)).item())

    def held_out_score(self, remedy: Remedy, replay: Rerun, rows: Array) -> Score:
        """The score of a replay on some of the rows held out, a mask over them."""
        return self.scored(remedy, replay.held_out[rows], self.y_val[rows])

    def outputs(self, remedy: Remedy, x: Array) -> Array:
        """The model's outputs for rows as they are given to the user's model."""
        with np.errstate(all="ignore"):
            found: Array = self.predictor(self.inputs(x, remedy), 256)
            return found


def _began(session: Session) -> tuple[Standing, Rows]:
    """Where the latest fit began, and on what."""
    if session.start is None or session.rows is None:
        raise SettingError("diagnose: this training has no fit of its own to look at. Call fit first.")
    return session.start, session.rows
