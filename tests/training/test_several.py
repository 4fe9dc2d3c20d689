"""Several inputs, outputs and targets, or no target at all: trained, resumed, recorded and predicted as one array is."""

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.data import as_source
from chainrule.errors import DataError, ReplayError, SettingError, ShapeError
from chainrule.training import Trainer
from chainrule.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
A = rng.normal(size=(90, 4)).astype(np.float32)
B = rng.integers(0, 5, 90)
price = (A[:, :1] * 2 + B[:, None]).astype(np.float32)
sold = (A[:, 1] > 0).astype(int) + (B > 2)


class Net(nn.Module):
    """Two inputs, by position or by name, and two outputs in a dict or a tuple."""

    def __init__(self, form):
        super().__init__()
        self.form = form
        self.table, self.body = nn.Parameter(cr.randn(5, 3)), nn.Linear(7, 16)
        self.price, self.sold = nn.Linear(16, 1), nn.Linear(16, 3)

    def forward(self, a, b):
        h = F.relu(self.body(cr.cat([a, self.table[b]], 1)))
        if self.form is dict:
            return {"price": self.price(h), "sold": self.sold(h)}
        return self.price(h), self.sold(h)


def make(form=dict, loss=None, **options):
    cr.manual_seed(0)
    losses = {"price": "mse", "sold": F.cross_entropy} if form is dict else ("mse", F.cross_entropy)
    return Trainer(Net(form), losses if loss is None else loss, "adam", lr=0.02, **options)


X = {"tuple": (A, B), "dict": {"b": B, "a": A}}
Y = {dict: {"sold": sold, "price": price}, tuple: (price, sold)}


def fit(trainer, x=X["tuple"], y=Y[dict], epochs=3, **options):
    return trainer.fit(x, y, epochs, 32, progress=False, **options)


def bits(trainer):
    return b"".join(p.detach().numpy().tobytes() for p in trainer.model.parameters())


def both(output, target):
    return F.mse_loss(output["price"], target["price"]) + F.cross_entropy(output["sold"], target["sold"])


@pytest.mark.parametrize("x", X)
@pytest.mark.parametrize("form", [dict, tuple])
def test_by_position_by_name_and_by_hand_are_one_training(x, form):
    trainer, own = make(form), make(loss=both)
    history = fit(trainer, X[x], Y[form])
    fit(own)
    assert bits(trainer) == bits(own)
    names = ["price_loss", "sold_loss"] if form is dict else ["0_loss", "1_loss"]
    np.testing.assert_allclose(sum(np.array(history[name]) for name in names), history["loss"], rtol=1e-6)


def test_a_step_is_pytorch_s():
    torch = pytest.importorskip("torch")
    trainer = make(loss_weights={"sold": 3.0})
    trainer.optimizer = optim.SGD(trainer.model.parameters(), lr=0.1)
    start = {name: torch.tensor(p.detach().numpy()).requires_grad_() for name, p in trainer.model.named_parameters()}
    trainer.fit(X["tuple"], Y[dict], 1, 90, shuffle=False, progress=False)
    p = start
    joined = torch.cat([torch.tensor(A), p["table"][torch.tensor(B)]], 1)
    h = torch.relu(joined @ p["body.weight"].T + p["body.bias"])
    loss = torch.nn.functional.mse_loss(h @ p["price.weight"].T + p["price.bias"], torch.tensor(price))
    loss = loss + 3 * torch.nn.functional.cross_entropy(h @ p["sold.weight"].T + p["sold.bias"], torch.tensor(sold))
    loss.backward()
    for name, parameter in trainer.model.named_parameters():
        expected = (p[name] - 0.1 * p[name].grad).detach().numpy()
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("form", [dict, tuple])
def test_predictions_have_the_form_of_the_outputs(form):
    trainer = make(form)
    fit(trainer, y=Y[form])
    found = trainer.predict(X["tuple"], 16)
    with cr.no_grad():
        expected = trainer.model(cr.tensor(A), cr.tensor(B))
    pairs = [(found[k], expected[k]) for k in (("price", "sold") if form is dict else (0, 1))]
    assert type(found) is form
    for one, other in pairs:
        assert one.shape == tuple(other.shape)
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-5, atol=1e-6)
    few = trainer.predict((A[:1], B[:1]))
    np.testing.assert_allclose(
        next(iter(few.values())) if form is dict else few[0], pairs[0][0][:1], rtol=1e-5, atol=1e-6
    )


def test_metrics_of_an_output_and_validation():
    trainer = make(metrics={"sold": ["accuracy"], "price": "mae"})
    history = fit(trainer, epochs=30, validation_data=(X["dict"], Y[dict]))
    assert list(history)[:5] == ["loss", "price_loss", "sold_loss", "sold_accuracy", "price_mae"]
    assert history["val_sold_accuracy"][-1] > 0.7
    measured = trainer.evaluate(X["tuple"], Y[dict], 90)
    share = (trainer.predict(X["tuple"])["sold"].argmax(1) == sold).mean()
    assert measured["sold_accuracy"] == pytest.approx(share)
    assert measured["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)
    fit(trainer, validation_split=0.2)
    assert trainer.session.rows.count == 72 and trainer.session.rows.held_out.count == 18


def test_resume_record_and_replay(tmp_path):
    trainer, whole = make(), make()
    fit(trainer, epochs=2, record=tmp_path / "run", sample_weight=np.arange(90))
    with pytest.raises(SettingError, match="the rows must be those of the earlier fit"):
        fit(trainer, (A, B[::-1]), epochs=4, resume=True, sample_weight=np.arange(90))
    fit(trainer, X["tuple"], epochs=4, resume=True, record=tmp_path / "run", sample_weight=np.arange(90))
    fit(whole, epochs=4, sample_weight=np.arange(90))
    assert bits(trainer) == bits(whole)
    moment = trainer.run.at(7)
    assert moment.proved and trainer.explain("body.weight[0, 0]", step=7)
    with pytest.raises(ReplayError, match="this training has several arrays as its input"):
        _ = moment.x
    assert cr.load_run(tmp_path / "run", make(), X["tuple"], Y[dict], np.arange(90)).at(5).proved
    trainer.save(tmp_path / "model.safetensors")
    other = make()
    other.load(tmp_path / "model.safetensors")
    assert bits(other) == bits(trainer)


def test_what_shows_one_array_says_so():
    trainer = make()
    fit(trainer, record=True)
    for call in (trainer.diagnose, trainer.report, lambda: trainer.run.what_if(2, lr=0.1)):
        with pytest.raises(SettingError, match="cannot show trainings with several inputs or targets"):
            call()


class Auto(nn.Module):
    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Linear(4, 2), nn.Linear(2, 4)

    def forward(self, x):
        return x, self.wide(self.narrow(x))


def test_without_targets_the_loss_is_of_the_outputs():
    cr.manual_seed(0)
    trainer = Trainer(Auto(), lambda output: F.mse_loss(output[1], output[0]), "adam", lr=0.02)
    history = trainer.fit(A, epochs=30, batch_size=32, progress=False, validation_split=0.2)
    assert history["loss"][-1] < 0.6 * history["loss"][0] and "val_loss" in history
    weighed = Trainer(Auto(), lambda output: ((output[1] - output[0]) ** 2).mean(1), "adam")
    weighed.fit(A, epochs=1, sample_weight=np.ones(90), progress=False)


def test_losses_with_weights_of_their_own_are_part_of_the_training(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.s = nn.Parameter(cr.zeros(()))

        def forward(self, output, target):
            return F.mse_loss(output, target) * (-self.s).exp() + self.s

    scaled = Scaled()
    cr.manual_seed(0)
    model = Net(dict)
    optimizer = optim.Adam([*model.parameters(), *scaled.parameters()], lr=0.02)
    trainer = Trainer(model, {"price": scaled, "sold": F.cross_entropy}, optimizer)
    fit(trainer)
    assert scaled.s.item() != 0 and any(handle is scaled.s for handle in trainer.session.named().values())
    saved = scaled.s.item()
    trainer.save(tmp_path / "m")
    with cr.no_grad():
        scaled.s.fill_(7)
    trainer.load(tmp_path / "m")
    assert scaled.s.item() == saved


def test_one_program_serves_other_rows_of_the_same_form():
    trainer = make()
    fit(trainer)
    program = trainer.session.programs["training"]
    fit(trainer, (A + 1, B))
    assert trainer.session.programs["training"] is program


@pytest.mark.parametrize(
    ("x", "y", "error", "text"),
    [
        ((A, B[:80]), Y[dict], DataError, "fit: X[1] must have a row for each of X[0], which has 90, got 80."),
        ((A, B), {"price": price[:7], "sold": sold}, DataError, "fit: y['price'] must have a row for each of X[0], which has 90, got 7."),
        (({}, B), Y[dict], None, ""),
        ((A * np.nan, B), Y[dict], DataError, "fit: X[0] must be finite, got 360 NaN"),
        ((A, np.array(["a"] * 90)), Y[dict], DataError, "fit: X[1] must hold numbers, got dtype <U1."),
        ((A, B), price, ShapeError, "fit: there are losses for 'price', 'sold', so there must be targets for the same, got one Tensor."),
        ((A, B), {"price": price}, ShapeError, "fit: there are losses for 'price', 'sold', so there must be targets for the same, got 'price'."),
        ({}, Y[dict], DataError, "fit: X must hold at least one array, got an empty dict."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_by_name(x, y, error, text):
    trainer = make()
    with pytest.raises(error or Exception) as raised:
        fit(trainer, x, y)
    assert str(raised.value).startswith(text)


def test_settings_that_do_not_go_together():
    with pytest.raises(SettingError, match="loss_weights names 'prize', and there are losses for 'price', 'sold'"):
        make(loss_weights={"prize": 2.0})
    with pytest.raises(SettingError, match="say which one the metric 'accuracy' is of"):
        make(metrics=["accuracy"])
    with pytest.raises(SettingError, match="metrics names the output 'prize'"):
        make(metrics={"prize": "mae"})
    with pytest.raises(SettingError, match="loss_weights are for a dict or tuple of losses"):
        Trainer(Auto(), "mse", "adam", loss_weights=[1.0])
    with pytest.raises(SettingError, match="metrics by output go with a loss for each output"):
        Trainer(Auto(), "mse", "adam", metrics={"a": "mae"})
    one = (
        "Weigh the classes of one output in its loss (nn.CrossEntropyLoss(weight=...)), an output as a whole by loss_weights=, and its "
        "rows in a loss of your own that reads them from y."
    )
    with pytest.raises(SettingError) as told:
        fit(make(), class_weight="balanced")
    assert str(told.value) == f"fit: class_weight needs one array of targets, got several. {one}"
    weight = np.ones(len(X))
    for given in ({"price": weight}, (weight, weight)):
        with pytest.raises(DataError) as told:
            fit(make(), sample_weight=given)
        assert (
            str(told.value)
            == f"fit: sample_weight is one number for each row, which all its losses share, got several arrays. {one}"
        )


class Difference(nn.Module):
    def forward(self, output, target):
        return (output - target).mean()


@pytest.mark.parametrize(
    ("loss", "called"),
    [
        ("mse", "mse_loss"),
        (nn.MSELoss(), "MSELoss"),
        (lambda a, b: (a - b).mean(), "<lambda>"),
        (Difference(), "Difference"),
    ],
)
def test_a_loss_that_takes_a_target_and_gets_none(loss, called):
    trainer = cr.Trainer(nn.Linear(2, 1), loss, "sgd")
    for who, call in {"fit": trainer.fit, "evaluate": trainer.evaluate}.items():
        with pytest.raises(DataError) as error:
            call(np.ones((8, 2), "f"))
        assert str(error.value) == (
            f"{who}: y is None, and the loss ({called}) takes a target, too. Pass y (of a file or frame the name of its "
            "column), or give a function of the output alone: loss(output)."
        )


def test_a_loss_that_needs_no_target():
    for loss in (lambda output: output.mean(), lambda output, target=None: output.mean()):
        cr.Trainer(nn.Linear(2, 1), loss, "sgd").fit(np.ones((8, 2), "f"), epochs=1, progress=False)


class Heads(nn.Module):
    """One input, and two outputs."""

    def __init__(self, form):
        super().__init__()
        self.form, self.price, self.sold = form, nn.Linear(4, 1), nn.Linear(4, 3)

    def forward(self, x):
        found = {"price": self.price(x), "sold": self.sold(x)}
        return found if self.form is dict else tuple(found.values())


@pytest.mark.parametrize("form", [dict, tuple])
def test_one_input_and_several_outputs(form):
    losses = {"price": "mse", "sold": F.cross_entropy}
    model = Heads(form)
    trainer = Trainer(
        model, losses if form is dict else tuple(losses.values()), optim.Adam(model.parameters(), lr=0.01)
    )
    trainer.fit(A, Y[form], 2, progress=False)
    with cr.no_grad():
        expected = model(cr.tensor(A))
    loader = DataLoader(TensorDataset(cr.tensor(A)), batch_size=16)
    for data in (A, A.tolist(), cr.tensor(A), loader, as_source((A,)), TensorDataset(cr.tensor(A))):
        for _ in range(2):  # the second call of few rows is another way
            found = trainer.predict(data)
            assert type(found) is form
            for key in ("price", "sold") if form is dict else (0, 1):
                np.testing.assert_allclose(found[key], expected[key].numpy(), rtol=1e-5, atol=1e-6)


def test_outputs_without_a_row_for_each():
    class Mean(Heads):
        def forward(self, x):
            return self.price(x), self.sold(x).mean()

    trainer = Trainer(Mean(tuple), lambda output, target: output[1], "adam")
    with pytest.raises(
        ShapeError, match=r"^predict: each output .*, got shape \(\) for 2 \(output 1\)\. Keep the first axis"
    ):
        trainer.predict(A)
