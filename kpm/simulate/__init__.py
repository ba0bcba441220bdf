"""The simulator: clusters of kernel models, driven by a scenario, planned and applied by the real
code.
"""
