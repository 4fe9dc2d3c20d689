"""A program as an object file and a C header: what `Compiled.export` writes.

What a call finds in Python (weights, moments, learning rates) becomes a global of the object, with the value that it
has now; a step in C then follows a step as in a loop, so a function is refused for what a loop could not do either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count

import numpy as np

from chainrule import dtypes
from chainrule.compiler.codegen.exported import Global
from chainrule.compiler.frontend.attributes import AttributeUse as Attribute
from chainrule.compiler.frontend.attributes import Gradient
from chainrule.compiler.frontend.binding import roots_of
from chainrule.compiler.frontend.specialization import Specialization
from chainrule.compiler.frontend.trace import Slot
from chainrule.compiler.runtime.failures import of_check
from chainrule.compiler.schedule.memory import bytes_of
from chainrule.errors import InPlaceError, SettingError, TraceError
from chainrule.graph import Node, Type
from chainrule.tensor import Tensor
from chainrule.tensor.core import current
from chainrule.version import __version__

C = {
    dtypes.float32: "float", dtypes.float64: "double", dtypes.int32: "int32_t", dtypes.int64: "int64_t",
    dtypes.uint8: "uint8_t", dtypes.bool_: "uint8_t", dtypes.bfloat16: "uint16_t",
}  # fmt: skip
# What C means something else by, and what compilers call on their own.
TAKEN = frozenset({
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float", "for",
    "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof", "static", "struct",
    "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "main", "memcpy", "memmove", "memset",
})  # fmt: skip


@dataclass(frozen=True)
class Buffer:
    """A buffer as C sees it."""

    name: str
    type: Type
    fixed: bool  # no step writes it
    told: str  # what a comment says of it
    data: bytes = b""  # of a global: what is in it now

    @property
    def declared(self) -> str:
        elements = max(1, int(np.prod(self.type.shape)))
        return f"{'const ' * self.fixed}{C[self.type.dtype]} {self.name}[{elements}]"

    @property
    def comment(self) -> str:
        words = ", each word the upper half of a float" * self.type.dtype.only_stores
        return _comment(f"{self.type.dtype.name} {self.type.shape}{words}{': ' * bool(self.told)}{self.told}")


class Export:
    """One program as an object for a linker.

    Args:
        name: of the function, with which the names of its globals begin.
        cpu: one of `native.CPUS`; None: this one.
        names: of tensors, for those of them that are state.

    Raises:
        SettingError: a name that C does not take.
        TraceError: what the function leaves is not what the next step begins with, or has a history.
        InPlaceError: it reads a view of what it changes.
        UnknownNameError: there is no such CPU.
    """

    def __init__(self, variant: Specialization, name: str, cpu: str | None, names: Mapping[str, Tensor]) -> None:
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) or name in TAKEN:
            raise SettingError(
                f"export: name must be a name for a function of C, got {name!r}. Pass 'step', for example."
            )
        _check(variant)
        self.variant, self.name, self.cpu = variant, name, cpu
        self.names = {id(tensor): key for key, tensor in names.items()}
        self.program = variant.program if cpu is None else variant.program.elsewhere(cpu)
        self.taken: set[str] = set()
        self.pointers = [*self._arguments(), *self._results()]
        self.globals = [*self._numbers(), *map(self._state, range(len(variant.state))), *self._left()]

    @property
    def object(self) -> bytes:
        """The object file."""
        kept = [Global(each.name, each.data, fixed=each.fixed) for each in self.globals]
        return self.program.exported(self.name, len(self.pointers), kept)

    # -- what stands for the entries of the table, in their order -----------------------------------------------------
    def _arguments(self) -> list[Buffer]:
        slots = self.variant.arguments
        return [Buffer(f"arg{s.argument}", s.input.type, s.final is None, "changed" * s.writes) for s in slots]

    def _results(self) -> list[Buffer]:
        return [Buffer(f"out{i}", type, False, "") for i, type in enumerate(self.variant.result_types)]

    def _numbers(self) -> list[Buffer]:
        told = "a number that the function reads of Python at every call (a learning rate, say)"
        numbers = [(node.type, np.float64(getter())) for getter, node in self.variant.trace.live]
        return [
            Buffer(self._named(f"number{i}"), type, False, told, number.tobytes())
            for i, (type, number) in enumerate(numbers)
        ]

    def _state(self, i: int) -> Buffer:
        slot = self.variant.state[i]
        node, told = current(slot.current()), self._told(slot)
        array = node._value  # not `value`: reading it would mark it as seen
        if array is None:
            raise TraceError(f"{node.op.name}{node.whereabouts()}: a traced tensor has no value to export.")
        return Buffer(self._named(told or f"state{i}"), slot.input.type, not slot.writes, told, array.tobytes())

    def _told(self, slot: Slot) -> str:
        if isinstance(slot.place, Gradient):
            return self._told_of_gradient(slot.place)
        return self.names.get(id(slot.current()), "")

    def _told_of_gradient(self, place: Gradient) -> str:
        owner = self.names.get(id(place.owner), "")
        return f"{owner}.grad" if owner else ""

    def _left(self) -> list[Buffer]:
        return [self._left_at(i, place) for i, place in enumerate(self.variant.placed)]

    def _left_at(self, i: int, place: Attribute) -> Buffer:
        final: Node | None = place.final
        assert final is not None  # by which `placed` is chosen
        told = self._told_of_gradient(place) if isinstance(place, Gradient) else ""
        return Buffer(self._named(told or f"left{i}"), final.type, False, told, bytes(bytes_of(final)))

    def _named(self, wanted: str) -> str:
        """A name for a global, which no other has."""
        base = f"{self.name}_{re.sub('[^A-Za-z0-9_]', '_', wanted)}"
        name = next(name for name in chain([base], (f"{base}_{i}" for i in count(2))) if name not in self.taken)
        self.taken.add(name)
        return name

    # -- the header -----------------------------------------------------------------------------------------------------
    @property
    def header(self) -> str:
        """The declarations of C."""
        guard = f"CHAINRULE_{self.name.upper()}_H"
        parameters = ",\n".join(f"    {each.declared} /* {each.comment} */" for each in self.pointers)
        return "\n".join([
            f"/* Written by chainrule {__version__} for {_comment(self.cpu or self.program.machine.cpu)}. */",
            f"#ifndef {guard}", f"#define {guard}", "#include <stdint.h>", "#ifdef __cplusplus", 'extern "C" {', "#endif",
            "", "/* What the function keeps from call to call, with the values of the export. */",
            *(f"extern {each.declared}; /* {each.comment} */" for each in self.globals),
            "", "/* One call. No two of the buffers may overlap, and no two calls may run at once.", " *",
            " * Gives 0; or the number of the check that failed, after which the state is as it was:",
            *(f" * {i}: {_comment(str(of_check(node, 0)))}" for i, node in enumerate(self.program.schedule.checks, 1)),
            " */", f"int32_t {self.name}(", f"{parameters or '    void'});",
            "", "#ifdef __cplusplus", "}", "#endif", "#endif", "",
        ])  # fmt: skip


def _comment(text: str) -> str:
    """A text inside a comment, on one line."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")


def _check(variant: Specialization) -> None:
    if variant.derivative is not None:
        raise TraceError(
            "export: the function returns tensors that require grad, and no gradient flows out of C. Run it under "
            "cr.no_grad(), detach its results, or call backward inside it."
        )
    if variant.given:
        raise TraceError(
            "export: the function leaves gradients in its arguments, which have no place in C. Return them: "
            "return x.grad."
        )
    if not variant.steady:
        raise TraceError(
            "export: the next call would be another program (it finds a gradient where there was none, say), and an object "
            "holds one. Call the function once more before, or zero_grad() inside."
        )
    changed = {id(slot.handle) for slot in variant.state if slot.final is not None}
    if any(roots_of(slot.handle) & changed for slot in variant.state):
        raise InPlaceError(
            "export: the function reads a leaf that is a view of a tensor it changes, which in C would not see the "
            "change. .clone() the leaf."
        )
