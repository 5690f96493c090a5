"""One model per file; `train.model` lists them. A new model is one new file here."""
