"""What is measured of a detector: precision of its detections and what is wrong with them, what it costs, how it differs from another."""
