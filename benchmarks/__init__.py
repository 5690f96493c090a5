"""Each module prints our figure, the limit's or a peer's, and the ratio, from one run."""
