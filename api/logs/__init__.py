"""What drivers and trials print."""
