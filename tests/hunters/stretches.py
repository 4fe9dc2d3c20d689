"""Random trainings cut into stretches of 1, 2, k steps end as those in the longest: the same bits, history and last epoch.

A stretch is what one native call covers. How long it is goes by the clock, so its ends fall anywhere. Here the length is
given. ``python -m tests.hunters.stretches --count 1000``.
"""

from __future__ import annotations

import argparse
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.callbacks import EMA, Callback, Checkpoint, EarlyStopping, Freeze, Monitor, Watching
from chainrule.data.windows.pieces import PieceSource
from chainrule.errors import NonFiniteError
from chainrule.training import Trainer, judging
from chainrule.training.fitting import Fitting
from chainrule.training.steps import StepProgram

LONGEST = 10**6
FEATURES = 5


@contextmanager
def stretches_of(length: int) -> Iterator[None]:
    """Inside the block a stretch is so many steps long, as far as what has the floor in between lets it."""
    chunk = property(lambda self: length, lambda self, value: None)
    with (
        mock.patch.object(StepProgram, "chunk", chunk, create=True),
        mock.patch.object(Fitting, "_steps_a_pass", return_value=0.0),
        mock.patch.object(judging, "TRIED", 1),  # every second group of epochs ends where it is taken back
    ):
        yield


@dataclass
class Plan:
    """What was drawn, as names and numbers."""

    seed: int
    layers: list[str]
    optimizer: str
    schedule: str
    rows: int
    batch: int
    epochs: int
    options: dict[str, Any]
    source: str
    validation: str
    callbacks: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    interrupt: tuple[str, int] | None = None
    loss: str = "plain"
    halfway: bool = False  # the training is made by two calls of fit
    limit: int | None = None  # ask for the end at a pause after so many steps, as TimeLimit does
    metrics: list[str] = field(default_factory=list)
    max_norm: float | None = None


def drawn(seed: int) -> Plan:
    rng = np.random.default_rng(seed)

    def pick(items: Sequence[Any]) -> Any:
        return items[int(rng.integers(len(items)))]

    rows, batch = int(rng.integers(6, 40)), int(pick([3, 4, 7, 16]))
    rows += rows % batch == 1  # a batch of one row is none for batch_norm
    long = bool(pick([True, False]))  # with nothing that has the floor after each epoch
    validation, source = (
        pick(["none", "rows"] if long else ["none", "rows", "source"]),
        "none" if long else pick(["none", "windows"]),
    )
    plan = Plan(
        seed, pick([[], ["dropout"], ["norm"], ["norm", "dropout"]]), pick(list(OPTIMIZERS)), pick(list(SCHEDULES)[: 5 if long else None]), rows, batch,
        int(pick([7, 12, 30] if long else [1, 3, 6])), {"shuffle": bool(pick([True, True, False])), "drop_last": rows >= batch and bool(pick([True, False]))},
        source, validation, metrics=pick([[], ["accuracy"], ["accuracy", "f1", "roc_auc"]]), max_norm=pick([None, None, 0.5]),
    )  # fmt: skip
    if source == "none" and rng.random() < 0.3:
        plan.options["sample_weight"] = rng.uniform(0.5, 2, rows)
    if source == "none" and rng.random() < 0.3:
        plan.options["record"] = True
    known = [
        "loss",
        *plan.metrics[:1],
        *(["val_loss"] * 2 if validation != "none" else []),
        *(["val_roc_auc"] if validation != "none" and "roc_auc" in plan.metrics else []),
    ]
    for _ in range(int(rng.choice([0, 1, 1, 2]))):
        stops = {
            "monitor": pick(known), "patience": int(pick([0, 1, 4])), "restore_best_weights": bool(pick([True, False])),
            "min_delta": float(pick([0.0, 0.05])),
        }  # fmt: skip
        plan.callbacks.append(("EarlyStopping", stops))
    if rng.random() < 0.3:
        plan.callbacks.append(("Checkpoint", {"save": "best", "monitor": pick(known)}))
    for name in ("EMA", "pause") if long else ("EMA", "pause", "Freeze", "epochs", "steps"):
        if rng.random() < 0.2:
            plan.callbacks.append((name, {}))
    plan.loss, plan.halfway = pick(list(LOSSES)), bool(pick([True, False, False]))
    after = int(rng.integers(1, 3 * plan.epochs))
    if rng.random() < 0.4:
        plan.interrupt = pick(["on_pause", "judge"] if long else list(STOPS)), after
    elif rng.random() < 0.3 and not plan.halfway:
        plan.limit = after
    return plan


OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda p: optim.SGD(p, lr=0.3, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.05),
    "adamw": lambda p: optim.AdamW(p, lr=0.02),
    "wild": lambda p: optim.SGD(p, lr=1e9, momentum=0.9),  # until something is no longer finite
}

LOSSES: dict[str, Callable[[], Any]] = {
    "plain": lambda: "cross_entropy",
    "weighted": lambda: nn.CrossEntropyLoss(weight=cr.tensor([1.0, 3.0])),
    "ignoring": lambda: nn.CrossEntropyLoss(ignore_index=0),
}

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "none": lambda o: None,
    "epoch": lambda o: optim.lr_scheduler.StepLR(o, 2, 0.5),
    "step": lambda o: {"step": optim.lr_scheduler.LinearLR(o, total_iters=9)},
    "both": lambda o: {"step": optim.lr_scheduler.LinearLR(o, total_iters=9), "epoch": optim.lr_scheduler.StepLR(o, 2, 0.5)},
    "drawing": lambda o: {"step": optim.lr_scheduler.LambdaLR(o, lambda step: 1 + 0 * cr.rand(1).item())},
    "plateau": lambda o: optim.lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5),
    "step and plateau": lambda o: {
        "step": optim.lr_scheduler.LinearLR(o, total_iters=9), "epoch": optim.lr_scheduler.ReduceLROnPlateau(o, patience=0)
    },
    "lambda": lambda o: optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
}  # fmt: skip


class Pieces:
    """Rows in pieces of six, of which a window holds a few."""

    ahead = fixed = True

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y
        self.starts = list(range(0, len(x), 6))
        self.pieces: Sequence[int] = [min(6, len(x) - start) for start in self.starts]
        self.row_bytes: float | None = 1.0

    def read(self, parts: Any) -> Any:
        rows = np.concatenate([self.starts[p.piece] + np.arange(p.start, p.start + p.rows) for p in parts])
        return self.x[rows], self.y[rows]

    def identity(self) -> Sequence[Any]:
        return [self.x, self.y]


def windows(x: Any, y: Any) -> Any:
    return PieceSource(Pieces(x, y), buffer=15)


class Epochs(Callback):
    def on_epoch_end(self, trainer: Any, epoch: int, measured: Mapping[str, float]) -> None:
        cr.rand(2)  # of a stream of its own


class Steps(Callback):
    def on_steps(self, trainer: Any, step: int, loss: float) -> None:
        pass


class Pauses(Callback):
    def on_pause(self, trainer: Any) -> None:
        pass


CALLBACKS: dict[str, Callable[..., Any]] = {
    "Checkpoint": lambda **options: Checkpoint(tempfile.mkdtemp(), **options), "EarlyStopping": EarlyStopping, "EMA": lambda: EMA(0.9, validate=True), "Freeze": lambda: Freeze("0", until=2), "epochs": Epochs,
    "steps": Steps, "pause": Pauses,
}  # fmt: skip


class Stops(Callback):
    """Ctrl-C, or another error where the number is odd, once, at an event after so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done = steps, False

    def come(self, trainer: Any) -> None:
        if not self.done and trainer.session.position.done >= self.steps:
            self.stop()

    def stop(self) -> None:
        self.done = True
        raise InterruptedError if self.steps % 2 else KeyboardInterrupt


class StopsAtJudging(Watching, Stops):
    """The same in the middle of a stretch."""

    def __init__(self, epoch: int) -> None:
        Watching.__init__(self, Monitor("loss"))
        Stops.__init__(self, epoch)

    def judge(self, epoch: int, value: float, weights: Any) -> None:
        if not self.done and epoch >= self.steps // 2:
            self.stop()


class StopsAtEpochs(Stops):
    def on_epoch_end(self, trainer: Any, epoch: int, measured: Mapping[str, float]) -> None:
        self.come(trainer)


class StopsAtSteps(Stops):
    def on_steps(self, trainer: Any, step: int, loss: float) -> None:
        self.come(trainer)


class StopsAtPauses(Stops):
    def on_pause(self, trainer: Any) -> None:
        self.come(trainer)


class Limit(Callback):
    """`TimeLimit`, by steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_pause(self, trainer: Any) -> None:
        if trainer.session.position.done >= self.steps:
            trainer.stop()


STOPS: dict[str, type[Stops]] = {
    "on_epoch_end": StopsAtEpochs,
    "on_steps": StopsAtSteps,
    "on_pause": StopsAtPauses,
    "judge": StopsAtJudging,
}


def trained(plan: Plan, length: int) -> dict[str, Any]:
    """What a training in stretches of this length comes to."""
    rng = np.random.default_rng(plan.seed)
    x = rng.standard_normal((plan.rows + 9, FEATURES)).astype(np.float32)
    y = (x[:, 0] + 0.5 * rng.standard_normal(len(x)) > 0).astype(np.int64)
    y[::3] = 1  # no window without a label that counts
    cr.manual_seed(plan.seed)
    middle: dict[str, Callable[[], Any]] = {
        "dropout": lambda: nn.Dropout(0.3),
        "norm": lambda: nn.BatchNorm1d(6),
    }
    model = nn.Sequential(
        nn.Linear(FEATURES, 6),
        *(middle[name]() for name in plan.layers),
        nn.Tanh(),
        nn.Linear(6, 2),
    )
    optimizer = OPTIMIZERS[plan.optimizer](model.parameters())
    schedule = SCHEDULES[plan.schedule](optimizer)
    trainer = Trainer(
        model,
        LOSSES[plan.loss](),
        optimizer,
        plan.metrics,
        plan.max_norm,
        scheduler=schedule,
    )
    callbacks = [CALLBACKS[name](**options) for name, options in plan.callbacks]
    kept = list(callbacks)
    callbacks += [] if plan.limit is None else [Limit(plan.limit)]
    stops = None if plan.interrupt is None else STOPS[plan.interrupt[0]](plan.interrupt[1])
    options = {
        **plan.options,
        "seed": plan.seed,
        "batch_size": plan.batch,
        "progress": False,
    }
    held_out = x[plan.rows :], y[plan.rows :]
    if plan.validation != "none":
        options["validation_data"] = held_out if plan.validation == "rows" else windows(*held_out)
    data = (x[: plan.rows], y[: plan.rows]) if plan.source == "none" else (windows(x[: plan.rows], y[: plan.rows]),)

    def fit(epochs: int, resume: bool, callbacks: list[Any]) -> str:
        given = {"epochs": epochs, "resume": resume, "callbacks": callbacks, **options}
        try:
            with stretches_of(length):
                trainer.fit(*data, **given)
        except NonFiniteError as error:
            return str(error)
        except InterruptedError:
            return "stopped"
        return "stopped" if trainer.history.interrupted else ""

    stopping = [*callbacks, *([] if stops is None else [stops])]
    said = fit(plan.epochs // 2, False, stopping) if plan.halfway else ""
    if said in ("", "stopped"):
        said = fit(plan.epochs, plan.halfway, callbacks if said else stopping)
    if said == "stopped":
        said = fit(plan.epochs, True, callbacks)
    found: dict[str, Any] = {
        f"tensor {name}": t.detach().numpy().tobytes() for name, t in trainer.session.named().items()
    }
    moments = enumerate(value for slots in optimizer.state.values() for value in slots.values())
    found |= {f"moment {i}": value.numpy().tobytes() for i, value in moments}
    found |= {f"history {name}": list(column) for name, column in trainer.history.items() if name != "seconds"}
    found |= {
        "epochs": trainer.history.epochs,
        "steps": trainer.history.steps,
        "rates": [g["lr"] for g in optimizer.param_groups],
    }
    found |= {
        "said": said,
        "position": repr(trainer.session.position),
        "schedules": repr(trainer.session.schedules.state()),
    }
    found |= {
        "random": trainer.session.random.get_state().tolist(),
        "modes": [m.training for m in model.modules()],
    }
    found |= {f"callback {i}": repr(c.state_dict()) for i, c in enumerate(kept)}
    return found


def different(plan: Plan, lengths: Sequence[int]) -> str:
    """What is not as in the longest stretches; "" where nothing is."""
    expected = trained(plan, LONGEST) if plan.limit is None else {}
    for length in lengths if plan.limit is None else [*lengths, LONGEST]:
        found = trained(plan, length)
        if plan.limit is not None and found["said"]:
            continue  # an error that a training which ends before its epoch does not come to
        if plan.limit is not None:  # the end goes by where stretches end, but only that
            expected = trained(replace(plan, limit=None, epochs=found["epochs"]), LONGEST)
        wrong = [key for key in expected if not _same(expected[key], found.get(key))] + [
            k for k in found if k not in expected
        ]
        if wrong:
            return f"stretches of {length}: {wrong[0]} is {found.get(wrong[0])!r}, not {expected.get(wrong[0])!r} (of {wrong})\n{plan}"
    return ""


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) or repr(a) == repr(b)  # NaN, also in lists


def hunt(start: int, count: int) -> dict[int, str]:
    """By seed, what was found."""
    found = {}
    for seed in range(start, start + count):
        plan = drawn(seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                wrong = different(plan, [1, 2, int(np.random.default_rng(seed).integers(3, 9))])
        except Exception:
            wrong = f"{plan}\n{traceback.format_exc()}"
        if wrong:
            found[seed] = wrong
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    asked = parser.parse_args()
    for number in range(asked.start, asked.start + asked.count):
        for seed, text in hunt(number, 1).items():
            print(f"--- seed {seed}\n{text}", flush=True)
