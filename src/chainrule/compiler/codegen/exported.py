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
from chainrule.compiler.schedule.memory import ALIGNMENT, Plan

SMALL = ("wasm32", "thumb")  # the architectures whose pointers have 32 bits, as far as code is written for them


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
        self, plan: Plan, sharing: WorkSharing, texts: list[tuple[str, Arguments]], target: Target, triple: str,
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
        return self._whole("\n".join([*(each.text for each in self.globals), memory, *function]), declarations)

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
