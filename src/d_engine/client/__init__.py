"""The client interface and the remote client."""
