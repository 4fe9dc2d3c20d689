"""Compile IR text for this machine and call it, for tests of the code generators alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.plan.target import Target
from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.units import Pool

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()

POINTERS = {np.dtype(np.float32): ctypes.c_float, np.dtype(np.float64): ctypes.c_double}
NAMES = {"float": np.float32, "double": np.float64}


def as_other_machines(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Target]:
    """Compile as for a CPU with other registers than this one's, and on one thread more each time."""
    machines = (Target(64, 32), Target(32, 16, fmas=1), Target(16, 16, fma=False), Target(16, 32))
    for number, target in enumerate(machines):
        monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(folder / str(number)))
        monkeypatch.setattr(native, "_pool", Pool())
        monkeypatch.setattr(native.machine(), "target", target)
        cr.set_num_threads(number + 1)
        yield target


def machine(level: int = 3) -> llvm.TargetMachine:
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=level, jit=True
    )


class Compiled:
    """A module in memory; keep it alive while its functions are called."""

    def __init__(self, text: str, speed: int = 3, codegen: int = 3, vectorize: bool = True) -> None:
        self.machine = machine(codegen)
        self.text, self.speed, self.vectorize = text, speed, vectorize
        self.engine = llvm.create_mcjit_compiler(self._optimised(), self.machine)
        self.engine.finalize_object()

    def _optimised(self) -> llvm.ModuleRef:
        module = llvm.parse_assembly(self.text)
        module.verify()
        options = llvm.create_pipeline_tuning_options(self.speed)
        options.loop_vectorization = self.vectorize
        options.slp_vectorization = False
        builder = llvm.create_pass_builder(self.machine, options)
        builder.getModulePassManager().run(module, builder)
        return module

    @cached_property
    def module(self) -> llvm.ModuleRef:
        """For reading, as is `assembly`: made once more for the few tests that do."""
        return self._optimised()

    @cached_property
    def assembly(self) -> str:
        return str(self.machine.emit_assembly(self.module))

    def call(self, name: str, *arguments: Any) -> None:
        """Arrays go as pointers, integers as i64."""
        values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
        types = [ctypes.c_void_p if isinstance(a, np.ndarray) else ctypes.c_int64 for a in arguments]
        ctypes.CFUNCTYPE(None, *types)(self.engine.get_function_address(name))(*values)


def module_of(e: Emitter, *functions: str) -> str:
    return "\n".join([*e.declared(), *functions])


def elementwise(function: Callable[..., Register], scalar: str, inputs: int = 1) -> Compiled:
    """``void f(out, in..., n)`` that applies an elementwise generator in one scalar loop."""
    e = Emitter()
    out, count = Register("%out", "ptr"), Register("%n", "i64")
    sources = [Register(f"%in{i}", "ptr") for i in range(inputs)]
    with e.loop(count) as i:
        values = [e.load(e.address(source, i, scalar), scalar, 4) for source in sources]
        e.store(function(e, *values), e.address(out, i, scalar), 4)
    e.ret()
    return Compiled(module_of(e, e.function("f", [out, *sources, count])))


def apply(compiled: Compiled, *inputs: np.ndarray) -> np.ndarray:
    out = np.empty_like(inputs[0])
    compiled.call("f", out, *inputs, out.size)
    return out
