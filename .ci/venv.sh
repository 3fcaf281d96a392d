# Sourced by test.sh, demo.sh and .ci/run: makes a virtual environment once.
# shellcheck shell=bash

# at_least PYTHON MINOR: whether PYTHON runs and is Python 3.MINOR or newer.
at_least() {
  "$1" -c "import sys; sys.exit(sys.version_info < (3, $2))" >/dev/null 2>&1
}

# make_venv DIR EXTRAS PYTHON: an environment in DIR with jscg[EXTRAS], editable.
# A stamp for each extra holds the hash of pyproject.toml, so that pip runs again only when that
# file has changed.
make_venv() {
  local dir=$1 extras=$2 python=$3 extra hash current=yes
  if ! at_least "$python" 11; then
    echo "jscg needs Python 3.11 or newer; '$python' is $("$python" --version 2>&1 || true)." >&2
    echo "Name another one: PYTHON=python3.13 bash $0" >&2
    return 1
  fi
  if [ ! -x "$dir/bin/python" ]; then
    echo "Making $dir with $("$python" --version)"
    "$python" -m venv "$dir" || return 1
  fi
  hash=$("$python" -c "import hashlib; print(hashlib.sha256(open('pyproject.toml', 'rb').read()).hexdigest())")
  for extra in ${extras//,/ }; do
    [ "$(cat "$dir/.installed-$extra" 2>/dev/null)" = "$hash" ] || current=no
  done
  if [ $current = no ]; then
    echo "Installing jscg[$extras] in $dir"
    "$dir/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" ||
      return 1
    for extra in ${extras//,/ }; do
      echo "$hash" >"$dir/.installed-$extra"
    done
  fi
}
