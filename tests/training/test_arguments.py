"""Arguments of a training and of its record that are not what they should be, and some that are and look odd."""

import warnings

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import DtypeError, IndexRangeError, SettingError
from chainrule.training import Callback, Trainer, resuming
from chainrule.training.checkpoints import load_file, save_file

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 5)).astype(np.float32)
y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


def net():
    cr.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def make(model=None, optimizer=None):
    model = model or net()
    return Trainer(model, F.cross_entropy, optimizer or optim.SGD(model.parameters(), lr=0.1))


def fit(trainer, epochs=2, data=(X, y), **options):
    return trainer.fit(*data, epochs, 20, progress=False, **options)


# -- the optimizer ------------------------------------------------------------------------------------------


def test_an_optimizer_of_another_model_is_refused():
    with pytest.raises(SettingError) as error:
        make(net(), optim.SGD(nn.Linear(5, 4).parameters(), lr=0.1))
    assert str(error.value) == (
        "Trainer: the optimizer holds 2 tensors of shape (4, 5), (4,), and none of the parameters of the model or the "
        "loss, so it would train nothing of them. Make it of model.parameters(); where other tensors are to be trained, "
        "freeze the model first (model.requires_grad_(False))."
    )


def test_a_layer_exchanged_after_the_optimizer_was_made_is_warned_of():
    model = net()
    trainer = make(model)
    model[2] = nn.Linear(4, 3)
    with pytest.warns(UserWarning, match="does not hold") as found:
        fit(trainer)
    assert str(found[0].message) == (
        "fit: the optimizer does not hold '2.weight', '2.bias', and holds 2 tensors of shape (3, 4), (3,) of neither "
        "model nor loss: was a layer exchanged after the optimizer was made? Make the optimizer of model.parameters() "
        "anew, or freeze what is not to be trained (requires_grad_(False))."
    )
    assert found[0].filename == __file__


def test_an_optimizer_of_some_parameters_or_of_tensors_that_forward_reaches_is_none_to_warn_of():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.scale = nn.Linear(5, 3), cr.ones(3, requires_grad=True)

        def forward(self, x):
            return self.inner(x) * self.scale

    model, some = Scaled(), net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make(some, optim.SGD(some[2].parameters(), lr=0.1)))
        fit(make(model, optim.SGD([model.scale], lr=0.1)))
    assert model.scale.tolist() != [1, 1, 1]


# -- fit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [(X + 1, y), (X, 2 - y), (X[::-1], y[::-1])])
def test_resume_with_other_rows_is_refused(data):
    trainer = make()
    fit(trainer)
    with pytest.raises(SettingError, match="the rows must be those of the earlier fit, got others of the same number"):
        fit(trainer, 3, data, resume=True)
    assert fit(trainer, 3, (X.astype(np.float64), y.tolist()), resume=True).epochs == 3


def test_rows_changed_in_place_are_other_rows():
    own, labels = X.copy(), y.copy()
    trainer = make()
    fit(trainer, data=(own, labels))
    own[:] = 0
    with pytest.raises(SettingError, match="the rows must be those of the earlier fit"):
        fit(trainer, 3, (own, labels), resume=True)
    own[:] = X
    assert fit(trainer, 3, (own, labels), resume=True).epochs == 3


def test_a_file_says_on_which_rows_it_was_trained(tmp_path):
    trainer, other = make(), make()
    fit(trainer)
    trainer.save(tmp_path / "t")
    other.load(tmp_path / "t")
    other.save(tmp_path / "again")  # and so does a copy of it
    for name in ("t", "again"):
        other.load(tmp_path / name)
        with pytest.raises(SettingError, match="the rows must be those of the earlier fit, got others of the same num"):
            fit(other, 3, (-X, 2 - y), resume=True)
        assert fit(other, 3, resume=True).epochs == 3
    tensors, meta = load_file(tmp_path / "t")
    del meta["rows"]  # as older versions wrote it
    save_file(tensors, tmp_path / "old", meta)
    other.load(tmp_path / "old")
    assert fit(other, 3, (-X, 2 - y), resume=True).epochs == 3


def test_the_rows_of_another_training_do_not_count_after_load(tmp_path):
    trainer, other = make(), make()
    fit(trainer)
    trainer.save(tmp_path / "t")
    fit(other, data=(X + 1, y))
    other.load(tmp_path / "t")
    assert fit(other, 3, resume=True).epochs == 3


class Counts(Callback):
    def __init__(self):
        self.epochs = []

    def on_epoch_end(self, trainer, epoch, measured):
        self.epochs.append(epoch)


def test_one_callback_need_not_be_in_a_list():
    seen, counts = [], Counts()
    fit(make(), callbacks=lambda trainer, epoch, measured: seen.append(epoch))
    fit(make(), callbacks=counts)
    assert seen == counts.epochs == [1, 2]
    with pytest.raises(SettingError, match="callbacks must be a Callback, a function .* or a list of them, got 3"):
        fit(make(), callbacks=3)


def test_stop_may_be_called_or_set():
    def by_call(trainer, epoch, measured):
        trainer.stop()

    def by_value(trainer, epoch, measured):
        trainer.stop = True

    assert [fit(make(), 5, callbacks=f).epochs for f in (by_call, by_value)] == [1, 1]
    with pytest.raises(SettingError, match="stop must be True or False, got 'now'"):
        make().stop = "now"


def test_record_is_a_flag_or_a_folder():
    with pytest.raises(SettingError, match="fit: record must be True, False or the path of a folder, got 1"):
        fit(make(), record=1)


def test_a_compiled_module_is_trained_and_looked_at_as_any_other():
    trainer, plain = make(cr.compile(net())), make()
    for each in (trainer, plain):
        fit(each, record=True)
    assert trainer.model.verify(X, y)
    assert trainer.run.at(2).proved
    assert trainer.predict(X).tobytes() == plain.predict(X).tobytes()


# -- the run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    trainer = make()
    fit(trainer, record=True)
    return trainer.run


def test_a_run_is_a_sequence_of_moments(run):
    assert run[3].step == run.at(3).step == 3
    assert run[-1].step == 5
    assert [moment.step for moment in run] == list(range(len(run)))


def test_first_takes_a_function(run):
    with pytest.raises(
        SettingError, match=r"first: predicate must be a function of a moment, got 3\. .*run\.at\(step\)"
    ):
        run.first(3)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"labels": [1, 2]}, SettingError, "what_if: labels must be a dict .*, got list"),
        ({"weights": [0.5]}, SettingError, "what_if: weights must be a dict .*, got list"),
        ({"weights": {3: 0.5}}, SettingError, "what_if: an address is"),
        ({"weights": {"0.weight[0, 99]": 0.5}}, IndexRangeError, "what_if: 0.weight has the shape"),
        ({"inputs": {7: 0.0}}, SettingError, r"what_if: inputs are named by tuples .*, got 7\."),
        ({"inputs": {(7, 99): 1.0}}, IndexRangeError, "what_if: X has the shape"),
        ({"labels": {"a": 1}}, SettingError, "what_if: labels are named by the numbers of their rows, got 'a'"),
        ({"follow": 3}, SettingError, "what_if: follow must be addresses"),
    ],
)
def test_what_if_says_what_it_takes(run, change, kind, text):
    with pytest.raises(kind, match=text):
        run.what_if(3, **change)


# -- files ----------------------------------------------------------------------------------------------------


def test_save_file_takes_names_and_tensors(tmp_path):
    model = net()
    state = optim.Adam(model.parameters()).state_dict()
    with pytest.raises(DtypeError, match=r"got dict under 'state'\. .*trainer\.save\(path\)"):
        save_file(state, tmp_path / "t")
    with pytest.raises(DtypeError, match=r"a dict from names to tensors, got Sequential\. Pass its state_dict\(\)\."):
        save_file(model, tmp_path / "t")
    save_file(model.state_dict(), tmp_path / "t")
    assert list(load_file(tmp_path / "t")[0]) == sorted(model.state_dict())


def test_a_name_of_large_rows_reads_evenly_spaced_ones_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "READ", 400)
    x, y = np.arange(1000, dtype="f4").reshape(250, 4), np.zeros(250, "f4")
    trainer = cr.Trainer(nn.Linear(4, 1), "mse", "sgd")
    trainer.fit(x, y[:, None], 1, 50, progress=False)
    before = trainer.session.contents
    assert before == resuming.contents(trainer.session.rows)
    x /= 2
    assert before != resuming.contents(trainer.session.rows)
