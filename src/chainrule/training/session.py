"""A training as one world: what shapes its steps, what they change, and how far it is.

Everything that trains, resumes, replays or explains asks here. A step is done whole or not at all: `commit` says what
stands, and `roll_back` goes there from wherever an exception came.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from chainrule.autodiff import trees
from chainrule.compiler.frontend import guards
from chainrule.errors import BusyError, DamagedFileError, DtypeError, SettingError, UnknownNameError
from chainrule.files.document import Fields
from chainrule.nn import Module
from chainrule.nn.meaning import Meaning, meaning_of, named
from chainrule.optim import Optimizer
from chainrule.optim.lbfgs import BY_ITSELF, LBFGS
from chainrule.optim.optimizer import same_layout
from chainrule.optim.schedules import check_state
from chainrule.tensor import Tensor
from chainrule.tensor.core import number
from chainrule.tensor.random import Generator, Owned, drawing_from
from chainrule.training import settings, several, state, steps
from chainrule.training.attributes import Attributes
from chainrule.training.history import History
from chainrule.training.listener import Listener
from chainrule.training.members import Members
from chainrule.training.metrics import Metric, resolve
from chainrule.training.named import Named
from chainrule.training.position import Position
from chainrule.training.scheduling import Given, Schedules
from chainrule.training.settings import Settings
from chainrule.training.standing import Standing

Array = np.ndarray[Any, Any]
ASIDE = 0x9E3779B97F4A7C15  # what sets the second stream apart from the first: 2^64 divided by the golden ratio
KNOWN = "history", "start", "standing", "modes", "known_as", "carried", "begun", "columns", "contents"
WINDOWS = 6  # sizes of windows whose steps are kept: whole and last ones to train, validate and evaluate on
PATIENCE = 100  # exceptions in a row that a way back outlasts

# Which thread trains, loads or replays a session now, and how; beside the sessions, so that no copy of one is held.
_HOLDERS: WeakKeyDictionary[Session, tuple[int, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Rows:
    """What a fit was given: arrays as the compiled steps take them.

    Attributes:
        x, y: the features and targets: an array each, or a tree of several; y is None where there are no targets.
        held_out: the rows to validate on.
        weight: of each row in the loss; None: they weigh alike.
        named: the columns that they were given by; None where those had no names.
    """

    x: Any
    y: Any
    held_out: Rows | None = None
    weight: Array | None = None
    named: Named | None = None

    @property
    def window(self) -> int | None:
        """How many rows these are of a source; None where they are all."""
        return None

    @property
    def parts(self) -> tuple[Any, ...]:
        """What is trained on: x, y and the weights where there are any."""
        return (self.x, self.y) if self.weight is None else (self.x, self.y, self.weight)

    @property
    def arrays(self) -> list[Array]:
        """The leaves of it."""
        return trees.leaves(self.parts)

    @property
    def count(self) -> int:
        """How many rows there are to train on."""
        return several.count_of(self.x)

    def check_single(self, who: str) -> None:
        """Raise unless x and y are an array each.

        Raises:
            SettingError: they are not, and `who` cannot show that yet.
        """
        for name, part in (("X", self.x), ("y", self.y)):
            if not isinstance(part, np.ndarray):
                came = "no y" if part is None else f"{name} as several arrays"
                raise SettingError(
                    f"{who}: it cannot show trainings with several inputs or targets, or without targets, yet; this one has "
                    f"{came}. What is recorded can be replayed and its weights explained: trainer.run, trainer.explain."
                )

    def same(self, other: Rows) -> bool:
        """Are these the same rows to train on?"""
        arrays = trees.aligned(self.parts, other.parts)
        return arrays is not None and all(map(_equal, self.arrays, arrays))


def _equal(a: Array, b: Array) -> bool:
    return a is b or (a.dtype == b.dtype and np.array_equal(a, b))


def check_module(model: object) -> None:
    """Raise `SettingError` unless it can be the model."""
    if not isinstance(model, Module):
        raise SettingError(
            f"Trainer: model must be an nn.Module, got {type(model).__name__}{_whose(model)}. Pass an object such as "
            f"nn.Sequential(...)."
        )


def _whose(value: object) -> str:
    """What to add to the name of a class of PyTorch's, or of one made of it."""
    if not any(base.__module__.partition(".")[0] == "torch" for base in type(value).__mro__):
        return ""
    return " of PyTorch's, whose tensors are not chainrule's (the names are the same: from chainrule import nn, optim)"


class Session:
    """One training.

    Args:
        model, loss, optimizer, metrics, max_norm, output, scheduler: as for `Trainer`.

    Attributes:
        random: the stream that steps draw from, and nothing else.
        aside: the stream of everything else during a `fit`: validation and callbacks. So neither moves the steps' own.
        position: how far it is; None before the first `fit`.
        start: where the latest `fit` began; a loaded training has none.
        begun: the settings of the optimizer's groups then; a loaded training has those of its file.
        rows: what the latest `fit` was given.
        data: a name for the contents of those rows and of those to validate on, where somebody asked for it.
        contents: a name for what the rows that it is trained on held when `fit` took them; None where nothing tells it.
        columns: the names of the columns it was trained on, where they had some: later data is taken by them.
        listeners: the callbacks, while a `fit` runs.
        riders: those of them that have something to do in the compiled step.
        carried: what they and their like saved: see `callbacks_state`.
        programs: the compiled steps, by kind.
        modes: by module, whether it was in training mode when the latest `fit` ended.
    """

    def __init__(
        self,
        model: Module,
        loss: Metric,
        optimizer: Optimizer,
        metrics: Iterable[str | Metric] = (),
        max_norm: float | None = None,
        output: str | None = None,
        scheduler: Given = None,
    ) -> None:
        self.model, self.loss, self.optimizer, self.max_norm = model, loss, optimizer, max_norm
        self.check()
        self.output = named(output, "Trainer(output=)") if output is not None else None
        self.measured: Any = [metrics] if isinstance(metrics, str) else metrics
        if not isinstance(metrics, (str, Mapping)):
            self.measured = list(metrics)
        self._metrics = loss, self._resolved()
        self.schedules = Schedules(scheduler, optimizer)
        self.random, self.aside = Owned(0), Generator(ASIDE)
        self.history = History()
        self.position: Position | None = None
        self.start: Standing | None = None
        self.rows: Rows | None = None
        self.fed: Rows | None = None  # what the training that stands was fitted on, where that is known
        self.data: str | None = None
        self.contents: str | None = None
        self.columns: Named | None = None
        self.frozen: Counter[str] = Counter()  # by parameter: how many callbacks leave it as it is for now
        self.listeners: Sequence[Listener] = ()
        self.riders: Sequence[Listener] = ()
        self.carried: list[dict[str, Any]] = []
        self.programs: dict[str, steps.StepProgram] = {}
        self.modes: dict[str, bool] | None = None
        self.standing: Standing | None = None
        self.begun: list[dict[str, Any]] | None = None
        self.known_as: str | None = None  # its identity, once somebody asked or a file said
        self._shapes: dict[tuple[Any, ...], Any] = {}
        self._members: Members | None = None
        self._laid: tuple[int, state.Layout] = -1, {}  # at which change, and what `layout` gave then

    def check(self) -> None:
        """Raise `SettingError` unless model, loss, optimizer and clipping can be what they are."""
        check_module(self.model)
        if not isinstance(self.optimizer, Optimizer):
            raise SettingError(
                f"Trainer: optimizer must be an Optimizer, got {type(self.optimizer).__name__}{_whose(self.optimizer)}. Pass an "
                f"object such as optim.Adam(model.parameters())."
            )
        if isinstance(self.optimizer, LBFGS):
            raise SettingError(f"Trainer: {BY_ITSELF}")
        if not callable(self.loss) or isinstance(self.loss, type):
            raise SettingError(
                f"Trainer: loss must be a function (output, target) -> Tensor, got {self.loss!r}. "
                f"Pass F.cross_entropy or nn.CrossEntropyLoss(), for example."
            )
        if str(getattr(self.loss, "__module__", "")).partition(".")[0] == "torch":
            named = getattr(self.loss, "__name__", type(self.loss).__name__)
            raise SettingError(
                f"Trainer: loss must be a function (output, target) -> Tensor of chainrule's tensors, got PyTorch's {named}. "
                f"The names are the same here: nn.functional.mse_loss, nn.MSELoss()."
            )
        self.max_norm = _bound(self.max_norm)

    @property
    def meaning(self) -> Meaning | None:
        """What the model's outputs mean: as ``output=`` says, else as the loss says; None where neither does."""
        return self.output or meaning_of(self.loss)

    @property
    def metrics(self) -> dict[str, Metric]:
        """What is measured beside the loss, by the name it has in the history."""
        if self._metrics[0] is not self.loss:
            self._metrics = self.loss, self._resolved()
        return self._metrics[1]

    def _resolved(self) -> dict[str, Metric]:
        if isinstance(self.loss, several.Losses):
            return several.metrics_of(self.loss, self.measured)
        if isinstance(self.measured, Mapping):
            raise SettingError(
                "Trainer: metrics by output go with a loss for each output: loss={'name': ...}. Pass a list of metrics."
            )
        return resolve(self.measured, self.loss, self.meaning)

    # ---------------------------------------------------------------- what shapes a step

    def shape(self) -> tuple[Any, ...]:
        """What a compiled step was made for: another model, loss, optimizer, metric or norm makes another step."""
        parts = (*self.parts(), self.optimizer)
        if self.riders:
            parts += (*self.riders, *self._ridden(), *(other for other, _ in self.instead()))
        found = (self.max_norm, *map(id, parts))
        if found not in self._shapes:
            self._shapes[found] = parts  # held, so that no other object gets one of these numbers
        return found

    def parts(self) -> tuple[Any, ...]:
        """What a step calls."""
        return self.model, self.loss, *self.metrics.values()

    def settings(self) -> Settings:
        """What shapes a step now and is no tensor."""
        members = self.members()
        return self._settings(members, members.attributes())

    def _settings(self, members: Members, held: Attributes) -> Settings:
        things = members.plain(held)
        for name, training in (self.modes or {}).items():
            if name in things:
                things[name]["training"] = training
        trained = {name: handle.requires_grad for name, handle in members.named.items()}
        groups = settings.groups_of(self.optimizer)
        return Settings(groups, self.schedules.state(), things, trained, self.max_norm)

    def put_settings(self, saved: Settings) -> None:
        """Everything as these settings say."""
        settings.put_groups(self.optimizer, saved.groups)
        self.schedules.put(saved.schedules)
        self.max_norm = saved.max_norm
        for name, handle in self.named().items():
            if saved.trained.get(name, handle.requires_grad) != handle.requires_grad:
                handle.requires_grad_(saved.trained[name])
        for name, thing in self.members().objects:
            settings.put_attributes(thing, saved.modules.get(name, {}))

    def fitting(self, saved: Fields) -> Settings:
        """The settings of a file, where they fit this training.

        Raises:
            DamagedFileError: they do not, or are none.
        """
        found = settings.fitting(self.settings(), saved, self.named())
        try:
            for group, other in zip(self.optimizer.param_groups, found.groups, strict=True):
                self.optimizer.check({**group, **other})
            for schedule, place in zip(self.schedules.all, found.schedules, strict=True):
                check_state(schedule, place)
        except (SettingError, UnknownNameError) as error:
            raise DamagedFileError(f"{saved.source}: {error} {saved.remedy}") from None
        return found

    @property
    def identity(self) -> str:
        """A name that only trainings have which began alike, and so go through the same states; "" before the first."""
        if self.known_as is None:
            self.known_as = self.start.name(self.optimizer) if self.start is not None else ""
        return self.known_as

    # ---------------------------------------------------------------- what a step changes

    def members(self) -> Members:
        """What model, loss and optimizer consist of."""
        known = self._members
        now = Members if known is None else known.of
        self._members = found = now(self.model, self.loss, self.optimizer)
        return found

    def named(self) -> Mapping[str, Tensor]:
        """The tensors that the training is about, by name: those of model and loss, and whatever else is optimized."""
        return self.members().named

    def handles(self) -> list[Tensor]:
        """Every tensor that a step changes, each once."""
        return self._handles(self.members())

    def _handles(self, members: Members) -> list[Tensor]:
        streams = [self.random.state, self.aside.state]
        return state.once(members.named.values(), state.moments(self.optimizer), streams, self._ridden())

    def _ridden(self) -> list[Tensor]:
        return [tensor for rider in self.riders for tensor in rider.tensors()]

    def instead(self) -> list[tuple[Tensor, Tensor]]:
        """What takes the place of parameters in validation, each with the parameter."""
        return [pair for rider in self.riders for pair in rider.instead()]

    def listen(self, listeners: Sequence[Listener], riders: Sequence[Listener]) -> None:
        """These callbacks are of the training from now on."""
        self.listeners, self.riders = listeners, riders

    def listened(self) -> None:
        """No more of them; what they know stays."""
        self.carried, listeners = self.callbacks_state(), self.listeners
        self.listen((), ())
        for listener in listeners:
            listener.close()

    def now(self) -> Standing:
        """Where it stands now."""
        history, members = self.history, self.members()
        values, gradients = state.values(self._handles(members)), state.gradients(members.named.values())
        held = members.attributes()
        shaped, layout = self._settings(members, held), self.layout()
        heard = self.callbacks_now()
        done = history.epochs, history.steps
        return Standing(values, gradients, members.parameters, held, layout, shaped, self.position, *done, heard)

    def stands_as(self, standing: Standing) -> bool:
        """Is all but the values of its tensors, its position and the callbacks as it was there?"""
        members, held = self.members(), standing.attributes
        graded = any(grad is not None or handle._grad is not None for handle, grad, _ in standing.gradients)
        if graded or members.parameters is not standing.parameters or held.values or not held.same():
            return False
        return self.laid_out_as(standing) and self._settings(members, held) == standing.settings

    def layout(self) -> state.Layout:
        """Which tensors are the optimizer's state; whatever changes that is counted."""
        if self._laid[0] != guards.latest:
            self._laid = guards.latest, self.optimizer.layout()
        return self._laid[1]

    def laid_out_as(self, standing: Standing) -> bool:
        """Are the tensors of the optimizer's state those that were?"""
        return self.layout() is standing.layout or same_layout(self.layout(), standing.layout)

    def callbacks_now(self) -> tuple[dict[str, Any], ...]:
        """Where each callback stands."""
        return tuple([listener.state_dict() for listener in self.listeners])

    def callbacks_state(self) -> list[dict[str, Any]]:
        """What the callbacks of the training save: ``{"kind": its kind, "state": ...}``, of those that do."""
        if not self.listeners:
            return self.carried
        states = [(listener.kind, listener.state_dict()) for listener in self.listeners]
        return [{"kind": kind, "state": found} for kind, found in states if found]

    def go_to(self, standing: Standing) -> None:
        """Everything as it was there."""
        standing.attributes.put()
        self.put_settings(standing.settings)
        state.restore(standing.values)
        self.optimizer.put_layout(standing.layout)  # after the values, which it copies for counters that part
        state.restore_gradients(standing.gradients)
        self.position = standing.position
        self.history.cut(standing.epochs, standing.steps)
        for listener, found in zip(self.listeners, standing.callbacks, strict=False):
            if found:
                listener.load_state_dict(found)

    def commit(self, standing: Standing) -> None:
        """This stands from now on: one assignment, so that no exception finds it half done."""
        self.standing = standing

    def roll_back(self) -> None:
        """Everything as it stood at the latest `commit`, whatever else is raised on the way there."""
        for _ in range(PATIENCE):
            try:
                if self.standing is not None:
                    self.go_to(self.standing)
                return
            except BaseException:  # a second signal must not leave half of it; the first error is on its way
                continue

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Free to be changed inside the block; afterwards everything is as it was."""
        with self.held("a replay"):
            yield from self._lent()

    def _lent(self) -> Iterator[None]:
        before, kept = self.now(), self._kept()
        modes = [(module, module.training) for _, module in self.members().modules]
        self.history = History()
        try:
            yield
        finally:
            vars(self).update(kept)
            self.go_to(before)
            for module, was in modes:
                module.training = was

    # ---------------------------------------------------------------- modes

    @contextmanager
    def mode(self, training: bool, members: Members | None = None) -> Iterator[bool]:
        """Model and loss in training or evaluation mode inside the block; each module as it was afterwards.

        Gives whether all were in that mode already. `members`: those of now, where they are known.
        """
        before = [(module, module.training) for _, module in (members or self.members()).modules]
        others = [module for module, was in before if was is not training]
        try:
            for module in others:
                module.training = training
            yield not others
        finally:
            for module, was in before:
                if module.training is not was:
                    module.training = was

    @contextmanager
    def as_if(self, training: bool) -> Iterator[None]:
        """As `mode`, for a block that only looks whether something is as it was: so nobody is told."""
        before = [(own, own["training"]) for _, module in self.members().modules if "training" in (own := vars(module))]
        try:
            for own, _ in before:
                own["training"] = training
            yield
        finally:
            for own, was in before:
                own["training"] = was

    @contextmanager
    def tried(self) -> Iterator[None]:
        """For a look at what model and loss make of some rows: in evaluation mode, and whatever it moves moves back."""
        members = self.members()
        before, held = state.values(self._handles(members)), members.attributes()
        try:
            with self.mode(False, members), drawing_from(Generator()):
                yield
        finally:
            held.put()
            state.restore(before)

    @contextmanager
    def training(self) -> Iterator[bool]:
        """Inside the block the modules are in the modes of the training; afterwards in their own again.

        Gives whether those are the same.
        """
        modes = self.modes
        with self.mode(True) as same:
            if modes:
                self.wear(modes)
            self.modes = None
            try:
                yield same and not modes
            finally:
                self.modes = {name: module.training for name, module in self.members().modules}

    def wear(self, modes: Mapping[str, bool]) -> None:
        """The modules in these modes; those that are not named in training mode."""
        for name, module in self.members().modules:
            wanted = modes.get(name, True)
            if module.training is not wanted:
                module.training = wanted

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Inside the block this thread draws from the second stream."""
        with drawing_from(self.aside):
            yield

    # ---------------------------------------------------------------- the beginning

    @contextmanager
    def held(self, who: str, nested: bool = True) -> Iterator[None]:
        """No other thread may train, load or replay inside the block; `nested`: this one may within another such block.

        Raises:
            BusyError: somebody does already.
        """
        mine = threading.get_ident(), f"{who} in thread {threading.current_thread().name!r}"
        holder = _HOLDERS.setdefault(self, mine)  # one operation of Python's, so that no two hold it
        if holder is not mine and not (nested and holder[0] == mine[0]):
            raise BusyError(
                f"{who}: this trainer is in the middle of {holder[1]}. Wait for its end, or give each thread a trainer and "
                f"a model of its own."
            )
        try:
            yield
        finally:
            if holder is mine:
                del _HOLDERS[self]

    def _kept(self) -> dict[str, Any]:
        """What a training knows of itself beside where it stands."""
        return {name: vars(self)[name] for name in KNOWN}

    @contextmanager
    def beginning(self) -> Iterator[None]:
        """A training that cannot begin inside the block leaves the one before as it was."""
        kept = {**self._kept(), "position": self.position}
        gradients = state.gradients(state.optimized(self.optimizer))
        streams = state.values([self.random.state, self.aside.state])
        try:
            yield
        except BaseException:
            vars(self).update(kept)
            state.restore(streams)
            state.restore_gradients(gradients)
            raise

    def begin(self, position: Position) -> None:
        """A new training of the weights that stand, with nothing before it."""
        self.optimizer.zero_grad()  # what is left over from before is not of these data
        self.history, self.position, self.modes, self.carried = History(), position, None, []
        self.random.manual_seed(position.seed)
        self.aside.manual_seed(position.seed ^ ASIDE)
        self.standing = self.start = self.now()
        self.begun = settings.begun(self.start.settings)
        self.known_as = None

    def variation(self, loss: Metric, optimizer: Optimizer, max_norm: float | None) -> Session:
        """The same model and streams with something else in place of loss, optimizer or clipping."""
        other = Session(self.model, loss, optimizer, (), max_norm)
        other.random, other.aside = self.random, self.aside
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Without the programs and callbacks, which read this session and no copy of it, and with a walk of its own."""
        return {**self.__dict__, "programs": {}, "_members": None, "_laid": (-1, {}), "listeners": (), "riders": ()}

    # ---------------------------------------------------------------- programs

    def program(
        self, kind: str, x: Any, y: Any, weight: Array | None = None, window: int | None = None, micro_batches: int = 1
    ) -> steps.StepProgram:
        """The compiled step of this kind over these rows: "training", "recorded", "validation" or "evaluation".

        Args:
            window: how many rows there are, where they are a window of a source: those of other sizes have their own steps.
            micro_batches: in how many parts a step of a training goes over its batch.
        """
        key = kind if micro_batches == 1 else f"{kind} in {micro_batches}"
        key = key if window is None else f"{key} of {window}"
        known = self.programs.get(key)
        if known is None and window is not None:
            held = [name for name in self.programs if " of " in name]
            for name in held[: len(held) + 1 - WINDOWS]:  # each holds the rows of its latest window
                del self.programs[name]
        if known is None or not known.feed.take(x, y, weight):
            self.programs[key] = known = self._made(kind, steps.Feed(x, y, weight), micro_batches)
        return known

    def _made(self, kind: str, feed: steps.Feed, micro_batches: int) -> steps.StepProgram:
        if kind in ("training", "recorded"):
            return steps.training_program(self, feed, kind == "recorded", micro_batches)
        return steps.evaluation_program(self, feed, *((self.aside, self.instead) if kind == "validation" else ()))


def _bound(norm: Any) -> float | None:
    """The norm to clip to, as Python's own number whatever kind was given."""
    if norm is None:
        return None
    with suppress(DtypeError):
        found = number(norm, "Trainer", "max_norm")
        if found > 0:
            return found
    raise SettingError(f"Trainer: max_norm must be a number above 0, or None, got {norm!r}.")
