"""Meanings of programs that bounds and proofs are made of, one file each."""
