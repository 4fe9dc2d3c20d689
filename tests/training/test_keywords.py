"""Keywords and names as other libraries have them: the error says what they are called here."""

import inspect
import re

import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.errors import UnknownNameError


@pytest.fixture
def trainer():
    model = cr.nn.Linear(2, 1)
    return cr.Trainer(model, F.mse_loss, cr.optim.SGD(model.parameters(), lr=0.1))


@pytest.mark.parametrize(
    ("keywords", "text"),
    [
        (
            {"verbose": 0},
            "fit: there is no keyword 'verbose'. Use progress=False for silence, progress=True for a bar.",
        ),
        ({"nb_epoch": 3}, "fit: there is no keyword 'nb_epoch'. Use epochs."),
        ({"x": cr.ones(4, 2)}, "fit: there is no keyword 'x'. The rows are X."),
        ({"random_state": 3}, "fit: there is no keyword 'random_state'. Use seed."),
    ],
)
def test_fit_says_what_a_keyword_is_called_here(trainer, keywords, text):
    data = {"y": cr.ones(4, 1)} if "x" in keywords else {"X": cr.ones(4, 2), "y": cr.ones(4, 1)}
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        trainer.fit(**data, **keywords)


def test_the_others_say_it_too(trainer):
    with pytest.raises(TypeError, match=r"^predict: there is no keyword 'x'\. The rows are X\.$"):
        trainer.predict(x=cr.ones(4, 2))
    with pytest.raises(
        TypeError, match=r"^evaluate: there is no keyword 'verbose'\. Nothing is shown: leave it out\.$"
    ):
        trainer.evaluate(cr.ones(4, 2), cr.ones(4, 1), verbose=0)


def test_another_wrong_keyword_is_an_ordinary_error_and_signatures_are_kept(trainer):
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'odd'$"):
        trainer.fit(cr.ones(4, 2), cr.ones(4, 1), odd=1)
    assert list(inspect.signature(trainer.fit).parameters)[:3] == ["X", "y", "epochs"]


def test_a_name_cut_short_finds_the_whole():
    model = cr.nn.Linear(2, 2)
    with pytest.raises(UnknownNameError, match=r"^unknown metric 'acc'\. Did you mean 'accuracy'\? Known: "):
        cr.Trainer(model, F.cross_entropy, cr.optim.SGD(model.parameters(), lr=0.1), metrics=["acc"])
