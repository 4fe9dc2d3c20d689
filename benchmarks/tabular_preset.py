"""chainrule's tabular preset beside pytabkit's RealMLP (simple form), gradient boosting and a scaled MLP of scikit-learn's.

On 25 data sets that come inside of packages (scikit-learn, ISLP, scikit-lego, mlxtend; those that are not installed are left
out), five splits each: a fifth of the rows to test on, and of the others a fifth to validate on, the same for both RealMLPs.
All by turns, each on one thread, their CPU time measured::

    OMP_NUM_THREADS=1 python benchmarks/tabular_preset.py --out found.json
    python benchmarks/tabular_preset.py --show found.json

What one machine measured (a core of an Intel Xeon, beside other work) is in ``tabular_preset.json``.

pytabkit is optional (``pip install pytabkit``). Errors are shares of wrong classes, or roots of mean squared errors. What is
in the file already is not measured again, unless ``--again METHOD`` names it.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import importlib.util
import io
import json
import logging
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import chainrule as cr
from chainrule.sklearn import TabularClassifier, TabularRegressor

# ---------------------------------------------------------------- data


def inside(package, path):
    """The bytes of a file inside of an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    if found is None:
        return None
    data = (Path(found.submodule_search_locations[0]) / path).read_bytes()
    if path.endswith(".gz"):
        return gzip.decompress(data)
    if path.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.read(archive.namelist()[0])
    return data


def table(package, path, target, drop=(), **reading):
    """Rows that have a target: X as a data frame, y."""
    data = inside(package, path)
    if data is None:
        return None
    frame = pd.read_csv(io.BytesIO(data), **reading)
    frame = frame[frame[target].notna()].reset_index(drop=True)
    return frame.drop(columns=[target, *drop]), frame[target].to_numpy()


def bundled(load, **options):
    X, y = load(return_X_y=True, **options)
    return pd.DataFrame(X), np.asarray(y)


def mnist():
    data = inside("mlxtend", "data/data/mnist_5k.csv.gz")
    if data is None:
        return None
    array = np.loadtxt(io.BytesIO(data), delimiter=",")
    return pd.DataFrame(array[:, :-1]), array[:, -1].astype(int)


CLASSES, VALUES = "classification", "regression"
SETS = {
    "iris": (CLASSES, lambda: bundled(datasets.load_iris)),
    "wine": (CLASSES, lambda: bundled(datasets.load_wine)),
    "breast_cancer": (CLASSES, lambda: bundled(datasets.load_breast_cancer)),
    "digits": (CLASSES, lambda: bundled(datasets.load_digits)),
    "OJ": (CLASSES, lambda: table("ISLP", "data/OJ.csv", "Purchase")),
    "College": (CLASSES, lambda: table("ISLP", "data/College.csv", "Private")),
    "BrainCancer": (CLASSES, lambda: table("ISLP", "data/BrainCancer.csv", "status")),
    "Publication": (CLASSES, lambda: table("ISLP", "data/Publication.csv", "status")),
    "penguins": (CLASSES, lambda: table("sklego", "data/penguins.zip", "species")),
    "hearts": (CLASSES, lambda: table("sklego", "data/hearts.zip", "target")),
    "arrests": (CLASSES, lambda: table("sklego", "data/arrests.zip", "released")),
    "Caravan": (CLASSES, lambda: table("ISLP", "data/Caravan.csv", "Purchase")),
    "Default": (CLASSES, lambda: table("ISLP", "data/Default.csv", "default")),
    "mnist_5k": (CLASSES, mnist),
    "diabetes": (VALUES, lambda: bundled(datasets.load_diabetes)),
    "friedman1": (VALUES, lambda: tuple(map(np.asarray, datasets.make_friedman1(1000, noise=1.0, random_state=0)))),
    "Auto": (VALUES, lambda: table("ISLP", "data/Auto.csv", "mpg", ["name"], na_values="?")),
    "Boston": (VALUES, lambda: table("ISLP", "data/Boston.csv", "medv")),
    "Carseats": (VALUES, lambda: table("ISLP", "data/Carseats.csv", "Sales")),
    "Credit": (VALUES, lambda: table("ISLP", "data/Credit.csv", "Balance", ["ID"])),
    "Hitters": (VALUES, lambda: table("ISLP", "data/Hitters.csv", "Salary")),
    "Wage": (VALUES, lambda: table("ISLP", "data/Wage.csv", "wage", ["logwage"])),
    "chickens": (VALUES, lambda: table("sklego", "data/chickweight.zip", "weight")),
    "abalone": (VALUES, lambda: table("sklego", "data/abalone.zip", "rings")),
    "Bikeshare": (VALUES, lambda: table("ISLP", "data/Bikeshare.csv", "bikers", ["casual", "registered"])),
}


def rows_of(name):
    """The task, X and y; None where the package is missing."""
    task, load = SETS[name]
    found = load()
    if found is None:
        return None
    X, y = pd.DataFrame(found[0]), np.asarray(found[1])
    X.columns = [str(column) for column in X.columns]
    X = X.drop(columns=[column for column in X if column.startswith("Unnamed") or column == "rownames"])
    for column in X.select_dtypes(exclude="number").columns:
        X[column] = X[column].astype(object).where(X[column].notna(), None)
    return task, X, y.astype(float) if task == VALUES else y


# ---------------------------------------------------------------- methods


def ours(task, train, valid, X_test, seed, **settings):
    kind = TabularClassifier if task == CLASSES else TabularRegressor
    model = kind(random_state=seed, **settings)
    return model.fit(*train, X_val=valid[0], y_val=valid[1]).predict(X_test)


def pytabkit(task, train, valid, X_test, seed):
    import torch
    from pytabkit import RealMLP_TD_S_Classifier, RealMLP_TD_S_Regressor

    torch.set_num_threads(1)
    kind = RealMLP_TD_S_Classifier if task == CLASSES else RealMLP_TD_S_Regressor
    fill = train[0].median(numeric_only=True)  # it takes no missing numbers
    whole = pd.concat([train[0], valid[0]], ignore_index=True).fillna(fill)
    y = np.concatenate([train[1], valid[1]])
    held_out = np.arange(len(train[1]), len(y))
    model = kind(device="cpu", random_state=seed, n_threads=1).fit(_categories(whole), y, val_idxs=held_out)
    return model.predict(_categories(X_test.fillna(fill)))


def _categories(X):
    return X.astype(dict.fromkeys(X.select_dtypes(exclude="number").columns, "category"))


def boosting(task, train, valid, X_test, seed):
    kind = HistGradientBoostingClassifier if task == CLASSES else HistGradientBoostingRegressor
    X, y = pd.concat([train[0], valid[0]], ignore_index=True), np.concatenate([train[1], valid[1]])
    coded, coded_test = X.copy(), X_test.copy()
    for column in X.select_dtypes(exclude="number").columns:
        levels = sorted(X[column].dropna().unique(), key=str)
        coded[column] = pd.Categorical(X[column], levels)
        coded_test[column] = pd.Categorical(X_test[column], levels)
    return kind(random_state=seed, categorical_features="from_dtype").fit(coded, y).predict(coded_test)


def perceptron(task, train, valid, X_test, seed):
    X, y = pd.concat([train[0], valid[0]], ignore_index=True), np.concatenate([train[1], valid[1]])
    columns = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
                make_column_selector(dtype_include="number"),
            ),
            (
                "categories",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                make_column_selector(dtype_exclude="number"),
            ),
        ]
    )
    if task == CLASSES:
        model = make_pipeline(columns, MLPClassifier(random_state=seed))
    else:
        model = make_pipeline(
            columns, TransformedTargetRegressor(MLPRegressor(random_state=seed), transformer=StandardScaler())
        )
    return model.fit(X, y).predict(X_test)


def bagged(task, train, valid, X_test, seed, **settings):
    """All rows at once, as boosting and the perceptron have them: it holds rows out itself."""
    kind = TabularClassifier if task == CLASSES else TabularRegressor
    X, y = pd.concat([train[0], valid[0]], ignore_index=True), np.concatenate([train[1], valid[1]])
    return kind(random_state=seed, **settings).fit(X, y).predict(X_test)


METHODS = {
    "preset": ours,
    "n_cv=5": lambda *given: bagged(*given, n_cv=5),
    "n_refit=1": lambda *given: bagged(*given, n_refit=1),
    "n_cv=5, n_refit=5": lambda *given: bagged(*given, n_cv=5, n_refit=5),
    "full": lambda *given: ours(*given, preset="tabular_full"),
    "all epochs": lambda *given: ours(*given, early_end=False),
    "pytabkit": pytabkit,
    "boosting": boosting,
    "perceptron": perceptron,
}
USUAL = ["preset", "pytabkit", "boosting", "perceptron"]


def measure(name, split, method):
    """The error on the rows held out, how many they are, and CPU seconds."""
    task, X, y = rows_of(name)
    stratify = y if task == CLASSES else None
    rows = np.arange(len(y))
    rest, test = train_test_split(rows, test_size=0.2, random_state=split, stratify=stratify)
    train, valid = train_test_split(rest, test_size=0.2, random_state=split)
    parts = [(X.iloc[part].reset_index(drop=True), y[part]) for part in (train, valid)]
    began = time.process_time()
    found = METHODS[method](task, *parts, X.iloc[test].reset_index(drop=True), split)
    seconds = time.process_time() - began
    wrong = found != y[test] if task == CLASSES else (np.asarray(found, float) - y[test]) ** 2
    error = float(wrong.mean()) if task == CLASSES else float(np.sqrt(wrong.mean()))
    return {"error": error, "rows": len(test), "seconds": seconds}


# ---------------------------------------------------------------- what came out


def of_both(found, name, ours, theirs):
    """The results of two methods on the splits that both are done with: a file may be shown while it is measured."""
    both = [found[name].get(method, []) for method in (ours, theirs)]
    return [results[: min(map(len, both))] for results in both]


def log_ratios(found, name, ours, theirs):
    """The logarithm of the ratio of both errors over the splits, and t of their difference."""
    own, others = of_both(found, name, ours, theirs)
    a, b = (np.array([one["error"] for one in results]) for results in (own, others))
    difference = a - b
    spread = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else 0.0
    t = difference.mean() / spread if spread > 0 else 0.0
    if SETS[name][0] == VALUES:
        return float(np.log(a / b).mean()), float(t)
    rows = np.array([one["rows"] for one in own])
    wrong = [(errors * rows).sum() + 0.5 for errors in (a, b)]  # half an error more, as there may be none
    return float(np.log(wrong[0] / wrong[1])), float(t)


def show(found, ours="preset"):
    """The table, and what it comes to."""
    others = [method for method in METHODS if method != ours and any(of.get(method) for of in found.values())]
    print(
        f"| set | rows in test | {ours}: error | s | "
        + " | ".join(f"{m}: error (t) | times as long" for m in others)
        + " |"
    )
    print("|---|---|---|---|" + "---|---|" * len(others))
    for name, of in found.items():
        own = of.get(ours)
        if not own:
            continue
        cells = [name, str(own[0]["rows"]), f"{_mean(own, 'error'):.4g}", f"{_mean(own, 'seconds'):.2f}"]
        for method in others:
            own, theirs = of_both(found, name, ours, method)
            if not theirs:
                cells += ["", ""]
                continue
            t = log_ratios(found, name, ours, method)[1]
            ratio = _mean(theirs, "seconds") / _mean(own, "seconds")
            cells += [f"{_mean(theirs, 'error'):.4g} ({t:+.1f})", f"{ratio:.1f}"]
        print("| " + " | ".join(cells) + " |")
    for method in others:
        print()
        for line in summary(found, ours, method):
            print(line)


def summary(found, ours, method):
    done = {name: of_both(found, name, ours, method) for name in found}
    names = [name for name, (own, _) in done.items() if own]
    if len(names) < 2:
        return
    ratios = {name: log_ratios(found, name, ours, method) for name in names}
    logs = np.array([log for log, _ in ratios.values()])
    error = logs.std(ddof=1) / np.sqrt(len(logs))
    yield f"{ours} against {method}: mean log ratio of errors {logs.mean():+.4f}, standard error {error:.4f}, {len(logs)} sets"
    for task in (CLASSES, VALUES):
        part = [ratios[name][0] for name in names if SETS[name][0] == task]
        if part:
            yield f"  {task}: {100 * (np.exp(np.mean(part)) - 1):+.1f} % error in the geometric mean of {len(part)} sets"
    worse = {name: t for name, (_, t) in ratios.items() if t > 1}
    yield f"  worse by more than a standard error: {', '.join(f'{k} (t {t:.1f})' for k, t in worse.items()) or 'nowhere'}"
    extreme = {name: t for name, (_, t) in ratios.items() if abs(t) > 3}
    yield f"  |t| > 3: {', '.join(f'{k} ({t:+.1f})' for k, t in extreme.items()) or 'nowhere'}"
    times = {name: _mean(theirs, "seconds") / _mean(own, "seconds") for name, (own, theirs) in done.items() if own}
    total = [sum(one["seconds"] for name in names for one in done[name][of]) for of in (1, 0)]
    least = min(times, key=times.get)
    yield f"  CPU time in all {total[0]:.0f} s against {total[1]:.0f} s: {total[0] / total[1]:.2f} times; least on {least}: {times[least]:.2f}"


def _mean(results, what):
    return float(np.mean([one[what] for one in results]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS), metavar="SET")
    parser.add_argument("--methods", nargs="+", default=USUAL, choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--again", nargs="+", default=[], choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, help="JSON of what was measured, and is to be")
    parser.add_argument("--show", type=Path, help="only show what this file holds")
    given = parser.parse_args()
    if given.show is not None:
        show(json.loads(given.show.read_text()))
        return
    cr.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    found = json.loads(given.out.read_text()) if given.out is not None and given.out.exists() else {}
    for of in found.values():
        for method in given.again:
            of.pop(method, None)
    missing = {"pytabkit"} if importlib.util.find_spec("pytabkit") is None else set()
    if not missing and "pytabkit" in given.methods:
        importlib.import_module("pytabkit")  # its first fit is not charged with that
    for name in given.sets:
        if rows_of(name) is None:
            print(f"{name}: its package is not installed")
            continue
        for split in range(given.splits):
            for method in given.methods:
                results = found.setdefault(name, {}).setdefault(method, [])
                if method not in missing and len(results) == split:
                    results.append(measure(name, split, method))
                    if given.out is not None:
                        given.out.write_text(json.dumps(found))
        found[name] = {method: results for method, results in found[name].items() if results}
    show(found)


if __name__ == "__main__":
    main()
