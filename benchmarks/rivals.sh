#!/usr/bin/env bash
# Measures jscg against other libraries, each in an environment of its own, and shows one table.
#   bash benchmarks/rivals.sh                      all of them
#   bash benchmarks/rivals.sh --problem walk       arguments go to python -m benchmarks.rivals
# RIVALS names some only ("numpyro tfp"), PYTHON the interpreter.  GenJAX wants Python 3.12 or newer: if
# PYTHON is older, python3.13 or python3.12 is taken.  TORCH is what pip installs for Pyro and
# Storchastic, by default a build for CPUs; TORCH=torch is the usual one, of several GB.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/venv.sh

python=${PYTHON:-python3}
torch=${TORCH:-torch==2.13.0+cpu}

# newer NAME: the first interpreter that is at least 3.12, or nothing.
newer() {
  local candidate
  for candidate in "$python" python3.13 python3.12; do
    if at_least "$candidate" 12; then
      echo "$candidate"
      return
    fi
  done
}

# prepare NAME DIR: makes the environment; prints why not, if it can not be made.
prepare() {
  local name=$1 dir=$2 with=$python
  if [ "$name" = genjax ]; then
    with=$(newer)
    if [ -z "$with" ]; then
      echo "$name: left out (needs Python 3.12 or newer)"
      return 1
    fi
  fi
  if [ "$name" = pyro ] || [ "$name" = storchastic ]; then
    [ -x "$dir/bin/python" ] || "$with" -m venv "$dir" || return 1
    if ! "$dir/bin/python" -c 'import torch' 2>/dev/null &&
      ! "$dir/bin/python" -m pip install --quiet "$torch" >&2; then
      echo "$name: left out (pip does not find $torch; TORCH names another one)"
      return 1
    fi
  fi
  if ! make_venv "$dir" "rival-$name" "$with" >&2; then
    echo "$name: left out (pip can not install it with $("$with" --version))"
    return 1
  fi
}

left_out=() saved=() any=
for name in ${RIVALS:-genjax numpyro pyro storchastic tfp}; do
  dir=.venv-rivals-$name
  if ! reason=$(prepare "$name" "$dir"); then
    left_out+=("${reason:-$name: left out (no environment)}")
    continue
  fi
  any=$dir
  rm -f "$dir/rows.json"
  "$dir/bin/python" -m benchmarks.rivals --library "$name" --save "$dir/rows.json" "$@" >&2 ||
    left_out+=("$name: stopped before its end")
  [ -f "$dir/rows.json" ] && saved+=("$dir/rows.json")
done

[ -n "$any" ] && "$any/bin/python" -m benchmarks.rivals --collect ${saved[@]+"${saved[@]}"}
printf '%s\n' ${left_out[@]+"${left_out[@]}"}
