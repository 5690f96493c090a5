"""From bytes that nobody trusts to samples: decoders in confined processes, and what is made of their answers."""
