"""Whether the deployment's parts find each other, for `retort doctor`."""
