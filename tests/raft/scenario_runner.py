"""Runs scenario files: commands, each followed by the transcript of what happened.

A line that begins with `> ` is a command, one with `#` a comment; the lines behind a command are its transcript, which
must be exactly what happens (`python -m tests.raft.scenarios --rewrite` puts there what happens now: read the diff).
`expect` fails whatever the transcript says, and is how a scenario states what it is about.

The world (`tests.raft.scenario_world`) does nothing by itself except what a node does in its turn: messages wait in a
queue, the clock stands, disks and state machines work at once unless they are set to `manual`.

    nodes 1 2 3 [leases] [unknown=3] [append=BYTES] [cache=BYTES]
                                       a cluster, not born yet; nobody has seen the data directory of `unknown`
    join 4 [unknown]                   a node without a bootstrap configuration
    wipe 3 INCARNATION                 the same under an old number, on an empty disk; nobody has seen it yet
    campaign 1                         the clock goes on to node 1's time-out, and only node 1 notices
    elect 1                            campaign, and everything that follows from it
    wait 100                           the clock goes on by so many milliseconds; nobody notices
    tick 1 [2 ...]                     these nodes notice what time it is
    propose 1 a b                      two entries
    read 1 / lease 1                   a read that joins / whether a lease read is allowed now
    transfer 1 2                       node 1 gives its leadership to node 2
    change 1 add 4, promote 4          node 1 is asked for one step: add, add_read_only, remove, promote, demote, bind
                                       NODE INCARNATION, address NODE TEXT
    meet 1 3                           node 1 sees the data directory of node 3
    deliver [1->2] [WORD] [N]          the first N (default all) waiting messages of that link whose words hold WORD
    drop [1->2] [WORD] [N]             the same, lost
    duplicate [1->2] [WORD] [N]        the same, put into the queue once more
    inject 3->1 TYPE field=value ...   a message from nowhere; entries as entries=5@2:text,6@2:text
    offer 1->3 INDEX TERM              a snapshot is offered out of the blue
    settle                             everything is delivered until the queue is empty
    cut 1 2 / cut 1->2 / heal          links
    disk 1 manual|auto                 a disk that waits until it is told
    persist 1 / complete 1 N           all its pending writes become durable / the first N
    applying 1 manual|auto, apply 1 5  a state machine that waits / applies up to 5
    crash 1 / restart 1                what was not durable is lost / it comes back
    snapshot 1 [KEEP]                  a snapshot of what is applied; the log keeps KEEP (0) entries before it
    damage 3 KEEP HELD                 the log of node 3, which is down, has lost all behind KEEP; it knows that it had
                                       HELD
    diverge 3                          the state of node 3 turns out to be wrong
    recording 3 manual|auto, record 3  a quarantine that is noted when it is told to be / is noted
    install 3                          the offered snapshot arrives
    lost 1 2                           node 1 learns that its connection to node 2 broke
    log 1 / show 1 / queue             print
    expect 1 NAME=VALUE ...            role, term, leader, commit, applied, last, durable, ready, voters, learners,
                                       joint, lease, quarantine (no, snapshot, or the index that ends it), log (its
                                       terms, "1,1,2"), peer2 (probe, replicate, snapshot)
"""

from collections.abc import Callable
from pathlib import Path

from d_engine.format import messages
from d_engine.format.configuration import Configuration, Member
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import DEngineError
from d_engine.format.ids import NodeId
from d_engine.format.messages import RaftMessage
from d_engine.format.state import Quarantine
from d_engine.raft.core import Raft
from d_engine.raft.membership import AddLearner, Bind, Change, Demote, Promote, Remove, SetAddress
from tests.raft.scenario_world import MS, ScenarioNode, World, configuration_words, entry_words, message_words

FOLDER = Path(__file__).parent / "scenarios"


def scenario_files() -> list[Path]:
    return sorted(FOLDER.glob("*.txt"))


def run_text(text: str) -> str:
    """The same commands and comments with the transcript of what happens now."""
    runner, output = Runner(), []
    for line in text.splitlines():
        if line.startswith("> "):
            output.append(line)
            output.extend(runner.run(line[2:]))
        elif line.startswith("#") or not line.strip():
            output.append(line)
    return "\n".join(output) + "\n"


def parse_change(words: list[str]) -> Change:
    kind, node_id = words[0], int(words[1])
    simple: dict[str, Callable[[NodeId], Change]] = {"remove": Remove, "promote": Promote, "demote": Demote}
    if kind in simple:
        return simple[kind](node_id)
    if kind == "bind":
        return Bind(node_id, int(words[2]))
    if kind == "address":
        return SetAddress(node_id, words[2])
    assert kind in ("add", "add_read_only"), f"no such change: {words}"
    return AddLearner(Member(node_id), read_only=kind == "add_read_only")


def parse_value(name: str, text: str) -> object:
    if name == "entries":
        entries = []
        for item in text.split(","):
            place, _, payload = item.partition(":")
            index, _, term = place.partition("@")
            parts = [payload.encode()]
            entries.append(Entry.create(EntryKind.COMMANDS, int(term), int(index), 0, parts, 1))
        return tuple(entries)
    return text == "yes" if text in ("yes", "no") else int(text)


class Runner:
    """One scenario. A command `x` is the method `do_x`; methods are grouped below by what they move."""

    def __init__(self) -> None:
        self.world = World()
        self.commands: dict[str, Callable[[list[str]], None]] = {}
        for group in (ClusterCommands, WorkCommands, NetworkCommands, DiskCommands, LookCommands):
            instance = group(self.world)
            for name in dir(instance):
                if name.startswith("do_"):
                    self.commands[name[3:]] = getattr(instance, name)

    def run(self, line: str) -> list[str]:
        self.world.transcript = []
        name, *words = line.replace(",", " , ").split() if line.startswith("change") else line.split()
        try:
            self.commands[name](words)
        except DEngineError as error:
            self.world.say(f"{type(error).__name__}: {error}")
        return self.world.transcript


class Commands:
    def __init__(self, world: World) -> None:
        self.world = world

    def node(self, word: str) -> ScenarioNode:
        return self.world.nodes[int(word)]

    def turn(self, word: str) -> None:
        self.world.turn(self.node(word))


class ClusterCommands(Commands):
    def do_nodes(self, words: list[str]) -> None:
        voters = tuple(int(word) for word in words if word.isdigit())
        options = dict(word.split("=") for word in words if "=" in word)
        unknown = [int(word) for word in options.get("unknown", "").split(",") if word]
        if "append" in options:
            self.world.settings["max_append_bytes"] = int(options["append"])
        if "cache" in options:
            self.world.settings["cache_bytes"] = int(options["cache"])
        self.world.nodes, self.world.queue, self.world.cuts = {}, [], set()
        members = tuple(Member(node_id) for node_id in voters)
        bootstrap = Configuration(0, members, voters, lease_reads="leases" in words)
        for node_id in voters:
            knows = {peer: 100 + peer for peer in voters if peer not in (node_id, *unknown)}
            self.world.add(ScenarioNode(node_id, bootstrap, 100 + node_id, knows))

    def do_join(self, words: list[str]) -> None:
        node_id = int(words[0])
        knows = {peer: node.incarnation for peer, node in self.world.nodes.items()}
        self.world.add(ScenarioNode(node_id, None, 100 + node_id, knows))
        if "unknown" not in words:
            for peer in knows:
                self.do_meet([str(peer), words[0]])

    def do_wipe(self, words: list[str]) -> None:
        node_id, incarnation = int(words[0]), int(words[1])
        if self.node(words[0]).raft is not None:
            self.world.crash(self.node(words[0]))
        self.world.add(ScenarioNode(node_id, None, incarnation, {}))

    def do_meet(self, words: list[str]) -> None:
        node, peer = self.node(words[0]), self.node(words[1])
        node.knows[peer.id] = peer.incarnation
        if node.raft is not None:
            node.raft.peer_incarnation(peer.id, peer.incarnation, self.world.now)
            self.world.turn(node)

    def do_crash(self, words: list[str]) -> None:
        for word in words:
            self.world.crash(self.node(word))

    def do_restart(self, words: list[str]) -> None:
        for word in words:
            self.world.start(self.node(word))
            self.turn(word)

    def do_wait(self, words: list[str]) -> None:
        self.world.now += int(words[0]) * MS

    def do_tick(self, words: list[str]) -> None:
        for word in words:
            self.world.raft(int(word)).tick(self.world.now)
            self.turn(word)

    def do_campaign(self, words: list[str]) -> None:
        raft = self.world.raft(int(words[0]))
        self.world.now = max(self.world.now, raft.deadline)
        raft.tick(self.world.now)
        self.turn(words[0])

    def do_elect(self, words: list[str]) -> None:
        self.do_campaign(words)
        self.world.settle()
        assert self.world.raft(int(words[0])).role.value == "leader", f"node {words[0]} was not elected"


class WorkCommands(Commands):
    def do_propose(self, words: list[str]) -> None:
        for text in words[1:]:
            self.world.raft(int(words[0])).propose([text.encode()], 1, 0, self.world.now)
        self.turn(words[0])

    def do_read(self, words: list[str]) -> None:
        batch = self.world.raft(int(words[0])).read(self.world.now)
        self.world.say(f"{words[0]} reads in batch {batch}")
        self.turn(words[0])

    def do_lease(self, words: list[str]) -> None:
        valid = self.world.now < self.world.raft(int(words[0])).lease_deadline
        self.world.say(f"{words[0]} has {'a' if valid else 'no'} lease")

    def do_transfer(self, words: list[str]) -> None:
        self.world.raft(int(words[0])).transfer(int(words[1]), self.world.now)
        self.turn(words[0])

    def do_change(self, words: list[str]) -> None:
        steps: list[list[str]] = [[]]
        for word in words[1:]:
            if word == ",":
                steps.append([])
            else:
                steps[-1].append(word)
        changes = [parse_change(step) for step in steps]
        self.world.raft(int(words[0])).propose_change(changes, 0, self.world.now)
        self.turn(words[0])


class NetworkCommands(Commands):
    def _choose(self, words: list[str]) -> list[int]:
        """Places in the queue that the words `[1->2] [WORD] [N]` mean."""
        link = next((word for word in words if "->" in word), None)
        count = next((int(word) for word in words if word.isdigit()), len(self.world.queue))
        kinds = [word for word in words if "->" not in word and not word.isdigit()]
        chosen = [
            place
            for place, (sender, to, message) in enumerate(self.world.queue)
            if link in (None, f"{sender}->{to}")
            and all(kind in message_words(message).split() for kind in kinds)
        ][:count]
        assert chosen, f"no such message is waiting: {words}"
        return chosen

    def _take(self, words: list[str]) -> list[tuple[NodeId, NodeId, RaftMessage]]:
        chosen = self._choose(words)
        taken = [self.world.queue[place] for place in chosen]
        for place in reversed(chosen):
            del self.world.queue[place]
        return taken

    def do_deliver(self, words: list[str]) -> None:
        for item in self._take(words):
            self.world.deliver(*item)

    def do_drop(self, words: list[str]) -> None:
        self._take(words)

    def do_duplicate(self, words: list[str]) -> None:
        self.world.queue += [self.world.queue[place] for place in self._choose(words)]

    def do_inject(self, words: list[str]) -> None:
        sender, _, to = words[0].partition("->")
        fields = dict(word.split("=", 1) for word in words[2:])
        message = getattr(messages, words[1])(
            **{name: parse_value(name, text) for name, text in fields.items()}
        )
        self.world.deliver(int(sender), int(to), message)

    def do_offer(self, words: list[str]) -> None:
        sender, _, to = words[0].partition("->")
        configuration = self.world.raft(int(sender)).configuration
        meta = messages.SnapshotMeta(int(words[1]), int(words[2]), configuration)
        term = self.world.raft(int(sender)).term
        self.world.deliver(int(sender), int(to), messages.InstallSnapshot(term, meta))

    def do_settle(self, words: list[str]) -> None:
        self.world.settle()

    def do_cut(self, words: list[str]) -> None:
        if "->" in words[0]:
            sender, _, to = words[0].partition("->")
            self.world.cuts.add((int(sender), int(to)))
        else:
            first = int(words[0])
            for second in words[1:]:
                self.world.cuts |= {(first, int(second)), (int(second), first)}
        self.world.queue = [item for item in self.world.queue if item[:2] not in self.world.cuts]

    def do_heal(self, words: list[str]) -> None:
        self.world.cuts.clear()

    def do_lost(self, words: list[str]) -> None:
        self.world.raft(int(words[0])).peer_unreachable(int(words[1]), self.world.now)
        self.turn(words[0])


class DiskCommands(Commands):
    def do_disk(self, words: list[str]) -> None:
        self.node(words[0]).manual_disk = words[1] == "manual"

    def do_persist(self, words: list[str]) -> None:
        for word in words:
            self.world.persist(self.node(word))
            self.turn(word)

    def do_complete(self, words: list[str]) -> None:
        node = self.node(words[0])
        for _ in range(int(words[1])):
            seq = node.disk.complete_next()
            assert seq is not None, f"node {node.id} has no pending write"
            self.world.raft(node.id).persisted(seq, self.world.now)
        self.turn(words[0])

    def do_applying(self, words: list[str]) -> None:
        self.node(words[0]).manual_apply = words[1] == "manual"

    def do_apply(self, words: list[str]) -> None:
        self.world.apply(self.node(words[0]), int(words[1]))
        self.turn(words[0])

    def do_snapshot(self, words: list[str]) -> None:
        node, raft = self.node(words[0]), self.world.raft(int(words[0]))
        meta = raft.snapshot_meta(node.applied)
        assert meta is not None
        node.disk.save_snapshot(meta)
        raft.snapshot_taken(meta)
        index = node.applied - (int(words[1]) if len(words) > 1 else 0)
        node.disk.compact(index)
        raft.compacted(index)

    def do_damage(self, words: list[str]) -> None:
        node, keep, held = self.node(words[0]), int(words[1]), int(words[2])
        assert node.raft is None, "it is not down"
        del node.disk.durable.entries[keep + 1 - node.disk.durable.first_index :]
        before = 0 if node.record is None else node.record.held_index
        node.record = Quarantine("the log is damaged", max(held, before), False)

    def do_diverge(self, words: list[str]) -> None:
        self.world.raft(int(words[0])).isolation.begin("the state is wrong", self.world.now)
        self.turn(words[0])

    def do_recording(self, words: list[str]) -> None:
        self.node(words[0]).manual_record = words[1] == "manual"

    def do_record(self, words: list[str]) -> None:
        self.world.keep_record(self.node(words[0]))
        self.turn(words[0])

    def do_install(self, words: list[str]) -> None:
        node, raft = self.node(words[0]), self.world.raft(int(words[0]))
        meta, node.offered = node.offered, None
        assert meta is not None, "no snapshot was offered"
        if raft.snapshot_installed(meta, self.world.now):
            node.disk.reset(meta)
            node.applied = meta.index
            self.world.say(f"{node.id} starts anew behind {meta.index}")
        else:
            self.world.say(f"{node.id} does not need the snapshot")
        self.world.turn(node)


def terms(raft: Raft) -> str:
    log = raft._state.log
    return ",".join(str(log.term_at(index)) for index in range(log.first_index, log.last_index + 1))


def quarantine_words(record: Quarantine | None) -> str:
    if record is None:
        return "no"
    return "snapshot" if record.needs_snapshot else str(record.held_index)


class LookCommands(Commands):
    def do_log(self, words: list[str]) -> None:
        log = self.world.raft(int(words[0]))._state.log
        for index in range(log.first_index, log.last_index + 1):
            self.world.say(f"{entry_words(log.slice(index, index, 0)[0])}")

    def do_show(self, words: list[str]) -> None:
        raft = self.world.raft(int(words[0]))
        status = raft.status()
        self.world.say(
            f"{status.role.value} t{status.term} leader {status.leader} first {status.first_index} last "
            f"{status.last_index} durable {status.durable_index} commit {status.commit_index}"
        )
        self.world.say(configuration_words(status.configuration))
        for peer, known in status.peers.items():
            self.world.say(f"peer {peer} {known.state} match {known.match_index} next {known.next_index}")

    def do_queue(self, words: list[str]) -> None:
        for sender, to, message in self.world.queue:
            self.world.say(f"{sender} -> {to} {message_words(message)}")

    def do_expect(self, words: list[str]) -> None:
        raft = self.world.raft(int(words[0]))
        status = raft.status()
        facts = {
            "role": status.role.value,
            "term": status.term,
            "vote": raft._state.hard_state.vote,
            "leader": status.leader,
            "ready": "yes" if status.ready else "no",
            "commit": status.commit_index,
            "applied": status.applied_index,
            "first": status.first_index,
            "last": status.last_index,
            "durable": status.durable_index,
            "joint": "yes" if status.configuration.joint else "no",
            "voters": ",".join(map(str, status.configuration.voters)),
            "learners": ",".join(map(str, status.configuration.learners)) or "none",
            "lease": "yes" if self.world.now < raft.lease_deadline else "no",
            "transferee": status.transferee,
            "log": terms(raft),
            "quarantine": quarantine_words(raft.isolation.record),
        }
        facts.update((f"peer{peer}", known.state) for peer, known in status.peers.items())
        for word in words[1:]:
            name, _, value = word.partition("=")
            assert str(facts[name]) == value, f"node {words[0]}: {name} is {facts[name]}, not {value}"
