"""Backends: what can run a model here, found by probing, compiled by one call, held to one test."""
