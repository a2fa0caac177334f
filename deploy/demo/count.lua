-- wrk knows only durations: this stops its one thread when as many responses as asked for have come.
local wanted, seen = tonumber(os.getenv("REQUESTS")), 0

function response()
  seen = seen + 1
  if seen == wanted then
    wrk.thread:stop()
    -- Its main thread would sleep on; the shell's parent is wrk. (os.execute would make it deaf to the signal meanwhile.)
    io.popen("kill -INT $PPID")
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %.2f %.2f %.2f\n", summary.requests,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
