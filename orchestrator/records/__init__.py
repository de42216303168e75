"""The database, which is the truth about every study: its tables and migrations, queries, and the units of work that change it."""
