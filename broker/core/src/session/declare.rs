//! Methods about exchanges, queues and bindings: they ask the metadata.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;
use warren_amqp::{ReplyCode, Table, ToClient, ToServer, exchange, limits, queue};

use super::consume::{Consumer, count_field};
use super::direct_reply::is_reply_name;
use super::{MetadataAnswer, MetadataRequest, Origin, Session, SessionOutput, Waiting, World, base64url};
use crate::error::Exception;
use crate::topology::{Action, Bind, ExchangeDeclaration, Outcome, QueueDeclaration, Request};

/// What to answer once the metadata has.
#[derive(Debug)]
pub(super) enum Reply {
    /// Nothing: the method said `no-wait`.
    Silence,
    ExchangeDeclareOk,
    ExchangeDeleteOk,
    ExchangeBindOk,
    ExchangeUnbindOk,
    QueueDeclareOk {
        no_wait: bool,
    },
    QueueBindOk,
    QueueUnbindOk,
    QueueDeleteOk {
        no_wait: bool,
        /// Consumers of the same channel that the queue took with it: RabbitMQ tells them after `queue.delete-ok`, and
        /// clients that wait for that take a `basic.cancel` before it for a failure.
        cancelled: Vec<Consumer>,
    },
}

impl Session {
    pub(super) fn declare_method(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        method: ToServer<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        match method {
            ToServer::ExchangeDeclare(declare) => self.exchange_declare(origin, &declare, out),
            ToServer::ExchangeDelete(delete) => {
                let action = Action::DeleteExchange { name: delete.exchange.to_string(), if_unused: delete.if_unused };
                self.ask(origin, action, unless(delete.no_wait, Reply::ExchangeDeleteOk), out);
                Ok(())
            }
            ToServer::ExchangeBind(bind) => {
                let action = Action::BindExchange(exchange_bind(&bind)?);
                self.ask(origin, action, unless(bind.no_wait, Reply::ExchangeBindOk), out);
                Ok(())
            }
            ToServer::ExchangeUnbind(unbind) => {
                let bind = bind_of(unbind.source, unbind.destination, unbind.routing_key, unbind.arguments)?;
                self.ask(origin, Action::UnbindExchange(bind), unless(unbind.no_wait, Reply::ExchangeUnbindOk), out);
                Ok(())
            }
            ToServer::QueueDeclare(declare) => self.queue_declare(world, origin, &declare, out),
            ToServer::QueueBind(bind) => self.queue_bind(origin, &bind, out),
            ToServer::QueueUnbind(unbind) => self.queue_unbind(origin, &unbind, out),
            ToServer::QueuePurge(purge) => self.queue_purge(world, origin, &purge, out),
            ToServer::QueueDelete(delete) => self.queue_delete(origin, &delete, out),
            // Methods of the connection, which belong on channel 0.
            _ => Err(Exception::connection(ReplyCode::CommandInvalid, "unimplemented method")),
        }
    }

    fn exchange_declare(
        &mut self,
        origin: Origin,
        declare: &exchange::Declare<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let declaration = ExchangeDeclaration {
            name: declare.exchange.to_string(),
            kind: declare.kind.to_string(),
            passive: declare.passive,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: arguments(declare.arguments)?,
        };
        let reply = unless(declare.no_wait, Reply::ExchangeDeclareOk);
        self.ask(origin, Action::DeclareExchange(declaration), reply, out);
        Ok(())
    }

    fn queue_declare(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        declare: &queue::Declare<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        if is_reply_name(declare.queue) {
            return self.declare_replies(world, origin, declare, out);
        }
        let declaration = QueueDeclaration {
            name: declare.queue.to_string(),
            generated_name: format!("amq.gen-{}", base64url::encode((world.random)(), base64url::KEY_LEN)),
            passive: declare.passive,
            durable: declare.durable,
            exclusive: declare.exclusive,
            auto_delete: declare.auto_delete,
            arguments: arguments(declare.arguments)?,
        };
        // Already now, for the connection may be lost before the answer comes.
        self.owns_queues |= declare.exclusive;
        let reply = Reply::QueueDeclareOk { no_wait: declare.no_wait };
        self.ask(origin, Action::DeclareQueue(declaration), reply, out);
        Ok(())
    }

    fn queue_bind(&mut self, origin: Origin, bind: &queue::Bind<'_>, out: &mut SessionOutput) -> Result<(), Exception> {
        let queue = self.queue_name(origin, bind.queue)?;
        let key = default_key(bind.queue, bind.routing_key, &queue);
        let action = Action::BindQueue(bind_of(bind.exchange, &queue, key, bind.arguments)?);
        self.ask(origin, action, unless(bind.no_wait, Reply::QueueBindOk), out);
        Ok(())
    }

    fn queue_unbind(
        &mut self,
        origin: Origin,
        unbind: &queue::Unbind<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let queue = self.queue_name(origin, unbind.queue)?;
        let key = default_key(unbind.queue, unbind.routing_key, &queue);
        let bind = bind_of(unbind.exchange, &queue, key, unbind.arguments)?;
        self.ask(origin, Action::UnbindQueue(bind), Reply::QueueUnbindOk, out);
        Ok(())
    }

    fn queue_delete(
        &mut self,
        origin: Origin,
        delete: &queue::Delete<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        out.request = Some(MetadataRequest::DeleteQueue {
            connection: self.id,
            identity: self.identity.clone(),
            vhost: self.vhost.clone(),
            name: self.queue_name(origin, delete.queue)?,
            if_unused: delete.if_unused,
            if_empty: delete.if_empty,
        });
        let reply = Reply::QueueDeleteOk { no_wait: delete.no_wait, cancelled: Vec::new() };
        self.waiting = Some(Waiting::Metadata { origin, reply });
        Ok(())
    }

    fn ask(&mut self, origin: Origin, action: Action, reply: Reply, out: &mut SessionOutput) {
        let (identity, vhost) = (self.identity.clone(), self.vhost.clone());
        let request = Request { connection: self.id, identity, vhost, action };
        out.request = Some(MetadataRequest::Topology(request));
        self.waiting = Some(Waiting::Metadata { origin, reply });
    }

    /// Carries on with the method that waited for the metadata.
    pub(super) fn declared(
        &mut self,
        origin: Origin,
        reply: Reply,
        answer: MetadataAnswer,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let method = match (reply, answer) {
            (Reply::QueueDeclareOk { no_wait }, MetadataAnswer::Outcome(Outcome::Queue(queue))) => {
                if let Some(channel) = self.channel(origin.channel) {
                    channel.last_queue = queue.name.as_ref().to_owned();
                }
                self.count(origin, queue, no_wait, out);
                return Ok(());
            }
            (Reply::QueueDeleteOk { no_wait, cancelled }, MetadataAnswer::Deleted(count)) => {
                if !no_wait {
                    let ok = queue::DeleteOk { message_count: count_field(count) };
                    out.send(origin.channel, &ToClient::QueueDeleteOk(ok));
                }
                cancelled.iter().for_each(|consumer| self.notify_of_cancel(consumer, out));
                return Ok(());
            }
            (Reply::ExchangeDeclareOk, _) => ToClient::ExchangeDeclareOk(exchange::DeclareOk),
            (Reply::ExchangeDeleteOk, _) => ToClient::ExchangeDeleteOk(exchange::DeleteOk),
            (Reply::ExchangeBindOk, _) => ToClient::ExchangeBindOk(exchange::BindOk),
            (Reply::ExchangeUnbindOk, _) => ToClient::ExchangeUnbindOk(exchange::UnbindOk),
            (Reply::QueueBindOk, _) => ToClient::QueueBindOk(queue::BindOk),
            (Reply::QueueUnbindOk, _) => ToClient::QueueUnbindOk(queue::UnbindOk),
            (Reply::Silence | Reply::QueueDeclareOk { .. } | Reply::QueueDeleteOk { .. }, _) => {
                return Ok(());
            }
        };
        out.send(origin.channel, &method);
        Ok(())
    }
}

fn unless(no_wait: bool, reply: Reply) -> Reply {
    if no_wait { Reply::Silence } else { reply }
}

/// With queue and key both empty, the queue declared last is meant, and its name as the key (spec `queue.bind`).
fn default_key<'a>(queue_given: &str, key_given: &'a str, queue: &'a str) -> &'a str {
    if queue_given.is_empty() && key_given.is_empty() { queue } else { key_given }
}

fn exchange_bind(bind: &exchange::Bind<'_>) -> Result<Bind, Exception> {
    bind_of(bind.source, bind.destination, bind.routing_key, bind.arguments)
}

fn bind_of(source: &str, destination: &str, routing_key: &str, table: Table<'_>) -> Result<Bind, Exception> {
    Ok(Bind {
        source: source.to_string(),
        destination: destination.to_string(),
        routing_key: routing_key.to_string(),
        arguments: arguments(table)?,
    })
}

fn arguments(table: Table<'_>) -> Result<Bytes, Exception> {
    table
        .validate(&limits::TABLE)
        .map_err(|error| Exception::connection(error.reply_code(), format!("arguments: {error}")))?;
    Ok(Bytes::copy_from_slice(table.octets()))
}
