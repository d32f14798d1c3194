#!/usr/bin/env bash
# vibecheck-nn (GPL-3) in an environment of its own: vibecheck.sh FOLDER
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet torch==2.13.0 numpy scipy onnx==1.21.0 onnxruntime==1.26.0 onnxsim gurobipy
"$1/bin/pip" install --quiet --no-deps vibecheck-nn==1.1.0
