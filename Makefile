# The same three here and in CI: make, make test, make check. make crash, make sim and make oracle take long.

STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test check crash sim oracle generate

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

# Rooms of several servers over a bad network, from N seeds on FIRST, in a process for each CPU. A run that fails prints
# its seed; repeat it with go test ./roomserver -run 'TestSimulation$$' -sim.seed=SEED. FAULTS=1 also puts faults into
# the code, and expects that they are found.
sim:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && go test -c -o $$dir/sim.test ./roomserver && \
	n=$(or $(N),10000) first=$(or $(FIRST),1) cpus=$$(nproc) && each=$$(( (n + cpus - 1) / cpus )) && \
	seq 0 $$(( cpus - 1 )) | GOMAXPROCS=1 xargs -P $$cpus -I{} sh -c \
	"$$dir/sim.test -test.run 'TestSimulation\$$' -test.timeout=0 -sim.first=\$$(( $$first + {} * $$each )) -sim.seeds=$$each || exit 255"
	$(if $(FAULTS),MYELIN_SIM_SEEDS=1 go test -count=1 -v -run TestSimulationFindsFaults ./roomserver)

# State resolution held against a literal reading of the specification, over CHECKS generated rooms of each of the twelve
# room versions, from SEED; 0 is a seed of the moment. A run that fails prints what repeats it.
oracle:
	go test -count=1 -v -timeout 0 -run 'TestOracle$$' ./event/stateres -rapid.checks=$(or $(CHECKS),10000) -rapid.seed=$(or $(SEED),1)

# The pages that follow from the source: docs/config.md, docs/spec.md.
generate:
	go generate ./...
