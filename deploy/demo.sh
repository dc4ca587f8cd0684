#!/usr/bin/env bash
# Watch a simulated chest CT go in and its Segmentation and reports come back. --once ends when they have.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/setup.sh
exec .venv/bin/python deploy/demo.py "$@"
