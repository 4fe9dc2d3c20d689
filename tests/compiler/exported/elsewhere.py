"""Runs an exported step on another CPU: linked with a small driver by a cross compiler, under emulation."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, Any]

# The Cortex-M4 of QEMU's board mps2-an386: it starts with its stack and its entry from address 0, floats switched off.
_BOARD = """
extern void _start(void);
static void reset(void) {
    *(volatile unsigned *)0xE000ED88 |= 0xF << 20;
    __asm__ volatile("dsb\\n isb");
    _start();
}
__attribute__((section(".vectors"), used)) static void *const vectors[2] = {(void *)0x20400000, (void *)reset};
"""


@dataclass(frozen=True)
class Toolchain:
    """What links an object for a CPU, and what runs that."""

    compiler: str
    options: Sequence[str]
    emulator: Sequence[str]
    libraries: Sequence[str] = ()
    before: str = ""  # C in front of the driver


TOOLCHAINS = {
    None: Toolchain("gcc", (), ()),
    "riscv64": Toolchain("riscv64-linux-gnu-gcc", ("-static",), ("qemu-riscv64",)),
    "neoverse-n1": Toolchain("aarch64-linux-gnu-gcc", ("-static",), ("qemu-aarch64",)),
    "cortex-m4": Toolchain(
        "arm-none-eabi-gcc",
        (
            "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "--specs=rdimon.specs",
            "-Wl,--section-start=.vectors=0,-Tdata=0x20000000",
        ),
        (
            "qemu-system-arm", "-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native", "-kernel",
        ),
        ("-lm",),
        _BOARD,
    ),
}  # fmt: skip


def run(folder: Path, cpu: str | None, arguments: list[Array], results: list[Array], steps: int) -> dict[str, bytes]:
    """What so many steps of ``folder/step.o`` leave in its globals, and ``out0``, ... stacked.

    Args:
        arguments: of all steps, stacked.
        results: of one step, for their sizes.
    """
    names = re.findall(r"^extern (?!const)\w+ (\w+)\[", (folder / "step.h").read_text(), re.MULTILINE)
    if cpu == "wasm32":
        text = _in_node(folder, names, arguments, results, steps)
    else:
        text = _in_c(folder, TOOLCHAINS[cpu], names, arguments, results, steps)
    found = dict(line.split(" ") for line in text.splitlines())
    return {name: bytes.fromhex(data) for name, data in found.items()}


def _needed(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def _ran(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


# -- C -------------------------------------------------------------------------------------------------------------------


def _in_c(
    folder: Path, tools: Toolchain, names: list[str], arguments: list[Array], results: list[Array], steps: int
) -> str:
    _needed(tools.compiler, *tools.emulator[:1])
    (folder / "main.c").write_text(tools.before + _driver(names, arguments, results, steps))
    program = str(folder / "program")
    _ran(
        tools.compiler,
        "-O1",
        *tools.options,
        "-o",
        program,
        str(folder / "main.c"),
        str(folder / "step.o"),
        *tools.libraries,
    )
    return _ran(*tools.emulator, program)


def _driver(names: list[str], arguments: list[Array], results: list[Array], steps: int) -> str:
    """A program that calls the step and prints bytes."""
    data = [
        f"static unsigned char arg{i}[] __attribute__((aligned(8))) = {{{','.join(map(str, each.tobytes()))}}};"
        for i, each in enumerate(arguments)
    ]
    room = [
        f"static unsigned char out{i}[{steps * each.nbytes}] __attribute__((aligned(8)));"
        for i, each in enumerate(results)
    ]
    pointers = [f"(void *)(arg{i} + k * {each.nbytes // steps})" for i, each in enumerate(arguments)]
    pointers += [f"(void *)(out{i} + k * {each.nbytes})" for i, each in enumerate(results)]
    shown = [*(f"out{i}" for i in range(len(results))), *names]
    return "\n".join([
        '#include <stdio.h>\n#include "step.h"', *data, *room,
        "static void show(const char *name, const void *data, unsigned size) {",
        '    printf("%s ", name);',
        '    for (unsigned i = 0; i < size; i++) printf("%02x", ((const unsigned char *)data)[i]);',
        '    printf("\\n");', "}",
        "int main(void) {", f"    for (int k = 0; k < {steps}; k++) {{",
        f"        int failed = step({', '.join(pointers)});",
        '        if (failed) { printf("failed %02x\\n", (unsigned)failed); return 0; }', "    }",
        *(f'    show("{name}", {name}, sizeof {name});' for name in shown), "    return 0;", "}", "",
    ])  # fmt: skip


# -- WebAssembly ---------------------------------------------------------------------------------------------------------


def _in_node(folder: Path, names: list[str], arguments: list[Array], results: list[Array], steps: int) -> str:
    _needed("wasm-ld", "node")
    module = str(folder / "step.wasm")
    _ran("wasm-ld", "--no-entry", "--export-all", "-o", module, str(folder / "step.o"))
    sizes = {
        name: int(np.prod([int(n) for n in re.findall(r"\d+", shape)] or [1])) * width
        for name, width, shape in _sizes((folder / "step.h").read_text())
    }
    driver = f"""
const {{ instance }} = await WebAssembly.instantiate(require("fs").readFileSync({module!r}), {{}});
const e = instance.exports, steps = {steps};
let at = (e.__heap_base.value + 63) & ~63;
const take = size => {{ const here = at; at = (at + size + 63) & ~63; return here; }};
const given = [{", ".join(f'Buffer.from("{each.tobytes().hex()}", "hex")' for each in arguments)}];
const widths = [{", ".join(str(each.nbytes) for each in results)}];
const args = given.map(each => take(each.length)), outs = widths.map(width => take(steps * width));
e.memory.grow(Math.ceil(at / 65536));
const bytes = new Uint8Array(e.memory.buffer);
given.forEach((each, i) => bytes.set(each, args[i]));
const show = (name, start, size) => console.log(name, Buffer.from(bytes.slice(start, start + size)).toString("hex"));
for (let k = 0; k < steps; k++) {{
  const failed = e.step(...args.map((a, i) => a + k * given[i].length / steps), ...outs.map((a, i) => a + k * widths[i]));
  if (failed) {{ console.log("failed", failed.toString(16).padStart(2, "0")); process.exit(0); }}
}}
outs.forEach((start, i) => show("out" + i, start, steps * widths[i]));
for (const [name, size] of Object.entries({sizes})) if ({names}.includes(name)) show(name, e[name].value, size);
"""
    (folder / "main.js").write_text(f"(async () => {{{driver}}})();")
    return _ran("node", str(folder / "main.js"))


def _sizes(header: str) -> list[tuple[str, int, str]]:
    widths = {"float": 4, "double": 8, "int32_t": 4, "int64_t": 8, "uint8_t": 1}
    found = re.findall(r"^extern (?:const )?(\w+) (\w+)\[(\d+)\]", header, re.MULTILINE)
    return [(name, widths[type], count) for type, name, count in found]
