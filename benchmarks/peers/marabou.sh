#!/usr/bin/env bash
# maraboupy (BSD-3) in an environment of its own: marabou.sh FOLDER
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet maraboupy==2.0.0 onnx onnxruntime
