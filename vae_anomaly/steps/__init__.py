"""The steps of the main job, one library function each: what a command and a flow call.

ingest → train → calibrate → register → score. A step takes the plant's configuration and the
paths and versions that the step before it returned, never tables.
"""
