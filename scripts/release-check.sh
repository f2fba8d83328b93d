#!/usr/bin/env bash
# Build what a release would publish, and try it in an empty environment: release-check.sh PYTHON VENV
# VENV has `build` and `twine`. The files are left in dist/.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$1
tools=$2/bin
version=$("$tools/python" -c 'from pycdc.version import __version__; print(__version__)')

tag=$(git tag --points-at HEAD --list 'v*' 2>/dev/null || true)
if [ -n "$tag" ]; then
    [ "$tag" = "v$version" ] || { echo "the tag is $tag, and the version $version" >&2; exit 1; }
    grep -q "^## \[$version\]" CHANGELOG.md || { echo "CHANGELOG.md has no section [$version]" >&2; exit 1; }
    [ -z "$(git status --porcelain)" ] || { echo "there is something uncommitted" >&2; exit 1; }
fi

rm -rf dist
"$tools/python" -m build --outdir dist .
"$tools/python" -m twine check --strict dist/*

empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
"$python" -m venv "$empty/venv"
"$empty/venv/bin/python" -m pip install --quiet --disable-pip-version-check dist/*.whl
cp scripts/installed.py "$empty/"
(cd "$empty" && ./venv/bin/python -I installed.py "$version" && ./venv/bin/pycdc version)
echo "dist/ is fit to be published as pycdc-postgres $version"
