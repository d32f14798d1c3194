"""The process that runs a model on a PJRT plugin: it reads questions from stdin and answers on stdout."""

import os
import sys
from typing import Any

from axiom_jax.targets.pjrt import receive, send, unpacked


def serve() -> None:
    """Answer until the other side closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the plugin prints must not come between the answers
    import jax
    import numpy as np

    device = jax.devices()[0]
    function: Any = None
    while True:
        try:
            header, blocks = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if header["do"] == "hello":
                version = getattr(device.client, "platform_version", "").splitlines()
                send(answers, {"platform": device.platform, "version": version[0] if version else ""})
            elif header["do"] == "load":
                function = jax.jit(jax.export.deserialize(bytearray(blocks[0])).call)
                send(answers, {})
            else:
                outputs = function(*unpacked(header["arrays"], blocks))
                arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(outputs)]
                described = [[list(x.shape), str(x.dtype)] for x in arrays]
                send(answers, {"arrays": described}, *(np.ascontiguousarray(x).tobytes() for x in arrays))
        except Exception as error:
            said = str(error).strip().splitlines()
            send(answers, {"error": f"{type(error).__name__}: {said[0] if said else ''}"})
