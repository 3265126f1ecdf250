"""All that a connection reads from the log before it follows the ring of a topic."""

from tailrace_api.fanout.history.log_edges import LogEdges
from tailrace_api.fanout.history.newest_commits import NewestCommits
from tailrace_api.fanout.history.replay import Page, Replay
from tailrace_api.fanout.history.replay_cumulative import replay_cumulative
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.registry import TopicRegistry
from tailrace_api.fanout.topics.tenant_topic import TenantTopic
from tailrace_api.fanout.topics.topic import Topic, TopicSources
from tailrace_api.fanout.topics.topic_set import TopicSet
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.view import View


class History:
    """Reads history for connections and for resumption.

    Args:
        runtime: the services that streams share.
        topics: the live topics, whose rings spare reads.
        sources: what topics are read from.
        max_reads: queued reads, beyond which new streams are refused.

    Attributes:
        runtime: the services that streams share.
        topics: the live topics.
        log: the log.
        replay: reads pages of history.
        edges: reads where the log ends.
        newest_commits: reads how far the logs of executions reach.
    """

    def __init__(
        self, runtime: StreamRuntime, topics: TopicRegistry, sources: TopicSources, max_reads: int
    ) -> None:
        self.runtime = runtime
        self.topics = topics
        self.log = sources.log
        self.replay = Replay(
            sources.log, sources.contexts, sources.horizons, runtime.counts, max_reads
        )
        self.edges = LogEdges(runtime, sources.log, self.replay, topics)
        self.newest_commits = NewestCommits(sources.log, runtime.counts)
        self._contexts = sources.contexts
        self._snapshots = sources.snapshots

    async def page(
        self, view: View, epoch: str, from_sequence: int, index: int = 0, *, is_new: bool = False
    ) -> Page:
        """Return the next page of a view; see `Replay.page`.

        Raises:
            UnavailableError: NATS did not answer, or too many reads are queued.
        """
        return await self.replay.page(view, epoch, from_sequence, index, is_new=is_new)

    async def refresh_missing(self, topic: Topic | TopicSet) -> None:
        """Look up which of a topic's missing workflows have been stored meanwhile.

        Raises:
            UnavailableError: NATS did not answer.
        """
        missing, tenant = topic.missing, topic.view.part.tenant
        if not missing:
            return

        async def read() -> frozenset[str]:
            return await self._snapshots.existing(tenant, missing)

        key = ("existing", tenant, missing)
        topic.add_workflows(
            await self.replay.read_shared(key, read, lambda found: found != missing, is_new=False)
        )

    async def replay_cumulative(
        self, topic: TenantTopic | TopicSet, sequence: int, index: int
    ) -> Batch | None:
        """Return the events of a cumulative topic from a cursor on.

        Returns:
            None if they are too many, or if some of them may have been deleted.

        Raises:
            UnavailableError: NATS did not answer, or too many reads are queued.
        """

        async def read() -> Batch | None:
            batch = await replay_cumulative(
                self.log, self.edges, self._contexts, topic, sequence, index
            )
            # After the log: executions are deleted after the horizon has been raised.
            is_torn = await self.replay.is_torn(topic.view.part, sequence, index)
            return None if is_torn else batch

        key = ("cumulative", topic.view, sequence, index)
        return await self.replay.read_shared(key, read, lambda batch: batch is None, is_new=False)
