# gantry: build, check, test, demo. Everything runs on the Node that the project brings (node_modules/node-linux-*);
# the system's Node is used for nothing but npm.
MAKEFLAGS += --no-print-directory
ARCH := $(shell uname -m | sed 's/x86_64/x64/;s/aarch64/arm64/')
NODE := node_modules/node-linux-$(ARCH)/bin/node
SOURCES := $(shell find proto daemon shim snapshotter runtime-native cli test -name '*.ts' -not -path '*/generated/*' 2>/dev/null)
PROTOS := $(shell find proto/api -name '*.proto')
CC := gcc
CFLAGS := -std=gnu11 -O2 -Wall -Wextra -Werror

.PHONY: build check test clean

build: dist/.typescript

node_modules/.installed: package-lock.json
	npm ci --ignore-scripts --loglevel=error
	@touch $@

proto/generated/.done: $(PROTOS) proto/generate.mts node_modules/.installed
	$(NODE) proto/generate.mts
	@touch $@

dist/.typescript: $(SOURCES) proto/generated/.done tsconfig.json
	$(NODE) node_modules/typescript/bin/tsc -p tsconfig.json
	@touch $@

check: proto/generated/.done
	$(NODE) node_modules/typescript/bin/tsc -p tsconfig.json --noEmit
	$(NODE) node_modules/@biomejs/biome/bin/biome check --error-on-warnings --log-level=error .
	$(NODE) node_modules/knip/bin/knip.js --no-progress

test: build check
	$(NODE) node_modules/jest/bin/jest.js

clean:
	rm -rf dist proto/generated
