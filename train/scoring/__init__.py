"""Scores of a model: metrics, thresholds, the constant to beat, intervals, reports."""
