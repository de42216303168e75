"""The papers' tables as data, the language they are said in, and what it compiles to."""
