"""mmdet's label assignments for all images of a batch at once, with its results: a rule in a file, and `heads`, which has heads use them.

mmdet assigns image by image, and box by box inside one, with a hundred small kernels and ten waits for the device each. Here objects
are padded to one tensor, and the number of kernels depends on neither.
"""
