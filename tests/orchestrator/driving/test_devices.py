"""A trial fits where one node has all that it wants."""

from orchestrator.driving.devices import lacking
from studies.spec import Resources

PAIR = [{"CPU": 8.0, "GPU": 2.0, "memory": 1e9}, {"CPU": 8.0, "GPU": 2.0}]


def test_what_one_node_has_is_enough() -> None:
    assert lacking(PAIR, Resources(cpus=4, gpus=2)) is None
    assert lacking([{"CPU": 2.0}], Resources(cpus=2)) is None


def test_the_devices_of_two_nodes_do_not_add_up() -> None:
    wants = "a trial wants 1 CPU and 4 GPUs on one node, and no node has so many (a node has 8 CPUs and 2 GPUs)"
    assert lacking(PAIR, Resources(cpus=1, gpus=4)) == wants


def test_devices_that_different_nodes_have_do_not_meet() -> None:
    told = lacking([{"CPU": 16.0}, {"CPU": 1.0, "GPU": 8.0}], Resources(cpus=4, gpus=1))
    assert told
    assert told.endswith("(a node has 1 CPUs and 8 GPUs; a node has 16 CPUs and 0 GPUs)")


def test_a_cluster_without_nodes_says_so() -> None:
    assert lacking([], Resources(cpus=1)) == "a trial wants 1 CPU on one node, and no node has so many (there is no node)"
