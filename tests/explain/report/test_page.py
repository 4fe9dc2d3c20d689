"""The page in a real browser: its numbers, its quiet, its reach by keyboard, and what axe says of it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from tests.browser import axe, launched
from tests.explain.report.runs import CLASSES, LAYER, READINGS, TITLE, digits, reading, report

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.explain.ledger import Ledger
from chainrule.explain.report import Page, passes
from chainrule.explain.report.document import Report
from chainrule.explain.verify import rules

VIEWS = ["Network", "Training", "Data", "What if", "Diagnosis"]


class _Diagnosis:
    """In the form that `Trainer.diagnose` returns; the page shows it, it does not make it."""

    def as_dict(self):
        scores = {"training": {"own": 2.301, "accuracy": 0.11}, "held_out": {"own": 2.305, "accuracy": 0.09}}
        better = {"training": {"own": 0.21, "accuracy": 0.94}, "held_out": {"own": 0.3, "accuracy": 0.91}}
        remedy = {
            "remedy": "learning rate divided by 100",
            "control": False,
            "gain": 0.87,
            "least": 0.85,
            "replays": 3,
            "before": scores,
            "after": better,
        }
        curves = {"at": [0, 10, 20, 30], "before": [2.3, 2.31, 2.3, None], "after": [2.3, 1.1, 0.5, 0.21]}
        other = {**remedy, "cause": "bad_initialisation", "remedy": "weights drawn anew", "gain": 0.01}
        finding = {
            "claim": "The learning rate is too high", "name": "learning_rate_high", "where": "<i>layer</i>", "step": 12,
            "evidence": "the loss rose in 41 of 60 steps", "why": "Steps go too far.", "change": "optim.Adam(..., lr=1e-3).", "remedy": {**remedy, "curves": curves}, "alternatives": [other],
        }  # fmt: skip
        return {
            "verdict": "found", "bad": "", "tried": [], "summary": "The run learned nothing.", "notes": ["Replays were exact."], "checked": ["learning_rate_high"],
            "suspected": ["learning_rate_high"], "replays": 9, "exact": True, "findings": [finding],
        }  # fmt: skip


DIAGNOSIS = _Diagnosis()


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    report(path=path, checks=rules())
    return path.as_uri()


class Watched:
    """A tab that remembers what went wrong in it and what it asked for."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.context.set_default_timeout(8000)
        self.tab = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.tab.goto(address, timeout=60_000)  # a server makes the page when it is first asked
        self.tab.wait_for_selector("#page[data-ready]")

    def view(self, name):
        self.tab.get_by_role("tab", name=name).click()

    def to_the_end(self):
        self.tab.get_by_role("slider", name="Recorded step").press("End")

    def number(self, selector, attribute="data-value"):
        return float(self.tab.locator(selector).first.get_attribute(attribute))


@pytest.fixture
def watched(browser, file):
    opened = []

    def open_page(address=file, **options):
        opened.append(Watched(browser, address, **options))
        return opened[-1]

    yield open_page
    for page in opened:
        errors = page.errors
        page.context.close()
        assert errors == []


def walk(page):
    """Every view, with everything that folds unfolded."""
    for name in VIEWS:
        page.view(name)
        folds = page.tab.locator("details:not([open]) > summary")
        while folds.count():
            folds.first.click()
        yield name


# -- what it shows ---------------------------------------------------------------------------------------


def test_the_numbers_on_the_page_are_the_engine_s(watched):
    page, run = watched(), digits().run
    frames = page.tab.locator("input[type=range]")
    seen = set()
    for place in range(int(frames.get_attribute("max")) + 1):
        frames.fill(str(place))
        loss = page.number("[data-name=loss]")
        step = int(page.tab.locator(".now b").first.inner_text().replace(",", ""))
        moment = run.at(step)
        assert loss == moment.loss
        page.tab.get_by_role("button", name="out.weight").click()
        page.tab.get_by_role("spinbutton", name="Row").fill("7")
        page.tab.get_by_role("spinbutton", name="Column").fill("11")
        assert page.number("dd[data-name=value] .num") == moment.weights["out.weight"][7, 11]
        assert page.number("dd[data-name=gradient] .num") == moment.gradients["out.weight"][7, 11]
        assert page.number("[data-engine]", "data-engine") == moment.gradients["out.weight"][7, 11]
        seen.add(loss)
    assert len(seen) == 6


def test_the_derivation_and_the_ledger_are_those_of_the_explanation(watched):
    page = watched()
    for name in ("out.weight", f"{LAYER}.weight"):
        page.tab.get_by_role("button", name=name).click()
        place = [int(page.tab.get_by_role("spinbutton", name=axis).input_value()) for axis in ("Row", "Column")]
        step = int(page.tab.locator(".now b").first.inner_text().replace(",", ""))
        moment = digits().run.at(step)
        position = place[0] * moment.weights[name].shape[1] + place[1]
        assert position == np.abs(moment.gradients[name]).argmax()  # shown first is what is pulled most
        derivation, ledger = moment.explain(name, position), Ledger(moment, name, position)
        assert page.number("[data-name=derived] .num") == float(derivation.gradient)
        assert page.number("[data-name=move] .num") == float(ledger.move)
        amounts = [float(n.get_attribute("data-value")) for n in page.tab.locator(".ledger tbody .num").all()]
        assert amounts == [*(part.amount for part in ledger.parts), float(ledger.rounding)]
        assert ("adds up to the bit" in page.tab.locator(".derivation").inner_text()) == derivation.adds_up
        assert page.tab.locator(".path").count() == len(derivation.strongest(3))


def test_a_number_is_written_as_it_is_rounded(watched):
    page = watched()
    page.tab.get_by_role("button", name="out.bias").click()
    for shown in page.tab.locator("dd .num").all():
        value, text = float(shown.get_attribute("data-value")), shown.inner_text()
        assert float(text.replace("\u2212", "-")) == pytest.approx(value, rel=1e-5)
        assert text[0] == ("+" if value > 0 else "\u2212" if value < 0 else "0")


def test_the_confusion_matrix_and_the_accuracy_are_those_of_the_predictions(watched):
    page = watched()
    page.view("Data")
    X, y = cr.data.load("digits").test
    step = int(page.tab.locator(".now b").first.inner_text().replace(",", ""))
    run = digits().run
    with run.replay.lent() as program:
        run.replay.go_to(step, program)
        predicted = digits().predict_classes(X)
    rows = page.tab.locator(".confusion tbody tr").all()
    shown = [[int(cell.inner_text().replace("·", "0")) for cell in row.locator("td").all()] for row in rows]
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (y, predicted), 1)
    assert shown == expected.tolist()
    accuracy = float(page.tab.locator("[data-name=accuracy]").inner_text().split()[0])
    assert accuracy == pytest.approx(100 * (predicted == y).mean(), abs=0.01)
    assert page.tab.locator(".mistakes li").count() == min(24, (predicted != y).sum())


def test_a_cell_of_the_matrix_chooses_its_images(watched):
    page = watched()
    page.to_the_end()
    page.view("Data")
    cell = page.tab.locator(".confusion td button").first
    count = int(cell.inner_text())
    cell.click()
    assert page.tab.locator(".mistakes li").count() == count
    page.tab.get_by_role("button", name="Show all").click()
    assert page.tab.locator(".mistakes li").count() > count


def test_one_pass_is_stepped_forwards_and_back(watched):
    page = watched()
    page.tab.get_by_role("button", name="Next op").click()
    assert "1 of " in page.tab.locator(".stepper output").inner_text()
    page.tab.get_by_role("button", name="To the backward pass").click()
    assert "backward" in page.tab.locator(".stepper output").inner_text()
    assert page.tab.locator(".box.current").count() >= 1
    assert page.tab.locator(".box.pending").count() > 3
    total = int(page.tab.locator(".stepper output").inner_text().split(" of ")[1].split()[0])
    for _ in range(total):
        if page.tab.get_by_role("button", name="Next op").is_disabled():
            break
        page.tab.get_by_role("button", name="Next op").click()
    assert f"{total} of {total}" in page.tab.locator(".stepper output").inner_text()
    assert page.tab.locator(".box.pending").count() == 0
    page.tab.get_by_role("button", name="Back to the previous op").click()
    assert f"{total - 1} of {total}" in page.tab.locator(".stepper output").inner_text()


def test_the_chain_rule_at_an_op_stands_there_with_its_numbers(watched):
    page = watched()
    page.tab.get_by_role("button", name="Open all").click()
    page.tab.locator('[aria-label^="Backward: op ∂ relu"]').click()
    assert page.tab.locator("#panel-title").inner_text() == "backward of relu"
    formulas = page.tab.locator(".formula math")
    assert formulas.count() == 2
    assert "otherwise" in formulas.first.text_content()
    assert page.tab.locator(".formula").nth(1).get_attribute("aria-label").endswith("numbers of element 0 put in")
    (relu,) = (verdict for verdict in rules().of("rules") if verdict.subject == "relu")
    assert relu.detail.endswith("derivatives agree")
    assert relu.detail in page.tab.locator(".panel").first.inner_text()


def test_what_was_not_run_is_not_claimed(watched):
    page = watched()
    page.view("Diagnosis")
    assert "The diagnosis was not run" in page.tab.locator("#view-diagnosis").inner_text()
    assert "Nothing fails" in page.tab.locator("#view-diagnosis").inner_text()


def test_a_finding_stands_there_with_its_experiment(watched, tmp_path):
    report(path=tmp_path / "found.html", diagnosis=DIAGNOSIS)
    page = watched((tmp_path / "found.html").as_uri())
    page.view("Diagnosis")
    card = page.tab.locator("article.finding")
    assert card.locator("h3").inner_text() == "1. The learning rate is too high"
    assert "<i>layer</i> · first seen after step 12" in card.inner_text()
    assert "learning rate divided by 100" in card.inner_text()
    assert "as it was from 2.3 to 2.3" in card.locator("[role=img]").get_attribute("aria-label")
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in card.locator("tbody tr").all()
    }
    assert rows["loss, held out"] == ["2.305", "0.3"]
    card.locator("summary", has_text="1 other explanations").click()
    card.get_by_text("weights drawn anew").wait_for()
    assert "The check was not run" in page.tab.locator("#view-diagnosis").inner_text()
    script = axe()
    page.tab.evaluate(script)
    assert page.tab.evaluate("axe.run().then(r => r.violations.map(v => v.id))") == []


# -- what if ---------------------------------------------------------------------------------------------


def at_once(page, name):
    """A number of the table "At once" (loss or gradient, before or after)."""
    return page.number(f"[data-name={name}] .num")


def step_of(page):
    return int(page.tab.locator(".now b").first.inner_text().replace(",", ""))


def test_what_if_a_weight_were_another(watched):
    page = watched()
    page.view("What if")
    page.tab.locator(".change select").first.select_option("out.weight")
    page.tab.get_by_role("spinbutton", name="Row").fill("3")
    page.tab.get_by_role("spinbutton", name="Column").fill("5")
    run, step, address = digits().run, step_of(page), "out.weight[3, 5]"
    for value in (0.75, -1.5):
        page.tab.get_by_label("New value, typed").fill(str(value))
        page.tab.get_by_label("New value, typed").press("Enter")
        found = run.what_if(step, 1, weights={address: value})
        assert page.number("[data-name=before] .num") == run.at(step).weights["out.weight"][3, 5]
        assert at_once(page, "loss-before") == pytest.approx(found.original.losses[0], rel=2e-6)
        assert at_once(page, "loss-after") == pytest.approx(found.changed.losses[0], rel=2e-6)
        assert at_once(page, "gradient-before") == found.original.gradients[address]
        assert at_once(page, "gradient-after") == pytest.approx(found.changed.gradients[address], rel=1e-4, abs=1e-6)
    assert "the loss of the batch" in page.tab.locator("[role=status]").inner_text()


def test_what_if_an_input_or_a_label_were_another(watched):
    page = watched()
    page.view("What if")
    run, step = digits().run, step_of(page)
    row = int(run.at(step).rows[5])
    page.tab.get_by_role("button", name="Input", exact=True).click()
    page.tab.get_by_label("Row of the batch").select_option(str(row))
    page.tab.get_by_label("Feature").fill("27")
    page.tab.get_by_label("New value, typed").fill("3")
    page.tab.get_by_label("New value, typed").press("Enter")
    found = run.what_if(step, 1, inputs={(row, 27): 3.0})
    assert at_once(page, "loss-after") == pytest.approx(found.changed.losses[0], rel=2e-6)
    assert page.tab.locator("#predictions-title").count() == 1
    page.tab.get_by_role("button", name="Label", exact=True).click()
    page.tab.get_by_label("Row of the batch").select_option(str(row))
    label = (int(run.at(step).y[5]) + 1) % 10
    page.tab.get_by_label("If it were").select_option(str(label))
    found = run.what_if(step, 1, labels={row: label})
    assert found.original.losses[0] != found.changed.losses[0]
    assert at_once(page, "loss-before") == pytest.approx(found.original.losses[0], rel=2e-6)
    assert at_once(page, "loss-after") == pytest.approx(found.changed.losses[0], rel=2e-6)


def test_what_the_network_says_under_a_change(watched):
    page = watched()
    page.to_the_end()
    page.view("What if")
    page.tab.get_by_role("button", name="Input", exact=True).click()
    page.tab.get_by_label("New value, typed").fill("-20")
    page.tab.get_by_label("New value, typed").press("Enter")
    moment = digits().run.at(step_of(page))
    logits = moment.output[0].astype(np.float64)
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    rows = page.tab.locator(".answers tbody tr").all()
    shown = [float(row.locator("td").first.get_attribute("data-value")) for row in rows]
    np.testing.assert_allclose(shown, expected, atol=1e-6)
    changed = [float(row.locator("td").nth(1).get_attribute("data-value")) for row in rows]
    assert sum(changed) == pytest.approx(1)
    assert np.abs(np.subtract(shown, changed)).max() > 0.01


# Under BCELoss the page computes nothing again: the derivative of that loss is one of its own.
@pytest.mark.parametrize("name", [name for name in READINGS if name not in ("values", "binary_probabilities")])
def test_what_outputs_mean_follows_from_the_loss(watched, tmp_path, name):
    trainer, x, _ = reading(name)
    trainer.report(tmp_path / "page.html")
    page = watched((tmp_path / "page.html").as_uri())
    page.view("What if")
    page.tab.get_by_role("button", name="Input", exact=True).click()
    page.tab.get_by_label("New value, typed").fill("-20")
    page.tab.get_by_label("New value, typed").press("Enter")
    row = int(page.tab.get_by_label("Row of the batch").input_value())
    cells = page.tab.locator(".answers tbody tr td:nth-child(2)").all()
    shown = [float(cell.get_attribute("data-value")) for cell in cells]
    np.testing.assert_allclose(shown, trainer.predict_proba(x[row : row + 1])[0], rtol=1e-5)


def test_a_regression_has_no_classes_to_compare(watched, tmp_path):
    reading("values")[0].report(tmp_path / "page.html")
    page = watched((tmp_path / "page.html").as_uri())
    page.view("Data")
    assert page.tab.locator("#view-data .hint").inner_text() == (
        "Under this loss the outputs are values, so there are no classes to compare."
    )


def test_the_steps_that_follow_are_the_engine_s(watched):
    page = watched()
    page.view("What if")
    page.tab.locator("input[type=range][aria-label='Recorded step']").fill("0")
    page.tab.get_by_role("button", name="Learning rate", exact=True).click()
    page.tab.get_by_role("button", name="ten times").click()
    found = digits().run.what_if(0, 24, lr=0.1)
    assert page.number("[data-name=course-after] .num") == found.changed.losses[-1]
    page.tab.locator("summary", has_text="Table").first.click()
    second = page.tab.locator("#view-whatif tbody tr").nth(1)
    second.wait_for()
    shown = [float(n.get_attribute("data-value")) for n in second.locator(".num").all()]
    assert (shown[0], shown[-1]) == (found.original.losses[1], found.changed.losses[1])


def test_what_a_file_did_not_replay_is_not_claimed(watched):
    page = watched()
    page.view("What if")
    page.tab.get_by_role("button", name="\u221210 %").click()
    assert page.tab.locator("[data-name=course-after]").count() == 0
    assert "replays any change from any step" in page.tab.locator("#view-whatif").inner_text()


def test_a_weight_of_the_graph_can_be_asked_about(watched):
    page = watched()
    place = [page.tab.get_by_role("spinbutton", name=axis).input_value() for axis in ("Row", "Column")]
    page.tab.get_by_role("button", name="What if it were another?").click()
    assert page.tab.get_by_role("tab", name="What if").get_attribute("aria-selected") == "true"
    assert [page.tab.get_by_role("spinbutton", name=axis).input_value() for axis in ("Row", "Column")] == place


class Windows(nn.Module):
    """A convolution out of slices, with padding, turned and joined; the largest of each window."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(9, 4), nn.Linear(8, 3)

    def forward(self, x):
        image = F.elu(x.reshape(-1, 6, 6))
        windows = [image[:, i : i + 4, j : j + 4].reshape(-1, 16, 1) for i in range(3) for j in range(3)]
        found = self.inner(cr.cat(windows, -1)).relu()
        halves = found.amax(1), found.flip(1)[:, ::3].amin(1)
        return self.out(cr.cat(halves, 1))


class Normed(nn.Module):
    """Normalised over the batch, then over each row."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(36, 8), nn.Linear(8, 3)

    def forward(self, x):
        h = self.inner(x)
        h = F.gelu((h - h.mean(0)) / (h.var(0) + 1e-5).sqrt())
        return self.out((h - h.mean(1, keepdim=True)) * (h.var(1, keepdim=True) + 1e-5).rsqrt())


class Tokens(nn.Module):
    """Rows of a table, and attention among them."""

    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Parameter(cr.randn(7, 4)), nn.Linear(4, 3)

    def forward(self, x):
        h = self.table[x]
        return self.out(((h @ h.transpose(1, 2)).softmax(-1) @ h)[:, -1])


NETWORKS = {
    "windows": Windows, "normed": Normed, "tokens": Tokens,
    "smooth": lambda: nn.Sequential(nn.Linear(36, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 3), nn.ELU(), nn.SiLU()),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_page_computes_a_step_as_the_engine_does(watched, tmp_path, name):
    """The page's own forward pass, over many ops, against the engine's loss of the same step."""
    cr.manual_seed(0)
    rng = np.random.default_rng(0)
    model = NETWORKS[name]()
    x = rng.integers(0, 7, (24, 5)) if name == "tokens" else rng.standard_normal((24, 36)).astype(np.float32)
    trainer = cr.Trainer(model, F.cross_entropy, optim.SGD(model.parameters(), lr=0.1))
    trainer.fit(x, rng.integers(0, 3, 24), epochs=2, batch_size=8, progress=False, record=True)
    trainer.report(tmp_path / "page.html", frames=2, data=(x, rng.integers(0, 3, 24)))
    page = watched((tmp_path / "page.html").as_uri())
    page.view("What if")
    loss, step = page.number("[data-name=loss]"), step_of(page)
    assert at_once(page, "loss-before") == pytest.approx(loss, rel=2e-6)
    address = page.tab.locator(".what-if caption").first.inner_text().split(" = ")[0]
    found = trainer.run.what_if(step, 1, weights={address: page.number("[data-name=after] .num")})
    assert at_once(page, "loss-after") == pytest.approx(found.changed.losses[0], rel=2e-6)
    assert at_once(page, "gradient-after") == pytest.approx(found.changed.gradients[address], rel=1e-3, abs=1e-6)


# -- what it keeps to itself -----------------------------------------------------------------------------


def test_no_request_leaves(watched, file):
    page = watched()
    for _ in walk(page):
        page.tab.wait_for_timeout(30)
    assert [url for url in page.requests if not url.startswith(("data:", "blob:"))] == [file]


def test_names_with_markup_stay_text(watched):
    page = watched()
    assert page.tab.locator("h1").inner_text() == TITLE
    assert page.tab.locator("aside button").first.inner_text() == f"{LAYER}.weight"
    page.view("Data")
    assert page.tab.locator(".confusion thead th").nth(1).inner_text() == CLASSES[0]
    for _ in walk(page):
        assert page.tab.locator("#page img, #page b b, #page script").count() == 0


# -- who can use it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_axe_finds_nothing_in_any_view(watched, scheme, width):
    script = axe()
    page = watched(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.tab.evaluate(script)
    page.tab.get_by_role("button", name="Open all").click()
    for name in walk(page):
        if name == "Network":
            page.tab.locator('[aria-label^="Backward: op ∂ matmul"]').first.dispatch_event("click")
        found = page.tab.evaluate("axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)")
        told = [(v["id"], v["nodes"][0]["html"][:120], v["nodes"][0]["failureSummary"][:200]) for v in found]
        assert told == [], f"{name}: {json.dumps(told, indent=1)}"


@pytest.mark.parametrize("width", [390, 360])
def test_a_phone_scrolls_in_one_direction_only(watched, width):
    page = watched(viewport={"width": width, "height": 780})
    page.tab.get_by_role("button", name="Open all").click()
    for name in walk(page):
        wide = page.tab.evaluate(
            """width => [...document.querySelectorAll('#page *')]
            .filter(e => e.getBoundingClientRect().right > width && !e.closest('.scroll, svg, .tabs, .hidden'))
            .map(e => e.outerHTML.slice(0, 80))""",
            width,
        )
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= width, (name, wide)


def focus(page):
    return page.tab.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")


def press_until(page, text, most=60):
    for _ in range(most):
        page.tab.keyboard.press("Tab")
        if text in (focus(page) or ""):
            return
    raise AssertionError(f"{text!r} was not reached by Tab; the focus is on {focus(page)!r}")


def test_everything_is_reached_by_keyboard_alone(watched):
    page = watched()
    keyboard = page.tab.keyboard
    press_until(page, "Network")
    for name in VIEWS[1:]:
        keyboard.press("ArrowRight")
        assert focus(page) == name
        assert (
            page.tab.locator("[role=tabpanel]:visible").get_attribute("id") == f"view-{name.lower().replace(' ', '')}"
        )
    keyboard.press("ArrowRight")
    assert focus(page) == "Network"
    press_until(page, "Next op")
    keyboard.press("Enter")
    assert "1 of " in page.tab.locator(".stepper output").inner_text()
    press_until(page, "Forward: ")
    before = focus(page)
    keyboard.press("ArrowRight")
    page.tab.wait_for_timeout(60)
    assert focus(page) != before
    keyboard.press("Enter")
    assert page.tab.locator(".box.selected").get_attribute("aria-label") == focus(page)
    keyboard.press("n")
    assert "2 of " in page.tab.locator(".stepper output").inner_text()
    keyboard.press("p")
    assert "1 of " in page.tab.locator(".stepper output").inner_text()
    press_until(page, "Recorded step", 200)
    assert page.tab.locator(".now b").first.inner_text() == "0"
    keyboard.press("End")
    assert int(page.tab.locator(".now b").first.inner_text()) > 0
    keyboard.press("Home")
    assert page.tab.locator(".now b").first.inner_text() == "0"


def boxes(page):
    return page.tab.locator(".box").evaluate_all("all => all.map(box => box.getAttribute('aria-label'))")


def on_a_module(watched):
    """A page with the focus on the first module of the network, and what that is called."""
    page = watched()
    press_until(page, "Forward: ")
    page.tab.keyboard.press("ArrowRight")
    page.tab.wait_for_timeout(60)
    return page, focus(page)


def test_steps_through_the_pass_open_modules_and_the_focus_stays(watched):
    page, module = on_a_module(watched)
    keyboard = page.tab.keyboard
    for _ in range(4):  # into the module, past its box
        keyboard.press("n")
        page.tab.wait_for_timeout(100)
        assert focus(page) in boxes(page)
    assert module not in boxes(page)
    step = page.tab.url
    keyboard.press("p")  # the keyboard is alive
    page.tab.wait_for_timeout(100)
    assert page.tab.url != step and focus(page) in boxes(page)


def test_a_module_opens_and_closes_by_keyboard_and_the_focus_stays(watched):
    page, module = on_a_module(watched)
    keyboard, closed = page.tab.keyboard, boxes(page)
    keyboard.press("o")
    page.tab.wait_for_timeout(60)
    assert len(boxes(page)) > len(closed)
    inside = focus(page)
    assert inside in boxes(page) and inside not in closed
    keyboard.press("ArrowRight")  # the keyboard is alive
    page.tab.wait_for_timeout(60)
    assert focus(page) in boxes(page) and focus(page) != inside
    keyboard.press("ArrowLeft")
    page.tab.wait_for_timeout(60)
    keyboard.press("o")
    page.tab.wait_for_timeout(60)
    assert boxes(page) == closed and focus(page) == module


# The labels of a rate that moves little have many digits: they were cut on the left.
def test_labels_of_an_axis_have_room(watched, tmp_path):
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.002)
    falling = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - 0.004 * epoch)
    trainer = cr.Trainer(model, F.cross_entropy, optimizer, scheduler=falling)
    x = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    trainer.fit(x, (x[:, 0] > 0).astype(int), epochs=12, progress=False, record=True)
    trainer.report(tmp_path / "page.html")
    page = watched((tmp_path / "page.html").as_uri())
    page.view("Training")
    rates = page.tab.locator("figure", has_text="Learning rate")
    rooms = page.tab.locator("figure .u-over").evaluate_all("all => all.map(e => parseFloat(e.style.left))")
    assert begins(rates.locator(".u-over")) >= 4 + 5 + 7 * len("0.00198") > min(rooms) >= 54


def begins(plot):
    """Where the plot begins, behind the labels of its axis."""
    return float(plot.first.evaluate("e => parseFloat(e.style.left)"))


# -- the address -------------------------------------------------------------------------------------------------


def place(page):
    return page.tab.evaluate("location.hash")


def test_the_address_says_what_is_shown_and_leads_there(watched, file):
    page = watched()
    assert place(page).startswith("#view=network&step=0&weight=")
    page.to_the_end()
    page.tab.get_by_role("button", name="out.weight").click()
    page.tab.get_by_role("spinbutton", name="Row").fill("3")
    page.tab.get_by_role("spinbutton", name="Column").fill("5")
    page.view("Training")
    step = step_of(page)
    assert f"view=training&step={step}&weight=out.weight%5B3%2C+5%5D" in place(page)
    other = watched(file + place(page))
    assert other.tab.get_by_role("tab", name="Training").get_attribute("aria-selected") == "true"
    assert step_of(other) == step
    other.view("Network")
    assert other.tab.locator("#panel-title").inner_text() == "out.weight"
    assert other.tab.get_by_role("spinbutton", name="Row").input_value() == "3"
    other.tab.go_back()
    assert other.tab.get_by_role("tab", name="Training").get_attribute("aria-selected") == "true"


@pytest.mark.parametrize(
    "asked",
    [
        "view=nothing&step=-3&weight=out.weight[99, 0]", "weight=<img src=x>[1]", "step=1e9&node=99999", "module=-1&open=x,9999",
        "node=0&element=999999999&pass=sideways", "%", "weight=out.weight[0]", "step=0x1F&open=,,,",
    ],
)  # fmt: skip
def test_an_address_that_asks_for_what_is_not_there_shows_the_page(watched, file, asked):
    page = watched(f"{file}#{asked}")
    assert page.tab.get_by_role("tab", name="Network").get_attribute("aria-selected") == "true"
    assert page.tab.locator(".graph .box").count() > 3


@pytest.mark.parametrize("width", [1366, 1400])
def test_the_whole_of_a_small_network_is_in_sight(watched, tmp_path, width):
    cr.manual_seed(0)
    x, y = np.random.default_rng(0).normal(size=(64, 8)).astype("f"), np.arange(64) % 3
    layers = [nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)]
    model = nn.Sequential(*layers)
    trainer = cr.Trainer(model, F.cross_entropy, optim.Adam(model.parameters()))
    trainer.fit(x, y, epochs=2, progress=False, record=True)
    trainer.report(tmp_path / "page.html", frames=2)
    page = watched((tmp_path / "page.html").as_uri(), viewport={"width": width, "height": 800})
    graph = page.tab.locator(".graph").bounding_box()
    for box in page.tab.locator(".box .face").all():
        where = box.bounding_box()
        assert graph["x"] <= where["x"] and where["x"] + where["width"] <= graph["x"] + graph["width"]


def test_the_focus_is_always_visible(watched):
    page = watched()
    seen = set()
    for _ in range(40):
        page.tab.keyboard.press("Tab")
        look = page.tab.evaluate("""() => {
            const e = document.activeElement, ring = e.querySelector(':scope > .ring') || e, s = getComputedStyle(ring);
            return [e.tagName + (e.getAttribute('aria-label') || e.textContent), s.outlineStyle + s.outlineWidth + s.stroke];
        }""")
        if look[0].startswith("BODY"):
            continue  # the end of the page: the next key starts anew
        seen.add(look[0])
        plain = "none" in look[1] and ("none" in look[1].replace("none", "", 1) or "rgba(0, 0, 0, 0)" in look[1])
        assert not plain, look
    assert len(seen) > 12


def test_what_happens_is_said(watched):
    page = watched()

    def said(beginning):  # within the time limit: on a busy machine the page redraws a moment later
        page.tab.locator("[role=status]", has_text=re.compile(f"^{re.escape(beginning)}")).wait_for(state="attached")

    page.tab.locator("input[type=range]").fill("0")
    said("Step 0, epoch 0, loss 2.")
    page.tab.get_by_role("button", name="Next op").click()
    said("Step 1 of ")


def test_every_picture_has_a_table(watched):
    page = watched()
    for name in VIEWS:
        page.view(name)
        for picture in page.tab.locator("[role=img]:visible").all():
            label = picture.get_attribute("aria-label")
            assert label, name
            assert picture.locator("xpath=ancestor::*[.//table or .//summary[text()='Table']]").count(), (name, label)


def test_colours_follow_the_system_and_the_button(watched):
    page = watched(color_scheme="dark")
    assert page.tab.locator("html").get_attribute("data-theme") == "dark"
    page.tab.get_by_role("button", name="Light").click()
    assert page.tab.locator("html").get_attribute("data-theme") == "light"


def test_on_paper_there_are_no_controls(watched):
    page = watched()
    page.tab.emulate_media(media="print")
    for selector in (".time", ".tabs", ".toolbar", ".zoom"):
        assert not page.tab.locator(selector).first.is_visible()
    assert page.tab.locator("h1").is_visible()


# -- large networks ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A chain of 300 layers: 1,800 nodes, more than 3,000 boxes when every module is open."""
    cr.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(300) for layer in (nn.Linear(4, 4), nn.Tanh())))
    trainer = cr.Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.01))
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((8, 4)).astype(np.float32) for _ in range(2))
    made = Report(trainer, "deep")
    made.add(passes.run(trainer, x, y), 0, 0, list(range(8)))
    path = tmp_path_factory.mktemp("deep") / "deep.html"
    Page(made.html()).save(path)
    return path.as_uri()


def test_a_graph_too_large_for_svg_is_drawn_on_a_canvas_and_walked_by_keyboard(watched, deep):
    page = watched(deep)
    assert page.tab.locator(".graph svg").count() == 1
    page.tab.get_by_role("button", name="Open all").click()
    canvas = page.tab.locator(".graph > canvas")
    assert canvas.count() == 1
    assert page.tab.locator(".graph svg").count() == 0
    canvas.focus()
    before = page.tab.locator("[role=status]").inner_text()
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("ArrowRight")
    said = page.tab.locator("[role=status]").inner_text()
    assert said.startswith("Forward: ") and said != before
    page.tab.keyboard.press("Enter")
    assert page.tab.locator("#panel-title").count() == 1
    page.tab.get_by_role("button", name="Close all").click()
    assert page.tab.locator(".graph svg").count() == 1


# -- served -----------------------------------------------------------------------------------------------


def test_a_served_page_asks_for_weights_its_document_does_not_hold(watched, tmp_path):
    import threading

    from click.testing import CliRunner

    from chainrule.cli import commands
    from chainrule.explain.report.serving import Served

    run = tmp_path / "run"
    assert (
        CliRunner()
        .invoke(commands, ["train", "digits", "--epochs", "1", "--hidden", "256,256", "--out", str(run)])
        .exit_code
        == 0
    )
    served = Served(run)
    server = served.server()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        page = watched(server.url)
        page.tab.locator("input[type=range]").fill("0")
        page.tab.get_by_role("button", name="4.weight").click()
        page.tab.get_by_role("spinbutton", name="Row").fill("200")
        page.tab.get_by_role("spinbutton", name="Column").fill("3")
        page.tab.wait_for_selector("dd[data-name=update]")
        moment = served.run.at(0)
        assert page.number("dd[data-name=gradient] .num") == moment.gradients["4.weight"][200, 3]
        other = next(step for step in range(20) if step not in {frame.step for frame in served.report.frames})
        page.tab.get_by_role("spinbutton", name="Step").fill(str(other))  # the slider does not stop there
        page.tab.get_by_text(f"4.weight[200, 3] at step {other}").wait_for()
        page.tab.wait_for_selector("dd[data-name=update]")
        moment = served.run.at(other)
        assert page.number("dd[data-name=gradient] .num") == moment.gradients["4.weight"][200, 3]
        page.tab.get_by_role("spinbutton", name="Step").fill("0")
        page.tab.get_by_role("button", name="What if it were another?").click()
        page.tab.get_by_label("New value, typed").fill("0.5")
        page.tab.get_by_label("New value, typed").press("Enter")
        page.tab.get_by_text("4.weight[200, 3] = 0.5: at step").wait_for()  # the server is done with the run
        found = served.run.what_if(0, 24, weights={"4.weight[200, 3]": 0.5})
        assert page.number("[data-name=course-after] .num") == found.changed.losses[-1]
        assert page.number("[data-name=loss-after] .num") == found.changed.losses[0]
        assert all(url.startswith((server.url, "data:", "blob:")) for url in page.requests)
    finally:
        server.close()
        thread.join()
