"""One transform per file; the listing of this folder is the registry (`augment.transform`)."""
