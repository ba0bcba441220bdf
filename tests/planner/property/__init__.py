"""Laws of the planner, one module a family; reference.py holds slow, independent readings of design
§4.
"""
