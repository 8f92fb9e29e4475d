"""Delimited text files, compressed or not, in the encodings that hospitals write.

Begin with `text_file`; `delimiter` finds the header line, `byte_streams` unpacks and converts.
`byte_streams` serves `client.ingest.sources.file_kind` too.
"""
