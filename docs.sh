#!/usr/bin/env bash
# Builds the documentation into docs/_build/html; makes .venv itself the first time.
#   bash docs.sh
# A warning is an error.  Notebooks are shown as they are stored, not run; no network is needed.
# PYTHON names the interpreter to make the environment with, JSCG_VENV its folder.
set -euo pipefail
cd "$(dirname "$0")"
source .ci/venv.sh

venv=${JSCG_VENV:-.venv}
make_venv "$venv" docs "${PYTHON:-python3}"

rm -rf docs/_build docs/api  # pages of names that are gone, too
"$venv/bin/python" -m sphinx -E --fail-on-warning --keep-going --quiet -c docs . docs/_build/html
echo "Open docs/_build/html/index.html"
