"""What processes print is kept, whole and readable in pieces; log lines carry their fields."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.logs import KeyValues
from orchestrator.outputs import PIECE_BYTES, Cursor, Piece, of_file, read


def all_of(files: dict[int, Path], ended: bool) -> list[Piece]:
    """Every piece until there is no more."""
    outputs = {number: of_file(file) for number, file in files.items()}
    pieces = [read(outputs, Cursor(), ended)]
    while pieces[-1].more:
        pieces.append(read(outputs, Cursor.parse(str(pieces[-1].cursor)), ended))
    return pieces


def test_the_outputs_of_all_attempts_are_read_one_after_the_other(tmp_path: Path) -> None:
    files = {number: tmp_path / f"{number}.log" for number in (1, 2, 3)}
    files[1].write_text("first\nbroken off")
    files[3].write_text("third\nnot yet")
    assert "".join(piece.text for piece in all_of(files, ended=False)) == "first\nbroken offthird\n"
    last = all_of(files, ended=False)[-1].cursor
    files[3].write_text("third\nnot yet, now\n")
    assert read({3: of_file(files[3])}, last, ended=False).text == "not yet, now\n"
    assert "".join(piece.text for piece in all_of(files, ended=True)) == "first\nbroken offthird\nnot yet, now\n"


def test_a_long_output_comes_in_pieces_of_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "output.log"
    text = "".join(f"line {number} é\n" for number in range(20_000)) + "x" * (2 * PIECE_BYTES) + "\n"
    file.write_text(text)
    pieces = all_of({0: file}, ended=True)
    assert "".join(piece.text for piece in pieces) == text
    assert pieces[0].text.endswith("é\n")


@pytest.mark.parametrize("text", ["", "1", "a.b", "-1.0", "1.-1", "1.2.3"])
def test_a_cursor_that_was_made_up_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Cursor.parse(text)


def test_what_a_process_and_its_children_print_is_appended_and_given_back_afterwards(tmp_path: Path) -> None:
    code = """
import subprocess, sys
from pathlib import Path
from orchestrator.outputs import written_to
print("before")
with written_to(Path(sys.argv[1]) / "deep" / "output.log"):
    print("inside")
    subprocess.run(["sh", "-c", "echo of a child >&2"])
print("after")
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        assert done.stdout == "before\nafter\n"
    assert (tmp_path / "deep" / "output.log").read_text() == "inside\nof a child\n" * 2


def test_a_log_line_says_whose_it_is() -> None:
    record = logging.LogRecord("a.logger", logging.WARNING, "file", 1, "lost: %s", ("no\nword",), None)
    record.created, record.msecs, record.trial = 1e9, 7.0, "a teacher/seed-0"
    assert KeyValues(study=3, attempt=2).format(record) == (
        '2001-09-09T01:46:40.007Z WARNING a.logger study=3 attempt=2 trial="a teacher/seed-0": lost: no\\nword'
    )
