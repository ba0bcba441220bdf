# Two commands do all the set-up on a fresh Debian or Ubuntu with Python 3.11 or later: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# How long make soak may take, but that all of it runs once. SOAK_SEED: once, with the same examples each time.
KPM_SOAK_SECONDS ?= $(if $(SOAK_SEED),1,300)
SOAK_SEED ?=
# Tests that have targets of their own.
ELSEWHERE := kernel or apiserver or dpdk or monitoring or cluster or cluster_long or cluster_vm or pages
# Files of the tests without a target of their own are in memory where they can be: they are tens of thousands.
IN_MEMORY := $(if $(wildcard /dev/shm/.),TMPDIR=/dev/shm)
# Tests and what they start are compiled once, not by each process.
unexport PYTHONDONTWRITEBYTECODE
# A test that hangs ends its process with a traceback, and is named.
BOUNDED := -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true
SOURCES := $(shell find kpm kpm_planner kpm_applier -name '*.py' -o -name '*.yaml')

.DEFAULT_GOAL := help
.PHONY: help venv demo test soak coverage mutants density lint types arch check test-kernel envtest test-apiserver test-cluster test-cluster-long test-cluster-vm test-dpdk test-pages bench bench-agent bench-cluster bench-scale bench-scaling bench-energy bench-idle bench-latency bench-start pages docs crds monitoring test-monitoring clean
.PHONY: install uninstall deploy undeploy helm-install helm-uninstall charts bundle krew release airgap lock audit images images-ocp update push build-push-multiarch

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check '.[dev,cluster,ui]'
	@touch $@

$(VENV)/.installed: $(VENV)/.made $(SOURCES)
	@rm -rf build
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
	@rm -rf build *.egg-info
	@touch $@

venv: $(VENV)/.installed ## make the virtual environment with kpm in it

# Without test tools and without the Kubernetes client: some seconds and 40 MB.
DEMO := .venv-demo
$(DEMO)/.installed: pyproject.toml $(SOURCES)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || (apt-get update && apt-get install -y --no-install-recommends python3-venv)
	@echo 'making $(DEMO): one environment with kpm and what it needs'
	@$(PYTHON) -m venv $(DEMO)
	@rm -rf build
	$(DEMO)/bin/pip install --quiet --disable-pip-version-check --no-compile .
	@rm -rf build *.egg-info
	@touch $@

demo: $(DEMO)/.installed ## watch a simulated server being tuned
	$(DEMO)/bin/kpm simulate

test: $(VENV)/.installed ## the default tests: properties, files, command line
	$(IN_MEMORY) $(BIN)/python -m pytest -n 2 $(BOUNDED)

soak: $(VENV)/.installed ## what takes long and rarely tells anything, then the properties with other examples, until KPM_SOAK_SECONDS are over
	$(IN_MEMORY) HYPOTHESIS_PROFILE=soak KPM_SOAK_SECONDS=$(KPM_SOAK_SECONDS) SOAK_SEED=$(SOAK_SEED) $(BIN)/python -m pytest -n 2 $(BOUNDED) $(if $(SOAK_SEED),--hypothesis-seed=$(SOAK_SEED)) -m '(soak or hypothesis) and not ($(ELSEWHERE))'

# Those that run the two packages in their own process; the others add nothing to it.
COVERED := tests/planner tests/applier tests/helper tests/powercap tests/simulate
coverage: $(VENV)/.installed ## branches of planner and applier that the default tests run; fails below the limits
	@mkdir -p bench-results
	HYPOTHESIS_PROFILE=few COVERAGE_FILE=bench-results/coverage $(BIN)/python -m pytest -n 2 --cov --cov-report= $(COVERED)
	$(BIN)/coverage report --data-file=bench-results/coverage --include='*/kpm_applier/*' --fail-under=97
	$(BIN)/coverage report --data-file=bench-results/coverage --include='*/kpm_planner/*' --fail-under=100

mutants: $(VENV)/.installed ## faults that the tests must notice; takes half an hour on two free cores, writes docs/developer/mutants.md
	$(BIN)/python tests/mutants/run.py

density: $(VENV)/.made ## how dense the code is, beside packaging, h11 and kopf; asks PyPI for those
	$(BIN)/python -m tests.arch.density

lint: $(VENV)/.made ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.made ## types, strict
	$(BIN)/mypy kpm_planner kpm_applier kpm tests

arch: $(VENV)/.made ## the import contract
	$(BIN)/lint-imports

check: lint types arch ## lint, types and arch

test-kernel: $(VENV)/.installed envtest ## real kernel drivers in an emulator, and agents on them; installs it, caches in ~/.cache
	$(BIN)/python tests/kernel/lab.py --prepare
	$(BIN)/python -m pytest -m kernel tests/kernel --durations=20

envtest: ## kube-apiserver, etcd and kubectl for test-apiserver; builds them, caches in ~/.cache
	$(PYTHON) tests/apiserver/envtest.py --prepare

test-apiserver: $(VENV)/.installed envtest ## operator and agents against a real API server; stories and attacks by chart and bundle in other namespaces too
	$(BIN)/python -m tests.pages.browser --prepare
	$(BIN)/python -m pytest -m apiserver tests/apiserver --durations=20
	KPM_TEST_INSTALL=chart KPM_TEST_NAMESPACE=cpu-power $(BIN)/python -m pytest -m apiserver tests/apiserver/test_story.py tests/apiserver/test_attacks.py
	KPM_TEST_INSTALL=bundle KPM_TEST_NAMESPACE=olm-power $(BIN)/python -m pytest -m apiserver tests/apiserver/test_story.py

test-cluster: $(VENV)/.installed ## the image on a real kubelet, container runtime and control plane; builds them, caches in ~/.cache
	$(PYTHON) tests/apiserver/envtest.py --cluster
	$(BIN)/python -m pytest -m cluster tests/cluster --durations=20

test-cluster-long: $(VENV)/.installed ## the slow parts of the same; docs/developer/cluster-runs.md keeps what was found
	$(PYTHON) tests/apiserver/envtest.py --cluster
	$(BIN)/python -m pytest -m 'cluster or cluster_long' tests/cluster --durations=0 -v

test-cluster-vm: $(VENV)/.installed ## the same on an emulated machine: real drivers, systemd, cgroup v2, AppArmor; docs/developer/cluster-vm-runs.md keeps what was found
	$(PYTHON) tests/apiserver/envtest.py --cluster
	$(PYTHON) tests/kernel/lab.py --prepare
	KPM_CLUSTER_VM_RUNS=docs/developer/cluster-vm-runs.md $(BIN)/python -m pytest -m cluster_vm tests/cluster_vm -v --durations=0

test-dpdk: $(VENV)/.installed ## the telemetry client and the scaler against a real DPDK process; fetches and builds it, caches in ~/.cache
	$(BIN)/python tests/dpdk/dpdk_root.py --prepare
	$(BIN)/python -m pytest -m dpdk tests/dpdk

bench: $(VENV)/.installed ## costs as ratios to a floor; writes bench-results/
	$(BIN)/python tests/bench/bench.py

bench-agent: $(VENV)/.installed envtest ## what an agent costs on its node; writes bench-results/
	$(BIN)/python tests/bench/bench_agent.py

bench-cluster: $(VENV)/.installed ## how soon the CPUs of a pod are tuned on a real node; writes bench-results/
	$(PYTHON) tests/apiserver/envtest.py --cluster
	$(BIN)/python tests/bench/bench_cluster.py

bench-latency: $(VENV)/.installed ## how soon a pod is tuned while writes to the API hang; writes bench-results/
	$(BIN)/python tests/bench/bench_latency.py --check

bench-scale: $(VENV)/.installed envtest ## one API server under 1,000 nodes and 20 profiles; writes bench-results/
	$(BIN)/python tests/bench/bench_scale.py

bench-scaling: $(VENV)/.installed ## what the scaler's loop costs and how late it is; writes bench-results/
	$(BIN)/python tests/bench/bench_scaling.py

pages: $(VENV)/.installed ## the pictures and generated pages in docs/, out of the program itself
	PYTHONPATH=. $(BIN)/python docs/make_pages.py

# The generator has an environment of its own, at one version.
SITE := $(HOME)/.cache/kpm-docs-0.0.73
docs: ## the pages as a site, into dist/docs/site; a link that leads nowhere fails it
	@[ -x $(SITE)/bin/zensical ] || ($(PYTHON) -m venv $(SITE) && $(SITE)/bin/pip install --quiet --disable-pip-version-check zensical==0.0.73)
	PATH=$(SITE)/bin:$$PATH $(PYTHON) docs/make_site.py dist/docs

monitoring: $(VENV)/.installed ## write the dashboards and rules in deploy/monitoring/ out of their sources
	$(BIN)/python deploy/monitoring/make.py

test-monitoring: $(VENV)/.installed envtest ## the real agent, a real Prometheus and its tools; installs them from Debian
	$(PYTHON) tests/monitoring/prometheus_server.py --prepare
	$(BIN)/python -m pytest -m monitoring tests/monitoring

test-pages: $(VENV)/.installed ## every page in a real browser, at two widths and on paper; installs it, pictures in dist/pages
	$(BIN)/python -m tests.pages.browser --prepare
	$(BIN)/python -m pytest -m pages tests/pages

bench-energy: $(VENV)/.installed ## what measuring costs; writes bench-results/
	$(BIN)/python tests/bench/bench_energy.py

bench-start: $(VENV)/.installed envtest ## what the start of an agent costs, to its first plan in force; writes bench-results/
	$(BIN)/python tests/bench/bench_start.py

bench-idle: $(VENV)/.installed ## which idle states limits leave, on a real kernel; writes bench-results/
	$(BIN)/python tests/kernel/lab.py --prepare
	$(BIN)/python tests/bench/bench_idle.py

crds: $(VENV)/.installed ## write crds/ out of the code
	$(BIN)/kpm crds --dir crds
	$(BIN)/kpm crds --group power.intel.com --dir crds/intel

charts: $(VENV)/.made ## write the parts of the charts that have a source elsewhere, and their READMEs
	$(BIN)/python deploy/charts/make.py

# --- images and a cluster ---
VERSION ?= latest
IMAGE_REGISTRY ?= localhost
IMGTOOL ?= podman
ENGINE := deploy/image/engine $(IMGTOOL)
# More for the tool's build, such as -v /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro where
# the way to the packages has an authority of its own.
BUILD_FLAGS ?=
PLATFORM ?= linux/amd64
PLATFORMS ?= linux/amd64,linux/arm64
OCP ?= false
KUBECTL ?= kubectl
IMG ?= $(IMAGE_REGISTRY)/kubernetes-power-manager:$(VERSION)
IMG_AGENT ?= $(IMG)
GROUP ?= power.openshift.io
CRDS := $(if $(filter power.intel.com,$(GROUP)),crds/intel,crds)
OVERLAY ?= $(if $(filter true,$(OCP)),openshift,$(if $(filter power.intel.com,$(GROUP)),intel,default))
# The base image; a release names it by digest: BASE_IMAGE=docker.io/library/python@sha256:...
BASE_IMAGE ?= $(if $(filter true,$(OCP)),registry.access.redhat.com/ubi9/python-312-minimal:latest)
BASE := $(if $(BASE_IMAGE),--build-arg BASE=$(BASE_IMAGE))
# What an image says of itself; a release names its commit.
KPM_VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' kpm/__init__.py)
REVISION ?= unknown
SAID := --build-arg KPM_VERSION=$(KPM_VERSION) --build-arg REVISION=$(REVISION)
MANIFESTS = $(KUBECTL) kustomize deploy/overlays/$(OVERLAY) | sed -e 's|power-operator:latest|$(IMG)|' -e 's|power-node-agent:latest|$(IMG_AGENT)|'

install: ## the custom resource definitions into the cluster of kubectl
	$(KUBECTL) apply --server-side -k $(CRDS)

uninstall: ## the definitions, and with them all objects, out of the cluster
	$(KUBECTL) delete --ignore-not-found -k $(CRDS)

deploy: ## namespace, accounts, RBAC, admission policy and operator into the cluster; IMG, IMG_AGENT, OCP, GROUP
	$(MANIFESTS) | $(KUBECTL) apply -f -

undeploy: ## all of that out of the cluster; delete the PowerConfig first and wait until it is gone
	$(MANIFESTS) | $(KUBECTL) delete --ignore-not-found -f -

# A chart: a folder, an archive, an address (oci://...), or the version of one that make release left in dist/.
HELM ?= $(if $(wildcard $(BIN)/helm),$(BIN)/helm,helm)
HELM_CHART ?= deploy/charts/kubernetes-power-manager
HELM_ARCHIVE = dist/kubernetes-power-manager$(1)-$(patsubst v%,%,$(HELM_CHART)).tgz
HELM_FOUND = $(if $(filter v0% v1% v2% v3% v4% v5% v6% v7% v8% v9%,$(HELM_CHART)),$(HELM_ARCHIVE),$(HELM_CHART))
HELM_CRDS ?= $(if $(filter deploy/charts/%,$(HELM_CHART)),deploy/charts/kubernetes-power-manager-crds,$(call HELM_ARCHIVE,-crds))
HELM_RELEASE ?= kpm
HELM_NAMESPACE ?= power-manager
# More for helm, such as --set sharedProfile.create=true.
HELM_FLAGS ?=
HELM_VALUES = --set group=$(GROUP) $(if $(filter true,$(OCP)),--set openshift=true) --set image.repository=$(IMAGE_REGISTRY)/kubernetes-power-manager,image.tag=$(VERSION)

helm-install: ## definitions and system by Helm, or their upgrade; HELM_CHART, OCP, GROUP, VERSION, IMAGE_REGISTRY, HELM_NAMESPACE, HELM_FLAGS
	$(HELM) upgrade --install $(HELM_RELEASE)-crds $(HELM_CRDS) -n $(HELM_NAMESPACE) --create-namespace --take-ownership --set group=$(GROUP)
	$(HELM) upgrade --install $(HELM_RELEASE) $(HELM_FOUND) -n $(HELM_NAMESPACE) --take-ownership $(HELM_VALUES) $(HELM_FLAGS)

helm-uninstall: ## the system, once every node is as it was; the definitions and what users made stay
	$(HELM) uninstall $(HELM_RELEASE) -n $(HELM_NAMESPACE) --wait --timeout 10m
	$(HELM) uninstall $(HELM_RELEASE)-crds -n $(HELM_NAMESPACE)

# A key of cosign's signs the checksums of a release.
KEY ?=
RELEASE := $(BIN)/python deploy/release/release.py $(VERSION) --registry $(IMAGE_REGISTRY) $(if $(KEY),--key $(KEY))

release: $(VENV)/.installed ## all that a release consists of, into dist/; publishes nothing; VERSION, IMAGE_REGISTRY, KEY
	$(RELEASE)

airgap: $(VENV)/.installed ## the same, and one archive of all that a site without network needs
	$(RELEASE) --airgap

bundle: $(VENV)/.made ## the OLM bundle, its catalog, and what a bundle cannot carry, into dist/olm; IMG, IMG_AGENT (by digest for a release)
	@rm -rf dist/olm
	$(BIN)/python deploy/bundle/make.py dist/olm $(IMG) $(IMG_AGENT)

krew: $(VENV)/.installed ## kubectl's plugin as one file, and the manifest for Krew, into dist/krew
	$(BIN)/python deploy/krew/make.py dist/krew

audit: ## known vulnerabilities of what images are made of; asks PyPI
	$(PYTHON) -m venv $(HOME)/.cache/kpm-audit
	$(HOME)/.cache/kpm-audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(HOME)/.cache/kpm-audit/bin/pip-audit --disable-pip --require-hashes -r requirements.lock

lock: $(VENV)/.made ## write requirements*.lock: the versions and hashes that images are made of
	$(BIN)/python deploy/image/lock.py

images: ## build the image (and tag it IMG_AGENT too) with IMGTOOL, where that has no engine with buildah; BUILD_FLAGS
	$(ENGINE) build --platform $(PLATFORM) $(BASE) $(SAID) $(BUILD_FLAGS) -f Containerfile -t $(IMG) .
	$(ENGINE) tag $(IMG) $(IMG_AGENT)

images-ocp: ## build the image on UBI
	$(MAKE) images OCP=true

update: images ## build the images anew

push: ## push the images
	$(ENGINE) push $(IMG)
	$(ENGINE) push $(IMG_AGENT)

ifeq ($(notdir $(IMGTOOL)),docker)
build-push-multiarch: ## one image for PLATFORMS, pushed
	docker buildx build --platform $(PLATFORMS) $(BASE) $(SAID) $(BUILD_FLAGS) -f Containerfile -t $(IMG) -t $(IMG_AGENT) --push .
else
build-push-multiarch: ## one image for PLATFORMS, pushed
	-$(ENGINE) manifest rm $(IMG)
	$(ENGINE) build --platform $(PLATFORMS) $(BASE) $(SAID) $(BUILD_FLAGS) -f Containerfile --manifest $(IMG) .
	$(ENGINE) manifest push --all $(IMG)
	$(if $(filter-out $(IMG),$(IMG_AGENT)),$(ENGINE) manifest push --all $(IMG) docker://$(IMG_AGENT))
endif

clean: ## remove what the targets made
	rm -rf $(VENV) $(DEMO) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench-results
