//! What the log says about how things were when the process ended.

use std::collections::BTreeMap;

use anyhow::Context;
use warren_core::limits::TopologyLimits;
use warren_core::queue::{Shard, ShardInput, ShardOutput};
use warren_core::topology::Topology;
use warren_core::{Bodies, Location, QueueId, ShardId};

use crate::log::Replay;
use crate::node::{SHARDS, create};

/// The machines, as they come out of the log.
pub(crate) struct State {
    pub(crate) topology: Topology,
    pub(crate) shards: BTreeMap<ShardId, Shard>,
}

impl State {
    pub(crate) fn empty(limits: TopologyLimits) -> Self {
        let topology = Topology::new(SHARDS, limits);
        Self { topology, shards: (1..=SHARDS.get()).map(|id| (ShardId(id), Shard::new())).collect() }
    }

    fn shard(&mut self, shard: ShardId) -> anyhow::Result<&mut Shard> {
        self.shards.get_mut(&shard).with_context(|| {
            format!("shard {} is unknown: the data was written with more than {SHARDS} shards", shard.0)
        })
    }

    /// Ends the replay, and makes the shards agree with the topology: a crash can come between a queue's record and
    /// its place in a shard.
    pub(crate) fn lead(&mut self, bodies: &mut dyn Bodies) {
        let mut output = ShardOutput::default();
        for (id, shard) in &mut self.shards {
            shard.lead();
            let orphan = |queue: &QueueId| self.topology.queue_by_id(*queue).is_none_or(|record| record.shard != *id);
            for queue in shard.queue_ids().filter(orphan).collect::<Vec<_>>() {
                let delete =
                    ShardInput::Delete { queue, if_unused: false, if_empty: false, still_unused: false, request: 0 };
                shard.handle(delete, bodies, &mut output);
            }
        }
        for queue in self.topology.queues() {
            if let Some(shard) = self.shards.get_mut(&queue.shard) {
                shard.handle(create(queue, &self.topology), bodies, &mut output);
            }
        }
    }
}

impl Replay for State {
    fn snapshot(&mut self, shard: ShardId, octets: &[u8]) -> anyhow::Result<()> {
        if shard == ShardId::METADATA {
            return Ok(self.topology.replay(octets)?);
        }
        *self.shard(shard)? = Shard::restore(octets)?;
        Ok(())
    }

    fn entry(&mut self, shard: ShardId, at: Location, octets: &[u8]) -> anyhow::Result<()> {
        if shard == ShardId::METADATA {
            return Ok(self.topology.replay(octets)?);
        }
        Ok(self.shard(shard)?.replay(at, octets)?)
    }

    fn relocation(&mut self, shard: ShardId, at: Location, octets: &[u8]) -> anyhow::Result<()> {
        Ok(self.shard(shard)?.relocated(at, octets)?)
    }
}
