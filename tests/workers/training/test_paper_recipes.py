"""The page of the papers' recipes is what its program gives, and its marks are right."""

from pathlib import Path

from benchmarks.paper_recipes import Said, cell, page, rows
from studies.tables.shipped import numbered_tables

PAGE = Path(__file__).parents[3] / "docs" / "results" / "paper-recipes.md"


def test_the_page_is_what_the_program_gives() -> None:
    assert PAGE.read_text() == page() + "\n", "python -m benchmarks.paper_recipes > docs/results/paper-recipes.md"


def test_every_row_of_the_seventeen_tables_is_in_it() -> None:
    assert len(numbered_tables()) == 17
    found = {table: list(rows(table)) for table in numbered_tables()}
    assert sum(map(len, found.values())) == sum(line.startswith("|") for line in PAGE.read_text().splitlines()) - 2 * 17
    for table, listed in found.items():
        assert all(said for _, _, ours, said in listed if len(ours) > 1), table  # of every training something is known


def test_marks() -> None:
    assert cell("clip", 35.0, Said(35, "code")) == "35 (code)"
    assert cell("epochs", 24, Said(24, "paper")) == "24 ok"
    assert cell("epochs", 24, Said(12, "zoo")) == "**24**; zoo: 12"
    assert cell("warm_up", 500, None) == "500"
    assert cell("start", "imagenet/resnet50_caffe", Said("Caffe", "code")) == "imagenet/resnet50_caffe (code)"
    assert cell("start", "zoo/x", Said("ImageNet", "paper")) == "**zoo/x**; paper: ImageNet"
