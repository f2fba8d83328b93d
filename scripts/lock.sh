#!/usr/bin/env bash
# Write requirements.lock and requirements-build.lock: lock.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"$1" -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check uv

lock() { # input, output
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --upgrade --output-file "$2" "$1"
}
lock pyproject.toml requirements.lock
# What builds the wheel, as pyproject.toml names it.
"$tools/bin/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
    > "$tools/build.in"
lock "$tools/build.in" requirements-build.lock
