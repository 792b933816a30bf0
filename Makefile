# Thin recipes over cargo. `make help` lists them.

SUITE := cargo run --quiet -p warren-tests --bin suite --

.DEFAULT_GOAL := help
.PHONY: help demo test check e2e faults fuzz bench conformance management cluster clean-cluster image chart crds

help: ## List the recipes
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: ## Kubernetes up, chart installed, a MessageQueue applied, stock pika programs run against it
	@cargo run --quiet -p warren-tests --bin demo

test: ## All tests; ends with "<N> passed, <M> failed"
	@$(SUITE) all

check: ## The fast loop: format, lints, licences, unit tests
	@$(SUITE) check

e2e: ## Chart, operator, broker and clients on a real cluster
	@$(SUITE) e2e

faults: ## kill -9 under load, full and failing disks (root): no confirmed message may be lost
	@$(SUITE) faults

fuzz: ## Fuzz frame decoder, sessions, snapshots and log recovery, a minute each
	@$(SUITE) fuzz

bench: ## Measure beside RabbitMQ: QUICK=1 for six minutes, PUBLISH=1 to write docs/benchmarks.md
	@cargo run --quiet --release -p warren-tests --bin bench -- run $(if $(QUICK),--quick) $(if $(PUBLISH),--publish) $(BENCH)

conformance: ## Other projects' client suites against the broker (root): PUBLISH=1 to write docs/conformance.md
	@cargo run --quiet -p warren-tests --bin conformance -- $(if $(PUBLISH),--publish) $(CONFORMANCE)

management: ## Real tools against the management API (root): PUBLISH=1 to write docs/management-tools.md
	@cargo run --quiet -p warren-tests --bin management -- $(if $(PUBLISH),--publish) $(MANAGEMENT)

cluster: ## Bring up a real Kubernetes: kind, or processes of this machine
	@cargo run --quiet -p warren-tests --bin cluster -- up

clean-cluster: ## Take that Kubernetes down again
	@cargo run --quiet -p warren-tests --bin cluster -- down

image: ## The two container images, as archives in target/images
	@cargo run --quiet -p warren-tests --bin image -- all

chart: ## Check the Helm chart and compare what is generated in it
	@$(SUITE) chart

crds: ## Write crds/ and the chart's copy from the Rust types
	@WARREN_UPDATE=1 cargo test --quiet -p warren-operator --test generated
