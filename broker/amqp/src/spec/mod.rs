//! The methods of AMQP 0-9-1 and of RabbitMQ's extensions, a module per class, and two enums by direction.
//!
//! Written by `spec/generate.rs` from `spec/amqp0-9-1.txt`; change those.

use alloc::vec::Vec;

use crate::error::DecodeError;

pub mod access;
pub mod basic;
pub mod channel;
pub mod confirm;
pub mod connection;
pub mod exchange;
pub mod queue;
pub mod tx;

/// A method that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToServer<'a> {
    /// The client introduces itself and begins to log in.
    ConnectionStartOk(connection::StartOk<'a>),
    /// The client answers the challenge.
    ConnectionSecureOk(connection::SecureOk<'a>),
    /// The client settles the limits, never above the proposal.
    ConnectionTuneOk(connection::TuneOk),
    /// The client chooses a virtual host.
    ConnectionOpen(connection::Open<'a>),
    /// Either side ends the connection and says why.
    ConnectionClose(connection::Close<'a>),
    /// The end is agreed; the socket may go.
    ConnectionCloseOk(connection::CloseOk),
    /// RabbitMQ: a new secret for the session, before the old one expires.
    ConnectionUpdateSecret(connection::UpdateSecret<'a>),
    /// Open the channel whose number the frame carries.
    ChannelOpen(channel::Open),
    /// Ask the peer to pause or resume content.
    ChannelFlow(channel::Flow),
    /// The request to pause or resume is in effect.
    ChannelFlowOk(channel::FlowOk),
    /// Either side ends the channel and says why.
    ChannelClose(channel::Close<'a>),
    /// The end is agreed; the number may be used again.
    ChannelCloseOk(channel::CloseOk),
    /// Ask for an access ticket.
    AccessRequest(access::Request<'a>),
    /// Create an exchange, or check that an equal one exists.
    ExchangeDeclare(exchange::Declare<'a>),
    /// Delete an exchange and its bindings.
    ExchangeDelete(exchange::Delete<'a>),
    /// RabbitMQ: bind an exchange to an exchange.
    ExchangeBind(exchange::Bind<'a>),
    /// RabbitMQ: remove a binding between exchanges.
    ExchangeUnbind(exchange::Unbind<'a>),
    /// Create a queue, or check that an equal one exists.
    QueueDeclare(queue::Declare<'a>),
    /// Bind a queue to an exchange.
    QueueBind(queue::Bind<'a>),
    /// Drop all ready messages.
    QueuePurge(queue::Purge<'a>),
    /// Delete a queue with its messages and bindings.
    QueueDelete(queue::Delete<'a>),
    /// Remove a binding of a queue.
    QueueUnbind(queue::Unbind<'a>),
    /// Limit the unacknowledged deliveries.
    BasicQos(basic::Qos),
    /// Start a consumer.
    BasicConsume(basic::Consume<'a>),
    /// End a consumer. RabbitMQ: the server says so too when the queue goes away.
    BasicCancel(basic::Cancel<'a>),
    /// The consumer has ended.
    BasicCancelOk(basic::CancelOk<'a>),
    /// Publish a message.
    BasicPublish(basic::Publish<'a>),
    /// Ask for one message.
    BasicGet(basic::Get<'a>),
    /// Deliveries are done. RabbitMQ: to the client, publishes are safe.
    BasicAck(basic::Ack),
    /// One delivery is refused.
    BasicReject(basic::Reject),
    /// Deliver everything unacknowledged again, without an answer. Deprecated.
    BasicRecoverAsync(basic::RecoverAsync),
    /// Deliver everything unacknowledged again.
    BasicRecover(basic::Recover),
    /// RabbitMQ: deliveries are refused; to the client, publishes were lost.
    BasicNack(basic::Nack),
    /// The channel's publishes are to be confirmed, counted from 1.
    ConfirmSelect(confirm::Select),
    /// The channel becomes transactional.
    TxSelect(tx::Select),
    /// Make the transaction's work happen.
    TxCommit(tx::Commit),
    /// Forget the transaction's work.
    TxRollback(tx::Rollback),
}

impl<'a> ToServer<'a> {
    /// Decodes a method frame's payload: class id, method id, fields.
    ///
    /// # Errors
    /// A method that does not exist or does not go in this direction, and whatever its fields have wrong.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let (class_id, method_id, fields) = split_ids(payload)?;
        Ok(match (class_id, method_id) {
            (10, 11) => Self::ConnectionStartOk(connection::StartOk::decode(fields)?),
            (10, 21) => Self::ConnectionSecureOk(connection::SecureOk::decode(fields)?),
            (10, 31) => Self::ConnectionTuneOk(connection::TuneOk::decode(fields)?),
            (10, 40) => Self::ConnectionOpen(connection::Open::decode(fields)?),
            (10, 50) => Self::ConnectionClose(connection::Close::decode(fields)?),
            (10, 51) => Self::ConnectionCloseOk(connection::CloseOk::decode(fields)?),
            (10, 70) => Self::ConnectionUpdateSecret(connection::UpdateSecret::decode(fields)?),
            (20, 10) => Self::ChannelOpen(channel::Open::decode(fields)?),
            (20, 20) => Self::ChannelFlow(channel::Flow::decode(fields)?),
            (20, 21) => Self::ChannelFlowOk(channel::FlowOk::decode(fields)?),
            (20, 40) => Self::ChannelClose(channel::Close::decode(fields)?),
            (20, 41) => Self::ChannelCloseOk(channel::CloseOk::decode(fields)?),
            (30, 10) => Self::AccessRequest(access::Request::decode(fields)?),
            (40, 10) => Self::ExchangeDeclare(exchange::Declare::decode(fields)?),
            (40, 20) => Self::ExchangeDelete(exchange::Delete::decode(fields)?),
            (40, 30) => Self::ExchangeBind(exchange::Bind::decode(fields)?),
            (40, 40) => Self::ExchangeUnbind(exchange::Unbind::decode(fields)?),
            (50, 10) => Self::QueueDeclare(queue::Declare::decode(fields)?),
            (50, 20) => Self::QueueBind(queue::Bind::decode(fields)?),
            (50, 30) => Self::QueuePurge(queue::Purge::decode(fields)?),
            (50, 40) => Self::QueueDelete(queue::Delete::decode(fields)?),
            (50, 50) => Self::QueueUnbind(queue::Unbind::decode(fields)?),
            (60, 10) => Self::BasicQos(basic::Qos::decode(fields)?),
            (60, 20) => Self::BasicConsume(basic::Consume::decode(fields)?),
            (60, 30) => Self::BasicCancel(basic::Cancel::decode(fields)?),
            (60, 31) => Self::BasicCancelOk(basic::CancelOk::decode(fields)?),
            (60, 40) => Self::BasicPublish(basic::Publish::decode(fields)?),
            (60, 70) => Self::BasicGet(basic::Get::decode(fields)?),
            (60, 80) => Self::BasicAck(basic::Ack::decode(fields)?),
            (60, 90) => Self::BasicReject(basic::Reject::decode(fields)?),
            (60, 100) => Self::BasicRecoverAsync(basic::RecoverAsync::decode(fields)?),
            (60, 110) => Self::BasicRecover(basic::Recover::decode(fields)?),
            (60, 120) => Self::BasicNack(basic::Nack::decode(fields)?),
            (85, 10) => Self::ConfirmSelect(confirm::Select::decode(fields)?),
            (90, 10) => Self::TxSelect(tx::Select::decode(fields)?),
            (90, 20) => Self::TxCommit(tx::Commit::decode(fields)?),
            (90, 30) => Self::TxRollback(tx::Rollback::decode(fields)?),
            _ => return Err(refused(class_id, method_id)),
        })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        match self {
            Self::ConnectionStartOk(method) => method.encode(channel, out),
            Self::ConnectionSecureOk(method) => method.encode(channel, out),
            Self::ConnectionTuneOk(method) => method.encode(channel, out),
            Self::ConnectionOpen(method) => method.encode(channel, out),
            Self::ConnectionClose(method) => method.encode(channel, out),
            Self::ConnectionCloseOk(method) => method.encode(channel, out),
            Self::ConnectionUpdateSecret(method) => method.encode(channel, out),
            Self::ChannelOpen(method) => method.encode(channel, out),
            Self::ChannelFlow(method) => method.encode(channel, out),
            Self::ChannelFlowOk(method) => method.encode(channel, out),
            Self::ChannelClose(method) => method.encode(channel, out),
            Self::ChannelCloseOk(method) => method.encode(channel, out),
            Self::AccessRequest(method) => method.encode(channel, out),
            Self::ExchangeDeclare(method) => method.encode(channel, out),
            Self::ExchangeDelete(method) => method.encode(channel, out),
            Self::ExchangeBind(method) => method.encode(channel, out),
            Self::ExchangeUnbind(method) => method.encode(channel, out),
            Self::QueueDeclare(method) => method.encode(channel, out),
            Self::QueueBind(method) => method.encode(channel, out),
            Self::QueuePurge(method) => method.encode(channel, out),
            Self::QueueDelete(method) => method.encode(channel, out),
            Self::QueueUnbind(method) => method.encode(channel, out),
            Self::BasicQos(method) => method.encode(channel, out),
            Self::BasicConsume(method) => method.encode(channel, out),
            Self::BasicCancel(method) => method.encode(channel, out),
            Self::BasicCancelOk(method) => method.encode(channel, out),
            Self::BasicPublish(method) => method.encode(channel, out),
            Self::BasicGet(method) => method.encode(channel, out),
            Self::BasicAck(method) => method.encode(channel, out),
            Self::BasicReject(method) => method.encode(channel, out),
            Self::BasicRecoverAsync(method) => method.encode(channel, out),
            Self::BasicRecover(method) => method.encode(channel, out),
            Self::BasicNack(method) => method.encode(channel, out),
            Self::ConfirmSelect(method) => method.encode(channel, out),
            Self::TxSelect(method) => method.encode(channel, out),
            Self::TxCommit(method) => method.encode(channel, out),
            Self::TxRollback(method) => method.encode(channel, out),
        }
    }

    /// Class and method id.
    pub const fn method_id(&self) -> (u16, u16) {
        match self {
            Self::ConnectionStartOk(_) => connection::StartOk::ID,
            Self::ConnectionSecureOk(_) => connection::SecureOk::ID,
            Self::ConnectionTuneOk(_) => connection::TuneOk::ID,
            Self::ConnectionOpen(_) => connection::Open::ID,
            Self::ConnectionClose(_) => connection::Close::ID,
            Self::ConnectionCloseOk(_) => connection::CloseOk::ID,
            Self::ConnectionUpdateSecret(_) => connection::UpdateSecret::ID,
            Self::ChannelOpen(_) => channel::Open::ID,
            Self::ChannelFlow(_) => channel::Flow::ID,
            Self::ChannelFlowOk(_) => channel::FlowOk::ID,
            Self::ChannelClose(_) => channel::Close::ID,
            Self::ChannelCloseOk(_) => channel::CloseOk::ID,
            Self::AccessRequest(_) => access::Request::ID,
            Self::ExchangeDeclare(_) => exchange::Declare::ID,
            Self::ExchangeDelete(_) => exchange::Delete::ID,
            Self::ExchangeBind(_) => exchange::Bind::ID,
            Self::ExchangeUnbind(_) => exchange::Unbind::ID,
            Self::QueueDeclare(_) => queue::Declare::ID,
            Self::QueueBind(_) => queue::Bind::ID,
            Self::QueuePurge(_) => queue::Purge::ID,
            Self::QueueDelete(_) => queue::Delete::ID,
            Self::QueueUnbind(_) => queue::Unbind::ID,
            Self::BasicQos(_) => basic::Qos::ID,
            Self::BasicConsume(_) => basic::Consume::ID,
            Self::BasicCancel(_) => basic::Cancel::ID,
            Self::BasicCancelOk(_) => basic::CancelOk::ID,
            Self::BasicPublish(_) => basic::Publish::ID,
            Self::BasicGet(_) => basic::Get::ID,
            Self::BasicAck(_) => basic::Ack::ID,
            Self::BasicReject(_) => basic::Reject::ID,
            Self::BasicRecoverAsync(_) => basic::RecoverAsync::ID,
            Self::BasicRecover(_) => basic::Recover::ID,
            Self::BasicNack(_) => basic::Nack::ID,
            Self::ConfirmSelect(_) => confirm::Select::ID,
            Self::TxSelect(_) => tx::Select::ID,
            Self::TxCommit(_) => tx::Commit::ID,
            Self::TxRollback(_) => tx::Rollback::ID,
        }
    }

    /// The name, such as `basic.publish`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectionStartOk(_) => connection::StartOk::NAME,
            Self::ConnectionSecureOk(_) => connection::SecureOk::NAME,
            Self::ConnectionTuneOk(_) => connection::TuneOk::NAME,
            Self::ConnectionOpen(_) => connection::Open::NAME,
            Self::ConnectionClose(_) => connection::Close::NAME,
            Self::ConnectionCloseOk(_) => connection::CloseOk::NAME,
            Self::ConnectionUpdateSecret(_) => connection::UpdateSecret::NAME,
            Self::ChannelOpen(_) => channel::Open::NAME,
            Self::ChannelFlow(_) => channel::Flow::NAME,
            Self::ChannelFlowOk(_) => channel::FlowOk::NAME,
            Self::ChannelClose(_) => channel::Close::NAME,
            Self::ChannelCloseOk(_) => channel::CloseOk::NAME,
            Self::AccessRequest(_) => access::Request::NAME,
            Self::ExchangeDeclare(_) => exchange::Declare::NAME,
            Self::ExchangeDelete(_) => exchange::Delete::NAME,
            Self::ExchangeBind(_) => exchange::Bind::NAME,
            Self::ExchangeUnbind(_) => exchange::Unbind::NAME,
            Self::QueueDeclare(_) => queue::Declare::NAME,
            Self::QueueBind(_) => queue::Bind::NAME,
            Self::QueuePurge(_) => queue::Purge::NAME,
            Self::QueueDelete(_) => queue::Delete::NAME,
            Self::QueueUnbind(_) => queue::Unbind::NAME,
            Self::BasicQos(_) => basic::Qos::NAME,
            Self::BasicConsume(_) => basic::Consume::NAME,
            Self::BasicCancel(_) => basic::Cancel::NAME,
            Self::BasicCancelOk(_) => basic::CancelOk::NAME,
            Self::BasicPublish(_) => basic::Publish::NAME,
            Self::BasicGet(_) => basic::Get::NAME,
            Self::BasicAck(_) => basic::Ack::NAME,
            Self::BasicReject(_) => basic::Reject::NAME,
            Self::BasicRecoverAsync(_) => basic::RecoverAsync::NAME,
            Self::BasicRecover(_) => basic::Recover::NAME,
            Self::BasicNack(_) => basic::Nack::NAME,
            Self::ConfirmSelect(_) => confirm::Select::NAME,
            Self::TxSelect(_) => tx::Select::NAME,
            Self::TxCommit(_) => tx::Commit::NAME,
            Self::TxRollback(_) => tx::Rollback::NAME,
        }
    }
}

/// A method that a server may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToClient<'a> {
    /// The server introduces itself and offers SASL mechanisms.
    ConnectionStart(connection::Start<'a>),
    /// The server asks for another round of the SASL exchange.
    ConnectionSecure(connection::Secure<'a>),
    /// The server proposes its limits.
    ConnectionTune(connection::Tune),
    /// The connection is ready for channels.
    ConnectionOpenOk(connection::OpenOk),
    /// Either side ends the connection and says why.
    ConnectionClose(connection::Close<'a>),
    /// The end is agreed; the socket may go.
    ConnectionCloseOk(connection::CloseOk),
    /// RabbitMQ: the server has stopped reading from publishers because a resource is short.
    ConnectionBlocked(connection::Blocked<'a>),
    /// RabbitMQ: the shortage is over.
    ConnectionUnblocked(connection::Unblocked),
    /// RabbitMQ: the new secret is in force.
    ConnectionUpdateSecretOk(connection::UpdateSecretOk),
    /// The channel is open.
    ChannelOpenOk(channel::OpenOk),
    /// Ask the peer to pause or resume content.
    ChannelFlow(channel::Flow),
    /// The request to pause or resume is in effect.
    ChannelFlowOk(channel::FlowOk),
    /// Either side ends the channel and says why.
    ChannelClose(channel::Close<'a>),
    /// The end is agreed; the number may be used again.
    ChannelCloseOk(channel::CloseOk),
    /// Grant it.
    AccessRequestOk(access::RequestOk),
    /// The exchange exists.
    ExchangeDeclareOk(exchange::DeclareOk),
    /// The exchange does not exist.
    ExchangeDeleteOk(exchange::DeleteOk),
    /// RabbitMQ: the binding exists.
    ExchangeBindOk(exchange::BindOk),
    /// RabbitMQ: the binding does not exist.
    ExchangeUnbindOk(exchange::UnbindOk),
    /// The queue exists; its name and size.
    QueueDeclareOk(queue::DeclareOk<'a>),
    /// The binding exists.
    QueueBindOk(queue::BindOk),
    /// How many messages were dropped.
    QueuePurgeOk(queue::PurgeOk),
    /// How many messages went with the queue.
    QueueDeleteOk(queue::DeleteOk),
    /// The binding does not exist.
    QueueUnbindOk(queue::UnbindOk),
    /// The limit is in effect.
    BasicQosOk(basic::QosOk),
    /// The consumer exists; its tag.
    BasicConsumeOk(basic::ConsumeOk<'a>),
    /// End a consumer. RabbitMQ: the server says so too when the queue goes away.
    BasicCancel(basic::Cancel<'a>),
    /// The consumer has ended.
    BasicCancelOk(basic::CancelOk<'a>),
    /// A published message that could not be routed comes back.
    BasicReturn(basic::Return<'a>),
    /// A message for a consumer.
    BasicDeliver(basic::Deliver<'a>),
    /// The message asked for; the count is what remains.
    BasicGetOk(basic::GetOk<'a>),
    /// The queue has no ready message.
    BasicGetEmpty(basic::GetEmpty),
    /// Deliveries are done. RabbitMQ: to the client, publishes are safe.
    BasicAck(basic::Ack),
    /// The redelivery has been arranged.
    BasicRecoverOk(basic::RecoverOk),
    /// RabbitMQ: deliveries are refused; to the client, publishes were lost.
    BasicNack(basic::Nack),
    /// Confirm mode is on.
    ConfirmSelectOk(confirm::SelectOk),
    /// Transactions are on.
    TxSelectOk(tx::SelectOk),
    /// It happened; the next transaction has begun.
    TxCommitOk(tx::CommitOk),
    /// It is forgotten; the next transaction has begun.
    TxRollbackOk(tx::RollbackOk),
}

impl<'a> ToClient<'a> {
    /// Decodes a method frame's payload: class id, method id, fields.
    ///
    /// # Errors
    /// A method that does not exist or does not go in this direction, and whatever its fields have wrong.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let (class_id, method_id, fields) = split_ids(payload)?;
        Ok(match (class_id, method_id) {
            (10, 10) => Self::ConnectionStart(connection::Start::decode(fields)?),
            (10, 20) => Self::ConnectionSecure(connection::Secure::decode(fields)?),
            (10, 30) => Self::ConnectionTune(connection::Tune::decode(fields)?),
            (10, 41) => Self::ConnectionOpenOk(connection::OpenOk::decode(fields)?),
            (10, 50) => Self::ConnectionClose(connection::Close::decode(fields)?),
            (10, 51) => Self::ConnectionCloseOk(connection::CloseOk::decode(fields)?),
            (10, 60) => Self::ConnectionBlocked(connection::Blocked::decode(fields)?),
            (10, 61) => Self::ConnectionUnblocked(connection::Unblocked::decode(fields)?),
            (10, 71) => Self::ConnectionUpdateSecretOk(connection::UpdateSecretOk::decode(fields)?),
            (20, 11) => Self::ChannelOpenOk(channel::OpenOk::decode(fields)?),
            (20, 20) => Self::ChannelFlow(channel::Flow::decode(fields)?),
            (20, 21) => Self::ChannelFlowOk(channel::FlowOk::decode(fields)?),
            (20, 40) => Self::ChannelClose(channel::Close::decode(fields)?),
            (20, 41) => Self::ChannelCloseOk(channel::CloseOk::decode(fields)?),
            (30, 11) => Self::AccessRequestOk(access::RequestOk::decode(fields)?),
            (40, 11) => Self::ExchangeDeclareOk(exchange::DeclareOk::decode(fields)?),
            (40, 21) => Self::ExchangeDeleteOk(exchange::DeleteOk::decode(fields)?),
            (40, 31) => Self::ExchangeBindOk(exchange::BindOk::decode(fields)?),
            (40, 51) => Self::ExchangeUnbindOk(exchange::UnbindOk::decode(fields)?),
            (50, 11) => Self::QueueDeclareOk(queue::DeclareOk::decode(fields)?),
            (50, 21) => Self::QueueBindOk(queue::BindOk::decode(fields)?),
            (50, 31) => Self::QueuePurgeOk(queue::PurgeOk::decode(fields)?),
            (50, 41) => Self::QueueDeleteOk(queue::DeleteOk::decode(fields)?),
            (50, 51) => Self::QueueUnbindOk(queue::UnbindOk::decode(fields)?),
            (60, 11) => Self::BasicQosOk(basic::QosOk::decode(fields)?),
            (60, 21) => Self::BasicConsumeOk(basic::ConsumeOk::decode(fields)?),
            (60, 30) => Self::BasicCancel(basic::Cancel::decode(fields)?),
            (60, 31) => Self::BasicCancelOk(basic::CancelOk::decode(fields)?),
            (60, 50) => Self::BasicReturn(basic::Return::decode(fields)?),
            (60, 60) => Self::BasicDeliver(basic::Deliver::decode(fields)?),
            (60, 71) => Self::BasicGetOk(basic::GetOk::decode(fields)?),
            (60, 72) => Self::BasicGetEmpty(basic::GetEmpty::decode(fields)?),
            (60, 80) => Self::BasicAck(basic::Ack::decode(fields)?),
            (60, 111) => Self::BasicRecoverOk(basic::RecoverOk::decode(fields)?),
            (60, 120) => Self::BasicNack(basic::Nack::decode(fields)?),
            (85, 11) => Self::ConfirmSelectOk(confirm::SelectOk::decode(fields)?),
            (90, 11) => Self::TxSelectOk(tx::SelectOk::decode(fields)?),
            (90, 21) => Self::TxCommitOk(tx::CommitOk::decode(fields)?),
            (90, 31) => Self::TxRollbackOk(tx::RollbackOk::decode(fields)?),
            _ => return Err(refused(class_id, method_id)),
        })
    }

    /// Appends the whole method frame.
    pub fn encode(&self, channel: u16, out: &mut Vec<u8>) {
        match self {
            Self::ConnectionStart(method) => method.encode(channel, out),
            Self::ConnectionSecure(method) => method.encode(channel, out),
            Self::ConnectionTune(method) => method.encode(channel, out),
            Self::ConnectionOpenOk(method) => method.encode(channel, out),
            Self::ConnectionClose(method) => method.encode(channel, out),
            Self::ConnectionCloseOk(method) => method.encode(channel, out),
            Self::ConnectionBlocked(method) => method.encode(channel, out),
            Self::ConnectionUnblocked(method) => method.encode(channel, out),
            Self::ConnectionUpdateSecretOk(method) => method.encode(channel, out),
            Self::ChannelOpenOk(method) => method.encode(channel, out),
            Self::ChannelFlow(method) => method.encode(channel, out),
            Self::ChannelFlowOk(method) => method.encode(channel, out),
            Self::ChannelClose(method) => method.encode(channel, out),
            Self::ChannelCloseOk(method) => method.encode(channel, out),
            Self::AccessRequestOk(method) => method.encode(channel, out),
            Self::ExchangeDeclareOk(method) => method.encode(channel, out),
            Self::ExchangeDeleteOk(method) => method.encode(channel, out),
            Self::ExchangeBindOk(method) => method.encode(channel, out),
            Self::ExchangeUnbindOk(method) => method.encode(channel, out),
            Self::QueueDeclareOk(method) => method.encode(channel, out),
            Self::QueueBindOk(method) => method.encode(channel, out),
            Self::QueuePurgeOk(method) => method.encode(channel, out),
            Self::QueueDeleteOk(method) => method.encode(channel, out),
            Self::QueueUnbindOk(method) => method.encode(channel, out),
            Self::BasicQosOk(method) => method.encode(channel, out),
            Self::BasicConsumeOk(method) => method.encode(channel, out),
            Self::BasicCancel(method) => method.encode(channel, out),
            Self::BasicCancelOk(method) => method.encode(channel, out),
            Self::BasicReturn(method) => method.encode(channel, out),
            Self::BasicDeliver(method) => method.encode(channel, out),
            Self::BasicGetOk(method) => method.encode(channel, out),
            Self::BasicGetEmpty(method) => method.encode(channel, out),
            Self::BasicAck(method) => method.encode(channel, out),
            Self::BasicRecoverOk(method) => method.encode(channel, out),
            Self::BasicNack(method) => method.encode(channel, out),
            Self::ConfirmSelectOk(method) => method.encode(channel, out),
            Self::TxSelectOk(method) => method.encode(channel, out),
            Self::TxCommitOk(method) => method.encode(channel, out),
            Self::TxRollbackOk(method) => method.encode(channel, out),
        }
    }

    /// Class and method id.
    pub const fn method_id(&self) -> (u16, u16) {
        match self {
            Self::ConnectionStart(_) => connection::Start::ID,
            Self::ConnectionSecure(_) => connection::Secure::ID,
            Self::ConnectionTune(_) => connection::Tune::ID,
            Self::ConnectionOpenOk(_) => connection::OpenOk::ID,
            Self::ConnectionClose(_) => connection::Close::ID,
            Self::ConnectionCloseOk(_) => connection::CloseOk::ID,
            Self::ConnectionBlocked(_) => connection::Blocked::ID,
            Self::ConnectionUnblocked(_) => connection::Unblocked::ID,
            Self::ConnectionUpdateSecretOk(_) => connection::UpdateSecretOk::ID,
            Self::ChannelOpenOk(_) => channel::OpenOk::ID,
            Self::ChannelFlow(_) => channel::Flow::ID,
            Self::ChannelFlowOk(_) => channel::FlowOk::ID,
            Self::ChannelClose(_) => channel::Close::ID,
            Self::ChannelCloseOk(_) => channel::CloseOk::ID,
            Self::AccessRequestOk(_) => access::RequestOk::ID,
            Self::ExchangeDeclareOk(_) => exchange::DeclareOk::ID,
            Self::ExchangeDeleteOk(_) => exchange::DeleteOk::ID,
            Self::ExchangeBindOk(_) => exchange::BindOk::ID,
            Self::ExchangeUnbindOk(_) => exchange::UnbindOk::ID,
            Self::QueueDeclareOk(_) => queue::DeclareOk::ID,
            Self::QueueBindOk(_) => queue::BindOk::ID,
            Self::QueuePurgeOk(_) => queue::PurgeOk::ID,
            Self::QueueDeleteOk(_) => queue::DeleteOk::ID,
            Self::QueueUnbindOk(_) => queue::UnbindOk::ID,
            Self::BasicQosOk(_) => basic::QosOk::ID,
            Self::BasicConsumeOk(_) => basic::ConsumeOk::ID,
            Self::BasicCancel(_) => basic::Cancel::ID,
            Self::BasicCancelOk(_) => basic::CancelOk::ID,
            Self::BasicReturn(_) => basic::Return::ID,
            Self::BasicDeliver(_) => basic::Deliver::ID,
            Self::BasicGetOk(_) => basic::GetOk::ID,
            Self::BasicGetEmpty(_) => basic::GetEmpty::ID,
            Self::BasicAck(_) => basic::Ack::ID,
            Self::BasicRecoverOk(_) => basic::RecoverOk::ID,
            Self::BasicNack(_) => basic::Nack::ID,
            Self::ConfirmSelectOk(_) => confirm::SelectOk::ID,
            Self::TxSelectOk(_) => tx::SelectOk::ID,
            Self::TxCommitOk(_) => tx::CommitOk::ID,
            Self::TxRollbackOk(_) => tx::RollbackOk::ID,
        }
    }

    /// The name, such as `basic.publish`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectionStart(_) => connection::Start::NAME,
            Self::ConnectionSecure(_) => connection::Secure::NAME,
            Self::ConnectionTune(_) => connection::Tune::NAME,
            Self::ConnectionOpenOk(_) => connection::OpenOk::NAME,
            Self::ConnectionClose(_) => connection::Close::NAME,
            Self::ConnectionCloseOk(_) => connection::CloseOk::NAME,
            Self::ConnectionBlocked(_) => connection::Blocked::NAME,
            Self::ConnectionUnblocked(_) => connection::Unblocked::NAME,
            Self::ConnectionUpdateSecretOk(_) => connection::UpdateSecretOk::NAME,
            Self::ChannelOpenOk(_) => channel::OpenOk::NAME,
            Self::ChannelFlow(_) => channel::Flow::NAME,
            Self::ChannelFlowOk(_) => channel::FlowOk::NAME,
            Self::ChannelClose(_) => channel::Close::NAME,
            Self::ChannelCloseOk(_) => channel::CloseOk::NAME,
            Self::AccessRequestOk(_) => access::RequestOk::NAME,
            Self::ExchangeDeclareOk(_) => exchange::DeclareOk::NAME,
            Self::ExchangeDeleteOk(_) => exchange::DeleteOk::NAME,
            Self::ExchangeBindOk(_) => exchange::BindOk::NAME,
            Self::ExchangeUnbindOk(_) => exchange::UnbindOk::NAME,
            Self::QueueDeclareOk(_) => queue::DeclareOk::NAME,
            Self::QueueBindOk(_) => queue::BindOk::NAME,
            Self::QueuePurgeOk(_) => queue::PurgeOk::NAME,
            Self::QueueDeleteOk(_) => queue::DeleteOk::NAME,
            Self::QueueUnbindOk(_) => queue::UnbindOk::NAME,
            Self::BasicQosOk(_) => basic::QosOk::NAME,
            Self::BasicConsumeOk(_) => basic::ConsumeOk::NAME,
            Self::BasicCancel(_) => basic::Cancel::NAME,
            Self::BasicCancelOk(_) => basic::CancelOk::NAME,
            Self::BasicReturn(_) => basic::Return::NAME,
            Self::BasicDeliver(_) => basic::Deliver::NAME,
            Self::BasicGetOk(_) => basic::GetOk::NAME,
            Self::BasicGetEmpty(_) => basic::GetEmpty::NAME,
            Self::BasicAck(_) => basic::Ack::NAME,
            Self::BasicRecoverOk(_) => basic::RecoverOk::NAME,
            Self::BasicNack(_) => basic::Nack::NAME,
            Self::ConfirmSelectOk(_) => confirm::SelectOk::NAME,
            Self::TxSelectOk(_) => tx::SelectOk::NAME,
            Self::TxCommitOk(_) => tx::CommitOk::NAME,
            Self::TxRollbackOk(_) => tx::RollbackOk::NAME,
        }
    }
}

/// The method's name, such as `basic.publish`; `None` if no such method exists in either direction.
pub const fn method_name(class_id: u16, method_id: u16) -> Option<&'static str> {
    Some(match (class_id, method_id) {
        (10, 10) => "connection.start",
        (10, 11) => "connection.start-ok",
        (10, 20) => "connection.secure",
        (10, 21) => "connection.secure-ok",
        (10, 30) => "connection.tune",
        (10, 31) => "connection.tune-ok",
        (10, 40) => "connection.open",
        (10, 41) => "connection.open-ok",
        (10, 50) => "connection.close",
        (10, 51) => "connection.close-ok",
        (10, 60) => "connection.blocked",
        (10, 61) => "connection.unblocked",
        (10, 70) => "connection.update-secret",
        (10, 71) => "connection.update-secret-ok",
        (20, 10) => "channel.open",
        (20, 11) => "channel.open-ok",
        (20, 20) => "channel.flow",
        (20, 21) => "channel.flow-ok",
        (20, 40) => "channel.close",
        (20, 41) => "channel.close-ok",
        (30, 10) => "access.request",
        (30, 11) => "access.request-ok",
        (40, 10) => "exchange.declare",
        (40, 11) => "exchange.declare-ok",
        (40, 20) => "exchange.delete",
        (40, 21) => "exchange.delete-ok",
        (40, 30) => "exchange.bind",
        (40, 31) => "exchange.bind-ok",
        (40, 40) => "exchange.unbind",
        (40, 51) => "exchange.unbind-ok",
        (50, 10) => "queue.declare",
        (50, 11) => "queue.declare-ok",
        (50, 20) => "queue.bind",
        (50, 21) => "queue.bind-ok",
        (50, 30) => "queue.purge",
        (50, 31) => "queue.purge-ok",
        (50, 40) => "queue.delete",
        (50, 41) => "queue.delete-ok",
        (50, 50) => "queue.unbind",
        (50, 51) => "queue.unbind-ok",
        (60, 10) => "basic.qos",
        (60, 11) => "basic.qos-ok",
        (60, 20) => "basic.consume",
        (60, 21) => "basic.consume-ok",
        (60, 30) => "basic.cancel",
        (60, 31) => "basic.cancel-ok",
        (60, 40) => "basic.publish",
        (60, 50) => "basic.return",
        (60, 60) => "basic.deliver",
        (60, 70) => "basic.get",
        (60, 71) => "basic.get-ok",
        (60, 72) => "basic.get-empty",
        (60, 80) => "basic.ack",
        (60, 90) => "basic.reject",
        (60, 100) => "basic.recover-async",
        (60, 110) => "basic.recover",
        (60, 111) => "basic.recover-ok",
        (60, 120) => "basic.nack",
        (85, 10) => "confirm.select",
        (85, 11) => "confirm.select-ok",
        (90, 10) => "tx.select",
        (90, 11) => "tx.select-ok",
        (90, 20) => "tx.commit",
        (90, 21) => "tx.commit-ok",
        (90, 30) => "tx.rollback",
        (90, 31) => "tx.rollback-ok",
        _ => return None,
    })
}

/// Splits class and method id off a method frame's payload.
#[inline]
fn split_ids(payload: &[u8]) -> Result<(u16, u16, &[u8]), DecodeError> {
    let Some((&[c1, c0, m1, m0], fields)) = payload.split_first_chunk::<4>() else {
        return Err(DecodeError::Truncated { what: "method frame", field: "class and method id" });
    };
    Ok((u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0]), fields))
}

#[cold]
fn refused(class_id: u16, method_id: u16) -> DecodeError {
    match method_name(class_id, method_id) {
        Some(name) => DecodeError::WrongDirection { name, class_id, method_id },
        None => DecodeError::UnknownMethod { class_id, method_id },
    }
}
