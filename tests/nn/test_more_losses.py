"""The losses of margins and distributions, and the distances, against PyTorch: values and gradients, eager and compiled."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.errors import DataError, SettingError, ShapeError, UnknownNameError

from .peers import assert_same, torch

TF = torch.nn.functional
RNG = np.random.default_rng(0)
A, B, C = (RNG.normal(size=(6, 4)) for _ in range(3))
SIGNS, LABELS = RNG.choice([-1.0, 1.0], size=(6, 4)), RNG.integers(0, 4, size=6)
SHARES = RNG.uniform(0, 1, size=(6, 4))
SHARES[0, :2] = 0, 1
ROWS = RNG.dirichlet(np.ones(4), size=6)
ROWS[1] = 0, 0.5, 0.5, 0
WEIGHT = np.array([0.5, 1.0, 2.0, 3.0])
MANY = np.array([[3, 0, -1, 1], [0, -1, 2, 3], [-1, 0, 1, 2], [2, 2, -1, 0], [0, 1, 2, 3], [1, -1, -1, -1]])
LOGS = np.log(RNG.dirichlet(np.ones(4), size=6))
COUNTS = RNG.poisson(2.0, size=(6, 4)).astype(float)

TABLE = [
    ("margin_ranking_loss", (A, B, SIGNS), {}), ("margin_ranking_loss", (A, B, SIGNS), {"margin": 0.7}),
    ("hinge_embedding_loss", (A, SIGNS), {}), ("hinge_embedding_loss", (A, SIGNS), {"margin": 0.3}),
    ("cosine_embedding_loss", (A, B, SIGNS[:, 0]), {}), ("cosine_embedding_loss", (A, B, SIGNS[:, 0]), {"margin": 0.2}),
    ("cosine_embedding_loss", (A[0], B[0], SIGNS[0, 0]), {}),
    ("triplet_margin_loss", (A, B, C), {}), ("triplet_margin_loss", (A, B, C), {"margin": 2.0, "p": 1, "swap": True}),
    ("triplet_margin_loss", (A, B, C), {"margin": 3.0, "p": 3.0}), ("triplet_margin_loss", (A[0], B[0], C[0]), {}),
    ("soft_margin_loss", (A * 20, SIGNS), {}),
    ("multilabel_soft_margin_loss", (A * 20, SHARES), {}), ("multilabel_soft_margin_loss", (A[0], SHARES[0]), {}),
    ("multi_margin_loss", (A, LABELS), {}), ("multi_margin_loss", (A, LABELS), {"p": 2, "margin": 0.4}),
    ("multi_margin_loss", (A[0], LABELS[0]), {}),
    ("multilabel_margin_loss", (A, MANY), {}), ("multilabel_margin_loss", (A[0], MANY[0]), {}),
    ("kl_div", (LOGS, ROWS), {}), ("kl_div", (LOGS, LOGS[::-1].copy()), {"log_target": True}),
    ("poisson_nll_loss", (A, COUNTS), {}), ("poisson_nll_loss", (A, COUNTS), {"full": True}),
    ("poisson_nll_loss", (np.exp(A), COUNTS), {"log_input": False, "eps": 1e-3}),
    ("gaussian_nll_loss", (A, B, np.exp(C)), {}), ("gaussian_nll_loss", (A, B, np.exp(C[:, 0])), {"full": True}),
    ("gaussian_nll_loss", (A, B, np.exp(C[:, :1])), {"eps": 1.0}),
]  # fmt: skip


def call(module, name, options):
    return lambda *x: getattr(module, name)(*x, **options)


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "arrays", "options"), TABLE)
def test_values_and_gradients_are_those_of_pytorch(name, arrays, options, reduction):
    options = {**options, "reduction": reduction}
    learned = slice(0, 3 if name.startswith(("triplet", "gaussian")) else 2 if len(arrays) == 3 else 1)
    fixed = arrays[learned.stop :]
    ours = lambda *x: getattr(F, name)(*x, *map(cr.tensor, fixed), **options)  # noqa: E731
    theirs = lambda *x: getattr(TF, name)(*x, *map(torch.tensor, fixed), **options)  # noqa: E731
    assert_same(ours, theirs, *arrays[learned])


@pytest.mark.parametrize(("name", "arrays", "options"), TABLE)
def test_compiled_they_are_the_same(name, arrays, options):
    def both(*x):
        return call(F, name, options)(*x), cr.grad(call(F, name, options))(*x)

    tensors = [cr.tensor(x) for x in arrays]
    for mine, compiled in zip(both(*tensors), cr.compile(both)(*tensors), strict=True):
        np.testing.assert_allclose(compiled.numpy(), mine.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("name", "arrays", "options"), TABLE)
def test_gradients_are_those_of_finite_differences(name, arrays, options):
    rest = [cr.tensor(x) for x in arrays[1:]]
    assert cr.check_gradients(lambda x: call(F, name, options)(x, *rest), cr.tensor(arrays[0]))


CLASSES = {
    "margin_ranking_loss": "MarginRankingLoss", "hinge_embedding_loss": "HingeEmbeddingLoss",
    "cosine_embedding_loss": "CosineEmbeddingLoss", "triplet_margin_loss": "TripletMarginLoss",
    "soft_margin_loss": "SoftMarginLoss", "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
    "multi_margin_loss": "MultiMarginLoss", "multilabel_margin_loss": "MultiLabelMarginLoss", "kl_div": "KLDivLoss",
    "poisson_nll_loss": "PoissonNLLLoss", "gaussian_nll_loss": "GaussianNLLLoss",
}  # fmt: skip


@pytest.mark.parametrize(("name", "arrays", "options"), TABLE)
def test_modules_are_their_functions(name, arrays, options):
    module = getattr(nn, CLASSES[name])(**options, reduction="sum")
    tensors = [cr.tensor(x) for x in arrays]
    assert module(*tensors).item() == getattr(F, name)(*tensors, **options, reduction="sum").item()
    peer = getattr(torch.nn, CLASSES[name])(**options, reduction="sum")
    assert module(*tensors).item() == pytest.approx(peer(*map(torch.tensor, arrays)).item(), rel=1e-12)
    assert repr(module) == repr(peer)


def test_weights_of_classes():
    ours, theirs = cr.tensor(WEIGHT), torch.tensor(WEIGHT)
    for p in (1, 2):
        assert_same(
            lambda x, p=p: F.multi_margin_loss(x, cr.tensor(LABELS), p, weight=ours),
            lambda x, p=p: TF.multi_margin_loss(x, torch.tensor(LABELS), p, weight=theirs),
            A,
        )
    assert_same(
        lambda x: F.multilabel_soft_margin_loss(x, cr.tensor(SHARES), ours),
        lambda x: TF.multilabel_soft_margin_loss(x, torch.tensor(SHARES), theirs),
        A,
    )
    assert list(nn.MultiMarginLoss(weight=ours).state_dict()) == ["weight"]


def test_the_divergence_a_row():
    assert_same(
        lambda x: F.kl_div(x, cr.tensor(ROWS), reduction="batchmean"),
        lambda x: TF.kl_div(x, torch.tensor(ROWS), reduction="batchmean"),
        LOGS,
    )
    assert nn.KLDivLoss("batchmean")(cr.tensor(LOGS), cr.tensor(LOGS).exp()).abs().item() < 1e-15
    x = cr.tensor([-math.inf, 0.0], requires_grad=True)  # nothing is expected where nothing is given
    F.kl_div(x, cr.tensor([0.0, 1.0]), "sum").backward()
    assert x.grad.tolist() == [0.0, -1.0]


def test_gaussian_with_one_variance():
    assert F.gaussian_nll_loss(cr.tensor(A), cr.tensor(B), 2.0).item() == pytest.approx(
        TF.gaussian_nll_loss(torch.tensor(A), torch.tensor(B), 2.0).item(), rel=1e-12
    )


@pytest.mark.parametrize(("name", "options"), [
    ("pairwise_distance", {}), ("pairwise_distance", {"p": 1, "keepdim": True}), ("pairwise_distance", {"p": 3.0}),
    ("cosine_similarity", {}), ("cosine_similarity", {"dim": 0, "eps": 1e-3}),
])  # fmt: skip
def test_distances(name, options):
    assert_same(call(F, name, options), call(TF, name, options), A, B)
    assert_same(call(F, name, options), call(TF, name, options), A, B[:1])
    cls = {"pairwise_distance": "PairwiseDistance", "cosine_similarity": "CosineSimilarity"}[name]
    assert_same(getattr(nn, cls)(**options), getattr(torch.nn, cls)(**options), A, B)


def test_the_cosine_of_short_vectors_has_the_derivative_of_its_formula():
    a, b = A * 0.1, cr.tensor(B)
    found = F.cosine_similarity(cr.tensor(a), b, eps=0.5).numpy()
    np.testing.assert_allclose(
        found, TF.cosine_similarity(torch.tensor(a), torch.tensor(B), eps=0.5).numpy(), rtol=1e-12
    )
    assert cr.check_gradients(lambda x: F.cosine_similarity(x, b, eps=0.5), cr.tensor(a))


@pytest.mark.parametrize("options", [{}, {"p": 1.0}, {"dim": 0}, {"eps": 3.0}, {"p": math.inf}])
def test_normalize(options):
    assert_same(call(F, "normalize", options), call(TF, "normalize", options), A)


def test_nothing_has_no_direction_and_no_infinite_gradient():
    zero = np.zeros((2, 3))
    assert_same(F.cosine_similarity, TF.cosine_similarity, zero, RNG.normal(size=(2, 3)))
    assert_same(F.normalize, TF.normalize, zero)


@pytest.mark.parametrize("loss", [F.soft_margin_loss, F.multilabel_soft_margin_loss])
def test_a_nearly_certain_answer_has_its_digits(loss):
    target = 1.0
    for x in (30.0, 80.0):
        found = loss(cr.tensor([x]), cr.tensor([target])).item()
        assert found == pytest.approx(math.exp(-x), rel=1e-6)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_labels_out_of_range(wrong):
    x, y = cr.tensor(A[:2]), cr.tensor([0, wrong])
    with pytest.raises(DataError, match=f"label {wrong} at position 1 is not in"):
        F.multi_margin_loss(x, y)
    with pytest.raises(IndexError, match="an index is out of range for an axis of size 4"):
        cr.compile(lambda x, y: F.multi_margin_loss(x, y))(x, y)
    with pytest.raises(DataError, match="label 4 at position"):
        F.multilabel_margin_loss(x, cr.tensor([[0, 1, 2, 4], [0, 0, 0, 0]]))


WRONG = [
    (SettingError, lambda: F.triplet_margin_loss(A, B, C, margin=0), "triplet_margin_loss: margin must be positive, got 0."),
    (SettingError, lambda: nn.TripletMarginLoss(-1.0), "TripletMarginLoss: margin must be positive, got -1.0."),
    (SettingError, lambda: F.multi_margin_loss(A, LABELS, p=3), "multi_margin_loss: p must be 1 or 2, got 3."),
    (SettingError, lambda: nn.MultiMarginLoss(p=0), "MultiMarginLoss: p must be 1 or 2, got 0."),
    (SettingError, lambda: nn.GaussianNLLLoss(eps=0.0), "GaussianNLLLoss: eps must be positive, got 0.0."),
    (SettingError, lambda: F.gaussian_nll_loss(A, B, 1.0, eps=0.0), "gaussian_nll_loss: eps must be positive, got 0.0."),
    (DataError, lambda: F.gaussian_nll_loss(A, B, -1.0),
     "gaussian_nll_loss {}: every variance must be 0 or more, got -1. Let the model give its exp or softplus."),
    (ShapeError, lambda: F.gaussian_nll_loss(A, B, np.ones(4)),
     "gaussian_nll_loss {}: var must have the shape (6, 4) of the input, or one number for each row, got shape (4,). "
     "Check that both come from the same batch."),
    (ShapeError, lambda: F.multi_margin_loss(A, LABELS[:2]),
     "multi_margin_loss {}: the input must have shape (N, C) and the target (N,), or (C,) and (), got (6, 4) and (2,). "
     "Give a score for each class, and one class for each row."),
    (ShapeError, lambda: F.cosine_embedding_loss(A, B, SIGNS),
     "cosine_embedding_loss {}: the inputs must have shape (N, D) and the target (N,), or (D,) and (), got (6, 4) and "
     "(6, 4). Give one target for each row."),
    (UnknownNameError, lambda: nn.KLDivLoss("batch"),
     "unknown reduction 'batch'. Did you mean 'batchmean'? Known: batchmean, mean, none, sum."),
    (UnknownNameError, lambda: nn.MarginRankingLoss(reduction="avg"), "unknown reduction 'avg'. Known: mean, none, sum."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "call", "text"), WRONG)
def test_what_is_refused(kind, call, text):
    with pytest.raises(
        kind, match=f"^{re.escape(text.format(f'(test_more_losses.py:{call.__code__.co_firstlineno} in <lambda>)'))}$"
    ):
        call()


def test_a_network_of_scores_trains_and_has_classes_but_no_probabilities():
    cr.manual_seed(0)
    x, y = RNG.normal(size=(60, 4)).astype("f"), RNG.integers(0, 3, size=60)
    x[:, 0] += 3 * y
    model = nn.Linear(4, 3)
    trainer = cr.Trainer(model, nn.MultiMarginLoss(), cr.optim.Adam(model.parameters(), lr=0.1), metrics=["accuracy"])
    history = trainer.fit(x, y, epochs=30, progress=False)
    assert history["accuracy"][-1] > 0.85
    assert (trainer.predict_classes(x) == y).mean() > 0.85
    with pytest.raises(SettingError, match="scores of classes, which have an order and no probabilities"):
        trainer.predict_proba(x)
    assert bool(trainer.model.verify(x, y, F.multi_margin_loss))
