"""The catalogue's entries, read from `studies`."""

from typing import Any

from api.catalog.schemas import BackboneEntry, DatasetEntry, DetectorEntry, DistillerEntry, OptionEntry, RecipeEntry, StudyEntry, ZooEntry
from studies import catalog
from studies import datasets as known
from studies.catalog import BACKBONES, FORMS, TRAITS, ZOO
from studies.methods import Method, methods
from studies.recipes import IMAGES, RECIPES
from studies.shipped import shipped_studies


def studies() -> list[StudyEntry]:
    """The shipped studies."""
    return [StudyEntry(id=s.id, name=s.name, about=s.about) for s in shipped_studies().values()]


def detectors() -> list[DetectorEntry]:
    """The detector families."""
    return [
        DetectorEntry(
            id=d.id,
            title=d.title,
            paper=d.paper,
            offers=[TRAITS[t] for t in sorted(d.traits)],
            backbones=list(d.backbones),
            forms=[form.id for form in FORMS.values() if d.id in form.detectors],
            zoo=[
                ZooEntry(backbone=backbone, config=model.config, parameters=model.parameters, ap=model.ap, mask_ap=model.mask_ap)
                for (detector, backbone), model in ZOO.items()
                if detector == d.id
            ],
            distillers=[m.id for m in methods().values() if m.misfit(d, d, m.options()) is None],
        )
        for d in catalog.detectors().values()
    ]


def distillers() -> list[DistillerEntry]:
    """The methods with what they need and their options."""
    return [
        DistillerEntry(id=m.id, title=m.title, paper=m.paper, needs=_needs(m), same_detector=m.same_detector, options=_options(m))
        for m in methods().values()
    ]


def datasets() -> list[DatasetEntry]:
    """The datasets, with those registered on this machine."""
    return [DatasetEntry.model_validate(d, from_attributes=True) for d in known.datasets().values()]


def backbones() -> list[BackboneEntry]:
    """The backbones."""
    return [BackboneEntry.model_validate(b, from_attributes=True) for b in BACKBONES.values()]


def recipes() -> list[RecipeEntry]:
    """The training recipes."""
    return [
        RecipeEntry(
            id=r.id,
            title=r.title,
            epochs=r.epochs,
            passes=r.passes,
            decay="cosine" if r.decay == "cosine" else f"/10 after {' and '.join(map(str, r.decay))}",
            images=IMAGES[r.images],
        )
        for r in RECIPES.values()
    ]


def _needs(method: Method) -> list[str]:
    roles = (("student", method.student_traits), ("teacher", method.teacher_traits))
    return [f"{role}: {TRAITS[trait]}" for role, traits in roles for trait in sorted(traits)]


def _options(method: Method) -> list[OptionEntry]:
    schema = method.options.model_json_schema()
    definitions = schema.get("$defs", {})
    return [
        OptionEntry(name=name, default=field.get("default"), allowed=_allowed(field, definitions), about=field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]


def _allowed(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A field of a JSON schema in words: "a | b", "number > 0, <= 100", "list of integer"."""
    if "$ref" in field:
        return _allowed(definitions[field["$ref"].rsplit("/", 1)[-1]], definitions)
    if "anyOf" in field:
        return " | ".join(_allowed(way, definitions) for way in field["anyOf"])
    if "enum" in field or "const" in field:
        return " | ".join(str(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_allowed(field.get('items', {}), definitions)}"
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    bounds = [f"{sign} {field[name]:g}" for name, sign in signs.items() if name in field]
    return " ".join(filter(None, [field.get("type", "any"), ", ".join(bounds)]))
