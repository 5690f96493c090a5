"""Wrong labels, planted and known: tables of clips, what is decided of them, and checks of how."""
