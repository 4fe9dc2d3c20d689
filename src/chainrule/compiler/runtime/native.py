"""From LLVM IR to machine code in memory, by way of a cache on disk.

A cache entry holds a program's object files under the hash of everything they depend on: the program's kernels and
memory plan, the CPU, LLVM's version, and the source of the rooms that write the code (see `cache`, `units`).
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from ctypes import CFUNCTYPE, c_int64, c_void_p
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from chainrule.available import check_limit
from chainrule.compiler.plan.target import Search, Target
from chainrule.compiler.runtime import cache
from chainrule.compiler.runtime.locks import Locks, undisturbed
from chainrule.compiler.runtime.units import Pool, Unit, linked, packed, unpacked
from chainrule.errors import unknown_name

# Bytes of addresses that LLVM's library takes.
LIBRARY = 180_000_000
# Bytes that compiling a small program takes. Without memory LLVM ends the process, so it is asked for before.
LEAST = 32_000_000
T = TypeVar("T")
RUN = CFUNCTYPE(c_int64, c_void_p)  # the address of a frame (`entry.FRAME`) -> status


class Other(NamedTuple):
    """A CPU that code can be written for without running it; all names are LLVM's."""

    triple: str
    features: Mapping[str, bool]  # that its name, or the vectors chosen for it, do not say
    model: str = ""  # where it has another name there
    abi: str = ""  # where the triple does not say it


CPUS = {
    "x86-64-v4": Other("x86_64-unknown-linux-gnu", {"avx512f": True, "avx2": True, "fma": True}),
    "x86-64-v3": Other("x86_64-unknown-linux-gnu", {"avx2": True, "fma": True}),
    "neoverse-n1": Other("aarch64-unknown-linux-gnu", {}),
    "apple-m1": Other("arm64-apple-macosx", {}),
    "riscv64": Other("riscv64-unknown-linux-gnu", dict.fromkeys("mafdc", True), "generic-rv64", "lp64d"),
    "cortex-m4": Other("thumbv7em-unknown-none-eabihf", {}),
    "wasm32": Other("wasm32-unknown-unknown", {"simd128": True, "bulk-memory": True}, "generic"),
}


# The rooms above this one: they decide what is computed, which is in a program's description, not how it is written.
ABOVE = frozenset(
    {
        "__main__.py", "cli", "explain", "interop", "callbacks.py", "sklearn.py", "onnx.py", "deploy", "training", "nn", "optim", "data",
        "utils", "distributions", "func.py", "tape",
    }
)  # fmt: skip


@lru_cache(maxsize=1)
def writers() -> str:
    """A hash of all source below the rooms `ABOVE`: whatever turns a description into code never meets old code."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))  # of the package
    digest = hashlib.sha256()
    for folder, below, names in os.walk(root):
        where = os.path.relpath(folder, root)
        below[:] = sorted(name for name in below if where != "." or name not in ABOVE)
        for name in sorted(names):
            if name.endswith(".py") and (where != "." or name not in ABOVE):
                with open(os.path.join(folder, name), "rb", buffering=0) as file:
                    source = file.read()
                digest.update(f"{where}/{name} {len(source)}\n".encode() + source)
    return digest.hexdigest()[:32]


class Machine:
    """A CPU that programs are written for: this one, or one of `CPUS` by name; `search` times the tiles of products (see `tuning`)."""

    def __init__(self, cpu: str | None = None, search: Search | None = None) -> None:
        with Locks.making:  # a child forked in the middle of an import would find it locked for good
            self._look(cpu, search)

    def _look(self, cpu: str | None, search: Search | None) -> None:
        self.llvm, self.version = loaded()
        llvm = self.llvm
        Locks.library = llvm.ffi.lib._lock  # its public door, `register_lock_callback`, is open once the lock is held
        if cpu is None:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            self.triple: str = llvm.get_process_triple()
            self.cpu: str = llvm.get_host_cpu_name()
            features = llvm.get_host_cpu_features()
            # Kernels do not clear vector registers, a run does: see `entry.clear_vectors`.
            clears = bool(features.get("avx"))
            self.features: str = features.flatten() + ",-vzeroupper" * clears
            self.abi = ""
        else:
            if cpu not in CPUS:
                raise unknown_name("cpu", cpu, list(CPUS))
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            self.triple, features, model, self.abi = CPUS[cpu]
            clears = False
            self.cpu, self.features = model or cpu, ",".join(f"+{name}" for name in features)
        self._compilers: dict[int, Any] = {}
        self.target = replace(Target.of(self.triple.split("-")[0], features, self.cpu), search=search, clears=clears)

    @property
    def identity(self) -> str:
        """All that machine code depends on beside the program."""
        return f"{self.triple} {self.cpu} {self.features} {self.version} {writers()}"

    def target_machine(self, effort: int = 2) -> Any:
        """LLVM's idea of it, for code that runs in this process, or is read; `effort`: as its ``-O``. Whoever has it owns it."""
        return self.llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu, features=self.features, opt=effort, jit=True, abiname=self.abi
        )

    def compiler(self, effort: int) -> Any:
        """LLVM's idea of this machine, made once for all modules: each call of LLVM that works with it holds llvmlite's lock to its end."""
        if effort not in self._compilers:
            self._compilers[effort] = self.target_machine(effort)
        return self._compilers[effort]

    def linked_machine(self) -> Any:
        """LLVM's idea of the machine, for objects that a linker takes; where there is an operating system, into libraries too."""
        reloc = "static" if self.triple.startswith(("thumb", "wasm")) else "pic"
        return self.llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self.cpu, features=self.features, opt=2, reloc=reloc, codemodel="default", abiname=self.abi
        )


def loaded() -> tuple[Any, str]:
    """LLVM, and which it is.

    Raises:
        NotEnoughMemoryError: its library does not fit under a limit on this process's memory.
    """
    try:
        import llvmlite
        import llvmlite.binding as llvm
    except OSError:
        check_limit(LIBRARY)
        raise
    return llvm, f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


@lru_cache(maxsize=1)
def machine() -> Machine:
    """This machine, looked at once."""
    return Machine()


class Code:
    """Machine code in memory; it lives as long as this object."""

    def __init__(self, units: Sequence[Unit]) -> None:
        llvm = machine().llvm
        # The engine wants a module to start from; the code comes from the object files.
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine().target_machine())
        for unit in units:
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(unit.code))
        self._engine.finalize_object()
        self.address: int = self._engine.get_function_address("run")
        self.run: Callable[..., int] = RUN(self.address)
        self.call: Callable[..., int] = RUN(self._engine.get_function_address("call"))
        self.chain: Callable[..., int] = RUN(self._engine.get_function_address("chain"))
        self.copying: int = self._engine.get_function_address("copy")
        self.copy: Callable[..., int] = RUN(self.copying)


def optimise(text: str, here: Machine, linked: bool = False, effort: int = 2) -> tuple[Any, Any]:
    """The module after LLVM's passes, and LLVM's idea of the machine it is for: to write it with, not for an engine to own."""
    llvm, target = here.llvm, here.linked_machine() if linked else here.compiler(effort)
    module = llvm.parse_assembly(text)
    module.triple = here.triple
    module.data_layout = str(target.target_data)
    module.verify()
    # The vectors and the loops are in the IR as they should be (see `codegen.lower`), and the code generator shares what is
    # equal: of LLVM's passes only the one that keeps local variables in registers is left. Value numbering and
    # instruction combining took a seventh of the compile time of a small network, and no kernel but integer division
    # by constants (7 %) was faster for them (measured on 22 kinds of kernels and three whole steps).
    if " alloca " in text:  # else the pass has nothing to do, and to set it up takes a millisecond
        passes = llvm.create_new_module_pass_manager()
        passes.add_sroa_pass()
        passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(1)))
    return module, target


def compile_text(text: str, effort: int = 2) -> bytes:
    """The object file of a module."""
    module, target = optimise(text, machine(), effort=effort)
    code: bytes = target.emit_object(module)
    return code


def linkable(text: str, here: Machine) -> bytes:
    """The object file of a module, for a linker."""
    return undisturbed(_linkable, text, here)


def _linkable(text: str, here: Machine) -> bytes:
    module, target = optimise(text, here, linked=True)
    code: bytes = target.emit_object(module)
    return code


def assembly(text: str, here: Machine) -> str:
    """The assembly of a module, for reading."""
    module, target = optimise(text, here)
    listing: str = target.emit_assembly(module)
    return listing


def compiled(text: str, names: Iterable[str] = (), needs: Iterable[Unit] = (), effort: int = 2) -> Unit:
    """The unit of a module that holds these kernels for other programs too.

    A signal waits while LLVM works: an exception that cut its taking of a lock in two would leave it locked for good.
    """
    return Unit(undisturbed(compile_text, text, effort), tuple(names), tuple(needs))


_pool = Pool()  # of this machine's code
Writer = Callable[[list[str]], tuple[str, dict[str, str]]]


def shared(names: Iterable[str], write: Writer) -> list[Unit]:
    """Units that together hold the kernels of these names.

    For those that no program compiled yet, `write` gives a module, and one for each function that they call of others.
    """
    wanted = dict.fromkeys(names)
    units = _pool.holding(wanted)
    there = {name for unit in units for name in unit.names}
    missing = [name for name in wanted if name not in there]
    if missing:
        text, called = write(missing)
        needs = [unit for name, module in called.items() for unit in alone(name, module)]
        units.append(compiled(text, missing, needs))
        _pool.add(units[-1:])
    return units


def alone(name: str, module: str) -> list[Unit]:
    """The unit of one function that is compiled once for all programs."""
    return shared([name], lambda _: (module, {}))


def made_once(key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives, or gave for an equal program not long ago.

    A folder that code is to be kept in gets the entries of all that runs from when it is named.
    """
    found: T = _pool.programs.find((key, cache.cache_dir()), make)
    return found


def cached(identity: str, build: Callable[[], list[Unit]]) -> Code:
    """The code of the program that `identity` describes; `build` gives its units where the cache has none."""
    described = f"{identity}\n{machine().identity}\n{platform.machine()}"
    check_limit(LEAST)
    stored = cache.read(described)
    if stored is not None:
        with suppress(Exception):  # another LLVM of the same version may not take it; then it is built anew
            return _stored(unpacked(stored))
    units = linked(build())
    cache.write(described, packed(units))
    return undisturbed(Code, units)


def _stored(units: list[Unit]) -> Code:
    code = undisturbed(Code, units)
    _pool.add(units)
    return code
