//! `warren-broker log inspect`, on what brokers have written: stopped ones, killed ones, running ones, and on what somebody
//! has damaged since.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use warren_tests::harness::{Broker, Connection, DataFolder, Settings, wait_until};

use super::cli::{Said, run};
use super::definitions::with_definitions;
use super::to_queue;

const BODY: &[u8] = b"canary-body-77";
const HASH: &str = "kI3GCqG+cq65rBQ9tiUUCREygKhmilKrZEWKSz+H0FJ1fk4/";

/// Looks at the log in the folder, and answers with what was said and its JSON.
fn look(folder: &DataFolder, arguments: &[&str]) -> Result<(Said, Value)> {
    let path = folder.path().display().to_string();
    let said = run(&[&["log", "inspect", "--data-dir", &path, "--format", "json"], arguments].concat(), &[])?;
    let json = serde_json::from_str(&said.output).with_context(|| format!("{}\n{}", said.output, said.errors))?;
    Ok((said, json))
}

/// Publishes so many messages to the durable queue `orders`, which are on disk when this returns.
fn fill(broker: &Broker, messages: u64) -> Result<Connection> {
    let mut connection = Connection::with_channel(broker.address)?;
    connection.declare_queue("orders", true, false)?;
    connection.confirm_select()?;
    for _ in 0..messages {
        connection.publish(to_queue("orders"), true, BODY)?;
    }
    connection.wait_for_confirms(messages)?;
    Ok(connection)
}

fn filled(messages: u64) -> Result<DataFolder> {
    let folder = DataFolder::new()?;
    let broker = Broker::start(&folder)?;
    fill(&broker, messages)?;
    broker.terminate()?;
    ensure!(broker.wait()?.success(), "it did not end well");
    Ok(folder)
}

fn commands(json: &Value, command: &str) -> u64 {
    let shards = json["log"]["shards"].as_array().into_iter().flatten();
    shards.filter_map(|shard| shard["commands"][command].as_u64()).sum()
}

/// The log's files with all that is in them.
fn files(folder: &DataFolder) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder.path().join("log"))? {
        let path = entry?.path();
        files.push((path.display().to_string(), fs::read(&path)?));
    }
    files.sort();
    Ok(files)
}

#[test]
fn the_log_of_a_node_that_has_stopped_is_sound_and_stays_as_it_is() -> Result<()> {
    let folder = filled(5)?;
    let before = files(&folder)?;
    let (said, json) = look(&folder, &["--entries"])?;
    ensure!(said.code == Some(0) && json["log"]["sound"] == true, "{} {}", said.output, said.errors);
    ensure!(json["apiVersion"] == "warren/v1" && json["log"]["declared"]["queues"] == 1, "{json:#}");
    ensure!(commands(&json, "publish") == 5 && commands(&json, "queue.declare") == 1, "{json:#}");
    ensure!(json["log"]["tail"]["torn_records"] == 0 && json["log"]["faults"] == serde_json::json!([]), "{json:#}");
    let records = json["records"].as_array().context("the records")?;
    let of_orders = |record: &&Value| record["commands"][0]["queues"][0]["name"] == "orders";
    let publish = records.iter().find(of_orders).context("a publish to the queue by its name")?;
    let (date, _) = publish["time"].as_str().unwrap_or_default().split_once('T').context("a time")?;
    ensure!(date.len() == 10 && date.starts_with("20"), "{publish}");
    ensure!(publish["commands"][0]["body_bytes"] == BODY.len(), "{publish}");
    ensure!(!said.output.contains("canary"), "a body is shown that nobody asked for");
    let text = run(&["log", "inspect", "--data-dir", &folder.path().display().to_string(), "--entries"], &[])?;
    ensure!(text.code == Some(0) && text.output.contains("\ndamage      none, the log is sound\n"), "{}", text.output);
    ensure!(text.output.contains("publish to queue 1 \"orders\" in \"/\", exchange \"\""), "{}", text.output);
    ensure!(!text.output.contains("canary"), "a body is shown that nobody asked for");
    ensure!(files(&folder)? == before, "it has changed something");
    Ok(())
}

#[test]
fn bodies_are_shown_as_far_as_they_are_asked_for() -> Result<()> {
    let folder = filled(1)?;
    for (argument, expected) in [("--bodies=6", "canary"), ("--bodies", "canary-body-77"), ("--bodies=0", "")] {
        let (_, json) = look(&folder, &["--entries", "--queue", "orders", argument])?;
        let records = json["records"].as_array().into_iter().flatten();
        let bodies: Vec<_> = records.filter_map(|record| record["commands"][0]["body"]["content"].as_str()).collect();
        ensure!(bodies == [expected], "{argument}: {bodies:?}");
    }
    Ok(())
}

#[test]
fn what_is_declared_is_named_and_hashes_of_passwords_are_not_shown() -> Result<()> {
    let folder = DataFolder::new()?;
    let definitions = format!(r#"{{"users": [{{"name": "carol", "tags": [], "password_hash": "{HASH}"}}]}}"#);
    let broker = with_definitions(&folder, &definitions)?;
    broker.terminate()?;
    broker.wait()?;
    let (said, json) = look(&folder, &["--shard", "0", "--entries", "--bodies"])?;
    let (user, guest) = ("\"command\":\"user.put\",\"object\":\"carol\"", "kI3GCqG");
    ensure!(said.output.contains(user) && json["log"]["declared"]["users"] == 2, "{}", said.output);
    ensure!(!said.output.contains(guest) && !said.output.contains("d3JlbiXBLXcZr"), "{}", said.output);
    ensure!(json["log"]["shards"].as_array().is_some_and(|shards| shards.len() == 1), "{json:#}");
    Ok(())
}

#[test]
fn the_log_of_a_node_that_runs_can_be_looked_at_and_the_node_goes_on() -> Result<()> {
    let folder = DataFolder::new()?;
    let settings =
        Settings { config: "[log]\nsegment_bytes = 65536\ncheckpoint_bytes = 65536\n", ..Settings::default() };
    let broker = Broker::start_with(&folder, settings)?;
    let mut connection = fill(&broker, 1)?;
    let sender = connection.sender()?;
    let publisher = std::thread::spawn(move || -> Result<()> {
        let mut sender = sender;
        for _ in 0..4_000 {
            sender.publish(to_queue("orders"), true, &[7; 500])?;
        }
        Ok(())
    });
    for _ in 0..5 {
        let (said, json) = look(&folder, &["--entries"])?;
        ensure!(said.code == Some(0) && json["log"]["sound"] == true, "{:#} {}", json["log"], said.errors);
    }
    publisher.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    connection.wait_for_confirms_after(1, 4_001)?;
    broker.kill()?;
    let (said, json) = look(&folder, &["--queue", "orders"])?;
    ensure!(said.code == Some(0), "{}", said.errors);
    let number = json["log"]["checkpoint"]["number"].as_u64().unwrap_or_default();
    ensure!(number > 0, "the queue's name is in a checkpoint: {json:#}");
    ensure!(commands(&json, "publish") > 0, "and is found there: {json:#}");
    Broker::start_with(&folder, settings)?;
    Ok(())
}

#[test]
fn what_a_killed_node_had_only_begun_to_write_is_no_damage() -> Result<()> {
    let folder = DataFolder::new()?;
    let settings = Settings { config: "[log]\nsegment_bytes = 1048576\n", ..Settings::default() };
    let broker = Broker::start_with(&folder, settings)?;
    let mut connection = fill(&broker, 3)?;
    // Nothing but the log itself is to be written when the file's limit comes.
    let mut end = 0;
    wait_until(Duration::from_secs(30), || {
        let (_, json) = look(&folder, &[])?;
        let spare = json["log"]["other_files"]
            .as_array()
            .is_some_and(|files| files.iter().any(|file| file.as_str().is_some_and(|name| name.starts_with("spare-"))));
        end = json["log"]["tail"]["offset"].as_u64().context("the end")?;
        Ok(spare)
    })?;
    broker.limit_file_size(end + 8_192)?;
    // It dies of it.
    connection.publish(to_queue("orders"), true, &[7; 60_000])?;
    broker.wait()?;
    let (said, json) = look(&folder, &[])?;
    ensure!(said.code == Some(0) && commands(&json, "publish") == 3, "{json:#} {}", said.errors);
    ensure!(json["log"]["tail"]["torn_records"] == 1 && json["log"]["sound"] == true, "{:#}", json["log"]["tail"]);
    Ok(())
}

/// Flips a bit of a file.
fn flip(file: &Path, offset: u64) -> Result<()> {
    let mut octets = fs::read(file)?;
    octets[usize::try_from(offset)?] ^= 1;
    Ok(fs::write(file, octets)?)
}

#[test]
fn a_flipped_bit_is_found_where_it_is_and_where_the_node_finds_it() -> Result<()> {
    let folder = filled(5)?;
    let (_, json) = look(&folder, &["--entries", "--queue", "orders"])?;
    let records = json["records"].as_array().context("the records")?;
    let publish = records.iter().find(|record| record["commands"][0]["command"] == "publish").context("a publish")?;
    let (file, offset) = (publish["file"].as_str().context("a file")?, publish["offset"].as_u64().context("a place")?);
    let before = records.len();
    flip(&folder.path().join("log").join(file), offset + 40 + 50)?;
    let (said, json) = look(&folder, &["--entries", "--queue", "orders"])?;
    ensure!(said.code == Some(1), "{:?} {}", said.code, said.output);
    let fault = &json["log"]["faults"][0];
    ensure!(fault["file"] == file && fault["offset"] == offset, "{fault}");
    ensure!(json["log"]["sound"] == false && json["log"]["fault_count"].as_u64() >= Some(1), "{:#}", json["log"]);
    ensure!(json["records"].as_array().is_some_and(|records| records.len() == before - 1), "the others are shown");
    ensure!(
        said.errors.starts_with("error: the log is not sound: ") && said.errors.contains("\nhint: "),
        "{}",
        said.errors
    );
    let refused = Broker::start(&folder).err().context("a node starts with it")?;
    let place = format!("{file} at byte {offset}:");
    ensure!(format!("{refused:#}").contains(&place), "the node says something else: {refused:#}");
    Ok(())
}

#[test]
fn a_damaged_checkpoint_is_found() -> Result<()> {
    let folder = DataFolder::new()?;
    let settings =
        Settings { config: "[log]\nsegment_bytes = 65536\ncheckpoint_bytes = 4096\n", ..Settings::default() };
    let broker = Broker::start_with(&folder, settings)?;
    let _connection = fill(&broker, 200)?;
    let checkpoint = folder.path().join("log/checkpoint");
    wait_until(Duration::from_secs(30), || Ok(checkpoint.exists()))?;
    broker.kill()?;
    ensure!(look(&folder, &[])?.0.code == Some(0), "it is sound so far");
    let len = fs::metadata(&checkpoint)?.len();
    flip(&checkpoint, len / 2)?;
    let (said, json) = look(&folder, &[])?;
    ensure!(said.code == Some(1) && json["log"]["faults"][0]["file"] == "checkpoint", "{json:#}");
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_with_its_own_exit_code() -> Result<()> {
    let folder = DataFolder::new()?;
    let path = folder.path().display().to_string();
    for (arguments, code, words) in [
        (&["--bodies=5"][..], 2, "--entries"),
        (&["--entries", "--bodies=1048577"], 2, "1048577 is not in 0..=1048576"),
        (&["--queue", "q", "--queue-id", "1"], 2, "cannot be used with"),
        (&["--vhost", "v"], 2, "--queue"),
        (&["--from", "2", "--to", "1"], 2, "give the lower index first"),
        (&[], 3, "give the folder that the node has as --data-dir"),
    ] {
        let said = run(&[&["log", "inspect", "--data-dir", &path], arguments].concat(), &[])?;
        ensure!(
            said.code == Some(code) && said.errors.contains(words),
            "{arguments:?}: {:?} {}",
            said.code,
            said.errors
        );
    }
    fs::create_dir(folder.path().join("log"))?;
    let (said, json) = look(&folder, &["--entries", "--bodies=1048576"])?;
    ensure!(said.code == Some(0) && json["records"] == serde_json::json!([]), "an empty log is sound: {}", said.errors);
    let said = run(&["log", "inspect", "--data-dir", &path, "--queue", "nonesuch"], &[])?;
    ensure!(said.code == Some(3) && said.errors.contains("no queue 'nonesuch' in virtual host '/'"), "{}", said.errors);
    ensure!(said.errors.contains("\nhint: check the name"), "{}", said.errors);
    let said = run(&["log", "inspect"], &[("WARREN_DATA_DIR", &path)])?;
    ensure!(said.code == Some(0) && said.output.contains(&path), "the settings name the folder: {}", said.errors);
    Ok(())
}
