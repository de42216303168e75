"""Images on their way to a trial: as mmdet reads them, the same whoever loads them, in batches of one shape."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.datasets import CityscapesDataset, CocoDataset, VOCDataset
from mmdet.registry import DATASETS as DATASET_TYPES
from mmengine.registry import DefaultScope
from PIL import Image

from studies.recipes import RECIPES
from studies.trial import TrialFailure, TrialSpec
from tests.workers import copies
from tests.workers.training.test_trial import Killed, numbers, run, trial
from workers.datasets import prepare
from workers.datasets.images import LoadImage, UnreadableImage, dataset_config, manifest_of, training_images
from workers.datasets.loading import SeededDataset, drawn_from, evaluation_loader, training_loader
from workers.datasets.records import opened
from workers.detectors import build
from workers.training.progress import EpochReport

SIZES = [(96, 64), (64, 96), (120, 64), (64, 120), (96, 96)]  # width, height


def dataset(spec: TrialSpec, data: Path, split: str = "train", masks: bool = False) -> Any:
    recipe = RECIPES[str(spec.full_schedule.recipe)]
    config = dataset_config(spec, data, split, manifest_of(spec.dataset, data, "stop"), recipe, masks=masks)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASET_TYPES.build(config)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A data folder with a dataset of images of several shapes, one of them too small to train on."""
    rng = np.random.default_rng(0)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "data").mkdir()
    for split, count in (("train", 40), ("val", 23)):
        document: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
        (tmp_path / "pictures" / split).mkdir(parents=True)
        for number in range(count):
            width, height = (31, 90) if number == 7 else SIZES[int(rng.integers(len(SIZES)))]
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(tmp_path / "pictures" / split / f"{number}.png")
            document["images"].append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
            document["annotations"].append(
                {"id": number + 1, "image_id": number, "category_id": 1, "bbox": [4, 4, 20, 30], "area": 600, "iscrowd": 0}
            )
        (tmp_path / "pictures" / f"{split}.json").write_text(json.dumps(document))
    (tmp_path / "datasets" / "mixed.yaml").write_text(
        "title: Mixed\nroot: ../pictures\nclasses: [thing]\n"
        "train: {annotations: train.json, images: train}\nval: {annotations: val.json, images: val}\n"
    )
    prepare("mixed", tmp_path / "data")
    return tmp_path / "data"


# --- records


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
@pytest.mark.parametrize("name", ["digits", "coco", "cityscapes"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_dataset_holds_what_mmdets_own_reading_of_the_file_holds(name: str, split: str, masks: bool, data: Path, tmp_path: Path) -> None:
    if name != "digits":
        data = tmp_path / "data"
        getattr(copies, name)(data / name, {"train": 4, "val": 2})
        prepare(name, data)
    spec = trial(dataset=name)
    config = dataset_config(spec, data, split, manifest_of(name, data, "stop"), RECIPES["nano"], masks=masks)
    ours = dataset(spec, data, split, masks)
    del config["type"], config["masks"]
    kind: Any = CityscapesDataset if name == "cityscapes" else CocoDataset
    with DefaultScope.overwrite_default_scope("mmdet"):
        theirs = kind(**config)
    assert len(ours) == len(theirs) > 0
    for index in range(min(len(ours), 300)):
        expected = theirs.get_data_info(index)
        for instance in expected["instances"]:
            if not masks:
                del instance["mask"]
        assert ours.get_data_info(index) == expected | {"epoch": 0}  # which sizes that are drawn by the epoch go by


def test_small_objects_of_voc_are_ignored_as_mmdets_own_reading_of_its_files_ignores_them(tmp_path: Path) -> None:
    copies.voc(tmp_path / "data" / "voc", {"train": 12, "val": 2})
    prepare("voc", tmp_path / "data")
    ours = dataset(trial(dataset="voc", scale="paper", schedule={"recipe": "voc-12e"}), tmp_path / "data")
    devkit, found, theirs = tmp_path / "data" / "voc" / "VOCdevkit", [], []
    for year in ("VOC2007", "VOC2012"):
        mmdets = VOCDataset(
            data_root=str(devkit),
            ann_file=f"{year}/ImageSets/Main/trainval.txt",
            data_prefix={"sub_data_root": f"{year}/"},
            filter_cfg={"filter_empty_gt": True, "min_size": 32, "bbox_min_size": 32},
        )
        theirs += [[instance["ignore_flag"] for instance in mmdets.get_data_info(index)["instances"]] for index in range(len(mmdets))]
    found = [[int(instance["ignore_flag"]) for instance in ours.get_data_info(index)["instances"]] for index in range(len(theirs))]
    assert len(ours) == 3 * len(theirs)  # its passes
    assert found == theirs
    assert {flags[0] for flags in theirs} == {0, 1}  # the first object is not difficult
    everything = dataset(trial(dataset="voc", scale="paper", schedule={"recipe": "ld-voc"}), tmp_path / "data")
    assert {everything.get_data_info(index)["instances"][0]["ignore_flag"] for index in range(len(everything))} == {0}


def test_records_are_made_once_and_anew_where_the_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    image = {"id": 1, "file_name": "a.png", "width": 50, "height": 40}
    thing = {
        "id": 1,
        "image_id": 1,
        "category_id": 3,
        "bbox": [1, 2, 10, 20.5],
        "area": 205,
        "iscrowd": 0,
        "segmentation": [[1, 2, 3, 4, 5, 6]],
    }
    document: dict[str, Any] = {"images": [image], "annotations": [thing], "categories": [{"id": 3, "name": "thing"}]}
    path.write_text(json.dumps(document))
    assert opened(path, masks=False).record(0)["instances"] == [{"ignore_flag": 0, "bbox": [1, 2, 11, 22.5], "bbox_label": 0}]
    assert opened(path, masks=True).record(0)["instances"][0]["mask"] == [[1, 2, 3, 4, 5, 6]]
    (boxes,) = (tmp_path / "records").glob("train-boxes-*/records.bin")
    written, still_mapped = boxes.stat().st_mtime_ns, opened(path, masks=False)
    assert opened(path, masks=False).table.shape == (1,)
    assert boxes.stat().st_mtime_ns == written
    document["annotations"] = []
    path.write_text(json.dumps(document))
    assert opened(path, masks=False).record(0)["instances"] == []
    assert not boxes.exists()
    assert len(still_mapped.record(0)["instances"]) == 1
    assert len(list((tmp_path / "records").glob("train-*"))) == 2  # those with masks are replaced when somebody asks for them


def test_records_that_cannot_be_made_are_told_as_a_fault_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    (tmp_path / "records").write_text("a file where the folder should be")
    with pytest.raises(TrialFailure, match=f"records cannot be made in {tmp_path}/records: File exists") as refused:
        opened(tmp_path / "train.json", masks=False)
    assert refused.value.kind == "data"


def test_processes_that_ask_at_once_make_records_once(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "width": 50, "height": 40} for n in range(20_000)]
    (tmp_path / "train.json").write_text(json.dumps({"images": images, "annotations": [], "categories": []}))
    ask = (
        "import pathlib; from workers.datasets.records import opened; print(opened(pathlib.Path('train.json'), False).record(19999)['id'])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", ask]
    asked = [subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in asked] == ["19999"] * 3
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "records").iterdir()) == ["lock", "train"]


# --- what a sample is drawn from


def test_a_sample_follows_from_seed_epoch_and_place_alone(data: Path) -> None:
    def sizes(seed: int, epoch: int, places: list[int]) -> dict[int, tuple[int, ...]]:
        seeded = SeededDataset(dataset(trial(schedule={"recipe": "ms-2x"}), data), seed)
        return {place: tuple(seeded[epoch, place]["inputs"].shape) for place in places}

    some = [*range(12)]
    first = sizes(0, 0, some)
    assert sizes(0, 0, some[::-1]) == first
    assert len(set(first.values())) > 3
    assert sizes(0, 1, some) != first
    assert sizes(1, 0, some) != first


def test_images_of_an_epoch_have_a_size_that_is_drawn_for_it_whoever_loads_them(data: Path) -> None:
    network = {"detector": "retinanet", "backbone": "resnet18", "width": 8, "form": "pdf_fpn"}
    spec = trial(scale="nano", network=network, schedule={"recipe": "pdf-code-70e", "epochs": 10})
    drawn = dataset(spec, data)

    def sides(loaders: int, epochs: Iterable[int]) -> list[int]:
        loader: Any = training_loader(drawn, spec.seed, batch_size=8, one_shape=True, loaders=loaders)
        found = []
        for epoch in epochs:
            loader.batch_sampler.begin(epoch, len(loader) - 2)
            (longer,) = {max(image.shape[1:]) for batch in loader for image in batch["inputs"]}
            found.append(longer)
        return found

    alone = sides(0, range(10))
    assert [alone[epoch] for epoch in (0, 8, 9)] == [128] * 3
    assert set(alone[1:8]) == {102, 128, 154}
    assert sides(2, (1, 2, 3)) == alone[1:4]
    paper = training_images(spec.model_copy(update={"scale": "paper"}), RECIPES["pdf-code-70e"], mirror=True)[-1]
    assert {round(paper["scale"][0] * factor) for factor in paper["factors"]} == {256, 320, 384}


def test_drawing_a_sample_leaves_the_generators_where_they_were() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = draw() + draw()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    found = draw()
    with drawn_from(0, 0, 0):
        inside = draw()
    assert found + draw() == expected
    with drawn_from(0, 0, 0):
        assert draw() == inside
    for other in ((0, 0, 1), (0, 1, 0), (1, 0, 0)):
        with drawn_from(*other):
            assert draw() != inside


@pytest.mark.parametrize(
    ("recipe", "network"),
    [
        ("ms-2x", {"detector": "faster_rcnn", "backbone": "resnet18", "width": 8}),  # draws its proposals from torch's generator
        ("pdf-70e", {"detector": "retinanet", "backbone": "resnet18", "width": 8, "form": "pdf_fpn"}),  # mixes in the main process
    ],
)
def test_the_number_of_loader_processes_changes_nothing_and_neither_does_a_kill(
    recipe: str, network: dict[str, Any], tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = {"recipe": recipe, "epochs": 3, "batch_size": 4, "lr": 1e-3, "max_iterations": 3}
    spec = trial(scale="nano", network=network, schedule=schedule)
    undisturbed: list[EpochReport] = []
    expected = run(spec, tmp_path / "undisturbed", data, undisturbed.append)

    def killed_after(done: EpochReport) -> None:
        if done.epoch == 1:
            raise Killed

    for loaders in (1, 3):
        monkeypatch.setattr("workers.training.trial.loader_processes", lambda gpus, cpus, loaders=loaders: loaders)
        with pytest.raises(Killed):
            run(spec, tmp_path / str(loaders), data, killed_after)
        resumed: list[EpochReport] = []
        result = run(spec, tmp_path / str(loaders), data, resumed.append)
        assert numbers(resumed) == numbers(undisturbed)
        assert result.checkpoint_sha256 == expected.checkpoint_sha256


# --- batches


def test_wide_and_tall_images_train_in_batches_of_their_own(mixed: Path) -> None:
    wide_and_tall = dataset(trial(dataset="mixed"), mixed)
    assert len(wide_and_tall) == 39  # not the one that is 31 pixels wide
    loader = training_loader(wide_and_tall, seed=0, batch_size=4, one_shape=False, loaders=0)
    assert isinstance(loader.dataset, SeededDataset)
    seen: list[list[int]] = []
    for epoch in (0, 1):
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        batches = list(loader.batch_sampler)  # type: ignore[arg-type]
        assert {key[0] for batch in batches for key in batch} == {epoch}
        places = [key[1] for batch in batches for key in batch]
        assert len(places) == len(set(places)) == 36
        wide = [[width >= height for width, height in loader.dataset.sizes[[key[1] for key in batch]].tolist()] for batch in batches]
        assert sum(len(set(batch)) > 1 for batch in wide) <= 1  # what is left at the end of the epoch
        seen.append(places)
    assert seen[0] != seen[1]
    shapes = [tuple(image.shape[1:]) for batch in loader for image in batch["inputs"]]
    assert len(set(shapes)) == 5


def test_no_image_is_padded_for_anothers_sake_in_a_test(mixed: Path) -> None:
    spec = trial(dataset="mixed")
    tested = dataset(spec, mixed, "val")
    loader = evaluation_loader(tested, loaders=0)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert max(len(batch["inputs"]) for batch in batches) > 2
    assert sorted(sample.img_id for batch in batches for sample in batch["data_samples"]) == list(range(23))
    assert all(len({tuple(image.shape) for image in batch["inputs"]}) == 1 for batch in batches)
    torch.manual_seed(0)
    model: Any = build(spec.network, 1).eval()
    for parameter in model.bbox_head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.bbox_head.gfl_cls.bias.data += 4  # it finds something everywhere
    with torch.no_grad():
        together = {sample.img_id: sample.pred_instances for batch in batches for sample in model.test_step(batch)}
        for index in range(len(tested)):
            (alone,) = model.test_step({"inputs": [tested[index]["inputs"]], "data_samples": [tested[index]["data_samples"]]})
            assert len(alone.pred_instances) > 0
            torch.testing.assert_close(together[alone.img_id].scores, alone.pred_instances.scores)
            torch.testing.assert_close(together[alone.img_id].bboxes, alone.pred_instances.bboxes, rtol=0, atol=1e-3)


def test_every_pass_over_the_images_draws_anew(mixed: Path) -> None:
    passes = SeededDataset(dataset(trial(dataset="mixed", scale="nano", schedule={"recipe": "cityscapes-64e"}), mixed), seed=0)
    once = len(passes) // 8
    assert once == 39
    assert all((passes.sizes[place] == passes.sizes[place + once]).all() for place in range(once))
    drawn = [passes[0, 5 + number * once] for number in range(8)]
    assert len({sample["data_samples"].img_path for sample in drawn}) == 1
    assert len({tuple(sample["inputs"].shape) for sample in drawn}) > 2


# --- images in memory


def test_a_decoded_image_stays_in_memory_where_that_is_asked_for(tmp_path: Path) -> None:
    path, pixels = tmp_path / "image.png", np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    load = LoadImage(keep=True)
    first = load.transform({"img_path": str(path)})
    path.unlink()
    again = load.transform({"img_path": str(path), "img_id": 7})
    assert first
    assert again
    np.testing.assert_array_equal(again["img"], pixels[..., ::-1])
    assert again == {**first, "img_id": 7, "img": again["img"]}
    with pytest.raises(UnreadableImage):
        LoadImage().transform({"img_path": str(path)})


def test_an_image_of_digits_is_the_same_when_it_is_asked_for_again(data: Path) -> None:
    images = dataset(trial(), data)
    first, again = images[3], images[3]
    assert torch.equal(first["inputs"], again["inputs"])
    assert torch.equal(first["data_samples"].gt_instances.bboxes.tensor, again["data_samples"].gt_instances.bboxes.tensor)
