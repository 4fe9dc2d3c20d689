"""Models that put another tensor under a name at every step: looking at a training leaves them as they were."""

import copy

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import ReplayError, StateDictError
from chainrule.training import Callback, Trainer, attributes

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 5)).astype(np.float32) + 3
y = (X[:, 0] > 3).astype(int) + (X[:, 1] > 3)


class Centre(nn.Module):
    """The usual running mean, and outputs that depend on it while it trains, too."""

    def __init__(self, kind):
        super().__init__()
        if kind == "buffer":
            self.register_buffer("mean", cr.zeros(5))
        else:
            self.mean = cr.zeros(5) if kind == "attribute" else None

    def forward(self, x):
        if self.training:
            new = x.mean(0).detach()
            self.mean = new if self.mean is None else 0.9 * self.mean + 0.1 * new
        return x if self.mean is None else x - self.mean


def make(kind):
    cr.manual_seed(0)
    model = nn.Sequential(Centre(kind), nn.Linear(5, 3))
    return Trainer(model, F.cross_entropy, optim.Adam(model.parameters(), lr=0.1))


def fit(trainer, epochs=2, **options):
    return trainer.fit(X, y, epochs, 64, progress=False, **options)


def looks(trainer):
    return {
        "verify": lambda: trainer.model.verify(X, y),
        "at": lambda: trainer.run.at(3),
        "first": lambda: trainer.run.first(lambda moment: moment.step == 3),
        "weights": lambda: trainer.run.weights(2),
        "diff": lambda: trainer.run.diff(0, 4),
        "explain": lambda: trainer.explain("1.weight", step=3),
        "ledger": lambda: trainer.ledger("1.weight[0, 0]", step=4),
        "gradient_flow": lambda: trainer.gradient_flow(step=2),
        "what_if": lambda: trainer.run.what_if(3, lr=0.5),
        "consequences": lambda: trainer.run.what_if(2, weights={"1.weight[0, 0]": 9.0}, steps=4),
        "diagnose": lambda: trainer.diagnose(),
        "report": lambda: trainer.report(),
        "predict": lambda: trainer.predict(X),
        "evaluate": lambda: trainer.evaluate(X, y),
    }


def state(trainer):
    mean = trainer.model[0].mean
    return (
        mean,
        mean.numpy().tobytes(),
        trainer.predict(X).tobytes(),
        trainer.model[1].weight.detach().numpy().tobytes(),
    )


KINDS = ["buffer", "attribute", "none at first"]


@pytest.fixture(scope="module")
def straight():
    """The weights of a training that nobody looked at, by the kind of its model."""

    def trained(kind):
        trainer = make(kind)
        fit(trainer, 3)
        return state(trainer)[1:]

    return {kind: trained(kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(looks(None)))
def test_a_look_at_a_training_changes_neither_it_nor_what_follows(kind, name, straight):
    trainer = make(kind)
    fit(trainer, record=True)
    before = state(trainer)
    if (name, kind) == ("report", "none at first"):
        with pytest.raises(ReplayError, match="another graph than the first step"):
            trainer.report()
    else:
        looks(trainer)[name]()
    assert state(trainer)[0] is before[0]
    assert state(trainer) == before
    fit(trainer, 3, resume=True, record=True)
    assert state(trainer)[1:] == straight[kind]


@pytest.mark.parametrize("kind", ["buffer"])
def test_a_moment_has_the_mean_before_and_after_its_step(kind):
    trainer = make(kind)
    fit(trainer, record=True)
    moment = trainer.run.at(3)
    assert moment.proved
    mean = np.zeros(5, np.float32)
    for step in range(3):
        mean = np.float32(0.9) * mean + np.float32(0.1) * X[trainer.run.at(step).rows].mean(0)
    np.testing.assert_allclose(moment.weights["0.mean"], mean, rtol=1e-5)
    after = np.float32(0.9) * mean + np.float32(0.1) * X[moment.rows].mean(0)
    np.testing.assert_allclose(moment.after["0.mean"], after, rtol=1e-5)
    np.testing.assert_allclose(trainer.run.weights(4)["0.mean"], after, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_training_goes_on_to_the_bit(kind, straight, tmp_path):
    trainer = make(kind)
    fit(trainer)
    trainer.save(tmp_path / "t.safetensors")
    again = make(kind)
    again.load(tmp_path / "t.safetensors")
    assert again.model[0].mean.tolist() == trainer.model[0].mean.tolist()
    fit(again, 3, resume=True)
    assert state(again)[1:] == straight[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_in_a_callback_leaves_the_latest_step(kind, straight):
    class Fails(Callback):
        def on_epoch_end(self, trainer, epoch, measured):
            if epoch == 2:
                self.seen = trainer.model[0].mean.numpy().tobytes()
                trainer.model[0].mean = cr.ones(5)
                raise KeyError("mine")

    trainer, fails = make(kind), Fails()
    with pytest.raises(KeyError):
        fit(trainer, 3, callbacks=[fails])
    assert trainer.model[0].mean.numpy().tobytes() == fails.seen
    fit(trainer, 3, resume=True)
    assert state(trainer)[1:] == straight[kind]


def test_a_file_cannot_put_a_tensor_where_none_can_be(tmp_path):
    trainer = make("attribute")
    fit(trainer)
    trainer.save(tmp_path / "t.safetensors")
    other = make("attribute").model
    other[0].mean = "text"
    strange = Trainer(other, F.cross_entropy, optim.Adam(other.parameters(), lr=0.1))
    with pytest.raises(StateDictError, match=r"'model\.0\.mean', which nothing of this training can have"):
        strange.load(tmp_path / "t.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_goes_back_to_its_own_beginning(kind):
    trainer = make(kind)
    fit(trainer)
    copied, before = copy.deepcopy(trainer), state(trainer)
    copied.session.go_to(copied.session.start)
    mean = copied.model[0].mean
    assert mean is None if kind == "none at first" else not mean.numpy().any()
    assert state(trainer) == before


def test_a_tensor_under_another_name_is_noticed():
    model = make("attribute").model
    before = attributes.of(model)
    assert before.same()
    value = model[0].mean
    del model[0].mean
    model[0].middle = value  # as many names, with the same values in the same order
    assert not before.same()
    names = {name for *_, held in before.now().spaces for name in held}
    assert "middle" in names and "mean" not in names
