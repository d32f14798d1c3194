#!/usr/bin/env bash
# neuralsat (MIT) in an environment of its own: neuralsat.sh FOLDER
# It asks for torchvision, which is not needed and not built for every torch: a stub takes its place.
set -euo pipefail
python3 -m venv "$1"
"$1/bin/pip" install --quiet torch==2.13.0 neuralsat==0.2.17
"$1/bin/pip" uninstall --quiet --yes torchvision
mkdir -p "$1/stub/torchvision"
printf 'class ops:\n    pass\n' > "$1/stub/torchvision/__init__.py"
