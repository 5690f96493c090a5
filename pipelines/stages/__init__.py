"""The steps of a build, in the order of the flow: pure functions of rows. A file's name is its Beam label."""
