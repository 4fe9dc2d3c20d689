"""How fast the report page draws: a digits run and a chain of 3,000 nodes, in Chromium.

    python benchmarks/page.py

Each figure is the time from the input to the frame in which it is on the screen (two animation frames after the
event, so at least 17-33 ms on a screen of 60 Hz), median of 9.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.explain.report import Page, layout, passes
from chainrule.explain.report.document import Report
from chainrule.training.configuration import build, schedule

ROUNDS = 9
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
CONFIG = {
    "dataset": "digits", "epochs": 20, "batch_size": 32, "lr": 2e-3, "optimizer": "adam", "hidden": "256,256",
    "dropout": 0.5, "noise": 0.15, "label_smoothing": 0.1, "schedule": "cosine", "activation": "relu", "seed": 0,
}  # fmt: skip
DRAWN = """async act => {
    const began = performance.now();
    (0, eval)(act)();
    await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    return performance.now() - began;
}"""
ACTS = {
    "another step (network)": "() => { const r = document.querySelector('.time button:not([disabled])'); r.click(); }",
    "next op": "() => document.querySelectorAll('.stepper button')[1].click()",
    "open all": "() => [...document.querySelectorAll('button')].find(b => b.textContent === 'Open all').click()",
    "close all": "() => [...document.querySelectorAll('button')].find(b => b.textContent === 'Close all').click()",
    "zoom": "() => document.querySelector('.zoom button').click()",
    "view: training": "() => document.querySelector('#tab-training').click()",
    "another step (training)": "() => { const r = document.querySelector('.time button:not([disabled])'); r.click(); }",
    "view: data": "() => document.querySelector('#tab-data').click()",
    "view: what if": "() => document.querySelector('#tab-whatif').click()",
    "another value (what if)": "() => { const r = document.querySelector('.value input[type=range]'); r.stepUp(); r.dispatchEvent(new Event('input', {bubbles: true})); }",
    "view: network": "() => document.querySelector('#tab-network').click()",
}


def digits(path: Path) -> str:
    data, trainer = cr.data.load("digits"), build(CONFIG)
    trainer.fit(
        *data.train, epochs=20, batch_size=32, validation_data=data.test, callbacks=schedule(trainer, CONFIG),
        progress=False, record=True,
    )  # fmt: skip
    began = time.perf_counter()
    page = trainer.report(path, class_names=data.class_names, image_shape=data.image_shape)
    return f"digits: {len(page.html.encode()):,} bytes, made in {time.perf_counter() - began:.2f} s"


def deep(path: Path) -> str:
    model = nn.Sequential(*(layer for _ in range(500) for layer in (nn.Linear(4, 4), nn.Tanh())))
    trainer = cr.Trainer(model, F.mse_loss, optim.SGD(model.parameters(), lr=0.01))
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    report = Report(trainer, "deep")
    step = passes.run(trainer, x, x)
    report.add(step, 0, 0, list(range(8)))
    took = min(_timed(lambda: layout.mirrored(step.reads, step.flows)) for _ in range(ROUNDS))
    Page(report.html()).save(path)
    return f"deep: {len(step.nodes):,} nodes, laid out in {1000 * took:.1f} ms"


def _timed(function: Any) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def measure(browser: Any, path: Path) -> dict[str, float]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    tab = context.new_page()
    began = time.perf_counter()
    tab.goto(path.as_uri())
    tab.wait_for_selector("#page[data-ready]")
    found = {"open the file": 1000 * (time.perf_counter() - began)}
    one = tab.locator("input[type=range]").is_disabled()  # a single step: there is no other to go to
    acts = {name: act for name, act in ACTS.items() if not (one and name.startswith("another"))}
    times: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(ROUNDS):
        for name, act in acts.items():
            times[name].append(tab.evaluate(DRAWN, act))
    context.close()
    return {**found, **{name: statistics.median(values) for name, values in times.items()}}


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for make in (digits, deep):
            path = Path(folder) / f"{make.__name__}.html"
            print(make(path))
            for name, milliseconds in measure(browser, path).items():
                print(f"  {name:26} {milliseconds:7.0f} ms")
        browser.close()


if __name__ == "__main__":
    main()
