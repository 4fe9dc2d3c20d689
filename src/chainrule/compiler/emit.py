"""A small writer of LLVM IR text: typed values in, one line of IR an instruction.

Text costs a tenth of building llvmlite's object tree, and reads as LLVM's own manual does.
Every method works alike on scalars (``float``) and vectors (``<16 x float>``).
"""

from __future__ import annotations

import struct
from typing import NamedTuple


class Value(NamedTuple):
    """An SSA name, a literal or a global, with its LLVM type."""

    name: str
    type: str

    @property
    def typed(self) -> str:
        return f"{self.type} {self.name}"


def scalar_of(type: str) -> str:
    """``<16 x float>`` -> ``float``; a scalar type is itself."""
    return type.split(" x ")[1][:-1] if type.startswith("<") else type


def lanes_of(type: str) -> int:
    """``<16 x float>`` -> 16; a scalar has 1."""
    return int(type[1:].split(" x ")[0]) if type.startswith("<") else 1


def vector(scalar: str, lanes: int) -> str:
    """The type of `lanes` scalars; one lane is the scalar itself."""
    return scalar if lanes == 1 else f"<{lanes} x {scalar}>"


def literal(value: float | int | bool, scalar: str) -> str:
    """A constant as LLVM spells it: floats as the bits of a double, so that none is rounded twice."""
    if scalar in ("float", "double"):
        if scalar == "float":
            import numpy as np

            value = float(np.float32(value))
        return "0x" + struct.pack(">d", float(value)).hex().upper()
    if scalar == "i1":
        return "true" if value else "false"
    return str(int(value))


class Emitter:
    """The body of one function being written, and the declarations it needs.

    `flags` stand on every floating-point operation. They allow contraction into fused
    multiply-adds and nothing that would change NaN, infinity or the order of a sum.
    """

    flags = "contract"

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declarations: set[str] = set()
        self.count = 0
        self.block = "entry"

    # -- writing ------------------------------------------------------------------------
    def fresh(self, hint: str = "") -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def assign(self, type: str, text: str) -> Value:
        name = f"%v{self.fresh()}"
        self.lines.append(f"  {name} = {text}")
        return Value(name, type)

    def write(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def jump(self, label: str) -> None:
        self.write(f"br label %{label}")

    def branch(self, condition: Value, then: str, other: str) -> None:
        self.write(f"br i1 {condition.name}, label %{then}, label %{other}")

    # -- values -------------------------------------------------------------------------
    def const(self, value: float | int | bool, type: str) -> Value:
        """A constant of `type`; of a vector type, the same in every lane."""
        text = literal(value, scalar_of(type))
        return Value(text if lanes_of(type) == 1 else f"splat ({scalar_of(type)} {text})", type)

    def binary(self, opcode: str, a: Value, b: Value) -> Value:
        flags = f" {self.flags}" if opcode[0] == "f" else ""
        return self.assign(a.type, f"{opcode}{flags} {a.type} {a.name}, {b.name}")

    def call(self, name: str, type: str, *args: Value) -> Value:
        """A call of an intrinsic or function, declared on first use."""
        self.declarations.add(f"declare {type} @{name}({', '.join(a.type for a in args)})")
        return self.assign(type, f"call {type} @{name}({', '.join(a.typed for a in args)})")

    def intrinsic(self, name: str, *args: Value) -> Value:
        """An LLVM intrinsic overloaded on its first argument's type, e.g. ``sqrt``, ``fmuladd``."""
        type = args[0].type
        lanes = lanes_of(type)
        suffix = {"float": "f32", "double": "f64"}.get(scalar_of(type), scalar_of(type))
        if lanes > 1:
            suffix = f"v{lanes}{suffix}"
        return self.call(f"llvm.{name}.{suffix}", type, *args)

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        """``olt``, ``oeq``, ... on floats; ``slt``, ``eq``, ... on integers."""
        opcode = "fcmp" if scalar_of(a.type) in ("float", "double") else "icmp"
        return self.assign(vector("i1", lanes_of(a.type)), f"{opcode} {predicate} {a.type} {a.name}, {b.name}")

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        return self.assign(a.type, f"select {condition.typed}, {a.typed}, {b.typed}")

    def convert(self, opcode: str, a: Value, type: str) -> Value:
        """``fpext``, ``fptrunc``, ``sitofp``, ``fptosi``, ``bitcast``, ``zext``, ``trunc``, ..."""
        return self.assign(type, f"{opcode} {a.typed} to {type}")

    # -- memory -------------------------------------------------------------------------
    def address(self, base: Value, index: Value, scalar: str) -> Value:
        return self.assign("ptr", f"getelementptr inbounds {scalar}, ptr {base.name}, i64 {index.name}")

    def load(self, address: Value, type: str, align: int = 1) -> Value:
        return self.assign(type, f"load {type}, ptr {address.name}, align {align}")

    def store(self, value: Value, address: Value, align: int = 1) -> None:
        self.write(f"store {value.typed}, ptr {address.name}, align {align}")
