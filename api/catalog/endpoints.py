"""Routes of the catalogue."""

from fastapi import APIRouter

from api.access.callers import needs
from api.catalog import service
from api.catalog.schemas import BackboneEntry, DatasetEntry, DetectorEntry, DistillerEntry, Listing, RecipeEntry, StudyEntry
from orchestrator.access.schema import Scope

router = APIRouter(prefix="/v1/catalog", tags=["catalog"], dependencies=[needs(Scope.READ)])


@router.get("/studies")
def studies() -> Listing[StudyEntry]:
    """The studies that come with Retort."""
    return Listing(items=service.studies())


@router.get("/detectors")
def detectors() -> Listing[DetectorEntry]:
    """The detector families."""
    return Listing(items=service.detectors())


@router.get("/distillers")
def distillers() -> Listing[DistillerEntry]:
    """The distillation methods, what they need and their options."""
    return Listing(items=service.distillers())


@router.get("/datasets")
def datasets() -> Listing[DatasetEntry]:
    """The datasets."""
    return Listing(items=service.datasets())


@router.get("/recipes")
def recipes() -> Listing[RecipeEntry]:
    """The training recipes."""
    return Listing(items=service.recipes())


@router.get("/backbones")
def backbones() -> Listing[BackboneEntry]:
    """The backbones."""
    return Listing(items=service.backbones())
