"""Finding a cycle in a graph, compared with `graphlib`."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from apflow.core.model.cycles import find_cycle, find_numbered_cycle

GRAPHS = st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefgz"), max_size=3))


def has_cycle(edges: dict[str, list[str]]) -> bool:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError:
        return True
    return False


@given(GRAPHS)
def test_a_cycle_is_found_where_there_is_one_and_each_edge_of_it_exists(edges: dict[str, list[str]]):
    cycle = find_cycle(edges)
    assert bool(cycle) is has_cycle(edges)
    assert len(set(cycle)) == len(cycle)
    for start, end in pairwise([*cycle, *cycle[:1]]):
        assert end in edges[start]


def test_nodes_that_only_lead_to_a_cycle_are_left_out_and_the_first_node_comes_first():
    edges = {"lead": ["c"], "a": ["b"], "b": ["c"], "c": ["leaf", "a"], "leaf": []}
    assert find_cycle(edges) == ["a", "b", "c"]
    assert find_cycle({"a": ["b"], "b": ["unknown"]}) == []
    assert find_cycle({"a": ["a"]}) == ["a"]


def test_a_chain_and_a_ring_of_100_000_nodes_do_not_recurse():
    size = 100_000
    assert find_numbered_cycle([[node - 1] if node else [] for node in range(size)]) == []
    assert len(find_numbered_cycle([[(node + 1) % size] for node in range(size)])) == size
