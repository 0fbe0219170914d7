"""The core's own refusal: whoever called knows better than the core whom to tell what."""

from d_engine.format.errors import NotAppliedError


class NotLeader(NotAppliedError):  # noqa: N818 - an answer between core and replica, which no caller ever sees
    """This node does not lead, or is giving its leadership away. Nothing was appended."""

    code = "not_leader"
