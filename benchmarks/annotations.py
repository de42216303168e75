"""What COCO's annotations cost a trial at their real size: seconds until its dataset is open, and memory with its loader processes.

    python -m benchmarks.annotations [--images 118287] [--boxes 860001] [--loaders 8] [--masks]

Makes a file of train2017's shape (sizes, objects an image, corners a polygon) with one picture for all images, reads it as a trial does,
and lets the loaders run for a while. Memory is the proportional share (PSS) of all processes, so pages that they share count once.
"""

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

STEPS, BATCH = 40, 16


def document(images: int, boxes: int) -> dict[str, Any]:
    """Annotations of train2017's shape: seven objects an image, of 20 corners on average."""
    rng = np.random.default_rng(0)
    shapes = np.where(rng.random(images)[:, None] < 0.7, (640, 480), (480, 640))
    owners = np.sort(rng.integers(0, images, boxes))
    corners = rng.gamma(2, 9, boxes).astype(int) + 4
    annotations = []
    for number, (owner, count) in enumerate(zip(owners.tolist(), corners.tolist(), strict=True), 1):
        polygon = (rng.random(2 * count) * 200 + 100).round(2).tolist()
        x, y, w, h = (rng.random(4) * 100 + 50).round(2).tolist()
        annotations.append(
            {
                "id": number,
                "image_id": owner,
                "category_id": number % 80 + 1,
                "bbox": [x, y, w, h],
                "area": w * h / 2,
                "iscrowd": 0,
                "segmentation": [polygon],
            }
        )
    listed = [{"id": n, "file_name": "picture.jpg", "width": w, "height": h} for n, (w, h) in enumerate(shapes.tolist())]
    return {"images": listed, "annotations": annotations, "categories": [{"id": n, "name": str(n)} for n in range(1, 81)]}


def write(path: Path, images: int, boxes: int) -> None:
    path.write_text(json.dumps(document(images, boxes)))


def parse(path: Path, masks: bool) -> float:
    """Seconds of making the records."""
    from workers.datasets.records import opened

    began = time.perf_counter()
    opened(path, masks)
    return time.perf_counter() - began


def apart(act: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a process of its own, whose memory is gone afterwards."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(act, *arguments).result()


def measured(path: Path, loaders: int, masks: bool) -> tuple[float, float]:
    """(seconds until the first key of a batch is known, GB of all processes while they load)."""
    from mmdet.registry import DATASETS
    from mmengine.registry import DefaultScope

    from workers.datasets.loading import training_loader

    pipeline = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks},
        {"type": "Resize", "scale": (333, 200), "keep_ratio": True},
        {"type": "PackDetInputs"},
    ]
    settings = {"data_prefix": {"img": f"{path.parent}/"}, "metainfo": {"classes": [str(n) for n in range(1, 81)]}, "pipeline": pipeline}
    began = time.perf_counter()
    with DefaultScope.overwrite_default_scope("mmdet"):
        made = DATASETS.build(
            {"type": "RecordDataset", "ann_file": str(path), "filter_cfg": {"filter_empty_gt": True}, "masks": masks, **settings}
        )
    loader = training_loader(made, seed=0, batch_size=BATCH, one_shape=False, loaders=loaders)
    next(iter(loader.batch_sampler))  # type: ignore[call-overload]
    seconds = time.perf_counter() - began
    peak = 0.0
    for step, _ in enumerate(loader):
        if step % 10 == 9:
            processes = [psutil.Process(), *psutil.Process().children()]
            peak = max(peak, sum(process.memory_full_info().pss for process in processes) / 1e9)
        if step == STEPS:
            break
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--boxes", type=int, default=860_001)
    parser.add_argument("--loaders", type=int, default=8)
    parser.add_argument("--masks", action="store_true", help="a trial that learns masks")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    from workers.detectors.configs import register

    register()
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(Path(folder) / "picture.jpg")
        small, real = Path(folder) / "small.json", Path(folder) / "train.json"
        write(small, 200, 1400)
        apart(write, real, given.images, given.boxes)
        print(f"{given.images:,} images, {given.boxes:,} boxes: {real.stat().st_size / 1e6:.0f} MB of JSON", flush=True)
        _, base = measured(small, given.loaders, given.masks)
        print(f"parsed, once per machine: {apart(parse, real, given.masks):.1f} s", flush=True)
        seconds, memory = measured(real, given.loaders, given.masks)
        size = sum(path.stat().st_size for path in (Path(folder) / "records").glob("train-*/*")) / 1e6
        print(f"records: {size:.0f} MB; open in {seconds:.1f} s")
        print(f"memory with {given.loaders} loaders: {memory:.2f} GB, of which the annotations {memory - base:.2f} GB")


if __name__ == "__main__":
    main()
