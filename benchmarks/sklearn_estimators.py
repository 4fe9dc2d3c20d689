"""chainrule's MLPClassifier and MLPRegressor beside scikit-learn's: losses, scores and CPU seconds over ten seeds.

Both fit the same rows with the same parameters and the same random state, by turns, each on one thread::

    OMP_NUM_THREADS=1 python benchmarks/sklearn_estimators.py
    OMP_NUM_THREADS=1 python benchmarks/sklearn_estimators.py --sets OJ College mnist_5k fashion --seeds 3

The sets are scikit-learn's own and those of ``tabular_preset.py``, which come inside of packages (ISLP, scikit-lego, mlxtend;
categories are one-hot, what is missing the median), and 10,000 images of Fashion-MNIST, where Debian's package
dataset-fashion-mnist is installed. Rows are scaled by what the training part says.

A row of the table: the mean loss at the end of both, in float64 as scikit-learn computes and in float32; the difference of
scores on held-out rows in standard errors over the seeds; and how many times as long scikit-learn takes, over all seeds
with what compiling the first fit cost, and at the median of the others.
"""

from __future__ import annotations

import argparse
import gzip
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import tabular_preset
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import chainrule as cr
import chainrule.sklearn as ours

FASHION = Path("/usr/share/datasets/fashion-mnist")
IMAGES = 10_000


def bundled(name):
    """A set of `tabular_preset`, as numbers; None where its package is not installed."""
    found = tabular_preset.rows_of(name)
    if found is None:
        return None
    task, X, y = found
    numbers = pd.get_dummies(X, dtype=float)
    return ESTIMATORS[task], numbers.fillna(numbers.median()).to_numpy(float), y


ESTIMATORS = {tabular_preset.CLASSES: "MLPClassifier", tabular_preset.VALUES: "MLPRegressor"}


def fashion():
    """The first images of clothes, 28 x 28, of ten classes; None where they are not installed."""
    files = [FASHION / f"train-{what}-ubyte.gz" for what in ("images-idx3", "labels-idx1")]
    if not all(file.exists() for file in files):
        return None
    images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    return "MLPClassifier", images[16:].reshape(-1, 784)[:IMAGES] / 255.0, labels[8:][:IMAGES].astype(int)


def data_of(name):
    """The kind of estimator, X and y; None where a package is not installed."""
    own = tables()
    return own[name] if name in own else fashion() if name == "fashion" else bundled(name)


def tables():
    """Scikit-learn's own, by name: the kind of estimator, X and y."""
    make = datasets
    moons, circles = (
        make.make_moons(2000, noise=0.2, random_state=0),
        make.make_circles(2000, noise=0.1, random_state=0),
    )
    return {
        "digits": ("MLPClassifier", *make.load_digits(return_X_y=True)),
        "breast_cancer": ("MLPClassifier", *make.load_breast_cancer(return_X_y=True)),
        "wine": ("MLPClassifier", *make.load_wine(return_X_y=True)),
        "iris": ("MLPClassifier", *make.load_iris(return_X_y=True)),
        "moons": ("MLPClassifier", *moons),
        "circles": ("MLPClassifier", *circles),
        "classification": (
            "MLPClassifier",
            *make.make_classification(3000, 20, n_informative=10, n_classes=4, random_state=0),
        ),
        "hastie": ("MLPClassifier", *make.make_hastie_10_2(3000, random_state=0)),
        "gaussian_quantiles": (
            "MLPClassifier",
            *make.make_gaussian_quantiles(n_samples=2000, n_features=8, random_state=0),
        ),
        "multilabel": ("MLPClassifier", *make.make_multilabel_classification(1500, n_classes=5, random_state=0)),
        "diabetes": ("MLPRegressor", *make.load_diabetes(return_X_y=True)),
        "linnerud": ("MLPRegressor", *make.load_linnerud(return_X_y=True)),
        "friedman1": ("MLPRegressor", *make.make_friedman1(2000, noise=0.5, random_state=0)),
        "friedman2": ("MLPRegressor", *make.make_friedman2(2000, random_state=0)),
        "regression": ("MLPRegressor", *make.make_regression(2000, 20, noise=5, random_state=0)),
    }


def fitted(make, data, held_out):
    """Final loss, score and CPU seconds."""
    model = make()
    began = time.process_time()
    model.fit(*data)
    seconds = time.process_time() - began
    return model.loss_, model.score(*held_out), seconds


def row(name, width, seeds):
    """What one set and one width gave."""
    kind, X, y = data_of(name)
    y = StandardScaler().fit_transform(y.reshape(len(y), -1)).squeeze() if kind == "MLPRegressor" else y
    found = []
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=seed)
        scaler = StandardScaler().fit(X_train)
        data, held_out = (scaler.transform(X_train), y_train), (scaler.transform(X_test), y_test)
        settings = {"hidden_layer_sizes": (width,), "random_state": seed}
        makers = [
            lambda kind=kind, settings=settings: getattr(neural_network, kind)(**settings),
            lambda kind=kind, settings=settings: getattr(ours, kind)(**settings),
            lambda kind=kind, settings=settings: getattr(ours, kind)(**settings, dtype="float32"),
        ]
        found.append([fitted(make, data, held_out) for make in makers])
    return np.array(found)  # (seeds, estimators, (loss, score, seconds))


def printed(name, width, found):
    """The row as text."""
    losses, scores, seconds = found[..., 0], found[..., 1], found[..., 2]
    cells = [name, str(width), *(f"{loss:.5f}" for loss in losses.mean(axis=0))]
    for i in (1, 2):
        difference = scores[:, i] - scores[:, 0]
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        cells.append(f"{difference.mean():+.4f} ({difference.mean() / error if error else 0.0:+.1f} se)")
    ratios = seconds[1:, :1] / seconds[1:, 1:]
    cells += [
        f"{whole:.1f} / {median:.1f}"
        for whole, median in zip(
            seconds[:, 0].sum() / seconds[:, 1:].sum(axis=0), np.median(ratios, axis=0), strict=True
        )
    ]
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 100, 256])
    parser.add_argument("--sets", nargs="+", default=list(tables()))  # or of `tabular_preset`, or fashion
    given = parser.parse_args()
    cr.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        "| set | width | loss: scikit-learn | float64 | float32 | score, float64 | float32 | times as fast: float64, all / warm | float32 |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    all_found = []
    for name in given.sets:
        if data_of(name) is None:
            print(f"{name}: its package is not installed")
            continue
        for width in given.widths:
            all_found.append(row(name, width, given.seeds))
            print(printed(name, width, all_found[-1]), flush=True)
    seconds = np.concatenate(all_found)[..., 2]
    print(
        f"all fits together: float64 {seconds[:, 0].sum() / seconds[:, 1].sum():.1f} times as fast, "
        f"float32 {seconds[:, 0].sum() / seconds[:, 2].sum():.1f} times"
    )


if __name__ == "__main__":
    main()
