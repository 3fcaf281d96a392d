"""`jscg.explain`: the lines from a draw to where it is refused, and on to the cost."""

import contextlib
import gc
import inspect
import linecache
import weakref

import jax
import jax.numpy as jnp
import pytest
from gold import GOLD
from jax import lax, random
from jax.nn import sigmoid
from programs import CONTEXTS, LAYOUTS

import jscg
from jscg import _last
from jscg import estimators as est
from jscg._activity import propagate
from jscg._intercept import explicit_draws
from jscg._program import build
from jscg._source import place_of

KEY = random.key(0)
TH = jnp.array([0.3, 0.7])

# Lines are marked: a draw, the place where the program is refused, and what is passed on the way.


def jump(th, key):
    noise = random.normal(key)  # draw
    bent = noise**2  # way
    x = th[0] + th[1] * bent  # way
    return jnp.floor(x) * 2.0  # fault


def kept_by_a_callback(th, key):
    noise = random.normal(key)  # draw
    x = th[0] + noise**2  # way
    shape = jax.ShapeDtypeStruct((), bool)
    seen = jax.pure_callback(lambda v: v > 1, shape, x)  # fault
    return 1.0 * seen


def jump_in_a_branch_of_a_scan(th, key):
    noise = random.normal(key, (4,))  # draw

    def step(total, x):
        z, which = x
        up = lax.cond(
            which,
            lambda: jnp.floor(th[0] + z),  # fault
            lambda: jnp.sin(z) * jnp.exp(jnp.sin(jnp.exp(z)) + jnp.cos(z)),  # of many lines
        )
        return total + up, None

    return lax.scan(step, 0.0, (noise, jnp.arange(4) < 2))[0]


def one_key(th, key):
    same = random.fold_in(key, 1)  # way
    x = random.bernoulli(same, th[0])  # draw
    y = random.bernoulli(same, th[1])  # fault
    return 3.0 * x * y


def one_key_at_all_steps(th, key):
    same = random.fold_in(key, 1)  # way

    def step(total, _):
        x = random.bernoulli(same, th[0])  # draw fault
        return total + x, None

    return lax.scan(step, 0.0, None, length=3)[0]


def copies(th, key):
    same = random.fold_in(key, 1)  # way
    draw = jax.vmap(lambda p: random.bernoulli(same, p))  # draw fault
    return jnp.prod(1.0 * draw(th))


def in_a_while_loop(th, key):
    p = sigmoid(th[0])  # way

    def body(state):
        key, n = state
        key, use = random.split(key)
        x = random.bernoulli(use, p)  # draw fault
        return key, n + x

    return lax.while_loop(lambda s: s[1] < 2, body, (key, 0.0))[1]


def unscored(th, key):
    n = 3.0 * th[0]  # way
    p = th[1]
    x = random.binomial(key, n, p)  # draw fault
    return 2.0 * x


def rounded(th, key):
    top = (10 * th[0]).astype(jnp.int32)  # way
    x = random.randint(key, (), 0, top)  # draw fault
    return x * th[1]


def rule_of_its_own(th, key):
    @jax.custom_jvp
    def noisy(p, key):
        x = random.bernoulli(key, p)  # draw fault
        return 1.0 * x

    noisy.defjvp(lambda primals, tangents: (noisy(*primals), jnp.zeros(())))
    p = sigmoid(th[0])  # way
    return noisy(p, key)


mean = jscg.expectation(lambda p, key: 3.0 * random.bernoulli(key, p))


def square_of_a_mean(th, key):
    m = mean(th[0], key)  # draw
    scaled = 2.0 * m  # way
    both = scaled**2  # fault
    return both + th[1]


def own_baseline(th, key):
    x = random.bernoulli(key, th[0])  # draw
    b = 2.0 * x  # way
    y = jscg.baseline(x, b)  # fault
    return jnp.exp(1.0 * y)


def in_a_reference(th, key):
    ref = jax.new_ref(jnp.zeros(()))
    x = random.bernoulli(key, th[0])  # draw
    y = 2.0 * x  # way
    ref[...] = y  # fault
    return ref[...] ** 2 + th[0]


def index(th, key):
    x = random.bernoulli(key, th[0])  # draw
    place = x.astype(int) + 1  # way
    y = lax.switch(place, [lambda: 1.0, lambda: 2.0, lambda: 4.0])  # fault
    return y * th[1]


def too_many_to_enumerate(th, key):
    p = sigmoid(th)  # way
    x = random.bernoulli(key, p)  # draw fault
    return jnp.exp(1.0 * jnp.sum(x))


REFUSED = {
    jump: None,
    kept_by_a_callback: None,
    jump_in_a_branch_of_a_scan: None,
    one_key: None,
    one_key_at_all_steps: None,
    copies: None,
    in_a_while_loop: None,
    unscored: None,
    rounded: None,
    rule_of_its_own: None,
    square_of_a_mean: None,
    own_baseline: est.ScoreFunction(),
    in_a_reference: None,
    index: est.REBAR(),
    too_many_to_enumerate: est.Enumerate(budget=2),
}
ABOUT_KEYS = {one_key, one_key_at_all_steps, copies}


def marked(fun, mark):
    """The lines of a function with a mark, as steps call them."""
    lines, start = inspect.getsourcelines(fun)
    marks = [line.partition("  # ")[2].split() for line in lines]
    return [f"test_explain.py:{start + i}" for i, found in enumerate(marks) if mark in found]


def depend(fun, one, other):
    """Whether what some line makes depends on what another one makes, by the program."""
    with explicit_draws():
        program = build(jax.make_jaxpr(fun)(TH, KEY))
    eqns = [(eqn, place_of(eqn)) for part in program.walk() for eqn in part.eqns]
    made = {v for eqn, at in eqns if at and at.row[0] == one for v in eqn.outvars}
    found = set(made)
    step = lambda eqn, flags: [any(flags)] * len(eqn.outvars)  # noqa: E731
    # Once for the values, once more for what decided branches.
    for _ in range(2):
        propagate(program, [False] * len(program.invars), found, step, everywhere=True)
        for eqn, _ in eqns:
            if eqn.primitive.name == "cond" and eqn.invars[0] in found:
                found.update(eqn.outvars)
    there = [eqn for eqn, at in eqns if at and at.row[0] == other]
    return bool(made) and any(
        v in found for eqn in there for v in [*eqn.invars, *eqn.outvars] if not hasattr(v, "val")
    )


SAMPLES = [*((f, 1) for f in REFUSED), (jump, 3), (one_key, 3), (own_baseline, 3), (unscored, 3)]


@pytest.mark.parametrize("fun, num_samples", SAMPLES, ids=lambda f: getattr(f, "__name__", f))
def test_the_path_leads_from_the_draw_to_where_it_is_refused(fun, num_samples):
    gradient = jscg.grad_expectation(fun, estimators=REFUSED[fun], num_samples=num_samples)
    with pytest.raises(jscg.JscgError) as error:
        gradient(TH, KEY)
    found = jscg.explain(error.value)
    (finding,) = found.findings
    assert found.refused and str(error.value).startswith(finding.text)
    assert found.remedies and found.remedies[0] in str(error.value)
    first, *others = finding.paths
    lines = [step.where for step in first.steps]
    refused = [step.where for step in first.steps if step.refused]
    draw, fault, way = (marked(fun, mark) for mark in ("draw", "fault", "way"))
    assert refused == (draw if fun in ABOUT_KEYS else fault)
    end = lines.index(refused[0])
    start = [] if draw == fault or fun in ABOUT_KEYS else draw
    assert lines[: end + 1] == [*start, *way, *refused]
    for path in [first, *others]:
        steps = [step.where for step in path.steps]
        for one, other in zip(steps, steps[1:], strict=False):
            if (fun, one) != (in_a_reference, fault[0]):  # of what it holds no variable tells
                assert depend(fun, one, other), (path.title, one, other)
    # And on to the result.
    source, start = inspect.getsourcelines(fun)
    final = max(i for i, line in enumerate(source) if "return" in line)
    assert lines[-1] == f"test_explain.py:{start + final}", lines
    assert first.title.endswith(" to the result")
    if fun is one_key:
        assert [s.where for s in others[0].steps if s.refused] == fault
    if draw != fault and fun not in ABOUT_KEYS:
        if fun in (jump, kept_by_a_callback, jump_in_a_branch_of_a_scan):
            assert "from the argument 'th' to " in others[-1].title


def test_order_of_lines_is_told_apart_by_the_check_of_these_tests():
    noise, bent, x, floor = (marked(jump, m) for m in ("draw", "way", "way", "fault"))
    assert depend(jump, noise[0], bent[0]) and depend(jump, x[1], floor[0])
    assert not depend(jump, bent[0], noise[0]) and not depend(jump, floor[0], noise[0])
    assert not depend(one_key, marked(one_key, "draw")[0], marked(one_key, "fault")[0])


@pytest.mark.parametrize("gold", [g for g in GOLD if g.verdict == "refused"], ids=str)
def test_every_refused_program_has_a_path(gold):
    found = jscg.explain(gold.fun)(jnp.array(gold.params), KEY)
    assert found.refused and len(found.findings) == 1
    paths = found.findings[0].paths
    assert paths and any(step.refused for path in paths for step in path.steps)
    for path in paths:
        assert all(step.where.startswith("gold.py:") and step.text for step in path.steps)
    assert max(map(len, str(found).splitlines())) <= 100


@pytest.mark.parametrize("case", (CONTEXTS + LAYOUTS)[::2], ids=str)
def test_every_draw_has_a_path_to_every_cost(case):
    found = jscg.explain(case.fun)(case.vector(), KEY)
    told = str(found)
    assert max(map(len, told.splitlines())) <= 100 and "jscg/_" not in told and "jax/_" not in told
    if found.refused:
        return
    graph = jscg.graph(case.fun)(case.vector(), KEY)
    for draw, finding in zip(graph.stochastic_nodes, found.findings, strict=True):
        name = f"the draw {draw.name!r}"
        assert finding.text.startswith(f"{name} ({draw.family})")
        assert all(
            f"{how}" in finding.text and why in finding.text for how, why, _ in draw.estimates
        )
        costs = [i for i, cost in enumerate(graph.cost_nodes) if draw.name in cost.influenced_by]
        titles = [path.title for path in finding.paths]
        assert titles[len(titles) - len(costs) :] == [f"from {name} to cost {i}" for i in costs]
        begins = [f"from the argument '{t}' to {name}" for t in ("th", "args[0]", "params")]
        assert draw.verdict == "free" or titles[0] in begins
        of_draw = _line(draw.where)
        for path, title in zip(finding.paths, titles, strict=True):
            if "to cost" in title:
                cost = graph.cost_nodes[int(title.rsplit(" ", 1)[1])]
                assert _near(path.steps[0], of_draw) and _near(path.steps[-1], _line(cost.where))
            else:
                assert _near(path.steps[-1], of_draw)


def _line(where):
    file, line = where.split(" ")[0].split(":")[:2]
    return file.rsplit("/", 1)[-1], int(line)


def _near(step, at):
    """Whether a step is the statement that holds a line."""
    file, line = step.where.split(":")
    return file == at[0] and int(line) <= at[1] <= int(line) + 8


def walk(th, key):
    k0, k1 = random.split(key)
    start = random.bernoulli(k0, sigmoid(th[0]), (4,))

    def step(place, k):
        up = random.bernoulli(k, sigmoid(th[1] + place), (4,))
        moved = place + up
        return moved, jnp.abs(place - 2.0)

    _, costs = lax.scan(step, 1.0 * start, random.split(k1, 6))
    return jnp.mean(jnp.sum(costs, 0))


def test_loops_are_told():
    _, up = jscg.explain(walk)(TH, KEY).findings
    _, start = inspect.getsourcelines(walk)
    to_draw, to_cost = up.paths
    assert [(s.where, s.note) for s in to_draw.steps] == [
        (f"test_explain.py:{start + 5}", "in a scan of 6 steps"),
    ]
    assert [(s.where, s.note) for s in to_cost.steps] == [
        (f"test_explain.py:{start + 5}", "in a scan of 6 steps"),
        (f"test_explain.py:{start + 6}", ""),
        (f"test_explain.py:{start + 7}", "at the next step"),
    ]
    assert to_cost.steps[1].text == "moved = place + up"


def in_regions(th, key):
    k1, k2, k3 = random.split(key, 3)
    x = jax.checkpoint(lambda p: random.bernoulli(k1, p))(sigmoid(th[0]))
    which = random.bernoulli(k2, 0.5)
    y = lax.cond(which, lambda: jnp.exp(2.0 * x), lambda: 1.0)
    z = jax.vmap(lambda k, p: random.bernoulli(k, p))(random.split(k3), th)
    return y + jnp.prod(1.0 * z)


@pytest.mark.parametrize("fun", [walk, in_regions], ids=lambda f: f.__name__)
def test_steps_of_scored_programs_depend_on_those_before(fun):
    found = jscg.explain(fun, estimators=est.ScoreFunction())(TH, KEY)
    pairs = 0
    for finding in found.findings:
        for path in finding.paths:
            lines = list(dict.fromkeys(step.where for step in path.steps))
            pairs += len(lines) - 1
            for one, other in zip(lines, lines[1:], strict=False):
                assert depend(fun, one, other), (path.title, one, other)
    assert pairs >= 4
    if fun is in_regions:
        (decided,) = (f for f in found.findings if "'which'" in f.text)
        assert decided.paths and all(len(path.steps) >= 2 for path in decided.paths)


def test_what_has_no_influence_is_no_way():
    def fun(th, key):
        x = random.bernoulli(key, th[0])
        near = jscg.stop_influence(2.0 * x)
        far = jnp.sin(jnp.cos(jnp.tanh(1.0 * x)))
        return near * far

    found = jscg.explain(fun)(TH, KEY).findings[0]
    assert [step.text for step in found.paths[-1].steps] == [
        "x = random.bernoulli(key, th[0])",
        "far = jnp.sin(jnp.cos(jnp.tanh(1.0 * x)))",
        "return near * far",
    ]


def test_an_argument_comes_by_what_is_differentiable():
    def fun(th, key):
        near = lax.stop_gradient(th[0])
        far = jnp.sin(jnp.cos(jnp.tanh(th[0])))
        return 1.0 * random.bernoulli(key, sigmoid(near + far))

    path = jscg.explain(fun)(TH, KEY).findings[0].paths[0]
    assert path.steps[0].text == "far = jnp.sin(jnp.cos(jnp.tanh(th[0])))"


def test_two_statements_on_a_line_are_told_apart():
    source = """
def fun(th, key):
    a = random.bernoulli(key, th[0]); b = random.normal(random.fold_in(key, 1))
    return a * b
"""
    name = "two_on_a_line.py"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    scope = {"random": random}
    exec(compile(source, name, "exec"), scope)
    first, second = jscg.explain(scope["fun"])(TH, KEY).findings
    assert first.text.startswith("the draw 'a' (bern") and second.text.startswith("the draw 'b'")
    assert [path.steps[0].text for path in (*first.paths, *second.paths)] == [
        *["a = random.bernoulli(key, th[0])"] * 2,
        "b = random.normal(random.fold_in(key, 1))",
    ]


def test_one_result_of_a_loop_is_no_other():
    def fun(th, key):
        def step(carry, k):
            x = random.bernoulli(k, th[0])
            return (carry[0] + x, carry[1] * th[1]), None

        moved, near = lax.scan(step, (0.0, 1.0), random.split(key, 3))[0]
        far = jnp.sin(jnp.cos(jnp.tanh(moved)))
        return far * near

    (found,) = jscg.explain(fun)(TH, KEY).findings
    assert [step.text for step in found.paths[-1].steps][-2:] == [
        "far = jnp.sin(jnp.cos(jnp.tanh(moved)))",
        "return far * near",
    ]


def test_errors_without_a_program_are_told_all_the_same():
    def fun(th, other, key):
        x = random.bernoulli(key, th[0])
        return 1.0 * x * random.bernoulli(random.fold_in(key, 1), other)

    value = lambda other: jscg.surrogate(fun)(TH, other, KEY)  # noqa: E731
    with pytest.raises(jscg.JscgError, match="left out") as error:
        jax.grad(value)(0.5)
    ((path,),) = (f.paths for f in jscg.explain(error.value).findings)
    assert [s.text for s in path.steps] == [
        "return 1.0 * x * random.bernoulli(random.fold_in(key, 1), other)"
    ]
    with pytest.raises(jscg.JscgError) as error:
        jscg.grad_expectation(jump, num_samples=0)
    (finding,) = jscg.explain(error.value).findings
    assert finding.text == str(error.value) and not finding.paths


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "checkpoint"])
def test_a_loop_without_results_hides_no_error(wrap):
    def fun(th, key):
        ref = jax.new_ref(jnp.zeros(()))

        def step(_, k):
            x = random.bernoulli(k, th[0])
            ref[...] = ref[...] + x
            return None, None

        wrap(lambda: lax.scan(step, None, random.split(key, 2)))()
        return ref[...] ** 2 + th[0]

    (found,) = jscg.explain(fun)(TH, KEY).findings
    assert "mutable reference" in found.text
    assert [(s.text, s.refused) for s in found.paths[0].steps] == [
        ("x = random.bernoulli(k, th[0])", False),
        ("ref[...] = ref[...] + x", True),
        ("return ref[...] ** 2 + th[0]", False),
    ]


def test_a_bound_that_is_refused():
    def fun(th, key):
        x = random.bernoulli(key, th[0])
        scaled = th[1] * x
        return -jnp.exp(scaled)

    with pytest.raises(jscg.JscgError, match="directly") as error:
        jscg.upper_bound(fun)(TH, KEY)
    ((first, second),) = (f.paths for f in jscg.explain(error.value).findings)
    assert first.steps[0].text == "x = random.bernoulli(key, th[0])"
    assert [s.refused for s in first.steps][-1] and second.title.startswith(
        "from the argument 'th'"
    )


def test_errors_under_jit_hold_no_tracers():
    kept = []

    @jax.jit
    def outer(th, key):
        scale = 2.0 * th[1]

        def fun(th, key):
            def step(total, k):
                noise = jax.checkpoint(lambda k: scale * random.normal(k))(k)
                total = jax.nn.relu(total) + jnp.sin(noise)
                return total + jnp.floor(th[0] + noise**2), None

            return lax.scan(step, scale, random.split(key, 3))[0] * scale

        try:
            jscg.grad_expectation(fun)(th, key)
        except jscg.JscgError as error:
            kept.append(error.with_traceback(None))
        return th

    with jax.checking_leaks():
        outer(TH, KEY)
    assert kept[0].trail is not None and kept[0].subject is None
    seen, todo = set(), [vars(kept[0])]
    while todo:
        one = todo.pop()
        if id(one) in seen or isinstance(one, (type, type(jax))) or callable(one):
            continue
        seen.add(id(one))
        assert not isinstance(one, jax.core.Tracer)
        todo += gc.get_referents(one)
    assert len(seen) > 50
    first = jscg.explain(kept[0]).findings[0].paths[0]
    texts = [step.text for step in first.steps]
    assert texts[0].startswith("noise = ") and any(step.refused for step in first.steps)
    assert texts[-1].startswith("return lax.scan(step")


def test_leaves_of_arguments_are_named():
    def fun(params, key):
        p = sigmoid(params["net"]["b"])
        return 2.0 * random.bernoulli(key, p)

    (found,) = jscg.explain(fun)({"net": {"a": 1.0, "b": 0.5}}, KEY).findings
    assert found.paths[0].title == "from the argument 'params.net.b' to the draw 'bernoulli_0'"


@pytest.mark.parametrize("other", [ValueError("x"), "abc"])
def test_of_something_else_nothing_is_explained(other):
    with pytest.raises(TypeError, match="an error that jscg has raised, or a function"):
        jscg.explain(other)


def refused_of(fun, *args):
    with pytest.raises(jscg.JscgError) as error:
        jscg.grad_expectation(fun)(*args)
    return error.value


def test_without_an_argument_it_is_of_the_last_error(monkeypatch):
    monkeypatch.setattr(_last, "_last", None)
    with pytest.raises(jscg.JscgError, match="no error to explain"):
        jscg.explain()
    error = refused_of(jump, TH, KEY)
    expected = jscg.explain(error)
    assert error.__notes__ == ["jscg.explain() shows the way there, line by line."]
    del error
    with pytest.raises(NameError):
        jscg.grad_expectation(lambda th, key: undefined)(TH, KEY)  # noqa: F821
    assert jscg.explain() == expected and expected.findings[0].paths
    later = refused_of(unscored, TH, KEY)
    assert jscg.explain() == jscg.explain(later) != expected


def test_what_a_report_catches_is_not_the_last_error(monkeypatch):
    monkeypatch.setattr(_last, "_last", None)

    def cost(p, key):
        x = random.bernoulli(key, p)
        return lax.cond(x, lambda: 1.0, lambda: 2.0 * p)

    tried = [est.REBAR()]
    plain = est.ScoreFunction(baseline=None)
    report = jscg.variance_report(
        cost, estimators=plain, alternatives=tried, num_estimates=4, progress=False
    )(0.3, KEY)
    (one,) = report.refused
    assert "enters a cond" in one.reason and _last.last_error() is None


class Held:
    """Something whose life is watched."""


def test_of_the_last_error_no_frame_is_kept():
    def call():
        held = Held()
        with contextlib.suppress(jscg.JscgError):
            jscg.grad_expectation(jump)(TH, KEY)
        return weakref.ref(held)

    alive = call()
    gc.collect()
    assert alive() is None and jscg.explain().findings[0].paths
