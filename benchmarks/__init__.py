"""Benchmarks: what l3edge costs and how exact it is, by commands that anyone can repeat. They run from a checkout."""
