"""How good a model is: metrics, thresholds, the constant to beat, intervals, reports."""
