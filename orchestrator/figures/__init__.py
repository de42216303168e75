"""Pictures of a study: each a pure function from plain data (rows, curves, measurement documents) to a matplotlib figure.

One module a picture, with `draw`; `style` holds what they share and turns a figure into SVG or PNG.
"""
