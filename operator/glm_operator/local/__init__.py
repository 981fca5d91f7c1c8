"""A resource on one machine: the pod template's containers as processes, its volumes as folders.

This is not a second system: what runs is the pod template that the operator applies in a cluster.
"""
