"""What fit and the Trainer say to those who come from Keras or PyTorch, and of several inputs and outputs: in the user's terms."""

import re

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import ChainruleError, DataError, IndexRangeError, SettingError, ShapeError, UnknownNameError
from chainrule.utils.data import DataLoader, TensorDataset

RANDOM = np.random.default_rng(0)
X, Z, VALUE = (RANDOM.random((50, width)).astype(np.float32) for width in (3, 2, 1))
LABEL = np.arange(50) % 3


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 1), nn.Linear(2, 3)

    def forward(self, x, z):
        return self.a(x), self.b(z)


def fit(model, loss, x, y):
    return cr.Trainer(model, loss, "adam").fit(x, y, epochs=1, progress=False)


LOSSES = (F.mse_loss, F.cross_entropy)
LISTS = {
    "fit: X must be a rectangular array, got a list of 2 arrays of shapes (50, 3) and (50, 2). A list is rows, one entry each; several inputs or targets go as a tuple (a, b) or a dict of arrays, to a model whose forward takes or gives so many. If these are rows, they have different lengths. Pad or cut them to one length.": lambda: fit(Two(), LOSSES, [X, Z], [VALUE, LABEL]),
    "fit: y must be a rectangular array, got a list of 2 arrays of shapes (50, 1) and (50,). A list is rows, one entry each; several inputs or targets go as a tuple (a, b) or a dict of arrays, to a model whose forward takes or gives so many. If these are rows, they have different lengths. Pad or cut them to one length.": lambda: fit(Two(), LOSSES, (X, Z), [VALUE, LABEL]),
    "fit: X goes to forward(x, z), which does not take 1 arrays: missing a required argument: 'z'. Name the inputs as forward does, or pass a tuple in their order (a list is rows, not inputs); or join the arrays along the columns (numpy.concatenate(..., axis=1)) for a model of one.": lambda: fit(Two(), LOSSES, [X, X], [VALUE, VALUE]),
    "fit: y must have a row for each of X[0], which has 50, got 2. It is a list of arrays of shapes (50, 1) and (50, 1), and a list is rows: several go as a tuple (a, b) or a dict.": lambda: fit(Two(), LOSSES, (X, Z), [VALUE, VALUE]),
    "fit: X must be one array with a row for each example, got a list of 2 arrays of shapes (50, 3) and (50, 2): a list is rows. Several inputs or targets go as a tuple (a, b) or a dict of arrays, to a model whose forward takes or gives so many; for a model of one, join them along the columns (numpy.concatenate(..., axis=1)).": lambda: fit(nn.Linear(3, 1), F.mse_loss, [X, Z], VALUE),
    "fit: y must be one array with a row for each example, got a list of 1 arrays of shapes (50, 1): a list is rows. One array is given as it is, without the list. Several inputs or targets go as a tuple (a, b) or a dict of arrays, to a model whose forward takes or gives so many; for a model of one, join them along the columns (numpy.concatenate(..., axis=1)).": lambda: fit(nn.Linear(3, 1), F.mse_loss, X, [VALUE]),
    "fit: X must be rows, one entry each, got a list of batches (x, y). Give a function that makes them for each epoch: lambda: iter(batches).": lambda: fit(nn.Linear(3, 1), F.mse_loss, [(X[:9], VALUE[:9]), (X[9:], VALUE[9:])], None),
}  # fmt: skip


@pytest.mark.parametrize("text", LISTS, ids=lambda text: text[:40])
def test_a_list_is_rows_and_several_go_as_a_tuple(text):
    with pytest.raises(DataError) as error:
        LISTS[text]()
    assert str(error.value) == text


def test_lists_of_rows_are_rows():
    fit(nn.Linear(3, 1), F.mse_loss, [*X], [*VALUE])
    fit(nn.Linear(3, 3), F.mse_loss, [X[0], X[1]], [X[1], X[0]])


def test_one_loss_for_several_outputs_names_them_with_the_users_shapes():
    with pytest.raises(ShapeError) as error:
        fit(Two(), F.cross_entropy, (X, Z), (VALUE, LABEL))
    assert str(error.value) == (
        "fit: the loss cross_entropy takes one output and one target, and the model gives output[0] of shape (50, 1) and "
        "output[1] of shape (50, 3) with y[0] of shape (50, 1) and y[1] of shape (50,). Give a loss for each output, as a tuple "
        "or dict like the model's outputs, or a function of all outputs and all targets."
    )


def test_swapped_targets_name_the_output_and_the_users_shapes():
    with pytest.raises(ShapeError) as error:
        fit(Two(), LOSSES, (X, Z), (LABEL, VALUE))
    assert re.sub(r" \(\S+ in \S+\)", "", str(error.value)) == (
        "fit: the loss of output 0, mse_loss, does not take output[0] of shape (50, 1) with y[0] of shape (50,): mse_loss: "
        "the target must have the shape of the input, (50, 1), got a target of shape (50,). Reshape one of them, for example "
        "target.reshape(50, 1). Check that outputs, losses and targets have one order."
    )
    with pytest.raises(ShapeError, match=r"^fit: the loss of output 1, cross_entropy, .*y\[1\] of shape \(50, 1\)"):
        fit(Two(), LOSSES, (X, Z), (VALUE, VALUE))


@pytest.mark.parametrize("asked", ["predict_classes", "predict_proba"])
def test_classes_of_several_outputs_are_not_one_question(asked):
    trainer = cr.Trainer(Two(), LOSSES, "adam")
    trainer.fit((X, Z), (VALUE, LABEL), epochs=1, progress=False)
    with pytest.raises(SettingError) as error:
        getattr(trainer, asked)((X, Z))
    assert str(error.value) == (
        f"{asked} is for a model of one output, and here there is a loss for each of 0, 1. Use predict, which gives all "
        f"outputs, and .argmax(axis=1) of one with classes."
    )


def test_a_frozen_model_is_named():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).requires_grad_(False)
    trainer = cr.Trainer(model, F.mse_loss, "adam")
    with pytest.raises(SettingError) as error:
        trainer.fit(X, VALUE, epochs=1, progress=False)
    assert str(error.value) == (
        "fit: all 4 parameters of the Sequential are frozen (requires_grad is False), so there is nothing to train. Unfreeze "
        "them with model.requires_grad_(True), or some with model[-1].requires_grad_(True)."
    )
    model[-1].requires_grad_(True)
    trainer.fit(X, VALUE, epochs=1, progress=False)


def test_a_label_out_of_range_in_a_compiled_step_tells_of_classes():
    model = nn.Linear(3, 3)
    step = cr.compile(lambda x, y: F.cross_entropy(model(x), y))
    step(cr.tensor(X), cr.tensor(LABEL))
    with pytest.raises(IndexRangeError) as error:
        step(cr.tensor(X), cr.tensor(LABEL + 1))
    assert re.sub(r" \(\S+ in \S+\)", "", str(error.value)) == (
        "index: an index is out of range for an axis of size 3: it must be in [0, 2]. Check the indices; if they are labels, "
        "there are 3 classes: number them from 0, or widen the last layer."
    )


THEIRS = "of PyTorch's, whose tensors are not chainrule's (the names are the same: from chainrule import nn, optim). Pass an object such as"


def test_what_is_pytorchs_is_called_pytorchs():
    def refused(*given):
        with pytest.raises(SettingError) as error:
            cr.Trainer(*given)
        return str(error.value)

    class Mine(torch.nn.Module):
        pass

    ours, theirs = nn.Linear(3, 1), torch.nn.Linear(3, 1)
    for optimizer in ("adam", cr.optim.Adam(ours.parameters())):
        expected = f"Trainer: model must be an nn.Module, got Linear {THEIRS} nn.Sequential(...)."
        assert refused(theirs, F.mse_loss, optimizer) == expected
        assert refused(Mine(), F.mse_loss, optimizer) == expected.replace("Linear", "Mine")
    assert refused(ours, F.mse_loss, torch.optim.Adam(theirs.parameters())) == (
        f"Trainer: optimizer must be an Optimizer, got Adam {THEIRS} optim.Adam(model.parameters())."
    )
    for name, loss in {"mse_loss": torch.nn.functional.mse_loss, "MSELoss": torch.nn.MSELoss()}.items():
        assert refused(ours, loss, "adam") == (
            f"Trainer: loss must be a function (output, target) -> Tensor of chainrule's tensors, got PyTorch's {name}. The "
            f"names are the same here: nn.functional.mse_loss, nn.MSELoss()."
        )


KEYWORDS = {
    "fit: there is no keyword 'sample_weights'. Use sample_weight.": "sample_weights",
    "fit: there is no keyword 'validation_freq'. Validation data are measured after every epoch: leave it out.": "validation_freq",
    "fit: there is no keyword 'initial_epoch'. Use resume=True, which goes on where the training stands.": "initial_epoch",
    "fit: there is no keyword 'criterion'. The loss is the Trainer's: Trainer(model, loss=...).": "criterion",
    "fit: there is no keyword 'batchsize'. Did you mean 'batch_size'?": "batchsize",
}  # fmt: skip


@pytest.mark.parametrize("text", KEYWORDS, ids=KEYWORDS.get)
def test_keywords_of_fit_elsewhere(text):
    with pytest.raises(TypeError) as error:
        cr.Trainer(nn.Linear(3, 1), F.mse_loss, "adam").fit(X, VALUE, **{KEYWORDS[text]: 1})
    assert str(error.value) == text


def test_keywords_of_the_trainer_and_the_loader_elsewhere():
    with pytest.raises(TypeError, match=r"^Trainer: there is no keyword 'criterion'\. Use loss\.$"):
        cr.Trainer(nn.Linear(3, 1), criterion=F.mse_loss, optimizer="adam")
    with pytest.raises(TypeError, match=r"^DataLoader: there is no keyword 'batchsize'\. Did you mean 'batch_size'\?$"):
        DataLoader(TensorDataset(cr.ones(3)), batchsize=2)
    with pytest.raises(
        TypeError, match=r"^DataLoader: there is no keyword 'odd'\. DataLoader takes dataset, batch_size, "
    ):
        DataLoader(TensorDataset(cr.ones(3)), odd=2)


NAMES = {
    "mean_squared_error": "Here it is 'mse_loss'.",
    "mean_absolute_error": "Here it is 'l1_loss'.",
    "sparse_categorical_crossentropy": "Here it is 'cross_entropy', of logits: a model without a softmax at its end.",
    "categorical_crossentropy": "Here it is 'cross_entropy', of logits: a model without a softmax at its end.",
    "binary_crossentropy": "Here it is 'binary_cross_entropy' of probabilities, 'binary_cross_entropy_with_logits' of logits.",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_by_its_name_elsewhere(name):
    with pytest.raises(UnknownNameError) as error:
        cr.Trainer(nn.Linear(3, 1), name, "adam")
    assert str(error.value) == f"unknown loss {name!r}. {NAMES[name]} Known: {', '.join(sorted(nn.losses.LOSSES))}."
    assert isinstance(error.value, ChainruleError)
