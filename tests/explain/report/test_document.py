"""The document holds the engine's own numbers, and the page around it lets nothing in or out."""

import base64
import hashlib
import math
import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from tests.explain.report.reading import Read
from tests.explain.report.runs import CLASSES, LAYER, READINGS, TITLE, digits, reading, report

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.errors import SettingError
from chainrule.explain.report import document
from chainrule.explain.report.page import plain


@pytest.fixture(scope="module")
def page():
    return report().html


@pytest.fixture(scope="module")
def read(page):
    return Read(page)


def test_weights_gradients_and_losses_are_those_of_the_replayed_step(read):
    run = digits().run
    for frame in read.document["frames"]:
        moment = run.at(frame["step"])
        assert frame["loss"] == moment.loss
        assert frame["rows"] == moment.rows.tolist()
        for described, measured in zip(read.document["parameters"], frame["params"], strict=True):
            name = described["name"]
            assert read.tensor(measured["value"]).tobytes() == moment.weights[name].tobytes()
            assert read.tensor(measured["grad"]).tobytes() == moment.gradients[name].tobytes()
            assert measured["grad_norm"] == pytest.approx(np.linalg.norm(moment.gradients[name]), rel=1e-6)


def test_every_value_of_the_sample_is_the_one_the_program_computed(read):
    frame = read.document["frames"][2]
    moment = digits().run.at(frame["step"])
    nodes = read.document["graph"]["nodes"]
    outputs = {node["label"]: i for i, node in enumerate(nodes) if node["op"] == "relu"}
    shown = read.tensor(frame["values"][str(outputs["relu"])])
    assert shown.tobytes() == moment.activations["act"][frame["probe"]].tobytes()
    gradient = read.tensor(frame["grads"][str(outputs["relu"])])
    assert gradient.tobytes() == moment.activation_gradients["act"][frame["probe"]].tobytes()


def test_the_samples_behind_a_weight_add_up_to_its_gradient(read):
    frame = next(f for f in read.document["frames"] if f["whole"])
    for described, measured in zip(read.document["parameters"], frame["params"], strict=True):
        product = described["contraction"]
        if product is None:
            continue
        x, dY = read.tensor(frame["batch"][str(product["x"])]), read.tensor(frame["batch_grads"][str(product["out"])])
        assert product["transposed"]
        np.testing.assert_allclose(dY.T.astype(float) @ x, read.tensor(measured["grad"]), rtol=1e-4, atol=1e-6)


def test_predictions_are_those_of_the_weights_at_that_step(read):
    frame = read.document["frames"][0]
    X, y = cr.data.load("digits").test
    weights = digits().run.weights(frame["step"])
    hidden = np.maximum(X @ weights[f"{LAYER}.weight"].T + weights[f"{LAYER}.bias"], 0)
    logits = hidden @ weights["out.weight"].T + weights["out.bias"]
    assert (read.tensor(frame["predictions"]) == logits.argmax(1)).mean() > 0.99  # a tie may fall either way
    assert (read.tensor(read.document["data"]["labels"]) == y).all()


def test_the_trainer_is_as_it_was():
    trainer = digits()
    before = {name: p.detach().numpy().copy() for name, p in trainer.model.named_parameters()}
    history, position = trainer.history, trainer.position
    report(frames=3)
    assert all((before[name] == p.detach().numpy()).all() for name, p in trainer.model.named_parameters())
    assert trainer.history is history
    assert trainer.position is position


def test_frames_are_left_out_until_the_page_fits_and_the_ends_stay():
    all_of_it = report(frames=8).html
    whole, part = Read(all_of_it), Read(report(frames=8, budget=len(all_of_it) * 3 // 4).html)
    assert 2 <= len(part.document["frames"]) < len(whole.document["frames"])
    for end in (0, -1):
        assert part.document["frames"][end]["step"] == whole.document["frames"][end]["step"]


@pytest.mark.parametrize("name", READINGS)
def test_predictions_are_what_the_loss_says_of_the_outputs(name):
    trainer, x, y = reading(name)
    found = Read(trainer.report().html)
    assert found.document["meaning"] == ("logits" if name == "one_hot" else name)
    if name == "values":
        assert found.document["data"] is None
        with pytest.raises(SettingError) as caught:
            trainer.report(class_names=["no", "yes"])
        assert str(caught.value) == (
            "report: class_names was given, and under mse_loss the outputs are values and no classes. Leave it out."
        )
        return
    last = found.document["frames"][-1]
    assert found.document["data"]["classes"] == ["0", "1"]
    assert found.tensor(found.document["data"]["labels"]).tolist() == y.tolist()
    weight, bias = (p.detach().numpy() for p in trainer.model.parameters())
    z = x.astype(np.float64) @ weight.T + bias
    margin = z[:, 1] - z[:, 0] if z.shape[1] == 2 else z[:, 0]
    assert found.tensor(last["predictions"]).tolist() == (margin > 0).astype(int).tolist()
    sure = 1 / (1 + np.exp(-np.abs(margin)))
    np.testing.assert_allclose(found.tensor(last["confidence"]), sure, rtol=1e-5)


def test_rows_whose_label_is_ignored_are_not_shown():
    trainer, x, y = reading("logits")
    some = np.where(np.arange(80) % 5 == 0, -100, y)
    found = Read(trainer.report(data=(x, some), frames=1).html)
    assert found.tensor(found.document["data"]["labels"]).tolist() == y[some >= 0].tolist()
    assert found.document["data"]["shown"] == 64


def test_names_and_pictures_that_do_not_fit_are_refused():
    trainer, x, y = reading("logits")
    alone = cr.Trainer(trainer.model, "cross_entropy", "sgd", lr=0.1)
    alone.fit(x, y, epochs=1, progress=False)
    with pytest.raises(SettingError, match="must name each of the 2 classes, got 3 names"):
        alone.report(class_names=["a", "b", "c"])
    for names, came in ((["a"], "1 names"), (["a", "b", "c"], "3 names"), ("ab", "the text 'ab'")):
        with pytest.raises(SettingError) as caught:
            trainer.report(class_names=names)
        assert str(caught.value) == (
            f"report: class_names must name each of the 2 classes, got {came}. Give a list of 2 texts, by class number."
        )
    width = x.shape[1]
    for shape in ((width, 2), width, (1, width, 1), (-1, -width)):
        with pytest.raises(SettingError) as caught:
            trainer.report(image_shape=shape)
        assert str(caught.value) == (
            f"report: image_shape must be (rows, columns) whose product is the {width} numbers of a row of X, got {shape!r}. "
            f"Leave it out where rows are no pictures."
        )


def test_class_names_of_outputs_that_nobody_explains():
    model = nn.Linear(3, 2)
    trainer = cr.Trainer(model, lambda a, b: F.cross_entropy(a, b), optim.SGD(model.parameters(), lr=0.1))
    _, x, y = reading("logits")
    trainer.fit(x, y, epochs=1, progress=False, validation_data=(x, y))
    assert Read(trainer.report().html).document["meaning"] is None
    with pytest.raises(
        SettingError, match=r"^report: class_names needs to know what the outputs mean, and the loss <lambda>"
    ):
        trainer.report(class_names=["no", "yes"])


def test_without_a_record_the_page_shows_the_step_that_would_follow():
    cr.manual_seed(1)
    data = cr.data.load("digits")
    model = nn.Linear(64, 10)
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(*data.train, epochs=1, batch_size=64, progress=False)
    before = model.weight.detach().numpy().copy()
    found = Read(trainer.report().html)
    (frame,) = found.document["frames"]
    rows = frame["rows"]
    x, y = cr.tensor(data.train.X[rows]), cr.tensor(data.train.y[rows])
    F.cross_entropy(model(x), y).backward()
    shown = found.tensor(frame["params"][0]["grad"])
    assert shown.tobytes() == model.weight.grad.numpy().tobytes()
    assert (model.weight.detach().numpy() == before).all()
    assert found.document["data"] is None
    assert found.document["diagnosis"] is None
    assert found.document["checks"] is None


def test_a_trainer_that_was_never_trained_has_nothing_to_report():
    model = nn.Linear(2, 2)
    trainer = cr.Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(SettingError) as caught:
        trainer.report()
    assert str(caught.value) == (
        "Trainer.report: nothing was trained yet, so there is no step to show. Call fit first."
    )


def test_an_empty_report_says_so():
    with pytest.raises(SettingError) as caught:
        document.Report(digits(), "empty").html()
    assert str(caught.value) == "report: no step was recorded. Train with a recorder, or call add() first."


def test_numbers_that_json_lacks_become_text():
    assert plain({1: [math.nan, math.inf, (-math.inf, 2.5)]}) == {"1": ["NaN", "Infinity", ["-Infinity", 2.5]]}


# -- the file -----------------------------------------------------------------------------------------


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def tags(page):
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_the_policy_lets_in_only_the_page_s_own_script_and_style(page):
    policy = next(
        a["content"] for t, a in tags(page) if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    for kind, opening in (("script-src", "<script>"), ("style-src", "<style>")):
        inside = (
            page.split(opening)[1].split("</")[0]
            if kind == "style-src"
            else page.rsplit(opening, 1)[1].split("</script>")[0]
        )
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy


def test_the_file_names_no_other_place(page):
    names = [a[key] for _, a in tags(page) for key in ("src", "href", "action", "data") if key in a]
    assert names == ["data:,"]
    assert not re.search(r"@import|url\(", page.split("<style>")[1].split("</style>")[0])


def test_names_are_text_wherever_they_stand(page):
    title = page.split("<title>")[1].split("</title>")[0]
    assert unescape(title) == TITLE
    assert "<script>alert" not in page
    read = Read(page)
    assert read.document["data"]["classes"] == CLASSES
    assert read.document["parameters"][0]["name"] == f"{LAYER}.weight"


def test_in_a_notebook_it_is_a_frame_of_its_own(tmp_path):
    page = report(path=tmp_path / "report.html", frames=1)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page.html
    (tag, attributes), *_ = tags(page._repr_html_())
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == page.html
    assert repr(page) == f"<Page: {len(page.html.encode()):,} bytes; .save(path) writes it>"
