"""Files of valid bytes and wrong contents: checkpoints, records, configurations, states of optimizers.

    python -m tests.faults.hostile --count 10000 --seed 0

Whatever is read gives what was there, or one of chainrule's errors and nothing changed: weights, optimizer, schedules,
history, position, streams are to the bit as before. Memory is limited while it runs.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import shutil
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.deploy.bundle import Bundle
from chainrule.deploy.mixed import Mixed
from chainrule.errors import (
    DamagedFileError,
    DataError,
    NotEnoughMemoryError,
    ReplayError,
    SettingError,
    ShapeError,
    StateDictError,
    UnknownNameError,
)
from chainrule.explain.report import building
from chainrule.nn.meaning import LOGITS, VALUES
from chainrule.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR
from chainrule.tensor.random import default_generator
from chainrule.training import load_file, save_file
from chainrule.training.columns import Columns
from chainrule.training.configuration import build, read_config
from chainrule.training.recipe import built, recipe

ALLOWED = (
    DamagedFileError, StateDictError, SettingError, ReplayError, DataError, UnknownNameError, NotEnoughMemoryError,
    ShapeError,  # a layer whose recorded in_features are others
)  # fmt: skip
ROOM = 3 << 30  # bytes more than at the start
X = np.random.default_rng(0).normal(size=(40, 4)).astype("f")
Y = (X[:, 0] > 0).astype(int)


class Weighted(cr.nn.Module):
    """A loss with a parameter and a buffer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = cr.nn.Parameter(cr.ones(1))
        self.register_buffer("seen", cr.zeros(2))

    def forward(self, output: cr.Tensor, target: cr.Tensor) -> cr.Tensor:
        return F.cross_entropy(output, target) * (1 + self.scale.sum() ** 2)


def trainer(kind: int) -> cr.Trainer:
    """One of three trainings, not begun."""
    cr.manual_seed(kind)
    model = cr.nn.Sequential(cr.nn.Linear(4, 6), cr.nn.Tanh(), cr.nn.Dropout(0.2), cr.nn.Linear(6, 2))
    if kind == 0:
        adam = cr.optim.AdamW(model.parameters(), lr=0.01)
        return cr.Trainer(
            model, F.cross_entropy, adam, ["accuracy"], max_norm=5.0, scheduler=CosineAnnealingLR(adam, 9)
        )
    if kind == 1:
        sgd = cr.optim.SGD(
            [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[3].parameters()}], lr=0.05, momentum=0.9
        )
        return cr.Trainer(model, F.cross_entropy, sgd, scheduler=ReduceLROnPlateau(sgd))
    loss = Weighted()
    rms = cr.optim.RMSprop([*model.parameters(), *loss.parameters()], lr=0.01)
    return cr.Trainer(model, loss, rms, scheduler={"step": StepLR(rms, 3, 0.9)})


def fitted(kind: int, **more: Any) -> cr.Trainer:
    """The same, two epochs on."""
    made = trainer(kind)
    made.fit(X, Y, epochs=2, batch_size=10, progress=False, **more)
    return made


def everything(made: cr.Trainer) -> dict[str, Any]:
    """All that a training is made of, to be compared to the bit."""
    session = made.session
    saved = made.optimizer.state_dict()
    return {
        "weights": {name: handle.detach().numpy().tobytes() for name, handle in session.named().items()},
        "gradients": {n: None if h.grad is None else h.grad.numpy().tobytes() for n, h in session.named().items()},
        "state": {i: {k: t.numpy().tobytes() for k, t in own.items()} for i, own in saved["state"].items()},
        "groups": repr(saved["param_groups"]), "settings": repr(session.settings()), "modes": repr(session.modes),
        "streams": [g.get_state().tolist() for g in (session.random, session.aside, default_generator)],
        "position": repr(session.position), "history": repr(session.history.as_dict()), "identity": session.identity,
        "flags": [module.training for module in made.model.modules()],
    }  # fmt: skip


# -- wrong contents ---------------------------------------------------------------------------------------


class Mutator:
    """Changes trees of plain values into others, few changes at a time."""

    def __init__(self, rng: random.Random, names: list[str]) -> None:
        self.rng, self.names = rng, names

    def value(self) -> Any:
        """Something that does not belong there."""
        deep: Any = 1
        for _ in range(self.rng.choice([5, 30, 900])):
            deep = [deep]
        pool: list[Any] = [
            None, True, False, 0, -1, 1, 7, 2**31, 2**63, -(2**63), 10**30, 0.5, -1.5, 1e300, float("nan"), float("inf"), "",
            "x", "model.0.weight", "1", "x" * 5000, [], {}, [1, 2], [None], {"a": 1}, {"tensor": self.rng.choice(self.names)},
            {"tensor": "nothing"}, {"tensor": ["streams.random"]}, {"pairs": [["lr", 1], ["lr", 2]]}, {"pairs": [[[], 1]]},
            {"pairs": {}}, {"list": 3}, {"tuple": [{"tuple": []}]}, {"list": [], "tuple": []}, deep, list(range(3000)),
        ]  # fmt: skip
        return self.rng.choice(pool)

    def places(self, tree: Any, found: list[tuple[Any, Any]], depth: int = 40) -> list[tuple[Any, Any]]:
        """Every container in the tree with each of its keys, but for what is very deep."""
        for key in tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) and depth else ():
            found.append((tree, key))
            self.places(tree[key], found, depth - 1)
        return found

    def change(self, tree: Any) -> Any:
        """The tree with one change."""
        places = self.places(tree, [])
        if not places or self.rng.random() < 0.01:
            return self.value()
        holder, key = self.rng.choice(places)
        match self.rng.randrange(9):
            case 0 | 1 | 2:
                holder[key] = self.value()
            case 3:
                del holder[key]
            case 4:
                other, there = self.rng.choice(places)
                value = json.loads(json.dumps(other[there]))
                holder[key] = value
            case 5 if isinstance(holder, dict):
                holder[self.rng.choice(["", "x", "lr", "params", "training", "step", key + "_"])] = holder.pop(key)
            case 6 if isinstance(holder, list):
                holder.insert(key, json.loads(json.dumps(holder[key])))
            case 7 if isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
                holder[key] = self.rng.choice([-holder[key], holder[key] + 1, holder[key] * 1e9, str(holder[key])])
            case _:
                if isinstance(holder, dict):
                    holder[self.rng.choice(["extra", "lr", "lr_scheduler", "step", "__class__"])] = self.value()
                else:
                    holder.append(self.value())
        return tree

    def changed(self, tree: Any) -> Any:
        """The tree with a few changes."""
        tree = json.loads(json.dumps(tree))
        for _ in range(self.rng.choice([1, 1, 1, 2, 4])):
            tree = self.change(tree)
        return tree

    def tensors(self, given: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays of which some are others, missing, or under another name."""
        found, name = dict(given), self.rng.choice(sorted(given))
        array = found[name]
        match self.rng.randrange(8):
            case 0:
                del found[name]
            case 1:
                found[name + self.rng.choice(["x", ".y", ""])] = found.pop(name)
            case 2:
                found[name] = array.reshape(-1)[: self.rng.randrange(3)]
            case 3:
                found[name] = array[None]
            case 4:
                with np.errstate(all="ignore"):
                    found[name] = array.astype(self.rng.choice(["f8", "i8", "i4", "u1", "?", "f2", "i2"]))
            case 5:
                found[name] = np.full_like(array, self.rng.choice([-1, 0, 2**31 - 1]))
            case 6:
                found[self.rng.choice(["weights.extra", "gradients.model.0.bias", "gradients.x", "x"])] = array
            case _:
                other = self.rng.choice(sorted(given))
                found[name], found[other] = found[other], found[name]
        return found

    def values(self, given: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays of the right form with one value in them that no training leaves there."""
        found, name = dict(given), self.rng.choice(sorted(n for n in given if bad_values(n)))
        array = found[name].copy()
        at = self.rng.randrange(array.size) if not name.startswith("streams.") else 1
        array.reshape(-1)[at] = self.rng.choice(bad_values(name))
        found[name] = array
        return found

    def progress(self, meta: Any) -> Any:
        """A description in which one number says what no other can agree with, or what no step can use."""
        meta = json.loads(json.dumps(meta))
        position, history = meta["position"], meta["history"]
        groups, schedule = meta["settings"]["pairs"][0][1]["list"], meta["settings"]["pairs"][1][1]["list"][0]
        nan, inf = float("nan"), float("inf")

        def put(pairs: Any, name: str, value: Any) -> None:
            next(pair for pair in pairs["pairs"] if pair[0] == name)[1] = value

        changes: list[Callable[[], Any]] = [
            lambda: position.update(epoch=position["epoch"] + self.rng.choice([1, -1, 2**40])),
            lambda: position.update(step=1), lambda: position.update(sums=[1.0]), lambda: position.update(told=0, epoch=0),
            lambda: position.update(seed=position["seed"] + 1), lambda: position.update(rates=[inf] * len(groups)),
            lambda: position.update(batch_size=7), lambda: history.update(steps=history["steps"] + 1),
            lambda: meta.update(position=None), lambda: history["loss"].append(0.5),
            lambda: put(groups[0], "lr", self.rng.choice([nan, inf, -0.1])),
            lambda: put(schedule, "last_epoch", self.rng.choice([-1, 0.5, nan, 1e300])),
            lambda: [pair.__setitem__(1, nan) for pair in schedule["pairs"] if isinstance(pair[1], float)],
        ]  # fmt: skip
        self.rng.choice(changes)()
        return meta


def bad_values(name: str) -> list[float]:
    """What cannot stand in a tensor of this name; nothing for what is the user's."""
    kind, slot = name.partition(".")[0], name.rpartition(".")[2]
    if kind == "streams":
        return [-1, -(2**63)]
    if slot == "step":
        return [float("nan"), float("inf"), -1.0, 0.5]
    if slot in ("exp_avg_sq", "square_avg"):
        return [float("nan"), -1e-3, float("-inf")]
    return [float("nan"), float("inf"), float("-inf")] if name != "weights.loss.seen" else []


# -- what is tried ----------------------------------------------------------------------------------------


class Hunt:
    """Makes hostile files one after the other, and looks at what becomes of them."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng, self.folder = random.Random(seed), folder
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.trainers = [trainer(kind) for kind in range(3)]
        self.saved: list[tuple[dict[str, np.ndarray[Any, Any]], Any]] = []
        for kind in range(3):
            made = fitted(kind, record=folder / f"run-{kind}")
            made.save(folder / f"saved-{kind}")
            tensors, meta = load_file(folder / f"saved-{kind}")
            self.saved.append(({name: t.numpy() for name, t in tensors.items()}, meta))
            self.trainers[kind].load(folder / f"saved-{kind}")
            self.trainers[kind].fit(X, Y, epochs=3, batch_size=10, progress=False, resume=True)
        self.mutator = Mutator(self.rng, sorted(self.saved[0][0]))
        shared = nn.Linear(5, 5)
        self.wide = nn.Sequential(
            nn.Embedding(7, 5, padding_idx=0), shared, nn.BatchNorm1d(5), nn.ReLU(), shared, nn.Sequential(nn.LayerNorm(5)), nn.PReLU(),
        )  # fmt: skip
        self.wide[0].requires_grad_(False)
        self.bundles = self._bundles()
        self.config = {
            "dataset": "digits", "epochs": 1, "batch_size": 32, "lr": 0.002, "optimizer": "adam", "hidden": "8,8",
            "dropout": 0.5, "noise": 0.15, "label_smoothing": 0.1, "schedule": "cosine", "activation": "relu", "seed": 0,
        }  # fmt: skip

    def run(self, count: int) -> None:
        """So many files."""
        kinds = [
            self.checkpoint, self.checkpoint, self.checkpoint, self.wrong_value, self.header, self.record, self.state,
            self.configuration, self.tree, self.model, self.bundle,
        ]  # fmt: skip
        for number in range(count):
            act = kinds[number % len(kinds)]
            try:
                act(self.rng.randrange(3))
            except AssertionError as error:
                self.wrong.append(f"{number}: {act.__name__}: {error}")

    def judge(self, kind: str, act: Callable[[], object], look: Callable[[], Any]) -> bool:
        """Do it: it works, or one of our errors comes and everything looks as before."""
        before, came = look(), None
        try:
            act()
        except Exception as error:
            came = error
        if came is None:
            self.counts[f"{kind}: loaded"] += 1
            return True
        ours = isinstance(came, ALLOWED)
        self.counts[f"{kind}: {'' if ours else 'FOREIGN '}{type(came).__name__}"] += 1
        where = traceback.extract_tb(came.__traceback__)[-1]
        assert ours, f"{type(came).__name__}: {str(came)[:200]} at {where.filename}:{where.lineno}"
        assert 0 < len(str(came)) < 3000, f"an error of {len(str(came))} letters: {str(came)[:200]}"
        after = look()
        assert after == before, f"{came} left {[key for key in before if before[key] != after[key]]} changed"
        return False

    def checkpoint(self, kind: int) -> None:
        tensors, meta = self.saved[kind]
        which = self.rng.randrange(3)
        save_file(
            self.mutator.tensors(tensors) if which != 0 else tensors, self.folder / "hostile",
            self.mutator.changed(meta) if which != 1 else meta, durable=False,
        )  # fmt: skip
        made = self.trainers[kind]
        if self.judge("checkpoint", lambda: made.load(self.folder / "hostile"), lambda: everything(made)):
            made.save(self.folder / "again", durable=False)  # what was taken over can be saved
            made.load(self.folder / "again")
            made.load(self.folder / f"saved-{kind}")

    def wrong_value(self, kind: int) -> None:
        """A file of the right form, in which one value is wrong: it must not load."""
        tensors, meta = self.saved[kind]
        if self.rng.random() < 0.5:
            tensors = self.mutator.values(tensors)
        else:
            meta = self.mutator.progress(meta)
        save_file(tensors, self.folder / "hostile", meta, durable=False)
        made = self.trainers[kind]
        loaded = self.judge("wrong value", lambda: made.load(self.folder / "hostile"), lambda: everything(made))
        assert not loaded, f"it loaded: {_difference((tensors, meta), self.saved[kind])}"

    def header(self, kind: int) -> None:
        data = (self.folder / f"run-{kind}" / "record" / "checkpoints" / "00000000.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        text = json.dumps(self.mutator.changed(json.loads(data[8 : 8 + length]))).encode()
        (self.folder / "hostile").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        made = self.trainers[kind]
        self.judge("header", lambda: made.load(self.folder / "hostile"), lambda: everything(made))

    def record(self, kind: int) -> None:
        run = self.folder / "hostile-run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.folder / f"run-{kind}", run)
        root = run / "record"
        which = self.rng.randrange(4)
        if which == 0:
            found = self.mutator.changed(json.loads((root / "record.json").read_text()))
            (root / "record.json").write_text(json.dumps(found))
        elif which == 1:
            lines = [
                self.mutator.changed(json.loads(line)) for line in (root / "settings.jsonl").read_text().splitlines()
            ]
            (root / "settings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        elif which == 2:
            words = np.frombuffer((root / "steps.bin").read_bytes(), "<i8").copy()
            words[self.rng.randrange(len(words))] = self.rng.choice([0, -1, 1, 2**40, 2**63 - 1, -(2**63), 5])
            (root / "steps.bin").write_bytes(
                words.tobytes()[: self.rng.choice([len(words) * 8, 8 * len(words) - 13, 100])]
            )
        else:
            tensors, meta = load_file(root / "checkpoints" / "00000000.safetensors")
            arrays = self.mutator.tensors({name: t.numpy() for name, t in tensors.items()})
            save_file(arrays, root / "checkpoints" / "00000000.safetensors", self.mutator.changed(meta), durable=False)
        made = self.trainers[kind]
        self.judge("record", lambda: repr(cr.load_run(run, made, X, Y).at(3).loss), lambda: everything(made))

    def state(self, kind: int) -> None:
        made = self.trainers[kind]
        saved = made.optimizer.state_dict()
        groups = self.mutator.changed(saved["param_groups"])
        state: Any = {i: dict(own) for i, own in saved["state"].items()}
        if self.rng.random() < 0.6:
            number = self.rng.choice(sorted(state))
            slot = self.rng.choice(sorted(state[number]))
            state[number][slot] = self.mutator.value()
            if self.rng.random() < 0.3:
                state[self.rng.choice([number, 99, "x", None, -1])] = self.mutator.value()
        given = {"state": state, "param_groups": groups if self.rng.random() < 0.7 else saved["param_groups"]}

        def load() -> None:
            made.optimizer.load_state_dict(given)
            made.optimizer.load_state_dict(saved)

        self.judge("optimizer state", load, lambda: everything(made))

    def tree(self, kind: int) -> None:
        path = self.folder / "hostile"
        cr.save(self.trainers[kind].optimizer.state_dict(), path)
        self._mutate(path)
        self.judge("tree", lambda: cr.load(path), lambda: default_generator.get_state().tolist())

    def model(self, kind: int) -> None:
        """A model file: built anew, or loaded into a model that is as it was if that fails."""
        path, model = self.folder / "hostile", self.trainers[kind].model
        cr.save_model(model if kind else self.wide, path)
        self._mutate(path)
        self.judge("model", lambda: cr.load_model(path), lambda: default_generator.get_state().tolist())
        into = (
            nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 2))
            if kind
            else copy.deepcopy(self.wide)
        )
        self.judge(
            "model into",
            lambda: cr.load_model(path, into),
            lambda: {n: t.numpy().tobytes() for n, t in into.state_dict().items()},
        )

    def bundle(self, kind: int) -> None:
        """A bundle: read, and if that goes, asked for a prediction, which is one of our errors or an answer."""
        path, row = self.folder / "hostile", {"a": 0.1, "b": 0.2, "c": "x", "d": 4}
        self.rng.choice(self.bundles[kind]).save(path)
        self._mutate(path)
        found: list[Any] = []
        stands = default_generator.get_state().tolist
        if self.judge("bundle", lambda: found.append(cr.load_bundle(path)), stands):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of missing columns
                self.judge("bundle's answer", lambda: found[0].predict(row), stands)

    def _bundles(self) -> list[Any]:
        """One of each kind of rows."""
        X = np.random.default_rng(0).normal(size=(40, 4)).astype("f")
        names = {"columns": list("abcd"), "classes": ["no", "yes"]}
        plain = [[cr.bundle(made, **names)] for made in self.trainers[:2]]
        plain[1] += [self._mixed(X, values) for values in (False, True)]
        if find_spec("polars") is None:  # no tables without it
            return [*plain, plain[0]]
        table = cr.data.Table(
            {"a": X[:, 0], "b": X[:, 1], "c": ["x", "y"] * 20, "d": [1, 2, 3, 4] * 10, "t": X[:, 0] > 0}
        )
        pipeline = cr.data.TablePipeline("t").fit(table)
        model = nn.Linear(len(pipeline.get_feature_names_out()), 2)
        return [*plain, [cr.bundle(cr.Trainer(model, F.cross_entropy, "sgd"), pipeline=pipeline)]]

    def _mixed(self, X: Any, values: bool) -> Any:
        """What a tabular estimator gives: columns as it has learned them, and a network that knows how many they are."""
        rows = np.empty((40, 4), object)
        rows[:, :2], rows[:, 2], rows[:, 3] = X[:, :2], [None, "x", "y", "z"] * 10, [1, 2.5, True, "w"] * 10
        columns = Columns([2, 3], 3).fit(rows)
        chosen = recipe("tabular_full", "regression" if values else "classification").changed(hidden=(5,))
        made = built(chosen, columns.layout_, 1 if values else 2, columns.transform(rows), 0)
        names, after = tuple("abcd"), {"center": (1.0,), "scale": (2.0,), "range": ((-3.0,), (4.0,))}
        if values:
            return Bundle(made.model, Mixed(names, columns), VALUES, **after)
        return Bundle(made.model, Mixed(names, columns), LOGITS, ("no", "yes"))

    def _mutate(self, path: Path) -> None:
        """Other tensors, another description, or both, with the checksum of what stands there."""
        tensors, meta = load_file(path)
        arrays, which = {name: t.numpy() for name, t in tensors.items()}, self.rng.randrange(3)
        save_file(
            self.mutator.tensors(arrays) if which != 0 else arrays, path,
            self.mutator.changed(meta) if which != 1 else meta, durable=False,
        )  # fmt: skip

    def configuration(self, kind: int) -> None:
        path = self.folder / "run-0" / "config.json"
        path.write_text(json.dumps(self.mutator.changed(self.config)))
        self.judge("configuration", lambda: build(read_config(path)), lambda: None)
        path.unlink()
        history = self.folder / "run-0" / "history.json"
        history.write_text(json.dumps(self.mutator.changed(self.saved[0][1]["history"])))
        self.judge("history", lambda: building.read_history(history), lambda: None)


def _difference(a: tuple[dict[str, Any], Any], b: tuple[dict[str, Any], Any]) -> str:
    names = [name for name in a[0] if a[0][name].tobytes() != b[0][name].tobytes()]
    return f"{names} {a[1] if a[1] != b[1] else ''}"[:2000]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM,) * 2)
    folder = Path(tempfile.mkdtemp())
    try:
        hunt = Hunt(given.seed, folder)
        hunt.run(given.count)
    finally:
        shutil.rmtree(folder)
    for name, count in sorted(hunt.counts.items()):
        print(f"{count:7,}  {name}")
    print(*hunt.wrong[:50], sep="\n")
    print(
        f"{given.count:,} files, {len(hunt.wrong)} wrong; {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:,} KiB at most"
    )
    return 1 if hunt.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
