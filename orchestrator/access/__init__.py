"""Who may do what, as it is stored: tokens, sessions of browsers, and who did what."""
