"""One instance by Marabou, run with its own Python: marabou_run.py NET.onnx FOLDER SECONDS.

The folder has a property in Marabou's format a disjunct: it is unsafe if one of them is.
"""

import sys
import time
from pathlib import Path

from maraboupy import Marabou  # type: ignore[import-not-found]

net, folder, seconds = sys.argv[1:4]
end, said = time.monotonic() + float(seconds), []
for prop in sorted(Path(folder).glob("*.prop")):
    options = Marabou.createOptions(timeoutInSeconds=max(int(end - time.monotonic()), 1), verbosity=0)
    answer = Marabou.read_onnx(net).solve(propertyFilename=str(prop), options=options, verbose=False)
    said.append(str(answer[0]).lower())
    if said[-1] != "unsat":
        break
print("verdict", said[-1])
