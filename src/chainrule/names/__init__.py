"""PyTorch's names that are not here yet, and Keras's: what an AttributeError or a TypeError about one of them says.

The list of PyTorch's is ``torch.json``, made by ``docs/make_names.py``.
"""

from __future__ import annotations

import difflib
import dis
import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from importlib import import_module
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, NamedTuple, TypeVar

from chainrule.errors import SettingError
from chainrule.names.keras import ELSEWHERE, KERAS, RENAMED
from chainrule.names.nearest import NEAREST
from chainrule.names.outputs import written

LIST = Path(__file__).with_name("torch.json")
PAGE = "docs/names.md"

_NONE: Mapping[str, str] = MappingProxyType({})
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Room(NamedTuple):
    """A place of names: what it is in PyTorch and here, and how a name in it is written here."""

    pytorch: str
    ours: str
    prefix: str


ROOMS = {
    "torch": Room("torch", "chainrule", "cr."),
    "nn": Room("torch.nn", "chainrule.nn", "nn."),
    "functional": Room("torch.nn.functional", "chainrule.nn.functional", "F."),
    "init": Room("torch.nn.init", "chainrule.nn.init", "nn.init."),
    "rnn": Room("torch.nn.utils.rnn", "chainrule.nn.utils.rnn", "nn.utils.rnn."),
    "tools": Room("torch.utils", "chainrule.utils", "cr.utils."),
    "utils": Room("torch.nn.utils", "chainrule.nn.utils", "nn.utils."),
    "data": Room("torch.utils.data", "chainrule.utils.data", "utils.data."),
    "optim": Room("torch.optim", "chainrule.optim", "optim."),
    "lr_scheduler": Room("torch.optim.lr_scheduler", "chainrule.optim.lr_scheduler", "optim.lr_scheduler."),
    "swa_utils": Room("torch.optim.swa_utils", "chainrule.optim.swa_utils", "optim.swa_utils."),
    "autograd": Room("torch.autograd", "chainrule.autograd", "cr.autograd."),
    "function": Room("torch.autograd.function", "chainrule.autograd.function", "cr.autograd.function."),
    "autograd_functional": Room(
        "torch.autograd.functional", "chainrule.autograd.functional", "cr.autograd.functional."
    ),
    "func": Room("torch.func", "chainrule.func", "cr.func."),
    "linalg": Room("torch.linalg", "chainrule.linalg", "cr.linalg."),
    "distributions": Room("torch.distributions", "chainrule.distributions", "cr.distributions."),
    "Tensor": Room("torch.Tensor", "chainrule:Tensor", "Tensor."),
    "Module": Room("torch.nn.Module", "chainrule.nn:Module", "Module."),
}


@cache
def known_names() -> dict[str, Any]:
    """The list: the names of each place, each with its keywords."""
    found: dict[str, Any] = json.loads(LIST.read_text(encoding="utf-8"))
    return found


def theirs(room: str) -> list[str]:
    """PyTorch's public names in a place."""
    return list(known_names()[room])


def keywords_of(room: str, name: str) -> list[str]:
    """The arguments of one of PyTorch's names, as far as they are known."""
    found: list[str] = known_names().get(room, {}).get(name, [])
    return found


# -- missing names ---------------------------------------------------------------------------------


def missing(room: str, name: str, ours: Iterable[str]) -> str | None:
    """What to say about a name that is PyTorch's or Keras's and not here; None where it is neither's."""
    if name in KERAS.get(room, {}):
        return f"there is no {name} here. {KERAS[room][name]}"
    if name.startswith("_") or name not in known_names().get(room, {}):
        return None
    title = f"{ROOMS[room].pytorch}.{name}"
    return f"{title} of PyTorch is not in chainrule yet.{_instead(room, name, ours)} What is there: {PAGE}"


def _instead(room: str, name: str, ours: Iterable[str]) -> str:
    hint = NEAREST.get(name)
    if hint is not None:
        return f" {hint}"
    alike = [ROOMS[room].prefix + n for n in ours if not n.startswith("_") and _letters(n) == _letters(name)]
    return f" There is {' and '.join(alike)}." if alike else ""


def _letters(name: str) -> str:
    """What names have in common that differ in case and underscores alone: others that look alike mean something else."""
    return name.replace("_", "").lower()


def module_getattr(room: str, module: str, later: Mapping[str, str] | None = None) -> Callable[[str], Any]:
    """A module's ``__getattr__``: an AttributeError, or in ``from module import name`` an ImportError, that says more.

    Args:
        later: names that are brought in when first asked for, and from where: they take time to import.
    """

    def __getattr__(name: str) -> Any:
        if later is not None and name in later:
            return bring(module, name, later[name])
        text = None if name.startswith("_") else missing(room, name, vars(sys.modules[module]))
        if text is not None and _importing(sys._getframe(1)):
            raise ImportError(f"cannot import name {name!r} from {module!r}: {text}", name=module)
        raise AttributeError(text or f"module {module!r} has no attribute {name!r}", name=name, obj=sys.modules[module])

    return __getattr__


def bring(module: str, name: str, source: str) -> Any:
    """A name of a module from where it stands: a module of that name, or something in another."""
    found: Any = import_module(source)
    if source.rpartition(".")[2] != name:
        found = getattr(found, name)
    setattr(sys.modules[module], name, found)
    return found


def _importing(frame: FrameType) -> bool:
    """Does the frame stand at ``from ... import name``? There the interpreter drops an AttributeError's text."""
    code = frame.f_code.co_code
    return 0 <= frame.f_lasti < len(code) and dis.opname[code[frame.f_lasti]] == "IMPORT_FROM"


class Missing:
    """A name of PyTorch's that a class has not: an attribute that raises the error which says so.

    A ``__getattr__`` would do the same, but reading any attribute of a class that has one costs several times as much.
    """

    def __init__(self, room: str, name: str) -> None:
        self.room, self.name = room, name

    def __get__(self, instance: object, owner: type) -> Any:
        for base in owner.__mro__:  # a class after the one that has not
            found = vars(base).get(self.name, self)
            if not isinstance(found, Missing):
                bind = getattr(type(found), "__get__", None)
                return found if bind is None else bind(found, instance, owner)
        raise no_attribute(self.room, owner if instance is None else instance, self.name)


class Elsewhere:
    """An attribute of another library's that nobody would read here: to assign it is refused, with what there is.

    A class of the user's own may have one of that name, which is then what that class makes of it.
    """

    def __init__(self, room: str) -> None:
        self.room = room

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        if self.name in vars(instance):
            return vars(instance)[self.name]
        raise no_attribute(self.room, instance, self.name)

    def __set__(self, instance: object, value: object) -> None:
        if type(instance).__module__.partition(".")[0] != __name__.partition(".")[0]:
            vars(instance)[self.name] = value
            return
        raise SettingError(f"{type(instance).__name__}: {missing(self.room, self.name, ())}")

    def __delete__(self, instance: object) -> None:
        if vars(instance).pop(self.name, self) is self:
            raise no_attribute(self.room, instance, self.name)


def refuses(room: str) -> Callable[[type[T]], type[T]]:
    """Decorates a class: Keras's names of a room are `Elsewhere` in its objects, and ``dir`` does not speak of them."""

    def decorate(kind: type[T]) -> type[T]:
        for name in KERAS[room]:
            attribute = Elsewhere(room)
            attribute.__set_name__(kind, name)
            setattr(kind, name, attribute)

        def __dir__(self: object) -> list[str]:
            return sorted({*object.__dir__(self)} - {*KERAS[room]} | {*vars(self)})

        kind.__dir__ = __dir__  # type: ignore[method-assign]
        return kind

    return decorate


replaced: list[Callable[[], None]] = []  # whom to tell that a class of ours has been given something


class Named(type):
    """The type of classes with `Missing` names, of which ``dir`` and ``help`` do not speak."""

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        for tell in replaced:
            tell()

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        for tell in replaced:
            tell()

    def __dir__(cls) -> list[str]:
        spaces = [vars(base) for base in cls.__mro__]
        return sorted({name for space in spaces for name, value in space.items() if not isinstance(value, Missing)})


def mark_missing(room: str, kind: type) -> None:
    """Give a class its missing names."""
    for name in theirs(room):
        if not name.startswith("_") and not hasattr(kind, name):
            setattr(kind, name, Missing(room, name))


def no_attribute(room: str, owner: object, name: str) -> AttributeError:
    """The error for an attribute that an object has not."""
    kind = owner if isinstance(owner, type) else type(owner)
    plain = f"{kind.__name__!r} object has no attribute {name!r}"
    if owner is kind:
        plain = f"type {plain.replace(' object', '', 1)}"
    text = None if name.startswith("_") else missing(room, name, dir(kind))
    return AttributeError(f"{plain}: {text}" if text else plain, name=name, obj=owner)


# -- missing keywords ------------------------------------------------------------------------------


def takes_keywords(room: str) -> Callable[[F], F]:
    """Decorates a function: its TypeError for a keyword that it has not says what there is (`explain_keywords`).

    It takes ``out=`` where PyTorch's does: what it gives is written there.
    """

    def decorate(function: F) -> F:
        name = function.__name__

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                if "out" not in kwargs or "out" not in keywords_of(room, name):
                    if kwargs:
                        explain_keywords(room, name, function, kwargs, error)
                    raise
            out = kwargs.pop("out")
            result = call(*args, **kwargs)
            return result if out is None else written(name, out, result)

        return call  # type: ignore[return-value]

    return decorate


def renamed_keywords(table: Mapping[str, str]) -> Callable[[F], F]:
    """The same with a table of its own: what keywords of other libraries are called here."""

    def explain(function: Callable[..., Any], given: Mapping[str, Any], error: TypeError) -> None:
        name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        explain_keywords("", name, function, given, error, table)

    return _explained(explain)


def _explained(explain: Callable[[Callable[..., Any], Mapping[str, Any], TypeError], None]) -> Callable[[F], F]:
    """Decorates a function: a TypeError of a call with keywords goes to `explain`, which may raise a better one."""

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                if kwargs:
                    explain(function, kwargs, error)
                raise

        return call  # type: ignore[return-value]

    return decorate


def classes_take_keywords(room: str, classes: Iterable[Any]) -> None:
    """The same for the constructors of classes; one that is explained already stays."""
    for cls in classes:
        initialise = cls.__init__
        if initialise is object.__init__ or hasattr(vars(cls).get("__init__"), "__wrapped__"):
            continue

        @wraps(initialise)
        def call(self: Any, *args: Any, _of: type = cls, _own: Any = initialise, **kwargs: Any) -> None:
            try:
                _own(self, *args, **kwargs)
            except TypeError as error:
                if kwargs:
                    explain_keywords(room, _of.__name__, _own, kwargs, error)
                raise

        cls.__init__ = call


def explain_keywords(
    room: str, name: str, function: Callable[..., Any], given: Iterable[str], error: TypeError, table: Mapping[str, str] = _NONE,
) -> None:  # fmt: skip
    """Raise a TypeError for the first keyword that `function` has not; return where it has all of them.

    Args:
        room: the place of PyTorch's that the name has its keywords from, if there is one.
        name: what users call the function, or its class.
        function: what was called.
        given: the keywords of the call.
        error: what Python said.
        table: what keywords of other libraries are called here, beside those that are known for all functions.
    """
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [p for p in parameters if p not in ("self", "args", "kwargs") and p[0] != "_"]
    by_position = [p.name for p in parameters.values() if p.kind is p.VAR_POSITIONAL]
    for keyword in given:
        if keyword in known and keyword not in by_position:
            continue
        takes = f"{name} takes {', '.join(known) or 'nothing'}."
        if room and keyword in keywords_of(room, name):
            raise TypeError(
                f"{name}: PyTorch's keyword {keyword!r} is not in chainrule yet.{_without(keyword)} {takes[:-1]}. See {PAGE}"
            ) from error
        hint = table.get(keyword) or _meant(keyword, known) or takes
        raise TypeError(f"{name}: there is no keyword {keyword!r}. {hint}") from error


def _meant(keyword: str, known: Sequence[str]) -> str:
    """What a keyword that is not known may stand for."""
    alias = next((name for name in RENAMED.get(keyword, ()) if name in known), None)
    if alias is not None:
        return f"Use {alias}."
    if keyword in ELSEWHERE:
        return ELSEWHERE[keyword]
    near = difflib.get_close_matches(keyword, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _without(keyword: str) -> str:
    hint = NEAREST.get(f"{keyword}=")
    return f" {hint}" if hint is not None else ""
