"""Training of models whose properties are to be proved afterwards."""
