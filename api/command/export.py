"""`retort export`: a trained detector for use outside of Retort."""

import re
from pathlib import Path
from typing import Annotated

import typer

from api.command.output import Json, tell


def export(
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="a trial's key or its first digits, its folder, or with --study its id")],
    study: Annotated[int | None, typer.Option("--study", metavar="ID", help="the study that TRIAL is the id of a trial in")] = None,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="where its files go")] = Path("export"),
    onnx: Annotated[bool, typer.Option("--onnx", help="also as ONNX, tried with onnxruntime on validation images")] = False,
    as_json: Json = False,
) -> None:
    """Write a finished trial's detector as plain mmdet loads it: config.py and model.pth."""
    from contextlib import redirect_stdout
    from sys import stderr

    from studies.home import retort_home

    home = retort_home()
    key = trial if study is None else _key_of(study, trial)
    with redirect_stdout(stderr):  # mmdet prints while it is imported
        from workers.export.mmdet_files import CHECKPOINT, CONFIG, write_mmdet
        from workers.export.onnx_file import GRAPH, OPSET, write_onnx
        from workers.export.trained import ExportError, find_folder, trained
        from workers.process import quiet

        try:
            found = trained(_fetched(key) or find_folder(home / "trials", key), home / "data")
            with quiet():
                imports = write_mmdet(found, to)
            ap = found.result.metrics.get("AP", 0.0)
            data = {"config": str(to / CONFIG), "checkpoint": str(to / CHECKPOINT), "AP": ap, "imports": imports}
            lines = [f"{to / CONFIG} and {CHECKPOINT}: AP {ap:.1f} when it was trained"]
            if imports:
                lines.append(f"it has parts that mmdet has not, and needs Retort beside mmdet: {', '.join(imports)}")
            if onnx:
                with quiet():
                    apart = write_onnx(found, to)
                data |= {"onnx": str(to / GRAPH), "opset": OPSET, "difference": apart}
                lines.append(f"{to / GRAPH}: opset {OPSET}; in onnxruntime its outputs are at most {apart:.0e} of the largest off")
        except ExportError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None
    tell(as_json, data, *lines)


def _fetched(key: str) -> Path | None:
    """The folder of a finished trial that the store has, brought here; None without a store, and for a key that it does not know."""
    from orchestrator.settings import settings
    from orchestrator.storage.cache import opened_cache
    from orchestrator.storage.files import trial_name
    from orchestrator.storage.working import STATE

    cache = opened_cache(settings())
    manifest = cache.storage.manifest(trial_name(key)) if cache and re.fullmatch(r"[\w-]+", key) else None
    if cache is None or manifest is None or not manifest.finished:
        return None
    folder = cache.folder.parent / "export" / key
    for name, file in manifest.files.items():
        if name not in STATE:
            cache.storage.fetch(file, folder / name)
    return folder


def _key_of(study: int, trial: str) -> str:
    """The key of a study's trial, from the service."""
    from api.client import Client

    found = Client().trials(study, [trial])
    key = found[0]["key"] if found else None
    if not key:
        typer.echo(f"study {study} has no trial {trial!r} with a key; its trials: retort show {study}", err=True)
        raise typer.Exit(1)
    return str(key)
