"""Numbers of any kind where a training and its schedules take one; they are saved and gone on with."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import SettingError

SCHEDULES = {
    "StepLR": lambda o: optim.lr_scheduler.StepLR(o, np.int64(1), np.float32(0.5)),
    "StepLR of tensors": lambda o: optim.lr_scheduler.StepLR(o, cr.tensor(1), cr.tensor(0.5)),
    "MultiStepLR": lambda o: optim.lr_scheduler.MultiStepLR(o, np.array([1, 3]), np.float32(0.5)),
    "ExponentialLR": lambda o: optim.lr_scheduler.ExponentialLR(o, np.float32(0.5)),
    "CosineAnnealingLR": lambda o: optim.lr_scheduler.CosineAnnealingLR(o, np.int64(4), np.float32(0.001)),
    "ReduceLROnPlateau": lambda o: optim.lr_scheduler.ReduceLROnPlateau(
        o, factor=np.float32(0.3), patience=np.int64(0), threshold=np.float32(0.5)
    ),
    "LinearLR": lambda o: optim.lr_scheduler.LinearLR(o, np.float32(0.5), total_iters=np.int64(3)),
}


def data():
    X = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def make(schedule, number=np.float32):
    cr.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(np.int64(4), 8), nn.LeakyReLU(number(0.25)), nn.Dropout(number(0.25)), nn.Linear(8, 2)
    )
    optimizer = optim.Adam(model.parameters(), lr=number(0.03125), betas=(number(0.875), number(0.9375)))
    scheduler = schedule(optimizer)
    return cr.Trainer(model, F.cross_entropy, optimizer, scheduler=scheduler, max_norm=number(1.0))


def weights(trainer):
    return [p.detach().numpy().tobytes() for p in trainer.model.parameters()]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_training_with_numpys_numbers_goes_on_from_its_file(name, tmp_path):
    given = {"batch_size": np.int32(32), "seed": np.int64(3), "progress": False}
    whole, begun, resumed = (make(SCHEDULES[name]) for _ in range(3))
    whole.fit(*data(), epochs=np.int64(4), **given)
    begun.fit(*data(), epochs=2, **given, record=tmp_path / "run")
    begun.save(tmp_path / "file")
    resumed.load(tmp_path / "file")
    resumed.fit(*data(), epochs=4, **given, resume=True)
    assert weights(resumed) == weights(whole)


def test_the_kind_of_a_number_makes_no_difference():
    one, other = (make(SCHEDULES["StepLR"], number) for number in (float, np.float32))
    for trainer in (one, other):
        trainer.fit(*data(), epochs=2, progress=False)
    assert weights(one) == weights(other)


@pytest.mark.parametrize("wrong", [0, -1.0, "1", np.float32(0), True])
def test_a_norm_to_clip_to_that_cannot_be(wrong):
    with pytest.raises(SettingError, match="max_norm must be a number above 0, or None, got"):
        cr.Trainer(nn.Linear(4, 2), F.cross_entropy, optim.SGD([cr.ones(1, requires_grad=True)]), max_norm=wrong).fit(
            *data()
        )
