#!/bin/sh
# Submits a run of the federation @name, prints what it logs and exits with 0 only if it completed.
# Overrides of this run can be given: ./submit.sh run.name=second federation.num_rounds=20
# attach=<Flower's id> follows a run again; stop=<Flower's id> ends one for good.
@header
exec fedrsclip submit @superlink \
    restarts="${RESTARTS:-3}" patience="${PATIENCE:-600}" \
    @overrides "$@@"
