"""Ablation studies: a grid of settings, trained as processes, tabulated with statistics."""
