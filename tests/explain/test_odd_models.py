"""Everything that looks back at a training works for models that are odd but ordinary."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
from tests.explain.odd_models import MODELS, Detached, Indexed, OwnDerivative, Thrice, Tied
from tests.explain.trainings import X, y

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim


def trained(model, epochs=2, **options):
    cr.manual_seed(0)
    made = model()
    parameters = [p for p in made.parameters() if p.requires_grad]
    trainer = cr.Trainer(made, F.cross_entropy, optim.Adam(parameters, lr=0.01))
    trainer.fit(X, y, epochs=epochs, batch_size=16, progress=False, **options)
    return trainer


@cache
def recorded(model):
    """One training for all that look back at it."""
    return trained(model, record=True)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_page_is_made(model):
    page = recorded(model).report(frames=3)
    assert "<html" in page.html


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_it_is_diagnosed_and_verified(model):
    trainer = trained(model)
    assert str(trainer.diagnose())
    assert bool(trainer.model.verify(X, y)) == (model is not Detached)  # whose gradient is not that of its loss


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_if_goes_on_from_any_step(model):
    found = recorded(model).what_if(3, 2)
    assert found.gap.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_record_of_few_or_no_steps_makes_a_page(epochs):
    assert "<html" in trained(Thrice, epochs, record=True).report().html


def test_a_loss_that_draws_random_numbers_is_verified():
    def loss(output, target):
        return F.cross_entropy(F.dropout(output, 0.3), target)

    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 2))
    assert model.verify(X, y, loss)


# -- numbers that several ops read ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name"), [(Thrice, "first.weight"), (Thrice, "first.bias"), (Tied, "first.weight"), (Indexed, "table")]
)
def test_what_is_used_several_times_adds_up(model, name):
    run = recorded(model).run
    shape = dict(run.trainer.model.named_parameters())[name].shape
    for step in (0, 3, 7):
        for index in np.ndindex(*shape):
            found = run.explain(f"{name}[{', '.join(map(str, index))}]", step)
            assert found.adds_up, f"{found}"


def test_each_use_has_a_name_of_its_own():
    terms = recorded(Thrice).run.explain("first.weight[1, 2]", 3).terms
    names = {re.sub(r"\[.*", "", term.name) for term in terms}
    assert names == {"Thrice.first: matmul", "Thrice.first: matmul #2", "Thrice.first: matmul #3"}


def test_a_row_that_is_not_read_has_no_terms():
    found = recorded(Indexed).run.explain("table[0, 2]", 3)
    assert found.terms == [] and found.adds_up and float(found.gradient) == 0


def test_an_op_of_the_users_own_ends_the_paths_and_says_so():
    found = recorded(OwnDerivative).run.explain("first.weight[1, 2]", 3)
    assert found.opaque == "OwnDerivative: custom"
    assert found.adds_up and found.as_dict()["paths"] == []
    assert str(found).rpartition("\n\n")[2] == (
        "OwnDerivative: custom on the way to the loss has a derivative of its own: no\n  path can be followed through it."
    )


# -- what is printed --------------------------------------------------------------------------------------------


def test_what_explanations_hand_out_prints_short():
    run = recorded(Thrice).run
    found = run.explain("first.weight[1, 2]", 3)
    moment, ledger = run.at(3), run.ledger("first.weight[1, 2]", 3)
    whatif, flow = run.what_if(3, 2), run.gradient_flow("first.weight", 3)
    handed_out = [
        found,
        *found.terms,
        *found.strongest(3),
        moment,
        moment.scene,
        moment.watched,
        ledger,
        *ledger.parts,
    ]
    for thing in [*handed_out, whatif, whatif.original, *ledger.parts, flow, *flow.gains, run, run.replay]:
        assert len(repr(thing)) < 500, type(thing).__name__
    assert repr(found.terms[0]).startswith("<Term: Thrice.first: matmul")
    assert repr(found.strongest(1)[0]).startswith("<Path: ")


@pytest.mark.filterwarnings("error")
def test_a_replay_of_a_model_with_unused_weights_is_compiled_once():
    """A parameter that never gets a gradient leaves the counter that Adam's parameters share: once, not at each replay."""
    trainer = trained(MODELS["Unused"], record=True)
    trainer.report(frames=3)
    program = trainer.session.programs["recorded"]
    assert sum(map(len, program._step._variants.values())) <= 4
