"""PyTorch: modules, exported programs, state dicts and descriptors come in; models go out as modules."""
