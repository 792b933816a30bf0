//! A few requests to the management API, for what a suite finds when it begins.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use serde_json::Value;

use super::recorder::MANAGEMENT;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// `guest:guest`, as basic authentication has it.
const GUEST: &str = "Z3Vlc3Q6Z3Vlc3Q=";

/// What is at `path`, past the recorder.
///
/// # Errors
/// The broker refuses it, or answers with what is no JSON.
pub fn get(path: &str) -> Result<Value> {
    let answer = ask("GET", path, "")?;
    ensure!(status(&answer) == "200", "{path} was not got: {answer}");
    let (_, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    serde_json::from_str(body).with_context(|| format!("{path} is no JSON: {body}"))
}

/// Puts `body` at `path`, past the recorder: it is not a tool that does.
///
/// # Errors
/// The broker refuses it; the error has its answer.
pub fn put(path: &str, body: &str) -> Result<()> {
    let answer = ask("PUT", path, body)?;
    ensure!(status(&answer).starts_with("20"), "{path} was not put: {answer}");
    Ok(())
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// The whole answer. HTTP/1.0 has no chunks.
fn ask(method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(MANAGEMENT).context("reach the management API")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Basic {GUEST}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
