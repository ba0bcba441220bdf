"""Pages that people attach to a change request or open from a link: one file each, nothing from
outside, for screen, phone and paper. What is said in colour is said by a sign or a word too.
"""
