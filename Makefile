# SPDX-License-Identifier: Apache-2.0
# The targets that people type; Meson and Ninja do the work. `make help` lists them.
#
# Every build folder is set up when it is missing and told again when a meson.build appeared or changed
# (Meson itself does not notice a new module folder).

PREFIX  ?= /usr/local
DESTDIR ?=
SEEDS   ?= 10000
CLUSTER_SEEDS ?= 700
TIME    ?= 60
# SEED=n runs that one seed, CLUSTER=1 of a cluster; TRACE=1 prints its trace; UPDATE=1 rewrites the expected text of
# data-driven tests.
export UPDATE TIME SEEDS CLUSTER_SEEDS ROUNDS

MESON_FILES := meson.build meson_options.txt $(shell find src tests -name meson.build)
SANITIZED   := -Dslow_checks=true -Db_lundef=false
# $(call setup,compilers,options)
setup = command -v meson >/dev/null || { echo "meson is missing: run tools/bootstrap" >&2; exit 1; }; \
        $(if $(findstring lld,$(1)),command -v ld.lld >/dev/null || { echo "lld is missing: run tools/bootstrap" >&2; exit 1; };) \
        if [ -f $@ ]; then meson setup --reconfigure $(@D) >/dev/null; \
        else $(1) meson setup $(@D) $(2) >/dev/null; fi && touch $@
compile = ninja -C $(1) $(if $(V),-v,--quiet)
# Parts of the tree that `make` finds missing say so instead of failing strangely.
need = @[ -e $(1) ] || { echo "make $@: $(1) is missing: $(2)" >&2; exit 1; }

.PHONY: all
all: build/build.ninja ## Optimised build into build/; the binary is build/tutti
	@$(call compile,build)

.PHONY: demo
demo: bootstrap ## Install what is missing, build, and take a tour of three nodes on this machine (KEEP=1 leaves them running)
	@$(MAKE) --no-print-directory all
	$(call need,tools/demo,the demonstration)
	$(call need,build/tutti,no src/cli yet)
	@tools/demo $(if $(KEEP),--keep)

.PHONY: test
test: bootstrap ## Everything that must hold: check, sanitizers, black box, fuzz, simulation (TIME=s per fuzz target, SEEDS=n, CLUSTER_SEEDS=n, ROUNDS=n of kill -9)
	@tools/test all

.PHONY: check
check: ## Minutes: formatting, tidy, unit tests with gcc and clang, a short simulation
	@tools/test check

.PHONY: unit
unit: all ## Seconds: the unit tests alone (UPDATE=1 rewrites the expected text of data-driven ones)
	@meson test -C build --no-rebuild --print-errorlogs

.PHONY: sim
sim: all ## The deterministic simulator: SEEDS=n seeds, or SEED=n for one (TRACE=1 prints what happened, SHRINK=1 the least that fails); CLUSTER=1: of clusters
	$(call need,build/tutti-sim,no src/sim yet)
	@$(if $(SHRINK),tools/shrink,build/tutti-sim) $(if $(CLUSTER),--cluster) $(if $(SEED),--seed $(SEED),--seeds $(if $(CLUSTER),$(CLUSTER_SEEDS),$(SEEDS))) \
	    $(if $(TRACE),$(if $(SHRINK),,--trace))

.PHONY: bugs
bugs: build-bugs/build.ninja ## Show that the simulator finds every planted bug, and in how many seeds
	$(call need,tools/planted-bugs,the search for planted bugs)
	@$(call compile,build-bugs) $$(tools/planted-bugs --targets)
	@tools/planted-bugs build-bugs/tutti-sim

.PHONY: models
models: ## Check the models in docs/models/ with spin, and that it finds every planted mistake (DEEP=1: for hours)
	@tools/models $(if $(DEEP),--deep)

.PHONY: chaos
chaos: all ## Real nodes in network namespaces, kills, partitions, full disks, and checks of what clients saw (TIME=s SEED=n)
	$(call need,build/tutti,no src/cli yet)
	@tools/chaos --time $(TIME) $(if $(SEED),--seed $(SEED)) $(if $(NODES),--nodes $(NODES))

.PHONY: bench
bench: all ## Measure beside redis-server on this machine; table and plot in bench/results/
	$(call need,tools/bench,the benchmarks)
	@tools/bench

.PHONY: bench-replay
bench-replay: all ## Measure how fast a killed node replays its log
	@tools/bench-replay

.PHONY: bench-cluster
bench-cluster: bootstrap ## Measure three nodes beside three of etcd on this machine; table and plots in bench/results/
	@$(MAKE) --no-print-directory all
	@tools/bench-cluster $(if $(ONLY),--only "$(ONLY)")

.PHONY: scale
scale: all ## Simulations of 10 to 200 nodes with PER_NODE=500 groups for each (the conductor: 80): tables of work, traffic and times, as in docs/testing.md
	@for what in member_scale node_beats_scale conductor_scale placement_scale placement_repair; do \
	    PER_NODE=$(or $(PER_NODE),500) build/src/test_$$what || exit 1; done

.PHONY: fuzz
fuzz: build-fuzz/build.ninja ## Fuzz every parser and decoder for TIME seconds each (FUZZ=name for one)
	@$(call compile,build-fuzz)
	@tools/fuzz --time $(TIME) $(FUZZ)

.PHONY: fuzz-coverage
fuzz-coverage: build-coverage/build.ninja ## How much of each decoder the corpora reach, with what make fuzz has found
	@$(call compile,build-coverage)
	@tools/fuzz-coverage $(FUZZ)

.PHONY: asan
asan: build-asan/build.ninja ## Unit tests, a short simulation and a node under the address and undefined-behaviour sanitizers
	@tools/test asan

.PHONY: tsan
tsan: build-tsan/build.ninja ## Tests of what has threads, and a node, under the thread sanitizer
	@tools/test tsan

.PHONY: format
format: ## Format every C and C++ file
	@git ls-files -co --exclude-standard -- '*.[ch]' '*.cc' '*.hh' | xargs clang-format -i

.PHONY: install
install: all ## Install into DESTDIR/PREFIX
	@install -D -m 755 build/tutti $(DESTDIR)$(PREFIX)/bin/tutti
	@install -D -m 755 tools/demo $(DESTDIR)$(PREFIX)/libexec/tutti/demo
	@install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/tutti/LICENSE
	@echo "installed $(DESTDIR)$(PREFIX)/bin/tutti"

.PHONY: bootstrap
bootstrap: ## Install the Debian packages that are missing
	@tools/bootstrap

.PHONY: clean
clean: ## Remove every build folder
	rm -rf build build-*/

.PHONY: help
help: ## This list
	@echo "tutti: make [target] [VARIABLE=value …]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: SEED SEEDS CLUSTER CLUSTER_SEEDS TIME ROUNDS NODES TRACE UPDATE FUZZ DEEP KEEP ONLY PER_NODE PREFIX DESTDIR, V=1 to see each command"

build/build.ninja: $(MESON_FILES)
	@$(call setup,CC=gcc CXX=g++,)
build-clang/build.ninja: $(MESON_FILES)
	@$(call setup,$(CLANG),)
build-asan/build.ninja: $(MESON_FILES)
	@$(call setup,$(CLANG),-Db_sanitize=address$(comma)undefined -Doptimization=1 $(SANITIZED))
build-tsan/build.ninja: $(MESON_FILES)
	@$(call setup,$(CLANG),-Db_sanitize=thread -Doptimization=1 $(SANITIZED))
build-fuzz/build.ninja: $(MESON_FILES)
	@$(call setup,$(CLANG),-Db_sanitize=address$(comma)undefined -Doptimization=1 -Dfuzz=true $(SANITIZED))
build-coverage/build.ninja: $(MESON_FILES)
	@$(call setup,$(CLANG) CFLAGS="$(COUNTED)" CXXFLAGS="$(COUNTED)" LDFLAGS="$(COUNTED)" LLVM_PROFILE_FILE=/dev/null,-Doptimization=1 -Dfuzz=true -Db_lundef=false)
build-bugs/build.ninja: $(MESON_FILES)
	@$(call setup,CC=gcc CXX=g++ $(LINKER),-Dplanted_bugs=true -Dslow_checks=true)
LINKER  := CC_LD=lld CXX_LD=lld
CLANG   := CC=clang CXX=clang++ $(LINKER)
COUNTED := -fprofile-instr-generate -fcoverage-mapping
comma := ,
