"""Habits of Keras's, Lightning's and scikit-learn's callbacks: each does what it says, or is refused before the first step."""

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.callbacks import Callback, EarlyStopping, Watching
from chainrule.errors import SettingError
from chainrule.names.keras import CALLBACK_METHODS
from chainrule.training.callbacks import asks_for_the_end

X = np.ones((4, 2), np.float32)
y = np.zeros((4, 1), np.float32)


def trainer():
    return cr.Trainer(nn.Linear(2, 1), "mse", "sgd", lr=0.1)


def fit(one, callbacks, epochs=5):
    return one.fit(X, y, epochs, callbacks=callbacks, progress=False)


def refused(callbacks, text):
    one = trainer()
    before = one.model.weight.tolist()
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        fit(one, callbacks)
    assert one.model.weight.tolist() == before
    assert one.history.epochs == 0


def with_method(name, method=lambda self, *facts: None, base=Callback):
    kind = type("Mine", (base,), {name: method})
    return kind() if base is Callback else kind(None)


@pytest.mark.parametrize("name", CALLBACK_METHODS)
def test_a_method_of_another_librarys_callbacks_says_what_ours_is(name):
    assert not hasattr(Callback, name) and not hasattr(Watching, name)
    refused(with_method(name), f"fit: Mine has a method {name}, which is not called here. {CALLBACK_METHODS[name]}")


def test_every_method_of_keras_callbacks_is_ours_or_known():
    keras = pytest.importorskip("keras", reason="keras is not installed: pip install '.[dev]'")
    theirs = {
        n for n in vars(keras.callbacks.Callback) if n[0] != "_" and callable(getattr(keras.callbacks.Callback, n))
    }
    assert theirs - {"on_epoch_end", "model"} <= set(CALLBACK_METHODS)


def test_what_is_said_names_methods_that_there_are():
    said = {name for text in CALLBACK_METHODS.values() for name in re.findall(r"\b(on_\w+|after_step)\(", text)}
    assert said == {"on_fit_start", "on_fit_end", "on_epoch_end", "on_steps", "after_step"}
    assert all(hasattr(Callback, name) for name in said)


TAKES = {
    "on_epoch_end": (lambda self, epoch, logs=None: None, "(trainer, epoch, measured), got (epoch, logs=None). Python: too many positional arguments"),
    "on_fit_start": (lambda self: None, "(trainer), got (). Python: too many positional arguments"),
    "on_steps": (lambda self, trainer, step, loss, more: None, "(trainer, step, loss), got (trainer, step, loss, more). Python: missing a required argument: 'more'"),
    "wants": (lambda self: True, "(epoch), got (). Python: too many positional arguments"),
    "load_state_dict": (lambda self: None, "(state), got (). Python: too many positional arguments"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKES)
def test_arguments_of_methods_are_checked_before_training(name):
    method, said = TAKES[name]
    refused(with_method(name, method), f"fit: Mine.{name} must take {said}. It is called by position.")


def test_arguments_of_what_watches_and_of_functions_are_checked_before_training():
    refused(
        with_method("judge", lambda self, value: None, Watching),
        "fit: Mine.judge must take (epoch, value, weights), got (value). Python: too many positional arguments. It is called by position.",
    )

    def logging(epoch, logs):
        """Keras's LambdaCallback."""

    refused(
        logging,
        "fit: the callback logging must take (trainer, epoch, measured), got (epoch, logs). Python: too many positional "
        "arguments. It is called by position.",
    )


def test_other_names_and_methods_of_ones_own_are_nobodys_business():
    seen = []

    class Mine(Callback):
        def on_epoch_end(self, t, number, m, log=None, **rest):
            self.on_my_word(number)

        def on_my_word(self, number):
            seen.append(number)

    fit(trainer(), [Mine(), lambda *facts: seen.append(facts[1]), EarlyStopping("loss", patience=9)], 2)
    assert seen == [1, 1, 2, 2]


@pytest.mark.parametrize("true", [True, np.True_])
def test_a_function_that_returns_true_ends_the_training_as_in_sklearns(true):
    assert fit(trainer(), lambda t, epoch, measured: true if epoch == 2 else None).epochs == 2
    pytest.importorskip("sklearn")
    from chainrule.interop.sklearn import stochastic

    assert asks_for_the_end is stochastic.asks_for_the_end


@pytest.mark.parametrize("other", [None, False, np.False_, 1, "yes", [0]])
def test_nothing_else_that_it_returns_does(other):
    assert fit(trainer(), lambda t, epoch, measured: other).epochs == 5


def test_stop_training_of_the_model_ends_the_training_as_in_keras():
    def stops(given, epoch, measured):
        if epoch == 2:
            given.model.stop_training = True

    one = trainer()
    assert [fit(one, stops).epochs for _ in range(2)] == [2, 2]  # heard each time
    one.model.stop_training = True  # nobody asked while it trained
    assert fit(one, ()).epochs == 5


def test_stop_training_says_what_stops():
    one = trainer()
    text = (
        "Trainer: there is no stop_training here. Call trainer.stop(), which ends the training after the current epoch."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        one.stop_training = True
    with pytest.raises(
        AttributeError, match="'Trainer' object has no attribute 'stop_training': there is no stop_training"
    ):
        one.stop_training  # noqa: B018
    assert not hasattr(one, "stop_training")
