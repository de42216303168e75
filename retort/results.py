"""What a study came to: its table and its figures, which notebooks show by themselves."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Table:
    """A study's table in every form. data: rows with means, intervals, gains, verdicts, and the notes."""

    markdown: str
    tex: str
    csv: str
    data: dict[str, Any]

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> "Table":
        """By the names of the service's forms."""
        return cls(texts["md"], texts["tex"], texts["csv"], json.loads(texts["json"]))

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
