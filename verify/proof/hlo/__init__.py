"""What XLA's optimised program computes, read from its text: shared by nothing that makes proofs."""
