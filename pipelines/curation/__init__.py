"""Statistics of curation: embeddings and labels in, scores and decisions out. No Beam; no audio is decoded."""
