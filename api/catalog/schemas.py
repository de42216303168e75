"""The catalogue's entries as they are answered."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

Entry = TypeVar("Entry")


class StudyEntry(BaseModel):
    """A study that comes with Retort."""

    id: str
    name: str
    about: str


class ZooEntry(BaseModel):
    """A detector of mmdet's model zoo."""

    backbone: str
    config: str = Field(description="of the model zoo, which the network is built from at paper scale")
    parameters: float = Field(description="trainable ones in millions")
    ap: float = Field(description="box AP on COCO val2017 as the zoo reports it")
    mask_ap: float | None = Field(description="its mask AP, where it has masks")


class DetectorEntry(BaseModel):
    """A detector family."""

    id: str
    title: str
    paper: str
    offers: list[str] = Field(description="what its head gives to a distiller")
    backbones: list[str] = Field(description="those it is offered on")
    forms: list[str] = Field(description="published changes of its network, for `form`")
    zoo: list[ZooEntry] = Field(description="its models in the zoo; other backbones take the place of these models' own")
    distillers: list[str] = Field(description="methods that fit a teacher and a student of the family, with their default options")


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
    masks: bool | None = Field(description="whether its objects have masks; null: a registered dataset that was not checked yet")


class BackboneEntry(BaseModel):
    """A backbone network."""

    id: str
    title: str


class RecipeEntry(BaseModel):
    """A training recipe."""

    id: str
    title: str
    epochs: int
    passes: int = Field(description="over the images in one epoch")
    decay: str = Field(description="how the learning rate falls")
    images: str = Field(description="which images the network sees")


class Listing(BaseModel, Generic[Entry]):
    """All entries of one kind."""

    items: list[Entry]
