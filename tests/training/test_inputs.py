"""What is given is converted first and checked then; what cannot be used is refused in the user's own terms."""

import re
import warnings

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DataError, DtypeError, SettingError, ShapeError

rng = np.random.default_rng(0)
X = rng.normal(size=(103, 6)).astype(np.float32)
y = (X[:, 0] > 0).astype(np.int64)


def make(loss=F.cross_entropy, outputs=2, metrics=(), **options):
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, outputs))
    return cr.Trainer(model, loss, optim.Adam(model.parameters()), metrics, **options)


def bits(trainer):
    return [p.detach().numpy().tobytes() for p in trainer.model.parameters()]


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def every_way(trainer, rows, targets):
    """Each way that rows go into a trainer, with the name that its complaints begin with."""
    quiet = {"epochs": 1, "progress": False}
    return [
        ("fit: X", lambda: trainer.fit(rows, targets, **quiet)),
        ("fit: validation X", lambda: trainer.fit(X, y, validation_data=(rows, targets), **quiet)),
        ("evaluate: X", lambda: trainer.evaluate(rows, targets)),
        ("predict: X", lambda: trainer.predict(rows)),
    ]


# -- numbers that change when they are converted -----------------------------------------------------------


@pytest.mark.parametrize(("value", "shown"), [(1e300, "1e+300"), (-1e39, "-1e+39"), (3.5e38, "3.5e+38")])
def test_features_beyond_the_models_dtype(value, shown):
    trainer, rows = make(), X.astype(np.float64)
    rows[3, 2] = value
    before = bits(trainer)
    for who, call in every_way(trainer, rows, y):
        text = (
            f"{who} must fit float32, the dtype of the model, which ends at 3.403e+38, got {shown} at row 3, column 2. "
            f"Scale the values (to mean 0 and deviation 1, say), or use model.double()."
        )
        with warnings.catch_warnings(), raises(DataError, text):
            warnings.simplefilter("error")
            call()
    assert bits(trainer) == before
    trainer.model.double()
    assert np.isfinite(trainer.predict(rows)).all()


def test_targets_beyond_the_models_dtype():
    targets = np.zeros((103, 1))
    targets[5] = 1e200
    text = (
        "fit: y must fit float32, the dtype of the model, which ends at 3.403e+38, got 1e+200 at row 5, column 0. Scale the "
        "values (to mean 0 and deviation 1, say), or use model.double()."
    )
    with raises(DataError, text):
        make(F.mse_loss, 1).fit(X, targets, progress=False)


LABELS = [
    (np.float64, 1e300, "0 to 1e+300", "1e+300"), (np.float64, -1e300, "-1e+300 to 1", "-1e+300"),
    (np.float64, 2.0**63, "0 to 9.22337e+18", "9.22337e+18"), (np.uint64, 2**64 - 1, "0 to 1.84467e+19", "1.84467e+19"),
    (np.uint64, 2**64 - 100, "0 to 1.84467e+19", "1.84467e+19"), (np.int64, -1, "-1 to 1", "-1"),
    (np.int8, -1, "-1 to 1", "-1"), (np.float32, -1, "-1 to 1", "-1"),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "value", "run", "shown"), LABELS)
def test_labels_are_checked_in_the_dtype_they_come_in(dtype, value, run, shown):
    labels = y.astype(dtype)
    labels[7] = value
    text = (
        f"fit: y must hold labels 0 to 1, because the model has 2 outputs, got {shown} at row 7 (labels run from {run}). "
        f"Number the classes from 0."
    )
    with raises(DataError, text):
        make().fit(X, labels, progress=False)


def test_a_label_too_large_says_how_many_outputs_it_takes():
    labels = y.astype(np.uint8)
    labels[7] = 255
    text = (
        "fit: y must hold labels 0 to 1, because the model has 2 outputs, got 255 at row 7 (labels run from 0 to 255). Give "
        "the model 256 outputs, or number the classes from 0."
    )
    with raises(DataError, text):
        make().fit(X, labels, progress=False)


@pytest.mark.parametrize("value", [2.5, np.nan, np.inf, -np.inf])
def test_labels_that_are_no_whole_numbers(value):
    labels = y.astype(np.float64)
    labels[7] = value
    text = (
        f"fit: y must hold integer class labels 0 to 1 for this loss, got float64 with the value {value} at row 7. For "
        f"regression use a loss such as F.mse_loss; for classes encode them as integers."
    )
    with raises(DataError, text):
        make().fit(X, labels, progress=False)


def test_labels_that_are_all_ignored():
    text = (
        "fit: y must hold a label that counts, got -100 (the loss's ignore_index) in every row. Check how the labels were "
        "made."
    )
    with raises(DataError, text):
        make().fit(X, y * 0 - 100, progress=False)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.uint64, np.int32, np.float32, np.float64, object])
def test_labels_of_any_dtype_train_alike(dtype):
    plain, cast = make(), make()
    plain.fit(X, y, epochs=2, progress=False)
    cast.fit(X, y.astype(dtype), epochs=2, progress=False)
    assert bits(plain) == bits(cast)


@pytest.mark.parametrize("loss", [F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss(), nn.BCELoss()])
@pytest.mark.parametrize("value", [-1, 2, 1.5])
def test_targets_of_yes_or_no_that_are_neither(loss, value):
    targets = y[:, None].astype(np.float32 if value == 1.5 else np.int64)
    targets[90] = value
    text = (
        f"fit: y must be 0, 1 or a probability in between for this loss, got {value} at row 90, column 0. Give the two "
        f"classes the numbers 0 and 1."
    )
    with raises(DataError, text):
        make(loss, 1).fit(X, targets, progress=False)


def test_a_sigmoid_that_is_missing_is_seen_before_the_training():
    trainer = make(nn.BCELoss(), 1)
    with cr.no_grad():
        trainer.model[2].weight.mul_(0.01)
        trainer.model[2].bias.fill_(0.004)
    outputs = trainer.predict(X)
    assert outputs[:2].min() > 0 > outputs.min()  # the first rows do not show it
    with pytest.raises(
        DataError, match=r"every input must be in \[0, 1\], got values from -0\.\d+ to 0\.\d+\. Apply a sigmoid"
    ):
        trainer.fit(X, y[:, None], progress=False)


# -- what comes in as something else -----------------------------------------------------------------------

whole = (X * 10).astype(np.int64)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.int32, np.float64, np.float16, np.longdouble, object])
def test_rows_of_any_dtype_train_as_the_models(dtype):
    plain, cast = make(), make()
    plain.fit(whole.astype(np.float32), y, epochs=2, progress=False)
    cast.fit(whole.astype(dtype), y, epochs=2, progress=False)
    assert bits(plain) == bits(cast)
    np.testing.assert_array_equal(cast.predict(whole.astype(dtype)), plain.predict(whole.astype(np.float32)))
    assert cast.evaluate(whole.astype(dtype), y) == plain.evaluate(whole.astype(np.float32), y)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, bool])
def test_unsigned_rows(dtype):
    rows = np.abs(whole).astype(dtype)
    trainer = make()
    np.testing.assert_array_equal(trainer.predict(rows), trainer.predict(rows.astype(np.float32)))
    huge = np.full((2, 6), 2**64 - 1, np.uint64)
    np.testing.assert_array_equal(trainer.predict(huge), trainer.predict(huge.astype(np.float64)))


def test_lists_of_numpy_values_and_tensors():
    trainer = make()
    right = trainer.predict(X)
    for rows in (
        X.tolist(),
        list(X),
        [[np.float64(v) for v in row] for row in X],
        cr.tensor(X),
        cr.tensor(X, requires_grad=True) * 1,
        tuple(X),
    ):
        np.testing.assert_array_equal(trainer.predict(rows), right)
    assert trainer.evaluate(list(X), list(y)) == trainer.evaluate(X, y)


class Lookup(nn.Module):
    """Rows are numbers of rows of a table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(cr.randn(5, 2))

    def forward(self, x):
        return self.table[x]


def test_a_model_that_takes_integers_gets_integers():
    cr.manual_seed(0)
    model = Lookup()
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    numbers = np.arange(40) % 5
    for dtype in (np.int64, np.int16, np.uint16, np.uint64):
        np.testing.assert_array_equal(trainer.predict(numbers.astype(dtype)), model.table.detach().numpy()[numbers])
    trainer.fit(numbers, numbers % 2, epochs=1, progress=False)


def test_bytes_do_not_wrap_around_in_the_model():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x):
            return self.layer((x - 128) / 128)

    model = Scaled()
    pixels = rng.integers(0, 256, (20, 6)).astype(np.uint8)
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    right = model(cr.tensor(pixels.astype(np.float32))).detach().numpy()
    np.testing.assert_allclose(trainer.predict(pixels), right, rtol=1e-5)


def test_a_model_that_takes_neither_is_complained_of_for_what_was_given():
    class Strict(nn.Module):
        def forward(self, x):
            raise DtypeError(f"only text, got {x.dtype.name}")

    trainer = make()
    trainer.model = Strict()
    with raises(DtypeError, "only text, got int64"):
        trainer.predict(whole)


objects = X.astype(object)
objects[2, 1] = None
words = X.astype(object)
words[4, 0] = "red"
NOT_NUMBERS = [
    (objects, "must hold numbers, got None (NoneType) at row 2, column 1. Convert it to float32 or int64 first (categories: one integer each)."),
    (words, "must hold numbers, got 'red' (str) at row 4, column 0. Convert it to float32 or int64 first (categories: one integer each)."),
    (X.astype(complex), "must hold numbers, got dtype complex128. Convert it to float32 or int64 first (categories: one integer each)."),
    ([[1.0, 2.0], [3.0]], "must be a rectangular array, got rows of different lengths. Pad or cut them to one length."),
    (np.ma.masked_greater(X, 2.0), f"must be known everywhere, got an array with {(X > 2).sum()} values masked out. Fill them (.filled(value)), or drop their rows."),
    ((X, X[:, :2]), "must be one array with a row for each example, got a tuple of 2 arrays of shapes (103, 6) and (103, 2). Join them along the columns (numpy.concatenate(..., axis=1)) and split them again in the model's forward; rows that are arrays of their own: numpy.stack."),
    (X[:0], "must have at least one row, got shape (0, 6). Check how the data was loaded."),
    (np.zeros((103, 0)), "must have a number in each row, got shape (103, 0). Check how the data was loaded."),
    (np.array(3.0), "must have an axis of rows, got a single number. Put it into a list."),
    (np.float32(3), "must have an axis of rows, got a single number. Put it into a list."),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "text"), NOT_NUMBERS)
def test_rows_that_are_no_array_of_numbers(rows, text):
    for who, call in every_way(make(), rows, y):
        with raises(DataError, f"{who} {text}"):
            call()


def test_a_list_of_several_inputs():
    text = (
        "fit: X must be one array with a row for each example, got a list of 2 arrays of shapes (103, 6) and (103, 6): a "
        "list is rows. Several inputs or targets go as a tuple (a, b) or a dict of arrays, to a model whose forward takes or "
        "gives so many; for a model of one, join them along the columns (numpy.concatenate(..., axis=1))."
    )
    with raises(DataError, text):
        make().fit([X, X], y)


def test_targets_that_are_a_single_number():
    for y_alone in (np.float32(3), 3, np.array(1)):
        with raises(DataError, "fit: y must have an axis of rows, got a single number. Put it into a list."):
            make().fit(X, y_alone, progress=False)


def test_a_sparse_matrix():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(
        DataError, match=r"^predict: X must be a dense array, got a csr_matrix of SciPy\. .*\.toarray\(\); "
    ):
        make().predict(sparse.csr_matrix(X))


# -- shapes, in terms of the user's arrays -----------------------------------------------------------------


def test_rows_that_do_not_fit_the_model():
    here = r"\(test_inputs\.py:\d+ in <lambda>\)"
    for who, call in every_way(make(), X[:, :4], y):
        with pytest.raises(ShapeError) as caught:
            call()
        assert re.fullmatch(
            rf"{re.escape(who)} of shape \(103, 4\) does not fit the model\. Linear '0' \(in_features=6\): the last axis of "
            rf"its input must be 6, got shape \(103, 4\)\. Make in_features=4, or change what comes before this layer\. {here}",
            str(caught.value),
        ), str(caught.value)


def test_one_row_without_its_axis():
    text = (
        "predict: X of shape (6,) does not fit the model. These are 6 rows of one number each: a table of one column is "
        "x[:, None], one row of a table x[None]."
    )
    with raises(ShapeError, text):
        make().predict(X[0])
    assert make().predict(X[0][None]).shape == make().predict(X[0:1]).shape == (1, 2)


@pytest.mark.parametrize("loss", [F.mse_loss, nn.L1Loss(), nn.BCEWithLogitsLoss(), F.huber_loss])
def test_targets_without_the_axis_of_the_outputs(loss):
    with pytest.raises(ShapeError) as caught:
        make(loss, 1).fit(X, y, progress=False)
    text = str(caught.value)
    assert text.startswith("fit: y of shape (103,) does not fit the outputs, of shape (103, 1). ")
    assert "the target must have the shape of the input, (103, 1), got a target of shape (103,)" in text
    assert text.endswith(
        "for example target.reshape(103, 1). Of arrays and tables' columns alike: np.reshape(y, (103, 1))."
    )


def test_targets_over_classes_of_another_shape():
    text = "fit: y must be class numbers of shape (103,) or class probabilities of shape (103, 2), because the model gives 2 outputs a row, got shape "
    with raises(ShapeError, f"{text}(103, 1). Reshape them: y.reshape(103)."):
        make().fit(X, y[:, None], progress=False)
    with raises(ShapeError, f"{text}(103, 3). Check that they belong to these rows."):
        make().fit(X, np.eye(3)[y], progress=False)


@pytest.mark.parametrize("loss", [F.nll_loss, nn.NLLLoss()])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_loss_of_class_numbers_alone(loss, dtype):
    with pytest.raises(ShapeError) as caught:
        make(loss).fit(X, np.eye(2)[y].astype(dtype), progress=False)
    assert re.fullmatch(
        r"fit: y must be class numbers of shape \(103,\) for (nll_loss|NLLLoss), got a number for each class, shape \(103, 2\)\. "
        r"Use y\.argmax\(1\), or F\.cross_entropy with logits\.",
        str(caught.value),
    )


def test_classes_need_an_axis_of_their_own():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 1)

        def forward(self, x):
            return self.layer(x).squeeze(1)

    model = Flat()
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    text = (
        "fit: y: the loss is over classes along axis 1, so the model must give outputs of shape (N, C), got (103,). Give "
        "the last layer an output for each class, or use F.binary_cross_entropy_with_logits."
    )
    with raises(ShapeError, text):
        trainer.fit(X, y * 0, progress=False)


def test_a_loss_that_compares_every_row_with_every_other_is_named():
    def squared(output, target):
        return ((output - target) ** 2).mean()

    with pytest.warns(UserWarning, match="every row with every other") as caught:
        make(squared, 1).fit(X, X[:, 0], epochs=1, progress=False)
    assert [str(w.message) for w in caught] == [
        "fit: the loss squared makes a square of 103 x 103 of outputs of shape (103, 1) and y of shape (103,): it compares "
        "every row with every other. Give y.reshape(103, 1), unless that is meant."
    ]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(squared, 1).fit(X, X[:, :1], epochs=1, progress=False)
        make(lambda a, b: squared(a.squeeze(1), b), 1).fit(X, X[:, 0], epochs=1, progress=False)


# -- few rows ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 63])
def test_fewer_rows_than_a_batch_are_one_batch(rows):
    whole, named = make(), make()
    whole.fit(X[:rows], y[:rows], epochs=3, progress=False)
    named.fit(X[:rows], y[:rows], epochs=3, batch_size=rows, progress=False)
    assert bits(whole) == bits(named)
    assert whole.history.steps == 3


def test_a_batch_larger_than_the_data_is_all_of_it():
    whole, larger = make(), make()
    whole.fit(X, y, epochs=2, batch_size=103, progress=False)
    larger.fit(X, y, epochs=2, batch_size=10**6, progress=False)
    assert bits(whole) == bits(larger)


@pytest.mark.parametrize(("rows", "share"), [(1, 0.5), (103, 0.001), (103, 0.999)])
def test_a_split_that_leaves_nothing(rows, share):
    text = (
        f"fit: validation_split={share} of {rows} rows leaves none to train on or none to validate on. Choose another "
        f"share, or leave it out."
    )
    with raises(DataError, text):
        make().fit(X[:rows], y[:rows], validation_split=share, progress=False)


@pytest.mark.parametrize("share", [1.5, 1, -0.1, True, False, "half", float("nan")])
def test_a_split_that_is_no_share(share):
    with raises(SettingError, f"fit: validation_split must be a share between 0 and 1, got {share!r}."):
        make().fit(X, y, validation_split=share, progress=False)


def test_a_split_of_nothing_is_none():
    """Keras's default is 0.0."""
    without, ours = make(), make()
    without.fit(X, y, epochs=2, progress=False)
    history = ours.fit(X, y, epochs=2, validation_split=0.0, progress=False)
    assert bits(ours) == bits(without)
    assert "val_loss" not in history
    assert "val_loss" in make().fit(X, y, epochs=1, validation_split=0, validation_data=(X, y), progress=False)


def test_a_split_is_made_of_rows_that_were_checked_whole():
    rows = X.astype(np.float64)
    for row in (0, 50, 102):  # whichever part it falls into
        rows[:] = X
        rows[row, 2] = 1e300
        with pytest.raises(DataError, match=rf"^fit: X must fit float32, .* got 1e\+300 at row {row}, column 2\."):
            make().fit(rows, y, validation_split=0.3, progress=False)
    split, given = make(), make()
    split.fit(X.astype(object), y.tolist(), validation_split=0.3, seed=4, epochs=2, progress=False)
    x_train, x_held, y_train, y_held = cr.data.train_test_split(X, y, 0.3, 4)
    given.fit(x_train, y_train, validation_data=(x_held, y_held), seed=4, epochs=2, progress=False)
    assert bits(split) == bits(given)
    assert split.history["val_loss"] == given.history["val_loss"]


def test_a_dict_goes_to_forward_by_name():
    text = (
        "X goes to forward(x), which does not take a dict of 'a': missing a required argument: 'x'. Name the inputs as forward "
        "does; or join the arrays along the columns (numpy.concatenate(..., axis=1)) for a model of one."
    )
    with raises(DataError, f"fit: {text}"):
        make().fit({"a": X}, y, progress=False)
    with raises(DataError, f"predict: {text}"):
        make().predict({"a": X})


# -- bfloat16 ---------------------------------------------------------------------------------------------


class Rounded(nn.Module):
    """A layer in bfloat16, given numbers of float32."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3, dtype=cr.bfloat16)

    def forward(self, x):
        return self.layer(x.bfloat16()).float()


def rounded():
    cr.manual_seed(0)
    return cr.Trainer(Rounded(), "cross_entropy", "adam")


ROUNDED_X = cr.tensor(rng.normal(size=(40, 4))).bfloat16()


def of_ml_dtypes():
    return ROUNDED_X.float().numpy().astype(pytest.importorskip("ml_dtypes").bfloat16)


@pytest.mark.parametrize(
    "made", [lambda: ROUNDED_X, lambda: torch.from_numpy(ROUNDED_X.float().numpy().copy()).bfloat16(), of_ml_dtypes]
)
def test_rows_in_bfloat16_are_the_same_numbers_in_float32(made):
    plain, labels, data, quiet = ROUNDED_X.float().numpy(), np.arange(40) % 3, cr.utils.data, {"progress": False}
    rows, known, trained, loaded = made(), rounded(), rounded(), rounded()
    known.fit(plain, labels, seed=0, epochs=2, **quiet)
    trained.fit(rows, labels, seed=0, epochs=2, **quiet)
    np.testing.assert_array_equal(trained.predict(rows), known.predict(plain))
    assert trained.evaluate(rows, labels) == known.evaluate(plain, labels)
    loaded.fit(data.DataLoader(data.TensorDataset(ROUNDED_X, cr.tensor(labels)), batch_size=20), epochs=2, **quiet)
    assert np.isfinite(loaded.predict(rows)).all()


@pytest.mark.parametrize("run", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("rows", [np.ones((6, 4), "f"), cr.ones(6, 4).bfloat16(), np.ones((6, 4), int)])
def test_a_model_all_in_bfloat16_says_where_to_convert(run, rows):
    trainer = cr.Trainer(nn.Sequential(nn.Linear(4, 3).bfloat16()), "cross_entropy", "adam")
    given = (rows,) if run == "predict" else (rows, np.zeros(6, int))
    with pytest.raises(
        DtypeError, match=rf"^{run}: X reaches the model as (float32|int64), and .* x\.bfloat16\(\) before"
    ):
        getattr(trainer, run)(*given)


class Ending(nn.Module):
    """A network whose own code ends it."""

    def __init__(self, outputs, end):
        super().__init__()
        self.layer, self.end = nn.Linear(6, outputs), end

    def forward(self, x):
        return self.end(self.layer(x))


SHARES = "every row of outputs is positive and sums to 1, and {}, which reads logits"
AGAIN = ", makes probabilities of them once more: the loss cannot become small, and learning is slow. Take the {} out of the model; predict_proba gives probabilities all the same."


@pytest.mark.parametrize(
    ("model", "loss", "target", "text"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 2), nn.Softmax(1)), "cross_entropy", y, SHARES.format("cross_entropy") + AGAIN.format("Softmax")),
        (lambda: Ending(2, lambda z: z.softmax(1)), nn.CrossEntropyLoss(), y, SHARES.format("CrossEntropyLoss") + AGAIN.format("Softmax")),
        (
            lambda: nn.Sequential(nn.Linear(6, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 1), nn.Sigmoid())),
            "binary_cross_entropy_with_logits",
            y[:, None],
            "the model ends in a Sigmoid, and binary_cross_entropy_with_logits, which reads logits" + AGAIN.format("Sigmoid"),
        ),
    ],
    ids=["a softmax", "a softmax of one's own", "a sigmoid"],
)  # fmt: skip
def test_a_loss_of_logits_warns_of_probabilities(model, loss, target, text):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(2):
            cr.Trainer(model(), loss, "adam").fit(X, target, epochs=1, validation_data=(X, target), progress=False)
    assert [str(said.message) for said in seen] == [f"fit: {text}"]  # once for a line, as all warnings
    assert seen[0].filename == __file__


@pytest.mark.parametrize(
    ("model", "loss", "target"),
    [
        (lambda: nn.Sequential(nn.Linear(6, 2), nn.LogSoftmax(1)), "cross_entropy", y),  # the softmax of these is what it was
        (lambda: nn.Sequential(nn.Linear(6, 2), nn.LogSoftmax(1)), "nll_loss", y),
        (lambda: nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), "binary_cross_entropy", y[:, None]),
        (lambda: nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), "mse", y[:, None]),
        (lambda: nn.Sequential(nn.Linear(6, 2), nn.Softmax(1)), "mse", np.stack([1 - y, y], axis=1)),
        (lambda: nn.Sequential(nn.Linear(6, 2), nn.ReLU()), "cross_entropy", y),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_a_loss_reads_is_not_warned_of(model, loss, target):
    cr.Trainer(model(), loss, "adam").fit(X, target, epochs=1, progress=False)
