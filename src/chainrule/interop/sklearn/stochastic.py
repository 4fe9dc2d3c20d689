"""One fit by steps on batches: scikit-learn's rates and stopping rules between native epochs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from chainrule.interop.sklearn.epochs import BLOCK, NUMBERS, Block, Orders, Pace
from chainrule.interop.sklearn.network import Network
from chainrule.interop.sklearn.windows import Source, Windows
from chainrule.training.callbacks import asks_for_the_end

Array = np.ndarray[Any, Any]


class Training:
    """The epochs of one call of `fit` or `partial_fit`.

    Args:
        model: the estimator, whose parameters say how and whose attributes tell what happened.
        network: with its rows and weights.
        rate: to begin with.
        incremental: one epoch, for `partial_fit`.
        source: where the network does not have all rows.
    """

    def __init__(
        self, model: Any, network: Network, rate: float, incremental: bool, source: Source | None = None
    ) -> None:
        self.model, self.network, self.rate, self.incremental = model, network, rate, incremental
        self.source, self.rows = source, network.rows.count if source is None else source.count
        self.orders = Orders(self.rows, model._random_state, model.shuffle)
        self.pace = Pace(network.generator)
        self.limit = 1 if incremental else model.max_iter
        self.stopped = False

    def run(self) -> None:
        """Epochs until a rule or the limit ends them."""
        self.model.n_iter_ = 0
        while self.model.n_iter_ < self.limit and not self.stopped:
            block = self._block()
            rate = self.rate
            while block.left and not self.stopped and (self.rate == rate or self._scheduled):
                for loss in block.run(self._epochs(block), self.pace):
                    self._epoch(float(loss), block)
            self.orders.used(block.done)

    # ---------------------------------------------------------------- what comes next

    def _block(self) -> Block | Windows:
        rows = self.rows
        most = max(rows, self.network.held_out.count * self.model.n_outputs_)
        epochs = min(self.limit - self.model.n_iter_, BLOCK, max(1, NUMBERS // most))
        rates = [self.rate] + [self._rate_after(self.model.t_ + k * rows) for k in range(1, epochs)]
        plan, orders = self.network.plan, self.orders.ahead(epochs)
        if plan.hidden.normalization == "batch" and rows % plan.batch == 1:
            orders = orders[:, :-1]  # one row has no variance: the last of each order is left out
        given = self.network, orders, rates, plan.batch
        return Block(*given) if self.source is None else Windows(*given, self.source)

    @property
    def _scheduled(self) -> bool:
        """Is the rate of each epoch known ahead?"""
        return bool(self.model.solver == "sgd" and self.model.learning_rate == "invscaling")

    def _rate_after(self, samples: int) -> float:
        """The rate of the epoch after so many samples."""
        if self._scheduled:
            return float(self.model.learning_rate_init / (samples + 1) ** self.model.power_t)
        return self.rate

    def _epochs(self, block: Block | Windows) -> int:
        """So many epochs run before anybody has to look: the earliest at which the rule for stopping could bite."""
        model = self.model
        if model.verbose or model.early_stopping or model.callbacks:
            return 1
        return int(
            min(block.left, self._affordable(block), max(1, model.n_iter_no_change + 1 - model._no_improvement_count))
        )

    def _affordable(self, block: Block | Windows) -> int:
        """Epochs for which Ctrl-C may wait."""
        steps = -(-int(block.rows) // block.batch)
        return max(1, self.pace.chunk // steps)

    # ---------------------------------------------------------------- what an epoch was

    def _epoch(self, loss: float, block: Block | Windows) -> None:
        model = self.model
        model.n_iter_ += 1
        model.loss_ = loss
        model.t_ += block.rows
        model.loss_curve_.append(loss)
        if model.verbose:
            print(f"Iteration {model.n_iter_}, loss = {loss:.8f}")
        self._count(loss, block)
        self._tell()
        self.rate = self._rate_after(model.t_)
        if model._no_improvement_count > model.n_iter_no_change:
            self._no_longer_improves()
        if not self.stopped and model.n_iter_ == model.max_iter and not self.incremental:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({model.max_iter}) reached and the optimization hasn't "
                f"converged yet.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _count(self, loss: float, block: Block | Windows) -> None:
        """How many epochs have brought nothing, by the loss or by the score."""
        model = self.model
        if model.early_stopping:
            model._shows(self.network)
            self._count_by_score(model._held_out_score(block.outputs()))
            return
        model._no_improvement_count = model._no_improvement_count + 1 if loss > model.best_loss_ - model.tol else 0
        model.best_loss_ = min(model.best_loss_, loss)

    def _count_by_score(self, score: float) -> None:
        model = self.model
        model.validation_scores_.append(score)
        if model.verbose:
            print(f"Validation score: {score:f}")
        worse = score < model.best_validation_score_ + model.tol
        model._no_improvement_count = model._no_improvement_count + 1 if worse else 0
        if score > model.best_validation_score_:
            model.best_validation_score_ = score
            model._best = self.network.weights()

    def _tell(self) -> None:
        """Callbacks see the model as it is now; one that gives True ends the training."""
        model = self.model
        if model.callbacks:
            model._take(self.network.weights())
        for callback in model.callbacks:
            if asks_for_the_end(callback(model, model.n_iter_)):
                self.stopped = True

    def _no_longer_improves(self) -> None:
        """Stop, or (adaptive) go on at a fifth of the rate."""
        model = self.model
        what = "Validation score" if model.early_stopping else "Training loss"
        said = f"{what} did not improve more than tol={model.tol:f} for {model.n_iter_no_change} consecutive epochs."
        if model.solver != "sgd" or model.learning_rate != "adaptive":
            self.stopped, said = True, f"{said} Stopping."
        elif self.rate <= 1e-6:
            self.stopped, said = True, f"{said} Learning rate too small. Stopping."
        else:
            self.rate /= 5.0
            model._no_improvement_count = 0
            said = f"{said} Setting learning rate to {self.rate:f}"
        if model.verbose:
            print(said)
