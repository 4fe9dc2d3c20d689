"""What code is written for: the vector registers of a machine, and what its units are good at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chainrule import dtypes
from chainrule.tensor.memory import LINE

BYTES = {"float": 4, "double": 8}
# LLVM's types of elements in registers and in memory: bool is i1 in registers and a byte in memory. Of bfloat16 the words are
# only moved: not every CPU has instructions for it, and their rounding is not the same everywhere.
REGISTER = {
    dtypes.float32: "float", dtypes.float64: "double", dtypes.int32: "i32", dtypes.int64: "i64",
    dtypes.uint8: "i8", dtypes.bool_: "i1", dtypes.bfloat16: "i16",
}  # fmt: skip
MEMORY = {**REGISTER, dtypes.bool_: "i8"}

# The fastest of a product's tiles, given cheapest by estimate first: (contraction, target, tiles) -> one of them.
Search = Callable[[Any, "Target", list[tuple[int, int]]], tuple[int, int]]


@dataclass(frozen=True)
class Target:
    """The vector registers of the machine that code is written for.

    >>> Target.of("x86_64", {"avx2": True, "fma": True, "avx512f": False})
    Target(vector_bytes=32, registers=16)
    """

    vector_bytes: int = 16
    registers: int = 16
    search: Search | None = field(default=None, repr=False)  # None: the tile that should cost least (see `tuning.best`)
    quick_roots: bool = field(default=False, repr=False)  # a vector's square roots take no longer than a dozen products
    fma: bool = field(default=True, repr=False)  # a multiply-add in one rounding
    doubles: bool = field(default=True, repr=False)  # units for float64; without, it is put together of whole numbers
    fmas: int = field(default=2, repr=False)  # vectors of multiply-adds that begin in a cycle
    clears: bool = field(
        default=False, repr=False
    )  # a run clears vector registers, as no kernel does: `entry.clear_vectors`

    @classmethod
    def of(cls, architecture: str, features: Mapping[str, bool], cpu: str = "") -> Target:
        """The registers of an architecture with some features, both as LLVM names them, and of a CPU."""
        if architecture in ("aarch64", "arm64"):
            return cls(16, 32)
        if architecture == "riscv64":  # without vectors: four registers each stand for one
            return cls(16, 8)
        if architecture.startswith("thumb"):
            return cls(16, 8, doubles=False)
        if features.get("avx512f"):
            # 16 square roots: 20 cycles on Intel's Ice Lake, 10 on AMD's Zen 4, whose units take vectors of 64 bytes in
            # two halves (Fog, "Instruction tables").
            return cls(64, 32, quick_roots=cpu.startswith("znver"), fmas=1 if cpu == "znver4" else 2)
        return cls(32 if features.get("avx2") else 16, 16, fma=bool(features.get("fma")))

    def fuses(self, scalar: str) -> bool:
        """Has it a multiply-add in one rounding for this type?"""
        return self.fma and (self.doubles or scalar != "double")

    @property
    def avx512(self) -> bool:
        """Of all CPUs that code is written for, only those with AVX-512 have vectors of a whole line."""
        return self.vector_bytes == LINE

    @property
    def spare(self) -> int:
        """Registers to leave alone where factors are broadcast in registers, not from memory: with fewer LLVM moves sums about."""
        return 2 if self.registers == 32 and self.vector_bytes == 16 else 0

    def lanes(self, scalar: str) -> int:
        return self.vector_bytes // BYTES[scalar]


def power_of_two_above(count: int) -> int:
    """The least power of two that is not less: lanes for so many."""
    return 1 << (count - 1).bit_length()
