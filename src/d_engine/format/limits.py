"""Every limit that the formats know. Nothing is allocated before the length that asks for it was checked here."""

MAX_KEY_BYTES = 1024
"""Default limit of a key. Configurable up to `MAX_ENTRY_BYTES`' share."""

MAX_VALUE_BYTES = 1024 * 1024
"""Default limit of a value."""

MAX_COMMAND_BYTES = 8 * 1024 * 1024
"""A command, whatever the configured limits of keys and values."""

BATCH_BYTES = 1024 * 1024
"""A group and an entry stop growing here. One larger command travels alone."""

MAX_GROUP_BYTES = MAX_COMMAND_BYTES + 4096
MAX_ENTRY_BYTES = MAX_GROUP_BYTES + 4096
MAX_FRAME_BYTES = 16 * 1024 * 1024
"""A frame's body: an append carries at most `BATCH_BYTES` of entries, or one larger entry."""

MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024
"""Entries sent to one peer and not yet acknowledged."""

MAX_BATCH_ITEMS = 64 * 1024
"""Groups forwarded in one message, queries asked in one request: a megabyte of headers alone."""

MAX_MEMBERS = 64
MAX_ADDRESS_LENGTH = 255
