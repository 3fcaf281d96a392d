"""Programs that would jump, mended: what a comparison of noise decides is a draw itself.

`uniform(key) < p` is a Bernoulli draw, `argmax(logits + gumbel(key))` a categorical one, and
`mean + scale * normal(key)` has a density.  A jump goes away where one of these takes the place of
the derivative through the sample (see `laws`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.extend.core as jex_core

from ._activity import active_variables, noisy_variables
from ._chain import variables
from ._errors import BiasError, refuse
from ._jumps import Jump, find_jumps
from ._nodes import name_draws
from ._primitives import draw_p
from ._program import Literal, Program, Uses, build, insert
from ._source import at_line
from .draws import FAMILIES
from .draws.densities import DENSITIES
from .draws.noise import NOISE
from .laws import Law, all_laws
from .laws.density import by_density
from .laws.location import by_location


def mend(
    program: Program,
    inputs: list[bool],
    silent: set[Any],
    asked: dict[Any, str],
    relaxed: set[Any],
):
    """Takes the jumps out of a program, in place.

    Args:
      program: the program.
      inputs: for each of its inputs, whether the gradient is for it.
      silent: draws whose jumps the user allows.
      asked: continuous draws that the user does not want to be differentiated, with the law
        that they are to have.
      relaxed: discrete draws with a derivative all the same.

    Returns:
      The active variables, and for the variable of each draw that was put in, that of the noise of
      which it is made.

    Raises:
      BiasError: where a jump cannot be mended, or a draw not be scored.
    """
    origins: dict[Any, Any] = {}
    while True:
        active = active_variables(program, inputs, relaxed)
        noisy = noisy_variables(program, silent)
        jumps = find_jumps(program, inputs, active, noisy) if noisy and not asked else []
        if not jumps and not asked:
            return active, origins
        uses = {part: Uses(part) for part in program.walk()}
        mended = _scored(asked, active, uses)
        for jump in jumps:
            _mend(jump, active, noisy, uses, mended)
        if jumps and not mended:
            raise _refuse(jumps[0], noisy, uses, name_draws(program))
        asked = {}
        # From the last, so that the indices of those before stay.
        for source, law in sorted(mended.items(), key=lambda item: -item[1].index):
            result = law.result
            made = _replace(law)
            origins[result] = made if result is source else source


_LAWS = {"density": by_density, "location": by_location}


def _scored(asked: dict[Any, str], active: set[Any], every: Any) -> dict[Any, Law]:
    """Draws by their laws, as far as the gradient needs them."""
    laws = {}
    for part, uses in every.items():
        for source in asked & uses.producers.keys():
            eqn = part.eqns[uses.producers[source]]
            if FAMILIES[eqn.params["family"]].discrete:
                continue
            law = _LAWS[asked[source]](part, source, active, uses)
            if not isinstance(law, str) and not _usable(eqn):
                law = "vmap maps over its parameters or shares its key"
            if isinstance(law, str):
                raise refuse(
                    f"the draw ({eqn.params['family']})",
                    eqn,
                    f"the estimator that was chosen for it cannot be used: {law}.",
                    "leave the choice to jscg (estimators=None)",
                )
            if law is not None:
                laws[source] = law
    return laws


def _mend(jump: Jump, active: set[Any], noisy: set[Any], every: Any, mended: Any) -> None:
    for part, source in _sources(jump, noisy, every):
        if source in mended:  # for another jump
            return
        uses = every[part]
        if not _usable(part.eqns[uses.producers[source]]):
            continue
        here = _in(part, jump)
        made = next(filter(None, (law(here, source, active, uses) for law in all_laws())), None)
        if made is not None:
            mended[source] = made
            return


def _in(part: Program, jump: Jump) -> Jump:
    """The jump, or the equation that holds it in a program around its own."""
    while jump.program is not part:
        around = jump.program.parent
        assert around is not None
        jump = Jump(around, jump.program.at)
    return jump


def _sources(jump: Jump, noisy: set[Any], every: Any) -> list[tuple[Program, Any]]:
    """The continuous draws that the operands of a jump depend on, each with its program."""
    out = []
    todo = [(jump.program, v) for v in variables(jump.eqn)]
    seen: set[Any] = set()
    while todo:
        part, v = todo.pop()
        if v in seen or v not in noisy:
            continue
        seen.add(v)
        made = every[part].producers
        if v in made:
            eqn = part.eqns[made[v]]
            if eqn.primitive.name == "draw":
                out.append((part, v))
            todo += [(part, a) for a in variables(eqn) if eqn.primitive.name != "draw"]
        elif (outer := part.operand(v)) is not None:
            todo.append((part.path[-2], outer))
    return out


def _usable(eqn: Any) -> bool:
    """Whether the elements of a draw are independent noise of a known law."""
    # Parameters that no vmap maps are aligned with the last axes of the draw, as without it.
    return eqn.params["family"] in {"reparameterized", *NOISE, *DENSITIES} and all(
        level[0] and not any(level[1:]) for level in eqn.params["batch"]
    )


def _replace(law: Law) -> Any:
    """Makes the result of an equation a draw; returns the variable that holds its value."""
    part, inputs = law.program, law.inputs
    eqn = part.eqns[law.index]
    out = law.result
    made = jex_core.Var(out.aval)

    def draw(value: Any, *values: Any) -> Any:
        arrays = [fun(value, *values) for fun in law.operands.values()]
        names = tuple(law.operands)
        return draw_p.bind(
            value, *arrays, family=law.family, names=names, static=law.static, batch=()
        )

    avals: list[Any] = [v.aval for v in (made, *inputs)]
    closed = jax.make_jaxpr(draw)(*(a.update(weak_type=False) for a in avals))
    inner = build(closed)
    env = dict(zip(inner.invars, [*_constants(part, closed), made, *inputs], strict=True))
    outvars = [made if v is out else v for v in eqn.outvars]
    eqns = [eqn.replace(outvars=outvars)]
    for each in inner.eqns:
        outvars = [jex_core.Var(v.aval) for v in each.outvars]
        if each is inner.eqns[-1]:
            outvars = [out]
        env.update(zip(each.outvars, outvars, strict=True))
        invars = [v if isinstance(v, Literal) else env[v] for v in each.invars]
        eqns.append(each.replace(invars=invars, outvars=outvars, source_info=eqn.source_info))
    insert(part, law.index, eqns)
    return made


def _constants(part: Program, closed: Any) -> list[Any]:
    out = []
    for value in closed.consts:
        var = jex_core.Var(jax.typeof(value))
        part.consts[var] = value
        out.append(var)
    return out


_OF_NOISE = (
    "draw the outcome itself (jax.random.bernoulli, jax.random.categorical), or compare noise that "
    "is used for nothing else",
)
_OF_A_SCORED_DRAW = (
    "compare it with what does not depend on the parameters",
    "return integers, if it is a sampler of yours that counts",
)
_ALWAYS = (
    "make the decision continuous (a sigmoid instead of a comparison)",
    "wrap what is compared in jax.lax.stop_gradient, if no gradient is wanted through it",
)
_OVERRULED = (
    "estimators={name of the draw: jscg.estimators.Pathwise(allow_jumps=True)} differentiates "
    "through the sample all the same, with that bias",
)


def _refuse(jump: Jump, noisy: set[Any], every: Any, names: dict[Any, str]) -> BiasError:
    sources = _sources(jump, noisy, every)
    what, remedies = "a value", _OF_NOISE + _ALWAYS + _OVERRULED
    eqn = None
    if sources:
        part, source = sources[0]
        eqn = part.eqns[every[part].producers[source]]
        kind = dict(eqn.params["static"]).get("noise", eqn.params["family"])
        what = f"the draw {names[source]!r} ({kind}){at_line(eqn)}"
        if FAMILIES[eqn.params["family"]].observed:
            what, remedies = f"{what}, which is scored,", _OF_A_SCORED_DRAW + _ALWAYS
    name = jump.eqn.primitive.name
    error = BiasError(
        f"jscg: {what} and the parameters meet in {name!r}{at_line(jump.eqn)}, which jumps: its "
        "derivative is zero wherever it exists, so that what the jump contributes to the gradient "
        "of the expectation would silently be lost.\n"
        "What to do instead:\n" + "\n".join(f"  - {r}" for r in remedies)
    )
    return error.about(eqn, jump.eqn)
