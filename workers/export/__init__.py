"""A trained detector for the world outside: as plain mmdet loads it, and as ONNX."""
