"""The picture of a training: loss and accuracy over the epochs, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.training.history import History

WIDTH, HEIGHT, MARGIN = 420, 260, 44
COLOURS = {"loss": "#c2410c", "accuracy": "#1d4ed8"}


def draw(history: History) -> str:
    """Two panels, training solid and validation dashed."""
    panels = "".join(_panel(history, measure, i * WIDTH) for i, measure in enumerate(COLOURS))
    style = "text{font:12px sans-serif;fill:#444}@media(prefers-color-scheme:dark){text{fill:#ccc}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {HEIGHT}" role="img">'
        f"<title>Loss and accuracy by epoch</title><style>{style}</style>{panels}</svg>\n"
    )


def _panel(history: History, measure: str, left: int) -> str:
    series = [history[name] for name in (measure, f"val_{measure}") if name in history]
    top = max((max(values) for values in series if values), default=1.0) or 1.0
    high = 1.0 if measure == "accuracy" else top
    x0, y0, x1, y1 = left + MARGIN, HEIGHT - MARGIN, left + WIDTH - 12, 28
    parts = [f'<text x="{x0}" y="18">{measure} (training solid, validation dashed)</text>']
    for tick in range(5):
        value, y = high * tick / 4, y0 + (y1 - y0) * tick / 4
        parts.append(f'<line x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>')
        parts.append(f'<text x="{x0 - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    parts.append(
        f'<text x="{(x0 + x1) / 2}" y="{HEIGHT - 12}" text-anchor="middle">epoch (1 to {history.epochs})</text>'
    )
    for dash, values in zip(("", "5 4"), series, strict=False):
        parts.append(_curve(values, high, (x0, y0, x1, y1), COLOURS[measure], dash))
    return "".join(parts)


def _curve(values: Sequence[float], high: float, box: tuple[int, int, int, int], colour: str, dash: str) -> str:
    x0, y0, x1, y1 = box
    step = (x1 - x0) / max(1, len(values) - 1)
    points = " ".join(f"{x0 + i * step:.1f},{y0 + (y1 - y0) * value / high:.1f}" for i, value in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'
