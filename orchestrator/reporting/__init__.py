"""What a study's results say: its table, with verdicts on published numbers and claims that hold at every scale, in five formats."""
