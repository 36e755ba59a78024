"""The built-in models, each with its card."""
