#!/usr/bin/env bash
# Runs the tests and the examples in the documentation; makes .venv itself the first time.
#   bash test.sh                      everything
#   bash test.sh -k baseline          everything of that name
#   bash test.sh tests/test_plan.py   that file only
# PYTHON names the interpreter to make the environment with, JSCG_VENV its folder.
set -euo pipefail
cd "$(dirname "$0")"
source .ci/venv.sh

venv=${JSCG_VENV:-.venv}
make_venv "$venv" test "${PYTHON:-python3}"

# Without a path among the arguments, all there is to test.
targets=(tests jscg)
for page in README.md docs/*.md; do
  [ -f "$page" ] && targets+=("$page")
done
for argument in "$@"; do
  [ -e "${argument%%::*}" ] && targets=()
done

# Most of the time goes into compiling programs that run for a moment.
quick="--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0"
export XLA_FLAGS=${XLA_FLAGS:-$quick}
exec "$venv/bin/python" -m pytest -n 2 --doctest-modules --doctest-glob='*.md' \
  ${targets[@]+"${targets[@]}"} "$@"
