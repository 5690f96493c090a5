"""Songs of several tracks as people and archives hold them: folders, metadata, names of tracks, lists of upstream."""
