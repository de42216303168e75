"""The catalogue's entries as they are answered."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

Entry = TypeVar("Entry")


class StudyEntry(BaseModel):
    """A study that comes with Retort."""

    id: str
    name: str
    about: str


class DetectorEntry(BaseModel):
    """A detector family."""

    id: str
    title: str
    paper: str
    offers: list[str] = Field(description="what its head gives to a distiller")


class OptionEntry(BaseModel):
    """An option of a distiller."""

    name: str
    default: Any
    allowed: str = Field(description="the values it takes")
    about: str


class DistillerEntry(BaseModel):
    """A distillation method."""

    id: str
    title: str
    paper: str
    needs: list[str] = Field(description="what it reads of the two detectors")
    same_detector: str | None = Field(description="why teacher and student must be of one family, if they must")
    options: list[OptionEntry]


class DatasetEntry(BaseModel):
    """A dataset."""

    id: str
    title: str
    classes: int
    train_images: int | None = Field(description="null: a registered dataset that was not checked yet")
    val_images: int | None


class BackboneEntry(BaseModel):
    """A backbone network."""

    id: str
    title: str


class Listing(BaseModel, Generic[Entry]):
    """All entries of one kind."""

    items: list[Entry]
