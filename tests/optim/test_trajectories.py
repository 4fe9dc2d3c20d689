"""Every optimizer against PyTorch, step for step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

RNG = np.random.default_rng(0)
SHAPES = [(3, 4), (4,), (1, 1), ()]
STARTS = [RNG.normal(size=shape) for shape in SHAPES]
STEPS = 100


def product(**choices):
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


ADAM = product(
    lr=[0.03], weight_decay=[0.0, 0.1], amsgrad=[False, True], maximize=[False, True], betas=[(0.9, 0.999), (0.5, 0.9)]
)
TABLE = [
    *(("SGD", o) for o in product(
        lr=[0.02], momentum=[0.0, 0.9], weight_decay=[0.0, 0.1], maximize=[False, True], dampening=[0.0, 0.3]
    )),
    *(("SGD", o) for o in product(
        lr=[0.02], momentum=[0.8], nesterov=[True], weight_decay=[0.0, 0.1], maximize=[False, True]
    )),
    *(("Adam", o) for o in ADAM),
    *(("AdamW", o) for o in ADAM),
    ("Adam", {}), ("AdamW", {}), ("RMSprop", {}), ("SGD", {}), ("Adam", {"eps": 0.1}),
    *(("RMSprop", o) for o in product(
        lr=[0.01], alpha=[0.9, 0.99], momentum=[0.0, 0.7], centered=[False, True], weight_decay=[0.0, 0.1],
        maximize=[False, True],
    )),
    *(("Adagrad", o) for o in product(
        lr=[0.05], lr_decay=[0.0, 0.1], weight_decay=[0.0, 0.1], initial_accumulator_value=[0.0, 0.3], maximize=[False, True]
    )),
    *(("Adadelta", o) for o in product(lr=[1.0, 0.3], rho=[0.9, 0.5], weight_decay=[0.0, 0.1], maximize=[False, True])),
    *(("Adamax", o) for o in product(
        lr=[0.02], betas=[(0.9, 0.999), (0.5, 0.9)], weight_decay=[0.0, 0.1], maximize=[False, True]
    )),
    *((name, o) for name in ("RAdam", "NAdam") for o in product(
        lr=[0.02], betas=[(0.9, 0.999), (0.5, 0.9), (0.5, 0.5)], weight_decay=[0.0, 0.1],
        decoupled_weight_decay=[False, True], maximize=[False, True],
    )),
    *(("Rprop", o) for o in product(lr=[0.01, 0.2], etas=[(0.5, 1.2), (0.3, 1.5)], step_sizes=[(1e-6, 50.0), (0.005, 0.1)], maximize=[False, True])),
    ("NAdam", {"momentum_decay": 0.5}), *((name, {}) for name in ("Adagrad", "Adadelta", "Adamax", "RAdam", "NAdam")),
]  # fmt: skip


def forces(lib, params, step):
    """A bumpy function of all parameters whose gradient changes from step to step."""
    phase = 0.1 * step
    total = 0
    for p in params:
        total = total + lib.sin(p * 2 + phase).sum() + 0.05 * (p * p).sum()
    return total


def run(lib, optimizer, params, steps, first=0):
    for step in range(first, first + steps):
        optimizer.zero_grad()
        forces(lib, params, step).backward()
        optimizer.step()


def ours_and_theirs(name, options):
    ours = [cr.tensor(x, requires_grad=True) for x in STARTS]
    theirs = [torch.tensor(x, requires_grad=True) for x in STARTS]
    return (
        (getattr(optim, name)(ours, **options), ours),
        (getattr(torch.optim, name)(theirs, **options), theirs),
    )


def assert_same(ours, theirs, tolerance=1e-10):
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), TABLE, ids=lambda value: str(value).replace(" ", ""))
def test_a_hundred_steps_in_float64(name, options):
    (opt, ours), (peer, theirs) = ours_and_theirs(name, options)
    run(cr, opt, ours, STEPS)
    run(torch, peer, theirs, STEPS)
    assert_same(ours, theirs)


RESUMED = [
    ("SGD", {"lr": 0.02}), ("SGD", {"lr": 0.02, "momentum": 0.9}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "dampening": 0.3}), ("Adam", {"lr": 0.02}),
    ("Rprop", {"lr": 0.02}), ("AdamW", {"lr": 0.02, "amsgrad": True}), ("RMSprop", {"lr": 0.02, "centered": True, "momentum": 0.5}),
    ("Adagrad", {"lr": 0.02, "lr_decay": 0.1, "initial_accumulator_value": 0.1}), ("Adadelta", {"lr": 0.7}),
    ("Adamax", {"lr": 0.02}), ("RAdam", {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 0.02}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), RESUMED, ids=str)
def test_going_on_from_pytorchs_state(name, options):
    (opt, ours), (peer, theirs) = ours_and_theirs(name, options)
    run(torch, peer, theirs, 20)
    for p, q in zip(ours, theirs, strict=True):
        p.data = cr.tensor(q.detach().numpy())
    opt.load_state_dict(peer.state_dict())
    run(cr, opt, ours, 20, first=20)
    run(torch, peer, theirs, 20, first=20)
    assert_same(ours, theirs)


@pytest.mark.parametrize(("name", "options"), RESUMED, ids=str)
def test_pytorch_going_on_from_ours(name, options):
    (opt, ours), (peer, theirs) = ours_and_theirs(name, options)
    run(cr, opt, ours, 20)
    saved = opt.state_dict()
    state = {i: {k: torch.tensor(v.numpy().copy()) for k, v in own.items()} for i, own in saved["state"].items()}
    groups = [{**peer.param_groups[0], **group} for group in saved["param_groups"]]
    peer.load_state_dict({"state": state, "param_groups": groups})
    for p, q in zip(ours, theirs, strict=True):
        q.data = torch.tensor(p.detach().numpy().copy())
    run(cr, opt, ours, 20, first=20)
    run(torch, peer, theirs, 20, first=20)
    assert_same(ours, theirs)


@pytest.mark.parametrize(("name", "options"), RESUMED, ids=str)
def test_a_resumed_run_is_the_same_run(name, options):
    (opt, ours), _ = ours_and_theirs(name, options)
    run(cr, opt, ours, 20)
    twins = [p.detach().clone().requires_grad_() for p in ours]
    twin = getattr(optim, name)(twins)
    twin.load_state_dict(opt.state_dict())
    run(cr, opt, ours, 20, first=20)
    run(cr, twin, twins, 20, first=20)
    assert [p.tolist() for p in twins] == [p.tolist() for p in ours]


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_parameters_without_gradient_wait(name):
    options = {"SGD": {"momentum": 0.9, "dampening": 0.2}}.get(name, {})
    (opt, ours), (peer, theirs) = ours_and_theirs(name, options)
    for active in ([0, 1, 2, 3], [0, 1], [1, 2], [3], [0, 1, 2, 3]):
        for lib, optimizer, params in ((cr, opt, ours), (torch, peer, theirs)):
            for step in range(7):
                optimizer.zero_grad()
                forces(lib, [params[i] for i in active], step).backward()
                optimizer.step()
        assert_same(ours, theirs)
    if name != "SGD":
        ours_steps = [opt.state[p]["step"].item() for p in ours]
        assert ours_steps == [peer.state[q]["step"].item() for q in theirs] == [21.0, 28.0, 21.0, 21.0]


def test_groups_have_settings_of_their_own():
    def make(lib, params):
        groups = [{"params": params[:2], "lr": 0.1, "betas": (0.5, 0.9)}, {"params": params[2:3]}]
        optimizer = lib.Adam(groups, lr=0.01, weight_decay=0.1)
        optimizer.add_param_group({"params": params[3], "weight_decay": 0.0})
        return optimizer

    ours = [cr.tensor(x, requires_grad=True) for x in STARTS]
    theirs = [torch.tensor(x, requires_grad=True) for x in STARTS]
    opt, peer = make(optim, ours), make(torch.optim, theirs)
    run(cr, opt, ours, 20)
    run(torch, peer, theirs, 20)
    assert_same(ours, theirs)


@pytest.mark.parametrize(("name", "options"), RESUMED, ids=str)
def test_a_compiled_step_follows_changing_settings(name, options):
    (opt, ours), (peer, theirs) = ours_and_theirs(name, options)

    @cr.compile
    def step(phase):
        opt.zero_grad()
        loss = sum((p * 2 + phase).sin().sum() + 0.05 * (p * p).sum() for p in ours)
        loss.backward()
        opt.step()
        return loss

    for index in range(30):
        for group in (*opt.param_groups, *peer.param_groups):
            group["lr"] = 0.05 / (index + 1)
            if "betas" in group:
                group["betas"] = (0.9 - 0.01 * index, 0.99)
        step(cr.tensor(0.1 * index, dtype=cr.float64))
        peer.zero_grad()
        sum((q * 2 + 0.1 * index).sin().sum() + 0.05 * (q * q).sum() for q in theirs).backward()
        peer.step()
    assert len(step._variants) == 1
    assert [len(found) for found in step._variants.values()] == [1]
    assert_same(ours, theirs)


def test_switching_something_on_compiles_anew():
    (opt, ours), (peer, theirs) = ours_and_theirs("SGD", {"lr": 0.05})

    @cr.compile
    def step():
        opt.zero_grad()
        sum((p * p).sum() for p in ours).backward()
        opt.step()

    for index in range(12):
        for group in (*opt.param_groups, *peer.param_groups):
            group["weight_decay"] = 0.1 if index >= 4 else 0.0
            group["momentum"] = 0.5 if index >= 8 else 0.0
        step()
        peer.zero_grad()
        sum((q * q).sum() for q in theirs).backward()
        peer.step()
    assert_same(ours, theirs)


def test_a_compiled_step_knows_who_waits():
    (opt, ours), (peer, theirs) = ours_and_theirs("Adam", {"lr": 0.05})

    def make(indices):
        def step():
            opt.zero_grad()
            sum((ours[i] * ours[i]).sum() for i in indices).backward()
            opt.step()

        return cr.compile(step)

    everyone, some = make(range(4)), make([1, 3])
    for run_ours, indices in [(everyone, range(4)), (some, [1, 3])] * 3:
        for _ in range(3):
            run_ours()
            peer.zero_grad()
            sum((theirs[i] * theirs[i]).sum() for i in indices).backward()
            peer.step()
    assert_same(ours, theirs)
    assert [opt.state[p]["step"].item() for p in ours] == [9.0, 18.0, 9.0, 18.0]


def test_a_network_trains_like_pytorchs_in_float32():
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(
        torch.nn.Linear(10, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4)
    )
    ours = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4))
    ours.load_state_dict(theirs.state_dict())
    x = RNG.normal(size=(8, 32, 10)).astype(np.float32)
    y = np.argmax(x[..., :4] + 0.3 * RNG.normal(size=(8, 32, 4)), -1)
    opt = optim.AdamW(ours.parameters(), lr=1e-3)
    peer = torch.optim.AdamW(theirs.parameters(), lr=1e-3)
    losses = []
    for step in range(200):
        batch = step % 8
        opt.zero_grad()
        a = F.cross_entropy(ours(cr.tensor(x[batch])), cr.tensor(y[batch]))
        a.backward()
        opt.step()
        peer.zero_grad()
        b = torch.nn.functional.cross_entropy(theirs(torch.tensor(x[batch])), torch.tensor(y[batch]))
        b.backward()
        peer.step()
        losses.append((a.item(), b.item()))
    mine, other = np.array(losses).T
    np.testing.assert_allclose(mine, other, rtol=1e-4)
    assert mine[-1] < 0.7 * mine[0]


@pytest.mark.parametrize("native", [False, True], ids=["eager", "native"])
@pytest.mark.parametrize("dtype", [cr.float32, cr.float64], ids=["float32", "float64"])
def test_the_variance_of_an_unchanging_gradient_never_falls_below_nothing(dtype, native):
    """With PyTorch's until the variance is lost in rounding, and finite from there on."""
    start, steps = [1.0, -2.0], 1500
    mine, theirs = cr.tensor(start, dtype=dtype, requires_grad=True), torch.tensor(start, requires_grad=True)
    theirs = theirs.double().detach().requires_grad_() if dtype is cr.float64 else theirs
    ours = optim.RMSprop([mine], lr=1e-5, centered=True)
    reference = torch.optim.RMSprop([theirs], lr=1e-5, centered=True)

    def step():
        mine.grad = cr.tensor([0.1, 0.0], dtype=dtype)
        ours.step()
        return mine * 1.0

    run = cr.compile(step) if native else step
    for count in range(1, steps + 1):
        moved = run()
        theirs.grad = torch.tensor([0.1, 0.0], dtype=theirs.dtype)
        reference.step()
        if count == 400:
            np.testing.assert_allclose(moved.detach().numpy(), theirs.detach().numpy(), rtol=1e-4)
    assert np.isfinite(mine.detach().numpy()).all()
    assert mine.detach().numpy()[1] == -2.0
