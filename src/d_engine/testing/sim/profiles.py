"""Profiles: which faults a family of runs may have, and what kind of cluster and load."""

from dataclasses import dataclass, field

NETWORK = (
    "isolate_one",
    "isolate_leader",
    "split",
    "cut_pair",
    "cut_one_way",
    "ring",
    "bridge",
    "chain_of_partial",
    "flapping",
    "lossy",
    "duplicating",
    "reordering",
    "slow_network",
    "clog",
    "narrow_link",
    "reset_connection",
)
CRASHES = (
    "kill_one",
    "kill_majority",
    "kill_all",
    "power_one",
    "power_majority",
    "power_all",
    "die_in_disk_operation",
    "power_in_disk_operation",
    "kill_all_after_promise",
    "power_all_after_promise",
    "kill_leader",
)
DISK = ("slow_disk", "hang_disk", "hang_leader_disk", "sync_error", "write_error", "full_disk", "bit_rot")
CLOCKS = ("pause", "pause_leader", "suspend", "hold_up", "stall_long", "drift", "wall_jump", "wall_rate")
ELECTIONS = ("transfer", "transfer_and_crash", "disconnect_and_return")
SNAPSHOTS = ("snapshot_one", "snapshot_all", "left_behind", "left_behind")
MEMBERS = (
    "add_member",
    "add_member",
    "promote",
    "demote",
    "remove_member",
    "remove_leader",
    "many_changes",
    "disjoint_replacement",
    "unaware_of_promotion",
    "two_changes",
    "replace_silent",
    "move",
)
CLIENTS = ("client_cut", "client_crash", "client_lossy", "burst")


@dataclass(frozen=True, slots=True)
class Profile:
    """`about` says what it is for. `lease` is the chance that lease reads are on, `rough` that messages are lost,
    doubled and overtake each other all the time, `weights` what clients do more, or besides the usual. With
    `snapshots`, they are taken all the time."""

    about: str
    faults: tuple[str, ...]
    sizes: tuple[int, ...] = (1, 2, 3, 3, 3, 4, 5, 5)
    pauses_ms: tuple[float, ...] = (10.0, 50.0, 200.0)
    lease: float = 0.3
    rough: float = 0.3
    weights: dict[str, float] = field(default_factory=dict)
    max_pending: int = 20
    snapshots: bool = False
    members: bool = False


PROFILES: dict[str, Profile] = {
    "general": Profile("everything at once", NETWORK + CRASHES + DISK + CLOCKS + ELECTIONS + CLIENTS),
    "partitions": Profile(
        "who reaches whom, and how well", (*NETWORK, "disconnect_and_return"), sizes=(2, 3, 3, 4, 5, 5)
    ),
    "crashes": Profile(
        "processes and machines that die, at the worst moments",
        (*CRASHES, "client_crash"),
        sizes=(1, 2, 3, 3, 4, 5),
    ),
    "disk": Profile(
        "disks that fail, fill, hang and rot",
        (*DISK, "power_one", "power_all", "power_in_disk_operation", "kill_one"),
        sizes=(1, 2, 3, 3, 4, 5),
    ),
    "clocks": Profile(
        "pauses, suspended machines, clocks that run wrong; many lease reads",
        (*CLOCKS, "isolate_leader", "cut_one_way"),
        sizes=(2, 3, 3, 4, 5),
        lease=0.7,
        weights={"get": 9.0},
    ),
    "elections": Profile(
        "leaders that come and go",
        (
            *ELECTIONS,
            "isolate_one",
            "chain_of_partial",
            "cut_pair",
            "kill_leader",
            "pause_leader",
            "kill_all_after_promise",
        ),
        sizes=(2, 3, 4, 5),
    ),
    "reads": Profile(
        "reads under every policy while leaders come and go",
        (
            "isolate_leader",
            "cut_one_way",
            "pause_leader",
            "hold_up",
            "transfer",
            "drift",
            "suspend",
            "stall_long",
        ),
        sizes=(2, 3, 3, 5),
        lease=0.7,
        weights={"get": 18.0},
    ),
    "old_leaders": Profile(
        "leaders that are leaders no more and do not know it, with leases and without",
        ("late_answers", "loyalty_tried", "transfer_and_isolate", "isolate_leader", "pause_leader", "drift"),
        sizes=(3, 3, 5),
        pauses_ms=(5.0, 20.0, 50.0),
        lease=0.7,
        weights={"get": 10.0},
    ),
    "overload": Profile(
        "more than can be done",
        ("burst", "narrow_link", "slow_disk", "client_crash", "isolate_one", "full_disk"),
        sizes=(1, 3, 3, 5),
        pauses_ms=(1.0, 2.0),
        max_pending=8,
    ),
    "replication": Profile(
        "rough networks, windows of a few bytes",
        (
            "kill_leader",
            "power_one",
            "kill_one",
            "isolate_leader",
            "cut_one_way",
            "flapping",
            "slow_disk",
            "hang_disk",
            "slow_network",
            "reordering",
            "duplicating",
            "lossy",
            "reset_connection",
            "transfer_and_crash",
            "burst",
        ),
        sizes=(3, 3, 5, 5),
        pauses_ms=(2.0, 5.0, 20.0),
        lease=0.0,
        rough=0.8,
    ),
    "snapshot": Profile(
        "snapshots and short logs under everything",
        (
            *CRASHES,
            *SNAPSHOTS,
            "isolate_one",
            "isolate_leader",
            "split",
            "flapping",
            "disconnect_and_return",
            "reset_connection",
            "narrow_link",
            "lossy",
            "duplicating",
            "reordering",
            "full_disk",
            "slow_disk",
            "hang_disk",
            "sync_error",
            "bit_rot",
            "transfer",
            "pause",
        ),
        sizes=(1, 2, 3, 3, 3, 5),
        pauses_ms=(5.0, 20.0, 50.0),
        snapshots=True,
    ),
    "txn": Profile(
        "transactions and a bank",
        (
            *CRASHES,
            "isolate_one",
            "isolate_leader",
            "split",
            "lossy",
            "duplicating",
            "reordering",
            "reset_connection",
            "slow_disk",
            "transfer_and_crash",
            "disconnect_and_return",
            "pause",
            "client_cut",
            "client_crash",
        ),
        sizes=(1, 3, 3, 5),
        pauses_ms=(2.0, 10.0, 50.0),
        weights={"transact": 4.0, "transfer": 2.0},
        snapshots=True,
    ),
    "lease": Profile(
        "leases, keys with a TTL, locks, while clocks run wrong and leaders come and go",
        (
            *CLOCKS,
            *ELECTIONS,
            "isolate_one",
            "isolate_leader",
            "cut_one_way",
            "split",
            "flapping",
            "kill_leader",
            "kill_all",
            "power_one",
            "power_all",
            "left_behind",
            "snapshot_all",
            "slow_disk",
            "lossy",
            "reset_connection",
            "client_cut",
            "client_crash",
        ),
        sizes=(1, 2, 3, 3, 4, 5),
        pauses_ms=(5.0, 20.0, 100.0),
        weights={"hold": 4.0, "ttl": 4.0, "lock": 3.0},
        snapshots=True,
    ),
    "membership": Profile(
        "members that come and go, joint configurations",
        (
            *MEMBERS,
            "isolate_one",
            "isolate_leader",
            "split",
            "cut_one_way",
            "flapping",
            "kill_one",
            "kill_leader",
            "kill_all",
            "power_one",
            "power_all",
            "transfer",
            "pause_leader",
            "lossy",
            "slow_network",
        ),
        sizes=(1, 2, 3, 3, 4, 5),
        members=True,
    ),
    "replaced": Profile(
        "machines that come back with an empty disk",
        (
            "wiped_disk",
            "remove_lost",
            "remove_lost",
            "add_member",
            "move",
            "kill_one",
            "power_one",
            "isolate_one",
            "isolate_leader",
            "cut_one_way",
            "transfer",
        ),
        sizes=(3, 5),
        members=True,
    ),
    "calm": Profile("nearly nothing happens", ("reset_connection",)),
}
