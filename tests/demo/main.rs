//! `demo`: from nothing to messages of a stock AMQP client, on a real Kubernetes, and what to try next.
#![expect(clippy::print_stdout, reason = "what is printed is what the demo is for")]

mod conversation;
mod scaling;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use conversation::{Place, Tally, converse};
use scaling::Show;
use warren_tests::client::{PortForward, access_at, python};
use warren_tests::cluster::{Cluster, DEFAULT_NAME, Options};
use warren_tests::image::pika;
use warren_tests::installation::{install, wait_until_ready};
use warren_tests::release::{BuiltImage, Release, workspace};

/// Show Warren at work: a Kubernetes cluster, the operator, a MessageQueue, and Python programs that use it.
#[derive(Parser)]
struct Arguments {
    /// Which cluster of this machine; it is brought up if it does not run.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: String,
}

/// Where the sample puts its MessageQueue, what it is called, and the names that follow.
const NAMESPACE: &str = "default";
const QUEUE: &str = "hello";
const BINDING: &str = "hello-default-user";
const SAMPLE: &str = "deploy/samples/messagequeue.yaml";
const METRICS: &str = "/api/v1/namespaces/default/pods/hello-0:15692/proxy/metrics";

/// From `kubectl apply` to Ready, with the images on the node.
const READY_LIMIT: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let Arguments { name } = Arguments::parse();
    let start = Instant::now();
    match demonstrate(&name, start) {
        Ok(Show { tally: Tally { sent, received }, peak, last }) => {
            let lost = sent - received;
            if lost > 0 {
                eprintln!("\nMessages are lost. {}", where_to_look(&name));
            }
            println!("demo: {sent} sent, {received} received, {lost} lost; consumers 0 -> {peak} -> {last}");
            if lost == 0 && sent > 0 && peak > 0 && last == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("\nThe demo failed after {:.0} s: {error:#}", start.elapsed().as_secs_f64());
            eprintln!("{}", where_to_look(&name));
            ExitCode::FAILURE
        }
    }
}

fn where_to_look(name: &str) -> String {
    let command = cluster_command(name);
    format!(
        "Where to look, if the cluster is up:\n  {command} kubectl describe mq,pod\n  {command} kubectl logs {QUEUE}-0\n  \
         {command} kubectl -n warren logs deploy/warren\nTo start from nothing: {command} down"
    )
}

fn cluster_command(name: &str) -> String {
    format!("cargo run -p warren-tests --bin cluster -- --name {name}")
}

fn demonstrate(name: &str, start: Instant) -> Result<Show> {
    let cluster = step("Bring up Kubernetes", || {
        let cluster = Cluster::up(&Options { name: name.to_owned(), ..Options::default() })?;
        let nodes = cluster.kubectl(&["get", "nodes", "--no-headers"])?;
        Ok((format!("cluster {name}\n{nodes}"), cluster))
    })?;
    let release = step("Build the images of broker and operator", || {
        let release = Release::build()?;
        let said = [&release.broker, &release.operator].map(describe).join("\n");
        Ok((said, release))
    })?;
    step("Get a Python with pika, a client made for RabbitMQ, for a pod and for this machine", || {
        cluster.load_image(&pika::archive()?)?;
        Ok((format!("{}\n{}", pika::NAME, python()?.display()), ()))
    })?;
    step("helm upgrade --install warren charts/warren", || {
        let restarted = install(&cluster, &release)?;
        let said = if restarted { "the operator runs, and brokers were started anew" } else { "the operator runs" };
        Ok((said.to_owned(), ()))
    })?;
    step(&format!("kubectl apply -f {SAMPLE}"), || Ok((apply(&cluster)?, ())))?;

    let place = Place::Pod { cluster: &cluster, namespace: NAMESPACE, binding: BINDING };
    let inside = step("Python in pods sends and receives", || summary(converse(place)?))?;
    let forward = PortForward::to(&cluster, NAMESPACE, QUEUE, 5671)?;
    let access = access_at(&cluster, NAMESPACE, BINDING, &forward.address)?;
    let outside = step("Python on this machine does the same, through kubectl port-forward", || {
        summary(converse(Place::Outside { access: &access })?)
    })?;
    let show = scaling::show(&cluster, NAMESPACE, QUEUE, BINDING, &access)?;
    step(&format!("kubectl get --raw {METRICS}"), || Ok((metrics(&cluster)?, ())))?;
    farewell(&cluster, start.elapsed());
    Ok(Show { tally: [inside, outside, show.tally].into_iter().sum(), ..show })
}

/// Says what is done, does it, and says what came of it and how long it took.
fn step<T>(title: &str, deed: impl FnOnce() -> Result<(String, T)>) -> Result<T> {
    println!("\n{title}");
    let start = Instant::now();
    let (said, value) = deed().with_context(|| title.to_owned())?;
    for line in said.lines() {
        println!("    {line}");
    }
    println!("    {:.1} s", start.elapsed().as_secs_f64());
    Ok(value)
}

fn describe(image: &BuiltImage) -> String {
    format!("{} ({:.1} MB)", image.name, image.size as f64 / 1e6)
}

/// Applies the sample and waits until it is Ready.
fn apply(cluster: &Cluster) -> Result<String> {
    let sample = workspace().join(SAMPLE).display().to_string();
    let start = Instant::now();
    let said = cluster.kubectl(&["apply", "-f", &sample])?;
    wait_until_ready(cluster, NAMESPACE, &format!("mq/{QUEUE}"))?;
    let elapsed = start.elapsed();
    ensure!(elapsed < READY_LIMIT, "Ready took {:.1} s, more than {} s", elapsed.as_secs_f64(), READY_LIMIT.as_secs());
    let table = cluster.kubectl(&["get", "mq"])?;
    Ok(format!("{said}Ready {:.1} s after apply; kubectl get mq:\n{table}", elapsed.as_secs_f64()))
}

fn summary(tally: Tally) -> Result<(String, Tally)> {
    let Tally { sent, received } = tally;
    let said = format!(
        "{sent} messages sent to the queue `hello`, each on a connection of its own\n\
         {sent} given to a consumer that never acknowledges, and given again, marked as redelivered, when it was started again\n\
         {received} taken by a consumer that does"
    );
    Ok((said, tally))
}

/// A few of the broker's metrics as they are now.
fn metrics(cluster: &Cluster) -> Result<String> {
    const SHOWN: [&str; 5] = [
        "rabbitmq_connections_opened_total",
        "rabbitmq_global_messages_received_total",
        "rabbitmq_global_messages_delivered_total",
        "rabbitmq_global_messages_redelivered_total",
        "rabbitmq_queue_messages",
    ];
    let text = cluster.kubectl(&["get", "--raw", METRICS])?;
    let of_name = |name: &&str| {
        let value = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        text.lines().find(value).map(str::to_owned).with_context(|| format!("the broker has no metric {name}"))
    };
    Ok(SHOWN.iter().map(of_name).collect::<Result<Vec<_>>>()?.join("\n"))
}

fn farewell(cluster: &Cluster, elapsed: Duration) {
    let (kubeconfig, bin) = (cluster.kubeconfig().display(), cluster.bin().display());
    let clean = match cluster.name() {
        DEFAULT_NAME => "make clean-cluster".to_owned(),
        name => format!("{} down", cluster_command(name)),
    };
    println!(
        "
What happened: you have a Kubernetes with the Warren operator. One MessageQueue, {QUEUE}, became a broker with a volume, a
Service and a user with a password; programs written for RabbitMQ used it unchanged, and a Deployment of them had as many pods as
there was work for. All of it took {:.0} s.

Try next, after these two lines:
  export KUBECONFIG={kubeconfig}
  export PATH={bin}:$PATH

  kubectl get mq                                   what there is
  kubectl describe mq {QUEUE}                        its conditions and Events
  kubectl get mq {QUEUE} -o jsonpath='{{.status.consumers}}'    how many consumers there are, should be, and why
  kubectl get deployment workers --watch           their number, while you send something to the queue `workers`
  kubectl explain mq.spec                          everything that can be asked for
  kubectl get secret {BINDING} -o jsonpath='{{.data.uri}}' | base64 -d    how programs connect
  kubectl port-forward service/{QUEUE} 5671          the broker at localhost:5671
  kubectl get --raw {METRICS}    all metrics
  kubectl delete pod {QUEUE}-0                       a new broker comes, with all durable queues
  kubectl patch mq {QUEUE} --type=merge -p '{{\"spec\":{{\"replicas\":0}}}}'    stop the broker and keep its volume

Clean up: kubectl delete mq {QUEUE}, or for everything: {clean}
",
        elapsed.as_secs_f64()
    );
}
