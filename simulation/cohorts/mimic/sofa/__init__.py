"""SOFA, the sequential organ failure assessment, a file per organ system.

Begin with `score`, which adds the components up over any windows of time.
"""
