"""The untrusted side: attacks, bounds, branch and bound. What it finds is handed to `verify/proof`."""
