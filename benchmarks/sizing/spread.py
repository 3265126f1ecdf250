"""How evenly clients spread over the pods of the API, simulated client by client.

A load balancer gives each new stream to a pod, by chance or to the pod with the fewest streams.
Pods of a rollout are replaced in groups: new ones become ready, then the old ones end their
streams, whose clients connect again. No I/O and no clock; the same seed gives the same numbers.
"""

import heapq
import random
from collections import Counter
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

Policy = Literal["chance", "fewest"]
POLICIES: Final[tuple[Policy, ...]] = ("chance", "fewest")

_AGED_TOGETHER: Final = 500
"""Streams that end between two looks of the balancer at its counts."""


class Spread(NamedTuple):
    """The streams of the pods.

    Attributes:
        fullest: streams of the fullest pod, relative to the average.
        emptiest: those of the emptiest one.
    """

    fullest: float
    emptiest: float


class Rollout(NamedTuple):
    """The effects of a rollout.

    Attributes:
        before: when clients have connected to the old pods.
        peak: at the fullest moment, relative to the average of all clients over all pods.
        after: when the last old pod has ended.
        aged: after one more maximum age of a stream.
        moves: how often a client connected again, on average.
        most_moves: how often the unluckiest client did.
    """

    before: Spread
    peak: float
    after: Spread
    aged: Spread
    moves: float
    most_moves: int


class _Balancer:
    """Gives clients to pods.

    Args:
        policy: by which the balancer chooses.
        pods: how many pods are ready.

    Attributes:
        clients_of: the clients of each pod that is ready.
    """

    def __init__(self, policy: Policy, pods: int, chance: random.Random) -> None:
        self._policy = policy
        self._chance = chance
        self.clients_of: dict[int, list[int]] = {pod: [] for pod in range(pods)}

    def connect(self, clients: Sequence[int]) -> None:
        """Give each of some clients a pod."""
        if self._policy == "chance":
            pods = list(self.clients_of.values())
            for client, pod in zip(
                clients, self._chance.choices(pods, k=len(clients)), strict=True
            ):
                pod.append(client)
            return
        heap = [(len(clients), pod) for pod, clients in self.clients_of.items()]
        heapq.heapify(heap)
        for client in clients:
            count, number = heap[0]
            self.clients_of[number].append(client)
            heapq.heapreplace(heap, (count + 1, number))

    def drain(self, pods: Sequence[int]) -> list[int]:
        """End the streams of some pods; return their clients, as they connect again."""
        moved = [client for pod in pods for client in self.clients_of.pop(pod)]
        self._chance.shuffle(moved)
        return moved

    def spread(self) -> Spread:
        """Return how evenly the streams are spread over the pods that are ready."""
        counts = [len(clients) for clients in self.clients_of.values()]
        average = sum(counts) / len(counts)
        return Spread(max(counts) / average, min(counts) / average)


def roll_out(clients: int, pods: int, surge: int, policy: Policy, seed: int) -> Rollout:
    """Replace all pods, ``surge`` at a time; then let every stream reach its maximum age.

    Args:
        clients: clients, each with one stream.
        pods: pods of the API.
        surge: pods that are started before as many old ones end (``maxSurge``).
        policy: how the load balancer chooses a pod.
        seed: of the random numbers.
    """
    chance = random.Random(seed)
    balancer = _Balancer(policy, pods, chance)
    balancer.connect(range(clients))
    before = balancer.spread()
    moves = Counter[int]()
    peak = before.fullest
    for first in range(0, pods, surge):
        old = range(first, min(first + surge, pods))
        balancer.clients_of |= {pods + pod: [] for pod in old}
        moved = balancer.drain(old)
        balancer.connect(moved)
        moves.update(moved)
        peak = max(peak, balancer.spread().fullest)
    after = balancer.spread()
    _age(balancer, chance)
    most = max(moves.values(), default=0)
    return Rollout(before, peak, after, balancer.spread(), moves.total() / clients, most)


def _age(balancer: _Balancer, chance: random.Random) -> None:
    """Let each stream end once at its maximum age; which of a pod's is first decides its jitter."""
    order = [pod for pod, clients in balancer.clients_of.items() for _ in clients]
    chance.shuffle(order)
    for first in range(0, len(order), _AGED_TOGETHER):
        some = order[first : first + _AGED_TOGETHER]
        balancer.connect([balancer.clients_of[pod].pop() for pod in some])


def lose_pods(clients: int, pods: int, lost: int, policy: Policy, seed: int) -> Spread:
    """Kill some pods at once; return how their clients spread over the others."""
    balancer = _Balancer(policy, pods, random.Random(seed))
    balancer.connect(range(clients))
    balancer.connect(balancer.drain(range(lost)))
    return balancer.spread()


def pods_of_runs(clients: int, pods: int, followers: int, seed: int) -> float:
    """Return how many pods the clients of a run are on, on average; neighbours follow one run."""
    balancer = _Balancer("chance", pods, random.Random(seed))
    balancer.connect(range(clients))
    pairs = {
        (client // followers, pod) for pod, its in balancer.clients_of.items() for client in its
    }
    return len(pairs) / (clients // followers)
