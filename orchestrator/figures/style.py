"""What all pictures share: colours that colour-blind readers tell apart, titles of any length, and the files they become."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["svg", "png"]
FORMATS: tuple[Format, ...] = ("svg", "png")
MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png"}

# Okabe and Ito's palette (jfly.uni-koeln.de/color), without the yellow that vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#8a8a8a"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HEAT = "cividis"  # even in lightness, and the same to all readers
DPI = 144
LONGEST = 3  # lines of a title

matplotlib.rcParams.update(
    {
        "text.parse_math": False,  # a study's own words may hold dollars
        "font.size": 9,
        "axes.titlesize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e4e4e4",
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "svg.hashsalt": "retort",  # the same picture is the same file
    }
)


def canvas(width: float, height: float) -> Figure:
    """An empty figure, inches wide and high, whose parts find their own places."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def grid(count: int, per_row: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels of such a size in inches, row by row."""
    columns = max(1, min(per_row, count))
    rows = max(1, -(-count // columns))
    figure = canvas(width * columns, height * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of the line with this number: 28 that differ."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}


def wrapped(title: str, width: int = 34) -> str:
    """A title broken into lines, cut after the third."""
    lines = textwrap.wrap(" ".join(title.split()), width) or [""]
    return "\n".join(
        lines if len(lines) <= LONGEST else [*lines[: LONGEST - 1], textwrap.shorten(" ".join(lines[2:]), width, placeholder=" …")]
    )


def legend_beside(axis: Axes, count: int) -> None:
    """A legend to the right of the panel, in as many columns as its entries need."""
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, ncols=legend_columns(count))


def legend_columns(count: int) -> int:
    """How many columns a legend of so many entries has."""
    return 1 + (count - 1) // 18


def without_frame(axis: Axes) -> None:
    """A panel for an image: neither ticks nor grid."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def nothing(text: str) -> Figure:
    """A figure that says why there is nothing to see."""
    figure = canvas(5, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)
    return figure


def rendered(figure: Figure, format: Format) -> bytes:
    """The figure as a file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if format == "svg" else {"Software": None}
    figure.savefig(buffer, format=format, dpi=DPI, metadata=metadata, facecolor="white")
    return buffer.getvalue()


def number(value: float) -> str:
    """A value on an axis or in a label: "0.05", "7e-05", "12"."""
    return f"{value:g}"


def span(values: Sequence[float]) -> float:
    """How many times the greatest exceeds the least; 1 where one of them is not positive."""
    return max(values) / min(values) if values and min(values) > 0 else 1.0
