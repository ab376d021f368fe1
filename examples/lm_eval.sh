#!/bin/sh
# From two sample files of lm-evaluation-harness (--log_samples, multiple choice) to a certificate, without one request:
#   sh examples/lm_eval.sh samples_small.jsonl samples_large.jsonl NAME
# The confidence is the share of the likeliest choice among the choices' loglikelihoods.
set -e
small=$1 large=$2 name=$3
python=${PYTHON:-python}
"$python" -m pipeline import lm-eval "$small" --strong "$large" --output "$name.parquet"
"$python" -m pipeline new "$name" --from "$name.parquet"
"$python" -m pipeline evaluate "$name" --set target.within="${WITHIN:-0.02}"
