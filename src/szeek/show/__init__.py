"""Figures, report and explorer of a run: they read products and compute nothing that is not there."""

__all__ = ["explorer", "figures", "report"]
