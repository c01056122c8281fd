-- Script for wrk: sends requests in batches of the depth given after the address, and prints a one-line report.
local batch

function init(arguments)
   batch = string.rep(wrk.format("GET"), tonumber(arguments[1] or "1"))
end

function request()
   return batch
end

function done(summary)
   local errors = summary.errors
   print(string.format('report {"done":%d,"bytes":%d,"seconds":%.6f,"errors":%d}', summary.requests, summary.bytes,
      summary.duration / 1e6,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
