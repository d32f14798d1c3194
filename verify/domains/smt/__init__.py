"""Claims over the real numbers for solvers: SMT-LIB text, ground axioms of functions, Z3 and cvc5."""
