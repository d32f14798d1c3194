"""Programs at concrete sizes as terms over the real numbers, and their forms in sympy."""
