"""Weights that a network has before it trains: the store of published ones, starting from them, and backbones pretrained here."""
