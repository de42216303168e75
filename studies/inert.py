"""Text from people made safe to print: one line, without characters that steer a terminal or turn the direction of reading."""

import re
import unicodedata

_SEQUENCES = re.compile(
    r"(?:\x1b\]|\x9d).*?(?:\x07|\x1b\\|\x9c|$)"  # OSC: titles, links
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f]).*?(?:\x1b\\|\x9c|$)"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|\x1b[ -/]*[0-~]?",  # the other escapes
    re.DOTALL,
)
_STEERING = frozenset("\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")


def one_line(text: str) -> str:
    """The text on one line: escape sequences and control characters gone, white space as single blanks."""
    if text.isascii() and text.isprintable() and "  " not in text and text[:1] != " " != text[-1:]:
        return text
    words = " ".join(_SEQUENCES.sub("", text).split())
    kept = "".join(char for char in words if char not in _STEERING and unicodedata.category(char) not in ("Cc", "Cs"))
    return " ".join(kept.split())
