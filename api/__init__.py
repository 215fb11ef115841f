"""The control plane: REST API, review pages, and the worker that reconciles."""
