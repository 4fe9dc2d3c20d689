"""Many trainings at once: each on one thread, in the compiled steps that all trainings like it share."""

from __future__ import annotations

import copy
import inspect
import itertools
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from chainrule.compiler.threads import get_num_threads, one_thread
from chainrule.errors import DataError, SettingError, unknown_name
from chainrule.files.reading import read_whole
from chainrule.files.writing import write_whole
from chainrule.training import twins
from chainrule.training.history import History
from chainrule.training.trainer import Trainer

Config = dict[str, Any]
PER_CONFIG = frozenset(
    {"epochs", "batch_size", "seed", "shuffle", "drop_last", "sample_weight", "class_weight"}
)  # of `fit`
MOST = 1 << 28  # bytes of sweep.json
SMALLEST = {"loss", "mse", "mae", "rmse", "seconds"}  # measures of which less is better, with or without "val_"


class Sweep(Sequence[Any]):
    """The trainings of a `sweep`, in the order of their configurations.

    ``len(sweep)``, ``sweep[i]``: the `Trainer` of configuration i, trained.

    Attributes:
        configs: the configurations.
        histories: what each epoch of each measured; None where a training was not begun.
        errors: by number, the exceptions that ended trainings.
    """

    def __init__(self, configs: Sequence[Config], folder: Path | None) -> None:
        self.configs, self.folder = list(configs), folder
        self.histories: list[History | None] = [None] * len(configs)
        self.errors: dict[int, Exception] = {}
        self._trainers: list[Trainer | None] = [None] * len(configs)

    def __len__(self) -> int:
        return len(self.configs)

    def __getitem__(self, number: Any) -> Any:
        trainer = self._trainers[number]
        if trainer is None:
            error = self.errors.get(number % len(self) if isinstance(number, int) else number)
            raise DataError(f"sweep: training {number} {f'ended with: {error}' if error else 'was not run'}.")
        return trainer

    def put(self, number: int, trainer: Trainer) -> None:
        """This is the training of that number."""
        self._trainers[number] = trainer

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
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
    **fit: Any,
) -> Sweep:
    """Train one network for each configuration, several at once, each with the bits of a training of its own.

    Trainings that differ only in numbers (first weights, learning rates, dropout, weight decay ...) run in the same
    compiled steps; every training runs on one thread, and `threads` of them at a time.

    Args:
        build: ``build(**config)`` gives a `Trainer` that has not trained yet. The trainings are built one after the other
            in the order of the configurations, so that what they draw does not depend on `threads`.
        configs: a dict of lists, for all combinations (the last varies fastest); or a list of dicts.
        X, y: as for ``Trainer.fit``.
        threads: how many trainings at a time; default: the number of threads that programs may use.
        folder: keep each training there as it ends; a sweep that is called again with the same folder and configurations
            goes on where it was stopped.
        progress: ``progress(done, of)``, called after each training.
        fit: further arguments of ``Trainer.fit``. A key of a configuration that ``fit`` takes (``epochs``,
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
    takes = inspect.signature(build).parameters
    for config in chosen:
        _check_keys(config, takes)
    found = Sweep(chosen, Path(folder) if folder is not None else None)
    if found.folder is not None:
        _check_folder(found.folder, chosen)
    runs = _Runs(build, takes, found, {"progress": False, **fit}, X, y)
    workers = threads if threads is not None else get_num_threads()
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise SettingError(f"sweep: threads must be a whole number, 1 or more, got {threads!r}.")
    runs.all(min(workers, max(1, len(chosen))), progress)
    return found


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


def _check_keys(config: Config, takes: Mapping[str, inspect.Parameter]) -> None:
    if any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        return
    strange = [key for key in config if key not in takes and key not in PER_CONFIG]
    if strange:
        raise SettingError(
            f"sweep: a configuration has {strange[0]!r}, which build({', '.join(takes)}) does not take, nor fit for each "
            f"training. Give build such an argument."
        )


class _Runs:
    """The trainings of one sweep under way."""

    def __init__(
        self, build: Callable[..., Trainer], takes: Mapping[str, inspect.Parameter], found: Sweep, fit: Config, X: object,
        y: object,
    ) -> None:  # fmt: skip
        self.build, self.takes, self.found, self.fit, self.X, self.y = build, takes, found, fit, X, y
        self.everything = any(one.kind is one.VAR_KEYWORD for one in takes.values())
        self.lock = threading.Lock()
        self.free: dict[Any, list[Trainer]] = {}  # whose compiled steps nobody uses now, by outline
        self.held: list[Trainer] = []

    def all(self, workers: int, progress: Callable[[int, int], object] | None) -> None:
        """Every configuration, so many at a time."""
        numbers, done = iter(range(len(self.found))), 0
        with ThreadPoolExecutor(workers, thread_name_prefix="sweep") as pool:
            running = {pool.submit(self.one, n, self.built(n)) for n in itertools.islice(numbers, workers)}
            try:
                while running:
                    ended, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        future.result()
                        done += 1
                        if progress is not None:
                            progress(done, len(self.found))
                    running |= {pool.submit(self.one, n, self.built(n)) for n in itertools.islice(numbers, len(ended))}
            except KeyboardInterrupt:
                pass  # those that run go to their end, and what is done is given back

    def built(self, number: int) -> Trainer:
        """The next training, not begun; in the order of the configurations."""
        config = self.found.configs[number]
        given = {
            k: v for k, v in config.items() if (self.everything and k not in PER_CONFIG - {"seed"}) or k in self.takes
        }
        trainer = self.build(**given)
        if not isinstance(trainer, Trainer) or trainer.position is not None:
            came = type(trainer).__name__ if not isinstance(trainer, Trainer) else "one that has trained"
            raise SettingError(f"sweep: build must give a new Trainer for each configuration, got {came}.")
        return trainer

    def one(self, number: int, trainer: Trainer) -> None:
        """One training from its beginning to its end."""
        path = self._path(number)
        if path is not None and path.is_file():
            trainer.load(path)
            self._keep(number, trainer)
            return
        config = self.found.configs[number]
        options = {**self.fit, **{key: value for key, value in config.items() if key in PER_CONFIG}}
        try:
            with one_thread():
                self._trained(trainer, options)
        except Exception as error:  # this one ends; the others go on
            self.found.errors[number] = error
            return
        self._keep(number, trainer)
        if path is not None:
            trainer.save(path)

    def _trained(self, trainer: Trainer, options: Config) -> None:
        """In the steps of another training like it, where some are free."""
        outline = twins.outline(trainer.session)
        with self.lock:
            self.held.append(trainer)  # what the outline names by identity
            lent = self.free.setdefault(outline, [])
            worker = lent.pop() if lent else None
        if worker is None:
            worker = copy.deepcopy(trainer)
        twins.lend(worker.session, trainer.session)
        try:
            worker.fit(self.X, self.y, **options)
        finally:
            twins.give_back(trainer.session, worker.session)
        with self.lock:
            self.free[outline].append(worker)

    # ---------------------------------------------------------------- what is kept

    def _keep(self, number: int, trainer: Trainer) -> None:
        self.found.histories[number] = trainer.history
        self.found.put(number, trainer)

    def _path(self, number: int) -> Path | None:
        return self.found.folder / f"{number:06d}.safetensors" if self.found.folder is not None else None


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
