//! One channel: what it remembers between methods, and the methods about the channel itself.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};

use warren_amqp::{ReplyCode, ToClient, ToServer, access, channel, confirm};

use super::confirm::{Answer, Confirms};
use super::deliver::give_back;
use super::direct_reply::ReplyConsumer;
use super::prefetch::{Aside, Prefetch};
use super::publish::Assembly;
use super::transaction::Transaction;
use super::unacked::{Held, Unacked};
use super::{ChannelCounters, Origin, Session, SessionOutput, Waiting, World, reply_text};
use crate::error::Exception;
use crate::identity::ChannelKey;
use crate::queue::{Settlement, ShardInput};

/// The state of one channel.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// We have sent `channel.close`; everything but its answer is dropped (spec 1.5.2.5).
    closing: bool,
    /// The content that is being received.
    pub(super) assembly: Assembly,
    /// After `confirm.select`.
    pub(super) confirms: Option<Confirms>,
    /// After `tx.select`, which excludes confirms.
    pub(super) transaction: Option<Box<Transaction>>,
    pub(super) unacked: Unacked,
    pub(super) last_delivery_tag: u64,
    pub(super) prefetch: Prefetch,
    /// What its client has no room for yet, oldest first.
    pub(super) aside: VecDeque<Aside>,
    /// Consumers whose queues get a grant when its client has room again.
    pub(super) recalled: BTreeSet<u32>,
    /// Consumer tag to consumer.
    pub(super) consumer_tags: BTreeMap<String, u32>,
    /// Who consumes the replies to requests of this channel.
    pub(super) replies: Option<ReplyConsumer>,
    pub(super) counters: ChannelCounters,
    /// The name that an empty queue name stands for.
    pub(super) last_queue: String,
}

impl Channel {
    /// True until one side wants it closed.
    pub(super) fn is_open(&self) -> bool {
        !self.closing
    }

    /// Whether a publish may begin on it.
    #[inline]
    pub(super) fn takes_publish(&self) -> bool {
        !self.closing && !self.assembly.is_under_way()
    }

    /// The confirm that is due.
    pub(super) fn confirm_due(&mut self) -> Option<Answer> {
        self.confirms.as_mut().filter(|_| !self.closing).and_then(Confirms::due)
    }

    /// Remembers a delivery that has to be acknowledged, or only counts it.
    #[inline]
    pub(super) fn next_delivery_tag(&mut self, held: Option<Held>) -> u64 {
        self.last_delivery_tag += 1;
        if let Some(held) = held {
            self.unacked.push(self.last_delivery_tag, held);
        }
        self.last_delivery_tag
    }
}

impl Session {
    /// The channel, unless it is unknown or closing.
    pub(super) fn channel(&mut self, number: u16) -> Option<&mut Channel> {
        self.channels.get_mut(number).filter(|channel| !channel.closing)
    }

    /// The channel that a method came on. `channel_method` has made sure that it is open.
    pub(super) fn open_channel(&mut self, origin: Origin) -> Result<&mut Channel, Exception> {
        self.channel(origin.channel).ok_or_else(unopened)
    }

    /// How shards know a channel.
    pub(super) fn key_of(&self, channel: u16) -> ChannelKey {
        ChannelKey { connection: self.id, channel }
    }

    pub(super) fn channel_method(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        method: ToServer<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        match self.channels.get(origin.channel) {
            None => return self.first_method(world, origin, &method, out),
            Some(channel) if channel.closing => {
                self.closing_method(origin.channel, &method, out);
                return Ok(());
            }
            Some(channel) if channel.assembly.is_under_way() => {
                let exception = channel.assembly.interrupted();
                let publish = self.content_origin(origin.channel);
                self.fail(publish, exception, out);
                return Ok(());
            }
            Some(_) => {}
        }
        match method {
            ToServer::BasicPublish(_) if self.alarm.is_on() => {
                self.block(out);
                Ok(())
            }
            ToServer::BasicPublish(publish) => self.basic_publish(origin, &publish),
            ToServer::BasicAck(ack) => self.basic_ack(origin, ack, out),
            ToServer::BasicNack(nack) => self.basic_nack(origin, nack, out),
            ToServer::BasicReject(reject) => self.basic_reject(origin, reject, out),
            ToServer::BasicRecover(recover) => self.basic_recover(origin, recover.requeue, true, out),
            ToServer::BasicRecoverAsync(recover) => self.basic_recover(origin, recover.requeue, false, out),
            ToServer::BasicGet(get) => self.basic_get(world, origin, &get, out),
            ToServer::BasicConsume(consume) => self.basic_consume(world, origin, &consume, out),
            ToServer::BasicCancel(cancel) => self.basic_cancel(origin, &cancel, out),
            ToServer::BasicCancelOk(_) => Ok(()),
            ToServer::BasicQos(qos) => self.basic_qos(origin, qos, out),
            ToServer::ConfirmSelect(select) => self.confirm_select(origin, select, out),
            ToServer::ChannelClose(_) => {
                self.forget_channel(origin.channel, out);
                out.send(origin.channel, &ToClient::ChannelCloseOk(channel::CloseOk));
                Ok(())
            }
            ToServer::ChannelFlow(flow) => channel_flow(origin, flow, out),
            ToServer::ChannelFlowOk(_) => Ok(()),
            ToServer::AccessRequest(_) => {
                // Deprecated, and answered for clients of the time before 0-9-1 (RabbitMQ does too).
                out.send(origin.channel, &ToClient::AccessRequestOk(access::RequestOk { ticket: 1 }));
                Ok(())
            }
            ToServer::TxSelect(_) => self.tx_select(origin, out),
            ToServer::TxCommit(_) => self.tx_commit(origin, out),
            ToServer::TxRollback(_) => self.tx_rollback(origin, out),
            ToServer::ChannelOpen(_) => {
                Err(Exception::connection(ReplyCode::ChannelError, "second 'channel.open' seen"))
            }
            method => self.declare_method(world, origin, method, out),
        }
    }

    /// A method on a channel that is not open: only `channel.open` makes sense.
    fn first_method(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        method: &ToServer<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        match method {
            ToServer::ChannelOpen(_) => {}
            // The answer to a close of ours whose channel the client had closed itself at the same time.
            ToServer::ChannelCloseOk(_) => return Ok(()),
            _ => return Err(unopened()),
        }
        // RabbitMQ's channel-max bounds how many are open, not their numbers.
        if self.channels.len() >= usize::from(self.channel_max) {
            let text = format!(
                "number of channels opened ({}) has reached the negotiated channel_max ({})",
                self.channels.len(),
                self.channel_max
            );
            // RabbitMQ does not put it down to the method.
            self.close(Origin::none(0), ReplyCode::NotAllowed, &text, out);
            return Ok(());
        }
        let (identity, topology) = (&self.identity, world.topology);
        world.census.open_channel(self.channels.len(), &mut |open| topology.may_open_channel(identity, open))?;
        self.channels.insert(origin.channel, Channel::default());
        out.counts.channels_opened += 1;
        out.send(origin.channel, &ToClient::ChannelOpenOk(channel::OpenOk));
        Ok(())
    }

    fn closing_method(&mut self, number: u16, method: &ToServer<'_>, out: &mut SessionOutput) {
        match method {
            ToServer::ChannelCloseOk(_) => drop(self.channels.remove(number)),
            ToServer::ChannelClose(_) => {
                self.channels.remove(number);
                out.send(number, &ToClient::ChannelCloseOk(channel::CloseOk));
            }
            _ => {}
        }
    }

    /// Ends a channel from our side. What it held goes back; the number stays taken until the client has answered.
    pub(super) fn close_channel(&mut self, origin: Origin, code: ReplyCode, text: &str, out: &mut SessionOutput) {
        self.forget_channel(origin.channel, out);
        self.channels.insert(origin.channel, Channel { closing: true, ..Channel::default() });
        let text = reply_text(code, text);
        out.notices.push(origin.notice(format!("channel {} closed: {text}", origin.channel), code));
        let close = channel::Close {
            reply_code: code.code(),
            reply_text: &text,
            class_id: origin.class_id,
            method_id: origin.method_id,
        };
        out.send(origin.channel, &ToClient::ChannelClose(close));
    }

    /// Removes a channel: its consumers end and what it holds unacknowledged goes back to its place.
    fn forget_channel(&mut self, number: u16, out: &mut SessionOutput) {
        self.roll_back(number);
        self.waiting.take_if(|waiting| matches!(waiting, Waiting::Commit { origin } if origin.channel == number));
        let Some(mut channel) = self.channels.remove(number) else {
            return;
        };
        out.counts.channels_closed += 1;
        self.confirm_watch.forget(number);
        if let Some(tracing) = &mut self.tracing {
            tracing.abandon(Some(number), out);
        }
        self.publishers -= usize::from(channel.counters.published > 0);
        self.unfinished_bytes -= channel.assembly.unfinished_bytes();
        self.unconfirmed -= channel.confirms.as_ref().map_or(0, Confirms::outstanding);
        out.reply_addresses.extend(channel.replies.map(|consumer| (consumer.address, false)));
        let id = self.id;
        for (serial, consumer) in self.consumers.remove_where(|consumer| consumer.is_on(number)) {
            let (queue, key) = (consumer.queue, consumer.key(id, serial));
            out.tell(consumer.shard, ShardInput::Unsubscribe { queue, consumer: key });
        }
        let key = self.key_of(number);
        channel.aside.drain(..).for_each(|aside| give_back(aside.shard, key, &aside.delivery, out));
        channel.unacked.settle_up_to(key, 0, Settlement::Fail, out);
    }

    fn confirm_select(
        &mut self,
        origin: Origin,
        select: confirm::Select,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let generation = self.confirm_generation;
        let channel = self.open_channel(origin)?;
        if channel.transaction.is_some() {
            let text = "cannot switch from tx to confirm mode";
            return Err(Exception::channel(ReplyCode::PreconditionFailed, text));
        }
        if channel.confirms.is_none() {
            channel.confirms = Some(Confirms::new(generation));
            self.confirm_generation = generation.wrapping_add(1);
        }
        if !select.no_wait {
            out.send(origin.channel, &ToClient::ConfirmSelectOk(confirm::SelectOk));
        }
        Ok(())
    }

    /// A shard has said what became of publishes of a channel.
    pub(super) fn confirmed(&mut self, number: u16, answer: impl FnOnce(&mut Confirms)) {
        let Some(channel) = self.channel(number) else {
            return;
        };
        let committing = channel.transaction.as_mut().map(|transaction| &mut transaction.answers);
        if let Some(confirms) = committing.or(channel.confirms.as_mut()) {
            answer(confirms);
            self.confirms_due(number);
        }
    }

    pub(super) fn confirms_due(&mut self, number: u16) {
        if self.confirms_due.last() != Some(&number) {
            self.confirms_due.push(number);
        }
    }

    /// Replaces the empty name by the queue that the channel declared last.
    pub(super) fn queue_name(&mut self, origin: Origin, name: &str) -> Result<String, Exception> {
        let last = &self.open_channel(origin)?.last_queue;
        match (name, last.as_str()) {
            ("", "") => Err(Exception::channel(ReplyCode::NotFound, "no previously declared queue")),
            ("", last) => Ok(last.to_string()),
            (name, _) => Ok(name.to_string()),
        }
    }
}

fn channel_flow(origin: Origin, flow: channel::Flow, out: &mut SessionOutput) -> Result<(), Exception> {
    if !flow.active {
        return Err(Exception::connection(ReplyCode::NotImplemented, "active=false"));
    }
    out.send(origin.channel, &ToClient::ChannelFlowOk(channel::FlowOk { active: true }));
    Ok(())
}

fn unopened() -> Exception {
    Exception::connection(ReplyCode::ChannelError, "expected 'channel.open'")
}
