"""One training of a sweep after another: built, trained in steps that its like have left, packed to be sent."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chainrule.autodiff import trees
from chainrule.errors import DataError, SettingError
from chainrule.tensor.random import default_generator, drawing_from
from chainrule.training.history import History
from chainrule.training.lending import Lender
from chainrule.training.trainer import Trainer

Array = np.ndarray[Any, Any]
Config = dict[str, Any]
PER_CONFIG = frozenset(
    {"epochs", "batch_size", "seed", "shuffle", "drop_last", "micro_batches", "sample_weight", "class_weight"}
)  # of `fit`

_MADE = frozenset({"building", "steps", "standing", "takes"})  # in each process anew


class Outcome(NamedTuple):
    """What came of a training; `packed`: it, for another process."""

    number: int
    trainer: Trainer | None = None
    history: History | None = None
    error: Exception | None = None
    packed: bytes | None = None


class Trials:
    """The trainings of a sweep, each by its number.

    Args:
        build, configs, fit: as for `sweep`; X, y: the rows.
        folder: where each is kept when it is done.
        start: what trainings whose `build` names no seed draw from, each from a stream of its own.
    """

    def __init__(
        self, build: Callable[..., Trainer], configs: list[Config], X: object, y: object, fit: Config,
        folder: Path | None, start: list[int],
    ) -> None:  # fmt: skip
        self.build, self.configs, self.X, self.y, self.fit = build, configs, X, y, fit
        self.folder, self.start = folder, start
        self._making()
        self.everything = any(one.kind is one.VAR_KEYWORD for one in self.takes.values())

    def _making(self) -> None:
        self.takes = inspect.signature(self.build).parameters
        self.building, self.steps = threading.Lock(), Lender()
        self.standing: dict[int, Trainer] = {}  # those that go on in another round, where no folder has them

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in _MADE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._making()

    # ---------------------------------------------------------------- building

    def check(self, halving: bool) -> None:
        """Raise `SettingError` where a configuration has a key that nobody takes, or an option is no sweep's."""
        for name in ("resume", "record", "checkpoint"):
            if self.fit.get(name):
                raise SettingError(f"sweep: {name} is of one training. Keep those of a sweep in a folder: folder=...")
        if halving and ("epochs" not in self.fit or any("epochs" in config for config in self.configs)):
            raise SettingError(
                "sweep: halving= says how many epochs each training gets, of the epochs= that the last ones get. Pass "
                "epochs=, and none in a configuration."
            )
        strange = [k for config in self.configs for k in config if k not in self.takes and k not in PER_CONFIG]
        if strange and not self.everything:
            raise SettingError(
                f"sweep: a configuration has {strange[0]!r}, which build({', '.join(self.takes)}) does not take, nor fit "
                f"for each training. Give build such an argument."
            )

    def built(self, number: int) -> Trainer:
        """This training, not begun; what it draws is its own, whatever was built before it."""
        config = self.configs[number]
        given = {
            k: v for k, v in config.items() if (self.everything and k not in PER_CONFIG - {"seed"}) or k in self.takes
        }
        with self.building, drawing_from(default_generator):  # which is everybody's
            default_generator.manual_seed(
                int(np.random.SeedSequence([*self.start, number]).generate_state(1, np.uint64)[0])
            )
            trainer = self.build(**given)
        if not isinstance(trainer, Trainer) or trainer.position is not None:
            came = type(trainer).__name__ if not isinstance(trainer, Trainer) else "one that has trained"
            raise SettingError(f"sweep: build must give a new Trainer for each configuration, got {came}.")
        return trainer

    # ---------------------------------------------------------------- training

    def path(self, number: int) -> Path | None:
        """The file of this training, where a folder keeps them."""
        return self.folder / f"{number:06d}.safetensors" if self.folder is not None else None

    def kept(self, number: int) -> Trainer | None:
        """It, from its file, if there is one."""
        path = self.path(number)
        if path is None or not path.is_file():
            return None
        trainer = self.built(number)
        trainer.load(path)
        return trainer

    def one(self, number: int, trainer: Trainer | None = None, **other: Any) -> Outcome:
        """One training to its end, from its beginning or on from where `trainer` stands.

        Args:
            other: arguments of ``fit`` in place of those of the sweep.
        """
        config = self.configs[number]
        options = {**self.fit, **{key: value for key, value in config.items() if key in PER_CONFIG}, **other}
        if "callbacks" in options:
            options["callbacks"] = copy.deepcopy(options["callbacks"])  # what they know is of one training
        trainer = trainer or self.built(number)
        try:
            self.steps.fit(trainer, self.X, self.y, **options)
        except Exception as error:  # this one ends; the others go on
            return Outcome(number, error=error)
        return Outcome(number, trainer, trainer.history)

    def whole(self, number: int, epochs: int | None = None) -> Outcome:
        """The training, from its file if there is one, and into its file where there is to be one.

        Args:
            epochs: so far only, and on from where it stands; None: to its end.
        """
        known = self.kept(number) or self.standing.pop(number, None)
        if known is not None and (epochs is None or known.history.epochs >= epochs):
            found = Outcome(number, known, known.history)
        else:
            further = {} if epochs is None else {"epochs": epochs, "resume": known is not None}
            found, path = self.one(number, known, **further), self.path(number)
            if path is not None and found.trainer is not None:
                found.trainer.save(path)
        if epochs is not None and found.trainer is not None and self.folder is None:
            self.standing[number] = found.trainer
        return found

    def sent(self, number: int, epochs: int | None = None) -> Outcome:
        """The same for another process: the training is in its file, or packed."""
        found = self.whole(number, epochs)
        if found.trainer is None or self.folder is not None:
            return found._replace(trainer=None, error=_sendable(found.error))
        try:
            return found._replace(trainer=None, packed=self._packed(found.trainer))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise SettingError(
                f"sweep: a training cannot be sent back by its process ({error}). Define what the model is made of at the top "
                f"of a module, or keep the trainings in a folder (folder=), or use threads."
            ) from None

    def _packed(self, trainer: Trainer) -> bytes:
        """The training; the rows that all of them have go as their numbers."""
        written = io.BytesIO()
        _Packer(written, {id(leaf): i for i, leaf in enumerate(self._rows())}).dump(trainer)
        return written.getvalue()

    def unpacked(self, packed: bytes) -> Trainer:
        """What `sent` packed, in a process that has the same rows."""
        return _Unpacker(io.BytesIO(packed), self._rows()).load()  # type: ignore[no-any-return]

    def _rows(self) -> list[Array]:
        return [leaf for leaf in trees.leaves((self.X, self.y)) if type(leaf) is np.ndarray]


class _Packer(pickle.Pickler):
    """Packs an object; of the arrays that both sides have, only the number."""

    def __init__(self, file: io.BytesIO, numbers: dict[int, int]) -> None:
        super().__init__(file)
        self._numbers = numbers

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbers.get(id(obj))


class _Unpacker(pickle.Unpickler):
    """Unpacks it."""

    def __init__(self, file: io.BytesIO, arrays: list[Array]) -> None:
        super().__init__(file)
        self._arrays = arrays

    def persistent_load(self, number: int) -> Array:
        return self._arrays[number]


def _sendable(error: Exception | None) -> Exception | None:
    """The error, or where it cannot be sent, one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return DataError(f"{type(error).__name__}: {error}")
    return error
