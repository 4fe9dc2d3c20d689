"""What a trace reads of Python outside it, and what it assigns there.

What it reads is guarded. A tensor that it assigns to an attribute or a variable is put there at every call, like a
gradient; a number, text or None, too. What cannot be repeated so is refused where it happens.
"""

from __future__ import annotations

import pickle
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from chainrule.compiler.frontend import guards, terms
from chainrule.compiler.frontend.attributes import Attribute, Members, Variable
from chainrule.compiler.frontend.capture import Capture
from chainrule.compiler.frontend.contents import COMPARED, ITEMS, inside, items_of
from chainrule.compiler.frontend.guards import ABSENT, SIMPLE, Seen, Table, same
from chainrule.compiler.frontend.named import ITEM, item
from chainrule.compiler.frontend.once import standing_of, warning_of
from chainrule.compiler.frontend.terms import Term
from chainrule.errors import TraceError
from chainrule.lines import user_line
from chainrule.tensor.core import Handle

if TYPE_CHECKING:
    from chainrule.graph import Recorder

Key = tuple[int, str]
_INTERNAL = ("_layer_name", "_non_persistent")
_COUNTED = ("_hooks",)  # attributes of a module that only its own methods put there, which count


class Outside:
    """The surroundings of one trace.

    Attributes:
        made: modules that the trace itself made, whose attributes are its own business.
        reads: what it read of modules: namespace, name and value.
        places: attributes and variables that hold a tensor the trace read, or that it assigned.
    """

    def __init__(self, capture: Capture | None = None) -> None:
        self.capture = capture
        self.made: dict[int, Any] = {}
        self.reads: dict[Key, tuple[Any, str, Any]] = {}
        self.kinds: dict[int, tuple[Any, type, dict[str, Any]]] = {}  # of modules, with their own attributes
        self.keys: dict[int, tuple[Table, tuple[str, ...]]] = {}
        self.places: dict[Key, Attribute] = {}
        self.changed: set[Key] = set()  # variables and containers that the function itself changes
        self.altered: list[Altered] = []  # such variables and containers, with what it found and left there
        self.faults: list[str] = []
        self.warnings: list[str] = []  # given once everything is put back: they may be errors
        self.finished = False
        self._before = _Before(capture) if capture is not None else None

    # -- reading --------------------------------------------------------------------------------------------------
    def read(self, module: Any, name: str, found: Any) -> None:
        """An attribute of a module was read (`ABSENT`: asked for)."""
        if self.finished or id(module) in self.made or name in _INTERNAL:
            return
        own: dict[str, Any] = object.__getattribute__(module, "__dict__")
        self.kinds.setdefault(id(module), (module, type(module), own))
        if self._before is not None:
            self._before.hold(found, name)
        if isinstance(found, Table):
            self._read_table(found)
        elif name in own or found is ABSENT:
            self.read_name(own, name, found)
        else:
            self._read_of_class(type(module), name, found)
            if not isinstance(
                found, (*SIMPLE, tuple, Handle)
            ):  # in the place of a method, say, it may get one of its own
                self.read_name(own, name, ABSENT)

    def read_name(self, space: Any, name: str, found: Any) -> None:
        """A name was read in a namespace."""
        key = id(space), name
        if key not in self.places:
            self.reads.setdefault(key, (space, name, found))

    def _read_table(self, table: Table) -> None:
        self.keys.setdefault(id(table), (table, tuple(table)))
        for name, member in table.items():
            self.read_name(table, name, member)

    def _read_of_class(self, kind: type, name: str, found: Any) -> None:
        for each in kind.__mro__:
            if name in vars(each):
                if vars(each)[name] is found:  # else: a property, whose own reads are recorded
                    self.reads.setdefault((id(kind), name), (Members(kind), name, found))
                return

    # -- assigning ------------------------------------------------------------------------------------------------
    def assign(self, module: Any, space: dict[str, Any], name: str, value: Any) -> None:
        """An attribute of a module is about to be assigned; raises where no call could repeat that."""
        if id(module) in self.made:
            return
        key, label = (id(space), name), f"{type(module).__name__}.{name}"
        before = space.get(name, ABSENT)
        if not isinstance(value, (Handle, *SIMPLE)):
            raise TraceError(_refused(label, value))
        number = isinstance(value, (int, float, complex)) and not isinstance(value, bool)
        if number and key in self.reads and not same(self.reads[key][2], value):
            raise TraceError(
                f"cr.compile: {label} was changed from {self.reads[key][2]!r} to {value!r} inside the function"
                f"{_at()}, which Python runs only when it is traced. Keep it in a tensor "
                f"(self.register_buffer({name!r}, cr.tensor(...)) and self.{name} += ...), or change it outside."
            )
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = Attribute(before, key in self.reads, space=space, name=name)
        place.written = True

    # -- afterwards -----------------------------------------------------------------------------------------------
    def finish(self, trace: Recorder) -> None:
        """Find the places of tensors that were read or assigned, and give back what else the trace left outside."""
        self.finished = True
        if self._before is not None:
            self._before.settle(self, trace)
        if self.capture is not None:
            self.capture.reach(
                (value, name) for _, name, value in [*self.reads.values()]
                if not isinstance(value, Handle) and not hasattr(value, "_layer_name")
            )  # fmt: skip
        self._locate()

    def _locate(self) -> None:
        """The places of tensors that are reached as one attribute of a module and in no other way.

        There each call finds the tensor to read. Others, and what requires grad (an optimizer holds it, perhaps), are
        guarded: another tensor there means another program.
        """
        count = Counter(id(value) for _, _, value in self.reads.values() if isinstance(value, Handle))
        known = self.capture.tensors if self.capture is not None else {}
        for key, (space, name, value) in self.reads.items():
            if key in self.places or not isinstance(value, Handle) or isinstance(space, Members):
                continue
            if count[id(value)] == 1 and id(value) not in known and not value._node.requires_grad:
                self.places[key] = Attribute(value, True, space=space, name=name)

    def guards(self) -> Guards:
        """What to look at before the program is used again."""
        return Guards(self)


def _refused(label: str, value: Any) -> str:
    kind = type(value).__name__
    return (
        f"cr.compile: {label} was assigned a {kind} inside the function{_at()}, which Python runs only when it is "
        f"traced. Assign tensors, numbers, text or None, one to an attribute; or return it and assign it outside."
    )


def _at() -> str:
    line = user_line()
    return f" ({line})" if line else ""


class Guards:
    """What a trace read outside, and whether it is still so.

    Args:
        given: names of attributes of modules that whoever asks sets to what they were.
    """

    def __init__(self, outside: Outside, given: frozenset[str] = frozenset()) -> None:
        self.keys = list(outside.keys.values())
        self.values = [
            read for key, read in outside.reads.items()
            if not (key in outside.places and outside.places[key].had) and not isinstance(read[0], Members)
            and read[1] not in given
        ]  # fmt: skip
        self.kinds = list(outside.kinds.values())
        self.library = guards.rebound
        self.places = list(outside.places.values())
        placed = set(outside.places)
        read = [each for key, each in outside.reads.items() if key not in placed]
        found = [terms.member(space.owner, name) for space, name, _ in read if isinstance(space, Members)]
        # ``vars(module)["p"] = 0.5`` goes by whoever counts.
        own = {id(space) for _, _, space in self.kinds}
        plain = [(space, name) for space, name, _ in read if id(space) in own and name not in given.union(_COUNTED)]
        found += [(terms.item if name in space else terms.presence)(space, name) for space, name in plain]
        self.checks: list[Callable[[], bool]] = self._looked_at(outside, placed, found)
        held = [p for p in self.places if p.read and p.had and not p.written and id(p.space) in own]
        self.moved = _Moved(held) if held else None
        uncounted = [place for key, place in outside.places.items() if place.read and key not in outside.reads]
        flags = [place for place in uncounted if not place.had]
        if flags:
            self.checks.append(Seen(lambda: [place.get() for place in flags]))
        tensors = [place for place in uncounted if place.had]
        if tensors:
            self.checks.append(Seen(lambda: [place.fits() for place in tensors]))

    def _looked_at(self, outside: Outside, placed: set[Key], found: list[Term]) -> list[Callable[[], bool]]:
        """What nobody counts, and is compared at every call."""
        if outside.capture is None:
            return terms.together(found)
        return outside.capture.checks(placed | outside.changed, found)

    def same(self) -> bool:
        """Are the modules as the trace saw them?"""
        if self.library != guards.rebound:
            return False
        if not all(type(module) is kind and vars(module) is own for module, kind, own in self.kinds):
            return False
        for space, name, value in self.values:
            now = space.get(name, ABSENT)
            if now is not value and not same(now, value):
                return False
        if not all(tuple(table) == keys for table, keys in self.keys) or not all(place.fits() for place in self.places):
            return False
        if self.moved is not None:
            self.moved.look()
        return True


class _Moved:
    """Do attributes of modules hold other tensors than when they were last looked at? Then everything is to be looked at."""

    def __init__(self, places: list[Attribute]) -> None:
        self.places = places
        self.look()

    def look(self) -> None:
        """What they hold now; weakly, since a tensor that nothing but its place holds is written where it lies."""
        self.tensors = [ref(place.get()) for place in self.places]

    def __call__(self) -> bool:
        pairs = zip(self.places, self.tensors, strict=True)
        return not all(place.get() is tensor() for place, tensor in pairs)


class Altered:
    """What a trace itself changed of Python beside places: each call that finds it as before leaves it as the trace did.

    Args:
        label: what it is called.
        before, after: what the trace found and left there; of a container, copies.
        get, put: what is there now, and have something there.
    """

    def __init__(self, label: str, before: Any, after: Any, get: Callable[[], Any], put: Callable[[Any], None]) -> None:
        self.label, self.before, self.after, self._get, self.put = label, before, after, get, put

    def is_as_before(self) -> bool:
        """Is it as the trace found it?"""
        now, then = self._get(), self.before
        if type(now) is not type(then) or not isinstance(now, COMPARED):
            return now is then or same(now, then)
        pairs = zip(items_of(now), items_of(then), strict=False)
        return len(now) == len(then) and all(a is b or same(a, b) for a, b in pairs)


# -- what is not a module's ---------------------------------------------------------------------------------------------


class _Before:
    """What stood outside when a trace began: variables, attributes of plain objects, lists, generators."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.names = [(key, space, name, space.get(name, ABSENT)) for key, space, name in _names(capture)]
        self.containers = {key: (value, _copy(value), name) for key, (value, name) in capture.containers.items()}
        self.arrays = [(value, value.copy(), name) for value, name in capture.arrays.values()]
        self.buffers = [(value, memoryview(value).tobytes(), name) for value, name in capture.buffers.values()]
        self.generators = [(value, name, _state(value)) for value, name in capture.generators.values()]
        self.iterators = [(value, name, standing_of(value)) for value, name in capture.iterators.values()]
        self.draws = _draws()

    def hold(self, value: Any, name: str) -> None:
        """What a module has under a name, if it is a container: it was read, and no code can have changed it before that."""
        known = id(value) in self.containers or isinstance(value, Table)  # whose members are guarded one by one
        if isinstance(value, COMPARED) and not known and len(value) <= ITEMS:
            self.containers[id(value)] = (value, _copy(value), name)
            for each in inside(value):
                self.hold(each, name)

    def settle(self, outside: Outside, trace: Recorder) -> None:
        """Make places of what holds a tensor of the trace now, and put everything else back."""
        for key, space, name, value in self.names:
            now = space.get(name, ABSENT)
            if now is value or same(now, value):
                continue
            if isinstance(now, Handle) and now._node.trace is trace:
                outside.places[key, name] = Attribute(value, True, True, space=space, name=name)
            elif _traced(now, trace):
                space[name] = value
                outside.faults.append(_refused(name, now))
            elif _is_number(value) and _is_number(now) and name in self.capture.counted:
                space[name] = value
                outside.faults.append(_counts(f"the number {name!r}", value, now))
            elif isinstance(value, _LASTING) and isinstance(now, _LASTING):
                outside.places[key, name] = Attribute(value, name in self.capture.read, True, space=space, name=name)
            else:
                outside.changed.add((key, name))
                place = Attribute(value, True, True, space=space, name=name)
                outside.altered.append(Altered(repr(name), value, now, place.get, place.set))
        for container, copy, name in self.containers.values():
            self._settle_container(container, copy, name, outside, trace)
        for buffer, copy, name in self.buffers:
            if memoryview(buffer).tobytes() != copy:
                label, now = f"the {type(buffer).__name__} {name!r}", memoryview(buffer).tobytes()
                outside.altered.append(Altered(label, copy, now, memoryview(buffer).tobytes, partial(_refill, buffer)))
        for array, copy, name in self.arrays:
            if array.tobytes() != copy.tobytes():
                array[...] = copy
                outside.faults.append(
                    f"cr.compile: elements of the array {name!r} were changed inside the function, which Python does only "
                    f"when it is traced. Keep them in a tensor, or change the array outside."
                )
        drawn = [f"{name!r}" for value, name, state in self.generators if _state(value) != state]
        drawn += [name for (name, state), (_, now) in zip(self.draws, _draws(), strict=True) if state != now]
        for name in drawn:
            outside.warnings.append(
                f"cr.compile: the function drew random numbers from {name} while it was traced. Every later call uses "
                f"the same ones. Draw with cr.rand, cr.randn and the like, or pass the numbers as an argument."
            )

        for iterator, name, standing in self.iterators:
            if standing_of(iterator) != standing:
                outside.warnings.append(
                    f"cr.compile: the function went on with the iterator {name!r} while it was traced. Every later call uses "
                    f"the same. Pass what it gives as an argument, or loop over a list."
                )
        outside.warnings += map(warning_of, self.capture.read_once)

    def _settle_container(self, container: Any, copy: Any, name: str, outside: Outside, trace: Recorder) -> None:
        if _same_items(container, copy):
            return
        outside.changed.add((id(container), name))
        counted = next(self._counted(container, copy), None)
        if _traced(container, trace):
            outside.faults.append(
                f"cr.compile: a tensor of the function was put into the {type(container).__name__} {name!r}, which "
                f"Python does only when it is traced. Return the tensor, and put it there outside."
            )
        elif counted is not None:
            outside.faults.append(_counts(f"the number {name}{item(counted)}", copy[counted], container[counted]))
        else:
            if not _only_longer(container, copy):
                label = f"the {type(container).__name__} {name!r}"
                outside.altered.append(
                    Altered(label, copy, _copy(container), lambda: container, partial(_restore, container))
                )
            return
        _restore(container, copy)

    def _counted(self, container: Any, copy: Any) -> Iterator[Any]:
        """Keys of numbers that the function changed by what they were."""
        if isinstance(container, (set, deque)) or len(container) != len(copy):
            return
        for key in copy if isinstance(copy, dict) else range(len(copy)):
            before, now = copy[key], container.get(key) if isinstance(copy, dict) else container[key]
            by_itself = not self.capture.counted.isdisjoint((item(key), ITEM))
            if by_itself and _is_number(before) and _is_number(now) and not same(before, now):
                yield key


_LASTING = (*SIMPLE, type(ABSENT))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex)) and not isinstance(value, bool)


def _counts(label: str, before: Any, now: Any) -> str:
    return (
        f"cr.compile: {label} was changed from {before!r} to {now!r} inside the function, which Python runs only when it "
        f"is traced. Keep it in a tensor (n = cr.tensor({before!r}), and n += ...), or change it outside."
    )


def _names(capture: Capture) -> list[tuple[int, Any, str]]:
    """Every name that may be assigned, in which namespace, and by what that is known."""
    found: list[tuple[int, Any, str]] = [(id(cell), Variable(cell), name) for cell, name in capture.cells.values()]
    for key, (space, names) in capture.spaces.items():
        settable = Members(capture.classes[key]) if key in capture.classes else space
        found += [(id(space), settable, name) for name in names]
    return found + [(id(space), space, name) for space, name in capture.shadows.values()]


def _traced(value: Any, trace: Recorder) -> bool:
    """Is it a tensor of the trace, or does it hold one?"""
    if isinstance(value, Handle):
        return value._node.trace is trace
    if isinstance(value, Mapping):
        value = list(value.values())
    return isinstance(value, (list, tuple, set, deque)) and any(_traced(item, trace) for item in list(value)[:ITEMS])


def _copy(value: Any) -> Any:
    return value.copy()


def _same_items(value: Any, copy: Any) -> bool:
    return len(value) == len(copy) and all(map(is_, items_of(value), items_of(copy)))


def _only_longer(value: Any, copy: Any) -> bool:
    """Is it a list at whose end more was put? The one change that is Python's alone: it is how things are noted."""
    return isinstance(value, (list, deque)) and all(map(is_, copy, value)) and len(value) > len(copy)


def _refill(buffer: Any, copy: bytes) -> None:
    whole = memoryview(buffer).cast("B")
    if len(whole) == len(copy):
        whole[:] = copy


def _restore(value: Any, copy: Any) -> None:
    value.clear()
    (value.extend if isinstance(value, (list, deque)) else value.update)(copy)


def _state(generator: Any) -> bytes:
    if isinstance(generator, random.Random):
        return pickle.dumps(generator.getstate())
    if isinstance(generator, np.random.Generator):
        return pickle.dumps(generator.bit_generator.state)
    return pickle.dumps(generator.get_state())


def _draws() -> list[tuple[str, bytes]]:
    return [("`random`", pickle.dumps(random.getstate())), ("`np.random`", pickle.dumps(np.random.get_state()))]
