"""One training recipe per file: a function of the file's name; `train.recipe` lists them."""
