"""The d-engine command."""
