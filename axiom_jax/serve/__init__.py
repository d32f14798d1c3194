"""Serving: one engine that holds models, and REST, GraphQL and gRPC as thin faces of it.

Nothing here is imported before a server is started; see docs/serving.md.
"""
