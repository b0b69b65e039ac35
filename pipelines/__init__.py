"""Prefect flows over the library's steps: order, retries, artifacts. No arithmetic.

Every flow takes one `PlantParameters`; flows and tasks pass paths and versions to one another,
never tables. Without Prefect, ``flow.fn(parameters)`` does the same job.
"""
