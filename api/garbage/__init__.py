"""What is stored and no longer needed: shown, and removed."""
