# The same three here and in CI: make, make test, make check.

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test check generate

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

# The pages that follow from the source: docs/config.md, docs/spec.md.
generate:
	go generate ./...
