"""How a trial's images come to it: the dataset that mmdet's transforms read from, and the order and batches of training and tests.

What a training image looks like follows from (seed, epoch, its place in the dataset) alone, so the number of loader processes changes
nothing, and a trial that was resumed sees what an undisturbed one sees.
"""

from __future__ import annotations

import io
import itertools
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.dataset import DefaultSampler, RepeatDataset, pseudo_collate
from numpy.typing import NDArray
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from workers.datasets.records import opened

with redirect_stdout(io.StringIO()):  # mmdet prints what it could not import
    from mmdet.datasets import BaseDetDataset
    from mmdet.datasets.samplers import AspectRatioBatchSampler
    from mmdet.datasets.transforms import Resize

LOADERS = 8  # processes at most that load images for one process on a GPU
TEST_BATCH = 16  # images at most, all of one size
STEADY = 0.8  # share of the epochs after which images have one size again


@TRANSFORMS.register_module()
class EpochResize(Resize):
    """mmdet's Resize to sides that are drawn once for each epoch, from (seed, epoch) alone.

    factors: of the sides in `scale`, one of which is drawn. epochs: of the training; its first epoch and the last fifth have the sides
    as they are. Source: zhanghengdev/MutualGuide@85219f9 distil.py.
    """

    def __init__(self, factors: tuple[float, ...], seed: int, epochs: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.usual, self.factors, self.seed, self.epochs = self.scale, factors, seed, epochs

    def sides(self, epoch: int) -> tuple[int, int]:
        """Longer and shorter side in an epoch, from 0."""
        if epoch == 0 or epoch >= STEADY * self.epochs:
            return self.usual
        # The last number keeps these draws apart from those of the epoch's images.
        factor = np.random.default_rng([self.seed, epoch, 2]).choice(self.factors)
        return round(self.usual[0] * factor), round(self.usual[1] * factor)

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        self.scale = self.sides(results["epoch"])
        resized: dict[str, Any] | None = super().transform(results)
        return resized


@DATASETS.register_module()
class RecordDataset(BaseDetDataset):
    """mmdet's dataset of a COCO annotation file, from the file's records: what CocoDataset gives, without parsing or copies.

    masks: whether its objects come with masks. filter_cfg: as CocoDataset's, with `crowds_only` for leaving out images of nothing else,
    and VOCDataset's `bbox_min_size`: smaller objects are there, but neither learnt nor taken for background.
    """

    _fully_initialized: bool
    epoch = 0  # that images are asked for in, from 0; for transforms that draw once for all images of an epoch

    def __init__(self, *args: Any, masks: bool = False, **settings: Any) -> None:
        self.masks = masks
        super().__init__(*args, **settings)

    def full_init(self) -> None:
        """Opens the records and chooses the images."""
        if self._fully_initialized:
            return
        self.records = opened(Path(self.ann_file), self.masks)
        table, wanted = self.records.table, {} if self.test_mode else self.filter_cfg or {}
        self.smallest_box: int | None = wanted.get("bbox_min_size")
        kept = np.minimum(table["width"], table["height"]) >= wanted.get("min_size", 0)
        if wanted.get("filter_empty_gt"):
            kept &= table["annotated"]
        if wanted.get("crowds_only"):
            kept &= ~table["crowds_only"]
        self.chosen = np.flatnonzero(kept)[: self._indices]
        self._fully_initialized = True

    def __len__(self) -> int:
        return len(self.chosen)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Image `idx` as mmdet's pipeline starts from it."""
        record = self.records.record(int(self.chosen[idx]))
        if self.smallest_box:
            for instance in record["instances"]:
                instance["ignore_flag"] |= _smaller(instance["bbox"], self.smallest_box)
        return {
            "img_path": os.path.join(self.data_prefix["img"], record["file_name"]),
            "img_id": record["id"],
            "seg_map_path": None,
            "height": record["height"],
            "width": record["width"],
            "instances": record["instances"],
            "sample_idx": idx,
            "epoch": self.epoch,
        }


def _smaller(box: list[float], size: int) -> bool:
    """Whether mmdet's XMLDataset calls a box xyxy smaller: it counts a side from the first pixel to the last, one less than we do."""
    return box[2] - box[0] - 1 < size or box[3] - box[1] - 1 < size


def loader_processes(gpus: int, cpus: int) -> int:
    """Processes that load images beside one that trains on a GPU, which leaves its CPUs idle; on a CPU it loads them itself."""
    return min(cpus, LOADERS) if gpus else 0


def sizes_of(dataset: Any) -> NDArray[np.int64]:
    """Width and height of every image of an RecordDataset, or of one that is repeated, (N, 2), without reading records."""
    if isinstance(dataset, RepeatDataset):
        return np.tile(sizes_of(dataset.dataset), (dataset.times, 1))
    chosen = dataset.records.table[dataset.chosen]
    return np.stack([chosen["width"], chosen["height"]], 1).astype(np.int64)


class SeededDataset(Dataset[Any]):
    """A dataset whose random transforms draw from (seed, epoch, index). Its keys are (epoch, index)."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.records = dataset.dataset if isinstance(dataset, RepeatDataset) else dataset
        self.metainfo, self.sizes = dataset.metainfo, sizes_of(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        self.records.epoch = key[0]
        with drawn_from(self.seed, *key):
            return self.dataset[key[1]]

    def get_data_info(self, index: int) -> dict[str, int]:
        """What mmdet's sampler asks of an image."""
        width, height = self.sizes[index].tolist()
        return {"width": width, "height": height}


@contextmanager
def drawn_from(seed: int, epoch: int, index: int) -> Iterator[None]:
    """Inside, python, numpy and torch draw from these numbers; afterwards they go on where they were."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # The last number keeps image 0 apart from the epoch itself, as a seed sequence does not tell (a, b) from (a, b, 0).
    mixed = [int(word) for word in np.random.SeedSequence([seed, epoch, index, 1]).generate_state(3)]
    random.seed(mixed[0])
    np.random.seed(mixed[1])
    torch.default_generator.manual_seed(mixed[2])  # torch.manual_seed would speak to the GPU
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


class EpochBatches(BatchSampler):
    """The batches of `batches` as keys of a SeededDataset; `multiple`: an epoch has so many of them, or a multiple.

    share: (number of this process, how many there are), which share every batch in equal parts, one after another.
    """

    sampler: Any  # mmengine's, which is told the epoch

    def __init__(self, batches: BatchSampler, sampler: DefaultSampler, multiple: int, share: tuple[int, int]) -> None:
        self.batches, self.sampler, self.multiple, self.share = batches, sampler, multiple, share
        self.skipped = 0

    def begin(self, epoch: int, skip: int) -> None:
        """Sets which epoch comes next, counted from 0, and how many of its batches are left out at its beginning."""
        self.sampler.set_epoch(epoch)
        self.skipped = skip

    def __iter__(self) -> Iterator[list[Any]]:
        epoch, wanted = self.sampler.epoch, range(self.skipped, len(self))
        for number, batch in enumerate(self.batches):
            if number in wanted:  # the others are asked for all the same: mmdet's sampler empties itself at its end
                each = len(batch) // self.share[1]
                yield [(epoch, index) for index in batch[each * self.share[0] :][:each]]

    def __len__(self) -> int:
        return len(self.batches) // self.multiple * self.multiple


class EqualSizes(BatchSampler):
    """Batches of images of one size, so that none is padded for another's sake.

    share: (number of this process, how many there are), each of which takes every so many-th batch.
    """

    def __init__(self, sampler: Sampler[int], sizes: NDArray[np.int64], batch_size: int, share: tuple[int, int]) -> None:
        self.sampler, self.sizes, self.batch_size = sampler, [tuple(size) for size in sizes.tolist()], batch_size
        self.share = share

    def __iter__(self) -> Iterator[list[int]]:
        yield from itertools.islice(self._all(), self.share[0], None, self.share[1])

    def _all(self) -> Iterator[list[int]]:
        waiting: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index in self.sampler:
            alike = waiting[self.sizes[index]]
            alike.append(index)
            if len(alike) == self.batch_size:
                yield alike[:]
                alike.clear()
        yield from (rest for rest in waiting.values() if rest)

    def __len__(self) -> int:
        rank, world = self.share
        whole = sum(-(-count // self.batch_size) for count in Counter(self.sizes).values())
        return (whole - rank + world - 1) // world


def whole(dataset: Any, shuffle: bool, seed: int = 0) -> DefaultSampler:
    """mmengine's order of a dataset, of all of it in every process: batches are shared, not images."""
    sampler = DefaultSampler(dataset, shuffle=shuffle, seed=seed)
    sampler.rank, sampler.world_size = 0, 1
    sampler.num_samples = sampler.total_size = len(dataset)
    return sampler


def training_loader(
    dataset: Any, seed: int, batch_size: int, one_shape: bool, loaders: int, parts: int = 1, share: tuple[int, int] = (0, 1)
) -> DataLoader[Any]:
    """Shuffled batches of a training dataset, incomplete ones dropped. parts: so many make a step, and no epoch ends inside one.

    batch_size: over all processes; share: this one's number and how many there are. one_shape: all images have the network's own shape;
    else wide and tall ones come in batches of their own, as in mmdet's configs, so that they are padded less. loaders: processes that
    load, 0 for this one.
    """
    seeded = SeededDataset(dataset, seed)
    sampler = whole(seeded, shuffle=True, seed=seed)
    kind = BatchSampler if one_shape else AspectRatioBatchSampler
    batches = EpochBatches(kind(sampler, batch_size, drop_last=True), sampler, parts, share)
    return _loader(seeded, batches, loaders)


def evaluation_loader(dataset: Any, loaders: int, share: tuple[int, int] = (0, 1)) -> DataLoader[Any]:
    """Batches of a test dataset, each of images of one size. share: this process's number and how many there are."""
    return _loader(dataset, EqualSizes(whole(dataset, shuffle=False), sizes_of(dataset), TEST_BATCH, share), loaders)


def _loader(dataset: Any, batches: BatchSampler, loaders: int) -> DataLoader[Any]:
    # Processes live for an epoch, so an epoch draws as much from torch's generator with them as without.
    pinned = loaders > 0 and torch.cuda.is_available()  # a GPU fetches such images by itself
    return DataLoader(dataset, batch_sampler=batches, num_workers=loaders, collate_fn=pseudo_collate, pin_memory=pinned)
