//! What one message costs in this crate, in nanoseconds: `cargo run --release -p warren-amqp --example cost`.

#![expect(clippy::print_stdout, reason = "the figures are the program's result")]

use std::hint::black_box;
use std::time::Instant;

use warren_amqp::content::encode_header;
use warren_amqp::delivery::{Content, encode_deliver};
use warren_amqp::limits::{FRAME_MAX_DEFAULT, TABLE};
use warren_amqp::{BasicProperties, Frame, Header, Table, TableBuilder, ToServer, basic, decode_frame};

const MESSAGES: usize = 1_000;
const ROUNDS: u32 = 2_000;

/// A stream of publishes as a client sends them: 16 octets of body, delivery mode and, if asked for, four headers.
fn publishes(headers: Option<Table<'_>>) -> Vec<u8> {
    let properties = BasicProperties { delivery_mode: Some(2), headers, ..BasicProperties::default() };
    let method = basic::Publish { exchange: "", routing_key: "hello", mandatory: false, immediate: false };
    let mut stream = Vec::new();
    for _ in 0..MESSAGES {
        method.encode(1, &mut stream);
        encode_header(1, 16, &properties, &mut stream);
        Frame::Body { channel: 1, payload: &[7; 16] }.encode(&mut stream);
    }
    stream
}

/// Runs `round` often and prints the best time per message; the best is what the code costs without its neighbours.
fn measure(what: &str, mut round: impl FnMut()) {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("{what:<60} {:>7.1} ns per message", best * 1e9 / 1e3);
}

fn each_frame<'a>(mut stream: &'a [u8], mut see: impl FnMut(Frame<'a>)) {
    while let Some((frame, taken)) = decode_frame(stream, FRAME_MAX_DEFAULT).expect("a good stream") {
        see(frame);
        stream = &stream[taken..];
    }
}

fn decode(frame: Frame<'_>) {
    match frame {
        Frame::Method { payload, .. } => _ = black_box(ToServer::decode(payload)),
        Frame::Header { payload, .. } => {
            let header = Header::decode(payload).expect("a good header");
            black_box(header.properties.delivery_mode().expect("good properties"));
            black_box(header);
        }
        frame => _ = black_box(frame),
    }
}

fn main() {
    let plain = publishes(None);
    let table = TableBuilder::build(|table| {
        table.put("content", "json").put("attempt", 1).put("trace", "0af7651916cd43dd8448eb211c80319c").put("ok", true);
    });
    let with_headers = publishes(Some(Table::new(&table)));
    measure("split three frames", || each_frame(&plain, |frame| _ = black_box(frame)));
    measure("split and decode publish, header with mode, body", || each_frame(&plain, decode));
    measure("the same with four headers, not looked at", || each_frame(&with_headers, decode));
    measure("the same with four headers, validated", || {
        each_frame(&with_headers, |frame| {
            if let Frame::Header { payload, .. } = frame {
                let header = Header::decode(payload).expect("a good header");
                black_box(header.properties.inspect(&TABLE)).expect("a good table");
            }
            decode(frame);
        });
    });

    let mut out = Vec::new();
    measure("encode basic.ack", || {
        out.clear();
        for delivery_tag in 0..1_000 {
            black_box(&basic::Ack { delivery_tag, multiple: false }).encode(1, &mut out);
        }
        black_box(&out);
    });

    let header_payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16][..], &[0x10, 0, 2]].concat();
    for size in [16, 1_024] {
        let body = vec![7; size];
        measure(&format!("encode deliver, header, body of {size}"), || {
            out.clear();
            for delivery_tag in 0..1_000 {
                let method = basic::Deliver {
                    consumer_tag: "amq.ctag-0123456789abcdef012345",
                    delivery_tag,
                    redelivered: false,
                    exchange: "",
                    routing_key: "hello",
                };
                let content = Content { header_payload: &header_payload, body: &body };
                encode_deliver(1, black_box(&method), content, FRAME_MAX_DEFAULT, &mut out);
            }
            black_box(&out);
        });
    }
}
