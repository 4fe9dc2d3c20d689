"""Loops of all kinds, found again: in how many programs they run, and that nothing but their time changes."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import DataError, GradientError, IndexRangeError, ShapeError
from chainrule.nn import functional as F
from chainrule.nn.functional.reduction import weighing_rows
from chainrule.tape import budget, own_tape, tape
from chainrule.tape.doors import as_one

from .loops import differences


def test_random_loops_show_the_same_bits_wherever_one_asks(monkeypatch):
    monkeypatch.setattr(tape, "HOT", 10**9)
    assert differences(range(20)) == []


def test_random_loops_compiled_show_the_same_up_to_rounding():
    assert differences(range(100, 104), asks=(0.0,), rtol=3e-4, atol=3e-5) == []


def mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


X, Y = cr.ones(8, 4), cr.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def asks_first(model, optimizer):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(X), Y)
    loss.item()
    loss.backward()
    optimizer.step()


def asks_twice(model, optimizer):
    optimizer.zero_grad()
    output = model(X)
    loss = F.cross_entropy(output, Y)
    loss.item()
    (output.argmax(1) == Y).float().mean().item()
    loss.backward()
    optimizer.step()


def accumulates(model, optimizer):
    optimizer.zero_grad()
    for rows in (slice(4), slice(4, 8)):
        (F.cross_entropy(model(X[rows]), Y[rows]) / 2).backward()
    optimizer.step()


def fills_with_zeros(model, optimizer):
    optimizer.zero_grad(set_to_none=False)
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()


def by_hand(model, optimizer):
    F.cross_entropy(model(X), Y).backward()
    with cr.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    for p in model.parameters():
        p.grad = None


def of_probabilities(model, optimizer):
    optimizer.zero_grad()
    F.binary_cross_entropy(model(X)[:, 0].sigmoid(), cr.ones(len(X))).backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("step", "programs"),
    [(asks_first, 2), (asks_twice, 3), (accumulates, 1), (fills_with_zeros, 1), (by_hand, 1), (of_probabilities, 1)],
)
def test_a_step_is_so_many_programs_which_are_found_again_without_a_walk(step, programs, monkeypatch):
    model = mlp()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    with cr.eager(False):
        for _ in range(6):
            step(model, optimizer)
        known = own_tape().compiled
        before, runs = len(known), sum(each.hits for each in known)
        monkeypatch.setattr("chainrule.autodiff.walk.into_leaves", None)  # nobody walks along a history any more
        for _ in range(10):
            step(model, optimizer)
        assert (len(known), sum(each.hits for each in known) - runs) == (before, 10 * programs)


def test_a_loss_that_was_asked_for_meets_the_history_that_another_backward_pass_freed():
    w = cr.ones(3, requires_grad=True)
    with cr.eager(False):
        for turn in range(8):
            shared = (w * 2).exp()
            first, second = shared.sum(), (shared * shared).sum()
            first.item()
            if turn > 5:
                with cr.eager(True):
                    first.backward()
            w.grad = None
            if turn > 5:
                with pytest.raises(GradientError, match="was freed by an earlier backward pass"):
                    second.backward()
            else:
                second.backward()
                np.testing.assert_allclose(w.grad.numpy(), 4 * np.exp(4.0), rtol=1e-5)


def test_a_backward_pass_does_not_take_a_value_that_waits_for_another_of_its_type():
    a, b = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([3.0, 5.0], requires_grad=True)
    with cr.eager(False):
        for turn in range(8):
            x, y = a * a, b * b
            loss = (x * y).sum()
            loss.item()
            a.grad = b.grad = None
            with cr.no_grad():
                waits = (x if turn % 2 else y) * 2
            loss.backward()
            assert (a.grad.tolist(), b.grad.tolist()) == ([18, 100], [6, 40])
            assert waits.tolist() == ([2, 8] if turn % 2 else [18, 50])


def test_memory_of_which_somebody_holds_the_array_alone_is_not_written_over():
    parameters = [nn.Parameter(cr.ones(3)), nn.Parameter(cr.ones(2))]
    optimizer, held = optim.SGD(parameters, lr=1.0), []
    with cr.eager(False):
        for turn in range(10):
            optimizer.zero_grad()
            sum(p.sum() for p in parameters).backward()
            optimizer.step()
            if turn in (5, 8):
                held.append((-turn, parameters[turn // 8].detach().numpy()))
        assert [array.tolist() for _, array in held] == [[-5] * 3, [-8] * 2]
        assert [p.tolist() for p in parameters] == [[-9] * 3, [-9] * 2]


def test_zero_is_not_minus_zero():
    scaled = as_one(lambda x, factor: x * factor)
    with cr.eager(False):
        for factor in (0.0, -0.0, 0.0):
            assert str(scaled(cr.ones(1), factor).tolist()) == f"[{factor}]"


def test_a_row_of_layers_is_found_again_by_its_settings_and_what_is_in_it():
    x = cr.tensor([[-1.0, 2.0]])
    row = nn.Sequential(nn.Identity(), nn.LeakyReLU(0.5))
    with cr.eager(False):
        for slope in (0.5, 0.25, 0.0, -0.0):
            row[1].negative_slope = slope
            for _ in range(6):
                found = row(x + 0)
                assert str(found.tolist()) == str([[-1.0 * slope, 2.0]])
        row[1] = nn.ReLU()
        for _ in range(6):
            assert row(x + 0).tolist() == [[0.0, 2.0]]
        row[1].register_forward_hook(lambda module, args, output: output + 1)
        for _ in range(6):
            assert row(x + 0).tolist() == [[1.0, 3.0]]
        same = nn.Sequential(nn.Identity())
        for _ in range(6):
            y = x + 0
            assert same(y) is y
            assert y.tolist() == [[-1.0, 2.0]]


def test_a_row_notices_a_class_that_does_something_else(monkeypatch):
    row, x = mlp(), cr.ones(1, 4)
    with cr.eager(False):
        for _ in range(4):
            before = row(x).tolist()
        monkeypatch.setattr(nn.ReLU, "forward", lambda self, input: input * 0)
        assert row(x).tolist() == [row[2].bias.tolist()]
        monkeypatch.undo()
        assert row(x).tolist() == before


def test_what_an_optimizer_keeps_may_change_between_two_steps():
    """Settings that turn on, state that is another, a group that joins: each is seen by the next step."""

    def losses():
        cr.manual_seed(0)
        model, seen = mlp(), []
        extra = nn.Parameter(cr.ones(3))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for i in range(16):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X) * extra, Y)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
            if i == 5:
                optimizer.param_groups[0]["weight_decay"] = 0.1
            if i == 8:
                optimizer.state.clear()
            if i == 11:
                optimizer.add_param_group({"params": [extra], "lr": 0.05})
        return seen

    expected = losses()
    with cr.eager(False):
        assert losses() == pytest.approx(expected, rel=1e-5)


def test_numbers_among_an_optimizer_s_settings_are_read_anew_however_they_change():
    """Assigned, or in the middle of a list that stays the same object."""

    def weights():
        w = nn.Parameter(cr.ones(3))
        optimizer, seen = optim.Adam([w], lr=0.1), []
        group = optimizer.param_groups[0]
        group["betas"] = [0.9, 0.99]
        for i in range(14):
            optimizer.zero_grad()
            (w * w).sum().backward()
            optimizer.step()
            seen += w.tolist()
            if i == 6:
                group["lr"] = 0.05
            if i > 8:
                group["betas"][0] = 0.5 + i / 100
        return seen

    expected = weights()
    with cr.eager(False):
        assert weights() == pytest.approx(expected, rel=1e-5)


def test_what_a_row_and_an_optimizer_keep_may_change_between_two_steps():
    """Parameters that are others, frozen, shared or of another dtype, a gradient that is taken away, a row called twice."""

    def losses():
        cr.manual_seed(0)
        model, seen = mlp(), []
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        for i in range(40):
            optimizer.zero_grad()
            x = X.double() if i >= 34 else X
            loss = F.cross_entropy(model(x), Y)
            if 8 <= i < 12:
                loss = loss + F.cross_entropy(model(x * 0.5), Y)
            loss.backward()
            if i in (14, 15):
                model[0].bias.grad = None
            optimizer.step()
            seen.append(loss.item())
            if i in (4, 24):
                model[2].weight.requires_grad_(i > 4)
            if i == 17:
                model[0].weight.data = cr.full((6, 4), 0.3)
            if i == 20:
                model[2].bias = nn.Parameter(cr.zeros(3))
                optimizer.param_groups[0]["params"][3] = model[2].bias
            if i == 28:
                seen.append(model[0].weight.detach().numpy().copy())
            if i == 33:
                model.double()
                optimizer.state.clear()
        return seen

    expected = losses()
    with cr.eager(False):
        found = losses()
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_tied_parameters_enter_as_one():
    def losses():
        cr.manual_seed(0)
        first, last = nn.Linear(4, 4), nn.Linear(4, 4)
        last.weight = first.weight
        model, seen = nn.Sequential(first, nn.Tanh(), last), []
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
        for i in range(10):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X), Y)
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
            if i == 5:
                last.weight = nn.Parameter(first.weight.detach().clone())
        return seen

    expected = losses()
    with cr.eager(False):
        assert losses() == pytest.approx(expected, rel=1e-5)


def test_labels_are_looked_at_in_each_round():
    """Outside the classes they are refused at once; ignored ones count for nothing; they may change where they lie."""
    logits, memory = cr.tensor([[1.0, 2.0, 0.5], [0.0, 3.0, 1.0]]), np.array([1, 2])
    labels = cr.from_numpy(memory)
    row = -logits.log_softmax(1).numpy()
    with cr.eager(False):
        for _ in range(6):
            for given, expected in (
                ([1, 2], (row[0, 1] + row[1, 2]) / 2),
                ([0, -100], row[0, 0]),
                ([2, 0], (row[0, 2] + row[1, 0]) / 2),
            ):
                memory[:] = given
                assert F.cross_entropy(logits, labels).item() == pytest.approx(float(expected), rel=1e-6)
            for wrong in (3, -1):
                memory[:] = [0, wrong]
                with pytest.raises(
                    DataError, match=rf"cross_entropy \(.*\): label {wrong} at position 1 is not in \[0, 2\]"
                ):
                    F.cross_entropy(logits, labels)
            memory[:] = [1, 2]
            with pytest.raises(Exception, match="label_smoothing must be in"):
                F.cross_entropy(logits, labels, label_smoothing=2)
            assert F.cross_entropy(logits, labels, ignore_index=1).item() == pytest.approx(float(row[1, 2]), rel=1e-6)


def test_an_optimizer_that_becomes_another_kind_is_asked():
    class Still(optim.SGD):
        def _step_groups(self):
            pass

    w = nn.Parameter(cr.ones(2))
    optimizer = optim.SGD([w], lr=1.0)
    with cr.eager(False):
        for _ in range(5):
            w.grad = cr.ones(2)
            optimizer.step()
        optimizer.__class__ = Still
        optimizer.step()
        assert w.tolist() == [-4.0, -4.0]


def test_a_row_sees_parameters_of_another_shape_and_frozen_ones():
    row, x = nn.Sequential(nn.Linear(4, 3, bias=False)), cr.ones(1, 4)
    with cr.eager(False):
        for _ in range(3):
            for rows, frozen in ((3, False), (2, False), (2, True), (3, True)):
                row[0].weight.data = cr.full((rows, 4), float(rows))
                row.requires_grad_(not frozen)
                for _ in range(3):
                    found = row(x)
                    assert (found.shape, found.requires_grad) == ((1, rows), not frozen)
                    assert found.tolist() == [[4.0 * rows] * rows]


def test_a_history_that_was_not_written_out_is_so_where_somebody_walks_along_it():
    """A loss is asked for first; then something else than last time walks back from it."""

    def found(walk, twice=False):
        cr.manual_seed(0)
        model, seen = mlp(), []
        for i in range(12):
            for p in model.parameters():
                p.grad = None
            output = model(X)
            loss = F.cross_entropy(output, Y)
            loss.item()
            if i in (6, 9, 10):
                walk(model, output, loss)
            else:
                loss.backward()
            seen += [p.grad.tolist() for p in model.parameters() if p.grad is not None]
        return seen

    def keeps(model, output, loss):
        loss.backward(retain_graph=True)
        loss.backward()

    def asks(model, output, loss):
        for p, g in zip(model.parameters(), cr.autograd.grad(loss, list(model.parameters())), strict=True):
            p.grad = g

    def goes_on(model, output, loss):
        (loss * 2 + output.sum()).backward()

    def adds(model, output, loss):
        F.cross_entropy(model(X * 2), Y).backward()
        loss.backward()

    def of_the_output(model, output, loss):
        output.sum().backward()
        with pytest.raises(GradientError, match="was freed by an earlier backward pass"):
            loss.backward()

    for walk in (keeps, asks, goes_on, adds, of_the_output):
        expected = found(walk)
        with cr.eager(False):
            given = found(walk)
        assert len(given) == len(expected)
        for a, b in zip(given, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_kept_keeps_no_batch_once_its_history_was_freed():
    model, batches, losses = mlp(), [], []
    with cr.eager(False):
        for i in range(10):
            x = X * (i + 1)
            x.tolist()
            batches.append(weakref.ref(x._node))
            loss = F.cross_entropy(model(x), Y)
            loss.item()
            loss.backward()
            losses.append(loss)
            for p in model.parameters():
                p.grad = None
        del x, loss
        (cr.ones(2) + 1).tolist()
        with cr.no_grad():
            for p in model.parameters():
                p -= 1
    assert [batch() for batch in batches] == [None] * 10


def test_what_never_comes_by_again_is_computed_at_once_for_a_while(monkeypatch):
    monkeypatch.setattr(tape, "REST", 200)
    turns = [np.random.default_rng(i).permutation(7) for i in range(60)]

    def loop():
        cr.manual_seed(0)
        model = mlp()
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def step(order):
            x = cr.ones(2, 4)
            for k in order:
                x = [cr.tanh, cr.exp, cr.sigmoid, cr.sin, cr.cos, lambda t: t * 0.5, lambda t: t - 1][k](x)
            optimizer.zero_grad()
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    expected = list(map(loop(), turns))
    step = loop()
    with cr.eager(False):
        found, rested = [], []
        for order in turns:
            found.append(step(order))
            rested.append(own_tape().rest > 0)
        assert not any(rested[:14])
        assert sum(rested[16:]) > 20
        while own_tape().rest:
            step(range(7))
        for _ in range(8):
            step(range(7))
        assert own_tape().compiled  # what does come by again is compiled
        assert own_tape().rests == 200
    assert found == expected


def test_lengths_that_vary_start_no_storm_of_compilations(monkeypatch):
    monkeypatch.setattr(budget, "FREE", 0.0)
    monkeypatch.setattr(budget, "SHARE", 0.0)
    monkeypatch.setattr(budget, "GUESS", 1e9)
    monkeypatch.setattr(tape, "REST", 200)
    sizes = np.random.default_rng(0).integers(1, 13, 80)

    def loop():
        cr.manual_seed(0)
        model = mlp()
        optimizer = optim.SGD(model.parameters(), lr=0.01)

        def step(rows):
            optimizer.zero_grad()
            loss = model(cr.ones(int(rows), 4)).sum()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    expected = list(map(loop(), sizes))
    step, rested = loop(), 0
    with cr.eager(False):
        for rows, loss in zip(sizes, expected, strict=True):
            assert step(rows) == loss
            rested += own_tape().rest > 0
        assert rested > 20
        assert not own_tape().compiled
        while own_tape().rest:
            step(3)
        for _ in range(budget.TIMES + 1):  # a loop, which is compiled whatever it takes
            step(3)
        assert len(own_tape().compiled) == 1


@pytest.mark.parametrize(
    "loss", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits"]
)
def test_a_loss_is_found_again_by_all_that_it_depends_on(loss):
    function, x, y = getattr(F, loss), cr.tensor([[-1.0, 3.0], [0.5, 0.2]]), cr.tensor([[0.0, 1.0], [1.0, 0.25]])
    more = {"smooth_l1_loss": {"beta": 0.5}, "huber_loss": {"delta": 0.3}}.get(loss, {})
    if "binary" in loss:
        more = {"weight": cr.tensor([1.0, 3.0]), "pos_weight": cr.tensor([2.0, 0.5])}
    given = [{}, {"reduction": "sum"}, more, {"reduction": "none", **more}, {"target": y * 0.5}]

    def values():
        found = []
        for _ in range(4):
            for keywords in given:
                w = x.clone().requires_grad_()
                result = function(w * 1.0, **{"target": y, **keywords})
                result.sum().backward()
                assert w.grad is not None
                found += [result.detach().numpy(), w.grad.numpy()]
            with weighing_rows(cr.tensor([1.0, 3.0])):
                found.append(function(x, y).numpy())
            with pytest.raises(ShapeError, match=r"the target must have the shape of the input, \(2, 2\)"):
                function(x, y[0])
            with pytest.raises(TypeError, match="there is no keyword 'reduce_it'"):
                function(x, y, reduce_it="mean")
        return found

    expected = values()
    with cr.eager(False):
        for a, b in zip(values(), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_loss_of_probabilities_looks_at_what_may_be_none():
    """A sigmoid's results are probabilities, or NaN, which is let through; others are looked at. Its rule is walked along, too."""
    x, y = cr.tensor([[-1.0, 3.0], [0.5, 40.0]]), cr.tensor([[0.0, 1.0], [1.0, 0.25]])

    def values():
        found = []
        for turn in range(6):
            w = x.clone().requires_grad_()
            loss = F.binary_cross_entropy((w * 2).sigmoid(), y, reduction="sum", weight=None if turn % 2 else y + 1)
            loss.backward(retain_graph=turn > 3)
            if turn > 3:
                loss.backward()
            found += [loss.detach().numpy(), w.grad.numpy()]
            found.append(F.binary_cross_entropy((w * cr.nan).sigmoid(), y).detach().numpy())
            with pytest.raises(DataError, match=r"every input must be in \[0, 1\], got values from 0.2689 to 2"):
                F.binary_cross_entropy(x.sigmoid() + cr.tensor([[0.0, 0], [0, 1]]), y)
            with pytest.raises(DataError, match=r"every target must be in \[0, 1\], got values from 0 to 2"):
                F.binary_cross_entropy(x.sigmoid(), y * 2)
        return found

    expected = values()
    with cr.eager(False):
        for a, b in zip(values(), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_class_numbers_are_picked_before_a_loss_looks_at_them():
    """So a step over rows in another order is one program; rows that are not there are refused at once."""
    model, order = mlp(), np.array([3, 1, 0, 2])
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with cr.eager(False):
        for _ in range(8):
            rows = cr.from_numpy(np.random.default_rng(0).permutation(order))
            loss = F.cross_entropy(model(X[rows]), Y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert len(own_tape().compiled) == 1
        with pytest.raises(IndexRangeError):
            Y[cr.tensor([0, 99])]
