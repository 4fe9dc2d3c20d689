"""Many trainings at once: each on one thread, in the compiled steps that all trainings like it share."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from chainrule.autodiff import trees
from chainrule.compiler.runtime.threads import get_num_threads
from chainrule.errors import SettingError, kind_of
from chainrule.files.document import is_plain
from chainrule.files.reading import read_whole
from chainrule.files.writing import write_whole
from chainrule.names import takes_keywords
from chainrule.tensor.creation import tensor
from chainrule.tensor.random import default_generator
from chainrule.training.halving import Halving, as_halving, described
from chainrule.training.monitor import as_count
from chainrule.training.pools import by_processes, by_threads
from chainrule.training.progress import Silent, report
from chainrule.training.record import Temporary, digest
from chainrule.training.swept import Sweep
from chainrule.training.trainer import Trainer
from chainrule.training.trials import Config, Outcome, Trials

MOST = 1 << 28  # bytes of sweep.json


@takes_keywords("torch")
def sweep(
    build: Callable[..., Trainer],
    configs: Mapping[str, Sequence[Any]] | Sequence[Config],
    X: object,
    y: object = None,
    *,
    threads: int | None = None,
    processes: int | None = None,
    halving: Halving | int | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool | IO[str] | Silent | Callable[[int, int], object] = False,
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
        halving: train all for a few epochs only, and ever fewer of them for more: a `Halving`, or its factor.
        folder: keep each training there as it ends; a sweep that is called again with the same folder, configurations, rows and
            arguments goes on where it was stopped.
        progress: as for ``fit``, with a line for each training, or each round of one; or a function, called
            ``progress(done, of)`` after each. Default: silence.
        fit: further arguments of ``Trainer.fit``; of ``callbacks`` each training has copies of its own. A key of a configuration that ``fit`` takes (``epochs``,
            ``batch_size``, ``seed``, ``shuffle``, ``drop_last``, ``micro_batches``, ``sample_weight``, ``class_weight``) goes there, one that
            `build` takes goes to `build`, and ``seed`` to both.

    Raises:
        SettingError: a configuration has a key that neither takes, or `build` is no function or gives no new Trainer.

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
    if not callable(build):
        raise SettingError(
            f"sweep: build must be a function that makes a new Trainer of a configuration, such as lambda lr: "
            f"cr.Trainer(nn.Linear(4, 3), 'cross_entropy', 'adam', lr=lr), got {kind_of(build)}. Write one."
        )
    chosen, thinning, reporter = _configs(configs), as_halving(halving), _reporter(progress)
    if threads is not None and processes is not None:
        raise SettingError(
            "sweep: trainings go to threads or to processes, got threads= and processes=. Leave one out."
        )
    workers = min(_workers(*(
        ("threads", threads, get_num_threads()) if processes is None else ("processes", processes, 1)
    )), max(1, len(chosen)))  # fmt: skip
    found = Sweep(chosen, _folder(folder, processes is not None and thinning is not None))
    start = default_generator.get_state().tolist()
    trials = Trials(build, chosen, X, y, {"progress": False, **fit}, found.folder, start)
    trials.check(thinning is not None)
    rounds = [None] if thinning is None else thinning.rounds(as_count(fit["epochs"], "sweep", "epochs", 1))
    sizes = [len(chosen)] if thinning is None else thinning.sizes(len(chosen), len(rounds))
    if found.folder is not None:
        _check_folder(found.folder, _described(chosen, fit, (X, y), thinning, rounds))
    shown = _Shown(reporter, sum(sizes))
    with _drawn_once(), closing(shown):
        for epochs, count in zip(rounds, sizes, strict=True):
            if found.interrupted:
                break
            if thinning is not None and epochs != rounds[0]:
                found.finalists = thinning.best(found.alive(), count)
            _take(found, trials, _pool(found, trials, workers, processes is not None, epochs), shown)
    return found


def _pool(
    found: Sweep, trials: Trials, workers: int, apart: bool, epochs: int | None
) -> Generator[Outcome, None, None]:
    """The outcomes of a round, as they come."""
    numbers = itertools.takewhile(lambda _: not found.interrupted, found.finalists)
    if apart:
        return by_processes(trials, numbers, workers, epochs, lambda: found.interrupted)
    return by_threads(partial(trials.whole, epochs=epochs), numbers, workers)


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


class _Told(Silent):
    """Calls a function with how many are done, and of how many."""

    def __init__(self, function: Callable[[int, int], object]) -> None:
        self.function, self.of = function, 0

    def start(self, epochs: int, done: int, steps: int) -> None:
        self.of = epochs

    def epoch(self, done: int, measured: Mapping[str, float]) -> None:
        self.function(done + 1, self.of)


def _reporter(progress: Any) -> Silent:
    """The reporter for the `progress` argument of `sweep`."""
    if progress is None:
        return Silent()
    if callable(progress) and not hasattr(progress, "write"):
        return _Told(progress)
    return report(progress, "sweep", "training", ", or a function of (done, of)")


class _Shown:
    """What the reporter is told: each outcome, as it tells epochs."""

    def __init__(self, reporter: Silent, of: int) -> None:
        self.reporter, self.done = reporter, 0
        self.close = reporter.close
        reporter.start(of, 0, 1)

    def another(self, outcome: Outcome) -> None:
        history = outcome.history
        measured = history.row(history.epochs - 1) if history is not None and history.epochs else {}
        self.done += 1
        if outcome.error is not None:
            self.reporter.failed(self.done - 1, f"number {outcome.number} ended with: {outcome.error}")
        else:
            self.reporter.epoch(self.done - 1, measured)


def _take(found: Sweep, trials: Trials, outcomes: Generator[Outcome, None, None], shown: _Shown) -> None:
    """Each outcome of a round to its place."""
    taken = 0
    with closing(outcomes):
        for outcome in outcomes:
            found.put(outcome, trials)
            taken += 1
            try:
                shown.another(outcome)
            except KeyboardInterrupt:
                found.interrupted = True  # those that run go to their end, and what is done is given back
    found.interrupted = found.interrupted or taken < len(found.finalists)


def _folder(given: str | os.PathLike[str] | None, needed: bool) -> Any:
    """The folder that was given; where one is needed, one that goes with whoever holds it."""
    if given is not None or not needed:
        return None if given is None else Path(given)
    return Temporary()


def _workers(name: str, given: object, default: int) -> int:
    workers = default if given is None else given
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise SettingError(f"sweep: {name} must be a whole number, 1 or more, got {given!r}.")
    return workers


def _described(
    configs: Sequence[Config], fit: Config, rows: Any, halving: Halving | None, rounds: Sequence[Any]
) -> bytes:
    """What tells one sweep from another, as far as it can be written down."""
    given = [rows, [value for value in fit.values() if not is_plain(value)]]
    content = {
        "configs": [{key: _written(value) for key, value in config.items()} for config in configs],
        "fit": {key: value for key, value in fit.items() if is_plain(value)},
        "halving": described(halving, rounds),
        "rows": digest(*map(_contents, trees.leaves(given))),
    }
    return json.dumps(content, indent=1, default=repr).encode()


def _written(value: Any) -> str:
    """A value of a configuration; of arrays Python writes a part only."""
    arrays = [leaf for leaf in trees.leaves(value) if hasattr(leaf, "__array__")]
    return f"{value!r} {digest(*map(_contents, arrays))}" if arrays else repr(value)


def _contents(leaf: Any) -> np.ndarray[Any, Any]:
    """An array, list or table as an array of its bytes or numbers; nothing of what does not tell its contents."""
    found = np.asarray(leaf) if hasattr(leaf, "__array__") or is_plain(leaf) else np.empty(0)
    return found if found.dtype.kind in "biuf" else np.frombuffer(repr(found.tolist()).encode(), np.uint8)


def _check_folder(folder: Path, described: bytes) -> None:
    """The folder is of this sweep, or new."""
    path = folder / "sweep.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_whole(path, described)
    elif read_whole(path, "what a sweep was called with", MOST) != described:
        raise SettingError(
            f"sweep: folder={str(folder)!r} is of other configurations, arguments of fit or rows (they stand in {path}). Name "
            f"a new folder, or pass the same to go on with them."
        )
