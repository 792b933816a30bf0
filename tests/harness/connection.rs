//! An AMQP client for tests: it sends what it is told, right or wrong, and hands out what comes, one thing at a time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType, connect, socket};
use warren_amqp::content::{encode_body_frames, encode_header};
use warren_amqp::frame::PROTOCOL_HEADER;
use warren_amqp::{
    BasicProperties, Frame, Header, Table, TableBuilder, ToClient, ToServer, basic, channel, confirm, connection,
    decode_frame, exchange, limits, queue,
};

/// How long an answer may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
const FRAME_MAX: u32 = 131_072;
const NO_ARGUMENTS: Table<'static> = Table::new(&[]);

/// A connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Received and not handed out yet.
    buffer: Vec<u8>,
    taken: usize,
    /// A message of which not all frames have come.
    incoming: Option<(Message, u64)>,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A method that carries no content.
    Method {
        /// On which channel.
        channel: u16,
        /// The frame's payload.
        payload: Vec<u8>,
    },
    /// A delivered, got or returned message, complete.
    Message(Message),
    /// The end: the broker has closed the socket.
    End,
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// On which channel it came.
    pub channel: u16,
    /// By which it is acknowledged; 0 for a returned message.
    pub delivery_tag: u64,
    /// As the broker flagged it.
    pub redelivered: bool,
    /// The key it was published with.
    pub routing_key: String,
    /// The payload of the method frame that announced it.
    pub method: Vec<u8>,
    /// The payload of its content header frame.
    pub header: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
}

impl Connection {
    /// A socket on which nothing has been said.
    ///
    /// # Errors
    /// The broker does not take connections.
    pub fn raw(address: SocketAddr) -> Result<Self> {
        Self::over(TcpStream::connect_timeout(&address, PATIENCE).context("connect")?)
    }

    fn over(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new(), taken: 0, incoming: None })
    }

    /// A connection of `guest` to the virtual host `/`, without heartbeats, with the limits that the broker offers.
    ///
    /// # Errors
    /// The broker does not take connections, or refuses this one.
    pub fn open(address: SocketAddr) -> Result<Self> {
        Self::raw(address)?.log_in("guest", "guest", "/")
    }

    /// As [`Self::open`], of another user, to another virtual host, with channel 1 open.
    ///
    /// # Errors
    /// The broker does not take connections, or refuses this one; the error says why.
    pub fn open_as(address: SocketAddr, user: &str, password: &str, vhost: &str) -> Result<Self> {
        let mut connection = Self::raw(address)?.log_in(user, password, vhost)?;
        connection.open_channel(1)?;
        Ok(connection)
    }

    /// Logs in on a raw connection, as [`Self::open`] does.
    ///
    /// # Errors
    /// The broker refuses it; the error says why.
    pub fn log_in(mut self, user: &str, password: &str, vhost: &str) -> Result<Self> {
        self.send_octets(&PROTOCOL_HEADER)?;
        self.expect(0, |method| matches!(method, ToClient::ConnectionStart(_)))?;
        let properties = TableBuilder::build(|table| {
            table.table("capabilities", |table| {
                table.put("authentication_failure_close", true).put("consumer_cancel_notify", true);
                table.put("connection.blocked", true);
            });
        });
        let client_properties = Table::new(&properties);
        let response = format!("\0{user}\0{password}");
        let start_ok = connection::StartOk {
            client_properties,
            mechanism: "PLAIN",
            response: response.as_bytes(),
            locale: "en_US",
        };
        self.send(0, ToServer::ConnectionStartOk(start_ok))?;
        self.expect(0, |method| matches!(method, ToClient::ConnectionTune(_)))?;
        let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: FRAME_MAX, heartbeat: 0 };
        self.send(0, ToServer::ConnectionTuneOk(tune_ok))?;
        self.send(0, ToServer::ConnectionOpen(connection::Open { virtual_host: vhost }))?;
        self.expect(0, |method| matches!(method, ToClient::ConnectionOpenOk(_)))?;
        Ok(self)
    }

    /// Closes it, and waits until the broker says that it is closed.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn close(mut self) -> Result<()> {
        let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        self.send(0, ToServer::ConnectionClose(close))?;
        self.expect(0, |method| matches!(method, ToClient::ConnectionCloseOk(_)))
    }

    /// A connection with channel 1 open.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn with_channel(address: SocketAddr) -> Result<Self> {
        let mut connection = Self::open(address)?;
        connection.open_channel(1)?;
        Ok(connection)
    }

    /// A connection with channel 1 open that takes a few kilobytes at a time, as over a slow network.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn with_small_window(address: SocketAddr) -> Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None).context("make a socket")?;
        set_socket_recv_buffer_size(&socket, 4096).context("shrink the receive buffer")?;
        connect(&socket, &address).context("connect")?;
        let mut connection = Self::over(socket.into())?.log_in("guest", "guest", "/")?;
        connection.open_channel(1)?;
        Ok(connection)
    }

    /// A second handle on the socket, to send while another thread receives. It receives nothing itself.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn sender(&self) -> Result<Self> {
        Ok(Self { stream: self.stream.try_clone()?, buffer: Vec::new(), taken: 0, incoming: None })
    }

    /// The socket, and what came on it and was not handed out, for a caller that reads and writes octets itself from now on.
    pub fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        self.buffer.drain(..self.taken);
        (self.stream, self.buffer)
    }

    /// How long a blocked send may take; then it fails with [`ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// The socket takes no such option.
    pub fn set_send_patience(&self, patience: Duration) -> Result<()> {
        self.stream.set_write_timeout(Some(patience)).context("set a timeout")
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    /// The socket is lost.
    pub fn send_octets(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(octets)
    }

    /// Sends a method.
    ///
    /// # Errors
    /// The socket is lost.
    pub fn send(&mut self, channel: u16, method: ToServer<'_>) -> std::io::Result<()> {
        let mut octets = Vec::new();
        method.encode(channel, &mut octets);
        self.send_octets(&octets)
    }

    /// The next thing that comes.
    ///
    /// # Errors
    /// Nothing comes for 30 seconds, or something that is not AMQP.
    pub fn receive(&mut self) -> Result<Event> {
        loop {
            let frame = decode_frame(&self.buffer[self.taken..], FRAME_MAX + limits::FRAME_OVERHEAD)?;
            let Some((frame, len)) = frame else {
                if !self.read()? {
                    return Ok(Event::End);
                }
                continue;
            };
            let event = event(frame, &mut self.incoming)?;
            self.taken += len;
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Reads more from the socket; false at its end.
    fn read(&mut self) -> Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let mut octets = [0; 64 << 10];
        match self.stream.read(&mut octets) {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.buffer.extend_from_slice(&octets[..len]);
                Ok(true)
            }
            // The broker has closed while something of ours was on its way.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            // A signal of this process; whoever asked asks again.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error).context("nothing comes from the broker"),
        }
    }

    /// Reads whatever comes until the broker closes the socket.
    ///
    /// # Errors
    /// It does not within 30 seconds.
    pub fn wait_for_end(&mut self) -> Result<()> {
        while self.read()? {
            self.taken = self.buffer.len();
        }
        Ok(())
    }

    /// Sends a method and hands out the method that answers it.
    ///
    /// # Errors
    /// Something else comes.
    pub fn call(&mut self, channel: u16, method: ToServer<'_>) -> Result<Vec<u8>> {
        self.send(channel, method)?;
        match self.receive()? {
            Event::Method { channel: answered, payload } if answered == channel => Ok(payload),
            other => bail!("{} was answered by {other:?}", method.name()),
        }
    }

    /// Waits for a method on `channel`; it has to be the next thing that comes.
    ///
    /// # Errors
    /// Something else comes.
    pub fn expect(&mut self, channel: u16, is_it: impl Fn(&ToClient<'_>) -> bool) -> Result<()> {
        match self.receive()? {
            Event::Method { channel: number, payload } => {
                let method = ToClient::decode(&payload)?;
                ensure!(number == channel && is_it(&method), "channel {number} said {method:?}");
                Ok(())
            }
            other => bail!("expected a method, got {other:?}"),
        }
    }

    /// Waits for `connection.close`, answers it, and waits for the end of the socket.
    ///
    /// # Errors
    /// Something else comes; the code and text of the close otherwise.
    pub fn closed_with(&mut self) -> Result<(u16, String)> {
        let Event::Method { channel: 0, payload } = self.receive()? else { bail!("expected connection.close") };
        let ToClient::ConnectionClose(close) = ToClient::decode(&payload)? else {
            bail!("expected connection.close, got {payload:?}");
        };
        self.send(0, ToServer::ConnectionCloseOk(connection::CloseOk))?;
        self.wait_for_end()?;
        Ok((close.reply_code, close.reply_text.to_owned()))
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// It is refused.
    pub fn open_channel(&mut self, number: u16) -> Result<()> {
        self.send(number, ToServer::ChannelOpen(channel::Open))?;
        self.expect(number, |method| matches!(method, ToClient::ChannelOpenOk(_)))
    }

    /// Turns on confirms on channel 1.
    ///
    /// # Errors
    /// They are refused.
    pub fn confirm_select(&mut self) -> Result<()> {
        self.send(1, ToServer::ConfirmSelect(confirm::Select { no_wait: false }))?;
        self.expect(1, |method| matches!(method, ToClient::ConfirmSelectOk(_)))
    }

    /// Declares a queue on channel 1; answers with its ready messages and consumers.
    ///
    /// # Errors
    /// It is refused.
    pub fn declare_queue(&mut self, name: &str, durable: bool, passive: bool) -> Result<(u32, u32)> {
        let declare = queue::Declare { passive, durable, ..declare_durable(name) };
        let answer = self.call(1, ToServer::QueueDeclare(declare))?;
        match ToClient::decode(&answer)? {
            ToClient::QueueDeclareOk(ok) => Ok((ok.message_count, ok.consumer_count)),
            other => bail!("queue.declare was answered by {other:?}"),
        }
    }

    /// Declares a durable queue with arguments on channel 1.
    ///
    /// # Errors
    /// It is refused.
    pub fn declare_queue_with(&mut self, queue: &str, write: impl FnOnce(&mut TableBuilder<'_>)) -> Result<()> {
        let arguments = TableBuilder::build(write);
        let declare = queue::Declare { arguments: Table::new(&arguments), ..declare_durable(queue) };
        let answer = self.call(1, ToServer::QueueDeclare(declare))?;
        match ToClient::decode(&answer)? {
            ToClient::QueueDeclareOk(_) => Ok(()),
            other => bail!("queue.declare was answered by {other:?}"),
        }
    }

    /// Declares many durable queues on channel 1, each without waiting for the one before.
    ///
    /// # Errors
    /// One of them is refused.
    pub fn declare_queues<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut octets = Vec::new();
        for queue in names {
            let declare = queue::Declare { no_wait: true, ..declare_durable(queue) };
            ToServer::QueueDeclare(declare).encode(1, &mut octets);
        }
        self.send_octets(&octets)?;
        // What closes the channel meanwhile comes instead of this answer.
        self.send(1, ToServer::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count: 0, global: false }))?;
        self.expect(1, |method| matches!(method, ToClient::BasicQosOk(_)))
    }

    /// Deletes a queue on channel 1; answers with the messages that went with it.
    ///
    /// # Errors
    /// It is refused.
    pub fn delete_queue(&mut self, queue: &str) -> Result<u32> {
        let delete = queue::Delete { queue, if_unused: false, if_empty: false, no_wait: false };
        let answer = self.call(1, ToServer::QueueDelete(delete))?;
        match ToClient::decode(&answer)? {
            ToClient::QueueDeleteOk(ok) => Ok(ok.message_count),
            other => bail!("queue.delete was answered by {other:?}"),
        }
    }

    /// Purges a queue on channel 1; answers with the messages that went.
    ///
    /// # Errors
    /// It is refused.
    pub fn purge_queue(&mut self, queue: &str) -> Result<u32> {
        let answer = self.call(1, ToServer::QueuePurge(queue::Purge { queue, no_wait: false }))?;
        match ToClient::decode(&answer)? {
            ToClient::QueuePurgeOk(ok) => Ok(ok.message_count),
            other => bail!("queue.purge was answered by {other:?}"),
        }
    }

    /// Declares a durable fanout exchange on channel 1 and binds `queues` to it.
    ///
    /// # Errors
    /// Either is refused.
    pub fn declare_fanout(&mut self, name: &str, queues: &[&str]) -> Result<()> {
        let declare = exchange::Declare {
            exchange: name,
            kind: "fanout",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments: NO_ARGUMENTS,
        };
        self.send(1, ToServer::ExchangeDeclare(declare))?;
        self.expect(1, |method| matches!(method, ToClient::ExchangeDeclareOk(_)))?;
        for queue in queues {
            let bind = queue::Bind { queue, exchange: name, routing_key: "", no_wait: false, arguments: NO_ARGUMENTS };
            self.send(1, ToServer::QueueBind(bind))?;
            self.expect(1, |method| matches!(method, ToClient::QueueBindOk(_)))?;
        }
        Ok(())
    }

    /// Publishes on channel 1.
    ///
    /// # Errors
    /// The socket is lost.
    pub fn publish(&mut self, publish: basic::Publish<'_>, persistent: bool, body: &[u8]) -> std::io::Result<()> {
        let mut octets = Vec::new();
        encode_publish(publish, persistent, body, &mut octets);
        self.send_octets(&octets)
    }

    /// Publishes many messages on channel 1 with one send.
    ///
    /// # Errors
    /// The socket is lost.
    pub fn publish_all<'a>(
        &mut self,
        messages: impl IntoIterator<Item = (basic::Publish<'a>, bool, Vec<u8>)>,
    ) -> std::io::Result<()> {
        let mut octets = Vec::new();
        for (publish, persistent, body) in messages {
            encode_publish(publish, persistent, &body, &mut octets);
        }
        self.send_octets(&octets)
    }

    /// Reads confirms of channel 1, and nothing else, until the publish number `last` is confirmed. The broker may hold
    /// the connection back meanwhile (`connection.blocked`).
    ///
    /// # Errors
    /// Something else comes; the number of the newest that was confirmed otherwise.
    pub fn wait_for_confirms(&mut self, last: u64) -> Result<u64> {
        self.wait_for_confirms_after(0, last)
    }

    /// [`Self::wait_for_confirms`] when those up to `confirmed` have come already.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for_confirms_after(&mut self, mut confirmed: u64, last: u64) -> Result<u64> {
        while confirmed < last {
            let Event::Method { payload, .. } = self.receive()? else { bail!("expected a confirm") };
            let ack = match ToClient::decode(&payload)? {
                ToClient::BasicAck(ack) => ack,
                ToClient::ConnectionBlocked(_) | ToClient::ConnectionUnblocked(_) => continue,
                other => bail!("expected a confirm, got {other:?}"),
            };
            ensure!(ack.multiple || ack.delivery_tag == confirmed + 1, "{} came after {confirmed}", ack.delivery_tag);
            confirmed = ack.delivery_tag;
        }
        Ok(confirmed)
    }

    /// Starts a consumer on channel 1.
    ///
    /// # Errors
    /// It is refused.
    pub fn consume(&mut self, queue: &str, no_ack: bool, prefetch_count: u16) -> Result<()> {
        let qos = basic::Qos { prefetch_size: 0, prefetch_count, global: false };
        self.send(1, ToServer::BasicQos(qos))?;
        self.expect(1, |method| matches!(method, ToClient::BasicQosOk(_)))?;
        let consume = basic::Consume {
            queue,
            consumer_tag: queue,
            no_local: false,
            no_ack,
            exclusive: false,
            no_wait: false,
            arguments: NO_ARGUMENTS,
        };
        self.send(1, ToServer::BasicConsume(consume))?;
        self.expect(1, |method| matches!(method, ToClient::BasicConsumeOk(_)))
    }

    /// Gets a message without acknowledgement on channel 1.
    ///
    /// # Errors
    /// It is refused.
    pub fn get(&mut self, queue: &str) -> Result<Option<Message>> {
        self.get_message(queue, true)
    }

    /// Gets a message on channel 1 that has to be acknowledged.
    ///
    /// # Errors
    /// It is refused.
    pub fn get_to_acknowledge(&mut self, queue: &str) -> Result<Option<Message>> {
        self.get_message(queue, false)
    }

    fn get_message(&mut self, queue: &str, no_ack: bool) -> Result<Option<Message>> {
        self.send(1, ToServer::BasicGet(basic::Get { queue, no_ack }))?;
        match self.receive()? {
            Event::Message(message) => Ok(Some(message)),
            Event::Method { payload, .. } if matches!(ToClient::decode(&payload)?, ToClient::BasicGetEmpty(_)) => {
                Ok(None)
            }
            other => bail!("basic.get was answered by {other:?}"),
        }
    }

    /// Gives back a message of channel 1, or with `multiple` all up to it, to be delivered again.
    ///
    /// # Errors
    /// The socket is lost.
    pub fn requeue(&mut self, delivery_tag: u64, multiple: bool) -> std::io::Result<()> {
        self.send(1, ToServer::BasicNack(basic::Nack { delivery_tag, multiple, requeue: true }))
    }

    /// Acknowledges a message of channel 1.
    ///
    /// # Errors
    /// The socket is lost.
    pub fn ack(&mut self, delivery_tag: u64, multiple: bool) -> std::io::Result<()> {
        self.send(1, ToServer::BasicAck(basic::Ack { delivery_tag, multiple }))
    }
}

fn declare_durable(queue: &str) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: NO_ARGUMENTS,
    }
}

/// Appends the frames of a publish on channel 1.
fn encode_publish(publish: basic::Publish<'_>, persistent: bool, body: &[u8], out: &mut Vec<u8>) {
    ToServer::BasicPublish(publish).encode(1, out);
    let properties = BasicProperties { delivery_mode: persistent.then_some(2), ..BasicProperties::default() };
    encode_header(1, body.len() as u64, &properties, out);
    encode_body_frames(1, body, FRAME_MAX, out);
}

/// What a frame completes, if anything.
fn event(frame: Frame<'_>, incoming: &mut Option<(Message, u64)>) -> Result<Option<Event>> {
    match frame {
        Frame::Heartbeat { .. } => return Ok(None),
        Frame::Method { channel, payload } => {
            ensure!(incoming.is_none(), "a method came where content was due");
            let Some(message) = announced(channel, payload)? else {
                return Ok(Some(Event::Method { channel, payload: payload.to_vec() }));
            };
            *incoming = Some((message, 0));
            return Ok(None);
        }
        Frame::Header { payload, .. } => {
            let (message, missing) = incoming.as_mut().context("a content header without a method")?;
            message.header = payload.to_vec();
            *missing = Header::decode(payload)?.body_size;
        }
        Frame::Body { payload, .. } => {
            let (message, missing) = incoming.as_mut().context("a content body without a method")?;
            *missing = missing.checked_sub(payload.len() as u64).context("a body is longer than announced")?;
            message.body.extend_from_slice(payload);
        }
    }
    Ok(incoming.take_if(|(_, missing)| *missing == 0).map(|(message, _)| Event::Message(message)))
}

/// The message that a method announces, if it is one that does.
fn announced(channel: u16, payload: &[u8]) -> Result<Option<Message>> {
    let (delivery_tag, redelivered, routing_key) = match ToClient::decode(payload)? {
        ToClient::BasicDeliver(method) => (method.delivery_tag, method.redelivered, method.routing_key),
        ToClient::BasicGetOk(method) => (method.delivery_tag, method.redelivered, method.routing_key),
        ToClient::BasicReturn(method) => (0, false, method.routing_key),
        _ => return Ok(None),
    };
    let (method, routing_key) = (payload.to_vec(), routing_key.to_owned());
    Ok(Some(Message { channel, delivery_tag, redelivered, routing_key, method, header: Vec::new(), body: Vec::new() }))
}
