"""What a console printed, as an SVG that needs no font from elsewhere."""

import re

from rich.console import Console
from rich.terminal_theme import MONOKAI

_FONT_FACES = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def to_svg(console: Console) -> str:
    """The picture of a recording console."""
    svg = console.export_svg(title="make demo", theme=MONOKAI)
    return _FONT_FACES.sub("", svg).replace("Fira Code", "ui-monospace, DejaVu Sans Mono")
