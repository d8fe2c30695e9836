# muster: see README.md. Ten targets at most.
GO      ?= go
VERSION ?= 0.1.0-dev
LDFLAGS  = -s -w -X github.com/muster-dev/muster/pkg/cli.version=$(VERSION)
TOOLS    = agent tmpl envexec watch lock exec

.PHONY: build test bench lint demo clean deps chaos pages

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(TOOLS))

# Everything that has to hold, in under 20 minutes on two cores. The last
# lines run the built programs, which the test cache does not see.
test: deps build lint
	@for t in $(filter-out agent,$(TOOLS)); do [ $$(wc -c <bin/$$t) -le 14000000 ] || { echo "bin/$$t is larger than 14 MB"; exit 1; }; done
	$(GO) test -race -timeout 15m ./pkg/... ./cmd/... ./examples/... .
	$(GO) test -count=1 -timeout 15m ./test/...
	cd test/sdk && $(GO) test -count=1 -timeout 5m ./...
	cd test/bench && $(GO) vet ./... && $(GO) test -count=1 -timeout 5m ./...

# How fast it is: docs/benchmarks.md. Beside consul and etcd where they are, or
# beside other commits: make bench [BASE=commit] [SETS="kv wake"] [ROUNDS=5] [D=2s] [OUT=file]
CONSUL ?= $(if $(BASE),,$(or $(shell command -v consul),$(wildcard bin/peers/usr/bin/consul)))
ETCD   ?= $(if $(BASE),,$(shell command -v etcd))
bench: build
	cd test/bench && $(GO) build -o ../../bin/bench .
	./bin/bench -base='$(BASE)' -consul='$(CONSUL)' -etcd='$(ETCD)' -out='$(OUT)' \
		$(if $(SETS),-sets='$(SETS)') $(if $(ROUNDS),-rounds=$(ROUNDS)) $(if $(D),-d=$(D))

# The long form of the fault tests: kill -9, damaged data, full disks, pauses.
chaos: deps
	MUSTER_CHAOS=1 $(GO) test -count=1 -timeout 60m -parallel 1 -v -run 'TestFault|TestLinearizable|TestCount' ./test/cluster/

lint:
	@test -z "$$(gofmt -l cmd pkg test examples *.go)" || { gofmt -l cmd pkg test examples *.go; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

# What the tests and the demo run beside muster.
deps:
	@./tools/deps.sh

demo: deps build
	CGO_ENABLED=0 $(GO) build -o bin/web ./examples/haproxy/web
	$(GO) run ./examples/haproxy/demo -bin ./bin -dir ./examples/haproxy

# Man pages and completions, for packages.
pages: build
	mkdir -p bin/pages
	for t in $(TOOLS); do ./bin/$$t man >bin/pages/muster-$$t.1; \
		for s in bash zsh fish; do ./bin/$$t completion $$s >bin/pages/$$t.$$s; done; done

clean:
	rm -rf bin dist
