"""CPU time of predicting one row of a small network from Python, beside PyTorch, onnxruntime and scikit-learn where installed.

python benchmarks/one_row.py
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn

NETWORKS = ((4, 32, 32, 2), (30, 128, 128, 2))
Array = np.ndarray[Any, Any]


def microseconds(call: Callable[[], object], rounds: int = 15, calls: int = 1000) -> float:
    """Of one call: the least of some rounds, as other programs may run meanwhile."""
    call()
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        found.append((time.process_time() - began) / calls * 1e6)
    return min(found)


def network(sizes: tuple[int, ...], layers: Any) -> Any:
    """The same network in either library."""
    linear = [layers.Linear(a, b) for a, b in pairwise(sizes)]
    return layers.Sequential(*(x for layer in linear[:-1] for x in (layer, layers.ReLU())), linear[-1])


def ours(sizes: tuple[int, ...], row: Array) -> dict[str, Callable[[], object]]:
    """`Trainer.predict`, a bundle from a dict, and a compiled module."""
    model = network(sizes, nn)
    trainer = cr.Trainer(model, "cross_entropy", "adam")
    names = [f"x{i}" for i in range(sizes[0])]
    bundle, given = cr.bundle(trainer, columns=names), dict(zip(names, row[0].tolist(), strict=True))
    compiled, held = cr.compile(model), cr.from_numpy(row)

    @cr.no_grad()
    def called() -> object:
        return compiled(held)

    return {
        "predict": lambda: trainer.predict(row),
        "bundle from a dict": lambda: bundle.predict(given),
        "cr.compile": called,
    }


def peers(sizes: tuple[int, ...], row: Array) -> dict[str, Callable[[], object]]:
    """Those that are installed."""
    found: dict[str, Callable[[], object]] = {}
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        theirs, given = network(sizes, torch.nn).eval(), torch.from_numpy(row)

        @torch.inference_mode()
        def called() -> object:
            return theirs(given)

        found["PyTorch"] = called
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        made = cr.onnx.export(network(sizes, nn), row).SerializeToString()
        session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
        found["onnxruntime"] = lambda: session.run(None, {"input": row})
    if importlib.util.find_spec("sklearn"):
        from sklearn.neural_network import MLPClassifier

        classifier = MLPClassifier(sizes[1:-1], max_iter=1)
        classifier.partial_fit(np.random.rand(10, sizes[0]), np.arange(10) % 2, classes=[0, 1])
        found["scikit-learn"] = lambda: classifier.predict(row)
    return found


def looped(sizes: tuple[int, ...], rows: int = 20_000) -> float:
    """Microseconds a row inside one native loop."""
    compiled, held = cr.compile(network(sizes, nn)), cr.randn(rows, 1, sizes[0])
    with cr.no_grad():
        return microseconds(lambda: compiled.loop(held), 5, 1) / rows


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    for sizes in NETWORKS:
        row = np.random.default_rng(0).normal(size=(1, sizes[0])).astype(np.float32)
        print("-".join(map(str, sizes)))
        for name, call in {**ours(sizes, row), **peers(sizes, row)}.items():
            print(f"  {name:20} {microseconds(call):8.1f} us")
        print(f"  {'in a native loop':20} {looped(sizes):8.2f} us")


if __name__ == "__main__":
    main()
