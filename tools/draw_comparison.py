"""Draws a run's comparison, as the terminal shows it, to an SVG file.

python tools/draw_comparison.py RUN_FOLDER OUT.svg
"""

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from orchestrator.comparison_json import Comparison
from orchestrator.report.terminal import print_comparison

# Rich's own frame loads a font from the network; a picture must not.
_FRAME = """\
<svg viewBox="0 0 {terminal_width} {terminal_height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
<rect fill="#1c1c1c" width="{terminal_width}" height="{terminal_height}" rx="8"/>
<g clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def main() -> None:
    """Reads the comparison and writes the picture."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    comparison = Comparison.model_validate_json((folder / "comparison.json").read_bytes())
    console = Console(record=True, width=130, file=io.StringIO(), force_terminal=True)
    print_comparison(comparison, console)
    console.save_svg(str(out), title=comparison.run_id, theme=MONOKAI, code_format=_FRAME)


if __name__ == "__main__":
    main()
