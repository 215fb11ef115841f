"""The life that every job shares: states, the pure decision, and the worker step."""
