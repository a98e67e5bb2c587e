"""The measurements behind the documentation's figures, each with its own command."""
