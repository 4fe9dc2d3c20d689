"""Many trainings at once: each on one thread, in the compiled steps that all trainings like it share."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from chainrule.compiler.threads import get_num_threads
from chainrule.errors import DataError, SettingError, unknown_name
from chainrule.files.reading import read_whole
from chainrule.files.writing import write_whole
from chainrule.tensor.creation import tensor
from chainrule.tensor.random import default_generator
from chainrule.training.history import History
from chainrule.training.pools import by_processes, by_threads
from chainrule.training.trainer import Trainer
from chainrule.training.trials import Config, Outcome, Trials

MOST = 1 << 28  # bytes of sweep.json
SMALLEST = {"loss", "mse", "mae", "rmse", "seconds"}  # measures of which less is better, with or without "val_"


class Sweep(Sequence[Any]):
    """The trainings of a `sweep`, in the order of their configurations.

    ``len(sweep)``, ``sweep[i]``: the `Trainer` of configuration i, trained.

    Attributes:
        configs: the configurations.
        histories: what each epoch of each measured; None where a training was not begun.
        errors: by number, the exceptions that ended trainings.
        interrupted: Ctrl-C ended it before its last training.
    """

    def __init__(self, configs: Sequence[Config], folder: Path | None) -> None:
        self.configs, self.folder = list(configs), folder
        self.histories: list[History | None] = [None] * len(configs)
        self.errors: dict[int, Exception] = {}
        self.interrupted = False
        self._trainers: list[Trainer | None] = [None] * len(configs)
        self._away: dict[int, Callable[[], Trainer | None]] = {}  # how to come by those that another process trained

    def __len__(self) -> int:
        return len(self.configs)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        at = range(len(self))[number]
        if at in self._away:
            self._trainers[at] = self._away.pop(at)()
        trainer = self._trainers[at]
        if trainer is None:
            error = self.errors.get(at)
            raise DataError(f"sweep: training {number} {f'ended with: {error}' if error else 'was not run'}.")
        return trainer

    def put(self, outcome: Outcome, trials: Trials) -> None:
        """This came of one of them."""
        at, packed = outcome.number, outcome.packed
        self._trainers[at], self.histories[at] = outcome.trainer, outcome.history
        if outcome.error is not None:
            self.errors[at] = outcome.error
        elif outcome.trainer is None:
            self._away[at] = partial(trials.kept, at) if packed is None else partial(pickle.loads, packed)

    def table(self) -> list[dict[str, Any]]:
        """A row for each training: its number, its configuration and what its last epoch measured."""
        rows = []
        for number, (config, history) in enumerate(zip(self.configs, self.histories, strict=True)):
            last = history.row(history.epochs - 1) if history is not None and history.epochs else {}
            rows.append({"training": number, **config, **last})
        return rows

    def best(self, measure: str = "val_loss", mode: str = "auto") -> int:
        """The number of the training whose last epoch is best by a measure.

        Args:
            measure: a name in the histories.
            mode: "min", "max", or "auto": losses and errors the least, others the most.

        Raises:
            UnknownNameError: no training has such a measure.
            SettingError: another mode.
        """
        if mode not in ("auto", "min", "max"):
            raise SettingError(f"Sweep.best: mode must be 'auto', 'min' or 'max', got {mode!r}.")
        ended = {i: h[measure][-1] for i, h in enumerate(self.histories) if h is not None and measure in h}
        ended = {i: value for i, value in ended.items() if value == value}
        if not ended:
            known = sorted({name for h in self.histories if h is not None for name in h})
            raise unknown_name("measure", measure, known)
        least = mode == "min" or (mode == "auto" and measure.removeprefix("val_").split("_")[-1] in SMALLEST)
        return (min if least else max)(ended, key=lambda i: ended[i])

    def __repr__(self) -> str:
        done = sum(history is not None for history in self.histories)
        return f"<Sweep: {done} of {len(self)} trainings{f', {len(self.errors)} failed' if self.errors else ''}>"


def sweep(
    build: Callable[..., Trainer],
    configs: Mapping[str, Sequence[Any]] | Sequence[Config],
    X: object,
    y: object = None,
    *,
    threads: int | None = None,
    processes: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
    **fit: Any,
) -> Sweep:
    """Train one network for each configuration, several at once, each with the bits of a training of its own.

    Trainings that differ only in numbers (first weights, learning rates, dropout, weight decay ...) run in the same
    compiled steps; every training runs on one thread, and `threads` or `processes` of them at a time. Threads share Python,
    which is what small networks on few rows mostly wait for, and networks of different architectures while they are
    compiled; processes share nothing, start later, and send what they trained back.

    Args:
        build: ``build(**config)`` gives a `Trainer` that has not trained yet. What it draws without naming a seed comes from
            a stream of its own, of the default generator and the number of the configuration.
        configs: a dict of lists, for all combinations (the last varies fastest); or a list of dicts.
        X, y: as for ``Trainer.fit``.
        threads: how many trainings at a time; default: the number of threads that programs may use.
        processes: train in so many processes instead. How they start is up to Python's ``multiprocessing``; where it is not by
            fork, `build` must be a function at the top of a module, called under ``if __name__ == "__main__":``.
        folder: keep each training there as it ends; a sweep that is called again with the same folder and configurations
            goes on where it was stopped.
        progress: ``progress(done, of)``, called after each training.
        fit: further arguments of ``Trainer.fit``; of ``callbacks`` each training has copies of its own. A key of a configuration that ``fit`` takes (``epochs``,
            ``batch_size``, ``seed``, ``shuffle``, ``drop_last``, ``sample_weight``, ``class_weight``) goes there, one that `build` takes
            goes to `build`, and ``seed`` to both.

    Raises:
        SettingError: a configuration has a key that neither takes, or `build` gives no new Trainer.

    An error that ends a training is kept in ``errors``, and the others go on. Ctrl-C ends the sweep after the trainings that
    run; what is done comes back.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> def build(lr, seed):
        ...     _ = cr.manual_seed(seed)
        ...     return cr.Trainer(nn.Linear(64, 10), "cross_entropy", "adam", lr=lr)
        >>> X, y = cr.data.load("digits").train
        >>> found = cr.sweep(build, {"lr": [0.001, 0.01], "seed": [0, 1]}, X, y, epochs=2)
        >>> found, found.configs[found.best("loss")]["lr"]
        (<Sweep: 4 of 4 trainings>, 0.01)
    """
    chosen = _configs(configs)
    if threads is not None and processes is not None:
        raise SettingError(
            "sweep: trainings go to threads or to processes, got threads= and processes=. Leave one out."
        )
    workers = min(_workers(*(
        ("threads", threads, get_num_threads()) if processes is None else ("processes", processes, 1)
    )), max(1, len(chosen)))  # fmt: skip
    found = Sweep(chosen, Path(folder) if folder is not None else None)
    trials = Trials(
        build, chosen, X, y, {"progress": False, **fit}, found.folder, default_generator.get_state().tolist()
    )
    trials.check()
    if found.folder is not None:
        _check_folder(found.folder, chosen)
    numbers = itertools.takewhile(lambda _: not found.interrupted, range(len(chosen)))
    with _drawn_once():
        pool = (
            by_threads(trials.whole, numbers, workers) if processes is None else by_processes(trials, numbers, workers)
        )
        with closing(pool):
            _take(found, trials, pool, progress)
    found.interrupted = len(found.errors) + sum(h is not None for h in found.histories) < len(chosen)
    return found


@contextmanager
def _drawn_once() -> Iterator[None]:
    """Whatever the block draws from the default generator, afterwards it stands one step further."""
    seed, step = default_generator.get_state().tolist()
    try:
        yield
    finally:
        default_generator.set_state(tensor([seed, step + 1]))


def _configs(given: Mapping[str, Sequence[Any]] | Sequence[Config]) -> list[Config]:
    if isinstance(given, Mapping):
        wrong = [key for key, values in given.items() if isinstance(values, str) or not hasattr(values, "__iter__")]
        if wrong:
            raise SettingError(
                f"sweep: configs must have a list of values for each key, got {given[wrong[0]]!r} for {wrong[0]!r}. "
                f"Write {{{wrong[0]!r}: [{given[wrong[0]]!r}]}}."
            )
        return [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]
    for one in given:
        if not isinstance(one, Mapping):
            raise SettingError(f"sweep: configs must be a dict of lists, or a list of dicts, got {one!r} in it.")
    return [dict(one) for one in given]


def _take(
    found: Sweep, trials: Trials, outcomes: Iterable[Outcome], progress: Callable[[int, int], object] | None
) -> None:
    """Each outcome to its place."""
    for done, outcome in enumerate(outcomes, start=1):
        found.put(outcome, trials)
        try:
            if progress is not None:
                progress(done, len(found))
        except KeyboardInterrupt:
            found.interrupted = True  # those that run go to their end, and what is done is given back


def _workers(name: str, given: object, default: int) -> int:
    workers = default if given is None else given
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise SettingError(f"sweep: {name} must be a whole number, 1 or more, got {given!r}.")
    return workers


def _check_folder(folder: Path, configs: Sequence[Config]) -> None:
    """The folder is of these configurations, or new."""
    described = json.dumps([{key: repr(value) for key, value in config.items()} for config in configs], indent=1)
    path = folder / "sweep.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_whole(path, described.encode())
    elif read_whole(path, "the configurations of a sweep", MOST) != described.encode():
        raise SettingError(
            f"sweep: folder={str(folder)!r} is of other configurations (they stand in {path}). Name a new folder, or pass "
            f"the same configurations to go on with them."
        )
