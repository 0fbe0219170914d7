"""How a node that no cluster knows gets into one: it asks any member, which passes the request on to the leader.

The node is added as a learner: it receives the log and decides nothing. It asks again until it finds itself among the
committed members, because an answer can be lost and an addition rolled back; asking twice changes nothing. It does not
ask any longer than that, or it would undo its removal. After a restart it finds itself there at once.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from d_engine.client.remote import connect
from d_engine.format.errors import (
    IdentityError,
    InvalidRequestError,
    MembershipError,
    NotAppliedError,
    OutcomeUnknownError,
)
from d_engine.format.ids import Incarnation, NodeId

_PAUSE_SECONDS = 0.25
_log = logging.getLogger(__name__)


async def join(
    endpoints: Sequence[str],
    node_id: NodeId,
    address: str,
    incarnation: Incarnation,
    read_only: bool,
    is_member: Callable[[], bool],
) -> None:
    """Returns when the cluster has this node as a member, as the leader answers or the node itself knows. Raises
    `MembershipError` or `IdentityError` when it never will."""
    complaint = ""
    while not is_member():
        try:
            async with connect(",".join(endpoints)) as client:
                await client.add_learner(node_id, address, read_only=read_only, incarnation=incarnation)
                role = "read-only learner" if read_only else "learner"
                _log.info("node %d was added to the cluster as a %s at %s", node_id, role, address)
                return
        except (InvalidRequestError, IdentityError):
            raise
        except (NotAppliedError, OutcomeUnknownError, ConnectionError) as error:
            if isinstance(error, MembershipError) and error.code == MembershipError.code:
                raise
            if str(error) != complaint:
                complaint = str(error)
                where = ", ".join(endpoints)
                _log.warning(
                    "node %d could not join through %s yet, and goes on trying: %s", node_id, where, error
                )
        await asyncio.sleep(_PAUSE_SECONDS)
