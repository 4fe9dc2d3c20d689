"""Weights that NumPy draws: two libraries that run the same script begin with the same ones."""

import numpy as np


def same_start(model, seed=0):
    """Give every parameter of a model values of its own, of the usual size; returns the model."""
    random = np.random.default_rng(seed)
    for parameter in model.parameters():
        shape = tuple(parameter.shape)
        bound = 1.0 / max(1, int(np.prod(shape[1:]))) ** 0.5
        parameter.data.copy_(parameter.new_tensor(random.uniform(-bound, bound, shape)))
    return model
