"""Where trials fit: per node, never over nodes added up."""

import pytest

from orchestrator.broker.cluster import Need, Resources, fits, misfit, place

TWO_SMALL = {"a": Resources(16, 2), "b": Resources(16, 2)}


def test_four_gpus_in_one_process_fit_on_no_two_nodes_of_two() -> None:
    need = Need(Resources(4, 4))
    assert place(need, TWO_SMALL) is None
    assert misfit(need, TWO_SMALL) == "needs 4 GPUs on a node; the largest has 2"


def test_a_gang_is_on_one_node_where_it_fits_and_spread_where_not() -> None:
    gang = Need(Resources(2, 1), workers=2)
    assert place(gang, TWO_SMALL) in (("a", "a"), ("b", "b"))
    assert sorted(place(Need(Resources(2, 1), workers=4), TWO_SMALL) or ()) == ["a", "a", "b", "b"]
    assert place(Need(Resources(2, 1), workers=5), TWO_SMALL) is None


def test_a_trial_goes_where_the_least_is_left_over() -> None:
    nodes = {"big": Resources(64, 8), "half": Resources(32, 4), "no gpu": Resources(32)}
    assert place(Need(Resources(2, 1)), nodes) == ("half",)
    assert place(Need(Resources(2)), nodes) == ("no gpu",)


def test_fractions_of_a_gpu_share_it() -> None:
    quarter = Need(Resources(1, 0.25))
    assert fits(quarter, ("a",) * 4, {"a": Resources(4, 1)})
    assert not fits(quarter, ("a",) * 5, {"a": Resources(5, 1)})


@pytest.mark.parametrize(
    ("need", "why"),
    [
        (Need(Resources(32)), "needs 32 CPUs on a node; the largest has 16"),
        (Need(Resources(1, 0, 64)), "needs 64 GiB memory on a node; the largest has 0 GiB"),
        (Need(Resources(4, 1), workers=6), "needs 6 times 4 CPUs and 1 GPUs together; the nodes have 16 CPUs and 2 GPUs"),
    ],
)
def test_what_never_fits_says_why(need: Need, why: str) -> None:
    assert misfit(need, TWO_SMALL) == why
    assert misfit(need, {}) == "the cluster has no nodes"
