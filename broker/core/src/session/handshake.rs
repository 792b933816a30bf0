//! From the protocol header to `connection.open-ok` (AMQP 0-9-1 §2.2.4).

use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use warren_amqp::frame::{PROTOCOL_HEADER, decode_protocol_header};
use warren_amqp::{ReplyCode, Table, TableBuilder, ToClient, ToServer, Value, connection, limits};

use super::credentials::LoggedIn;
use super::sasl::{mechanisms, read_response};
use super::{Capabilities, Notice, Origin, Session, SessionOutput, State, Waiting, World};
use crate::error::Exception;
use crate::limits::{CHANNEL_MAX, FRAME_MAX, FRAME_MIN, HEARTBEAT_SECS};
use crate::time::Instant;

/// What the client has to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    Header,
    StartOk,
    TuneOk,
    Open,
}

/// The version of RabbitMQ whose behaviour over AMQP 0-9-1 we follow. Clients read it to choose what they may do.
const COMPATIBLE_VERSION: &str = "4.3.0";

impl Session {
    /// Reads the eight octets that a client sends first; answers how many it took.
    pub(super) fn protocol_header(&mut self, octets: &[u8], out: &mut SessionOutput) -> usize {
        match decode_protocol_header(octets) {
            Ok(None) => 0,
            Ok(Some(len)) => {
                let properties = server_properties();
                let start = connection::Start {
                    version_major: 0,
                    version_minor: 9,
                    server_properties: Table::new(&properties),
                    mechanisms: mechanisms(self.certified_user.is_some()),
                    locales: b"en_US",
                };
                out.send(0, &ToClient::ConnectionStart(start));
                self.state = State::Opening(Handshake::StartOk);
                len
            }
            Err(_) => {
                // Spec 2.2.4: a server that cannot speak the client's version says its own and closes.
                out.octets.extend_from_slice(&PROTOCOL_HEADER);
                self.hang_up(foreign_protocol(octets), out);
                0
            }
        }
    }

    pub(super) fn handshake_method(
        &mut self,
        world: &mut World<'_>,
        origin: Origin,
        method: ToServer<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let State::Opening(expected) = self.state else {
            return Ok(());
        };
        match (expected, method) {
            (Handshake::Open, _) if origin.channel != 0 => Err(Exception::connection(
                ReplyCode::UnexpectedFrame,
                format!("channel {} used before connection.open", origin.channel),
            )),
            (_, method) if origin.channel != 0 => {
                self.hang_up(&format!("the client sent {} on a channel before it had logged in", method.name()), out);
                Ok(())
            }
            (Handshake::StartOk, ToServer::ConnectionStartOk(start_ok)) => self.start_ok(&start_ok, out),
            (Handshake::TuneOk, ToServer::ConnectionTuneOk(tune_ok)) => {
                self.tune_ok(&tune_ok, out);
                Ok(())
            }
            (Handshake::Open, ToServer::ConnectionOpen(open)) => self.open(world, &open, out),
            (_, ToServer::ConnectionClose(_)) => {
                self.say_goodbye(out);
                Ok(())
            }
            (Handshake::Open, _) => {
                Err(Exception::connection(ReplyCode::ChannelError, "unexpected method in connection state opening"))
            }
            (Handshake::Header | Handshake::StartOk | Handshake::TuneOk, method) => {
                self.hang_up(&format!("the client sent {} in the middle of the handshake", method.name()), out);
                Ok(())
            }
        }
    }

    /// Closes the socket without a word to the client, which RabbitMQ does with those that break the rules of the
    /// handshake.
    fn hang_up(&mut self, why: &str, out: &mut SessionOutput) {
        out.notices.push(Notice::from(why));
        self.waiting = None;
        self.state = State::Closed;
    }

    fn start_ok(&mut self, start_ok: &connection::StartOk<'_>, out: &mut SessionOutput) -> Result<(), Exception> {
        start_ok
            .client_properties
            .validate(&limits::TABLE_BEFORE_LOGIN)
            .map_err(|error| Exception::connection(error.reply_code(), format!("client-properties: {error}")))?;
        self.capabilities = read_capabilities(start_ok.client_properties);
        self.client_properties = Box::from(start_ok.client_properties.octets());
        self.mechanism = start_ok.mechanism.to_string();
        match read_response(start_ok.mechanism, start_ok.response, self.certified_user.as_ref()) {
            Some(Some(claim)) => {
                out.login = Some(claim);
                self.waiting = Some(Waiting::Login);
            }
            Some(None) => self.hang_up(&format!("the client's {} response is malformed", start_ok.mechanism), out),
            None => {
                self.hang_up(&format!("the client wants the unknown mechanism '{}'", start_ok.mechanism), out);
            }
        }
        Ok(())
    }

    /// Goes on with who it is, or refuses.
    pub(super) fn logged_in(&mut self, login: Option<LoggedIn>, out: &mut SessionOutput) {
        if !matches!(self.state, State::Opening(Handshake::StartOk)) {
            return;
        }
        let Some(LoggedIn { identity, expires }) = login else {
            return self.refuse_login(out);
        };
        (self.identity, self.expires) = (identity, expires);
        self.state = State::Opening(Handshake::TuneOk);
        let tune = connection::Tune { channel_max: CHANNEL_MAX, frame_max: FRAME_MAX, heartbeat: HEARTBEAT_SECS };
        out.send(0, &ToClient::ConnectionTune(tune));
    }

    /// Tells a client that can take it why it is refused; closes bare on others, as the spec wants.
    fn refuse_login(&mut self, out: &mut SessionOutput) {
        if self.capabilities.authentication_failure_close {
            let text = format!(
                "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                self.mechanism
            );
            self.close(Origin::none(0), ReplyCode::AccessRefused, &text, out);
        } else {
            self.state = State::Closed;
        }
    }

    /// A client may lower the limits and not raise them. RabbitMQ closes the socket on one that does, and so do we;
    /// frame-max may be as low as the spec's 4,096, where RabbitMQ wants 8,192.
    fn tune_ok(&mut self, tune_ok: &connection::TuneOk, out: &mut SessionOutput) {
        let frame_max_fits = (FRAME_MIN..=FRAME_MAX).contains(&tune_ok.frame_max);
        let channel_max_fits = (1..=CHANNEL_MAX).contains(&tune_ok.channel_max);
        if !frame_max_fits || !channel_max_fits {
            return self.hang_up("the client answered connection.tune with limits beyond those offered", out);
        }
        self.channel_max = tune_ok.channel_max;
        self.negotiated_frame_max = tune_ok.frame_max;
        self.heartbeat_millis = u64::from(tune_ok.heartbeat) * 1_000;
        self.state = State::Opening(Handshake::Open);
    }

    fn open(
        &mut self,
        world: &mut World<'_>,
        open: &connection::Open<'_>,
        out: &mut SessionOutput,
    ) -> Result<(), Exception> {
        let (identity, topology) = (&self.identity, world.topology);
        world.census.open_connection(identity.name(), open.virtual_host, &mut |others| {
            self.vhost = topology.may_open(identity, open.virtual_host, others)?.name().clone();
            Ok(())
        })?;
        self.frame_max = self.negotiated_frame_max;
        self.start_heartbeats(world.now);
        self.state = State::Running;
        out.send(0, &ToClient::ConnectionOpenOk(connection::OpenOk));
        Ok(())
    }

    fn start_heartbeats(&mut self, now: Instant) {
        self.next_heartbeat = now.after_millis(self.heartbeat_millis / 2);
        self.deadline = now.after_millis(self.heartbeat_millis.saturating_mul(3));
    }
}

/// What a client that does not speak AMQP 0-9-1 may have meant.
fn foreign_protocol(octets: &[u8]) -> &'static str {
    match octets {
        [0x16, ..] => "the client speaks TLS, which this listener does not",
        [b'G' | b'P' | b'H' | b'D' | b'O', ..] => "the client speaks HTTP, which this listener does not",
        [b'A', b'M', b'Q', b'P', ..] => "the client speaks another version of AMQP than 0-9-1",
        _ => "the client does not speak AMQP 0-9-1",
    }
}

fn read_capabilities(client_properties: Table<'_>) -> Capabilities {
    let Ok(Some(Value::Table(capabilities))) = client_properties.get("capabilities") else {
        return Capabilities::default();
    };
    let has = |name| matches!(capabilities.get(name), Ok(Some(Value::Bool(true))));
    Capabilities {
        authentication_failure_close: has("authentication_failure_close"),
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
    }
}

/// Product and version are those of the RabbitMQ that we behave like, for clients key on both; ours stand beside.
fn server_properties() -> Vec<u8> {
    const CAPABILITIES: [&str; 9] = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    TableBuilder::build(|table| {
        table.table("capabilities", |capabilities| {
            for name in CAPABILITIES {
                capabilities.put(name, true);
            }
        });
        let texts = [
            ("product", "RabbitMQ"),
            ("version", COMPATIBLE_VERSION),
            ("platform", "Warren"),
            ("warren_version", env!("CARGO_PKG_VERSION")),
            ("cluster_name", "warren"),
            ("copyright", "The Warren authors"),
            ("information", "Licensed under Apache-2.0"),
        ];
        for (name, text) in texts {
            table.put(name, Value::LongString(text.as_bytes()));
        }
    })
}
