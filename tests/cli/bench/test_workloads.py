"""What is trained: the same numbers every time, and its arithmetic counted one product at a time."""

import numpy as np
import pytest

from chainrule.cli.bench.workloads import BATCHES, DENSE, Workload


def counted_flops(workload):
    """By doing the products of a step on NumPy and counting a multiplication and an addition for each term."""
    flops = 0

    def product(a, b):
        nonlocal flops
        flops += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return a @ b

    weights = workload.weights()[::2]
    inputs = [workload.batches()[0][0]]
    for W in weights:
        inputs.append(product(inputs[-1], W))
    delta = inputs.pop()
    for i in reversed(range(len(weights))):
        assert product(inputs[i].T, delta).shape == weights[i].shape
        if i:
            delta = product(delta, weights[i].T)
    return flops


@pytest.mark.parametrize("workload", [DENSE["mlp_tiny"], DENSE["mlp_tab"], Workload("one layer", (5, 3), 7)], ids=repr)
def test_flops(workload):
    assert workload.flops == counted_flops(workload)


def test_bytes_are_weights_and_moments_in_and_out_and_the_batch():
    workload = Workload("", (5, 3), 7)
    parameters, moments = 5 * 3 + 3, 2 * (5 * 3 + 3)
    assert workload.bytes == 4 * 2 * (parameters + moments) + 4 * 7 * 5 + 8 * 7


def test_numbers_are_the_same_every_time_and_a_deep_network_keeps_its_scale():
    workload = Workload("deep", (64, *[64] * 50, 10), 64)
    (X, y), weights = workload.batches(), workload.weights()
    assert X.shape == (BATCHES, 64, 64)
    assert X.dtype == weights[0].dtype == np.float32
    assert (np.unique(y) == np.arange(10)).all()
    assert all((a == b).all() for a, b in zip(weights, workload.weights(), strict=True))
    x = X[0]
    for W in weights[:-2:2]:
        x = np.maximum(x @ W, 0)
    assert 0.1 < x.std() < 10


def test_a_long_network_is_named_in_short():
    assert Workload("deep", (64, *[64] * 50, 10), 64).network == "64-64 x 50-10"
