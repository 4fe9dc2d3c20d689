"""Any module as an estimator: what its trainer gives, in scikit-learn's terms."""

import os
import pickle
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from scipy import special
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, DtypeError, ReplayError, SettingError
from chainrule.sklearn import (
    MLPClassifier,
    MLPRegressor,
    NetworkClassifier,
    NetworkRegressor,
    TabularClassifier,
    TabularRegressor,
    shared_programs,
)
from chainrule.tensor.random import drawing_from


def scaled(load):
    X, y = load(return_X_y=True)
    return StandardScaler().fit_transform(X), y


WINE, CANCER, DIABETES = scaled(load_wine), scaled(load_breast_cancer), scaled(load_diabetes)
NAMES = np.array(["red", "rosé", "white"], object)[WINE[1]]


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs))


def classifier(**settings):
    return NetworkClassifier(network, **{"lr": 0.01, "epochs": 20, "random_state": 0, **settings})


def regressor(**settings):
    return NetworkRegressor(network, **{"lr": 0.01, "epochs": 20, "random_state": 0, **settings})


def weights(model):
    return [value.numpy() for value in model.module_.state_dict().values()]


def assert_equal(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_fit_is_the_trainers_fit():
    model = classifier(epochs=5).fit(*WINE)
    module = clone(model).fit(*WINE).module_  # the same weights to begin with, by the same seed
    random = np.random.RandomState(0)
    with drawing_from(cr.Generator(random.randint(2**31))):
        module = network(13, 3)
    trainer = cr.Trainer(module, "cross_entropy", "adam", lr=0.01)
    trainer.fit(WINE[0], WINE[1], epochs=5, seed=random.randint(2**31), progress=False)
    for found, expected in zip(weights(model), module.state_dict().values(), strict=True):
        np.testing.assert_array_equal(found, expected.numpy())
    np.testing.assert_array_equal(model.predict_proba(WINE[0]), trainer.predict_proba(WINE[0]))


@pytest.mark.parametrize(
    "estimator",
    [
        classifier(dtype="float64", batch_size=500, epochs=80, lr=0.02),
        regressor(dtype="float64", batch_size=500, epochs=150, lr=0.02),
    ],
    ids=["classifier", "regressor"],
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learns_checks_pass(estimator):
    found = check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(found) > 50
    assert {check["check_name"] for check in found if check["status"] != "passed"} <= {"check_array_api_input"}


@pytest.mark.parametrize(
    "model", [regressor(), MLPRegressor(max_iter=1), TabularRegressor()], ids=lambda m: type(m).__name__
)
def test_numbers_that_are_texts_are_not_taken_for_numbers(model):
    X, y = WINE
    for texts, what in (
        (y.astype(str), "dtype <U3"),
        (np.array([*map(str, y)], object), "texts"),
        ([*map(str, y)], "dtype <U1"),
    ):
        with pytest.raises(DataError) as told:
            model.fit(X, texts)
        text = f"{type(model).__name__}: y must hold numbers, got {what}. Convert it to float64 first."
        assert re.sub(r"<U\d+", "<U", str(told.value)) == re.sub(r"<U\d+", "<U", text)


@pytest.mark.parametrize(
    "model",
    [classifier(), regressor(), MLPClassifier(max_iter=1), MLPRegressor(max_iter=1)],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_is_masked_out_is_not_learned_in_silence(model):
    X, y = WINE
    who = f"{type(model).__name__}: "
    with pytest.raises(DataError, match=rf"^{who}X must be known everywhere, got an array with \d+ values masked out"):
        model.fit(np.ma.masked_greater(X, 1), y)
    with pytest.raises(DataError, match=rf"^{who}y must be known everywhere"):
        model.fit(X, np.ma.masked_equal(y, 1))
    model.fit(np.ma.asarray(X), y)  # nothing is masked
    with pytest.raises(DataError, match=rf"^{who}X must be known everywhere"):
        model.predict(np.ma.masked_greater(X, 1))


def test_a_trainer_says_that_sparse_arrays_are_written_out():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataError, match=r"^fit: X must be a dense array, got a csr_array of SciPy\. .*\.toarray\(\)"):
        cr.Trainer(network(13, 3), "cross_entropy", "adam", lr=0.01).fit(sparse.csr_array(WINE[0]), WINE[1])


def test_text_labels_come_out_again():
    model = classifier(epochs=40).fit(WINE[0], NAMES)
    assert list(model.classes_) == ["red", "rosé", "white"]
    assert model.score(WINE[0], NAMES) > 0.97
    assert model.predict_proba(WINE[0]).sum(axis=1) == pytest.approx(1)


def test_one_output_for_two_classes():
    X, y = CANCER[0], np.array(["benign", "malignant"])[CANCER[1]]
    model = classifier(loss="binary_cross_entropy_with_logits").fit(X, y)
    assert model.module_[2].out_features == 1
    assert model.predict_proba(X).shape == (len(X), 2)
    z = model.trainer_.predict(X * 100)[:, 0]
    both = special.expit(np.stack([-z, z], axis=1).astype(np.float64))
    np.testing.assert_allclose(model.predict_proba(X * 100), both, rtol=1e-5, atol=1e-44)
    assert list(model.predict(X)) == list(model.classes_[model.predict_proba(X).argmax(axis=1)])
    assert model.score(X, y) > 0.97
    with pytest.raises(
        ValueError, match=r"^Only binary classification is supported with the loss 'binary_cross_entropy"
    ):
        model.fit(*WINE)


def test_rows_may_have_several_axes():
    X, y = load_digits(return_X_y=True)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    model = NetworkClassifier(module, lr=0.01, epochs=10).fit(X.reshape(-1, 8, 8) / 16, y)
    assert model.score(X.reshape(-1, 8, 8) / 16, y) > 0.95


def test_the_module_given_stays_as_it_was():
    module = network(13, 3)
    before = [value.numpy().copy() for value in module.state_dict().values()]
    first, second = (NetworkClassifier(module, epochs=3, random_state=1).fit(*WINE) for _ in range(2))
    for value, kept in zip(module.state_dict().values(), before, strict=True):
        np.testing.assert_array_equal(value.numpy(), kept)
    assert_equal(first, second)


def test_random_state_is_of_weights_and_orders():
    assert_equal(classifier().fit(*WINE), classifier().fit(*WINE))
    assert (weights(classifier().fit(*WINE))[0] != weights(classifier(random_state=1).fit(*WINE))[0]).any()


def test_a_pickle_predicts_and_holds_no_rows():
    X, y = np.tile(WINE[0], (50, 1)), np.tile(NAMES, 50)
    model = classifier(epochs=2, early_stopping="val_loss").fit(X, y)
    text = pickle.dumps(model)
    assert len(text) < X.nbytes / 10
    again = pickle.loads(text)
    np.testing.assert_array_equal(again.predict_proba(WINE[0]), model.predict_proba(WINE[0]))


def test_partial_fit_goes_on_after_a_pickle():
    model = classifier(early_stopping=None).fit(*WINE)
    again = pickle.loads(pickle.dumps(model))
    assert_equal(again.partial_fit(*WINE), model.partial_fit(*WINE))


def test_partial_fit_needs_the_classes_once():
    model = classifier()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(WINE[0][:50], NAMES[:50])
    model.partial_fit(WINE[0][:50], NAMES[:50], classes=np.unique(NAMES))
    for _ in range(40):
        model.partial_fit(WINE[0], NAMES)
    assert model.score(WINE[0], NAMES) > 0.97
    with pytest.raises(ValueError, match="y has labels that are not among the classes"):
        model.partial_fit(WINE[0][:1], ["blue"])


def test_a_warm_start_goes_on():
    cold, warm = classifier(epochs=5), classifier(epochs=5, warm_start=True)
    assert_equal(cold.fit(*WINE), warm.fit(*WINE))
    assert warm.fit(*WINE).history_["loss"][0] < cold.fit(*WINE).history_["loss"][0]


def test_early_stopping_keeps_the_best_epoch():
    model = classifier(
        lr=0.05, epochs=300, metrics=["accuracy"], early_stopping="val_accuracy", n_iter_no_change=5
    ).fit(*WINE)
    seen = model.history_["val_accuracy"]
    assert model.n_iter_ == len(seen) < 300
    assert seen[model.best_epoch_ - 1] == max(seen)
    assert model.best_epoch_ == 1 + int(np.argmax(seen))
    shorter = classifier(lr=0.05, epochs=model.best_epoch_, metrics=["accuracy"], early_stopping="val_accuracy")
    assert_equal(shorter.fit(*WINE), model)


def test_an_unknown_value_to_stop_by_is_named():
    with pytest.raises(SettingError, match=r"EarlyStopping: this training measures no 'val_mae'"):
        classifier(early_stopping="val_mae").fit(*WINE)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        classifier(early_stopping=True).partial_fit(*WINE, classes=[0, 1, 2])


def test_weights_of_rows_and_classes():
    X, y = WINE[0][30:], NAMES[30:]
    shares = {"red": 1.0, "rosé": 3.0, "white": 0.5}
    by_class = classifier(class_weight=shares).fit(X, y)
    by_row = classifier().fit(X, y, sample_weight=np.vectorize(shares.get)(y))
    for a, b in zip(weights(by_class), weights(by_row), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"class_weight names \['green'\]"):
        classifier(class_weight={"green": 2}).fit(X, y)


@pytest.mark.parametrize("given", ["auto", [1, 2, 3]])
@pytest.mark.parametrize("make", [classifier, TabularClassifier])
def test_weights_of_classes_of_another_form_are_refused(make, given):
    text = f"{type(make()).__name__}: class_weight must be 'balanced', a dict with a factor for each class, or None, got {given!r}."
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        make(class_weight=given).fit(*WINE)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy_with_logits"])
def test_logarithms_of_probabilities_are_finite_where_probabilities_are_0(loss):
    X, y = CANCER
    model = NetworkClassifier(nn.Linear, loss=loss, epochs=5, random_state=0).fit(X, y)
    for rows in (X, X * 1e4):
        z = model.trainer_.predict(rows).astype(np.float64)
        z = z if z.shape[1] == 2 else np.concatenate([0 * z, z], axis=1)
        np.testing.assert_allclose(model.predict_log_proba(rows), special.log_softmax(z, axis=1), rtol=1e-5, atol=1e-37)
    assert (model.predict_proba(X * 1e4) == 0).any()


def test_logarithms_of_other_outputs_and_of_several_networks():
    X, y = WINE
    model = NetworkClassifier(lambda n, k: nn.Sequential(nn.Linear(n, k), nn.LogSoftmax(1)), loss="nll_loss", epochs=3)
    model.fit(X, y)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(model.predict_proba(X)), rtol=1e-6)
    several = TabularClassifier(epochs=2, hidden=8, n_cv=3, random_state=0).fit(X, y)
    np.testing.assert_allclose(several.predict_log_proba(X), np.log(several.predict_proba(X)), atol=1e-6)
    assert several.predict_log_proba(X).dtype == several.predict_proba(X).dtype == np.float32


def test_a_classifier_says_before_it_trains_that_it_could_not_tell_classes():
    def own(output, target):
        return (output.softmax(1).gather(1, target.reshape(-1, 1)) - 1).square().mean()

    text = (
        "NetworkClassifier: to give classes it must know what the outputs mean, and the loss own does not say. Pass "
        "output='logits', or another of: logits, probabilities, log_probabilities, binary_logits, binary_probabilities, scores."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        classifier(loss=own).fit(*WINE)
    assert classifier(loss=own, output="logits").fit(*WINE).score(*WINE) > 0.9
    text = (
        "NetworkClassifier: under mse_loss the outputs are values and no classes. Take a loss for classes, such as "
        "'cross_entropy', or NetworkRegressor."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        classifier(loss="mse").fit(*WINE)


def test_sparse_rows_are_refused_with_a_way_for_pipelines():
    sparse = pytest.importorskip("scipy.sparse")
    rows = sparse.csr_array(WINE[0])
    way = (
        "Write it out by X.toarray(); in a pipeline let what makes it do so: OneHotEncoder(sparse_output=False), "
        "ColumnTransformer(..., sparse_threshold=0). (MLPClassifier and MLPRegressor take sparse arrays.)"
    )
    text = "X must be a dense array, got a sparse one, csr_array of shape (178, 13)."
    for model in (classifier(epochs=1), regressor(epochs=1)):
        for call in (lambda m: m.fit(rows, WINE[1]), lambda m: m.fit(*WINE).predict(rows)):
            with pytest.raises(TypeError, match=f"^{re.escape(f'{type(model).__name__}: {text} {way}')}$"):
                call(model)
    frame = "A data frame with its categories goes in as it is, without an encoder."
    with pytest.raises(TypeError, match=f"^{re.escape(f'TabularRegressor: {text} {frame} {way}')}$"):
        TabularRegressor().fit(rows, WINE[1])


@pytest.mark.parametrize("share", [0, 2, 1.0, "a"])
def test_a_share_to_hold_out_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=f"^validation_fraction must be above 0 and below 1, got {share!r}\\.$"):
        classifier(early_stopping=True, validation_fraction=share).fit(*WINE)


def test_rows_are_held_out_where_classes_have_too_few():
    X, y = WINE[0][:8], np.array([0, 1, 0, 1, 0, 1, 0, 2])
    model = classifier(epochs=2, early_stopping=True).fit(X, y)
    assert model.predict_proba(X).shape == (8, 3)
    assert model.best_epoch_ in (1, 2)


def test_one_callback_needs_no_list():
    seen = []
    classifier(epochs=2, callbacks=lambda trainer, epoch, measured: seen.append(epoch)).fit(*WINE)
    TabularClassifier(epochs=2, hidden=8, callbacks=lambda trainer, epoch, measured: seen.append(epoch)).fit(*WINE)
    assert seen == [1, 2, 1, 2]


@pytest.mark.parametrize("optimizer", ["sgd", optim.RMSprop, partial(optim.SGD, momentum=0.9, nesterov=True)])
def test_optimizers_by_name_class_and_function(optimizer):
    assert classifier(optimizer=optimizer, epochs=60).fit(*WINE).score(*WINE) > 0.9


def test_an_optimizer_of_other_parameters_is_refused():
    with pytest.raises(
        SettingError, match=r"^NetworkClassifier: optimizer must be a name, a class or a function of parameters"
    ):
        classifier(optimizer=optim.Adam([cr.zeros(1, requires_grad=True)])).fit(*WINE)


def test_a_loss_of_ones_own_and_several_targets():
    def quantile(output, target):
        error = target - output
        return cr.maximum(0.9 * error, -0.1 * error).mean()

    X, y = DIABETES
    y = np.stack([y, y], axis=1) / 100
    model = regressor(loss=quantile, epochs=150).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert 0.8 < (y < model.predict(X)).mean() < 0.97
    one = regressor(loss=quantile, epochs=5).fit(X, y[:, 0])
    assert one.predict(X).shape == (len(X),)


def test_pipelines_searches_and_processes():
    X, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), classifier())
    search = GridSearchCV(pipeline, {"networkclassifier__lr": [1e-5, 1e-2]}, cv=3).fit(X, y)
    assert search.best_params_ == {"networkclassifier__lr": 1e-2}
    np.testing.assert_array_equal(
        cross_val_score(pipeline, X, y, cv=3, n_jobs=2), cross_val_score(pipeline, X, y, cv=3)
    )


def test_probabilities_are_of_use():
    model = classifier(epochs=60).fit(*WINE)
    assert log_loss(WINE[1], model.predict_proba(WINE[0])) < 0.1


def test_what_is_no_module_is_refused():
    text = (
        "NetworkRegressor: module must be an nn.Module, or a function (inputs, outputs) that makes one, got int. "
        "Pass nn.Sequential(...), or lambda n, k: nn.Sequential(...)."
    )
    with pytest.raises(SettingError, match=f"^{re.escape(text)}$"):
        NetworkRegressor(lambda n, k: 3).fit(*DIABETES)


class Halved(nn.Module):
    """A layer in bfloat16 before one in float32."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(13, 16, dtype=cr.bfloat16), nn.Linear(16, 3)

    def forward(self, x):
        return self.last(self.first(x.bfloat16()).relu().to(self.last.weight))


@pytest.mark.parametrize("dtype", ["float32", cr.float64])
def test_a_layer_in_bfloat16_stays_so(dtype):
    model = NetworkClassifier(Halved(), lr=0.01, epochs=20, random_state=0, dtype=dtype).fit(*WINE)
    assert model.module_.first.weight.dtype is cr.bfloat16
    assert model.module_.last.weight.dtype is cr.as_dtype(dtype)
    assert model.score(*WINE) > 0.95
    assert pickle.loads(pickle.dumps(model)).module_.first.bias.dtype is cr.bfloat16


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (cr.bfloat16, "dtype must be float32 or float64, got bfloat16. Layers of the module may be"),
        ("int64", "dtype must be float32 or float64, got int64."),
        ("float16", "dtype must be float32 or float64, got 'float16'."),
        (np.int16, "dtype must be float32 or float64, got <class 'numpy.int16'>."),
        (None, "dtype must be float32 or float64, got None."),
    ],
)
def test_a_dtype_that_nothing_is_computed_in_is_refused(make, dtype, text):
    with pytest.raises(DtypeError, match=f"{type(make()).__name__}: {re.escape(text)}"):
        make(dtype=dtype).fit(*WINE)


def test_a_short_last_batch_can_be_left_out():
    X, y = WINE  # 178 rows
    kept, dropped = (
        classifier(epochs=3, batch_size=50).fit(X, y),
        classifier(epochs=3, batch_size=50, drop_last=True).fit(X, y),
    )
    assert (kept.history_.steps, dropped.history_.steps) == (12, 9)
    assert clone(dropped).drop_last is True


def test_partial_fit_with_other_classes_is_refused():
    X, y = WINE
    model = classifier().partial_fit(X, y, classes=[0, 1, 2])
    for same in (None, [2, 1, 0, 0], np.array([0.0, 1.0, 2.0])):
        model.partial_fit(X, y, classes=same)
    said = "`classes=[0, 1, 3]` is not the same as on last call to partial_fit, was: array([0, 1, 2])"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        model.partial_fit(X, y, classes=[0, 1, 3])


def test_a_function_of_the_script_goes_to_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        """
import chainrule as cr
from chainrule import nn
from chainrule.sklearn import NetworkClassifier
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score

def net(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, cr.tensor(4).item()), nn.Linear(4, outputs))

if __name__ == "__main__":
    X, y = load_wine(return_X_y=True)
    model = NetworkClassifier(net, epochs=2, random_state=0)
    model.fit(X, y)
    here, there = (cross_val_score(model, X, y, cv=2, n_jobs=jobs, error_score="raise") for jobs in (1, 2))
    print((here == there).all())
"""
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, env=environment)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_a_module_of_more_outputs_than_classes_is_refused(loss):
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    wide = nn.Sequential(nn.Linear(4, 5), nn.LogSoftmax(1))
    model = NetworkClassifier(wide, loss=loss, epochs=1, random_state=0)
    with pytest.raises(
        ValueError, match="must give an output for each of the 3 classes in y, got 5, so that classes that do not exist"
    ):
        model.fit(X, y)
    assert not hasattr(model, "module_")
    model.partial_fit(X, y, classes=range(5))
    assert model.predict_proba(X).shape == (60, 5)


def test_a_recorded_fit_explains_its_steps_also_among_shared_programs():
    plain = classifier(epochs=2).fit(*WINE)
    with shared_programs():
        found = [clone(classifier(epochs=2, record=True, random_state=seed)).fit(*WINE) for seed in (0, 1)]
    assert_equal(found[0], plain)
    for model in found:
        said = model.trainer_.explain("0.weight[0, 1]", step=1)
        assert said.gradient == model.trainer_.run.at(1).gradients["0.weight"][0, 1]
    with pytest.raises(ReplayError, match="kept no record"):
        plain.trainer_.explain("0.weight[0, 1]", step=1)


def test_a_fit_that_fails_before_it_trains_leaves_the_model_as_it_was():
    model = classifier(epochs=3).fit(*WINE)
    before = model.predict_proba(WINE[0])
    with pytest.raises(SettingError, match="lr must be a number"):
        model.set_params(lr="fast").fit(*WINE)
    assert model.trainer_.model is model.module_
    for found in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(found.predict_proba(WINE[0]), before)


def interrupt(trainer, epoch, measured):
    if epoch == 2:
        raise KeyboardInterrupt


@pytest.mark.parametrize("make", [classifier, regressor, TabularClassifier, TabularRegressor])
def test_a_fit_that_the_user_interrupts_says_so(make):
    model = make(epochs=5, callbacks=[interrupt])
    text = f"{type(model).__name__}: training interrupted by user after 2 epochs. The model has the weights of then."
    with pytest.warns(UserWarning, match=f"^{re.escape(text)}$"):
        model.fit(*WINE)
    assert model.predict(WINE[0]).shape == (178,)
