"""Sequential specifications: what one client alone would see. Linearizability is judged against them.

A `Model` is a state machine over immutable, hashable states. It may be nondeterministic: a step gives every state that
the object can be in afterwards, and none if the recorded answer is impossible in this state. The search then asks
whether the concurrent history is equivalent to some sequential one that the model allows.

`KeyValueModel` is the model of the key-value store. Writing one for an application takes three short methods, here
for a counter that answers with its new count:

    class Counter:
        def footprint(self, operation: Operation[str]) -> Collection[Hashable]:
            return ("counter",)

        def initial(self, part: Collection[Hashable]) -> int:
            return 0

        def step(self, state: int, operation: Operation[str]) -> Iterable[int]:
            count = state + 1
            return (count,) if operation.outcome is Outcome.UNKNOWN or operation.result == count else ()
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Protocol, TypeAlias, TypeVar

from d_engine.testing.checkers.actions import (
    Action,
    Compare,
    CompareAndSwap,
    Consistency,
    Delete,
    Get,
    Key,
    Put,
    Relation,
    Scan,
    Target,
    Transaction,
    Value,
    transaction_result,
    truth,
)
from d_engine.testing.checkers.history import Operation, Outcome

ActionT_contra = TypeVar("ActionT_contra", contravariant=True)
StateT = TypeVar("StateT", bound=Hashable)


class Model(Protocol[StateT, ActionT_contra]):
    """A sequential specification."""

    def footprint(self, operation: Operation[ActionT_contra]) -> Collection[Hashable]:
        """The independent objects (keys, say) that the operation touches; empty if it is not to be judged.

        Linearizability is local (Herlihy and Wing, theorem 1): a history is linearizable if and only if it is so
        object by object. Objects that no operation touches together are therefore searched separately, which is what
        makes long histories tractable. Only operations that change nothing may be left out of judgement.
        """
        ...

    def initial(self, part: Collection[Hashable]) -> StateT:
        """The state before the first operation of the objects in `part`, which are judged together."""
        ...

    def step(self, state: StateT, operation: Operation[ActionT_contra]) -> Iterable[StateT]:
        """Every state that may follow. None if the operation's answer cannot be given in `state`.

        An operation whose outcome is `UNKNOWN` has no answer; anything that it could have answered is possible.
        """
        ...


StoreState: TypeAlias = tuple[tuple[Key, Value], ...]
"""The keys that are present with their values, in the order of keys."""


class KeyValueModel:
    """The key-value store without its revisions: put, get, delete, compare-and-swap, transactions.

    Keys that some transaction touches together are judged together, all others one by one. Eventual reads, scans and
    the scans inside transactions are not judged: they cannot be told right from wrong without looking at many keys,
    which the revision checker does. `initial` is what the store holds when the history begins.
    """

    def __init__(self, initial: Mapping[Key, Value] | None = None) -> None:
        self._initial = dict(initial or {})

    def footprint(self, operation: Operation[Action]) -> Collection[Hashable]:
        match operation.action:
            case Put() | Delete() | CompareAndSwap():
                return (operation.action.key,)
            case Get():
                return () if operation.action.consistency is Consistency.EVENTUAL else (operation.action.key,)
            case Scan():
                return ()
            case Transaction():
                return tuple(dict.fromkeys(_keys_of(operation.action)))

    def initial(self, part: Collection[Hashable]) -> StoreState:
        return tuple(sorted((key, value) for key, value in self._initial.items() if key in part))

    def step(self, state: StoreState, operation: Operation[Action]) -> Iterable[StoreState]:
        action, known, result = operation.action, operation.outcome is not Outcome.UNKNOWN, operation.result
        match action:
            case Put():
                return (_with(state, action.key, action.value),)
            case Get():
                return () if known and _value(state, action.key) != result else (state,)
            case Delete():
                if known and truth(result, action) is not (_value(state, action.key) is not None):
                    return ()
                return (_with(state, action.key, None),)
            case CompareAndSwap():
                matches = _value(state, action.key) == action.expected
                if known and truth(result, action) is not matches:
                    return ()
                return (_with(state, action.key, action.value),) if matches else (state,)
            case Scan():
                return (state,)
            case Transaction():
                return _transact(state, action, result, known)


def _keys_of(action: Transaction) -> Iterator[Key]:
    for compare in action.compares:
        yield compare.key
    for step in action.then + action.otherwise:
        if not isinstance(step, Scan):
            yield step.key


def _value(state: StoreState, key: Key) -> Value | None:
    for present, value in state:
        if present == key:
            return value
    return None


def _with(state: StoreState, key: Key, value: Value | None) -> StoreState:
    if len(state) == 0 or (len(state) == 1 and state[0][0] == key):
        return () if value is None else ((key, value),)
    others = [pair for pair in state if pair[0] != key]
    if value is not None:
        others.append((key, value))
        others.sort(key=_key_of_pair)
    return tuple(others)


def _key_of_pair(pair: tuple[Key, Value]) -> Key:
    return pair[0]


def _transact(state: StoreState, action: Transaction, result: object, known: bool) -> Iterator[StoreState]:
    answered = transaction_result(result, action) if known else None
    held = [_holds(state, compare) for compare in action.compares]
    for succeeded in (True, False):
        possible = False not in held if succeeded else any(verdict is not True for verdict in held)
        if not possible or (answered is not None and answered.succeeded is not succeeded):
            continue
        after: StoreState | None = state
        for number, step in enumerate(action.branch(succeeded)):
            if after is not None:
                after = _do(after, step, known, None if answered is None else answered.answers[number])
        if after is not None:
            yield after


def _holds(state: StoreState, compare: Compare) -> bool | None:
    """Whether the condition is true, None if that depends on revisions, which this model does not know."""
    value = _value(state, compare.key)
    if compare.target is Target.VALUE:
        return compare.holds(value)
    if value is None:
        return compare.holds(0)
    return compare.relation is Relation.NOT_EQUAL if compare.operand == 0 else None


def _do(state: StoreState, step: Put | Get | Delete | Scan, known: bool, answer: object) -> StoreState | None:
    match step:
        case Put():
            return _with(state, step.key, step.value)
        case Delete():
            if known and truth(answer, step) is not (_value(state, step.key) is not None):
                return None
            return _with(state, step.key, None)
        case Get():
            return None if known and _value(state, step.key) != answer else state
        case Scan():
            return state
