"""A step as an object of its own: pointers and globals in place of the table, one thread, nothing from outside.

    NAME(pointers to arguments and results) -> 0, or the code of the check that failed

The kernels are those of every program, and so are the bits. What the step keeps (weights, moments) are globals of the
object, and so is its working memory: it may run once at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.compiler.codegen import entry
from chainrule.compiler.codegen.module import ModuleWriter
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.target import Target
from chainrule.compiler.plan.work_sharing import WorkSharing
from chainrule.compiler.schedule.memory import ALIGNMENT, MemoryPlan

SMALL = ("wasm32", "thumb")  # the architectures whose pointers have 32 bits, as far as code is written for them

# LLVM calls this for products of more than 64 bits (sines of large numbers) on WebAssembly, whose linkers bring no library
# that has it: a b modulo 2^128, of halves of 64 bits each.
_PRODUCT = """define internal void @__multi3(ptr %result, i64 %a, i64 %a.up, i64 %b, i64 %b.up) nounwind noinline {
  %a.low = and i64 %a, 4294967295
  %a.high = lshr i64 %a, 32
  %b.low = and i64 %b, 4294967295
  %b.high = lshr i64 %b, 32
  %low = mul i64 %a.low, %b.low
  %left = mul i64 %a.high, %b.low
  %right = mul i64 %a.low, %b.high
  %high = mul i64 %a.high, %b.high
  %carry = lshr i64 %low, 32
  %left.on = add i64 %left, %carry
  %left.low = and i64 %left.on, 4294967295
  %left.high = lshr i64 %left.on, 32
  %right.on = add i64 %right, %left.low
  %right.high = lshr i64 %right.on, 32
  %high.on = add i64 %high, %left.high
  %over = add i64 %high.on, %right.high
  %one = mul i64 %a.up, %b
  %other = mul i64 %a, %b.up
  %both = add i64 %one, %other
  %up = add i64 %over, %both
  %down = mul i64 %a, %b
  store i64 %down, ptr %result, align 8
  %second = getelementptr i8, ptr %result, i32 8
  store i64 %up, ptr %second, align 8
  ret void
}"""


@dataclass(frozen=True)
class Global:
    """A buffer in the object."""

    name: str
    data: bytes  # what it holds when the object is loaded
    fixed: bool = False  # no step writes it: it may lie in memory that only reads
    own: bool = False  # the object's: no linker sees it

    @property
    def text(self) -> str:
        kind = "constant" if self.fixed else "global"
        return _definition(self.name, f"{'internal ' * self.own}{kind}", len(self.data), self._value())

    def _value(self) -> str:
        if not any(self.data):
            return "zeroinitializer"
        return 'c"\\' + self.data.hex("\\") + '"'


def _definition(name: str, kind: str, size: int, value: str) -> str:
    return f"@{name} = {kind} [{size} x i8] {value}, align {ALIGNMENT}"


class ExportWriter(ModuleWriter):
    """Writes a program as one module for a linker.

    Args:
        name: of the function.
        pointers: how many entries of the table are its parameters.
        globals: what stands in place of the others.
    """

    step = "chainrule.step"  # no name that C has

    def __init__(
        self, plan: MemoryPlan, sharing: WorkSharing, texts: list[tuple[str, Arguments]], target: Target, triple: str,
        name: str, pointers: int, globals: Sequence[Global],
    ) -> None:  # fmt: skip
        super().__init__(plan, sharing, texts, target, triple)
        self.name, self.globals = name, globals
        self.slots = [f"%p{i}" for i in range(pointers)] + [f"@{each.name}" for each in globals]
        self.parameters = ", ".join(f"ptr %p{i}" for i in range(pointers))
        self.size = "i32" if triple.startswith(SMALL) else "i64"

    def text(self) -> str:
        """The module: the function, the globals and all that is in them."""
        enter, leave, declarations = entry.flush_denormals(self.triple)
        function = [
            f"define signext i32 @{self.name}({self.parameters}) #0 {{", enter,
            f"  %status = call i64 @{self.step}({self.parameters})", leave,
            "  %code = trunc i64 %status to i32", "  ret i32 %code", "}",
        ]  # fmt: skip
        memory = _definition(f"{self.name}.arena", "internal global", self.plan.arena + self.scratch, "zeroinitializer")
        products = [_PRODUCT] * self.triple.startswith("wasm")
        around = [*(each.text for each in self.globals), memory, *products, *function]
        return self._whole("\n".join(around), declarations)

    def _declared(self) -> set[str]:
        memcpy = entry.MEMCPY.replace("i64", self.size)
        return {memcpy if line == entry.MEMCPY else line for line in super()._declared()}

    def _head(self) -> list[str]:
        return [
            f"  %arena = getelementptr i8, ptr @{self.name}.arena, i64 0",
            f"  %scratch = getelementptr i8, ptr @{self.name}.arena, i64 {self.plan.arena}",
            "  %status = alloca i64, align 8",
        ]

    def _entry(self, slot: int) -> str:
        return self.slots[slot]

    def _moved(self, target: str, source: str, size: int) -> str:
        kind = self.size
        return f"  call void @llvm.memcpy.p0.p0.{kind}(ptr {target}, ptr {source}, {kind} {size}, i1 false)"
