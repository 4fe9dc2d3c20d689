"""A training with a layer in bfloat16: recorded, continued, explained, told on a page, changed after the fact."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.callbacks import EMA
from chainrule.errors import DtypeError, NonFiniteError
from chainrule.tensor.core import stored

rng = np.random.default_rng(0)
X = rng.standard_normal((128, 6)).astype(np.float32)
Y = X[:, :3].argmax(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)
        self.middle = nn.Linear(16, 16, dtype=cr.bfloat16)

    def forward(self, x):
        return self.last(self.middle(self.first(x).relu().bfloat16()).relu().float())


def trainer(seed=0):
    cr.manual_seed(seed)
    net = Net()
    return cr.Trainer(net, "cross_entropy", optim.Adam(net.parameters(), lr=1e-2), metrics=["accuracy"])


def bits(of):
    return [stored(p).tobytes() for p in of.model.parameters()]


def fit(of, epochs, **options):
    return of.fit(X, Y, epochs=epochs, batch_size=32, seed=0, progress=False, **options)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    made = trainer()
    fit(made, 3, record=tmp_path_factory.mktemp("run") / "run", validation_data=(X, Y))
    return made


def test_a_gradient_is_the_sum_of_its_terms_and_one_rounding(recorded):
    """The weight is read as float32, by one cast; its gradient is that one's, rounded to bfloat16."""
    step = 7
    found = recorded.explain("middle.weight", step=step)
    (term,) = found.terms
    gradient = float(term.upstream)
    assert term.local == 1
    assert float(found.gradient) == cr.tensor(gradient, dtype=cr.bfloat16).item() != gradient
    assert "1 term" in str(found) and "bfloat16" in str(found)
    behind = str(term.derivation())
    assert str(found).count("is the sum of") == 2
    assert behind[behind.index("is the sum of 32 terms") : behind.index("Strongest")].strip() in str(found)
    assert len(term.derivation().terms) == 32  # of the batch
    assert len(recorded.explain("first.weight", step=step).terms) == 32


def test_the_moves_of_its_weights_add_up(recorded):
    ledger = recorded.ledger("middle.weight", step=7)
    parts = sum(part.amount for part in ledger.parts)
    assert abs(ledger.after - ledger.before - parts) <= 2**-7 * max(abs(ledger.before), abs(parts))
    assert ledger.move == ledger.rounding + sum(map(type(ledger.move), (part.amount for part in ledger.parts)))


def test_page_and_what_if(recorded, tmp_path):
    recorded.report().save(tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 100_000
    changed = recorded.what_if(7, weights={"middle.weight[0, 0]": 0.5})
    assert "0.5" in str(changed)


def test_a_training_goes_on_to_the_bit(tmp_path):
    first = trainer()
    fit(first, 2)
    first.save(tmp_path / "half")
    fit(first, 2)
    second = trainer(1)
    second.load(tmp_path / "half")
    fit(second, 2)
    assert bits(first) == bits(second)
    assert first.predict(X[:3]).dtype == np.float32


def test_averages_of_its_weights():
    made = trainer()
    fit(made, 2, callbacks=[EMA(0.5)])
    assert made.model.middle.weight.dtype is cr.bfloat16


def test_a_weight_that_is_not_finite_is_seen():
    made = trainer()
    with cr.no_grad():
        made.model.middle.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError):
        fit(made, 1)


def test_verify_says_that_it_needs_float64():
    said = "^verify: the model is run in float64 too, to compare with, and middle.weight is bfloat16, to which results are rounded. "
    with pytest.raises(DtypeError, match=said):
        Net().verify(X[:8], Y[:8])
