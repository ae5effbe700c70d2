# Everything here is a shorthand; `swift build`, `swift test` and `swift run` need no make.

SWIFT ?= swift
TOOLCHAIN := $(dir $(realpath $(shell command -v $(SWIFT))))
CLANG ?= $(TOOLCHAIN)clang
OBJCOPY ?= $(TOOLCHAIN)llvm-objcopy
OBJDUMP ?= $(TOOLCHAIN)llvm-objdump
BENCH_PAIRS ?= 41

STATIC := .build-static/release/kvmclock

PREFIX ?= /usr/local
DESTDIR ?=
VERSION = $(shell sed -n 's/.*static let version = "\(.*\)"/\1/p' Sources/kvmclock/Kvmclock.swift)

.PHONY: all build static install man completions dist deb run test lint lint-scripts format docs documentation guests bench clean fuzz fuzz-large campaign signals disks threads \
	new-rule lab lab-vmm lab-inside lab-kills lab-replay lab-shell lab-fetch lab-mutants lab-fixes lab-patches

all: build

build:
	$(SWIFT) build -c release --product kvmclock $(SWIFTFLAGS)

# One file without any shared library: it runs in an initramfs that holds nothing else.
static: $(STATIC)

# The objects of the build linked once more: to compile them again takes minutes. SwiftPM names their entry kvmclock_main.
$(STATIC): build
	@mkdir -p $(@D)
	$(TOOLCHAIN)swiftc -static-executable -use-ld=lld -Xlinker -z -Xlinker now -Xlinker --defsym=main=kvmclock_main \
	  @.build/release/kvmclock.product/Objects.LinkFileList -l_FoundationCShims -l_FoundationCollections -o $@

# Man pages and completions, from the command's own definitions.
PACKAGE := .build/package
SHELLS := bash zsh fish

# What is installed: another executable can be given.
BUILT := .build/release/kvmclock
EXECUTABLE ?= $(BUILT)

ifeq ($(EXECUTABLE),$(BUILT))
man completions: build
endif

man:
	@rm -rf $(PACKAGE)/man
	python3 packaging/manual.py $(EXECUTABLE) $(PACKAGE)/man

completions:
	@mkdir -p $(PACKAGE)/completions
	@for shell in $(SHELLS); do \
	  $(EXECUTABLE) --generate-completion-script $$shell > $(PACKAGE)/completions/$$shell || exit 1; \
	done
	@# It is sourced, not run.
	@sed -i '1{/^#!/d}' $(PACKAGE)/completions/bash

install: man completions
	install -d $(addprefix $(DESTDIR)$(PREFIX)/,bin share/man/man1 share/bash-completion/completions \
	  share/zsh/vendor-completions share/fish/vendor_completions.d share/doc/kvmclock)
	install -m 755 $(EXECUTABLE) $(DESTDIR)$(PREFIX)/bin/kvmclock
	install -m 644 $(PACKAGE)/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(PACKAGE)/completions/bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/kvmclock
	install -m 644 $(PACKAGE)/completions/zsh $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_kvmclock
	install -m 644 $(PACKAGE)/completions/fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/kvmclock.fish
	install -m 644 README.md LICENSE docs/ABI.md $(DESTDIR)$(PREFIX)/share/doc/kvmclock

# One tarball with the static executable, for hosts of any distribution: `tar -C /usr/local --strip-components 1 -xzf`.
TARBALL = kvmclock-$(VERSION)-linux-$(shell uname -m)

dist: static
	@rm -rf $(PACKAGE)/dist && mkdir -p $(PACKAGE)
	$(OBJCOPY) --strip-all $(STATIC) $(PACKAGE)/kvmclock-static
	$(MAKE) install EXECUTABLE=$(PACKAGE)/kvmclock-static DESTDIR=$(PACKAGE)/dist/ PREFIX=$(TARBALL)
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} \
	  -C $(PACKAGE)/dist -cf - $(TARBALL) | gzip -9n > $(PACKAGE)/$(TARBALL).tar.gz
	@echo $(PACKAGE)/$(TARBALL).tar.gz

# A package for the Debian, or its kin, that it is built on.
deb: build
	@rm -rf $(PACKAGE)/deb && mkdir -p $(PACKAGE)
	$(OBJCOPY) --strip-all $(BUILT) $(PACKAGE)/kvmclock
	$(MAKE) install EXECUTABLE=$(PACKAGE)/kvmclock DESTDIR=$(PACKAGE)/deb PREFIX=/usr
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} packaging/deb.sh $(PACKAGE)/deb $(VERSION) $(PACKAGE)

run: build
	.build/release/kvmclock run

# swift test's own closing line does not count skips.
test:
	@SWIFT="$(SWIFT)" sh Tests/count.sh $(SWIFTFLAGS)

# Inputs of libFuzzer's making into all that reads files and mailboxes: Tests/Fuzz.
FUZZ_RUNS ?= 1000000

fuzz: build
	KVMCLOCK_FUZZ=1 $(SWIFT) build -c release --sanitize=fuzzer --scratch-path .build-fuzz --product fuzz
	@Tests/Fuzz/run.sh .build-fuzz/release/fuzz $(BUILT) $(FUZZ_RUNS)

# Large histories into the same, after it: what is quadratic shows.
fuzz-large: fuzz
	@python3 Tests/Fuzz/large.py .build-fuzz/release/fuzz .build-fuzz/work/histories/*.jsonl

# Full runs beside random loads, in search of false alarms: a table at the end.
HOURS ?= 1

campaign: build
	@python3 Tests/campaign.py $(BUILT) --hours $(HOURS) $(if $(SEED),--seed $(SEED))

# The tests of real machines under Thread Sanitizer.
threads:
	$(SWIFT) build --build-tests --sanitize=thread --scratch-path .build-thread
	TSAN_OPTIONS=suppressions=$(CURDIR)/Tests/threads.supp $(SWIFT) test --skip-build --sanitize=thread --scratch-path .build-thread --filter LiveTests

lint:
	$(SWIFT) format lint --strict --recursive --parallel Package.swift Sources Tests Bench Examples

# Signals at random moments, into run, soak, faults and vmm.
SIGNALS ?= 300

signals: build
	@python3 Tests/signals.py $(BUILT) --count $(SIGNALS) $(if $(SEED),--seed $(SEED))

# Disks that are full or read-only from a random moment on, under run and vmm.
DISKS ?= 200

disks: build
	@unshare --map-root-user --mount python3 Tests/disks.py $(BUILT) --count $(DISKS) $(if $(SEED),--seed $(SEED))

# ruff and shellcheck, as .ci/run has them.
SCRIPTS = $(shell git ls-files .ci/run lab/init lab/inside lab/kills '*.sh' '*.sbatch')

lint-scripts:
	ruff check
	shellcheck --severity=warning --exclude=SC1091,SC2154 $(SCRIPTS)

format:
	$(SWIFT) format --in-place --recursive --parallel Package.swift Sources Tests Bench Examples

# The catalogue of rules, from the rules themselves.
docs: build
	.build/release/kvmclock list --format markdown > docs/ABI.md

# The libraries' documentation, as a web site for each.
LIBRARIES := KVM PVClock
HTML := .build-docs/html

documentation:
	@mkdir -p $(HTML)
	@for library in $(LIBRARIES); do \
	  KVMCLOCK_DOCUMENTATION=1 $(SWIFT) package --scratch-path .build-docs --allow-writing-to-directory $(HTML) \
	    generate-documentation --target $$library --warnings-as-errors --output-path $(HTML)/$$library || exit 1; \
	done

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

# A rule's file, its place in a topic and its tests, red until they are filled in: make new-rule ID=MY-RULE TOPIC='wall clock'
new-rule:
	@python3 Tests/new_rule.py "$(ID)" "$(or $(TOPIC),Writing the system-time MSR)"

# Real KVM kernels as hosts, under emulation: lab/README.md.
LAB := python3 lab/lab.py
# A kernel of your own: KERNEL=bzImage MODULES=folder, or TREE=source in which it was built.
LAB_LOCAL = $(if $(TREE),--tree "$(TREE)") $(if $(KERNEL),--kernel "$(KERNEL)") $(if $(MODULES),--modules "$(MODULES)")
LAB_CHOICE = $(LAB_LOCAL) $(if $(HOSTS),--hosts "$(HOSTS)") --kernels "$(KERNELS)" --modes "$(MODES)" --rules "$(RULES)" $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS))
LAB_CHANGE = $(if $(HOSTS),--hosts "$(HOSTS)") --kernels "$(KERNELS)" --mutants "$(MUTANTS)" $(if $(JOBS),--jobs $(JOBS)) $(if $(FULL),--full) \
	$(if $(AUTO),--auto $(AUTO)) $(if $(SEED),--seed $(SEED))

lab: static
	@$(LAB) run $(LAB_CHOICE)

# A host under Bochs once more, which has to leave the same histories to the bit.
lab-replay: static
	@$(LAB) replay --cell "$(CELL)"

# QEMU and toy VMMs on such a kernel: kvmclock vmm.
lab-vmm: static
	@$(LAB) vmm $(LAB_CHOICE) --vmms "$(VMMS)" $(if $(ROUNDS),--rounds $(ROUNDS))

# kvmclock inside, in a Linux guest that is paused and moved.
lab-inside: static
	@$(LAB) inside $(LAB_CHOICE)

# Runs that change their host, killed at random moments: the host is as it was.
KILLS ?= 200

lab-kills: static
	@$(LAB) kills --count $(KILLS) $(LAB_CHOICE)

lab-shell: static
	@$(LAB) shell $(LAB_CHOICE)

lab-fetch:
	@$(LAB) fetch --kernels "$(KERNELS)"

# All mutants on one series write the table of kills, a choice of them does not. Mutants that nobody chose: AUTO=40 SEED=1.
lab-mutants: static
	@$(LAB) mutants $(LAB_CHANGE) $(if $(MUTANTS)$(AUTO),$(if $(WRITE),--write docs/mutants.md),--write docs/mutants.md)

lab-fixes: static
	@$(LAB) fixes $(LAB_CHANGE) $(if $(WRITE),--write lab/fixes)

# Each fix as a patch for the kernel's maintainers; SIGN='Name <address>' if git does not know who you are.
lab-patches:
	@$(LAB) patches --kernels "$(KERNELS)" --mutants "$(MUTANTS)" $(if $(SIGN),--sign "$(SIGN)")

clean:
	rm -rf .build .build-static .build-docs .build-fuzz .build-thread $(LISTING)
