"""What scikit-learn's two multilayer perceptrons share here: their fits run natively, and everything else is theirs."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import optimize, sparse
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.neural_network._base import ACTIVATIONS
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils import check_random_state
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from chainrule.data.checks import check_known
from chainrule.deploy.making import Fitted
from chainrule.interop.sklearn import bundled, formula
from chainrule.interop.sklearn.network import COPIED, Network, Specification, Weights, lent, room
from chainrule.interop.sklearn.stochastic import Training
from chainrule.interop.sklearn.windows import Source
from chainrule.nn.meaning import BINARY_LOGITS, VALUES
from chainrule.tensor.creation import from_numpy
from chainrule.tensor.functions import no_grad

Array = np.ndarray[Any, Any]


class Scorer:
    """A scorer of scikit-learn's on the rows that are held out, as the user has them: with labels, without names."""

    def __init__(self, model: Any, X: Any, y: Array, weights: Any) -> None:
        self.scorer = check_scoring(model, model.scoring)
        self.X, self.y = X, model._as_given(y)
        self.weights = {} if weights is None else {"sample_weight": weights}

    def __call__(self, model: Any) -> float:
        names = vars(model).pop("feature_names_in_", None)
        try:
            return float(self.scorer(model, self.X, self.y, **self.weights))
        finally:
            if names is not None:
                model.feature_names_in_ = names


class Perceptron(BaseMultilayerPerceptron):
    """The native fit, in front of scikit-learn's class among the bases.

    All that a fit leaves is in NumPy arrays; the network that computed it goes to the next fit.
    """

    coefs_: list[Array]
    intercepts_: list[Array]
    norms_: list[dict[str, Array]]
    _best: Weights
    _solver_state: dict[str, Any]
    _held_out: tuple[Any, Any]
    _scorer: Scorer | None

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Any:
        hidden = self._hidden_sizes()
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        check_known(X, f"{type(self).__name__}: X")
        check_known(y, f"{type(self).__name__}: y")
        X, y = self._validate_input(X, y, incremental, reset=first)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        y = y.reshape(len(y), -1)
        sample_weight = self._row_weights(y, sample_weight, incremental)
        self.n_outputs_ = y.shape[1]
        self._random_state = check_random_state(self.random_state)
        units = [X.shape[1], *hidden, self.n_outputs_]
        if first:
            self._initialize(y, units, X.dtype)
        self._check_same_layers(units)
        if self.solver == "lbfgs":
            self._fit_lbfgs(X, y, sample_weight)
        else:
            self._fit_stochastic(X, y, sample_weight, incremental)
        if not all(np.isfinite(w).all() for w in [*self.coefs_, *self.intercepts_]):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be"
                " preprocessed."
            )
        return self

    def _hidden_sizes(self) -> list[int]:
        given = self.hidden_layer_sizes
        sizes = list(given) if hasattr(given, "__iter__") else [given]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _check_same_layers(self, units: list[int]) -> None:
        stands = [self.coefs_[0].shape[0], *(coef.shape[1] for coef in self.coefs_)]
        if stands != units:
            raise ValueError(
                f"{type(self).__name__}: the weights of the earlier fit are of layers of {stands} units, but these data and "
                f"hidden_layer_sizes are of {units}. Fit with warm_start=False to begin anew."
            )

    def _weights(self) -> Weights:
        return Weights(self.coefs_, self.intercepts_, self.norms_)

    def _take(self, weights: Weights) -> None:
        self.coefs_, self.intercepts_, self.norms_ = weights

    def _bundled(self) -> Fitted:
        """What it consists of; a copy, which later fits leave alone."""
        check_is_fitted(self)
        meaning = bundled.MEANINGS[self.out_activation_]
        several = meaning is BINARY_LOGITS and self.coefs_[-1].shape[1] > 1
        classes = None if meaning is VALUES or several else list(self.classes_)
        module = bundled.module(self._weights(), self._hidden(), self.out_activation_)
        return Fitted(module, meaning, classes, getattr(self, "feature_names_in_", None))

    def _hidden(self) -> formula.Hidden:
        return formula.Hidden(self.activation, self.normalization, float(self.dropout))

    # ---------------------------------------------------------------- the plan and the rows

    def _initialize(self, y: Array, layer_units: list[int], dtype: Any) -> None:
        super()._initialize(y, layer_units, dtype)
        begun = formula.NORMALIZATIONS[self.normalization] if self.normalization else {}
        self.norms_ = [
            {name: np.full(n, value, dtype) for name, value in begun.items()} for n in layer_units[1:-1] if begun
        ]
        self._best = self._weights()
        if self.solver == "lbfgs":
            return
        # scikit-learn's own does so for the solvers that it knows.
        self.loss_curve_, self._no_improvement_count = list[float](), 0
        self.validation_scores_ = list[float]() if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else np.inf

    def _loss_name(self) -> Any:
        return self.out_activation_ if is_classifier(self) else self.loss

    def _row_weights(self, y: Array, sample_weight: Any, incremental: bool) -> Any:
        return sample_weight

    def _numbers(self, X: Any) -> Any:
        """The dtype of the fit's arithmetic."""
        return np.dtype(self.dtype or X.dtype)

    def _rows(self, X: Any, y: Array, weights: Any) -> dict[str, Array | None]:
        """As the steps read them: y are class numbers, or numbers for each output."""
        dtype = self._numbers(X)
        y = y.argmax(axis=1) if self._loss_name() == "softmax" else y.astype(dtype)
        return {
            "x": _dense(X).astype(dtype, copy=False),
            "y": y,
            "weights": None if weights is None else weights.astype(dtype),
        }

    def _plan(self, X: Any, weights: Any, batch: int, held_out: Any = None) -> Specification:
        dtype = self._numbers(X)
        width = dtype.itemsize * (X.shape[1] + self.n_outputs_ + 1)
        return Specification(
            units=(X.shape[1], *(coef.shape[1] for coef in self.coefs_)),
            hidden=self._hidden(),
            loss=self._loss_name(),
            dtype=dtype.name,
            solver=self.solver,
            batch=batch,
            capacity=room(X.shape[0], width),
            scored=held_out is not None,
            held_out=0 if held_out is None else room(held_out.shape[0], width),
            weighted=weights is not None,
            penalized=self.alpha > 0 and self.solver != "adamw",
            nesterov=self.solver == "sgd" and bool(self.nesterovs_momentum),
            quantile=float(getattr(self, "quantile", 0.5)),
        )

    # ---------------------------------------------------------------- solvers

    def _fit_lbfgs(self, X: Any, y: Array, sample_weight: Any) -> None:
        if self.normalization or self.dropout:
            raise ValueError("normalization and dropout are of steps on batches, which solver='lbfgs' does not take.")
        dtype = self._numbers(X)
        shapes = [array.shape for array in (*self.coefs_, *self.intercepts_)]
        ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        layers = len(self.coefs_)

        def parts(packed: Array) -> tuple[list[Array], list[Array]]:
            pieces = np.split(packed.astype(dtype, copy=False), ends)
            arrays = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
            return arrays[:layers], arrays[layers:]

        with lent(self._plan(X, sample_weight, 0)) as network:
            network.alpha = float(self.alpha)
            network.rows.give(**self._rows(X, y, sample_weight))

            def function(packed: Array) -> tuple[float, Array]:
                value, self.loss_, gradients = network.gradient(*parts(packed))
                return value, np.concatenate([g.ravel() for g in gradients]).astype(np.float64, copy=False)

            found = optimize.minimize(
                function,
                np.concatenate([w.ravel() for w in (*self.coefs_, *self.intercepts_)]),
                method="L-BFGS-B",
                jac=True,
                options={
                    "maxfun": self.max_fun,
                    "maxiter": self.max_iter,
                    "gtol": self.tol,
                    **_get_additional_lbfgs_options_dict(
                        "iprint", 1 if self.verbose is True or self.verbose >= 1 else -1
                    ),
                },
            )
            self.n_iter_ = _check_optimize_result("lbfgs", found, self.max_iter)
            function(found.x)  # for the loss there
        coefs, intercepts = parts(found.x)
        self.coefs_, self.intercepts_ = ([w.astype(X.dtype) for w in some] for some in (coefs, intercepts))

    def _fit_stochastic(self, X: Any, y: Array, sample_weight: Any, incremental: bool) -> None:
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        held_out: tuple[Any, ...] = (None, None, None)
        if self.early_stopping:
            (X, y, sample_weight), held_out = self._split(X, y, sample_weight)
        batch = self._batch(X.shape[0])
        known = self._solver_state if incremental and hasattr(self, "_solver_state") else None
        plan, windowed = self._plan(X, sample_weight, batch, held_out[0]), False
        if sparse.issparse(X) and not plan.capacity:
            plan, windowed = self._windowed(plan), True
        with lent(plan) as network:
            network.spoiled = windowed  # its rows take much room
            network.alpha = float(self.alpha)
            network.put(self._weights())
            network.begin_solver(self._settings(), None if known is None else known["slots"])
            if self.dropout:
                network.generator.manual_seed(int(self._random_state.randint(2**31)))
            if not windowed:
                network.rows.give(**self._rows(X, y, sample_weight))
            self._give_held_out(network, *held_out)
            source = self._source(network, X, y, sample_weight, held_out[0]) if windowed else None
            rate = float(self.learning_rate_init) if known is None else known["rate"]
            training = Training(self, network, rate, incremental, source)
            try:
                training.run()
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=4)
                network.spoiled = True
            finally:
                self._held_out, self._scorer = (None, None), None
            if not self.early_stopping:
                self._take(network.weights())
            self._solver_state = {"rate": training.rate, "slots": network.solver_state()}
        if self.early_stopping:
            self._take(self._best)
        self._take(self._weights().astype(X.dtype))

    def _windowed(self, plan: Specification) -> Specification:
        """With room for the rows of some steps, and none for those held out."""
        steps = max(1, COPIED // (plan.batch * plan.units[0] * np.dtype(plan.dtype).itemsize))
        return replace(plan, capacity=plan.batch * steps, scored=False, held_out=0)

    def _source(self, network: Network, X: Any, y: Array, weights: Any, held_out: Any) -> Source:
        X = X.tocsr()

        def dense(rows: Array) -> dict[str, Array | None]:
            return self._rows(X[rows], y[rows], None if weights is None else weights[rows])

        return Source(X.shape[0], dense, lambda: self._outputs(held_out, network.weights()))

    def _settings(self) -> dict[str, Any]:
        """Of the optimizer's group."""
        if self.solver == "sgd":
            return {"momentum": float(self.momentum)}
        if self.solver == "rmsprop":
            return {"alpha": float(self.beta_2), "eps": float(self.epsilon)}
        return {"betas": (float(self.beta_1), float(self.beta_2)), "eps": float(self.epsilon)}

    def _batch(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if self.batch_size > rows:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=5
            )
        return int(min(self.batch_size, rows))

    # ---------------------------------------------------------------- early stopping

    def _split(self, X: Any, y: Array, sample_weight: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Rows to train on, and those held out: as scikit-learn draws them."""
        given = [X, y] if sample_weight is None else [X, y, sample_weight]
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        parts = train_test_split(
            *given, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if parts[1].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        none = [] if sample_weight is not None else [None]
        return (*parts[::2], *none), (*parts[1::2], *none)

    def _give_held_out(self, network: Network, X: Any, y: Any, weights: Any) -> None:
        if X is not None:
            if network.plan.scored:
                network.held_out.give(x=self._rows(X, y, weights)["x"])
            self._held_out = self._rows(X[:, :0], y, weights)["y"], weights
            self._scorer = None if self.scoring in (None, "loss") else Scorer(self, X, y, weights)

    def _shows(self, network: Network) -> None:
        """Let a scorer see the weights of now."""
        if self._scorer is not None:
            self._take(network.weights())

    def _held_out_score(self, z: Array) -> float:
        """The score on the rows that are held out, where their outputs are z."""
        if self._scorer is not None:
            return self._scorer(self)
        y, weights = self._held_out
        if self.scoring == "loss":
            return -self._held_out_loss(z, y, weights)
        return float(self._default_score(z, y, weights))

    def _held_out_loss(self, z: Array, y: Array, weights: Any) -> float:
        name = self._loss_name()
        with no_grad():
            each = formula.losses(name, from_numpy(z), from_numpy(y), float(getattr(self, "quantile", 0.5)))
            rows: Array = formula.reported(name, each).numpy()
        return float(np.average(rows, weights=weights))

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    # ---------------------------------------------------------------- prediction

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> Array:
        check_known(X, f"{type(self).__name__}: X")
        if self.activation in ACTIVATIONS and not self.normalization:
            found: Array = super()._forward_pass_fast(
                X, check_input
            )  # in place, which is faster than one tensor after another
            return found
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        with no_grad():
            z = from_numpy(self._outputs(X, self._weights()))
            found = formula.OUTPUTS[self.out_activation_](z).numpy().copy()  # the caller's to write to
        return found

    def _outputs(self, X: Any, weights: Weights) -> Array:
        """What the last layer gives for these rows before its own activation."""
        first = np.asarray(safe_sparse_dot(X, weights.coefs[0]), weights.coefs[0].dtype)
        with no_grad():
            coefs, intercepts = ([from_numpy(w) for w in some] for some in weights[:2])
            norms = [{name: from_numpy(value) for name, value in norm.items()} for norm in weights.norms]
            found: Array = formula.outputs(from_numpy(first), coefs, intercepts, norms, self._hidden(), False).numpy()
        return found


def _dense(X: Any) -> Array:
    found: Array = X.toarray() if sparse.issparse(X) else X
    return found
