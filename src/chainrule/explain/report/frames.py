"""One recorded step: everything that the page may show of it, measured and kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.errors import ReplayError
from chainrule.explain.report.graphs import Network, Record, contraction
from chainrule.explain.report.passes import Step
from chainrule.explain.report.tensors import Tensors
from chainrule.graph import Array

BINS = 41  # of a histogram
SIDE = 64  # the most rows and columns of a matrix shown as a picture


@dataclass
class Frame:
    """What one step computed, apart from the graph, which is the same for all."""

    step: int
    epoch: int
    loss: float
    lr: float
    rows: list[int]
    values: dict[int, Array]  # of the batch, by node
    gradients: dict[int, Array]
    parameters: dict[str, Array]
    updates: dict[str, Array]
    parameter_gradients: dict[str, Array]
    predictions: Array | None = None
    confidence: Array | None = None
    extra: Record = field(default_factory=dict)


def capture(network: Network, made: Step, **about: Any) -> Frame:
    """The frame of a step whose graph is `network`'s (a later step of the same model has its own nodes)."""
    if [n.op.name for n in made.nodes] != [n.op.name for n in network.step.nodes]:
        raise ReplayError(
            f"report: step {about['step']} has another graph than the first step of the report. "
            f"A model that computes differently from step to step has no single picture; report fewer steps."
        )
    return Frame(
        loss=made.loss_value,
        values={i: made.values[node] for i, node in enumerate(made.nodes)},
        gradients={i: made.gradients[node] for i, node in enumerate(made.nodes) if node in made.gradients},
        parameters=made.parameters,
        updates=made.updates,
        parameter_gradients=made.parameter_gradients,
        **about,
    )


def document(network: Network, frame: Frame, tensors: Tensors, whole: bool, probe: int = 0) -> Record:
    """The frame for the page; `whole` keeps every weight and the batch behind every product, exactly."""
    params = [_parameter(name, frame, tensors, whole) for name in network.parameters]
    record: Record = {
        "step": frame.step, "epoch": frame.epoch, "loss": frame.loss, "lr": frame.lr, "rows": frame.rows,
        "probe": probe, "whole": whole, "params": params,
        "values": _of_sample(network, frame.values, tensors, probe, skip=set(network.parameters.values())),
        "grads": _of_sample(network, frame.gradients, tensors, probe, skip=set(network.parameters.values())),
        **frame.extra,
    }  # fmt: skip
    if whole:
        pairs = [c for i in network.parameters.values() if (c := contraction(network, i)) is not None]
        record["batch"] = {str(c["x"]): tensors.exact(frame.values[c["x"]]) for c in pairs}
        record["batch_grads"] = {str(c["out"]): tensors.exact(frame.gradients[c["out"]]) for c in pairs}
        # What the page needs to compute the step again: everything that the graph reads and does not make.
        given = [i for i, sources in enumerate(network.reads) if not sources and i not in network.parameters.values()]
        record["given"] = {str(i): record["batch"].get(str(i)) or tensors.exact(frame.values[i]) for i in given}
    if frame.predictions is not None:
        record["predictions"] = tensors.exact(
            frame.predictions.astype(np.uint8 if frame.predictions.max() < 256 else np.int32)
        )
    if frame.confidence is not None:
        record["confidence"] = tensors.exact(frame.confidence.astype(np.float32))
    return record


def _of_sample(network: Network, arrays: dict[int, Array], tensors: Tensors, probe: int, skip: set[int]) -> Record:
    """The row of one sample where a node has a row for each; whole where it is small."""
    found = {}
    for i, array in arrays.items():
        node = network.step.nodes[i]
        rows = bool(node.shape) and node.shape[0] == network.step.batch and network.flows[i]
        kept = array[probe] if rows else array
        if i not in skip and kept.size <= 4096:
            found[str(i)] = tensors.exact(np.asarray(kept))
    return found


def _parameter(name: str, frame: Frame, tensors: Tensors, whole: bool) -> Record:
    value, gradient, update = frame.parameters[name], frame.parameter_gradients[name], frame.updates[name]
    norm, moved = _norm(value), _norm(update)
    record: Record = {
        "norm": norm, "grad_norm": _norm(gradient), "update_norm": moved, "ratio": moved / norm if norm else None,
        "mean": float(np.mean(value)), "std": float(np.std(value)),
        "histograms": {"value": histogram(value), "gradient": histogram(gradient), "update": histogram(update)},
    }  # fmt: skip
    if whole or value.size <= SIDE:
        record["value"], record["grad"] = tensors.exact(value), tensors.exact(gradient)
        if value.size <= SIDE:
            record["update"] = tensors.exact(update)
    else:
        record["value_picture"] = tensors.picture(corner(value))
        record["grad_picture"] = tensors.picture(corner(gradient))
    return record


def corner(array: Array) -> Array:
    """At most `SIDE` rows of at most `SIDE` columns, the first ones: what a picture shows of a large matrix."""
    flat = array.reshape(array.shape[0], -1) if array.ndim > 1 else array.reshape(1, -1)
    return flat[:SIDE, :SIDE]


def _norm(array: Array) -> float:
    return float(np.sqrt((array.astype(np.float64) ** 2).sum()))


def histogram(array: Array) -> Record:
    """Counts of the finite elements over equal bins."""
    finite = array[np.isfinite(array)].astype(np.float64)
    if not finite.size:
        return {"lo": 0.0, "hi": 0.0, "counts": [], "not_finite": int(array.size)}
    lo, hi = float(finite.min()), float(finite.max())
    counts, _ = np.histogram(finite, BINS, (lo, hi if hi > lo else lo + 1.0))
    return {"lo": lo, "hi": hi, "counts": counts.tolist(), "not_finite": int(array.size - finite.size)}
