"""Time travel: any step comes back to the bit, and says so; what cannot come back says why."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from tests.explain.trainings import X, bits, fit, trainer, weights, y

import chainrule as cr
from chainrule.errors import DamagedFileError, DataError, ReplayError, SettingError, StateDictError
from chainrule.training import record as recording


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


@pytest.fixture(scope="module")
def run():
    return fit(trainer(dropout=0.3))


def written_out(steps, dropout=0.3):
    """The same training, one compiled step at a time, by hand: weights before each step, and its loss and gradients."""
    by_hand = trainer(dropout=dropout)
    model, optimizer = by_hand.model, by_hand.optimizer
    cr.manual_seed(0)  # as fit does
    for epoch in range(4):
        order = cr.data.batches.shuffled_indices(len(X), 0, epoch)
        for start in range(0, len(X), 16):
            rows = order[start : start + 16]
            before = {name: p.detach().numpy() for name, p in model.named_parameters()}
            optimizer.zero_grad()
            loss = cr.nn.functional.cross_entropy(model(cr.tensor(X[rows])), cr.tensor(y[rows]))
            loss.backward()
            yield rows, before, loss.item(), {name: p.grad.numpy() for name, p in model.named_parameters()}
            optimizer.step()


def test_recording_changes_no_bit_of_the_training(run):
    plain = trainer(dropout=0.3)
    fit(plain, record=False)
    assert bits(weights(plain)) == bits(weights(run.trainer))


def test_each_step_is_what_eager_training_does_there(run):
    for step, (rows, before, loss, gradients) in enumerate(written_out(run)):
        moment = run.at(step)
        assert (moment.step, moment.epoch, moment.proved) == (step, step // 5, True)
        np.testing.assert_array_equal(moment.rows, rows)
        np.testing.assert_array_equal(moment.x, X[rows])
        np.testing.assert_array_equal(moment.y, y[rows])
        assert moment.loss == pytest.approx(loss, rel=1e-4)
        for name, array in before.items():
            np.testing.assert_allclose(moment.weights[name], array, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(moment.gradients[name], gradients[name], rtol=1e-2, atol=1e-4)


def test_what_one_step_leaves_is_what_the_next_begins_with(run):
    for step in (0, 4, 5, 17):
        now, then = run.at(step), run.at(step + 1)
        assert bits(now.after) == bits(then.weights)
        for name, slots in now.optimizer_after.items():
            assert bits(slots) == bits(then.optimizer[name])


def test_the_end_of_the_run_is_the_trained_model(run):
    last = run.at(len(run))
    assert bits(last.weights) == bits(weights(run.trainer)) == bits(run.weights(len(run)))
    assert not last.proved  # nothing was recorded there
    assert run.at(-1).step == len(run) - 1 == 19


def test_looking_back_leaves_the_trainer_as_it_was(run):
    before = bits(weights(run.trainer)), cr.default_generator.get_state().numpy().tobytes()
    position, lr = run.trainer.position.done, run.trainer.optimizer.param_groups[0]["lr"]
    start = run.trainer.session.start
    run.at(7)
    assert start is not None
    assert run.trainer.session.start is start  # what a diagnosis repeats the training from
    assert (bits(weights(run.trainer)), cr.default_generator.get_state().numpy().tobytes()) == before
    assert (run.trainer.position.done, run.trainer.optimizer.param_groups[0]["lr"]) == (position, lr)


def test_layers_have_activations_and_their_gradients():
    run = fit(trainer())
    moment = run.at(3)
    assert list(moment.layers) == ["0", "1", "2"]
    hidden = np.maximum(moment.x @ moment.weights["0.weight"].T + moment.weights["0.bias"], 0)
    np.testing.assert_allclose(moment.activations["1"], hidden, rtol=1e-5, atol=1e-6)
    dY = moment.activation_gradients["2"]
    np.testing.assert_allclose(dY.sum(0), moment.gradients["2.bias"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(moment.activation_gradients["1"], dY @ moment.weights["2.weight"], rtol=1e-4, atol=1e-7)


def test_a_schedule_and_a_callback_that_changes_weights_replay():
    def meddle(trainer, epoch, measured):
        trainer.optimizer.param_groups[0]["lr"] *= 0.5
        if epoch == 2:
            with cr.no_grad():
                trainer.model[0].weight.mul_(0.9)

    run = fit(trainer(), callbacks=[meddle])
    assert [run.at(step).groups[0]["lr"] for step in (0, 5, 10)] == [0.01, 0.005, 0.0025]
    np.testing.assert_allclose(run.at(10).weights["0.weight"], 0.9 * run.at(9).after["0.weight"], rtol=1e-6)
    assert all(run.at(step).proved for step in range(len(run)))


def test_a_run_on_disk_continues_and_is_read_back(tmp_path):
    folder = tmp_path / "run"
    first = trainer(dropout=0.3)
    fit(first, epochs=2, record=folder)
    first.save(tmp_path / "half")
    again = trainer(dropout=0.3)
    again.load(tmp_path / "half")
    fit(again, epochs=4, record=folder, resume=True)
    whole = fit(trainer(dropout=0.3))
    loaded = cr.load_run(folder, trainer(dropout=0.3), X, y)
    assert len(loaded) == len(whole) == 20
    assert loaded.losses.tobytes() == whole.losses.tobytes()
    for step in (0, 11, 19):
        assert bits(loaded.at(step).after) == bits(whole.at(step).after)


def test_a_run_that_was_resumed_into_a_new_folder_starts_there(tmp_path):
    first = trainer()
    fit(first, epochs=2, record=False)
    run = fit(first, epochs=3, resume=True, record=tmp_path)
    assert (run.first_step, len(run)) == (10, 5)
    assert run.at(12).proved
    with raises(
        ReplayError,
        f"{tmp_path}: the record has the steps 10 to 14 (and 15, which would follow), got 9. "
        f"Name one of them; negative ones count from the end.",
    ):
        run.at(9)


# -- what can go wrong --------------------------------------------------------------------------------


def test_without_a_record():
    plain = trainer()
    fit(plain, record=False)
    with raises(
        ReplayError,
        "Trainer.run: the latest fit kept no record. Train with fit(..., record=True), or name a folder to keep it in: "
        "fit(..., record='runs/mine').",
    ):
        plain.run  # noqa: B018


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "SHARE", 0.0)  # one checkpoint, at the start, however slow the machine is
    fit(trainer(), record=tmp_path / "run")
    return tmp_path / "run"


def load(folder, made=None):
    return cr.load_run(folder, made or trainer(), X, y)


def test_a_folder_without_a_record(tmp_path):
    with raises(
        DamagedFileError,
        f"{tmp_path}: this folder holds no record of a training. Name a run folder that `chainrule train` or "
        f"fit(..., record=folder) wrote.",
    ):
        load(tmp_path)


def test_a_record_of_another_version(folder):
    path = folder / "record" / "record.json"
    header = {**json.loads(path.read_text()), "format": "chainrule.record/0", "chainrule": "0.0.9"}
    path.write_text(json.dumps(header))
    with raises(
        DamagedFileError,
        f"{path}: the record has the format 'chainrule.record/0', written by chainrule 0.0.9; this version reads "
        f"'chainrule.record/3'. Read it with the version that wrote it, or train again.",
    ):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_damaged_header(folder, text):
    (folder / "record" / "record.json").write_text(text)
    with pytest.raises(DamagedFileError, match="Copy the run again, or train again|or train again"):
        load(folder)


def test_a_damaged_checkpoint_costs_only_itself(folder, monkeypatch):
    monkeypatch.setattr(recording, "EVERY", -1e9)
    monkeypatch.setattr(recording, "SHARE", 1e9)  # a checkpoint after every native call
    other = folder.parent / "other"
    whole = fit(trainer(), record=other)
    expected = bits(whole.at(19).after)
    there = whole.record.checkpoints()
    assert len(there) > 3
    for step in there[1:]:
        path = whole.record.checkpoint(step)
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
    run = load(other)
    assert bits(run.at(19).after) == expected
    assert sorted(run.replay.damaged) == [step for step in there if 0 < step <= 19]


def test_no_checkpoint_at_all(folder):
    for path in (folder / "record" / "checkpoints").iterdir():
        path.unlink()
    with raises(
        ReplayError,
        f"{folder}: no checkpoint at or before step 3 can be read. Copy the run folder again, or train again.",
    ):
        load(folder).at(3)


def test_a_log_that_ends_within_a_line_loses_that_line(folder):
    path = folder / "record" / "steps.bin"
    path.write_bytes(path.read_bytes()[:-5])
    assert len(load(folder)) == 19


def test_a_log_that_does_not_repeat(folder):
    path = folder / "record" / "steps.bin"
    data = bytearray(path.read_bytes())
    data[40 * 7 + 9] ^= 4
    path.write_bytes(data)
    run = load(folder)
    assert run.at(7 - 1).proved
    with raises(
        ReplayError,
        f"{folder}: step 7 does not replay to the recorded bits. The model, the loss or the optimizer is not built as it "
        f"was (chainrule {cr.__version__} recorded it), or the processor computes differently, or the record was changed. "
        f"Build everything as it was for the training.",
    ):
        run.at(10)


@pytest.mark.parametrize("changed", ["X", "y"])
def test_rows_changed_since_the_fit_are_named_as_the_cause(changed):
    given = {"X": X.copy(), "y": y.copy()}
    own = trainer()
    own.fit(**given, epochs=2, batch_size=16, progress=False, record=True)
    given[changed][:] = given[changed][::-1]
    text = (
        f"{own.run.folder}: step 0 does not replay to the recorded bits, because the rows are not those that were trained on "
        f"(their hash differs): X, y or weights were changed in place since fit. Put back what stood there, or call fit "
        f"again, on copies: fit(X.copy(), y.copy())."
    )
    for look in (lambda: own.run.at(0), own.report):
        with raises(ReplayError, text):
            look()
    given[changed][:] = given[changed][::-1].copy()
    assert own.run.at(0).proved and own.report()


def test_another_loss_does_not_replay(folder):
    made = trainer()
    other = cr.Trainer(made.model, lambda p, t: 2 * cr.nn.functional.cross_entropy(p, t), made.optimizer)
    with pytest.raises(SettingError, match="holds a training with the loss cross_entropy, this trainer has <lambda>"):
        load(folder, other).at(0)


def test_other_rows(folder):
    with raises(
        DataError,
        f"load_run: these are not the rows that {folder} was trained on (their hash differs). Pass X and y (and "
        f"their weights) as they were given to fit, without the rows that were held out.",
    ):
        cr.load_run(folder, trainer(), X + 1, y)


def test_a_run_that_cannot_be_rebuilt_from_its_folder(folder):
    with raises(
        ReplayError,
        f"load_run: {folder} was not made by `chainrule train`, so its model cannot be rebuilt from it. Pass the trainer "
        f"as it was built, and the data: load_run(folder, trainer, X, y).",
    ):
        cr.load_run(folder)


def test_a_folder_that_holds_a_record_is_not_overwritten(folder):
    with raises(
        SettingError,
        f"fit: record='{folder}' holds the record of another training already. Name a new folder, or go on with that "
        f"training with resume=True.",
    ):
        fit(trainer(), record=folder)


def test_too_many_checkpoints_are_thinned_out(monkeypatch):
    monkeypatch.setattr(recording, "EVERY", -1e9)
    monkeypatch.setattr(recording, "SHARE", 1e9)
    monkeypatch.setattr(recording, "MOST", 4)
    run = fit(trainer(), epochs=8)
    there = run.record.checkpoints()
    assert len(there) <= 4 and there[0] == 0
    assert run.at(len(run) - 1).proved


def test_damaged_settings(folder):
    path = folder / "record" / "settings.jsonl"
    path.write_text('{"step": 0}\n')
    with raises(DamagedFileError, f"{path}: line 1: groups is missing. Copy the run again, or train again."):
        load(folder)


def test_a_model_of_another_shape(folder):
    with pytest.raises(StateDictError, match="0.weight"):
        load(folder, trainer((5, 9, 2))).at(0)


def test_what_is_no_step(folder):
    run = load(folder)
    for step in (21, -21, 1.5, True, "2"):
        with raises(
            ReplayError,
            f"{folder}: the record has the steps 0 to 19 (and 20, which would follow), got {step!r}. "
            f"Name one of them; negative ones count from the end.",
        ):
            run.at(step)


# -- what recording costs ------------------------------------------------------------------------------


def test_off_it_leaves_nothing_in_the_program():
    """Without a record the step's program has not a kernel more: it is the one of the same step written by hand."""
    plain = trainer()
    fit(plain, record=False, batch_size=14)
    assert set(plain.session.programs) == {"training"}
    program = plain.session.programs["training"]._step._latest.program
    assert "bitcast" not in program.show("graph")
    recorded = trainer()
    fit(recorded, batch_size=14)
    more = recorded.session.programs["recorded"]._step._latest.program
    assert "bitcast" in more.show("graph")
    # One for each vector; of a matrix one for its rows and one for their sum.
    assert len(more.plan.kernels) == len(program.plan.kernels) + sum(p.ndim for p in plain.model.parameters())


def test_any_number_of_threads_replays(folder):
    run, before = load(folder), cr.get_num_threads()
    try:
        for threads in (1, 3):
            cr.set_num_threads(threads)
            assert run.at(12).proved and run.at(3).proved
    finally:
        cr.set_num_threads(before)
