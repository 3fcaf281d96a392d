"""Benchmarks: one script for each claim about speed, memory and variance.

Run all of them with `python -m benchmarks`, or one with, for example, `python -m benchmarks.nvil`.
"""
