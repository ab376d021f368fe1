#!/bin/sh
# The nightly watch: hold the logs against the policy, leave the metrics where the node exporter's textfile collector reads them.
#   POLICY=policy.json LOGS='logs/decisions.log*' METRICS=/var/lib/node_exporter/cascade.prom sh watch.sh
# Ends as monitor does: 0 go on, 6 the promise no longer holds, 7 nothing tested it, 2 it could not run.
set -u
: "${POLICY:?a policy.json}" "${LOGS:?files or a pattern}" "${METRICS:?where to write}"
new="$METRICS.$$"
trap 'rm -f "$new"' EXIT
${MONITOR:-python -m pipeline monitor} --policy "$POLICY" --log "$LOGS" --require-labels --format prometheus > "$new"
code=$?
case "$code" in
  0|6|7) echo "cascade_monitor_last_run_seconds $(date +%s)" >> "$new"; chmod 644 "$new"; mv "$new" "$METRICS" ;;
esac
exit "$code"
