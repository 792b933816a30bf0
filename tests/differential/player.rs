//! Plays a script against a broker, and writes down what can be seen of its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use warren_amqp::content::{encode_body_frames, encode_header};
use warren_amqp::{Table, ToClient, ToServer, basic, channel, confirm, connection, exchange, queue, tx};
use warren_tests::harness::{Connection, Event, Message};

use crate::script::{Arguments, CONNECTIONS, Deed, How, Place, QUEUES, Step, Which};
use crate::text;
use crate::values::{self, Names};

/// How long nothing may change before what queues do among themselves (dead letters) counts as finished.
const QUIET: Duration = Duration::from_millis(30);
const FRAME_MAX: u32 = 131_072;

/// What a client remembers of a channel.
#[derive(Debug, Default)]
struct Seat {
    /// Deliveries that it has to settle, oldest first.
    held: Vec<u64>,
    /// Consumers that need no settlement.
    no_ack: BTreeSet<String>,
    /// How many publishes have been confirmed, once it has asked for confirms.
    confirmed: Option<u64>,
}

/// One connection and its open channels.
struct Link {
    connection: Connection,
    seats: BTreeMap<u16, Seat>,
}

/// A run of a script.
pub(crate) struct Player {
    address: SocketAddr,
    names: Names,
    links: [Option<Link>; CONNECTIONS],
    observer: Connection,
    /// Queues move messages among themselves, which takes its time.
    forwards: bool,
    seen: BTreeMap<Place, Vec<String>>,
    published: u64,
}

impl Player {
    /// A run whose names begin with `prefix`.
    ///
    /// # Errors
    /// The broker does not take connections.
    pub(crate) fn new(address: SocketAddr, prefix: &str, script: &[Step]) -> Result<Self> {
        Ok(Self {
            address,
            names: Names::new(prefix),
            links: [const { None }; CONNECTIONS],
            observer: Connection::with_channel(address)?,
            forwards: script.iter().any(|step| declares_dead_letters(&step.deed)),
            seen: BTreeMap::new(),
            published: 0,
        })
    }

    /// Does one step, waits until nothing more comes of it, and answers what was seen, line by line.
    ///
    /// # Errors
    /// The broker does not answer.
    pub(crate) fn perform(&mut self, step: &Step) -> Result<Vec<String>> {
        self.sit_down(step.place)?;
        self.act(step.place, &step.deed)?;
        let queues = self.settle_down()?;
        let said = std::mem::take(&mut self.seen).into_iter().flat_map(|(Place { connection, channel }, mut said)| {
            // Whether a consumer hears of its queue's end before the one who ended it is chance.
            said.sort_by_key(|said| said.starts_with("BasicCancel("));
            confirms_behind_deliveries(&mut said);
            said.into_iter().map(move |said| format!("{connection}.{channel} {said}"))
        });
        Ok(said.chain(queues).map(|line| self.names.strip(&line)).collect())
    }

    /// Opens connection and channel if they are not.
    fn sit_down(&mut self, place: Place) -> Result<()> {
        let link = &mut self.links[place.connection];
        let link = match link {
            Some(link) => link,
            None => link.insert(Link { connection: Connection::open(self.address)?, seats: BTreeMap::new() }),
        };
        if link.seats.contains_key(&place.channel) {
            return Ok(());
        }
        link.seats.insert(place.channel, Seat::default());
        self.call_quietly(place, &ToServer::ChannelOpen(channel::Open))
    }

    fn act(&mut self, place: Place, deed: &Deed) -> Result<()> {
        match deed {
            Deed::CloseChannel => {
                let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
                self.call(place, &ToServer::ChannelClose(close))?;
                self.leave(place);
                Ok(())
            }
            Deed::CloseConnection => {
                let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
                self.call(Place { channel: 0, ..place }, &ToServer::ConnectionClose(close))?;
                self.links[place.connection] = None;
                Ok(())
            }
            Deed::DeclareQueue { .. } | Deed::DeleteQueue { .. } | Deed::Purge { .. } => self.queue_method(place, deed),
            Deed::DeclareExchange { .. } | Deed::DeleteExchange { .. } => self.exchange_method(place, deed),
            Deed::Bind { .. } | Deed::BindExchange { .. } => self.bind(place, deed),
            Deed::Publish { .. } => self.publish(place, deed),
            Deed::ConfirmSelect => {
                self.call(place, &ToServer::ConfirmSelect(confirm::Select { no_wait: false }))?;
                if let Some(seat) = self.seat(place) {
                    seat.confirmed.get_or_insert(0);
                }
                Ok(())
            }
            Deed::Get { queue, no_ack } => {
                let name = self.names.queue(*queue);
                if let (Some(seat), true) = (self.seat(place), *no_ack) {
                    seat.no_ack.insert(String::new());
                }
                self.call(place, &ToServer::BasicGet(basic::Get { queue: &name, no_ack: *no_ack }))?;
                if let Some(seat) = self.seat(place) {
                    seat.no_ack.remove("");
                }
                Ok(())
            }
            Deed::Settle { which, how } => self.settle(place, *which, *how),
            Deed::Consume { .. } | Deed::Cancel { .. } | Deed::Qos { .. } | Deed::Recover { .. } => {
                self.consumer_method(place, deed)
            }
            Deed::TxSelect => self.call(place, &ToServer::TxSelect(tx::Select)),
            Deed::TxCommit => self.call(place, &ToServer::TxCommit(tx::Commit)),
            Deed::TxRollback => self.call(place, &ToServer::TxRollback(tx::Rollback)),
        }
    }

    fn queue_method(&mut self, place: Place, deed: &Deed) -> Result<()> {
        match *deed {
            Deed::DeclareQueue { queue, passive, durable, exclusive, auto_delete, arguments } => {
                let (name, table) = (self.names.queue(queue), values::queue_arguments(&self.names, arguments));
                let arguments = Table::new(&table);
                let declare = queue::Declare {
                    queue: &name,
                    passive,
                    durable,
                    exclusive,
                    auto_delete,
                    no_wait: false,
                    arguments,
                };
                self.call(place, &ToServer::QueueDeclare(declare))
            }
            Deed::DeleteQueue { queue, if_unused, if_empty } => {
                let name = self.names.queue(queue);
                let delete = queue::Delete { queue: &name, if_unused, if_empty, no_wait: false };
                self.call(place, &ToServer::QueueDelete(delete))
            }
            Deed::Purge { queue } => {
                let name = self.names.queue(queue);
                self.call(place, &ToServer::QueuePurge(queue::Purge { queue: &name, no_wait: false }))
            }
            _ => Ok(()),
        }
    }

    fn exchange_method(&mut self, place: Place, deed: &Deed) -> Result<()> {
        match *deed {
            Deed::DeclareExchange { exchange, kind, passive, auto_delete, internal, alternate } => {
                let (name, table) = (self.names.exchange(exchange), values::exchange_arguments(&self.names, alternate));
                let arguments = Table::new(&table);
                let declare = exchange::Declare {
                    exchange: &name,
                    kind,
                    passive,
                    durable: false,
                    auto_delete,
                    internal,
                    no_wait: false,
                    arguments,
                };
                self.call(place, &ToServer::ExchangeDeclare(declare))
            }
            Deed::DeleteExchange { exchange, if_unused } => {
                let name = self.names.exchange(exchange);
                let delete = exchange::Delete { exchange: &name, if_unused, no_wait: false };
                self.call(place, &ToServer::ExchangeDelete(delete))
            }
            _ => Ok(()),
        }
    }

    fn bind(&mut self, place: Place, deed: &Deed) -> Result<()> {
        match *deed {
            Deed::Bind { queue, exchange, key, headers, unbind } => {
                let (queue, exchange) = (self.names.queue(queue), self.names.exchange(exchange));
                let table = values::binding_arguments(headers);
                let (queue, exchange, arguments) = (queue.as_str(), exchange.as_str(), Table::new(&table));
                let method = if unbind {
                    ToServer::QueueUnbind(queue::Unbind { queue, exchange, routing_key: key, arguments })
                } else {
                    ToServer::QueueBind(queue::Bind { queue, exchange, routing_key: key, no_wait: false, arguments })
                };
                self.call(place, &method)
            }
            Deed::BindExchange { destination, source, key, unbind } => {
                let (destination, source) = (self.names.exchange(destination), self.names.exchange(source));
                let (destination, source, arguments) = (destination.as_str(), source.as_str(), Table::new(&[]));
                let (routing_key, no_wait) = (key, false);
                let method = if unbind {
                    let unbind = exchange::Unbind { destination, source, routing_key, no_wait, arguments };
                    ToServer::ExchangeUnbind(unbind)
                } else {
                    ToServer::ExchangeBind(exchange::Bind { destination, source, routing_key, no_wait, arguments })
                };
                self.call(place, &method)
            }
            _ => Ok(()),
        }
    }

    fn consumer_method(&mut self, place: Place, deed: &Deed) -> Result<()> {
        match *deed {
            Deed::Consume { queue, tag, no_ack, exclusive, priority } => {
                let (queue, tag, table) =
                    (self.names.queue(queue), format!("t{tag}"), values::consumer_arguments(priority));
                if let (Some(seat), true) = (self.seat(place), no_ack) {
                    seat.no_ack.insert(tag.clone());
                }
                let (queue, consumer_tag, arguments) = (queue.as_str(), tag.as_str(), Table::new(&table));
                let (no_local, no_wait) = (false, false);
                let consume = basic::Consume { queue, consumer_tag, no_local, no_ack, exclusive, no_wait, arguments };
                self.call(place, &ToServer::BasicConsume(consume))
            }
            Deed::Cancel { tag } => {
                let tag = format!("t{tag}");
                self.call(place, &ToServer::BasicCancel(basic::Cancel { consumer_tag: &tag, no_wait: false }))?;
                if let Some(seat) = self.seat(place) {
                    seat.no_ack.remove(&tag);
                }
                Ok(())
            }
            Deed::Qos { count } => {
                let qos = basic::Qos { prefetch_size: 0, prefetch_count: count, global: false };
                self.call(place, &ToServer::BasicQos(qos))
            }
            Deed::Recover { requeue } => {
                if let (Some(seat), true) = (self.seat(place), requeue) {
                    seat.held.clear();
                }
                self.call(place, &ToServer::BasicRecover(basic::Recover { requeue }))
            }
            _ => Ok(()),
        }
    }

    fn publish(&mut self, place: Place, deed: &Deed) -> Result<()> {
        let Deed::Publish { exchange, queue, key, mandatory, properties } = *deed else { return Ok(()) };
        let to = exchange.map(|exchange| self.names.exchange(exchange)).unwrap_or_default();
        let key = if exchange.is_some() { key.to_owned() } else { self.names.queue(queue) };
        let publish = basic::Publish { exchange: &to, routing_key: &key, mandatory, immediate: false };
        self.published += 1;
        let body = format!("message {}", self.published);
        let mut octets = Vec::new();
        ToServer::BasicPublish(publish).encode(place.channel, &mut octets);
        values::with_properties(&self.names, properties, |properties| {
            encode_header(place.channel, body.len() as u64, properties, &mut octets);
        });
        encode_body_frames(place.channel, body.as_bytes(), FRAME_MAX, &mut octets);
        let Some(link) = &mut self.links[place.connection] else { return Ok(()) };
        link.connection.send_octets(&octets)?;
        let Some(due) = self.seat(place).and_then(|seat| seat.confirmed).map(|confirmed| confirmed + 1) else {
            return Ok(());
        };
        while self.seat(place).is_some_and(|seat| seat.confirmed.is_some_and(|confirmed| confirmed < due)) {
            self.take_in(place.connection)?;
        }
        Ok(())
    }

    fn settle(&mut self, place: Place, which: Which, how: How) -> Result<()> {
        let Some(seat) = self.seat(place) else { return Ok(()) };
        let multiple = matches!(how, How::Ack { multiple: true } | How::Nack { multiple: true, .. });
        let delivery_tag = match which {
            Which::Unknown => 4_711,
            Which::Zero => 0,
            Which::Held(_) if seat.held.is_empty() => return Ok(()),
            Which::Held(number) => seat.held[number % seat.held.len()],
        };
        seat.held.retain(|tag| {
            let settled = *tag == delivery_tag || multiple && (*tag < delivery_tag || delivery_tag == 0);
            !settled
        });
        let method = match how {
            How::Ack { multiple } => ToServer::BasicAck(basic::Ack { delivery_tag, multiple }),
            How::Nack { multiple, requeue } => ToServer::BasicNack(basic::Nack { delivery_tag, multiple, requeue }),
            How::Reject { requeue } => ToServer::BasicReject(basic::Reject { delivery_tag, requeue }),
        };
        let Some(link) = &mut self.links[place.connection] else { return Ok(()) };
        link.connection.send(place.channel, method).context("settle")
    }

    /// Waits until every channel and queue has done what came before, and answers how the queues are then.
    fn settle_down(&mut self) -> Result<Vec<String>> {
        let (mut last, mut since) = (Vec::new(), Instant::now());
        loop {
            self.pass_all()?;
            let queues = self.observe()?;
            self.pass_all()?;
            if queues != last {
                (last, since) = (queues, Instant::now());
            } else if !self.forwards || since.elapsed() >= QUIET {
                return Ok(last);
            }
        }
    }

    /// A question on each channel, whose answer comes behind all that the broker had to say there.
    fn pass_all(&mut self) -> Result<()> {
        let places: Vec<Place> = self.places().collect();
        for place in places {
            let declare = exchange::Declare {
                exchange: "amq.direct",
                kind: "direct",
                passive: true,
                durable: true,
                auto_delete: false,
                internal: false,
                no_wait: false,
                arguments: Table::new(&[]),
            };
            // An answer to something earlier may have closed it meanwhile.
            if self.seat(place).is_some() {
                self.call_quietly(place, &ToServer::ExchangeDeclare(declare))?;
            }
        }
        Ok(())
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        self.links.iter().enumerate().filter_map(|(number, link)| Some((number, link.as_ref()?))).flat_map(
            |(connection, link)| link.seats.keys().map(move |channel| Place { connection, channel: *channel }),
        )
    }

    /// What somebody else sees of the queues.
    fn observe(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for queue in 0..QUEUES {
            let name = self.names.queue(queue);
            let declare = queue::Declare {
                queue: &name,
                passive: true,
                durable: false,
                exclusive: false,
                auto_delete: false,
                no_wait: false,
                arguments: Table::new(&[]),
            };
            let answer = self.observer.call(1, ToServer::QueueDeclare(declare))?;
            lines.push(match ToClient::decode(&answer)? {
                ToClient::QueueDeclareOk(ok) => {
                    format!("queue {queue}: {} ready, {} consumers", ok.message_count, ok.consumer_count)
                }
                ToClient::ChannelClose(close) => {
                    let line = format!("queue {queue}: {}", close.reply_code);
                    self.observer.send(1, ToServer::ChannelCloseOk(channel::CloseOk))?;
                    self.observer.open_channel(1)?;
                    line
                }
                other => format!("queue {queue}: {other:?}"),
            });
        }
        Ok(lines)
    }

    /// Calls a method and writes down everything up to its answer.
    fn call(&mut self, place: Place, method: &ToServer<'_>) -> Result<()> {
        if let Some(answer) = self.answer(place, method)? {
            self.note(place, answer);
        }
        Ok(())
    }

    /// [`Self::call`], with nothing said about its answer.
    fn call_quietly(&mut self, place: Place, method: &ToServer<'_>) -> Result<()> {
        self.answer(place, method).map(drop)
    }

    /// The answer as text; `None` if the channel was closed instead, which is noted.
    fn answer(&mut self, place: Place, method: &ToServer<'_>) -> Result<Option<String>> {
        let Some(link) = &mut self.links[place.connection] else { return Ok(None) };
        let mut octets = Vec::new();
        method.encode(place.channel, &mut octets);
        link.connection.send_octets(&octets)?;
        loop {
            if place.channel != 0 && self.seat(place).is_none() {
                return Ok(None);
            }
            if let Some((channel, answer)) = self.take_in(place.connection)?
                && channel == place.channel
            {
                return Ok(Some(answer));
            }
        }
    }

    /// Takes in one thing that comes on a connection. What answers a method is handed out, the rest is noted.
    fn take_in(&mut self, number: usize) -> Result<Option<(u16, String)>> {
        let Some(link) = &mut self.links[number] else { return Ok(Some((0, String::from("the connection is gone")))) };
        match link.connection.receive()? {
            Event::Message(message) => Ok(self.message(number, &message)?),
            Event::End => {
                self.links[number] = None;
                self.note(Place { connection: number, channel: 0 }, String::from("end of the connection"));
                Ok(None)
            }
            Event::Method { channel, payload } => {
                let place = Place { connection: number, channel };
                match ToClient::decode(&payload)? {
                    ToClient::ChannelClose(close) => {
                        self.note(place, text::channel_close(&close));
                        link_of(&mut self.links, number)?
                            .connection
                            .send(channel, ToServer::ChannelCloseOk(channel::CloseOk))?;
                        self.leave(place);
                    }
                    ToClient::ConnectionClose(close) => {
                        self.note(place, text::connection_close(&close));
                        self.links[number] = None;
                        return Ok(Some((channel, String::from("connection closed"))));
                    }
                    ToClient::BasicAck(ack) => self.confirmed(place, "ack", ack.delivery_tag, ack.multiple),
                    ToClient::BasicNack(nack) => self.confirmed(place, "nack", nack.delivery_tag, nack.multiple),
                    method @ ToClient::BasicCancel(_) => self.note(place, format!("{method:?}")),
                    method => return Ok(Some((channel, format!("{method:?}")))),
                }
                Ok(None)
            }
        }
    }

    fn message(&mut self, number: usize, message: &Message) -> Result<Option<(u16, String)>> {
        let place = Place { connection: number, channel: message.channel };
        let said = text::message(message)?;
        let method = ToClient::decode(&message.method)?;
        let (tag, is_answer) = match &method {
            ToClient::BasicDeliver(deliver) => (deliver.consumer_tag, false),
            ToClient::BasicGetOk(_) => ("", true),
            _ => {
                self.note(place, said);
                return Ok(None);
            }
        };
        if let Some(seat) = self.seat(place)
            && !seat.no_ack.contains(tag)
        {
            seat.held.push(message.delivery_tag);
        }
        if is_answer {
            return Ok(Some((message.channel, said)));
        }
        self.note(place, said);
        Ok(None)
    }

    /// Notes confirms one by one: how many of them a broker puts together is its own affair.
    fn confirmed(&mut self, place: Place, how: &str, tag: u64, multiple: bool) {
        let first = match self.seat(place).and_then(|seat| seat.confirmed) {
            Some(confirmed) if multiple => confirmed + 1,
            _ => tag,
        };
        (first..=tag).for_each(|tag| self.note(place, format!("{how} {tag}")));
        if let Some(seat) = self.seat(place) {
            seat.confirmed = Some(tag);
        }
    }

    fn seat(&mut self, place: Place) -> Option<&mut Seat> {
        self.links[place.connection].as_mut()?.seats.get_mut(&place.channel)
    }

    fn leave(&mut self, place: Place) {
        if let Some(link) = &mut self.links[place.connection] {
            link.seats.remove(&place.channel);
        }
    }

    fn note(&mut self, place: Place, line: String) {
        self.seen.entry(place).or_default().push(line);
    }
}

fn link_of(links: &mut [Option<Link>], number: usize) -> Result<&mut Link> {
    links[number].as_mut().context("the connection is there")
}

/// Whether a publish is confirmed before or after what becomes of it is delivered is chance. Returns stay where they are:
/// they have to come before their confirms.
fn confirms_behind_deliveries(said: &mut [String]) {
    let is_confirm = |line: &str| line.starts_with("ack ") || line.starts_with("nack ");
    while let Some(at) = said.windows(2).position(|pair| is_confirm(&pair[0]) && pair[1].starts_with("BasicDeliver(")) {
        said.swap(at, at + 1);
    }
}

fn declares_dead_letters(deed: &Deed) -> bool {
    let Deed::DeclareQueue { arguments, .. } = deed else { return false };
    matches!(arguments, Arguments::DeadLetters | Arguments::DeadLettersOfShortQueue | Arguments::DeadLettersAtOnce)
}
