"""Pictures as they are answered."""

from pydantic import BaseModel, Field


class FigureAnswer(BaseModel):
    """A picture of a study."""

    name: str = Field(description="learning-curves, gains, sensitivity, teachers, errors, components, attention, sampling, ...")
    svg: str = Field(description="where it is as SVG")
    png: str = Field(description="where it is as PNG")


class FigureList(BaseModel):
    """The pictures that a study has by now."""

    items: list[FigureAnswer]
