"""Acquisition of bytes: archives over http, videos through yt-dlp, the user's own files.

Nothing here knows Beam or recipes; `pipelines/stages/download.py` decides which of them to ask.
"""
