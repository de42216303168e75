"""From a queued study to trials on devices: Ray Jobs, the driver in each, its graph of trials, and Ray Tune around that."""
