"""Benchmarks: what the README and the docs claim about speed, memory and variance.

`python -m benchmarks` measures all workloads against JAX written by hand, in one table.  Others
answer one question each: `benchmarks.estimators` and `benchmarks.choosing` which estimator to take,
`benchmarks.moving_here` how programs of other libraries compare.
"""
