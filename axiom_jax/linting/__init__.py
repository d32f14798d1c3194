"""`ax.lint`: what in a model's shapes, dtypes, numbers and compilation will surprise, with the line and the mending."""
