"""What to keep of a computation, so that the rest can be made again: a minimum cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

_Node = TypeVar("_Node", bound=Hashable)


def least_to_keep(
    targets: Iterable[_Node], made_of: Mapping[_Node, list[_Node]], sizes: Mapping[_Node, float]
) -> list[_Node]:
    """What to keep so that targets can be made again, with the least size in all.

    By the theorem of Ford and Fulkerson (1956) that is the largest flow from what can only be kept
    to the targets, where each node lets through its size.  Of several such choices it is the one
    nearest to the targets, for which the least is made again.

    Args:
      targets: what is to be had.
      made_of: what each node is made again of, an acyclic graph.  What is not in it can only be
        kept.
      sizes: of each node, what it takes to keep it; infinite for what is never kept.

    Returns:
      The nodes that are kept, in the order in which they are come upon from the targets.
    """
    reached = _reached(targets, made_of)
    # A node is two, (node, 0) where flow comes in and (node, 1) where it goes out; what passes from
    # the one to the other is its flow, what comes in from a node that it is made of is in `links`.
    flows = dict.fromkeys(reached, 0.0)
    links = {(u, v): 0.0 for v in reached for u in made_of.get(v, ())}
    users: dict[_Node, list[_Node]] = {v: [] for v in reached}
    for u, v in links:
        users[u].append(v)
    targets = list(dict.fromkeys(targets))

    def before(end: tuple[_Node, int]) -> list[tuple[tuple[_Node, int], float]]:
        """From where more may come to an end, and how much."""
        v, out = end
        if out:
            back = [((w, 0), links[v, w]) for w in users[v]]
            return [((v, 0), sizes[v] - flows[v]), *back]
        inward = [((u, 1), float("inf")) for u in made_of.get(v, ())]
        return [((v, 1), flows[v]), *inward]

    while True:
        following: dict[tuple[_Node, int], tuple[_Node, int] | None] = dict.fromkeys(
            (v, 1) for v in targets
        )
        queue, start = deque(following), None
        while queue and start is None:
            end = queue.popleft()
            for other, room in before(end):
                if room > 0 and other not in following:
                    following[other] = end
                    queue.append(other)
                    if other[1] == 0 and other[0] not in made_of:
                        start = other
                        break
        if start is None:
            return [v for v in reached if (v, 1) in following and (v, 0) not in following]
        path = [start]
        while (end := following[path[-1]]) is not None:
            path.append(end)
        steps = list(zip(path, path[1:], strict=False))
        more = min(dict(before(b))[a] for a, b in steps)
        for (u, _), (v, side) in steps:
            if u == v:
                flows[v] += more if side else -more
            elif side:
                links[v, u] -= more
            else:
                links[u, v] += more


def _reached(targets: Iterable[_Node], made_of: Mapping[_Node, list[_Node]]) -> list[_Node]:
    """Targets, and all that they are made of."""
    found = dict.fromkeys(targets)
    todo = list(found)
    while todo:
        more = [u for u in made_of.get(todo.pop(), ()) if u not in found]
        found |= dict.fromkeys(more)
        todo += more
    return list(found)
