"""Gradients of jscg, by default, against those of other libraries, in time, variance and compile time.

`python -m benchmarks.rivals` measures the libraries that can be imported, and says which can not.
`bash benchmarks/rivals.sh` makes an environment for each, and shows one table of all.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib
import importlib.metadata
import json
import pathlib
import sys
import warnings
from collections.abc import Iterable

from benchmarks.rivals import measure, problems
from benchmarks.rivals.measure import Options, Row

LIBRARIES = ("genjax", "numpyro", "pyro", "storchastic", "tfp")


def run(libraries: Iterable[str], only: str, options: Options) -> tuple[list[Row], list[str]]:
    """The rows of all programs, and a line for each library and program that is left out."""
    rows, left_out = [], []
    found = functools.cache(problems.load)
    for name in libraries:
        try:
            library = importlib.import_module(f"benchmarks.rivals.with_{name}")
            programs = library.programs()
            rival = f"{name} {importlib.metadata.version(library.PACKAGE)}"
        except ImportError as error:
            left_out.append(f"{name}: left out ({error})")
            continue
        for program in programs:
            if only not in program.problem:
                continue
            title = f"{program.problem}, {rival}, {program.way}"
            print(title, file=sys.stderr, flush=True)
            try:
                rows.append(measure.measure(rival, program, found()[program.problem], options))
            except Exception as error:
                left_out.append(f"{title}: {type(error).__name__}: {str(error).splitlines()[:1]}")
    return rows, left_out


def save(path: pathlib.Path, rows: list[Row], left_out: list[str]) -> None:
    """To be collected."""
    found = {"rows": [dataclasses.asdict(row) for row in rows], "left_out": left_out}
    path.write_text(json.dumps(found))


def collect(paths: Iterable[pathlib.Path]) -> tuple[list[Row], list[str]]:
    """What runs have saved."""
    rows, left_out = [], []
    for path in paths:
        found = json.loads(path.read_text())
        rows += [
            Row(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
            for row in found["rows"]
        ]
        left_out += found["left_out"]
    return rows, left_out


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--library", nargs="*", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--problem", default="", help="only those with this in their name")
    parser.add_argument("--pairs", type=int, default=40, help="alternating pairs of calls")
    parser.add_argument("--compiles", type=int, default=3, help="alternating pairs of first calls")
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, of one side")
    parser.add_argument("--save", type=pathlib.Path, help="a file for the rows")
    parser.add_argument("--collect", type=pathlib.Path, nargs="*", help="shows what was saved")
    arguments = parser.parse_args()
    if arguments.collect is not None:
        rows, left_out = collect(arguments.collect)
    else:
        warnings.filterwarnings("ignore")  # announcements of other libraries are theirs to mend
        options = Options(arguments.pairs, arguments.compiles, arguments.seconds)
        rows, left_out = run(arguments.library, arguments.problem, options)
    if arguments.save is not None:
        save(arguments.save, rows, left_out)
    if rows:
        print(measure.table(rows))
    print(*left_out, sep="\n")


if __name__ == "__main__":
    main()
