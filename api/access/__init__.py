"""Who may do what: tokens, sessions of browsers, what is refused before anybody looks at who asks, limits, and the audit."""
