"""ONNX: `reader` brings files in, one function an operator; `writer` takes programs out, one emitter a primitive."""
