"""scikit-learn's ``MLPClassifier``, one ``partial_fit`` a batch.

Its API takes neither weights nor an Adam from its beginning: the first ``partial_fit`` makes both, the
weights are then set, and the optimizer it left behind is dropped. Of two classes it trains one logistic
output, whose weights are the difference of ours; its Adam adds epsilon before the correction of the second
moment's bias, and computes in float64.
"""

from __future__ import annotations

import numpy as np
from sklearn.neural_network import MLPClassifier

from chainrule.cli.bench.workloads import BATCHES, BETA1, BETA2, EPSILON, LEARNING_RATE, Array, Workload


class PartialFit:
    """One ``partial_fit`` a step, the batch as it is."""

    def __init__(self, workload: Workload, weights: list[Array], X: Array, y: Array) -> None:
        self.X, self.y = X, y
        self.model = MLPClassifier(
            workload.sizes[1:-1], activation="relu", solver="adam", alpha=0.0, batch_size=workload.batch,
            learning_rate_init=LEARNING_RATE, beta_1=BETA1, beta_2=BETA2, epsilon=EPSILON, shuffle=False,
        )  # fmt: skip
        self.model.partial_fit(X[0], y[0], classes=np.arange(workload.sizes[-1]))
        for own, value in zip(self.weights(), weights, strict=True):
            same = own.shape == value.shape
            own[...] = value if same else value[..., 1:] - value[..., :1]  # one logistic output for two classes
        del self.model._optimizer

    def run(self, steps: int) -> list[float]:
        losses = []
        for i in range(steps):
            self.model.partial_fit(self.X[i % BATCHES], self.y[i % BATCHES])
            losses.append(self.model.loss_)
        return losses

    def weights(self) -> list[Array]:
        return [array for pair in zip(self.model.coefs_, self.model.intercepts_, strict=True) for array in pair]
