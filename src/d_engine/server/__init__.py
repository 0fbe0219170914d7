"""The answering side of client connections."""
