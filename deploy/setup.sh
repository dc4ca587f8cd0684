#!/usr/bin/env bash
# Make .venv/ in the checkout with exactly the versions of deploy/constraints.txt. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
stamp=.venv/.radnode-setup
# Where the checkout lies and the Python count too: an environment survives neither's change.
wanted=$({ pwd && { "$python" --version || true; } && cat pyproject.toml deploy/constraints.txt \
    deploy/setup.sh; } 2>&1 | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "radnode needs Python 3.11 or newer; $python is $("$python" --version 2>&1)." >&2
    echo "Name another one with PYTHON=/path/to/python3 $0" >&2
    exit 1
fi
echo "Setting up .venv (a few minutes the first time) ..."
"$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }
pip install --upgrade pip
# torch first and alone: the pinned build is the CPU one on a machine without a GPU, and what
# follows is then content with it.
pip install --constraint deploy/constraints.txt torch
pip install --constraint deploy/constraints.txt --editable '.[test]'
echo "$wanted" > "$stamp"
