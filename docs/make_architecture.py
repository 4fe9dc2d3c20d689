"""Write docs/architecture.md: one training step followed through every room, by printing what each makes.

    python docs/make_architecture.py          # write it
    python docs/make_architecture.py --check  # fail if it is out of date

The listing of machine code is for a fixed CPU, so that the page is the same wherever it is made; it alone
depends on the version of LLVM, and --check leaves it out.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

PAGE = Path(__file__).with_name("architecture.md")
CPU = "x86-64-v4"

PROGRAM = """import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = optim.SGD(model.parameters(), lr=0.1)


@cr.compile
def step(x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss


loss = step(cr.randn(16, 4), cr.arange(16) % 2)
"""

TEMPLATE = """# One training step, from Python to machine code

This page is written by `docs/make_architecture.py`: every listing below is what the software printed.

```
Python step --trace--> graph --passes--> graph --schedule--> kernels in an arena --plan--> vectors, tiles, threads
            --codegen--> LLVM IR --runtime--> machine code (cached on disk), run on threads
eager:       the same graph nodes, each evaluated on NumPy as it is made; under cr.eager(False) they wait on a tape
             (`tape/`) and run together, as compiled programs where they came by before
backward():  walks graph nodes and makes more graph nodes, eager or traced alike
```

A room imports only rooms to its left: `errors`, `files`, `dtypes`, `graph`, `ops`, `tensor`, `autodiff`, `control`, `compiler`, `tape`,
`nn` and `optim` and `data`, `training`, `explain` and `interop`, `cli`. Inside `compiler` likewise, from the graph up to
Python: `passes`, `schedule`, `plan`, `codegen`, `runtime`, `program.py`, `frontend`, `compile.py`. CI checks both.

Here is the step that we follow: a network of two layers, its loss, its gradients, its update.

```python
{program}```

## 1. Trace: `compiler/frontend/trace.py`

The function runs once, on tensors that have a shape and a dtype but no value. Each operation adds a node to
the graph (`graph.py`); `backward()` (`autodiff/walk.py`) walks the nodes made so far, from the loss back, and adds
the nodes of every derivative rule (`ops/`). An op of several results is one node too (`several.py`): other nodes
pick its results, and one rule gets the gradients of all that were used. The optimizer adds the update. A tensor that
existed before and names another node at the end is state, and is written back. The graph as traced has {traced} equations.

## 2. Simplify: `compiler/passes/simplify.py`

Constants are folded, equal nodes shared, transposed products written in the order they are read; what nothing
reads is gone. {simplified} equations are left: the arguments are the batch, `state` the weights and biases,
`live` the learning rate, and the outputs the loss, the gradients and the new weights.

```
{graph}```

## 3. Schedule: `compiler/schedule/schedule.py`

The nodes worth keeping get a buffer; all others become part of the expression of whoever reads them. Worth keeping is what takes more
than a few operations from what is kept already: where one or two arrays say it, up to twelve are done again sooner than stored. A node
joins a kernel that already loops over the same elements. So the bias and the ReLU stand behind the first
product (kernel 0), the mask of the ReLU behind the product of its backward pass, and the update of every
weight behind the product that is its gradient. Several folds over the same rows and what follows from them are
one kernel that reads each row once: the softmax, its logarithm and the gradient of the loss (kernel 4). The kernels come in the
order in which the function made their values, so that of micro-batches one is over, forwards and backwards, before the next begins.

```
{kernels}```

## 4. Memory: `compiler/schedule/memory.py`

New weights are written where the old ones stood, since every reader of the old ones comes first. What lives
only within the step shares one arena; a kernel that sets more of it free than it takes goes ahead of the others.

```
{memory}```

## 5. Plan, write and compile: `compiler/plan/`, `compiler/codegen/`, `compiler/runtime/native.py`

The order of each sum follows from the shape alone and stands in the kernel (`Reduce.along`, `Dot.along`): a sum along a
row, and of a product with a single column, in 16 lanes on every CPU, all others term by term. Over the rows of a batch, 128 and
more (the gradient of a matrix on the right of a product, a sum over the first axis), each half adds up by itself, and its halves in turn
(`ops/halves.py`): micro-batches that are such halves give the bits of the whole, where nothing is added up but rows. What a machine's registers,
caches and threads ask for is decided next, without changing a bit, and stored in the loop IR (`schedule/loops.py`: loops in loops, folds that carry values through them, contractions, stores; its grammar stands at
the head of the file, `schedule/verify.py` checks it after every pass in tests). `plan/nests.py` decides there which loop
runs over vectors, what is left over at its end, how a fold goes over a row and in which order it adds, and what is
computed before the loops. `step.show("loops")` prints it. For a CPU with AVX-512, kernel 4 takes 16 rows at once, a lane
for each, whose elements and exponentials stay in registers from the first fold to the last store:

```
{nest}
```

Also decided are the tiles of products by counting cycles and registers (`plan/tiling.py`; with
`cr.compile(..., tune=True)`, or `CHAINRULE_TUNE=1` for all programs, the likely tiles are timed once on this machine, and
no result changes by a bit), along which loop, or several run through as one, threads share a kernel (`plan/work_sharing.py`). Each distinct kernel becomes
one function of LLVM IR, written statement by statement as it stands (`codegen/nest.py`; products in `codegen/matmul/`). LLVM makes
machine code of it, contracting no arithmetic, so that an operation has the same bits in whatever kernel it ends up; the
code is kept on disk under the hash of the kernels, the CPU and the versions: the next process loads it in a few milliseconds. In one
process a program whose simplified graph equals one made before (`schedule/likeness.py`), as that of the next training of a network does, takes
its code as it stands and is not scheduled. `step.show("llvm")` prints the IR,
`step.show("asm")` the assembly. `step.export(path)` writes the same kernels around another entry, pointers and globals in place of the
table and no barrier (`codegen/exported.py`), as an object file for this CPU or another. This is the inner loop of the first product for a CPU with AVX-512: a vector
of one column block of the weights, then a broadcast and a fused multiply-add for each row of the tile.

```
{loop}```

## 6. Run: `compiler/compile.py`

A call puts the addresses of all buffers into a table and enters the native function once; `step.loop` runs
many steps in one call. `step.begin` binds such a loop without running it (`compiler/frontend/loop.py`): the `Trainer` binds one
for the whole batches, one for the short last ones and one for the validation rows, and moves them on by turns
(`training/stretch.py`), so that many epochs pass before Python has the floor again. Where one thread runs the steps and
another is free, that one draws the orders of the next epochs meanwhile (`training/orders.py`).

| listing | lines |
|---|---|
| graph as traced | {traced} equations |
| graph, simplified | {simplified} equations |
| kernels | {kernel_count} |
| arena | {arena} |

## Loops: a graph inside a node

A node may hold a region: a graph of its own, with its own inputs and outputs. `cr.scan` (`control/`) is the op that has one. Its
function runs once, on tensors that stand for one step; what it uses from outside becomes an input of the node, so that the region is
closed, and everything that walks a graph - printer, verifier, simplification, schedule - walks the regions (`graph.subgraphs`).

```python
{loop_program}```

The derivative of a loop is a loop in the other direction (`control/loop.py`). Its region is the derivative of the region, cut loose
from it at the values that it reads, the residuals: the forward loop stacks those as further results. What it carries are the
gradients of the carries and the sums of those of the weights, so far. Simplified, with what nobody reads gone
(`compiler/passes/regions.py`), the gradient of this loop by `w` is this graph:

```
{loop_graph}```

A region is scheduled by itself, and its memory planned once (`compiler/schedule/memory.py`): an entry of a stacked tensor is an
address that moves on from step to step, so nothing is copied in or out; what is carried is written where it stood, if every
reader of the old value comes first, and copied at the end of the step where not. The program then has one list of kernels, and
loops around some of them. Between two steps all threads meet; inside, they share the kernels as anywhere.

```
{loop_kernels}```

## Nests: several cores in one kernel

A product may be much larger than its factors, and what reads it fold its rows and multiply them again: attention, whose scores grow
with the square of the number of steps.

```python
{attention_program}```

Where there are many of them such values get no buffer (`compiler/schedule/regions.py`, `nesting.py`). One kernel takes 64 rows at a time: a product
whose rows stay in a room of the kernel's own, folds over that room, the product that reads it. What reads the same values in the
backward pass computes them again: all gradients of attention take one more nest, which goes over 64 keys at a time and adds up the
gradient of the queries from one block of keys to the next. No bit depends on it: every sum has the order that a kernel of its own
would give it.

```
{attention_kernels}```

"""


LOOP_PROGRAM = """w = cr.randn(8, 8)


@cr.compile
def gradient(w, xs):
    def loss(w):
        last, _ = cr.scan(lambda h, x: (cr.tanh(h @ w + x), None), cr.zeros(2, 8), xs)
        return last.sum()

    return cr.grad(loss)(w)


gradient(w, cr.randn(100, 2, 8))
"""


ATTENTION_PROGRAM = """@cr.compile
def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


attention(cr.randn(8, 256, 16), cr.randn(8, 256, 16), cr.randn(8, 256, 16))
"""


def build() -> str:
    """The page, from a fresh run of the program."""
    cr.manual_seed(0)
    names: dict[str, object] = {"cr": cr, "F": F, "nn": nn, "optim": optim}
    exec(PROGRAM, names)  # the very text that the page shows
    step = names["step"]
    assert isinstance(step, cr.Compiled)
    kernels, memory = step.show("kernels"), step.show("memory", CPU)
    exec(LOOP_PROGRAM, names)
    gradient = names["gradient"]
    assert isinstance(gradient, cr.Compiled)
    exec(ATTENTION_PROGRAM, names)
    attention = names["attention"]
    assert isinstance(attention, cr.Compiled)
    return TEMPLATE.format(
        program=PROGRAM,
        traced=step.show("trace").count(" = "),
        simplified=step.show("graph").count(" = "),
        graph=step.show("graph"),
        kernels=kernels,
        memory=memory,
        nest=re.split(r"kernel \d+.*\n", step.show("loops", CPU))[5].strip(),
        loop=inner_loop(step.show("asm", CPU)),
        kernel_count=len(re.findall(r"^kernel ", kernels, re.MULTILINE)),
        arena=memory.splitlines()[-1].removeprefix("arena: "),
        loop_program=LOOP_PROGRAM,
        loop_graph=gradient.show("graph"),
        loop_kernels=gradient.show("kernels"),
        attention_program=ATTENTION_PROGRAM,
        attention_kernels=attention.show("kernels"),
    )


def inner_loop(assembly: str) -> str:
    """The loop with the most fused multiply-adds that adds to its own sums and exchanges no lanes, from label to jump."""
    best: list[str] = []
    lines = assembly.splitlines()
    labels = {line.split(":")[0]: i for i, line in enumerate(lines) if re.match(r"\.LBB\w+:", line)}
    for i, line in enumerate(lines):
        target = re.match(r"\s+j\w+\s+(\.LBB\w+)", line)
        if target and labels.get(target[1], i) < i:
            body = lines[labels[target[1]] : i + 1]
            if _count(body) > _count(best) and sum(map(_is_label, body)) == 1:
                best = body
    return "\n".join(line.split("#")[0].rstrip() for line in best if not line.lstrip().startswith("#")) + "\n"


def _count(lines: list[str]) -> int:
    return 0 if any("vshufps" in line for line in lines) else sum("vfmadd231" in line for line in lines)


def _is_label(line: str) -> bool:
    return bool(re.match(r"\.LBB\w+:", line))


def without_assembly(page: str) -> str:
    return re.sub(r"(for each row of the tile\.\n\n```\n).*?```", r"\1```", page, flags=re.DOTALL)


def main() -> None:
    page = build()
    if "--check" in sys.argv:
        if without_assembly(PAGE.read_text(encoding="utf-8")) != without_assembly(page):
            sys.exit("docs/architecture.md is out of date: run python docs/make_architecture.py")
        return
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
