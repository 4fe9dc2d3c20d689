"""Trainings that are stopped at random moments and resumed, each compared bit for bit with one that was not.

    python tests/training/stops.py COUNT [FIRST] [--all]     so many trials, in processes of their own where they are killed

What a trial's number decides: the optimizer, the schedules (by epoch, by step, both), clipping, dropout, a loss with
parameters and buffers, validation, callbacks that freeze, anneal, switch modes, draw and leave gradients behind, early
stopping with the best weights restored, averaged weights, frozen layers, checkpoints of the best, the last and every few
epochs, logs, a limit of time, functions of every epoch, exact metrics, whether the rows are arrays, files read by windows
or a stream, whether it is recorded, and the moment of the stop. With ``--all``, every callback is there at once.
"""

from __future__ import annotations

import atexit
import builtins
import csv
import errno
import functools
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.training import Callback, EarlyStopping, Trainer
from chainrule.training.callbacks import (
    EMA,
    Checkpoint,
    CSVLogger,
    Freeze,
    MLflow,
    TensorBoard,
    TimeLimit,
    WandB,
    checkpoint,
)

EPOCHS, SIZE = 9, 16
KINDS = ("line", "error", "line", "disk", "term", "kill", "death", "end")
ALL = "CHAINRULE_STOPS_ALL"  # in the environment, for the processes that are started, too: every callback at once
rng = np.random.default_rng(0)
X = rng.standard_normal((150, 6)).astype(np.float32)
y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


class Weighted(nn.Module):
    """A loss that learns a scale and keeps a running mean."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(cr.ones(()))
        self.register_buffer("mean", cr.zeros(()))
        self.weight = 1.0

    def forward(self, output, target):
        loss = F.cross_entropy(output, target)
        if self.training:
            with cr.no_grad():
                self.mean.mul_(0.9).add_(loss.detach() * 0.1)
        return self.weight * loss * self.scale.exp() - 0.1 * self.scale + 0.01 * self.mean


class Meddling(Callback):
    """Changes what it may, as a function of the epoch alone."""

    def __init__(self, chosen):
        self.chosen = chosen

    def on_epoch_end(self, trainer, epoch, measured):
        model = trainer.model
        if "freeze" in self.chosen:
            model[0].weight.requires_grad_(epoch % 3 != 1)
        if "anneal" in self.chosen:
            model[2].p = 0.5 / epoch
        if "weigh" in self.chosen and isinstance(trainer.loss, Weighted):
            trainer.loss.weight = 1 + 1 / epoch
        if "mode" in self.chosen:
            model[2].train(epoch % 2 == 0)
        if "noise" in self.chosen:
            with cr.no_grad():
                model[3].bias.add_(cr.randn(2) * 0.01)
        if "gradient" in self.chosen and epoch == 4:
            (model(cr.tensor(X[:8])) ** 2).sum().backward()
        if "clip" in self.chosen:
            trainer.max_norm = 1.0 / epoch


class Saving(Callback):
    """Saves after every epoch; what was saved last is what a killed training leaves."""

    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, trainer, epoch, measured):
        trainer.save(self.path)


class Ending(Callback):
    """Ends the training after an epoch, as who has seen enough for now."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, epoch, measured):
        if epoch == self.epoch:
            trainer.stop()


class Failing(Callback):
    """Raises after an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, trainer, epoch, measured):
        if epoch == self.epoch:
            raise ValueError("on purpose")


class Told:
    """In the place of TensorBoard, MLflow and Weights & Biases: what each was told of which epoch."""

    def __init__(self):
        self.values = {}

    def add_scalar(self, name, value, epoch):
        self.values["TensorBoard", epoch, name] = value

    def log_metrics(self, measured, step):
        self.values |= {("MLflow", step, name): value for name, value in measured.items()}

    def log(self, measured, step):
        self.values |= {("WandB", step, name): value for name, value in measured.items() if name != "epoch"}

    def flush(self):
        pass

    def check(self, history):
        """Everybody who was told anything was told of every epoch to the last, and of each what it measured."""
        for (who, epoch, name), value in self.values.items():
            assert history.row(epoch - 1)[name] == value, (who, epoch, name)
        heard = {who: {epoch for other, epoch, _ in self.values if other == who} for who, _, _ in self.values}
        for who, epochs in heard.items():
            assert epochs == set(range(min(epochs), history.epochs + 1)), (who, epochs)


def slower(trainer, epoch, measured):
    """A function of every epoch."""
    trainer.optimizer.param_groups[0]["lr"] *= 1 - 0.1 / epoch


def writing(dice, folder, held_out):
    """The callbacks that write, end or listen, each drawn for itself; and what those were told who listen."""
    told = Told()
    watched = "val_loss" if held_out else "loss"
    ways = [
        lambda: CSVLogger(folder / "log.csv"),
        lambda: Checkpoint(folder / "best", "best", monitor=watched, keep=dice.choice([1, None])),
        lambda: Checkpoint(folder / "every", every=dice.randrange(1, 4)),
        lambda: Checkpoint(folder / "last", seconds=0.0),
        lambda: TensorBoard(writer=told),
        lambda: MLflow(told),
        lambda: WandB(told),
        lambda: TimeLimit(3600),
        lambda: slower,
    ]
    return [way() for way in ways if dice.random() < 0.25 or ALL in os.environ], told


def make(seed, folder):
    """The training that the seed decides, whose callbacks write into a folder; and what the listening ones were told.

    What its first weights are is not the resumed one's business.
    """
    dice, every = random.Random(seed), ALL in os.environ
    folder.mkdir(parents=True, exist_ok=True)
    cr.manual_seed(seed)
    loss = dice.choice([F.cross_entropy, nn.CrossEntropyLoss(), Weighted()])
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))
    extra = list(loss.parameters()) if isinstance(loss, Weighted) else []
    kind = dice.choice([optim.Adam, optim.AdamW, optim.SGD, optim.RMSprop])
    more = {"momentum": 0.9} if kind is optim.SGD and dice.random() < 0.5 else {}
    groups = [{"params": list(model[0].parameters())}, {"params": [*model[3].parameters(), *extra], "lr": 0.02}]
    optimizer = kind(groups, lr=0.01, **more)
    by_epoch = dice.choice(
        [
            lambda: optim.lr_scheduler.StepLR(optimizer, 2, 0.7),
            lambda: optim.lr_scheduler.CosineAnnealingLR(optimizer, 6),
            lambda: optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5),
        ]
    )
    by_step = dice.choice(
        [
            lambda: optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=20),
            lambda: optim.lr_scheduler.ExponentialLR(optimizer, 0.99),
        ]
    )
    schedule = dice.choice(
        [
            lambda: None,
            by_epoch,
            by_epoch,
            lambda: {"step": by_step()},
            lambda: {"step": by_step(), "epoch": by_epoch()},
        ]
    )()
    if every:
        plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        schedule = {"step": by_step(), "epoch": [optim.lr_scheduler.StepLR(optimizer, 2, 0.7), plateau]}
    norm = dice.choice([None, 0.5])
    trainer = Trainer(
        model, loss, optimizer, dice.choice([["accuracy"], ["f1_macro", "accuracy"]]), norm, "logits", schedule
    )
    names = ["freeze", "anneal", "weigh", "mode", "noise", "gradient", "clip"]
    chosen = {name for name in names if dice.random() < 0.35} if dice.random() < 0.7 else set()
    held_out = (X[:40], y[:40]) if dice.random() < 0.5 or every else None
    callbacks = [Meddling(chosen)] if chosen else []
    if dice.random() < 0.6 or every:
        watched = dice.choice(["loss", "accuracy", *(["val_loss", "val_accuracy"] if held_out else [])])
        stopping = EarlyStopping(watched, patience=dice.randrange(4), restore_best_weights=dice.random() < 0.7 or every)
        callbacks.insert(dice.randrange(len(callbacks) + 1), stopping)
    if dice.random() < 0.3 or every:
        callbacks.insert(dice.randrange(len(callbacks) + 1), EMA(dice.choice([0.5, 0.9]), validate=seed % 2 == 0))
    if (not chosen and dice.random() < 0.4) or every:  # who meddles freezes the first layer's weight
        frozen = dice.choice(["3.bias", "3.bias" if "freeze" in chosen else "0"])
        callbacks.append(Freeze(frozen, until=dice.randrange(1, 7)))
    written, told = writing(dice, folder, held_out)
    for callback in written:
        callbacks.insert(dice.randrange(len(callbacks) + 1), callback)
    given = {"validation_data": held_out, "drop_last": dice.random() < 0.3}
    source = dice.choice([None, None, mapped, files, stream])
    if source is stream and dice.random() < 0.5:
        given["steps_per_epoch"] = 7
    return trainer, callbacks, {"source": source, "told": told, **given}


@functools.cache
def folder():
    """Where the rows lie as files: written once, for this process and those that it starts."""
    if "CHAINRULE_STOPS" not in os.environ:
        os.environ["CHAINRULE_STOPS"] = tempfile.mkdtemp()
        atexit.register(shutil.rmtree, os.environ["CHAINRULE_STOPS"], ignore_errors=True)
        np.save(f"{os.environ['CHAINRULE_STOPS']}/x.npy", X)
        np.save(f"{os.environ['CHAINRULE_STOPS']}/y.npy", y)
        with suppress(ImportError):
            write_parquet(Path(os.environ["CHAINRULE_STOPS"]))
    return Path(os.environ["CHAINRULE_STOPS"])


def write_parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = pa.table({**{f"x{i}": X[:, i] for i in range(6)}, "y": y})
    for number in range(2):
        parquet.write_table(table.slice(75 * number, 75), path / f"{number}.parquet", row_group_size=20)


def mapped():
    """Windows of 48 rows, from memory maps."""
    return cr.data.as_source(tuple(np.load(folder() / name, mmap_mode="r") for name in ("x.npy", "y.npy")), buffer=1600)


def files():
    """The same from Parquet files, where they can be read."""
    if not list(folder().glob("*.parquet")):
        return mapped()
    return cr.data.as_source(folder(), target="y", buffer=1600)


def stream():
    """A function that gives batches of several sizes, of two windows."""

    def batches(epoch):
        order = np.random.default_rng(epoch).permutation(len(X))
        return ((X[part], y[part]) for part in np.split(order, [20, 40, 90]))

    return cr.data.as_source(batches, buffer=3000)


def fit(trainer, callbacks, given, **options):
    options = {**given, **options}
    source, told = options.pop("source"), options.pop("told")
    rows = {"X": X, "y": y} if source is None else {"X": source()}
    trainer.fit(**rows, epochs=EPOCHS, batch_size=SIZE, seed=3, progress=False, callbacks=callbacks, **options)
    told.check(trainer.history)


def bits(trainer, folder):
    """Every bit of where the training stands (weights, moments, streams, schedules, settings, history), and of its files."""
    session = trainer.session
    total = hashlib.blake2b(digest_size=12)
    for handle in session.handles():
        total.update(handle._node.value.tobytes())
    settings = session.settings()
    shown = {name: column for name, column in trainer.history.items() if name != "seconds"}
    total.update(repr((settings.groups, settings.schedules, settings.modules, settings.trained)).encode())
    total.update(repr((settings.max_norm, session.position, shown, trainer.history.steps)).encode())
    total.update(repr(left(folder)).encode())
    return total.hexdigest()


def left(folder):
    """What the callbacks left: the log but for the seconds, and the tensors of the newest files."""
    found = []
    with suppress(FileNotFoundError), open(folder / "log.csv", encoding="utf-8", newline="") as file:
        found = [{**row, "seconds": ""} for row in csv.DictReader(file)]
    for kind in ("best", "every"):
        for path in sorted((folder / kind).glob("*.safetensors"), key=lambda path: (len(path.name), path.name))[-1:]:
            tensors = cr.load(path) if kind == "best" else {}
            found.append((path.name, {name: value.numpy().tobytes() for name, value in tensors.items()}))
    return found


def spared(path, seed, kind, share, recorded, during=lambda function: function()):
    """Train until the stop; then save, where the process lives on."""
    trainer, callbacks, given = made(path, seed, kind, share)
    recorded = recorded and given["source"] is None
    trainer.save(path)
    try:
        during(lambda: fit(trainer, callbacks, given, record=path.parent / "run" if recorded else False))
    except (Stop, SystemExit, ValueError):
        pass
    except OSError:  # the disk was full, for a callback that saves: what it saved before is there
        return
    if kind != "kill":
        trainer.save(path)


def made(path, seed, kind, share=1.0, folder="logs"):
    """The seed's training, with the callbacks that save it or stop it in front of the others or behind them."""
    trainer, callbacks, given = make(seed, path.parent / folder)
    dice = random.Random(seed * 7 + 1)
    saving = [Saving(path)] if kind == "kill" or (kind == "disk" and dice.random() < 0.5) else []
    failing = [Failing(1 + int(share * EPOCHS) if share < 1 else 0)] if kind == "error" else []
    if kind == "end" and share < 1:
        failing = [TimeLimit(0) if dice.random() < 0.3 else Ending(1 + int(share * EPOCHS))]
    orders = [[*callbacks, *saving, *failing], [*saving, *failing, *callbacks]]
    return trainer, orders[dice.random() < 0.5], given


class Stop(BaseException):
    """Raised between any two lines."""


def lines(function, at=None):
    """Call the function and count the lines of the training's own code; raise `Stop` before line number `at`."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        if "/chainrule/training/" not in frame.f_code.co_filename and "stops.py" not in frame.f_code.co_filename:
            return None
        if event == "line":
            count += 1
            if count == at:
                sys.settrace(None)
                raise Stop
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def full(share, seconds, function):
    """Call the function on a disk that is full from some moment on, for records and checkpoints alike."""
    until = time.perf_counter() + share * seconds
    kept = {name: getattr(os, name) for name in ("fsync", "replace", "write")}
    opened = builtins.open

    def failing(original):
        def call(*args, **kwargs):
            if time.perf_counter() > until:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(*args, **kwargs)

        return call

    def opening(name, mode="r", *args, **kwargs):
        if time.perf_counter() > until and any(letter in mode for letter in "wa"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(name, mode, *args, **kwargs)

    for name, original in kept.items():
        setattr(os, name, failing(original))
    builtins.open = opening
    try:
        function()
    finally:
        builtins.open = opened
        for name, original in kept.items():
            setattr(os, name, original)


def end(kind, seconds):
    """Let the system end this process after so long, whatever it does then."""
    number = signal.SIGKILL if kind == "kill" else signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()


def whole(seed):
    """The bits of the training without a stop, and how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, callbacks, given = make(seed, Path(folder) / "logs")
        began = time.perf_counter()
        fit(trainer, callbacks, given)
        return bits(trainer, Path(folder) / "logs"), time.perf_counter() - began


def resumed(path, seed, kind, recorded):
    """The training that the stopped one left, to its end, and where it is recorded, replayed in two places."""
    trainer, callbacks, given = made(path, seed, kind)
    recorded = recorded and given["source"] is None
    trainer.load(path)
    resume, folder = trainer.position is not None, "logs"
    if not resume:  # it had not begun
        folder = "other logs"
        trainer, callbacks, given = made(path, seed, kind, folder=folder)
    record = path.parent / ("run" if resume and (path.parent / "run").exists() else "again") if recorded else False
    fit(trainer, callbacks, given, resume=resume, record=record)
    if recorded:
        for step in {trainer.run.first_step, (trainer.run.first_step + trainer.run.replay.end) // 2}:
            assert trainer.run.at(step).proved or step == trainer.run.replay.end
    return bits(trainer, path.parent / folder)


def deaths(folder, seed, shares):
    """A training with ``fit(checkpoint=)`` that is killed once for each share of its time, and then left to its end."""
    kept, (expected, seconds) = Path(folder) / "kept", whole(seed)
    for share in shares:
        command = [sys.executable, "-W", "ignore", __file__, "--die", str(kept), str(seed)]
        subprocess.run([*command, str(share * seconds)], check=False, timeout=300)
    return going_on(kept, seed), expected


def going_on(kept, seed):
    """The call that is made again and again until it ends, with a file at every pause."""
    checkpoint.SECONDS = 0.0
    trainer, callbacks, given = make(seed, kept / "logs")
    logs = [CSVLogger(kept / "epochs.csv"), checkpoint.Checkpoint(kept, "best", monitor="loss")]
    fit(trainer, [*callbacks, *logs], given, checkpoint=kept)
    assert (kept / "epochs.csv").read_text().count("\n") == trainer.history.epochs + 1
    return bits(trainer, kept / "logs")


def trial(folder, seed, kind, known=None):
    """One training stopped and resumed: the bits it ended with, and those it should have."""
    dice = random.Random(seed * 11 + KINDS.index(kind))
    share, recorded, path = dice.random(), dice.random() < 0.5, Path(folder) / "saved.safetensors"
    if kind == "death":
        return deaths(folder, seed, [dice.random() for _ in range(dice.randrange(1, 4))])
    expected, seconds = known or whole(seed)

    def stop(during=lambda function: function()):
        spared(path, seed, kind, share, recorded, during)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # records that end, and many traces
        if kind == "line":
            with tempfile.TemporaryDirectory() as other:
                count = lines(lambda: spared(Path(other) / path.name, seed, kind, share, recorded))
            with suppress(Stop):
                lines(stop, 1 + int(share * count))
        elif kind == "disk":
            stop(lambda function: full(share, seconds, function))
        elif kind in ("error", "end"):
            stop()
        else:
            command = [sys.executable, "-W", "ignore", __file__, "--stop", str(path), str(seed), kind]
            subprocess.run([*command, str(share), str(int(recorded)), str(seconds)], check=False, timeout=300)
        if not path.exists():
            return expected, expected  # it ended before anything was begun
        return resumed(path, seed, kind, recorded), expected


def main():
    if sys.argv[1] == "--stop":
        path, seed, kind, share, recorded, seconds = sys.argv[2:]
        end(kind, float(share) * float(seconds) + 0.05)
        spared(Path(path), int(seed), kind, float(share), recorded == "1")
        return
    if sys.argv[1] == "--die":
        end("kill", float(sys.argv[4]) + 0.05)
        going_on(Path(sys.argv[2]), int(sys.argv[3]))
        return
    if "--all" in sys.argv:
        sys.argv.remove("--all")
        os.environ[ALL] = "1"
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    wrong = []
    warnings.simplefilter("ignore")
    for number in range(first, first + count):
        seed, kind = number, KINDS[number % len(KINDS)]
        with tempfile.TemporaryDirectory() as folder:
            try:
                found, expected = trial(folder, seed, kind)
            except Exception as error:
                found, expected = f"{type(error).__name__}: {error}", ""
        if found != expected:
            wrong.append((seed, kind))
            print(f"seed {seed}, {kind}: {found} instead of {expected}", flush=True)
    print(f"{count} trainings stopped and resumed, {len(wrong)} with other bits: {wrong}")


if __name__ == "__main__":
    main()
