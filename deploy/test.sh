#!/usr/bin/env bash
# Set up a fresh machine and run every check. Arguments go to pytest, e.g. deploy/test.sh -m long
# runs the longer tests, -m slow those of minutes, -m viewer shows results in a web viewer, and -m "" runs all.
set -euo pipefail
cd "$(dirname "$0")/.."

deploy/setup.sh

# The peers that tests talk to. Where they cannot be installed, those tests say so and are skipped.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need storescu dcmtk
need Orthanc orthanc
need dciodvfy dicom3tools
need chromium chromium
[ -e /usr/share/orthanc/plugins/libOrthancDicomWeb.so ] || missing+=(orthanc-dicomweb)
case " $* " in # the viewer's tests, asked for by name or by -m "", fetch the viewer itself with npm
*"not viewer"*) ;;
*viewer* | *" -m  "*)
    need npm npm
    .venv/bin/python -m pip --disable-pip-version-check --quiet install \
        --constraint deploy/constraints.txt --editable '.[viewer]'
    ;;
esac
if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "Installing test peers: ${missing[*]} ..."
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
        --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
        echo "They could not be installed; the tests that need them will be skipped." >&2
fi

export TCP_NODELAY=1 # DCMTK waits 40 ms per message without it
unset PYTHONDONTWRITEBYTECODE # or each of a thousand processes compiles the node for itself
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# The default suite runs on all processors, a file's tests in order; what is asked for by name does not.
[ $# -gt 0 ] || set -- -n auto --dist loadfile
.venv/bin/python -m pytest -q "$@"
