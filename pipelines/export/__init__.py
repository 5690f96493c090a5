"""The command `pipelines.export`, and the page and the tables that every version brings along."""
