"""Files of the right form and with the right hash whose values no training comes to: refused, and nothing changed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.errors import DamagedFileError, NonFiniteError, SettingError, StateDictError
from chainrule.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from chainrule.training import load_file, save_file, saved

X = np.random.default_rng(0).normal(size=(40, 4)).astype("f")
Y = (X[:, 0] > 0).astype(int)
AGAIN = "Copy it again, or train again."


def trainer(metrics: Any = ("accuracy",), plateau: bool = False, **more: Any) -> cr.Trainer:
    cr.manual_seed(0)
    model = cr.nn.Sequential(cr.nn.Linear(4, 3), cr.nn.Dropout(0.2), cr.nn.Linear(3, 2))
    adam = cr.optim.Adam(model.parameters(), lr=0.01)
    schedule = ReduceLROnPlateau(adam) if plateau else CosineAnnealingLR(adam, 9)
    return cr.Trainer(model, F.cross_entropy, adam, metrics, scheduler=schedule, **more)


def fit(made: cr.Trainer, epochs: int = 2, **more: Any) -> cr.Trainer:
    made.fit(X, Y, epochs=epochs, batch_size=10, progress=False, **more)
    return made


def everything(made: cr.Trainer) -> Any:
    session = made.session
    values = [handle.numpy().tobytes() for handle in (h.detach() for h in session.handles())]
    return values, repr(session.settings()), session.position, session.history.as_dict()


def pairs(tree: Any) -> dict[str, Any]:
    return dict(tree["pairs"])


def put(tree: Any, name: str, value: Any) -> None:
    next(pair for pair in tree["pairs"] if pair[0] == name)[1] = value


def refusal(made: cr.Trainer, path: Path, tensors: dict[str, Any], meta: Any, kind: type[Exception]) -> str:
    """The error of loading these contents, without the file's name; nothing is changed by it."""
    save_file(tensors, path, meta, durable=False)
    before = everything(made)
    with pytest.raises(kind) as caught:
        made.load(path)
    assert everything(made) == before
    return str(caught.value).replace(str(path), "FILE")


TENSORS = [
    ("optimizer.state.0.exp_avg", (1, 2), math.nan, "must be a finite number"),
    ("optimizer.state.0.exp_avg", (1, 2), math.inf, "must be a finite number"),
    ("optimizer.state.1.exp_avg_sq", (2,), -0.5, "must be 0 or more"),
    ("optimizer.state.1.exp_avg_sq", (2,), math.nan, "must be 0 or more"),
    ("optimizer.state.3.step", (), -1.0, "must be a whole number, 0 or more"),
    ("optimizer.state.3.step", (), 2.5, "must be a whole number, 0 or more"),
    ("optimizer.state.3.step", (), math.inf, "must be a whole number, 0 or more"),
    ("weights.model.2.weight", (0, 1), math.nan, "must be a finite number once a step was taken"),
    ("weights.model.2.bias", (1,), -math.inf, "must be a finite number once a step was taken"),
    ("streams.random", (1,), -1, "must be a number of draws, 0 or more"),
    ("streams.aside", (1,), -7, "must be a number of draws, 0 or more"),
    ("streams.random", (0,), 5, "must be 0, as the training's seed says"),
]


@pytest.mark.parametrize(("name", "place", "value", "must"), TENSORS)
def test_a_tensor_with_a_value_that_no_step_leaves(
    tmp_path: Path, name: str, place: tuple[int, ...], value: float, must: str
) -> None:
    made = fit(trainer())
    made.save(tmp_path / "good")
    tensors, meta = load_file(tmp_path / "good")
    arrays = {n: t.numpy().copy() for n, t in tensors.items()}
    arrays[name][place] = value
    text = refusal(made, tmp_path / "bad", arrays, meta, DamagedFileError)
    index = str(list(place)) if place else ""
    assert text == f"FILE: {name}{index} = {value!r}, which {must}. {AGAIN}"


def test_streams_that_stand_for_each_other(tmp_path: Path) -> None:
    made = fit(trainer())
    made.save(tmp_path / "good")
    arrays, meta = load_file(tmp_path / "good")
    arrays["streams.random"], arrays["streams.aside"] = arrays["streams.aside"], arrays["streams.random"]
    assert "as the training's seed says" in refusal(made, tmp_path / "bad", arrays, meta, DamagedFileError)


def test_an_infinite_square_is_what_a_gradient_beyond_the_dtype_leaves(tmp_path: Path) -> None:
    """Its step was 0, so that the training went on."""
    model = cr.nn.Linear(1, 1, bias=False)
    made = cr.Trainer(model, lambda output, target: (output * 1e25).mean(), cr.optim.Adam(model.parameters()))
    made.fit(X[:, :1], X[:, :1], epochs=1, batch_size=40, progress=False)
    assert made.optimizer.state_dict()["state"][0]["exp_avg_sq"].tolist() == [[math.inf]]
    made.save(tmp_path / "a")
    made.load(tmp_path / "a")
    assert made.optimizer.state_dict()["state"][0]["exp_avg_sq"].tolist() == [[math.inf]]


CHANGES: list[tuple[Callable[[Any], Any], str]] = [
    (
        lambda m: m["position"].update(epoch=3),
        f"FILE: history: epochs = 2, which must be 3, as the position says. {AGAIN}",
    ),
    (
        lambda m: m["history"].update(steps=9),
        f"FILE: history: steps = 9, which must be 8, as the position says. {AGAIN}",
    ),
    (lambda m: m.update(position=None), f"FILE: history: epochs = 2, which must be 0, as the position says. {AGAIN}"),
    (
        lambda m: m["position"].update(step=2),
        f"FILE: position: sums must be numbers in the middle of an epoch, and none between two, got []. {AGAIN}",
    ),
    (
        lambda m: m["position"].update(step=2, sums=[math.nan, 1.0]),
        f"FILE: position: sums must be finite in its first, which is of the losses, got [nan, 1.0]. {AGAIN}",
    ),
    (
        lambda m: m["position"].update(epoch=2**62),
        f"FILE: position: epoch must be so small that the steps can be counted, 4 an epoch, got {2**62}. {AGAIN}",
    ),
    (
        lambda m: m["position"].update(told=1, step=1, sums=[1.0, 1.0]),
        f"FILE: position: told must be null after 2 epochs and 1 steps, got 1. {AGAIN}",
    ),
    (
        lambda m: m["position"].update(rates=[math.inf]),
        f"FILE: position: rates must be finite numbers, got [inf]. {AGAIN}",
    ),
    (
        lambda m: put(pairs(m["settings"])["schedules"]["list"][0], "last_epoch", 0.5),
        f"FILE: settings: CosineAnnealingLR: last_epoch must be a whole number, 0 or more, got 0.5. {AGAIN}",
    ),
    (
        lambda m: put(pairs(m["settings"])["schedules"]["list"][0], "eta_min", math.nan),
        f"FILE: settings: CosineAnnealingLR: eta_min must be without NaN, got nan. {AGAIN}",
    ),
    (
        lambda m: put(pairs(m["settings"])["schedules"]["list"][0], "T_max", 0),
        f"FILE: settings: CosineAnnealingLR: T_max, the epochs to the lowest rate, must be 1 or more, got 0. {AGAIN}",
    ),
    (
        lambda m: put(pairs(m["settings"])["groups"]["list"][0], "lr", -0.1),
        f"FILE: settings: Adam: lr must be a number 0 or more, got -0.1. {AGAIN}",
    ),
]


@pytest.mark.parametrize("number", range(len(CHANGES)))
def test_numbers_that_contradict_each_other(tmp_path: Path, number: int) -> None:
    made = fit(trainer())
    made.save(tmp_path / "good")
    tensors, meta = load_file(tmp_path / "good")
    meta = copy.deepcopy(meta)
    change, expected = CHANGES[number]
    change(meta)
    assert refusal(made, tmp_path / "bad", tensors, meta, DamagedFileError) == expected


def test_a_plateau_that_is_below_its_counters(tmp_path: Path) -> None:
    made = fit(trainer(plateau=True))
    made.save(tmp_path / "good")
    tensors, meta = load_file(tmp_path / "good")
    for name, value, must in (
        ("num_bad_epochs", -3, "num_bad_epochs must be a whole number, 0 or more, got -3"),
        ("factor", 1.5, "factor must be below 1, got 1.5"),
        ("mode", "mix", "unknown mode 'mix'"),
    ):
        changed = copy.deepcopy(meta)
        put(pairs(changed["settings"])["schedules"]["list"][0], name, value)
        assert must.lower() in refusal(made, tmp_path / "bad", tensors, changed, DamagedFileError).lower()


def test_the_middle_of_an_epoch_needs_the_same_metrics(tmp_path: Path) -> None:
    """Sums of one measure would else stand for those of two."""
    made = fit(trainer(metrics=()))
    made.save(tmp_path / "good")
    tensors, meta = load_file(tmp_path / "good")
    meta["position"].update(step=2, sums=[10.0])
    meta["history"].update(steps=10)
    save_file(tensors, tmp_path / "middle", meta)
    made.load(tmp_path / "middle")
    assert refusal(fit(trainer()), tmp_path / "middle", tensors, meta, SettingError) == (
        "load: FILE stands in the middle of an epoch of which is known: loss; this trainer measures: loss, accuracy. Build it "
        "as it was when it was saved, with Trainer(..., metrics=...)."
    )


def test_what_the_user_put_somewhere_is_saved_and_loaded(tmp_path: Path) -> None:
    """Infinity in a buffer, NaN in a gradient, a norm without a bound, weights before the first step."""
    made = trainer(max_norm=math.inf)
    made.model.register_buffer("mask", cr.tensor([0.0, -math.inf, math.nan]))
    made.model[0].weight.data.fill_(math.nan)
    made.save(tmp_path / "before")
    made.load(tmp_path / "before")
    assert np.isnan(made.model[0].weight.detach().numpy()).all()
    made.model[0].reset_parameters()
    fit(made)
    made.model[0].weight.grad = cr.full((3, 4), math.nan)
    made.save(tmp_path / "after")
    made.model.mask.fill_(1)
    made.load(tmp_path / "after")
    assert made.model.mask.tolist()[:2] == [0, -math.inf]
    assert np.isnan(made.model[0].weight.grad.numpy()).all()
    assert made.session.max_norm == math.inf


def test_a_weight_that_no_training_goes_on_from_is_not_saved(tmp_path: Path) -> None:
    made = fit(trainer())
    made.save(tmp_path / "a")
    good = (tmp_path / "a").read_bytes()
    with cr.no_grad():
        made.model[2].weight[0, 1] = math.inf
    with pytest.raises(NonFiniteError) as caught:
        made.save(tmp_path / "a")
    assert str(caught.value) == (
        f"save: model.2.weight[0, 1] = inf, and a training cannot go on from there; nothing was written to "
        f"{str(tmp_path / 'a')!r}. No step left it there: mend the weight first, or save the tensors alone with "
        f"save_file(model.state_dict(), path)."
    )
    assert (tmp_path / "a").read_bytes() == good
    save_file(made.model.state_dict(), tmp_path / "plain")
    made.model.load_state_dict(load_file(tmp_path / "plain")[0])  # as in PyTorch
    assert made.model[2].weight[0, 1].item() == math.inf


def test_what_a_stop_leaves_can_be_saved_and_gone_on_from(tmp_path: Path) -> None:
    made = fit(trainer())
    made.optimizer.param_groups[0]["lr"] = 1e38
    with pytest.raises(NonFiniteError):
        fit(made, 9, resume=True)
    made.save(tmp_path / "a")
    made.load(tmp_path / "a")


class Poke(cr.training.Callback):
    """Puts NaN into a weight after the second epoch."""

    def on_epoch_end(self, trainer: cr.Trainer, epoch: int, measured: Any) -> None:
        if epoch == 2:
            trainer.model[0].weight.data.fill_(math.nan)


def test_a_record_keeps_what_a_callback_put_into_a_weight(tmp_path: Path) -> None:
    made = trainer()
    with pytest.raises(NonFiniteError):
        fit(made, 4, record=tmp_path / "run", callbacks=[Poke()])
    run = cr.load_run(tmp_path / "run", trainer(), X, Y)
    assert np.isfinite(run.at(7).loss)
    checkpoint = run.record.checkpoint(8)
    assert np.isnan(load_file(checkpoint)[0]["weights.model.0.weight"].numpy()).all()
    saved.load(made.session, checkpoint, recorded=True)
    assert np.isnan(made.model[0].weight.detach().numpy()).all()


@pytest.mark.parametrize("step", [-1.0, 0.5, math.nan, math.inf])
def test_a_counter_that_is_none_is_refused_in_a_plain_state_dict_too(step: float) -> None:
    made = fit(trainer())
    saved, before = made.optimizer.state_dict(), everything(made)
    saved["state"][2]["step"] = cr.tensor(step)
    with pytest.raises(StateDictError) as caught:
        made.optimizer.load_state_dict(saved)
    assert str(caught.value) == (
        f"Adam: the state 'step' of a parameter must be a whole number, 0 or more, got {step!r}. Give a dict that "
        f"Adam.state_dict() made."
    )
    assert everything(made) == before


def test_moments_in_a_plain_state_dict_may_be_anything_as_in_pytorch() -> None:
    made = fit(trainer())
    saved = made.optimizer.state_dict()
    saved["state"][0]["exp_avg"] = cr.full((3, 4), math.nan)
    saved["state"][0]["exp_avg_sq"] = cr.full((3, 4), -1.0)
    made.optimizer.load_state_dict(saved)
    assert made.optimizer.state_dict()["state"][0]["exp_avg_sq"].min().item() == -1


def test_a_replay_that_leaves_a_parameter_behind_gives_its_counter_back(tmp_path: Path) -> None:
    """The replayed training was begun with a frozen layer, this trainer was not."""
    frozen, mine = trainer(), fit(trainer())
    frozen.model[2].weight.requires_grad_(False)
    fit(frozen, record=tmp_path / "run")
    before = mine.optimizer.state_dict()
    cr.load_run(tmp_path / "run", mine, X, Y).at(5)
    after = mine.optimizer.state_dict()
    assert [own["step"].item() for own in before["state"].values()] == [8, 8, 8, 8]
    assert [own["step"].item() for own in after["state"].values()] == [8, 8, 8, 8]
    again, plain = fit(mine, 3, resume=True).model.state_dict(), fit(trainer(), 3).model.state_dict()
    assert all(cr.equal(again[name], plain[name]) for name in plain)


def test_a_file_whose_hash_is_gone(tmp_path: Path) -> None:
    """Two bits: one in the name under which the hash stands, one in a weight."""
    made = fit(trainer())
    made.save(tmp_path / "a")
    data = bytearray((tmp_path / "a").read_bytes())
    data[data.find(b"chainrule.hash")] ^= 1
    data[-3] ^= 1
    (tmp_path / "a").write_bytes(data)
    before = everything(made)
    with pytest.raises(DamagedFileError, match="do not match the hash"):
        made.load(tmp_path / "a")
    assert everything(made) == before


@pytest.mark.parametrize("other", ["step", "training"])
def test_a_checkpoint_under_the_name_of_another(tmp_path: Path, other: str) -> None:
    """At the end of a run no recorded loss would tell."""
    made = fit(trainer(), record=tmp_path / "run")
    changed = trainer()
    with cr.no_grad():
        changed.model[0].weight.mul_(2)
    fit(changed, record=tmp_path / "other")
    assert made.run is not None
    end = made.run.record.checkpoint(8)
    wrong = made.run.record.checkpoint(0) if other == "step" else changed.run.record.checkpoint(8)
    right = cr.load_run(tmp_path / "run", trainer(), X, Y).at(8).loss
    end.write_bytes(wrong.read_bytes())
    run = cr.load_run(tmp_path / "run", trainer(), X, Y)
    assert run.at(8).loss == right  # replayed from the checkpoint before
    text = "0 of this training" if other == "step" else "8 of another training"
    assert run.replay.damaged == {8: f"{end}: it is of step {text}. Copy it again, or train again."}
