"""The arithmetic of ``tailrace bench size``, and the simulation behind it."""

from dataclasses import replace

import pytest

from benchmarks.size import SCENARIOS
from benchmarks.sizing.arithmetic import LEADER_LIMIT, POD_LIMIT, Costs, Demand, pods_reached, size
from benchmarks.sizing.spread import POLICIES, Policy, lose_pods, pods_of_runs, roll_out
from benchmarks.sizing.tables import planned

COSTS = Costs(
    stream_bytes=3_000,
    heartbeat_us=10,
    opening_us=500,
    event_us=50,
    delivery_us=7,
    frame_bytes=300,
    api_step_us=20,
    worker_step_us=120,
    nats_step_us=40,
    live_us=2,
    leader_us=40,
    follower_us=30,
    step_bytes=600,
    step_events=2,
    other_bytes=200,
)
DEMAND = Demand(clients=10_000, events_per_s=1_000, executions_per_day=100_000)


def test_an_idle_installation_needs_room_for_its_streams_only():
    found = size(COSTS, replace(DEMAND, clients=100_000, events_per_s=0, executions_per_day=0))
    assert found.api_pods == 10  # each may have 20,000, twice the average
    assert found.api_streams == 10_000
    assert found.api_pod_memory == 10_000 * 2 * 3_000
    heartbeats, openings = 100_000 * 10 / 15, 100_000 * 500 / 3600
    assert found.api_cores == pytest.approx((heartbeats + openings) / 1e6)
    assert found.worker_cores == found.nats_cores == found.nats_disk_bytes == 0


def test_each_part_has_its_share():
    """A thousand events a second are 500 steps; ten clients follow each run."""
    found = size(COSTS, DEMAND)
    assert found.deliveries_per_s == 10_000
    assert found.client_gbit_per_s == pytest.approx(10_000 * 300 * 8 / 1e9)
    assert found.worker_cores == pytest.approx(500 * 120e-6)
    assert found.nats_write_bytes_per_s == 500 * 800
    assert found.nats_in_gbit_per_s == pytest.approx(500 * 800 * 8 / 1e9)
    assert found.nats_disk_bytes == 100_000 * 10 * 7 * 800
    assert found.nats_cores == pytest.approx(
        500 * (40 + 40) / 1e6 + 1_000 * found.pods_reached * 2 / 3 / 1e6
    )


def test_one_server_stores_one_copy_and_sends_to_pods_only():
    found = size(COSTS, replace(DEMAND, replicas=1))
    assert found.nats_out_gbit_per_s == pytest.approx(500 * 600 * found.pods_reached * 8 / 1e9)
    three = size(COSTS, DEMAND)
    copies = 2 * (600 + 800) + 600 * three.pods_reached / 3
    assert three.nats_out_gbit_per_s == pytest.approx(500 * copies * 8 / 1e9)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: f"{each.clients} clients")
def test_pods_bear_the_peak_of_a_rollout_and_one_fewer_would_not(scenario: Demand):
    demand, found = planned(COSTS, scenario)
    assert found.api_streams * demand.peak <= demand.max_streams
    assert found.api_cores / found.api_pods * demand.peak <= POD_LIMIT
    if found.api_pods > 2:
        fewer = found.api_pods - 1
        has_room = scenario.clients / fewer * demand.peak <= demand.max_streams
        # A pod fewer does not make an event reach fewer pods by more than its share.
        cores = found.api_cores * fewer / found.api_pods
        assert not has_room or cores / fewer * demand.peak > POD_LIMIT * 0.9


def test_a_log_that_one_leader_cannot_store_is_divided():
    most = LEADER_LIMIT / COSTS.leader_us * 1e6 * COSTS.step_events
    assert size(COSTS, replace(DEMAND, events_per_s=most * 0.99)).installations == 1
    divided = size(COSTS, replace(DEMAND, events_per_s=most * 3.5))
    assert divided.installations == 4


def test_fewer_clients_than_followers_receive_each_event_once():
    found = size(COSTS, replace(DEMAND, clients=3, followers=10))
    assert found.deliveries_per_s == 3_000
    assert size(COSTS, replace(DEMAND, clients=0)).deliveries_per_s == 0


@pytest.mark.parametrize(("pods", "followers"), [(3, 1), (3, 10), (50, 2), (50, 40)])
def test_the_formula_of_reached_pods_is_that_of_the_simulation(pods: int, followers: int):
    simulated = pods_of_runs(20_000, pods, followers, seed=1)
    assert simulated == pytest.approx(pods_reached(pods, followers), rel=0.03)


def test_the_same_seed_gives_the_same_rollout():
    assert roll_out(5_000, 8, 2, "chance", 7) == roll_out(5_000, 8, 2, "chance", 7)
    assert roll_out(5_000, 8, 2, "chance", 7) != roll_out(5_000, 8, 2, "chance", 8)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("surge", [1, 3, 10])
def test_a_rollout_keeps_every_client(policy: Policy, surge: int):
    """Whichever pods are left, the averages are those of all clients; each moves at least once."""
    found = roll_out(20_000, 10, surge, policy, seed=1)
    assert found.before.emptiest <= 1 <= found.before.fullest
    assert found.after.emptiest <= 1 <= found.after.fullest
    assert found.moves >= 1
    assert found.most_moves >= found.moves


@pytest.mark.parametrize(("pods", "surge"), [(3, 1), (20, 1), (20, 5), (20, 10), (20, 20)])
def test_the_fullest_pod_of_a_rollout_by_chance(pods: int, surge: int):
    """Each group's streams spread over all pods: the last old pod has taken a share of each."""
    groups = pods // surge
    expected = (1 + surge / pods) ** (groups - 1)
    found = roll_out(50_000, pods, surge, "chance", seed=1)
    assert found.peak == pytest.approx(expected, rel=0.05)


def test_the_emptiest_pod_first_keeps_a_rollout_even():
    found = roll_out(20_000, 10, 1, "fewest", seed=1)
    assert found.peak < 1.01
    assert found.after.emptiest > 0.99


def test_streams_that_age_even_out_what_a_rollout_has_left():
    found = roll_out(100_000, 20, 1, "chance", seed=1)
    assert found.after.fullest > 1.5
    assert found.aged.fullest < 1.1


def test_the_streams_of_killed_pods_spread_over_the_others():
    assert lose_pods(100_000, 10, 5, "chance", seed=1).fullest == pytest.approx(1, abs=0.05)
