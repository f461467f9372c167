"""What a benchmark found, as Markdown and as bar plots in SVG."""

from collections.abc import Sequence
from html import escape

import msgspec

from benchmarks.stats import Spread

_WIDTH, _LABELS, _RIGHT, _ROW, _TOP = 760, 200, 230, 34, 44
_FONT = "font-family='system-ui, sans-serif' font-size='13'"
_COLOURS = {"stub": "#9aa5b1", "pass-through": "#5b8db8", "router": "#d9822b"}
_OTHER_COLOUR = "#5b8db8"


class Goal(msgspec.Struct, frozen=True):
    """One target of the design, what was measured, and whether it is met: `None` where this run cannot say."""

    what: str
    target: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "met", False: "**not met**", None: "not judged"}[self.met]


class Section(msgspec.Struct, frozen=True):
    """The findings of one benchmark. ``body`` is Markdown; ``plots`` are SVG documents by file name.

    ``others`` is the share of all cores, 1 at most, that other work used meanwhile; `None` until that is known.
    """

    title: str
    goals: list[Goal]
    body: str
    plots: dict[str, str] = {}
    others: float | None = None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is aligned right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def goals_table(goals: Sequence[Goal]) -> str:
    """The targets, and whether they are met."""
    rows = [[goal.what, goal.target, goal.measured, goal.verdict] for goal in goals]
    return table(["what", "target", "measured", "verdict"], rows)


def bars(title: str, unit: str, values: dict[str, Spread], digits: int = 2) -> str:
    """Horizontal bars of the medians, with a whisker from the lowest to the highest round, on a linear axis from 0."""
    height = _TOP + _ROW * len(values) + 12
    scale = (_WIDTH - _LABELS - _RIGHT) / (max(value.high for value in values.values()) or 1)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' height='{height}'>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{_WIDTH}' height='{height}' fill='#ffffff'/>",
        f"<text x='12' y='24' {_FONT} font-weight='600' fill='#222222'>{escape(title)}</text>",
    ]
    for number, (label, value) in enumerate(values.items()):
        top = _TOP + number * _ROW
        middle = top + _ROW / 2 - 4
        low, high = (_LABELS + end * scale for end in (value.low, value.high))
        colour = next((shade for name, shade in _COLOURS.items() if label.startswith(name)), _OTHER_COLOUR)
        said = f"{value.median:,.{digits}f} {unit} ({value.low:,.{digits}f} – {value.high:,.{digits}f})"
        parts += [
            f"<text x='{_LABELS - 10}' y='{middle + 5:.1f}' text-anchor='end' {_FONT} fill='#222222'>"
            f"{escape(label)}</text>",
            f"<rect x='{_LABELS}' y='{top}' width='{max(1.0, value.median * scale):.1f}' height='{_ROW - 10}' "
            f"fill='{colour}'/>",
            f"<path d='M{low:.1f} {middle - 5} V{middle + 5} M{low:.1f} {middle} H{high:.1f} M{high:.1f} {middle - 5} "
            f"V{middle + 5}' stroke='#222222' fill='none'/>",
            f"<text x='{high + 8:.1f}' y='{middle + 5:.1f}' {_FONT} fill='#222222'>{escape(said)}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


def page(sections: Sequence[Section], machine: str, not_measured: Sequence[str]) -> str:
    """The whole page; its plots lie in ``benchmarks/`` beside it."""
    parts = [
        "# Benchmarks",
        "Written by `make bench` (`python -m benchmarks`); run it to have your own numbers. Do not edit.",
        machine,
        "## Targets",
        "From the design; everything below is from one run on one machine.",
        goals_table([goal for section in sections for goal in section.goals]),
    ]
    for section in sections:
        parts += [f"## {section.title}", section.body]
        if section.others is not None:
            parts.append(f"*Other work used {section.others:.0%} of this machine's cores meanwhile.*")
        parts += [f"![{name.removesuffix('.svg')}](benchmarks/{name})" for name in section.plots]
    parts += ["## Not measured", "\n".join(f"* {what}" for what in not_measured)]
    return "\n\n".join(parts) + "\n"
