# Everything here is a shorthand; `swift build`, `swift test` and `swift run` need no make.

SWIFT ?= swift
TOOLCHAIN := $(dir $(realpath $(shell command -v $(SWIFT))))
CLANG ?= $(TOOLCHAIN)clang
OBJCOPY ?= $(TOOLCHAIN)llvm-objcopy
OBJDUMP ?= $(TOOLCHAIN)llvm-objdump
BENCH_PAIRS ?= 41

STATIC := .build-static/release/kvmclock

.PHONY: all build static run test lint format docs guests bench clean lab lab-shell lab-fetch lab-mutants lab-fixes

all: build

build:
	$(SWIFT) build -c release --product kvmclock

# One file without any shared library: it runs in an initramfs that holds nothing else.
static: $(STATIC)

$(STATIC): FORCE
	$(SWIFT) build -c release --product kvmclock --scratch-path .build-static -Xswiftc -static-executable

FORCE:

run: build
	.build/release/kvmclock run

# swift test's own closing line does not count skips.
test:
	@SWIFT="$(SWIFT)" sh Tests/count.sh

lint:
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests Bench

format:
	$(SWIFT) format --in-place --recursive --parallel Package.swift Sources Tests Bench

# The catalogue of rules, from the rules themselves.
docs: build
	.build/release/kvmclock list --format markdown > docs/ABI.md

# Each image as a flat file, and its disassembly.
GUESTS := $(basename $(notdir $(wildcard guest-images/*.S)))
LISTING := guest-images/listing
TRIPLE_agent-real := i386-unknown-linux-code16
TRIPLE_agent-protected := i386-unknown-linux
triple = $(or $(TRIPLE_$(1)),x86_64-unknown-linux)

guests: $(GUESTS:%=$(LISTING)/%.bin)

$(LISTING)/%.bin: guest-images/%.S guest-images/agent.h guest-images/long.h guest-images/include/mailbox.h
	@mkdir -p $(LISTING)
	$(CLANG) -target x86_64-unknown-linux -c $< -o $(LISTING)/$*.o
	$(OBJCOPY) -O binary -j .rodata $(LISTING)/$*.o $@
	$(OBJDUMP) --disassemble-all --section=.rodata --triple=$(call triple,$*) $(LISTING)/$*.o > $(LISTING)/$*.lst
	@rm $(LISTING)/$*.o
	@printf '%s: %s bytes\n' $@ "$$(wc -c < $@)"

# From opening /dev/kvm to the first clock reading in a guest, beside a bare C program that makes the same ioctls.
bench:
	$(SWIFT) build -c release --product first-reading
	@mkdir -p .build/bench
	$(CLANG) -O2 -Wall -Wno-gnu-variable-sized-type-not-at-end -Werror -Iguest-images/include Bench/first-reading.c guest-images/images.c $(wildcard guest-images/*.S) -o .build/bench/first-reading-c
	@python3 Bench/paired.py $(BENCH_PAIRS) .build/release/first-reading .build/bench/first-reading-c

# Real KVM kernels as hosts, under emulation: lab/README.md.
LAB := python3 lab/lab.py
LAB_CHOICE = --kernels "$(KERNELS)" --modes "$(MODES)" --rules "$(RULES)" $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS))
LAB_CHANGE = --kernels "$(KERNELS)" --mutants "$(MUTANTS)" $(if $(JOBS),--jobs $(JOBS)) $(if $(FULL),--full)

lab: static
	@$(LAB) run $(LAB_CHOICE)

lab-shell: static
	@$(LAB) shell $(LAB_CHOICE)

lab-fetch:
	@$(LAB) fetch --kernels "$(KERNELS)"

# All mutants on one series write the table of kills, a choice of them does not.
lab-mutants: static
	@$(LAB) mutants $(LAB_CHANGE) $(if $(MUTANTS),,--write docs/mutants.md)

lab-fixes: static
	@$(LAB) fixes $(LAB_CHANGE)

clean:
	rm -rf .build .build-static $(LISTING)
