"""A table fitted to a terminal."""

from api.command.fitting import fitted

TABLE = """**a try** (study 3, digits, scale nano)

| arm      | AP          | AP50        | seeds |
|----------|-------------|-------------|-------|
| **GFL**  |             |             |       |
| LD \\| x  | 40.0 → 41.0 | 60.0 → 61.0 | 3     |

- A note that is longer than the terminal is wide.
"""


def test_what_fits_stays_as_it_is() -> None:
    assert fitted(TABLE, 80) == TABLE.rstrip("\n")


def test_in_a_narrow_terminal_a_row_is_a_title_and_its_cells_by_name() -> None:
    assert fitted(TABLE, 44).splitlines() == [
        "**a try** (study 3, digits, scale nano)",
        "",
        "",
        "**GFL**",
        "* LD \\| x",
        "    AP 40.0 → 41.0     AP50 60.0 → 61.0",
        "    seeds 3",
        "",
        "- A note that is longer than the terminal is",
        "  wide.",
    ]


def test_no_line_is_wider_than_the_terminal_where_words_allow() -> None:
    assert max(map(len, fitted(TABLE, 30).splitlines())) <= 30
