"""What a study came to: its table and its figures, which notebooks show by themselves."""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


class Table:
    """A study's table. `fetch` gives it in a format; each is fetched once."""

    def __init__(self, fetch: Callable[[str], str]) -> None:
        self._fetch = fetch

    @cached_property
    def markdown(self) -> str:
        """The table as Markdown."""
        return self._fetch("md")

    @cached_property
    def tex(self) -> str:
        """The table for LaTeX."""
        return self._fetch("tex")

    @cached_property
    def csv(self) -> str:
        """The table as CSV."""
        return self._fetch("csv")

    @cached_property
    def data(self) -> dict[str, Any]:
        """The table as data: rows with means, intervals, gains, verdicts, and the notes."""
        data: dict[str, Any] = json.loads(self._fetch("json"))
        return data

    def to_pandas(self) -> "pandas.DataFrame":
        """A row an arm, columns as in the CSV: AP, AP_half_width (of its 95% interval), ... Needs pandas (the extra `notebook`)."""
        import io

        import pandas

        return pandas.read_csv(io.StringIO(self.csv)).set_index("arm")

    def __str__(self) -> str:
        return self.markdown

    def _repr_markdown_(self) -> str:
        return self.markdown


class Figure:
    """A picture as SVG."""

    def __init__(self, name: str, svg: bytes) -> None:
        self.name, self.svg = name, svg.decode()

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<figure {self.name}, {len(self.svg):,} characters of SVG>"


class Figures(Mapping[str, Figure]):
    """Pictures by name; a notebook shows all of them."""

    def __init__(self, figures: dict[str, Figure]) -> None:
        self._figures = figures

    def __getitem__(self, name: str) -> Figure:
        return self._figures[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._figures)

    def __len__(self) -> int:
        return len(self._figures)

    def _repr_html_(self) -> str:
        return "".join(f"<figure>{figure.svg[figure.svg.index('<svg') :]}</figure>" for figure in self.values())
