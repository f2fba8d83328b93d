"""From configuration to objects: the only modules that know concrete classes.

A module for each direction: whoever needs one of them does not wait for the imports of the other.
"""
