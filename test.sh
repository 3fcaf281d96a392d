#!/usr/bin/env bash
# Runs the tests and the examples in the documentation; makes .venv itself the first time.
#   bash test.sh                      everything
#   bash test.sh -k baseline          everything of that name
#   bash test.sh tests/test_draws.py  that file only
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
before=
for argument in "$@"; do
  # `-k docs` names no folder.
  [[ "$before" != -[kmnp] && -e "${argument%%::*}" ]] && targets=()
  before=$argument
done

# Most of the time goes into compiling programs that run for a moment.
if [ -z "${XLA_FLAGS:-}" ]; then
  export XLA_FLAGS="--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0"
  # JAX 0.10 has an older way to compile, which is faster; newer ones do not know the flag.
  older="$XLA_FLAGS --xla_cpu_use_fusion_emitters=false"
  if (XLA_FLAGS=$older "$venv/bin/python" -c "import jax; jax.devices()") >/dev/null 2>&1; then
    export XLA_FLAGS=$older
  fi
fi
exec "$venv/bin/python" -m pytest -n 2 --doctest-modules --doctest-glob='*.md' \
  ${targets[@]+"${targets[@]}"} "$@"
