-- wrk calls done() once at the end; one line of JSON is easier to read back than its table.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %.6f, "p50": %d, "p99": %d, "max": %d, "status": %d, "timeout": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.timeout, errors.connect + errors.read + errors.write))
end
