"""How large a network's images are: (shorter, longer) side in pixels, which for an image that lies on its side is (height, width)."""

from studies.catalog import of_pdf_distil
from studies.spec import Network

Sides = tuple[int, int]
NANO: Sides = (128, 128)
OWN: dict[str, Sides] = {"ssd": (512, 512), "yolov3": (608, 608)}  # of families that have their own at paper scale
PDF: Sides = (320, 320)  # of PDF-Distil's forms
OF_DATASET: dict[str, Sides] = {"digits": (128, 128), "cityscapes": (1024, 2048)}  # of all others
USUAL: Sides = (800, 1333)


def input_sides(network: Network, dataset: str) -> Sides:
    """A network's input at paper scale, before a recipe makes it smaller."""
    if of_pdf_distil(network.form):
        return PDF
    return OWN.get(network.detector) or OF_DATASET.get(dataset, USUAL)
