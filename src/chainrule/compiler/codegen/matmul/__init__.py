"""Matrix products as tiles in registers."""
