#!/usr/bin/env bash
# Make the virtual environment: make-venv.sh PYTHON FOLDER [EXTRA]. Run again, it brings an older one up to date.
set -euo pipefail

python=$1
venv=$2
extra=${3:-dev}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed, and $python is $("$python" --version 2>&1). Set PYTHON=." >&2
    exit 1
fi
# One that was not finished, or whose Python has gone, has no working pip.
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if ! "$python" -m venv --clear "$venv"; then
        echo "$python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[$extra]"
