"""The kinds of NATS that most tests run on: a process, a container, or a cluster."""

from harness.faults.cluster import FaultyCluster
from harness.nats.cluster import NatsCluster
from harness.nats.container import NatsContainer
from harness.nats.server import NatsServer

NatsDeployment = NatsServer | NatsContainer | NatsCluster | FaultyCluster
