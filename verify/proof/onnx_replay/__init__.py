"""A second, separately written reader of ONNX files, for exact evaluation: `graph.load`."""
