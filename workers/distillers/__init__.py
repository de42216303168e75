"""The distillation methods, one file each; `base` holds what they share, `studies.methods` declares their options."""
