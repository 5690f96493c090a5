"""One file per dataset: a function of the file's name that returns its `Recipe`."""
