"""What is kept of a computation, against all choices there are."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from jscg._cut import least_to_keep


def random_graph(seed: int, nodes: int):
    """Nodes in order, each made of some before it or of nothing that can be made again."""
    rng = random.Random(seed)
    made_of: dict[int, list[int]] = {}
    sizes: dict[int, float] = {}
    for v in range(nodes):
        sizes[v] = float(rng.randint(1, 8))
        if v and rng.random() < 0.8:
            made_of[v] = rng.sample(range(v), rng.randint(1, min(v, 3)))
            if rng.random() < 0.2:
                sizes[v] = math.inf
        elif rng.random() < 0.3:
            made_of[v] = []  # there anyway
    return rng.sample(range(nodes), 3), made_of, sizes


def suffices(kept, targets, made_of) -> bool:
    return all(v in kept or (v in made_of and suffices(kept, made_of[v], made_of)) for v in targets)


@pytest.mark.parametrize("seed", range(60))
def test_no_other_choice_is_smaller(seed):
    targets, made_of, sizes = random_graph(seed, 11)
    kept = least_to_keep(targets, made_of, sizes)
    assert suffices(kept, targets, made_of)
    least = min(
        sum(sizes[v] for v in choice)
        for count in range(12)
        for choice in itertools.combinations(range(11), count)
        if suffices(choice, targets, made_of)
    )
    assert sum(sizes[v] for v in kept) == least


def test_of_equal_choices_the_latest_is_taken():
    made_of = {v: [v - 1] for v in range(1, 6)}
    assert least_to_keep([5], made_of, dict.fromkeys(range(6), 4.0)) == [5]
    assert least_to_keep([5], made_of, {**dict.fromkeys(range(6), 4.0), 5: math.inf}) == [4]


def test_what_is_there_is_not_kept():
    assert least_to_keep(["b"], {"a": [], "b": ["a"]}, {"a": 1.0, "b": 1.0}) == []


def test_long_chains_take_no_recursion():
    made_of = {v: [v - 1] for v in range(1, 5_000)}
    sizes = {v: 2.0 for v in range(5_000)} | {17: 1.0}
    assert least_to_keep([4_999], made_of, sizes) == [17]
