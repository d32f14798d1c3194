"""Claims of all sizes and all real inputs: theorems in the kernel's terms, and what finds their proofs."""
