"""The picture of the scaling series: how many times our time each peer takes, against the size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from series import HELD

from chainrule.cli.bench.peers import PEERS

COLOURS = {
    "torch": "#dc2626", "torch fused": "#f97316", "torch.compile": "#a16207", "jax.jit": "#2563eb",
    "jax scan": "#0891b2", "scikit-learn": "#16a34a", "numpy": "#737373",
}  # fmt: skip


def draw(series: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One panel a series; an SVG with the same bytes for the same figures."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "chainrule", "svg.fonttype": "none", "font.size": 9})
    figure, panels = pyplot.subplots(1, len(series), figsize=(4 * len(series), 3.6), sharey=True, squeeze=False)
    for panel, (name, points) in zip(panels[0], series.items(), strict=True):
        for peer in PEERS.values():
            if not peer.ours:
                _line(panel, points, peer.name)
        panel.axhline(1, color="black", linewidth=1)
        panel.set(xscale="log", yscale="log", xlabel=f"{name} n ({HELD[name]})")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("time of a step / chainrule's")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.92))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _line(panel: Any, points: list[dict[str, Any]], name: str) -> None:
    """Sizes at which a peer was not timed are left out."""
    timed = [
        (point["size"], point["peers"][name]["ratio"]) for point in points if "ratio" in point["peers"].get(name, {})
    ]
    if timed:
        panel.plot(*zip(*timed, strict=True), marker="o", markersize=3, label=name, color=COLOURS[name])
