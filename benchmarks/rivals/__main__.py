"""Gradients of jscg, by default, against those of other libraries: time, variance, first call.

`python -m benchmarks.rivals` measures the libraries that can be imported, and says which can not.
`bash benchmarks/rivals.sh` makes an environment for each, and shows one table of all.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import pathlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.rivals import measure
from benchmarks.rivals.measure import Options, Row
from benchmarks.rivals.problems import PROBLEMS

LIBRARIES = ("genjax", "numpyro", "pyro", "storchastic", "tfp")


def run(libraries: Iterable[str], only: str, options: Options) -> Iterator[Row | str]:
    """A row for each program, and a line for each library or program that is left out."""
    for name in libraries:
        try:
            library = importlib.import_module(f"benchmarks.rivals.with_{name}")
            programs = library.programs()
            rival = f"{name} {importlib.metadata.version(library.PACKAGE)}"
        except ImportError as error:
            yield f"{name}: left out ({error})"
            continue
        for program in programs:
            if only not in program.problem:
                continue
            title = f"{program.problem}, {rival}, {program.way}"
            print(title, file=sys.stderr, flush=True)
            try:
                yield measure.measure(rival, program, PROBLEMS[program.problem](), options)
            except Exception as error:  # also one of theirs must not end the table
                yield f"{title}: {type(error).__name__}: {error}".partition("\n")[0]


def save(path: pathlib.Path, found: Iterable[Row | str]) -> None:
    """To be collected."""
    plain = [item if isinstance(item, str) else dataclasses.asdict(item) for item in found]
    path.write_text(json.dumps(plain))


def collect(path: pathlib.Path) -> list[Row | str]:
    """What a run has saved."""

    def row(item: dict[str, Any]) -> Row:
        return Row(**{k: tuple(v) if isinstance(v, list) else v for k, v in item.items()})

    return [item if isinstance(item, str) else row(item) for item in json.loads(path.read_text())]


def show(found: Sequence[Row | str]) -> None:
    """The table, and below it what is not there."""
    rows = [item for item in found if isinstance(item, Row)]
    if rows:
        print(measure.table(rows))
    print(*(item for item in found if isinstance(item, str)), sep="\n")


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
    found: list[Row | str] = []
    if arguments.collect is not None:
        for path in arguments.collect:
            found += collect(path)
    else:
        warnings.filterwarnings("ignore")  # announcements of other libraries are theirs to mend
        options = Options(arguments.pairs, arguments.compiles, arguments.seconds)
        for item in run(arguments.library, arguments.problem, options):
            found.append(item)
            if arguments.save is not None:  # a run may be stopped
                save(arguments.save, found)
    show(found)


if __name__ == "__main__":
    main()
