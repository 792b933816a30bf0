//! rabbitmqadmin: RabbitMQ's own command line for the API, and the client library that it is made of. Both crates have their
//! tests; the tool's run its commands as a person would type them.

use std::time::Duration;

use anyhow::{Context, Result};
use warren_tests::trial::case::{Case, Tally};
use warren_tests::trial::rust::{self, CargoTest};
use warren_tests::trial::suite::{Exception, Installation, Quick, Run, Suite};

pub(crate) const TOOL: Suite = Suite {
    name: "rabbitmqadmin",
    version: "2.35.0",
    covers: "its commands for queues, exchanges, bindings, users, rights, policies, definitions, limits, health checks",
    rabbitmq: Tally { passed: 210, failed: 0, skipped: 10 },
    left_out: LEFT_OUT_OF_TOOL,
    limit: Duration::from_secs(900),
    quick: Quick::All,
    manages: true,
    install: install_tool,
    recipe: &[],
    run: run_tool,
};

pub(crate) const LIBRARY: Suite = Suite {
    name: "rabbitmq_http_client",
    version: "0.93.0",
    covers: "the same by its client library, blocking and not: what it must find in each answer",
    rabbitmq: Tally { passed: 190, failed: 0, skipped: 0 },
    left_out: LEFT_OUT_OF_LIBRARY,
    limit: Duration::from_secs(900),
    quick: Quick::All,
    manages: true,
    install: install_library,
    recipe: &[],
    run: run_library,
};

const TOOL_TESTS: &[&str] = &["--test", "integration"];
const LIBRARY_TESTS: &[&str] = &["--features", "blocking,async,zeroize", "--test", "integration"];

const FEDERATION: Exception =
    Exception { case: "federation", reason: "federation is a plugin of RabbitMQ, and not enabled there by default" };
const SHOVEL: Exception =
    Exception { case: "shovel", reason: "shovels are a plugin of RabbitMQ, and not enabled there by default" };

const FLAGS: Exception =
    Exception { case: "feature_flag", reason: "looks for RabbitMQ's own feature flags; there are none" };
const DEPRECATED: Exception =
    Exception { case: "deprecated_feature", reason: "looks for what RabbitMQ deprecates; there is nothing" };
const PLUGINS: Exception = Exception { case: "plugins", reason: "looks for RabbitMQ's plugins" };
const GUEST: Exception = Exception {
    case: "export_cluster_wide_definitions",
    reason: "looks for guest among the users, who is of the configuration as long as nobody changes it",
};

const LEFT_OUT_OF_TOOL: &[Exception] = &[
    FEDERATION,
    SHOVEL,
    Exception { case: "runtime_parameters_tests", reason: "all of them set parameters of federation" },
    FLAGS,
    DEPRECATED,
    PLUGINS,
    Exception { case: "test_list_nodes", reason: "looks for a node that is called rabbit@" },
    Exception { case: "policy_validation_error", reason: "looks for RabbitMQ's words in the reason" },
    Exception { case: "vhosts_tests::test_vhosts_create", reason: "asks for tracing, which is refused" },
    GUEST,
];

const LEFT_OUT_OF_LIBRARY: &[Exception] = &[
    FEDERATION,
    SHOVEL,
    Exception { case: "list_stream_", reason: "of the plugin for RabbitMQ's stream protocol" },
    Exception { case: "list_virtual_host_stream_", reason: "of the plugin for RabbitMQ's stream protocol" },
    Exception { case: "health_check_protocol_listener_succeeds", reason: "asks for RabbitMQ's stream protocol too" },
    FLAGS,
    DEPRECATED,
    PLUGINS,
    GUEST,
    Exception { case: "list_node_plugins", reason: "looks for RabbitMQ's plugins" },
    Exception { case: "_list_nodes", reason: "looks for a node that is called rabbit@, or for the version of Erlang" },
    Exception { case: "get_node_info_version_fields", reason: "looks for the version of Erlang" },
    Exception { case: "get_node_memory_footprint", reason: "wants Erlang to take some of the memory" },
    Exception { case: "crypto_lib_version", reason: "looks for the version of Erlang's library" },
    Exception { case: "policy_validation_error", reason: "looks for RabbitMQ's words in the reason" },
    Exception { case: "cluster_name", reason: "looks for a cluster whose name begins with rabbit" },
    Exception { case: "runtime_parameter_tests", reason: "sets parameters of federation, or global ones" },
    Exception { case: "create_vhost", reason: "asks for tracing, which is refused" },
    Exception { case: "update_vhost", reason: "asks for tracing, which is refused" },
];

fn install_tool(installation: &Installation<'_>) -> Result<()> {
    rust::compile(&rust::source(installation, TOOL.name)?, TOOL_TESTS)
}

/// Without the tests of TLS: they show a certificate in PKCS#12, which takes OpenSSL.
fn install_library(installation: &Installation<'_>) -> Result<()> {
    let source = rust::source(installation, LIBRARY.name)?;
    let list = source.join("tests/integration/main.rs");
    let tests = std::fs::read_to_string(&list).context("read which tests there are")?;
    let without: Vec<_> = tests.lines().filter(|line| !line.ends_with("_tls_tests;")).collect();
    std::fs::write(&list, without.join("\n")).context("write which tests there are")?;
    rust::compile(&source, LIBRARY_TESTS)
}

fn run_tool(run: &Run<'_>) -> Result<Vec<Case>> {
    let environment = &[("TEST_STATS_DELAY", run.statistics_age())];
    let tests = CargoTest { arguments: TOOL_TESTS, left_out: LEFT_OUT_OF_TOOL, threads: 1, environment };
    tests.cases(run)
}

fn run_library(run: &Run<'_>) -> Result<Vec<Case>> {
    let environment = &[("TEST_STATS_DELAY", run.statistics_age())];
    let tests = CargoTest { arguments: LIBRARY_TESTS, left_out: LEFT_OUT_OF_LIBRARY, threads: 1, environment };
    tests.cases(run)
}
