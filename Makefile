# muster: see README.md. Ten targets at most.
GO      ?= go
VERSION ?= 0.1.0-dev
LDFLAGS  = -s -w -X github.com/muster-dev/muster/pkg/cli.version=$(VERSION)
TOOLS    = agent tmpl envexec watch lock exec

.PHONY: build test lint demo clean deps chaos

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(TOOLS))

# Everything that has to hold, in under 15 minutes on two cores. The second and
# third line run the built programs, which the test cache does not see.
test: deps build lint
	$(GO) test -race -timeout 10m ./pkg/... ./cmd/... ./examples/... .
	$(GO) test -count=1 -timeout 10m ./test/...
	cd test/sdk && $(GO) test -count=1 -timeout 5m ./...

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

clean:
	rm -rf bin dist
