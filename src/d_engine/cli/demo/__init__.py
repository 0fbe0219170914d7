"""`d-engine demo`: three real servers, all of them killed, nothing lost."""
