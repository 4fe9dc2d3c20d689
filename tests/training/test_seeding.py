"""``cr.manual_seed`` where a thread draws from another stream than the default one: in callbacks, in nested trainings."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.callbacks import Callback
from chainrule.tensor.random import drawing_from
from chainrule.training import Trainer

rng = np.random.default_rng(0)
X = rng.normal(size=(70, 4)).astype(np.float32)
y = (X[:, 0] > 0).astype(int)


def trainer(seed=0, p=0.3):
    cr.manual_seed(seed)
    return Trainer(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(p), nn.Linear(8, 2)), "cross_entropy", "adam")


def fitted(found, *callbacks, epochs=3):
    return found.fit(X, y, epochs=epochs, batch_size=32, seed=3, progress=False, callbacks=callbacks)


def bits(found):
    return b"".join(t.detach().numpy().tobytes() for t in found.session.named().values())


def build(lr):
    return Trainer(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.2), nn.Linear(4, 2)), "cross_entropy", "adam", lr=lr)


def swept():
    return [bits(found) for found in cr.sweep(build, {"lr": [0.01, 0.1]}, X, y, epochs=2, batch_size=32)]


def nested():
    found = trainer(7)
    fitted(found)
    return bits(found)


DRAWS = {
    "numbers": lambda: (cr.rand(2).tolist(), cr.randperm(5).tolist()),
    "weights": lambda: nn.Linear(3, 2).weight.tolist(),
    "a nested fit": nested,
    "a nested sweep": swept,
}


class Asks(Callback):
    def __init__(self, draw, event="on_epoch_end"):
        self.draw, self.found = draw, []
        setattr(type(self), event, type(self).asked)

    def asked(self, trainer, *facts):
        cr.manual_seed(5)
        self.found.append(self.draw())


@pytest.mark.parametrize("event", ["on_fit_start", "on_steps", "on_pause", "on_epoch_end", "on_fit_end"])
@pytest.mark.parametrize("what", DRAWS)
def test_a_seed_in_a_callback_gives_what_it_gives_outside(what, event):
    if event != "on_epoch_end" and what.startswith("a nested"):
        pytest.skip("slow, and no other for the others")
    cr.manual_seed(5)
    expected = DRAWS[what]()
    asks = type("Asking", (Asks,), {})(DRAWS[what], event)
    fitted(trainer(), asks)
    assert asks.found and all(found == expected for found in asks.found)


def test_the_training_around_it_keeps_its_bits():
    plain, asked = trainer(), trainer()
    fitted(plain)
    fitted(asked, type("Asking", (Asks,), {})(DRAWS["numbers"]))
    assert bits(plain) == bits(asked)


def test_the_default_generator_starts_over_too():
    asks = type("Asking", (Asks,), {})(lambda: None)
    fitted(trainer(), asks)
    assert cr.default_generator.get_state().tolist() == [5, 0]


def test_a_seed_where_a_stream_is_lent_starts_that_one_over():
    cr.manual_seed(5)
    expected = cr.rand(3)
    with drawing_from(cr.Generator(1)):
        cr.rand(2)
        cr.manual_seed(5)
        assert cr.equal(cr.rand(3), expected)


def test_a_traced_seed_is_of_the_default_generator_alone():
    @cr.compile
    def f(x):
        cr.manual_seed(5)
        return x * 2

    with drawing_from(cr.Generator(1)) as mine:
        f(cr.ones(2))
    assert mine.get_state().tolist() == [1, 0]


def test_a_training_whose_callback_seeded_goes_on_from_its_file(tmp_path):
    found, again = trainer(), trainer(1)
    fitted(found, type("Asking", (Asks,), {})(DRAWS["numbers"]))
    found.save(tmp_path / "a")
    again.load(tmp_path / "a")
    for each in (found, again):
        each.fit(X, y, epochs=5, batch_size=32, seed=3, resume=True, progress=False, validation_data=(X, y))
    assert bits(found) == bits(again)


@pytest.mark.parametrize("when", ["step", "epoch"])
def test_what_a_schedule_draws_moves_no_step(when):
    def made(factor):
        model = trainer().model
        optimizer = cr.optim.Adam(model.parameters())
        return Trainer(
            model, "cross_entropy", optimizer, scheduler={when: cr.optim.lr_scheduler.LambdaLR(optimizer, factor)}
        )

    plain, drawing = made(lambda at: 1.0), made(lambda at: 1.0 + 0 * cr.rand(1).item())
    fitted(plain)
    fitted(drawing)
    assert bits(plain) == bits(drawing)
