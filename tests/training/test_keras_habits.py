"""What Keras's users write by habit: said in their terms what it is here, and nothing of it taken for something else in silence."""

import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.data.windows import streams
from chainrule.errors import ChainruleError, DataError, DtypeError, SettingError, ShapeError, UnknownNameError
from chainrule.names.keras import CALLBACK_METHODS, ELSEWHERE, KERAS

X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


def make(loss="cross_entropy", outputs=2, **options):
    return cr.Trainer(nn.Linear(3, outputs), loss, "adam", **options)


def raises(error, text):
    return pytest.raises(error, match=f"^{re.escape(text)}$")


def test_the_names_in_every_hint_are_there():
    texts = [text for room in KERAS.values() for text in room.values()] + list(ELSEWHERE.values())
    texts += list(CALLBACK_METHODS.values())
    named = {name for text in texts for name in re.findall(r"\b(?:nn|cr|optim)\.[A-Za-z_.0-9]+[A-Za-z_0-9]", text)}
    assert len(named) > 35
    for name in sorted(named):
        eval(name)


# -- settings that nobody would read -----------------------------------------------------------------------------------


def test_a_layer_is_not_frozen_by_trainable():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    hint = "Use layer.requires_grad_(False) to freeze it, layer.requires_grad_(True) to train it."
    with raises(SettingError, f"Linear: there is no trainable here. {hint}"):
        model[0].trainable = False
    with raises(
        AttributeError, f"'Sequential' object has no attribute 'trainable': there is no trainable here. {hint}"
    ):
        model.trainable  # noqa: B018


def test_a_rate_is_not_set_by_lr():
    optimizer = optim.Adam([cr.ones(1, requires_grad=True)])
    for name in "lr", "learning_rate":
        text = f"Adam: there is no {name} here. The learning rate is optimizer.param_groups[0]['lr']."
        with raises(SettingError, text):
            setattr(optimizer, name, 0.1)
        assert not hasattr(optimizer, name) and name not in dir(optimizer)


def test_nor_a_schedule_or_rate_at_the_trainer():
    trainer = make()
    with raises(SettingError, "Trainer: there is no scheduler here. Give it to Trainer(scheduler=...)."):
        trainer.scheduler = optim.lr_scheduler.StepLR(trainer.optimizer, 2)
    with raises(
        SettingError, "Trainer: there is no lr here. The learning rate is trainer.optimizer.param_groups[0]['lr']."
    ):
        trainer.lr = 0.1
    assert not {"lr", "scheduler", "summary"} & {*dir(trainer)} and "fit" in dir(trainer)


def test_a_class_of_ones_own_may_have_such_an_attribute():
    class Layer(nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.trainable = "mine"

    class Rule(optim.SGD):
        def __init__(self, params):
            super().__init__(params, lr=0.1)
            self.lr = 7.0

    layer = Layer()
    rule = Rule(layer.parameters())
    assert layer.trainable == "mine" and rule.lr == 7.0 and "lr" in dir(rule)
    layer.trainable = nn.Parameter(cr.ones(1))
    assert layer.trainable.shape == (1,) and "trainable" in dict(layer.named_parameters())
    del rule.lr, layer.trainable
    assert not hasattr(rule, "lr") and not hasattr(layer, "trainable")
    with pytest.raises(AttributeError):
        del rule.lr


# -- orders ------------------------------------------------------------------------------------------------------------


def test_targets_before_outputs():
    def pinball(y_true, y_pred):
        return cr.maximum(0.9 * (y_true - y_pred), -0.1 * (y_true - y_pred)).mean()

    text = "takes outputs first, then targets, and pinball takes (y_true, y_pred). Change the order, and the names to (output, target)."
    with raises(SettingError, f"Trainer: a loss {text}"):
        make(pinball, 1)
    with raises(SettingError, f"Trainer: a loss {text}"):
        make({"a": pinball, "b": "mse"}, 1)
    with raises(SettingError, f"Trainer: a metric {text}"):
        make("mse", 1, metrics=[pinball])


def test_the_optimizer_before_the_loss():
    text = "Trainer: the loss must be a loss, got the optimizer 'adam'. The loss comes first: Trainer(model, loss, optimizer)."
    with raises(SettingError, text):
        cr.Trainer(nn.Linear(3, 2), "adam", "cross_entropy")


# -- data --------------------------------------------------------------------------------------------------------------


class Batches:
    """Keras's PyDataset: its items are batches."""

    def __len__(self):
        return 4

    def __getitem__(self, number):
        rows = slice(10 * number, 10 * number + 10)
        return X[rows], X[rows, :1]

    def on_epoch_end(self):
        pass


def test_a_dataset_of_batches_is_not_taken_for_one_of_rows():
    text = (
        "fit: X: a dataset's items are rows here, and Batches has on_epoch_end, as Keras's PyDataset and Sequence have, whose items "
        "are batches. Give a function that makes them: lambda: (data[i] for i in range(len(data)))."
    )
    data = Batches()
    with raises(DataError, text):
        make("mse", 1).fit(data, progress=False)
    history = make("mse", 1).fit(lambda: (data[i] for i in range(len(data))), epochs=1, progress=False)
    assert history.steps == 4


def test_batches_of_what_is_an_array_elsewhere():
    class Eager:  # TensorFlow's tensors, frames
        def __init__(self, values):
            self.values = values

        def __array__(self, dtype=None, copy=None):
            return self.values if dtype is None else self.values.astype(dtype)

    def found(wrap):
        cr.manual_seed(0)
        return make().fit(
            lambda: iter([(wrap(X[:20]), wrap(y[:20])), (wrap(X[20:]), wrap(y[20:]))]), epochs=2, progress=False
        )

    assert found(Eager)["loss"] == found(np.asarray)["loss"]


@pytest.mark.parametrize("ask", ["fit: X", "fit: validation X", "evaluate: X", "predict: X"])
def test_a_stream_without_an_end_is_not_waited_for_in_silence(monkeypatch, ask):
    def batches():
        yield from [X[:10]] * 3 if ask == "predict: X" else [(X[:10], y[:10])] * 3

    trainer = make()
    uses = {
        "fit: X": lambda: trainer.fit(batches, epochs=1, progress=False),
        "fit: validation X": lambda: trainer.fit(X, y, epochs=1, validation_data=batches, progress=False),
        "evaluate: X": lambda: trainer.evaluate(batches),
        "predict: X": lambda: trainer.predict(batches),
    }
    uses[ask]()  # in good time: not a word
    monkeypatch.setattr(streams, "LONG", -1.0)
    text = (
        f"{ask}: all batches of the function are asked for, and have not ended in -1 seconds. If there is no end, stop this: fit takes "
        f"steps_per_epoch=; to validate on, or to predict, give lambda: itertools.islice(batches(), 100)."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        uses[ask]()


def test_channels_last():
    with pytest.raises(
        ShapeError, match=re.escape("and the last one in Keras and in image files: x.permute(0, 3, 1, 2).")
    ):
        nn.Conv2d(3, 4, 3)(cr.zeros(2, 8, 8, 3))
    with pytest.raises(ShapeError, match=re.escape("Change in_channels, or what comes before.")):
        nn.Conv2d(3, 4, 3)(cr.zeros(2, 5, 8, 8))


def test_a_recurrent_layer_in_a_row_of_layers():
    for layer, came in (nn.LSTM, "chainrule.Tensor, tuple"), (nn.GRU, "chainrule.Tensor, chainrule.Tensor"):
        text = f"input must be one tensor, got a tuple of {came}. Take one of them: nn.LSTM, nn.GRU and nn.RNN give (output, state)."
        with pytest.raises(DtypeError, match=re.escape(text)):
            nn.Sequential(layer(3, 4), nn.Linear(4, 2))(cr.zeros(5, 2, 3))


def test_one_output_for_two_classes():
    text = (
        "fit: y must hold the label 0 alone, because the model has 1 output, got 1 at row 0 (labels run from 0 to 1). Yes-or-no "
        "questions of one output take 'binary_cross_entropy_with_logits'; else give the model 2 outputs, or number the classes from 0."
    )
    with raises(DataError, text):
        make(outputs=1).fit(X, np.arange(1, 41) % 2, progress=False)


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("mean_absolute_error", "'mae'"),
        ("MeanAbsoluteError", "'mae'"),
        ("AUC", "'roc_auc'"),
        ("binary_accuracy", "'accuracy'"),
        ("root_mean_squared_error", "'rmse'"),
    ],
)
def test_measures(name, ours):
    with pytest.raises(UnknownNameError, match=rf"^unknown metric {name!r}\. Here it is {ours}\. Known: "):
        make(metrics=[name])


def test_activations_as_words():
    text = "must be an nn.Module, got {}. An activation is a layer of its own, such as nn.ReLU(); a function is called in a forward of your own."
    with raises(SettingError, f"Sequential: layer 1 {text.format(repr('relu'))}"):
        nn.Sequential(nn.Linear(3, 4), "relu")
    with raises(SettingError, f"Sequential: layer 0 {text.format('the function relu')}"):
        nn.Sequential(F.relu)


def test_losses_and_measures_in_lists():
    text = "Trainer: a loss for each output goes as a tuple, by position, or as a dict, by name, got a list of 2. Write tuple(losses)."
    with raises(SettingError, text):
        make(["mse", "cross_entropy"], loss_weights=[1, 0.5])
    text = "Trainer: with a loss for each output, say which one the metric 'mae' is of: metrics={0: ['mae']}."
    with raises(SettingError, text):
        make(("mse", "cross_entropy"), metrics=(["mae"], ["accuracy"]))


@pytest.mark.parametrize(
    ("callback", "remedy"),
    [
        (optim.lr_scheduler.ReduceLROnPlateau(optim.SGD([cr.ones(1, requires_grad=True)], lr=0.1)), "A schedule goes to Trainer(scheduler=...)."),
        (object(), "Derive its class from chainrule.callbacks.Callback."),
        (cr.callbacks.EarlyStopping, "Pass an object, not its class."),
    ],
)  # fmt: skip
def test_what_is_no_callback(callback, remedy):
    with pytest.raises(ChainruleError, match=re.escape(remedy) + "$"):
        make().fit(X, y, callbacks=[callback], progress=False)


def test_words_of_fit():
    for ask, text in {
        lambda: make().fit(
            X, y, workers=2
        ): "fit: there is no keyword 'workers'. A loader has them: utils.data.DataLoader(dataset, num_workers=...).",
        lambda: make().evaluate(
            X, y, return_dict=True
        ): "evaluate: there is no keyword 'return_dict'. evaluate gives a dict: leave it out.",
        lambda: make(
            weighted_metrics=["accuracy"]
        ): "Trainer: there is no keyword 'weighted_metrics'. Metrics count every row once, whatever it weighs in the "
        "loss: use metrics.",
    }.items():
        with raises(TypeError, text):
            ask()
