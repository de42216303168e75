"""What a training costs before anything was measured: counted networks, FLOP of a training, and the rate of a kind of GPU."""

import pytest

from studies.catalog import DATASETS
from studies.costs import FLOP_PER_BYTE, GPUS, cost_of, evaluation_flop, gpu_named, measurement_flop, reference_size, training_flop
from studies.inputs import input_sides
from studies.spec import Network, Schedule
from studies.submission import read_submission
from studies.tables.shipped import numbered_tables, table_ids

R18 = Network(detector="gfl", backbone="resnet18")
R101 = Network(detector="gfl", backbone="resnet101")
G18, G101 = 166.698e9, 298.710e9  # their multiply-adds at 800 x 1344


def schedule(**fields: object) -> Schedule:
    return Schedule.model_validate({"recipe": "1x", "epochs": 1, "batch_size": 16, **fields})


def on(name: str, network: Network, of: Schedule, teacher: Network | None = None) -> float:
    flop = training_flop(network, of, teacher, DATASETS[name])
    assert flop is not None
    return flop


def test_a_plain_training_is_three_forward_passes_an_image_and_two_of_those_it_is_evaluated_on() -> None:
    epoch = 2 * G18 * (3 * 118_287 + 2 * 5_000)
    assert on("coco", R18, schedule()) == pytest.approx(epoch, rel=1e-9)
    assert on("coco", R18, schedule(epochs=12)) == pytest.approx(12 * epoch, rel=1e-9)


def test_only_evaluations_that_there_are_count() -> None:
    evaluation = evaluation_flop(R18, DATASETS["coco"])
    assert evaluation
    every, some = (on("coco", R18, schedule(epochs=12, val_interval=interval)) for interval in (1, 5))
    assert every - some == pytest.approx(9 * evaluation, rel=1e-9)  # after epochs 5, 10 and 12


def test_a_teacher_adds_one_forward_pass_of_its_own_and_is_not_evaluated() -> None:
    added = on("coco", R18, schedule(), R101) - on("coco", R18, schedule())
    assert added == pytest.approx(2 * G101 * 118_287, rel=1e-9)


def test_passes_and_a_cut_of_the_epoch_decide_how_many_images_are_seen() -> None:
    evaluation = evaluation_flop(R18, DATASETS["voc"])
    assert evaluation == pytest.approx(2 * 2 * G18 * 4_952, rel=1e-9)
    assert on("voc", R18, schedule(recipe="ld-voc")) == pytest.approx(2 * 3 * G18 * 3 * 16_551 + evaluation, rel=1e-9)
    assert on("voc", R18, schedule(max_iterations=10)) == pytest.approx(2 * 3 * G18 * 160 + evaluation, rel=1e-9)


def test_an_evaluation_after_every_epoch_is_3_percent_on_coco_and_20_on_voc() -> None:
    share = {
        name: epoch / (on(name, R18, schedule()) - epoch) for name in ("coco", "voc") if (epoch := evaluation_flop(R18, DATASETS[name]))
    }
    assert share == pytest.approx({"coco": 0.028, "voc": 0.199}, abs=1e-3)


def test_images_of_many_sizes_count_as_their_middle() -> None:
    seen = on("coco", R18, schedule(recipe="ms-2x")) - 2 * 2 * G18 * 5_000
    assert seen / (2 * 3 * G18 * 118_287) == pytest.approx(640 * 1088 / (800 * 1344), rel=1e-9)


def test_a_larger_image_costs_more_but_not_on_the_heads_of_rois() -> None:
    faster = Network(detector="faster_rcnn", backbone="resnet50")
    cost = cost_of(faster)
    assert cost is not None
    assert cost.rois == pytest.approx(14.309)
    assert cost.flop(2 * 800 * 1344) == pytest.approx(2e9 * (2 * cost.image + cost.rois))
    assert input_sides(faster, "cityscapes") == (1024, 2048)


def test_a_measurement_is_an_evaluation_of_the_images_and_networks_that_it_looks_at() -> None:
    def measured(kind: str, teacher: Network | None = None, limit: int | None = None, **options: object) -> float | None:
        return measurement_flop(kind, options, R18, teacher, DATASETS["coco"], limit)

    assert measured("errors") == measured("nms", threshold=0.9) == evaluation_flop(R18, DATASETS["coco"])
    assert measured("errors", limit=48) == pytest.approx(48 * 2 * 2 * G18)
    assert measured("d_pred", R101) == pytest.approx(5_000 * 2 * 2 * (G18 + G101))
    assert measured("attention", R101, images=[0, 3]) == pytest.approx(2 * 2 * 2 * (G18 + G101))
    assert measured("costs") == 0  # counted on shapes
    assert measured("d_pred", Network(detector="ssd", backbone="vgg16", form="distribution")) is None


def test_what_was_not_counted_is_unknown_not_guessed() -> None:
    strange = Network(detector="ssd", backbone="vgg16", form="distribution")
    assert training_flop(strange, schedule(), None, DATASETS["coco"]) is None
    assert training_flop(R18, schedule(), strange, DATASETS["coco"]) is None
    assert evaluation_flop(strange, DATASETS["coco"]) is None


def test_every_network_of_the_shipped_tables_is_counted() -> None:
    trials = [trial for table in table_ids() for trial in read_submission({"table": table, "scale": "paper"}).expansion.trials]
    assert {str(trial.network) for trial in trials if cost_of(trial.network) is None} == set()


def test_the_papers_own_tables_are_17() -> None:
    assert len(numbered_tables()) == 17


def test_a_network_is_counted_at_its_own_input() -> None:
    sizes = {each: reference_size(Network(detector=each, backbone="resnet50")) for each in ("gfl", "ssd", "yolov3")}
    assert sizes == {"gfl": (800, 1344), "ssd": (512, 512), "yolov3": (608, 608)}
    assert reference_size(Network(detector="fcos", backbone="resnet18", form="pdf_fpn")) == (320, 320)


@pytest.mark.parametrize(
    ("device", "kind"),
    [
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA GeForce RTX 2080 Ti", "RTX 2080 Ti"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("cpu, 2 threads", None),
    ],
)
def test_a_kind_of_gpu_is_known_by_its_drivers_name(device: str, kind: str | None) -> None:
    assert gpu_named(device) == (GPUS[kind] if kind else None)


def test_the_stated_efficiency_is_what_mmdetection_reaches_on_v100() -> None:
    mask = cost_of(Network(detector="mask_rcnn", backbone="resnet50"))
    assert mask is not None
    images_per_second = 53 / 8  # of one of 8 V100
    reached = images_per_second * 3 * mask.flop(800 * 1344)
    assert reached / 1e12 == pytest.approx(10.7, abs=0.05)
    assert reached / (GPUS["V100"].bandwidth * 1e12) == pytest.approx(FLOP_PER_BYTE, rel=0.02)
    assert {name: round(gpu.efficiency, 2) for name, gpu in GPUS.items() if name in ("V100", "A100")} == {"V100": 0.69, "A100": 0.16}
