#!/usr/bin/env bash
# Trains a sigmoid belief network on handwritten digits; makes .venv itself the first time.
#   bash demo.sh                 8x8 digits, a minute or two, writes nvil.png
#   bash demo.sh --data mnist    28x28 digits
#   bash demo.sh --help          the other flags
# PYTHON names the interpreter to make the environment with, JSCG_VENV its folder.
set -euo pipefail
cd "$(dirname "$0")"
source .ci/venv.sh

venv=${JSCG_VENV:-.venv}
make_venv "$venv" demo "${PYTHON:-python3}"
exec "$venv/bin/python" examples/nvil.py "$@"
