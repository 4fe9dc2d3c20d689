"""Keywords and names as other libraries have them: the error says what they are called here."""

import inspect
import re

import pytest

import chainrule as cr
import chainrule.callbacks
import chainrule.nn.functional as F
from chainrule.callbacks import Checkpoint, EarlyStopping
from chainrule.errors import SettingError, UnknownNameError
from chainrule.names.keras import KERAS


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


def test_another_wrong_keyword_is_an_error_of_ours_and_signatures_are_kept(trainer):
    with pytest.raises(TypeError, match=r"^fit: there is no keyword 'odd'\. fit takes X, y, epochs, "):
        trainer.fit(cr.ones(4, 2), cr.ones(4, 1), odd=1)
    assert list(inspect.signature(trainer.fit).parameters)[:3] == ["X", "y", "epochs"]


def test_a_name_cut_short_finds_the_whole():
    model = cr.nn.Linear(2, 2)
    with pytest.raises(UnknownNameError, match=r"^unknown metric 'acc'\. Did you mean 'accuracy'\? Known: "):
        cr.Trainer(model, F.cross_entropy, cr.optim.SGD(model.parameters(), lr=0.1), metrics=["acc"])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: Checkpoint("best", save_best_only=True),
            "Checkpoint: there is no keyword 'save_best_only'. Use save='best'.",
        ),
        (
            lambda: Checkpoint(filepath="best"),
            "Checkpoint: there is no keyword 'filepath'. Use folder: files are named in it.",
        ),
        (
            lambda: EarlyStopping(verbose=1),
            "EarlyStopping: there is no keyword 'verbose'. Leave it out: stopped_epoch says when it ended.",
        ),
    ],
)
def test_callbacks_say_what_a_keyword_is_called_here(make, text):
    with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
        make()


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (
            lambda: cr.nn.Dense(3),
            "there is no Dense here. Use nn.Linear(inputs, outputs), and the activation as a layer behind it.",
        ),
        (
            lambda: cr.nn.Linear(2, 1).fit,
            "'Linear' object has no attribute 'fit': there is no fit here. Use cr.Trainer(model, loss, optimizer).fit(X, y).",
        ),
        (
            lambda: cr.training.History().history,
            "'History' object has no attribute 'history': there is no history here. Use history['loss']: it is the mapping itself; "
            "history.to_pandas() is a table.",
        ),
        (
            lambda: chainrule.callbacks.ModelCheckpoint,
            "there is no ModelCheckpoint here. Use Checkpoint(folder, save='best').",
        ),
        (
            lambda: cr.nn.Linear(2, 1).compile,
            "'Linear' object has no attribute 'compile': torch.nn.Module.compile of PyTorch is not in chainrule yet. "
            "Use cr.Trainer(model, loss, optimizer), or cr.compile for a step of your own. What is there: docs/names.md",
        ),
    ],
)
def test_keras_names_say_what_they_are_called_here(ask, text):
    with pytest.raises(AttributeError, match=f"^{re.escape(text)}$"):
        ask()


def test_an_import_of_keras_names_says_it_too():
    with pytest.raises(ImportError, match="Use Checkpoint\\(folder, save='best'\\)"):
        from chainrule.callbacks import ModelCheckpoint  # noqa: F401


def test_keras_names_stand_in_the_way_of_none():
    model = cr.nn.Linear(2, 1)
    owners = {
        "nn": cr.nn,
        "torch": cr,
        "tools": cr.utils,
        "optim": cr.optim,
        "lr_scheduler": cr.optim.lr_scheduler,
        "Module": model,
        "Optimizer": cr.optim.Adam(model.parameters()),
        "Trainer": cr.Trainer(model, "mse", "adam"),
        "History": cr.training.History(),
        "callbacks": chainrule.callbacks,
    }
    assert owners.keys() == KERAS.keys()
    for room, owner in owners.items():
        assert not [name for name in KERAS[room] if hasattr(owner, name)]


def test_a_measure_by_its_short_name_is_told_its_long_one():
    text = (
        "EarlyStopping: whether more or less of 'val_acc' is better is not known. Did you mean val_accuracy? "
        "Say it with mode='max' or mode='min'."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        EarlyStopping("val_acc")
