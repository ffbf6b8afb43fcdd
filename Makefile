# The same three here and in CI: make, make test, make check. make crash takes long.

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test check crash generate

build:
	CGO_ENABLED=0 go build -trimpath -o bin/myelin ./cmd/myelin

test:
	go test ./...

check:
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(STATICCHECK) ./...
	go test -race ./...

# The long form of what `make test` does in short: kill -9, of the server and of PostgreSQL, under load, and hostile
# contents in rooms of all versions. A failed run prints its seed; repeat it with -crash.seed. With MYELIN_BINARY=bin/myelin
# that binary is killed instead of the test's own; go build -race makes one that also reports data races.
crash:
	go test -count=1 -v -timeout 60m -run 'Kill9|FullDisk|HostileContents' ./cmd/myelin -crash.rounds=$(or $(ROUNDS),30) -hostile.versions

# The pages that follow from the source: docs/config.md, docs/spec.md.
generate:
	go generate ./...
