"""Where the files of trials are kept: a folder that all machines share, or a store from which each fetches what it needs."""
