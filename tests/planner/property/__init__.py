"""Laws of the planner, one module a family; reference.py holds slow, independent readings of
docs/developer/rules.md.
"""
